"""plan.jsonl: one line a planned trial, only ever appended to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from tunectl.core import regular_files
from tunectl.core.errors import FolderError
from tunectl.core.records import PlannedTrial, TrialKind
from tunectl.store import json_lines

_COUNTS = ("trial", "setting", "point", "repeat", "seed")
_LARGEST_COUNT = 2**63 - 1
_KINDS = get_args(TrialKind)
_TRAINING = (
    *("max_train_steps", "stop_after", "eval_every", "eval_from", "keep_checkpoints", "train_examples"),
    "memory_limit_bytes",
)


def read_plan(path: Path) -> list[PlannedTrial]:
    """The planned trials, in the order of their ids; [] where there is no file.

    A torn last line is dropped: its trial was never started. Raises FolderError, naming the line, where a complete line
    is no planned trial, where ids leave a gap, and where an identity (setting, point, repeat) stands twice.
    """
    try:
        content = regular_files.content(path, largest=regular_files.LARGEST_LINES_BYTES)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FolderError(f"{path}: cannot be read: {error.strerror or error}") from error
    trials: list[PlannedTrial] = []
    first_line: dict[tuple[int, int, int], int] = {}
    for number, line in enumerate(json_lines.parse(content), start=1):
        trial = _planned_trial(line)
        if trial is None:
            raise _damaged(path, number, "is no planned trial")
        if trial.trial != number - 1:
            raise _damaged(path, number, f"has trial {trial.trial}; expected trial {number - 1}")
        identity = (trial.setting, trial.point, trial.repeat)
        earlier = first_line.setdefault(identity, number)
        if earlier != number:
            raise _damaged(path, number, f"has the setting, point and repeat of line {earlier}")
        trials.append(trial)
    return trials


def _damaged(path: Path, line: int, what: str) -> FolderError:
    return FolderError(
        f"{path}:{line}: the line {what}. The plan is damaged; restore the file from a copy, or give another --dir."
    )


def _planned_trial(line: Mapping[str, Any] | None) -> PlannedTrial | None:
    if (
        line is None
        or not isinstance(line.get("hyperparameters"), dict)
        or not isinstance(line.get("coordinates"), list)
        or not isinstance(line.get("training", {}), dict)
    ):
        return None
    try:
        trial = PlannedTrial.from_json(line)
    except (KeyError, TypeError, ValueError):
        return None
    counts = [getattr(trial, name) for name in _COUNTS]
    counts_hold = all(_is_count(value) for value in counts) and max(counts[:-1]) <= _LARGEST_COUNT
    coordinates_hold = all(type(value) in (int, float) and 0 <= value <= 1 for value in trial.coordinates)
    training_holds = all(name in _TRAINING and _is_count(value) for name, value in trial.training.items())
    values_hold = all(isinstance(value, (bool, int, float, str)) for value in trial.hyperparameters.values())
    return (
        trial if counts_hold and training_holds and coordinates_hold and values_hold and trial.kind in _KINDS else None
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def append_plan(path: Path, trials: Sequence[PlannedTrial]) -> None:
    """Append trials and flush them to the disk; the lines that stand there keep every byte, a torn tail is cut off.

    The ids must follow those of the file. Raises FolderError where they do not, or where the file cannot be written.
    """
    if not trials:
        return
    planned = _count_lines(path)
    expected = list(range(planned, planned + len(trials)))
    if [trial.trial for trial in trials] != expected:
        raise FolderError(
            f"{path}: holds {planned} trials; the next to be added must be {planned}, not {trials[0].trial}"
        )
    json_lines.append(path, [trial.to_json() for trial in trials])


def _count_lines(path: Path) -> int:
    try:
        return regular_files.content(path, largest=regular_files.LARGEST_LINES_BYTES).count(b"\n")
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise FolderError(f"{path}: cannot be read: {error.strerror or error}") from error
