"""A claim on a study folder by a file that is there or not, where the file system has no locks (Lustre, some NFS).

Unlike a lock it outlives a runner that was killed. The next one takes it over where it can know that nothing is left of
the last one: on the same machine. A claim of another machine is never judged, only named.
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
_NAMESPACE = Path("/proc/self/ns/pid")  # elsewhere the same pid is another process


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that this process has made."""

    path: Path
    content: bytes

    def release(self) -> None:
        """Give the claim up, unless the file is another one by now."""
        with contextlib.suppress(OSError):
            if regular_files.content(self.path) == self.content:
                real_folders.remove(self.path, self.path.parent)


def make(path: Path) -> Claim | None:
    """Claim by the file at `path`; None where another process has the claim.

    Raises OSError where the file cannot be written.
    """
    pid = os.getpid()
    holder = {"pid": pid, "started": processes.start_time(pid), **_place()}
    content = (jsontext.encode(holder) + "\n").encode("utf-8", "surrogatepass")
    if standing(path) == "gone":
        _remove_if_gone(path)
    try:
        write_new(path, content)
    except FileExistsError:
        return None
    return Claim(path, content)


def standing(path: Path) -> Literal["none", "gone", "here", "unknown"]:
    """Whose claim is at `path`.

    There is none, or it is that of a runner of this machine that is gone, of one that is at work here, or of one about
    which this machine cannot know.
    """
    try:
        holder: Any = typed_fields.document(regular_files.content(path))
    except FileNotFoundError:
        return "none"
    except (OSError, typed_fields.DamagedError):
        return "unknown"
    if not isinstance(holder, dict) or {name: holder.get(name) for name in _place()} != _place():
        return "unknown"
    pid, started = holder.get("pid"), holder.get("started")
    if not isinstance(pid, int) or not isinstance(started, int):
        return "unknown"
    left = processes.is_alive(pid, started) or processes.with_mark(processes.mark_of(pid, started))
    return "here" if left else "gone"


def _place() -> dict[str, str]:
    """What must be the same for a pid to mean the same process."""
    machine = namespace = ""
    with contextlib.suppress(OSError):
        machine = _MACHINE.read_text().strip()
    with contextlib.suppress(OSError):
        namespace = str(_NAMESPACE.readlink())
    return {"host": socket.gethostname(), "machine": machine, "namespace": namespace}


def _remove_if_gone(path: Path) -> None:
    # Two runners of this machine may both have found that the last one is gone; the second must not remove the claim
    # that the first has made since.
    with _alone(path.parent) as alone:
        if alone and standing(path) == "gone":
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
            # A name without a file, which is free again when this process dies.
            name.bind(f"\0tunectl.claim.{status.st_dev}.{status.st_ino}")
        except OSError:
            yield False
            return
        yield True
