"""`ls`: the tracking table of all studies in a folder.

Deep Learning Tuning Playbook, "Setting up experiment tracking": name, link to the configuration, notes, number of
trials, the best validation performance, and how to reproduce it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from tunectl.analysis.results.outcomes import best_outcome
from tunectl.analysis.results.stages import judged_stage
from tunectl.core import regular_files
from tunectl.core.errors import FolderError, TunectlError
from tunectl.core.folders import StudyFolder
from tunectl.core.objective import Direction, Objective
from tunectl.core.path_errors import broken_link, path_error, path_message
from tunectl.core.table_columns import Column, ColumnType
from tunectl.core.typed_fields import KEY, DamagedError, key_of, sealed_object, text_at, untyped
from tunectl.report.table import Table
from tunectl.session.outcome_index import has_ended
from tunectl.session.snapshot import study_snapshot
from tunectl.store.provenance import command_of, has_uncommitted_changes, last_own_run, read_provenance
from tunectl.store.study_folder import seems_study_folder

_TYPES: Mapping[str, ColumnType] = {
    **dict.fromkeys(("planned", "run", "completed", "infeasible", "failed", "best_trial", "best_step"), "whole"),
    **dict.fromkeys(("retrains", "retrains_run", "stage"), "whole"),
    "best_value": "real",
    "steps_to": "real",
    "uncommitted": "scalar",
}


_LINES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class TrackedStudy:
    """A row of the tracking table.

    `study_file`, `command` (with the folder in which it was called), `commit` and `date` (ISO 8601) are those of the
    last run, "" where they are not known. With `steps_to`, `best_value` is the number of steps to that value of the
    metric. `run` is the number of the planned trials that have ended; `retrains` are
    among the planned ones, `retrains_run` among those that have ended. `best_*` are those of the best completed trial
    of the `stage` that is judged; `best_checkpoint` is a path. `problem` has the damage of its files, or the reason why
    the study could not be read;
    all other fields are empty then.
    """

    folder: str
    study: str = ""
    study_kind: str = field(default="", metadata={KEY: "kind"})
    goal: str = ""
    study_file: str = ""
    notes: str = ""
    planned: int | None = None
    run: int | None = None
    completed: int | None = None
    infeasible: int | None = None
    failed: int | None = None
    metric: str = ""
    direction: Direction | Literal[""] = ""
    best_value: float | None = None
    best_trial: int | None = None
    best_step: int | None = None
    best_checkpoint: str = ""
    command: str = ""
    commit: str = ""
    uncommitted: bool | None = None
    date: str = ""
    problem: str = ""
    retrains: int | None = None
    retrains_run: int | None = None
    steps_to: float | None = None
    stage: int | None = None

    @property
    def judged_by(self) -> str:
        """What `best_value` is: the metric, or the steps to a value of it."""
        if self.steps_to is None:
            return self.metric
        return Objective(self.metric, self.direction or "minimize", steps_to=self.steps_to).title

    def to_json(self) -> dict[str, Any]:
        """The row as `ls --json` prints it: its cells by the names of their columns."""
        return dict(untyped(self))


def tracked_studies(below: Path, unreadable: Callable[[str], object] = lambda _: None) -> list[TrackedStudy]:
    """All studies in a folder and in its subfolders, by path; writes nothing.

    A study that cannot be read is listed with its problem. Other folders that cannot be read are skipped; `unreadable`
    is called with a message for each. Raises FolderError where `below` is not a folder or cannot be read.
    """
    if broken := broken_link(below):
        raise FolderError(f"{below}: {broken}")
    if seems_study_folder(below):
        return [_tracked(below)]
    try:
        os.scandir(below).close()
    except FileNotFoundError:
        raise FolderError(f"{below}: there is no such folder") from None
    except NotADirectoryError:
        raise FolderError(f"{below}: is no folder") from None
    except OSError as error:
        raise path_error(below, "read", error) from error
    return [_tracked(place) for place in sorted(_studies_below(below, unreadable))]


def _studies_below(below: Path, unreadable: Callable[[str], object]) -> Iterator[Path]:
    # A study folder is not searched for other studies: a large one has ten thousands of trial folders.
    def passed_over(error: OSError) -> None:
        unreadable(f"{path_message(Path(error.filename), 'read', error)}; it is passed over")

    for place, folders, _ in os.walk(below, onerror=passed_over):
        left = []
        for name in sorted(folders):
            path, is_hidden = Path(place, name), name.startswith(".")
            try:
                if seems_study_folder(path):
                    yield path
                elif not is_hidden:
                    left.append(name)
            except FolderError as error:
                if not is_hidden:
                    unreadable(f"{error}; it is passed over")
        folders[:] = left


def _tracked(place: Path) -> TrackedStudy:
    damage: list[str] = []
    try:
        with study_snapshot(place, damage.append) as study:
            spec, outcomes, folder = study.spec, study.outcomes, study.folder
    except (TunectlError, OSError) as error:
        return TrackedStudy(str(place), problem=_first_sentence(str(error)))
    states = [item.state for item in outcomes]
    retrains = [item for item in outcomes if item.plan.trial_kind == "retrain"]
    best = best_outcome(outcomes, spec.objective)
    last = last_own_run(read_provenance(folder))
    return TrackedStudy(
        folder=str(place),
        study=spec.name,
        study_kind=_study_kind(folder),
        goal=spec.goal,
        study_file=str((last.get("study_file") or {}).get("path") or ""),
        notes=spec.notes,
        planned=len(outcomes),
        run=sum(map(has_ended, outcomes)),
        completed=states.count("completed"),
        infeasible=states.count("infeasible"),
        failed=states.count("failed"),
        metric=spec.objective.metric,
        direction=spec.objective.direction,
        steps_to=spec.objective.steps_to,
        best_value=best.best_value if best else None,
        best_trial=best.plan.trial if best else None,
        best_step=best.best_step if best else None,
        best_checkpoint=str(place / best.best_checkpoint) if best and best.best_checkpoint else "",
        command=command_of(last),
        commit=str((last.get("git") or {}).get("commit") or ""),
        uncommitted=has_uncommitted_changes(last),
        date=str(last.get("time") or ""),
        problem=_in_short([line.removeprefix("warning: ") for line in damage]),
        retrains=len(retrains),
        stage=judged_stage(outcomes) if spec.search.promote else None,
        retrains_run=sum(map(has_ended, retrains)),
    )


def _first_sentence(message: str) -> str:
    """The first line of a message, and the second one where the first ends with a colon."""
    lines = message.splitlines()
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def _in_short(lines: list[str]) -> str:
    more = f"; and {len(lines) - _LINES_SHOWN} more" if len(lines) > _LINES_SHOWN else ""
    return f"{'; '.join(lines[:_LINES_SHOWN])}{more}"


def _study_kind(folder: StudyFolder) -> str:
    """The procedure to which the folder belongs, or "study"."""
    try:
        return text_at(sealed_object(regular_files.content(folder.procedure)), "procedure") or "procedure"
    except FileNotFoundError:
        return "study"
    except (OSError, DamagedError):
        return "procedure"


def tracking_table(studies: list[TrackedStudy]) -> Table:
    """The table of all columns; an empty text is a missing value."""
    names = [key_of(item) for item in fields(TrackedStudy)]
    columns = tuple(Column(name, _TYPES.get(name, "text")) for name in names)
    return Table(columns, [tuple(None if cell == "" else cell for cell in item.to_json().values()) for item in studies])
