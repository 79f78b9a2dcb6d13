"""The trial of a finished study whose configuration is trained last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.analysis.results.best_steps import BestSteps, best_steps
from tunectl.analysis.results.outcomes import best_outcome
from tunectl.analysis.results.retrains import retrained
from tunectl.core import typed_fields
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.own_code_request import Request, request_of
from tunectl.core.records import TrialOutcome
from tunectl.core.wording import counted
from tunectl.language.study_spec import StudySpec
from tunectl.session.continuing_command import continuing_command
from tunectl.session.outcome_index import has_ended
from tunectl.session.snapshot import StudySnapshot
from tunectl.store.study_folder import refuse_procedure
from tunectl.store.trial_files import read_trial


@dataclass(frozen=True, slots=True)
class ChosenTrial:
    """A completed trial of a study: what it was asked for, and the best steps of its configuration.

    `searched` is the number of the trials among which it was chosen, `deviation` the standard deviation of its
    retrains, None where that is not known.
    """

    folder: StudyFolder
    spec: StudySpec
    outcome: TrialOutcome
    asked: Request
    steps: BestSteps
    searched: int
    deviation: float | None = None


def chosen_trial(study: StudySnapshot, number: int | None) -> ChosenTrial:
    """The trial with this id, or the best one of the search; raises UsageError where it cannot be trained again."""
    place = study.folder.path
    refuse_procedure(study.folder)
    search = [item for item in study.outcomes if item.plan.trial_kind == "search"]
    outcome = _best(study, search) if number is None else _named(study, number)
    steps = best_steps(study.outcomes, outcome)
    if not steps.by_trial:
        raise UsageError(f"{place / str(outcome.plan.trial)}: has no best step: {study.spec.objective.never_given}")
    asked = _asked(study.folder, outcome.plan.trial)
    again = retrained(study.outcomes, study.spec.objective)
    deviations = {item.searched.plan.trial: item.standard_deviation for item in again}
    deviation = next((deviations[trial] for trial in steps.by_trial if trial in deviations), None)
    return ChosenTrial(study.folder, study.spec, outcome, asked, steps, sum(map(has_ended, search)), deviation)


def _best(study: StudySnapshot, search: Sequence[TrialOutcome]) -> TrialOutcome:
    place, left = study.folder.path, sum(not has_ended(item) for item in search)
    if left:
        raise UsageError(
            f"{place}: {counted(left, 'trial')} of the search {'has' if left == 1 else 'have'} not ended, so the best "
            f"is not known yet; finish it with `{continuing_command(study.folder)}` first, or name a trial, as "
            "DIR/TRIAL"
        )
    found = best_outcome(study.outcomes, study.spec.objective)
    if found is None:
        raise UsageError(f"{place}: {study.spec.objective.never_given}")
    return found


def _named(study: StudySnapshot, number: int) -> TrialOutcome:
    place = study.folder.path
    if number >= len(study.outcomes):
        raise UsageError(f"{place / str(number)}: expected a trial from 0 to {len(study.outcomes) - 1}")
    found = study.outcomes[number]
    if found.state != "completed":
        why = f" ({found.reason})" if found.reason else ""
        raise UsageError(f"{place / str(number)}: expected a completed trial, got one that is {found.state}{why}")
    return found


def _asked(folder: StudyFolder, trial: int) -> Request:
    home = folder.trial(trial)
    content = read_trial(home).request
    if content is None:
        raise FolderError(f"{home.request}: is missing or cannot be read, so what the trial trained is not known")
    try:
        return request_of(content)
    except typed_fields.DamagedError as error:
        raise FolderError(f"{home.request}: {error}") from error
