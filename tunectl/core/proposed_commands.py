"""The text of a command of tunectl that a finding, a message or a verdict proposes."""

from __future__ import annotations

import shlex
from pathlib import Path


def tunectl_command(name: str, *words: str | Path | int) -> str:
    """The command `tunectl <name> <words>`, quoted so that it can be copied to a shell whatever the paths are."""
    return shlex.join(["tunectl", name, *map(str, words)])
