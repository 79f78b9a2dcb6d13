"""The door to run in a study folder: it is locked, its study compared, its plan completed, its index up to date.

The folder is made here where it is missing; damaged records are restored; a changed study is handled as
`study_correction` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunectl.core import real_folders, regular_files
from tunectl.core.errors import FolderError, StudyError
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error, path_errors
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import CANCELLED, PlannedTrial, TrialOutcome
from tunectl.core.typed_fields import DamagedError, sealed_object, text_at
from tunectl.execution.run_control import RunControl
from tunectl.execution.runner_lock import LockedFile, acquire
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.added_trials import with_added_trials
from tunectl.session.damage import DamageLog, damage_notes, fingerprints
from tunectl.session.early_stops import EarlyStops
from tunectl.session.left_offers import check_no_work_left, end_left_run, take_in_all
from tunectl.session.outcome_index import has_ended, read_outcomes, refresh_index, refresh_index_at_end
from tunectl.session.plan_agreement import agreed_plan
from tunectl.session.run_progress import Watcher
from tunectl.session.study_correction import MAY_CHANGE, Correction, correction, has_result, read_trials_again
from tunectl.space.trial_plan import plan_trials
from tunectl.store.earlier_studies import finish_setting_aside, set_aside
from tunectl.store.index import Index
from tunectl.store.index_schema import remove_files
from tunectl.store.plan_file import append_plan, read_plan, write_plan
from tunectl.store.provenance import read_provenance
from tunectl.store.study_folder import check_place, check_writable, create, read_study_text


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study folder that this process has locked.

    `outcomes` are those of its trials when it was opened, or by `with_trials`; `damage` collects its damage. `control`
    has what users request of the run. `at_end` is closed before the folder's lock is released.
    """

    folder: StudyFolder
    lock: LockedFile
    spec: StudySpec
    trials: Sequence[PlannedTrial]
    index: Index
    outcomes: Sequence[TrialOutcome]
    damage: DamageLog
    control: RunControl = field(default_factory=RunControl)
    at_end: ExitStack = field(default_factory=ExitStack)

    def left(self, *, retry_failed: bool = False) -> list[PlannedTrial]:
        """The trials that have not ended; with `retry_failed` also those that failed or were stopped for good."""
        again = ("failed", CANCELLED) if retry_failed else ()
        return [item.plan for item in self.outcomes if not has_ended(item) or item.state in again]


Planner = Callable[[Sequence[PlannedTrial]], Sequence[PlannedTrial]]
"""Gives the trials to add to those that are planned."""


@contextmanager
def open_study(
    spec: StudySpec,
    place: Path,
    watcher: Watcher,
    planner: Planner | None = None,
    procedure: bytes | None = None,
    *,
    may_begin_anew: bool = True,
    stop_requested: Callable[[], int] = lambda: 0,
) -> Iterator[OpenStudy]:
    """Open the folder at `place`, and make it first where it is missing.

    `planner` gives the trials to add, by default those of the study's search. `procedure` is the text of procedure.json
    in the folder of a procedure, None in a study's. A study that has changed since the last run is handled as
    `correction` says; without `may_begin_anew` one that would begin anew is refused. Raises FolderError (exit code 3)
    where the folder is in use, belongs to another study or request, or cannot be written; StoppedError where a stop was
    requested while it waited for what workers left. Where no trial is left, no file but the lock changes.
    """
    folder = _made(place)
    lock, damage, at_end = acquire(folder.lock), DamageLog(watcher.message), ExitStack()
    try:
        _finish_what_was_begun(folder, watcher)
        at_end.callback(end_left_run, folder)
        stops = EarlyStops(folder, stop_requested, watcher.message)
        take_in_all(folder, say=watcher.message, stop_requested=stops)
        if check_place(place):
            kept = study_in(folder, spec.name)
            _restore_plan(folder, kept, damage)
            correction = _correction(spec, folder, kept, procedure, may_begin_anew=may_begin_anew)
            if correction.what in ("begin anew", "read again"):
                check_no_work_left(folder, "change the study")
            _correct(correction, folder, spec, watcher)
        spec = _as_added_to(spec, folder, watcher)  # what was added to a study that begins anew is in `earlier`, too
        if not check_place(place):
            create(place, spec.text)
            if procedure is not None:
                _write(folder.procedure, procedure)
        lock = lock.with_trials()
        check_writable(folder)
        trials = _complete_plan(spec, folder, planner or (lambda planned: plan_trials(spec, after=planned)))
        with Index.open_for_writing(folder.index) as index:
            outcomes = refresh_index(folder, trials, spec.objective, index, damage)
            for note in damage_notes(folder, outcomes):
                damage(note)
            index.put_fingerprints(fingerprints(folder))
            with at_end:
                yield OpenStudy(folder, lock, spec, trials, index, outcomes, damage, at_end=at_end)
    finally:
        lock.release()


def _made(place: Path) -> StudyFolder:
    with path_errors(place, "created"):
        place.mkdir(parents=True, exist_ok=True)
    return StudyFolder(place)


def _as_added_to(spec: StudySpec, folder: StudyFolder, watcher: Watcher) -> StudySpec:
    """The study with the trials that were added in its folder."""
    found = with_added_trials(spec, folder)
    if found is not spec:
        watcher.message(
            f"note: `tunectl add` has raised search.trials from {spec.search.trials} to {found.search.trials} in "
            f"{folder.path}"
        )
    return found


def _finish_what_was_begun(folder: StudyFolder, watcher: Watcher) -> None:
    place = finish_setting_aside(folder, watcher.message)
    if place is not None:
        watcher.message(f"{folder.path}: the study as it was before is kept in {place}")


def _correction(
    spec: StudySpec, folder: StudyFolder, kept: StudySpec, procedure: bytes | None, *, may_begin_anew: bool
) -> Correction:
    """What a run does about changes of the study since the last one; raises FolderError where it refuses them."""

    def outcomes() -> list[TrialOutcome]:
        return read_outcomes(folder, read_plan(folder.plan), kept.objective, None)

    found = correction(folder, kept, spec, outcomes)
    asked = _procedure_differences(folder, procedure)
    if asked and not any(has_result(item) for item in outcomes()) and may_begin_anew:
        return Correction("begin anew", (*found.lines, *asked))
    if asked:
        listed = "\n".join(f"  {line}" for line in asked)
        raise FolderError(f"{folder.path}: was made with other options:\n{listed}\ngive another --dir")
    if found.what == "refuse" or (found.what == "begin anew" and not may_begin_anew):
        listed = "\n".join(f"  {line}" for line in found.lines)
        asks = any(line.startswith("objective.") for line in found.lines)
        report = tunectl_command("report", folder.path)
        later = f" `{report}` with --objective or --steps-to judges these trials by another one." if asks else ""
        raise FolderError(
            f"{folder.path}: belongs to another study; these differ:\n{listed}\n{MAY_CHANGE} Otherwise give "
            f"another --dir, or another name.{later}"
        )
    return found


def _correct(found: Correction, folder: StudyFolder, spec: StudySpec, watcher: Watcher) -> None:
    """Begin anew, or read the trials again, as a changed study requires."""
    listed = "\n".join(f"  {line}" for line in found.lines)
    if found.what == "begin anew":
        place = set_aside(folder, watcher.message)
        watcher.message(
            f"{folder.path}: the study has changed, and none of its trials has completed; it begins anew, and what was "
            f"there is kept in {place}; these differ:\n{listed}"
        )
        return
    trials = read_plan(folder.plan)
    if found.environment and any((folder.trial(trial.trial).result).exists() for trial in trials):
        lines = "\n".join(f"  {line}" for line in found.environment)
        watcher.message(
            "warning: the program's environment has changed; trials that have ended were trained in the earlier one "
            f"(see their request.json):\n{lines}"
        )
    if found.what == "read again":
        watcher.message(f"the study has changed in how its trials are read:\n{listed}")
    if found.what == "read again" or folder.rereading.is_file():
        # Measurements that the changed study does not read any more would count as missing by the old index.
        remove_files(folder.index)
        read_trials_again(folder, spec, trials, watcher.message)


def with_trials(study: OpenStudy, added: Sequence[PlannedTrial]) -> OpenStudy:
    """The study with these trials added to its plan, and the present outcomes of all trials."""
    if added:
        append_plan(study.folder.plan, added)
    trials = [*study.trials, *added]
    outcomes = refresh_index_at_end(study.folder, trials, study.spec.objective, study.index, study.damage)
    return replace(study, trials=trials, outcomes=outcomes)


def _write(path: Path, content: bytes) -> None:
    with path_errors(path, "written"):
        write_if_changed(path, content)


def _procedure_differences(folder: StudyFolder, procedure: bytes | None) -> list[str]:
    """The options in which procedure.json differs; raises FolderError where the folder has something else."""
    try:
        kept = regular_files.content(folder.procedure) if folder.procedure.exists() else None
        old, new = (sealed_object(text) if text is not None else {} for text in (kept, procedure))
    except (OSError, DamagedError) as error:
        raise path_error(folder.procedure, "read", error) from error
    if old == new:
        return []
    if kept is None or procedure is None:
        what = f"a {text_at(old, 'procedure') or 'procedure'}" if kept is not None else "the trials of a study"
        raise FolderError(f"{folder.path}: has {what} already; give another --dir")
    names = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    names = ["procedure"] if "procedure" in names else names  # whose options are others, too
    return [line for key in names for line in _differing(key, old.get(key), new.get(key))]


def _differing(key: str, old: Any, new: Any) -> list[str]:
    """A line for each value that differs, where both are mappings for those in them."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        return [line for name in names for line in _differing(name, old.get(name), new.get(name))]
    was, now = (text if text is not None else "not given" for text in (old, new))
    return [f"{key}: {was} in the folder, {now} now"]


def _complete_plan(spec: StudySpec, folder: StudyFolder, planner: Planner) -> list[PlannedTrial]:
    """Add the trials that are not planned yet, and write the study file as it is now; return the whole plan."""
    planned = read_plan(folder.plan) if folder.plan.exists() else []
    added = planner(planned)
    if spec.points_file is not None:
        _write(folder.points, spec.points_file.text.encode("utf-8"))
    _write(folder.study, spec.text.encode("utf-8", "surrogatepass"))
    if folder.rereading.is_file():
        with path_errors(folder.rereading, "removed"):
            real_folders.remove(folder.rereading, folder.path)
    if added:
        append_plan(folder.plan, added)
    elif not folder.plan.exists():
        write_plan(folder.plan, ())  # by its plan the folder is a study's, also before the first trial is planned
    return [*planned, *added]


def study_in(folder: StudyFolder, default_name: str | None = None) -> StudySpec:
    """The study of a folder; raises FolderError where it cannot be read."""
    # A study without a name is called like its file; the copy in the folder is always called study.yaml.
    runs = read_provenance(folder)
    original = text_at(runs[0], "study_file", "path") if runs else ""
    name = Path(original).stem if original else default_name or folder.path.absolute().name
    try:
        return parse_study(read_study_text(folder), folder.study, name, folder.points)
    except StudyError as error:
        raise FolderError(f"{folder.study}: cannot be read as a study by this version:\n{error}") from None


def _restore_plan(folder: StudyFolder, spec: StudySpec, report: Callable[[str], None]) -> None:
    """Write plan.jsonl again where lines are damaged; raises FolderError where they cannot be restored."""

    def stored() -> dict[int, PlannedTrial]:
        index = Index.open_read_only(folder.index)
        with index or nullcontext():
            return index.planned() if index is not None else {}

    plan = agreed_plan(folder, spec, stored)
    if plan.restored:
        write_plan(folder.plan, plan.trials)
        for note in plan.notes:
            report(f"warning: {note}, and written again")
    for doubt in plan.doubts:
        report(f"warning: {doubt}")
