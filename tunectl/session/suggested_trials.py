"""The trials of the sampler bayesian: proposed in waves, each when all trials before it have ended.

A wave has as many trials as run at a time. Its points depend on the study, on the number of trials in it, and on the
results of all trials before it, not on the order in which these ended. Each trial says in the plan how it was proposed;
where a run is killed within a wave, the next one asks for the same wave again and adds what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tunectl.analysis.search.finished_costs import finished_costs
from tunectl.core.earlier_trials import EarlierTrials
from tunectl.core.errors import FolderError, StudyError
from tunectl.core.records import HAS_RESULT, PlannedTrial, Scalar
from tunectl.core.wording import counted
from tunectl.language.planned_checks import check_planned
from tunectl.session.earlier_trials import is_data
from tunectl.session.open_study import OpenStudy
from tunectl.session.plan_agreement import named_trials
from tunectl.space.derived_values import UncomputableError
from tunectl.space.domains import Range
from tunectl.space.flat_space import FlatSpace, flat_space, has_order, number_of_values
from tunectl.space.hyperparameters import Hyperparameter
from tunectl.space.search_space import uncomputable
from tunectl.space.trial_plan import trial_seed
from tunectl.store.earlier_trials_file import keep_trials
from tunectl.suggestions.engine_files import EngineAnswer, EngineDimension, EngineRequest, FinishedPoint
from tunectl.suggestions.engine_process import suggested

_FAILED_IN_A_ROW = 3
"""As many trials in a row that fail are not proposed for a fourth: what makes them fail must be mended first."""


def suggested_trials(
    study: OpenStudy, earlier: EarlierTrials, slots: int, say: Callable[[str], None]
) -> list[PlannedTrial]:
    """The next wave of a study whose planned trials have all ended; none where it has all its trials.

    Raises EngineError where the engine fails, FolderError where the last trials have all failed.
    """
    keep_trials(study.folder, earlier)
    space = flat_space(study.spec)
    planned = [trial for trial in study.trials if is_data(trial)]
    begun = _begun_wave(planned)
    wanted = _number(begun[0], "at_once") if begun else 0
    if wanted <= len(begun):
        begun = []
    before = planned[: len(planned) - len(begun)]
    if not begun:
        wanted = _wanted(study, space, earlier, before, slots, say)
    if not wanted:
        return []
    request = _request(study, space, earlier, before, wanted)
    say(f"proposing {counted(wanted, 'point')} from {counted(len(request.finished), 'finished trial')}")
    return _planned(study, space, request, suggested(request), len(before))[len(begun) :]


def _begun_wave(planned: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """The trials of the last wave in the plan, all or, after a kill, the first ones."""
    if not planned or not planned[-1].suggestion:
        return []
    first = planned[-1].point - _number(planned[-1], "pending")
    return [trial for trial in planned if trial.point >= first]


def _number(trial: PlannedTrial, name: str) -> int:
    """A whole number of a suggestion; 0 where a plan that was changed by hand has none."""
    value = trial.suggestion.get(name)
    return value if type(value) is int else 0


def _wanted(
    study: OpenStudy,
    space: FlatSpace,
    earlier: EarlierTrials,
    before: Sequence[PlannedTrial],
    slots: int,
    say: Callable[[str], None],
) -> int:
    """The number of trials in the next wave."""
    wanted = min(slots, (study.spec.search.trials or 1) - len(before))
    if wanted <= 0:
        return 0
    _check_failures(study, before)
    if space.size is None:
        return wanted
    values = [*(item.hyperparameters for item in earlier.trials), *(trial.hyperparameters for trial in before)]
    tried = {space.place(own) for own in values}
    left = space.size - len(tried)
    if left <= 0:
        say(f"all {space.size:,} configurations of the space have been tried: there is no further point to propose")
    return min(wanted, max(left, 0))


def _check_failures(study: OpenStudy, before: Sequence[PlannedTrial]) -> None:
    last = {trial.trial for trial in before[-_FAILED_IN_A_ROW:]}
    failed = [item for item in study.outcomes if item.plan.trial in last and item.state == "failed"]
    if len(failed) >= _FAILED_IN_A_ROW:
        raise FolderError(
            f"{study.folder.path}: {named_trials([item.plan.trial for item in failed])} have failed one after another "
            f"({failed[-1].message or failed[-1].reason}): no further point is proposed; mend that, and run it again "
            "with --retry-failed"
        )


def _request(
    study: OpenStudy, space: FlatSpace, earlier: EarlierTrials, before: Sequence[PlannedTrial], wanted: int
) -> EngineRequest:
    outcomes = {item.plan.trial: item for item in study.outcomes}
    own = [outcomes[trial.trial] for trial in before]
    ended = [item for item in own if item.state in HAS_RESULT]
    results = [(item.state, item.value, item.step) for item in earlier.trials]
    results += [(item.state, item.best_value, item.final_step) for item in ended]
    costs = finished_costs(results, study.spec.objective)
    values = [*(item.hyperparameters for item in earlier.trials), *(item.plan.hyperparameters for item in ended)]
    return EngineRequest(
        seed=trial_seed(study.spec.search.seed, len(before)),
        points=wanted,
        dimensions=tuple(_dimension(item) for item in space.items),
        finished=tuple(
            FinishedPoint(_place(space, own_values), cost) for own_values, cost in zip(values, costs, strict=True)
        ),
        # A trial that failed has no result, and its point is not proposed again.
        pending=tuple(_place(space, item.plan.hyperparameters) for item in own if item not in ended),
    )


def _place(space: FlatSpace, values: Mapping[str, Scalar]) -> tuple[float, ...]:
    place = space.place(values)
    assert not isinstance(place, str), f"a trial of this space has a place in it: {place}"
    return place


def _dimension(item: Hyperparameter) -> EngineDimension:
    domain, values = item.domain, number_of_values(item)
    if values is None:
        return EngineDimension(item.key, "real")
    if isinstance(domain, Range):
        return EngineDimension(item.key, "whole", int(domain.low), int(domain.high), log=domain.scale == "log")
    return EngineDimension(item.key, "whole" if has_order(item) else "choice", 0, values - 1)


def _planned(
    study: OpenStudy, space: FlatSpace, request: EngineRequest, answer: EngineAnswer, first: int
) -> list[PlannedTrial]:
    """The trials of a wave as the plan has them; `first` is the number of the first one among the points."""
    begun = max((trial.trial for trial in study.trials), default=-1) + 1
    begun -= sum(is_data(trial) and trial.point >= first for trial in study.trials)
    found = []
    for number, place in enumerate(answer.points):
        try:
            cube, values = space.configuration(place)
        except UncomputableError as error:
            raise uncomputable(study.spec, [error]) from None
        suggestion: dict[str, Scalar] = {
            "engine": answer.engine,
            "seed": request.seed,
            "data": request.data,
            "pending": number,
            "at_once": request.points,
        }
        if number in answer.moved:
            suggestion["moved"] = True
        trial = begun + number
        seed = trial_seed(study.spec.training.seed, trial)
        found.append(PlannedTrial(trial, 0, first + number, 0, cube, values, seed, suggestion=suggestion))
    if problems := check_planned(study.spec, found):
        raise StudyError(problems)
    return found
