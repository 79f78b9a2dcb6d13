"""A program on several devices: started under torchrun, one process a device."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tunectl.core.log_reader import last_lines

RANKS = "ranks"
"""The folder, among the files of a trial, where each rank writes what it prints."""

LAUNCHER = (
    "-c",
    "import sys; sys.path[:] = [folder for folder in sys.path if folder]; "
    "from torch.distributed.run import main; sys.exit(main())",
)
"""What starts torchrun. By `-m torch.distributed.run` a json.py in the current folder would run in place of Python's;
the option -P is younger than many a Python that runs a program, and the ranks need their path as it is.
"""

_MOST_LINES = 200
_REPORT = re.compile(r"=+")
_EXIT_CODE = re.compile(r"exitcode\s*:\s*(-?\d+)")
_FIRST = "Root Cause"
_RANK = re.compile(r"rank\s*:\s*\d+ \(local_rank: (\d+)\)")
_PREFIX = re.compile(r"^(?:\[default\d+\]:\s?)?(?:\[rank\d+\]: ?)?")
"""What torchrun puts before what a rank prints, and torch before each line of a traceback."""

_OWN_LINE = re.compile(r"torch[/.]distributed")
_PYTHON = re.compile(r"(python|pypy)[0-9.]*(\.exe)?")


def distributed(line: Sequence[str], devices: int, logs: Path) -> list[str]:
    """The command line that runs `line` once for each device; only rank 0 is heard, all write to `logs`.

    A Python program is run by its own interpreter, which must have torch; another one (a script with a `#!`, a
    launcher) by this one's torchrun.
    """
    options = [
        "--standalone",
        f"--nproc-per-node={devices}",
        "--local-ranks-filter=0",
        "--redirects=3",
        "--tee=3",
        f"--log-dir={logs}",
    ]
    first, *rest = line
    if not _PYTHON.fullmatch(os.path.basename(first)):  # noqa: PTH119
        return [sys.executable, *LAUNCHER, *options, "--no-python", *line]
    interpreter = []
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
        interpreter.append(rest.pop(0))
        if interpreter[-1] in ("-W", "-X") and rest:
            interpreter.append(rest.pop(0))
    if rest and rest[0] == "-c":
        return [first, *LAUNCHER, *options, "--no-python", *line]
    module = []
    if rest and rest[0] == "-m":
        module, rest = ["-m"], rest[1:]
    return [first, *interpreter, *LAUNCHER, *options, *module, *rest]


def without_rank(line: str) -> str:
    """A line without the rank that is put before it."""
    return _PREFIX.sub("", line)


class Cause(NamedTuple):
    """What ended the first rank that failed: its exit code (below 0 the number of a signal) and its last lines."""

    code: int
    rank: int
    lines: list[str]


def cause_of(code: int, log: Path, offset: int, logs: Path) -> Cause:
    """Why a program on several devices ended with `code`, which is torchrun's own and 1 whatever it was.

    `log` holds what rank 0 and torchrun printed, from `offset` on; below `logs` each rank has its own files.
    """
    cause = reported(code, last_lines(log, offset, _MOST_LINES))
    own = said_by_rank(logs, cause.rank) if cause.rank > 0 else []
    return cause._replace(lines=own or cause.lines)


def reported(code: int, tail: Sequence[str]) -> Cause:
    """What torchrun's report among the last lines says, with the lines before it."""
    for place, line in enumerate(tail):
        if _REPORT.fullmatch(line.strip()):
            report = tail[place:]
            # What it lists before are those that were ended because of the first.
            root = next((index for index, later in enumerate(report) if later.startswith(_FIRST)), 0)
            codes = [match for later in report[root:] if (match := _EXIT_CODE.search(later))]
            ranks = [match for later in report[root:] if (match := _RANK.search(later))]
            before = [without_rank(earlier) for earlier in tail[:place] if not _OWN_LINE.search(earlier)]
            return Cause(int(codes[0][1]) if codes else code, int(ranks[0][1]) if ranks else 0, before)
    return Cause(code, 0, [without_rank(line) for line in tail])


def said_by_rank(logs: Path, rank: int) -> list[str]:
    """The last lines that a rank printed in the latest run below `logs`: its errors last."""
    found: list[str] = []
    for name in ("stdout.log", "stderr.log"):
        files = sorted(logs.glob(f"*/attempt_*/{rank}/{name}"), key=lambda path: path.stat().st_mtime)
        found += map(without_rank, last_lines(files[-1], 0, _MOST_LINES)) if files else []
    return found
