"""plan.jsonl: one line for each planned trial; lines are only appended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tunectl.core import jsontext, record_checksums, regular_files
from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import FolderError
from tunectl.core.files import write_bytes
from tunectl.core.path_errors import path_error, path_errors
from tunectl.core.records import SCHEDULE_OF_TRIAL, PlannedTrial, TrialKind, TrialRequest
from tunectl.core.trial_checkpoints import TrialCheckpoints
from tunectl.core.typed_fields import DamagedError, is_count, is_finite, typed
from tunectl.store import json_lines

_COUNTS = ("trial", "setting", "point", "repeat", "stage")
_SEEDS = 2**128
_KINDS = get_args(TrialKind)
_TRAINING = (
    *("max_train_steps", "stop_after", "eval_every", "eval_from", "keep_checkpoints", "train_examples"),
    *("memory_limit_bytes", "no_progress", "curvature_needed"),
    *SCHEDULE_OF_TRIAL,
    *("data_workers", "prefetch_batches", "cache_examples", "trace_updates"),
)

_RECORDS: Mapping[str, type[Any]] = {
    "curvature": CurvatureSettings,
    "checkpoints": TrialCheckpoints,
    "request": TrialRequest,
}


@dataclass(frozen=True, slots=True)
class PlanLine:
    """A line of plan.jsonl: its trial, None where it is damaged, and whether it has a checksum."""

    trial: PlannedTrial | None
    is_sealed: bool


def plan_lines(path: Path) -> list[PlanLine]:
    """The complete lines, also the damaged ones; [] without a file. Raises FolderError where it cannot be read."""
    content = _content(path)
    raw = content.split(b"\n")
    return [
        PlanLine(_planned_trial(line), record_checksums.has_seal(text))
        for text, line in zip(raw, json_lines.parse(content), strict=False)
    ]


def _content(path: Path) -> bytes:
    try:
        return regular_files.content(path, largest=regular_files.LARGEST_LINES_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise path_error(path, "read", error) from error


def read_plan(path: Path) -> list[PlannedTrial]:
    """The planned trials, in the order of their ids; [] where there is no file.

    A torn last line is dropped: its trial was never started. Raises FolderError with the line's number where a complete
    line is not a planned trial, where an id is missing, and where two trials have one identity.
    """
    trials: list[PlannedTrial] = []
    first_line: dict[tuple[int, int, int, int], int] = {}
    for number, line in enumerate(plan_lines(path), start=1):
        trial = line.trial
        if trial is None:
            raise _damaged(path, number, "is not a planned trial")
        if trial.trial != number - 1:
            raise _damaged(path, number, f"has trial {trial.trial}; expected trial {number - 1}")
        earlier = first_line.setdefault(trial.identity, number)
        if earlier != number:
            stage = " at the same stage" if trial.stage else ""
            raise _damaged(path, number, f"has the setting, point and repeat of line {earlier}{stage}")
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
        or not isinstance(line.get("suggestion", {}), dict)
    ):
        return None
    try:
        trial = PlannedTrial.from_json(line)
    except (KeyError, TypeError, ValueError):
        return None
    # A seed may need more than 64 bits.
    holds = (
        all(is_count(getattr(trial, name)) for name in _COUNTS)
        and (type(trial.seed) is int and 0 <= trial.seed < _SEEDS)
        and all(type(value) in (int, float) and 0 <= value <= 1 for value in trial.coordinates)
        and all(_is_training(name, value) for name, value in trial.training.items())
        and all(
            isinstance(value, (bool, str)) or is_finite(value)
            for value in (*trial.hyperparameters.values(), *trial.suggestion.values())
        )
        and (isinstance(trial.trial_kind, str) and trial.trial_kind in _KINDS)
    )
    return trial if holds else None


def _is_training(name: str, value: object) -> bool:
    record = _RECORDS.get(name)
    if name == "piecewise_points":
        return isinstance(value, str)
    if record is None:
        return name in _TRAINING and is_count(value)
    try:
        typed(record, value)
    except DamagedError:
        return False
    return True


def append_plan(path: Path, trials: Sequence[PlannedTrial]) -> None:
    """Append trials and flush them to the disk; earlier lines keep every byte, a torn last line is removed.

    The ids must follow those of the file. Raises FolderError where they do not, or where the file cannot be written.
    """
    if not trials:
        return
    planned = _content(path).count(b"\n")
    expected = list(range(planned, planned + len(trials)))
    if [trial.trial for trial in trials] != expected:
        raise FolderError(
            f"{path}: has {planned} trials; expected trial {planned} to be added next, got {trials[0].trial}"
        )
    json_lines.append(path, [trial.to_json() for trial in trials])


def write_plan(path: Path, trials: Sequence[PlannedTrial]) -> None:
    """Replace the whole file, atomically; raises FolderError where that cannot be done."""
    content = b"".join(record_checksums.sealed(jsontext.encode(trial.to_json())) + b"\n" for trial in trials)
    with path_errors(path, "written"):
        write_bytes(path, content)
