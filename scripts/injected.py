"""Faults for fault_injection.py: which call of which process fails and how, as injected_faults.c reads it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("injected_faults.c")
ROLES = ("runner", "server", "worker", "program", "other")
CALLS = ("open", "write", "pwrite", "writev", "ftruncate", "fsync", "rename", "link", "mkdir", "fork", "unlink")
"""In the order of the source."""

SHORT_WRITE = "short write"
STOPPED = "stopped"
"""No error: the process stops (SIGSTOP) before the call."""

ERRORS = {
    SHORT_WRITE: -1,
    STOPPED: -2,
    "ENOSPC": errno.ENOSPC,
    "EIO": errno.EIO,
    "EAGAIN": errno.EAGAIN,
    "EINTR": errno.EINTR,
}
_OF_FILES = ("ENOSPC", "EIO", "EAGAIN", "EINTR")
ERRORS_OF: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(CALLS, _OF_FILES),
    **dict.fromkeys(("write", "pwrite", "writev"), (*_OF_FILES, SHORT_WRITE)),
    "ftruncate": ("EIO", "EINTR"),
    "fsync": ("ENOSPC", "EIO", "EINTR"),
    "fork": ("EAGAIN",),
    "unlink": (),
}
"""What each call may meet by its manual, on a disk or on a network file system."""

LOST_BY_PYTHON = {("program", "write", "EAGAIN"), ("program", "write", "short write")}
"""A print that gets EAGAIN, or whose write is cut short while Python keeps no buffer (PYTHONUNBUFFERED), loses text in
silence inside of the program. Files that block never answer EAGAIN, and take less only where the disk is full.
"""

_HEAD = struct.Struct(f"{len(ROLES) * len(CALLS)}QQ512s128s")
_FAULT = struct.Struct("iiiIIxxxxQ232s")
MOST_AT_ONCE = 64


@dataclass(frozen=True, order=True)
class Cell:
    """A kind of fault: which call of which process gets which error; `study` is the study's name."""

    study: str
    role: str
    call: str
    error: str

    def __str__(self) -> str:
        return f"{self.study} {self.role} {self.call} {self.error}"


@dataclass(frozen=True)
class Injected:
    """The n-th call of a cell's kind fails, n from 1 on."""

    cell: Cell
    place: int


@dataclass(frozen=True)
class Happened:
    """A fault that occurred, the file of its call, and the pid of its process."""

    fault: Injected
    where: str
    pid: int = 0


def compiled(folder: Path) -> Path:
    """The library for LD_PRELOAD; ends the script where there is no compiler."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        raise SystemExit(f"no C compiler: {SOURCE.name} cannot be compiled (apt-get install gcc libc6-dev)")
    library = folder / "injected_faults.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def write_state(path: Path, folder: Path, program: str, faults: Sequence[Injected]) -> None:
    """Arm the faults, and count the calls about what is below `folder` from 0 on."""
    zeros = [0] * (len(ROLES) * len(CALLS))
    content = _HEAD.pack(*zeros, len(faults), os.fsencode(folder), program.encode())
    for fault in faults:
        cell = fault.cell
        role, call, error = ROLES.index(cell.role), CALLS.index(cell.call), ERRORS[cell.error]
        content += _FAULT.pack(role, call, error, 0, 0, fault.place, b"")
    path.write_bytes(content.ljust(_HEAD.size + MOST_AT_ONCE * _FAULT.size, b"\0"))


def read_state(path: Path, faults: Sequence[Injected]) -> tuple[Counter[tuple[str, str]], list[Happened]]:
    """How often each role made each call, and which faults occurred."""
    content = path.read_bytes()
    numbers = _HEAD.unpack_from(content)[: len(ROLES) * len(CALLS)]
    names = [(role, call) for role in ROLES for call in CALLS]
    happened = []
    for number, fault in enumerate(faults):
        *_, fired, pid, _, where = _FAULT.unpack_from(content, _HEAD.size + number * _FAULT.size)
        if fired:
            happened.append(Happened(fault, where.rstrip(b"\0").decode(errors="replace"), pid))
    return Counter(dict(zip(names, numbers, strict=True))), happened


def cells_of(study: str, calls: Mapping[tuple[str, str], int], roles: Iterable[str]) -> list[Cell]:
    """The cells of the calls that an undisturbed run makes."""
    return [
        Cell(study, role, call, error)
        for role in roles
        for call in CALLS
        if calls[role, call]
        for error in ERRORS_OF[call]
        if (role, call, error) not in LOST_BY_PYTHON
    ]


def drawn(
    generator: random.Random,
    cells: Sequence[Cell],
    counted: Mapping[Cell, int],
    calls: Counter[tuple[str, str]],
    most: int,
) -> list[Injected]:
    """At most `most` faults of different cells, those first that occurred least often; places uniform."""
    order = sorted(cells, key=lambda cell: (counted[cell], generator.random()))
    return [Injected(cell, generator.randint(1, calls[cell.role, cell.call])) for cell in order[:most]]
