"""Processes and process groups, as the kernel shows them."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from tunectl.core.parent_death import MARK, prctl

PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36
_FIELDS_BEFORE_STATE = 2


def adopt_orphans() -> bool:
    """Make this process the parent of every descendant whose parent dies; false where the kernel cannot do it."""
    return prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _stat(pid: int) -> list[str] | None:
    # The command's name, in brackets, may contain anything; the fields after the last bracket start with the state.
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 1 :].split() if ")" in text else None


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with the pid it names one process; None where unknown."""
    fields = _stat(pid)
    return int(fields[21 - _FIELDS_BEFORE_STATE]) if fields else None


def is_alive(pid: int, started: int | None = None) -> bool:
    """Whether the process runs (a zombie does not); with `started`, whether it is still the same one."""
    if not PROC.exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    fields = _stat(pid)
    if fields is None or fields[0] in "ZX":
        return False
    return started is None or int(fields[21 - _FIELDS_BEFORE_STATE]) == started


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; false where no process is left in it, not even a zombie."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # A process of the group changed its user; the others got the signal. On macOS a group of zombies gives this.
        return sys.platform.startswith("linux")
    return True


def group_is_running(group: int) -> bool:
    """Whether a process of this group runs. Zombies, which only their parent can remove, do not count."""
    if not PROC.exists():
        return signal_group(group, 0)
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        fields = _stat(int(entry.name))
        if fields is not None and fields[0] not in "ZX" and int(fields[2]) == group:
            return True
    return False


def mark_of(pid: int, started: int | None) -> str:
    """The beginning of the marks of all processes that a runner started, made of its pid and its start time."""
    return f"{pid}.{started}."


def with_mark(beginning: str) -> set[int]:
    """The running processes whose mark begins with this: those that a runner started, and their descendants.

    The mark is in the environment with which a process was started; a fork has that of its parent. So a new session or
    a new parent hides no process; only a program that was started without this environment is missed. Empty where
    there is no /proc.
    """
    found: set[int] = set()
    wanted = f"\0{MARK}={beginning}".encode()
    with suppress(OSError):
        for entry in PROC.iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if wanted in b"\0" + (entry / "environ").read_bytes():
                        found.add(int(entry.name))
    return found


def lineage() -> set[int]:
    """The pids of this process and of its ancestors; of this one alone where there is no /proc."""
    pid, found = os.getpid(), set[int]()
    while pid > 0 and pid not in found:
        found.add(pid)
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0
    return found


def children() -> set[int]:
    """The pids of this process's children, with adopted ones; empty where there is no /proc."""
    found: set[int] = set()
    own = PROC / "self" / "task"
    try:
        for task in own.iterdir():
            found.update(int(pid) for pid in (task / "children").read_text().split())
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return _children_by_search()
    except OSError:
        return set()
    return found


def _children_by_search() -> set[int]:
    found: set[int] = set()
    if not PROC.exists():
        return found
    parent = str(os.getpid())
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None and fields[1] == parent:
                found.add(int(entry.name))
    return found


def kill(pid: int) -> None:
    """Send SIGKILL to one process; does nothing where it has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def other_threads() -> list[str]:
    """The names of this process's threads without the first, with those of C libraries; empty where unknown."""
    names = []
    with suppress(OSError):
        for task in (PROC / "self" / "task").iterdir():
            if int(task.name) != os.getpid():
                with suppress(OSError):
                    names.append((task / "comm").read_text().strip())
    return sorted(names)


def describe_exit(code: int | None, number: int | None) -> str:
    """Say how a process ended: its exit code, or the signal that killed it."""
    if number is not None:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"was killed by {name}"
    return f"ended with exit code {code}"


def output_tail(output: IO[bytes], most_bytes: int) -> str:
    """The end of what a process wrote to a file, at most `most_bytes`, without blank space around it."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - most_bytes))
    return output.read().decode("utf-8", "replace").strip()
