"""`import`: a study folder made from another tool's study, for `report`, `next`, `status` and `ls`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from tunectl.core import real_folders
from tunectl.core.errors import FolderError, StudyError, UsageError
from tunectl.core.files import write_bytes
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_errors
from tunectl.exchange.database_addresses import masked
from tunectl.exchange.foreign_study import ForeignStudy
from tunectl.exchange.imported_study import ImportedStudy, ImportedTrial, imported
from tunectl.exchange.optuna_reading import read_optuna
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.outcome_index import refresh_index
from tunectl.session.written_tables import write_tables
from tunectl.space.trial_plan import trial_seed
from tunectl.store.index import Index
from tunectl.store.plan_file import append_plan
from tunectl.store.provenance import append_provenance, describe_run
from tunectl.store.study_folder import check_place, create, study_path
from tunectl.store.trial_files import write_measurements, write_result

Tool = Literal["optuna"]
READERS: Mapping[Tool, Callable[[str, str | None], ForeignStudy]] = {"optuna": read_optuna}


@dataclass(frozen=True, slots=True)
class Import:
    """The study folder that was made; `states` counts its trials, `remarks` say what differs from the other tool."""

    study: str
    folder: Path
    states: dict[str, int]
    remarks: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The import as one JSON object."""
        return {
            "study": self.study,
            "folder": str(self.folder),
            "trials": sum(self.states.values()),
            "states": self.states,
            "remarks": list(self.remarks),
        }


def import_study(
    tool: Tool, storage: str, name: str | None, place: Path | None, command: Sequence[str], now: datetime
) -> Import:
    """Make a study folder from a study in another tool's storage, by default `runs/<study>`, which must not exist.

    `command` is what the user typed, `now` has a time zone. Raises UsageError where tunectl cannot express the study,
    FolderError where the storage cannot be read or the folder cannot be made.
    """
    made = imported(READERS[tool](storage, name), lambda trial: trial_seed(0, trial))
    place = place if place is not None else study_path(Path("runs"), made.name)
    if check_place(place):
        raise FolderError(f"{place}: is a study folder already; give another --dir, or remove it")
    try:
        spec = parse_study(made.text, place / "study.yaml")
    except StudyError as error:
        raise UsageError(f"{made.name}: cannot be written as a study file of tunectl:\n{error}") from error
    fresh = place.with_name(f".{place.name}.importing")
    with path_errors(place, "created"):
        real_folders.remove_all(fresh, fresh.parent)
        try:
            states = _fill(create(fresh, made.text), spec, made, command, now)
            if place.is_dir():  # it only has what is left of a run that did not begin
                real_folders.remove_all(place, place.parent)
            real_folders.move(fresh, place, place.parent)
        finally:
            with contextlib.suppress(OSError):
                real_folders.remove_all(fresh, fresh.parent)
    return Import(made.name, place, states, made.remarks)


def _fill(
    folder: StudyFolder, spec: StudySpec, made: ImportedStudy, command: Sequence[str], now: datetime
) -> dict[str, int]:
    """Write all files that a finished run leaves; return the number of trials in each state."""
    write_bytes(folder.lock, b"", durable=False)
    trials = [item.plan for item in made.trials]
    append_plan(folder.plan, trials)
    for item in made.trials:
        _write_trial(folder, item)
    shown = [masked(word) for word in command]
    run = describe_run(shown, workload_file=None, study_file=None, study_folder=folder.path, now=now)
    append_provenance(folder, run)
    with Index.open_for_writing(folder.index) as index:
        outcomes = refresh_index(folder, trials, spec.objective, index, lambda _line: None)
        write_tables(folder, spec, outcomes, index)
    states = [item.state for item in outcomes]
    return {state: states.count(state) for state in sorted(set(states))}


def _write_trial(folder: StudyFolder, item: ImportedTrial) -> None:
    home = folder.trial(item.plan.trial)
    real_folders.made(home.path, home.study, exist_ok=False)
    write_measurements(home, item.measurements)
    write_result(home, item.result)
