"""A program on several devices: started under torchrun, one process a device."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

_REPORT = re.compile(r"=+")
_EXIT_CODE = re.compile(r"exitcode\s*:\s*(-?\d+)")
_PREFIX = re.compile(r"^\[[^\]]*\]:\s?")
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
        return [sys.executable, "-m", "torch.distributed.run", *options, "--no-python", *line]
    interpreter = []
    while rest and rest[0].startswith("-") and rest[0] != "-m":
        interpreter.append(rest.pop(0))
    module = []
    if rest and rest[0] == "-m":
        module, rest = ["-m"], rest[1:]
    return [first, *interpreter, "-m", "torch.distributed.run", *options, *module, *rest]


def without_rank(line: str) -> str:
    """A line without the rank that torchrun puts before it."""
    return _PREFIX.sub("", line)


def cause_of(code: int, tail: Sequence[str]) -> tuple[int, list[str]]:
    """What ended the first rank that failed: its own exit code, or a signal's number below 0, and the lines before
    torchrun's report of it. torchrun itself ends with 1 whatever it was.
    """
    for place, line in enumerate(tail):
        if _REPORT.fullmatch(line.strip()):
            causes = [match for later in tail[place:] if (match := _EXIT_CODE.search(later))]
            before = [without_rank(earlier) for earlier in tail[:place] if not _OWN_LINE.search(earlier)]
            return (int(causes[0][1]) if causes else code), before
    return code, [without_rank(line) for line in tail]
