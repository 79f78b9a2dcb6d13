"""The lines of a drafted study that are marked to be filled in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunectl.drafting.command_draft import MARK


def fill_in(study: Path, contents: Mapping[str, str]) -> None:
    """Write each of these entries, by its key, in place of the marked one."""
    lines = study.read_text().splitlines()
    for key, content in contents.items():
        begun = [line.partition(MARK)[0].rstrip() if MARK in line else "" for line in lines]
        (place,) = [place for place, start in enumerate(begun) if start.endswith(f"{key}:")]
        lines[place] = begun[place].removesuffix(f"{key}:") + content
    study.write_text("\n".join(lines))
