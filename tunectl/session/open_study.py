"""A study folder opened to run in: locked, of the same study, its plan complete, its index up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from tunectl.core import real_folders, regular_files
from tunectl.core.errors import FolderError, StudyError
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error, path_errors
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.core.typed_fields import DamagedError, sealed_object, text_at
from tunectl.execution.runner_lock import LockedFile, acquire
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.damage import SaidDamage, damage_notes, fingerprints
from tunectl.session.outcome_index import has_ended, read_standing, refresh, refresh_at_end
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
    """A study folder that this process has for itself. `outcomes` is how its trials stood when it was opened, `damage`
    says what of its files was damaged.
    """

    folder: StudyFolder
    lock: LockedFile
    spec: StudySpec
    trials: Sequence[PlannedTrial]
    index: Index
    outcomes: Sequence[TrialOutcome]
    damage: SaidDamage

    def left(self, *, retry_failed: bool = False) -> list[PlannedTrial]:
        """The trials that have not ended; with `retry_failed` those that failed, too."""
        return [item.plan for item in self.outcomes if not has_ended(item) or (retry_failed and item.state == "failed")]


Planner = Callable[[Sequence[PlannedTrial]], Sequence[PlannedTrial]]
"""Which trials a study wants beyond those that are planned."""


@contextmanager
def opened(
    spec: StudySpec,
    place: Path,
    watcher: Watcher,
    planner: Planner | None = None,
    procedure: bytes | None = None,
    *,
    may_begin_anew: bool = True,
) -> Iterator[OpenStudy]:
    """Open the folder at `place`, making it where it is missing.

    `planner` gives the trials to be added, by default those of the study's own search. `procedure` is the text of
    procedure.json in the folder of a procedure, None in a study's. A study that was changed since is treated as
    `correction` says; `may_begin_anew` false refuses one that would begin anew. Raises FolderError (exit code 3) where
    the folder is in use, belongs to another study or another request, or cannot be written. A folder in which nothing
    is left to do keeps every byte but those of its lock.
    """
    folder = _made(place)
    lock, damage = acquire(folder.lock), SaidDamage(watcher.message)
    try:
        _finish_what_was_begun(folder, watcher)
        if check_place(place):
            kept = kept_study(folder, spec.name)
            _restore_plan(folder, kept, damage)
            correction = _correction(spec, folder, kept, procedure, may_begin_anew=may_begin_anew)
            _correct(correction, folder, spec, watcher)
        if not check_place(place):
            create(place, spec.text)
            if procedure is not None:
                _write(folder.procedure, procedure)
        lock = lock.with_trials()
        check_writable(folder)
        trials = _complete_plan(spec, folder, planner or (lambda planned: plan_trials(spec, after=planned)))
        with Index.open_for_writing(folder.index) as index:
            outcomes = refresh(folder, trials, spec.objective, index, damage)
            for note in damage_notes(folder, outcomes):
                damage(note)
            index.put_fingerprints(fingerprints(folder))
            yield OpenStudy(folder, lock, spec, trials, index, outcomes, damage)
    finally:
        lock.release()


def _made(place: Path) -> StudyFolder:
    with path_errors(place, "created"):
        place.mkdir(parents=True, exist_ok=True)
    return StudyFolder(place)


def _finish_what_was_begun(folder: StudyFolder, watcher: Watcher) -> None:
    place = finish_setting_aside(folder, watcher.message)
    if place is not None:
        watcher.message(f"{folder.path}: the study as it was before is kept in {place}")


def _correction(
    spec: StudySpec, folder: StudyFolder, kept: StudySpec, procedure: bytes | None, *, may_begin_anew: bool
) -> Correction:
    """What becomes of the study in the folder, which may be another one. Raises FolderError where it is refused."""

    def outcomes() -> list[TrialOutcome]:
        return read_standing(folder, read_plan(folder.plan), kept.objective, None)

    found = correction(folder, kept, spec, outcomes)
    asked = _procedure_differences(folder, procedure)
    if asked and not any(has_result(item) for item in outcomes()) and may_begin_anew:
        return Correction("begin anew", (*found.lines, *asked))
    if asked:
        listed = "\n".join(f"  {line}" for line in asked)
        raise FolderError(f"{folder.path}: was asked otherwise before:\n{listed}\ngive another --dir")
    if found.what == "refuse" or (found.what == "begin anew" and not may_begin_anew):
        listed = "\n".join(f"  {line}" for line in found.lines)
        raise FolderError(
            f"{folder.path}: belongs to another study; these differ:\n{listed}\n{MAY_CHANGE}; give another --dir, or "
            "another name"
        )
    return found


def _correct(found: Correction, folder: StudyFolder, spec: StudySpec, watcher: Watcher) -> None:
    """Do with the trials in the folder what a changed study asks for."""
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
        # By an index of the trials as they were, measurements that are not read any more would seem to be lost.
        remove_files(folder.index)
        read_trials_again(folder, spec, trials, watcher.message)


def grown(study: OpenStudy, added: Sequence[PlannedTrial]) -> OpenStudy:
    """The study with more trials in its plan, and how all of them stand now."""
    if added:
        append_plan(study.folder.plan, added)
    trials = [*study.trials, *added]
    outcomes = refresh_at_end(study.folder, trials, study.spec.objective, study.index, study.damage)
    return replace(study, trials=trials, outcomes=outcomes)


def _write(path: Path, content: bytes) -> None:
    with path_errors(path, "written"):
        write_if_changed(path, content)


def _procedure_differences(folder: StudyFolder, procedure: bytes | None) -> list[str]:
    """What the folder's procedure was asked otherwise. Raises FolderError where the folder holds something else."""
    try:
        kept = regular_files.content(folder.procedure) if folder.procedure.exists() else None
        old, new = (sealed_object(text) if text is not None else {} for text in (kept, procedure))
    except (OSError, DamagedError) as error:
        raise path_error(folder.procedure, "read", error) from error
    if old == new:
        return []
    if kept is None or procedure is None:
        what = f"a {text_at(old, 'procedure') or 'procedure'}" if kept is not None else "a study's own trials"
        raise FolderError(f"{folder.path}: holds {what}; give another --dir")
    names = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key)} there, {new.get(key)} asked" for key in names]


def _complete_plan(spec: StudySpec, folder: StudyFolder, planner: Planner) -> list[PlannedTrial]:
    """The plan with whatever the study asks for beyond it, and the study file as it is now."""
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
    return [*planned, *added]


def kept_study(folder: StudyFolder, default_name: str | None = None) -> StudySpec:
    """The study that a folder holds, called by the folder's name where it says no other. Raises FolderError."""
    # The copy is called study.yaml; a study without a name of its own goes by the name of the file it was copied from.
    runs = read_provenance(folder)
    original = text_at(runs[0], "study_file", "path") if runs else ""
    name = Path(original).stem if original else default_name or folder.path.absolute().name
    try:
        return parse_study(read_study_text(folder), folder.study, name, folder.points)
    except StudyError as error:
        raise FolderError(f"{folder.study}: the study it holds cannot be read by this version:\n{error}") from None


def _restore_plan(folder: StudyFolder, spec: StudySpec, report: Callable[[str], None]) -> None:
    """Write plan.jsonl again where it does not say what was trained. Raises FolderError where nothing says it."""

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
