"""Programs to which the kernel refuses system calls, as an old kernel, a container or another file system would.

`refusing(command, pidfd_open=errno.ENOSYS)` is a command line that runs `command` under a seccomp filter, which all
that it starts inherits. `python tests/refused_calls.py pidfd_open=38 -- command ...` is the same by hand.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence

_CALLS = {  # of both architectures, from asm/unistd_64.h and asm-generic/unistd.h; those that one lacks are left out
    "x86_64": {
        "fcntl": 72,
        "flock": 73,
        "fork": 57,
        "link": 86,
        "linkat": 265,
        "memfd_create": 319,
        "pidfd_open": 434,
        "symlink": 88,
        "symlinkat": 266,
        "vfork": 58,
    },
    "aarch64": {
        "fcntl": 25,
        "flock": 32,
        "linkat": 37,
        "memfd_create": 279,
        "pidfd_open": 434,
        "symlinkat": 36,
    },
}
_AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_FIRST_ARGUMENT, _ARGUMENT_BYTES = 16, 8  # in struct seccomp_data; the lower half comes first
_LOCK_COMMANDS = (6, 7, 37, 38)  # F_SETLK, F_SETLKW and those of open file descriptions
_FILE_CALLS = {"symlink": ("symlink", "symlinkat"), "link": ("link", "linkat")}


def refusing(command: Sequence[str], **errors: int) -> list[str]:
    """The command line under a filter that answers each of these system calls with its errno.

    `symlink` and `link` mean both forms of the call that the kernel has, `fcntl` for the locks among its commands.
    """
    return [sys.executable, __file__, *(f"{name}={number}" for name, number in errors.items()), "--", *command]


def can_refuse() -> bool:
    """Whether this machine lets a process filter its own system calls."""
    if not sys.platform.startswith("linux") or platform.machine() not in _CALLS:
        return False
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            refuse({"flock": errno.ENOSYS})
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def refuse(errors: dict[str, int]) -> None:
    """Filter the system calls of this process from now on; raises OSError where the kernel does not do that."""
    machine = platform.machine()
    numbers = _CALLS[machine]
    wanted = {
        numbers[call]: error
        for name, error in errors.items()
        for call in _FILE_CALLS.get(name, (name,))
        if call in numbers
    }
    lines = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCHITECTURES[machine]), (_RETURN, 0, 0, _ALLOW)]
    lines += [(_LOAD, 0, 0, 0)]
    for number, error in wanted.items():
        if number == numbers["fcntl"]:
            continue
        lines += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE | error)]
    if "fcntl" in errors:  # the last, since it looks at an argument
        lines += [(_JUMP_IF_EQUAL, 1, 0, numbers["fcntl"]), (_RETURN, 0, 0, _ALLOW)]
        lines += [(_LOAD, 0, 0, _FIRST_ARGUMENT + _ARGUMENT_BYTES)]
        for command in _LOCK_COMMANDS:
            lines += [(_JUMP_IF_EQUAL, 0, 1, command), (_RETURN, 0, 0, _REFUSE | errors["fcntl"])]
    lines += [(_RETURN, 0, 0, _ALLOW)]
    content = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("HP", len(lines), ctypes.addressof(content)))
    library = ctypes.CDLL(None, use_errno=True)
    for option, value, address in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program)),
    ):
        if library.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(address), 0, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _main(words: Sequence[str]) -> None:
    cut = words.index("--")
    refuse({name: int(number) for name, number in (word.split("=") for word in words[:cut])})
    os.execvp(words[cut + 1], list(words[cut + 1 :]))


if __name__ == "__main__":
    _main(sys.argv[1:])
