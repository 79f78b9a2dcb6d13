"""Trials that `tunectl add` adds to a study in its folder; the user's study file stays as it is.

added.json is written first: from then on the trials are added, and a run plans those that a kill kept from the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunectl.core.errors import StudyError, UsageError
from tunectl.core.files import write_bytes
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.records import PlannedTrial
from tunectl.core.wording import counted
from tunectl.language.study_edit import EditingError, with_value
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.damage import note_study_file
from tunectl.store.added_file import AddedTrials, read_added, write_added
from tunectl.store.earlier_studies import is_set_aside
from tunectl.store.index import Index
from tunectl.store.plan_file import append_plan
from tunectl.store.study_folder import refuse_procedure

_TRIALS = ("search", "trials")


class ChangedMeanwhileError(UsageError):
    """Another command has added trials since this one read their number."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A wish for `trials` trials for each setting where there are `before`; `token` is the mark of the command."""

    before: int
    trials: int
    token: str = ""


def with_added_trials(spec: StudySpec, folder: StudyFolder) -> StudySpec:
    """The study with the trials that `tunectl add` has added in this folder, where its file has fewer."""
    added = read_added(folder)
    if added is None or spec.search.trials is None or spec.search.trials >= added.trials:
        return spec
    return _with_trials(spec, added.trials)


def _with_trials(spec: StudySpec, trials: int) -> StudySpec:
    try:
        text = with_value(spec.text, _TRIALS, trials)
    except EditingError as error:
        raise UsageError(f"search.trials cannot be raised to {trials} in the study: {error}") from error
    return replace(spec, search=replace(spec.search, trials=trials), text=text)


def check_may_add(folder: StudyFolder, spec: StudySpec) -> int:
    """The present number of trials for each setting; raises UsageError where the study has no such number."""
    refuse_procedure(folder)
    if is_set_aside(folder):
        raise UsageError("it is an earlier state of a study, in which nothing is trained any more")
    if spec.search.sampler == "grid":
        raise UsageError("a grid has as many trials as it has points; add values or points to the study file")
    if spec.search.points:
        raise UsageError("its points are listed by hand; add some to the study file")
    if spec.search.trials is None:
        raise UsageError("nothing is sampled in it, so it has one trial for each setting")
    return with_added_trials(spec, folder).search.trials or spec.search.trials


def add_trials(
    folder: StudyFolder, spec: StudySpec, planned: Sequence[PlannedTrial], wish: Addition, index: Index | None
) -> tuple[StudySpec, list[PlannedTrial]]:
    """The study with these trials, and those that are new in its plan; the files of the folder are written.

    Whoever calls has the folder's lock; `index` is the study's, None without one. The same wish again adds nothing.
    Raises ChangedMeanwhileError where the number of trials is not the one before, UsageError and StudyError where the
    study cannot have that many, and FolderError where the folder cannot be written; then nothing is added.
    """
    from tunectl.session.checked_study import problems_of_the_plan
    from tunectl.space.trial_plan import plan_trials  # numpy

    now, kept = check_may_add(folder, spec), read_added(folder)
    if kept is not None and wish.token and kept.token == wish.token:
        return spec, []
    if now != wish.before:
        raise ChangedMeanwhileError(f"search.trials was {wish.before} and is {now} now; nothing was added")
    raised = _with_trials(spec, wish.trials)
    parse_study(raised.text, folder.study, spec.name, folder.points)
    if problems := problems_of_the_plan(raised):
        raise StudyError(problems)
    added = plan_trials(raised, after=planned)
    write_added(folder, AddedTrials(wish.trials, wish.token))
    with path_errors(folder.study, "written"):
        write_bytes(folder.study, raised.text.encode("utf-8", "surrogatepass"), within=folder.path)
    note_study_file(folder, index)
    if added:
        append_plan(folder.plan, added)
    return raised, added


def added_words(wish: Addition, added: Sequence[PlannedTrial]) -> str:
    """What was added, in words."""
    settings = len({trial.setting for trial in added})
    each = f" for each of {settings} settings, {len(added)} in all" if settings > 1 else ""
    later = "" if added else "; points are proposed when the trials before have ended"
    number = counted(wish.trials - wish.before, "more trial")
    return f"{number}{each} (search.trials: {wish.before}, now {wish.trials}){later}"
