"""A program on several devices: started under torchrun, one process a device."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

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
