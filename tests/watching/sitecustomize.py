"""Writes down what a process and its forks do that matters for safety, and lets none of them go online.

Python imports this by its name at its start. Each line is {"pid", "who", "event", "what"}.
"""

import json
import os
import socket
import sys
from typing import Any

_ONLINE = ("socket.connect", "socket.sendto", "socket.bind")
_LOOKED_UP = ("socket.getaddrinfo", "socket.gethostbyname")
_STARTED = ("os.system", "os.exec", "os.posix_spawn", "pty.spawn", "subprocess.Popen")
_WRITES = os.O_WRONLY | os.O_RDWR
_log = os.open(os.environ["TUNECTL_TEST_EVENTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
_who = "server" if "tunectl.execution.server" in sys.orig_argv else "runner" if "tunectl" in sys.orig_argv else "other"


def _note(event: str, what: str) -> None:
    line = {"pid": os.getpid(), "who": _who, "event": event, "what": what}
    os.write(_log, (json.dumps(line) + "\n").encode())


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, (str, bytes)) and (flags or 0) & _WRITES and not _in_a_folder:
            _note(event, os.path.abspath(os.fsdecode(path)))  # noqa: PTH100  (it imports as little as it can)
    elif event in _ONLINE and arguments[0].family != socket.AF_UNIX:
        _note(event, repr(arguments[1]))
        raise PermissionError(f"{event} is not allowed here")
    elif event in _LOOKED_UP:
        _note(event, repr(arguments))
        raise PermissionError(f"{event} is not allowed here")
    elif event in _STARTED:
        program = arguments[0] or (arguments[1] or [""])[0] if event == "subprocess.Popen" else arguments[0]
        _note(event, json.dumps([os.fsdecode(program)]))


_in_a_folder: list[str] = []
_open = os.open


def _opened(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """Note where a file is that is opened by the descriptor of its folder, which no audit event has."""
    if dir_fd is None or not flags & _WRITES:
        return _open(path, flags, mode, dir_fd=dir_fd)
    _in_a_folder.append(path)
    try:
        descriptor = _open(path, flags, mode, dir_fd=dir_fd)
    finally:
        _in_a_folder.pop()
    _note("open", os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
    return descriptor


os.open = _opened  # type: ignore[assignment]
_note("begin", "")
sys.addaudithook(_watch)
