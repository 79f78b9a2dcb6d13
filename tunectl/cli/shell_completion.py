"""What the shell completes: the trials of a study folder, and `DIR/TRIAL`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import typer

_MOST = 1000
"""More are no help to a reader."""


def complete_trial(context: typer.Context, incomplete: str) -> list[str]:
    """The numbers of the trials in the study folder that was given before, as far as they begin so."""
    folder = context.params.get("folder")
    return _trials(Path(folder), incomplete) if folder else []


def complete_place(incomplete: str) -> list[str]:
    """Folders, and behind a study folder its trials: for arguments that are DIR/TRIAL or DIR."""
    above, _, beginning = incomplete.rpartition("/")
    home = Path(above or ("/" if incomplete.startswith("/") else "."))
    if _is_study(home):
        return [f"{above}/{trial}" for trial in _trials(home, beginning)]
    folders = _names(entry.name for entry in _entries(home) if _is_folder(entry))
    head = incomplete[: len(incomplete) - len(beginning)]
    return [f"{head}{name}/" for name in folders if name.startswith(beginning)][:_MOST]


def _trials(folder: Path, beginning: str) -> list[str]:
    numbers = sorted(int(entry.name) for entry in _entries(folder / "trials") if entry.name.isdecimal())
    return [str(number) for number in numbers if str(number).startswith(beginning)][:_MOST]


def _is_study(folder: Path) -> bool:
    return (folder / "plan.jsonl").is_file() and (folder / "trials").is_dir()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _names(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith("."))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []  # The shell has no place for a message.
