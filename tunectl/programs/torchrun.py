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
"""The folder, in the folder of a trial's files, with the output of each rank."""

LAUNCHER = (
    "-c",
    "import sys; sys.path[:] = [folder for folder in sys.path if folder]; "
    "from torch.distributed.run import main; sys.exit(main())",
)
"""The arguments that start torchrun. With `-m torch.distributed.run`, a json.py in the current folder would replace
Python's own. The option -P would avoid this, but older Pythons do not have it, and the ranks need their path unchanged.
"""

_MOST_LINES = 200
_REPORT = re.compile(r"=+")
_EXIT_CODE = re.compile(r"exitcode\s*:\s*(-?\d+)")
_FIRST = "Root Cause"
_RANK = re.compile(r"rank\s*:\s*\d+ \(local_rank: (\d+)\)")
_PREFIX = re.compile(r"^(?:\[default\d+\]:\s?)?(?:\[rank\d+\]: ?)?")
"""The prefix that torchrun adds to a rank's output, and torch to each line of a traceback."""

_OWN_LINE = re.compile(r"torch[/.]distributed")
_PYTHON = re.compile(r"(python|pypy)[0-9.]*(\.exe)?")


def distributed(line: Sequence[str], devices: int, logs: Path) -> list[str]:
    """The command line that runs `line` once for each device. Only rank 0 prints to the log; all ranks write to `logs`.

    A Python program is run by its own interpreter, which must have torch; other programs (a script with a `#!`, a
    launcher) are run by the torchrun of this interpreter.
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
    """A line without the prefix that names its rank."""
    return _PREFIX.sub("", line)


class Cause(NamedTuple):
    """How the first rank failed: its exit code (negative for a signal), its number and its last lines."""

    code: int
    rank: int
    lines: list[str]


def cause_of(code: int, log: Path, offset: int, logs: Path) -> Cause:
    """Why a program on several devices failed with `code`, which is torchrun's own exit code and always 1.

    `log` has the output of rank 0 and of torchrun after its first `offset` bytes; `logs` has files for each rank.
    """
    cause = reported(code, last_lines(log, offset, _MOST_LINES))
    own = rank_output(logs, cause.rank) if cause.rank > 0 else []
    return cause._replace(lines=own or cause.lines)


def reported(code: int, tail: Sequence[str]) -> Cause:
    """The cause in torchrun's report among the last lines of the log, with the lines before the report."""
    for place, line in enumerate(tail):
        if _REPORT.fullmatch(line.strip()):
            report = tail[place:]
            # The ranks listed before the root cause were stopped because of it.
            root = next((index for index, later in enumerate(report) if later.startswith(_FIRST)), 0)
            codes = [match for later in report[root:] if (match := _EXIT_CODE.search(later))]
            ranks = [match for later in report[root:] if (match := _RANK.search(later))]
            before = [without_rank(earlier) for earlier in tail[:place] if not _OWN_LINE.search(earlier)]
            return Cause(int(codes[0][1]) if codes else code, int(ranks[0][1]) if ranks else 0, before)
    return Cause(code, 0, [without_rank(line) for line in tail])


def rank_output(logs: Path, rank: int) -> list[str]:
    """The last lines of a rank in the latest attempt below `logs`, those of stderr last."""
    found: list[str] = []
    for name in ("stdout.log", "stderr.log"):
        files = sorted(logs.glob(f"*/attempt_*/{rank}/{name}"), key=lambda path: path.stat().st_mtime)
        found += map(without_rank, last_lines(files[-1], 0, _MOST_LINES)) if files else []
    return found
