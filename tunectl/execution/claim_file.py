"""A file that claims a study folder for one runner, where the file system has no locks (Lustre, some NFS).

Unlike a lock, the file stays after its runner was killed. The next runner on the same machine removes it, once no
process of the last one is left. A claim of another machine is never removed; the error message names it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunectl.core import jsontext, real_folders, regular_files, typed_fields
from tunectl.core.files import write_new
from tunectl.execution import processes

_MACHINE = Path("/etc/machine-id")
_NAMESPACE = Path("/proc/self/ns/pid")  # in another namespace the same pid is another process


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that this process has made."""

    path: Path
    content: bytes

    def release(self) -> None:
        """Remove the claim, unless the file is another one by now."""
        with contextlib.suppress(OSError):
            if regular_files.content(self.path) == self.content:
                real_folders.remove(self.path, self.path.parent)


def make(path: Path) -> Claim | None:
    """Make the claim at `path`; None where another process has it.

    Raises OSError where the file cannot be written.
    """
    pid = os.getpid()
    holder = {"pid": pid, "started": processes.start_time(pid), **_machine_fields()}
    content = (jsontext.encode(holder) + "\n").encode("utf-8", "surrogatepass")
    if holder_state(path) == "gone":
        _remove_if_gone(path)
    try:
        write_new(path, content)
    except FileExistsError:
        return None
    return Claim(path, content)


def holder_state(path: Path) -> Literal["none", "gone", "here", "unknown"]:
    """The state of the runner whose claim is at `path`.

    none: there is no claim. gone: the runner was on this machine and has ended. here: it runs on this machine. unknown:
    it cannot be known from this machine.
    """
    try:
        holder: Any = typed_fields.document(regular_files.content(path))
    except FileNotFoundError:
        return "none"
    except (OSError, typed_fields.DamagedError):
        return "unknown"
    if not isinstance(holder, dict) or any(holder.get(name) != value for name, value in _machine_fields().items()):
        return "unknown"
    pid, started = holder.get("pid"), holder.get("started")
    if not isinstance(pid, int) or not isinstance(started, int):
        return "unknown"
    left = processes.is_alive(pid, started) or processes.with_mark(processes.mark_of(pid, started))
    return "here" if left else "gone"


def _machine_fields() -> dict[str, str]:
    """The fields that must be equal for the same pid to be the same process."""
    machine = namespace = ""
    with contextlib.suppress(OSError):
        machine = _MACHINE.read_text().strip()
    with contextlib.suppress(OSError):
        namespace = str(_NAMESPACE.readlink())
    return {"host": socket.gethostname(), "machine": machine, "namespace": namespace}


def _remove_if_gone(path: Path) -> None:
    # Two runners on this machine may both have found that the last one has ended; the second must not remove the claim
    # that the first has made since.
    with _alone(path.parent) as alone:
        if alone and holder_state(path) == "gone":
            real_folders.remove(path, path.parent)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process of this machine is in this block for the same folder."""
    if not sys.platform.startswith("linux"):
        yield True
        return
    status = folder.stat()
    with socket.socket(socket.AF_UNIX) as name:
        try:
            # A socket name without a file: it is free again when this process ends.
            name.bind(f"\0tunectl.claim.{status.st_dev}.{status.st_ino}")
        except OSError:
            yield False
            return
        yield True
