"""The engine: a program that proposes points by Optuna's Gaussian processes (`python -m tunectl.suggestions.engine`).

It reads an EngineRequest from standard input and writes an EngineAnswer to standard output; what a library prints goes
to standard error. It is the only module that imports Optuna for suggestions, and no module imports it.

The model is GPSampler's: one process with a Matérn 5/2 kernel for the objective and one for the constraint, and the
expected improvement times the probability that the constraint holds (Gardner et al., "Bayesian Optimization with
Inequality Constraints", 2014). Points that run at once are proposed one after the other, the earlier ones pending.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from tunectl.core.parent_death import die_with_parent
from tunectl.suggestions.engine_files import EngineAnswer, EngineDimension, EngineRequest, read_request

if TYPE_CHECKING:
    import optuna

Point = tuple[float, ...]

_FEASIBLE, _VIOLATED = -1.0, 1.0
_REAL_STEP = 1 / 64
"""How far a point is moved along a real dimension, where it was tried already."""


def main(arguments: Sequence[str]) -> None:
    """Answer the request of standard input; the argument is the pid of the process that waits for the answer."""
    die_with_parent(int(arguments[0]))
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)
        answer(read_request(sys.stdin.buffer.read()), output)


def answer(request: EngineRequest, output: BinaryIO) -> None:
    """Write the answer to a request."""
    import optuna
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    points, moved = proposed(request)
    output.write(EngineAnswer(f"optuna {optuna.__version__} GPSampler", points, moved).encoded())


def proposed(request: EngineRequest) -> tuple[tuple[Point, ...], tuple[int, ...]]:
    """The points that are proposed, none of them tried, and the numbers of those that were moved (see EngineAnswer)."""
    study = _study(request)
    distributions = {item.name: _distribution(item) for item in request.dimensions}
    tried = {*(item.coordinates for item in request.finished), *request.pending}
    points: list[Point] = []
    moved: list[int] = []
    for number in range(request.points):
        trial = study.ask(fixed_distributions=distributions)
        wanted = tuple(trial.params[item.name] for item in request.dimensions)
        point = nearest_untried(wanted, request.dimensions, tried)
        if point is None:
            break
        if point != wanted:
            moved.append(number)
            # What is pending is the point that is tried, not the one that was proposed.
            study.tell(trial, state=_states().FAIL)
            _add_pending(study, request.dimensions, point)
        tried.add(point)
        points.append(point)
    return tuple(points), tuple(moved)


def nearest_untried(wanted: Point, dimensions: Sequence[EngineDimension], tried: set[Point]) -> Point | None:
    """The point itself, or the first one around it that was not tried, by the number of steps; None if none is left."""
    left, seen = deque([wanted]), {wanted}
    while left:
        point = left.popleft()
        if point not in tried:
            return point
        for other in _neighbours(point, dimensions):
            if other not in seen:
                seen.add(other)
                left.append(other)
    return None


def _neighbours(point: Point, dimensions: Sequence[EngineDimension]) -> Iterator[Point]:
    """The points that are one step away: along a scale, or another choice."""
    for place, (item, value) in enumerate(zip(dimensions, point, strict=True)):
        match item.kind:
            case "real":
                others: Sequence[float] = (value + _REAL_STEP, value - _REAL_STEP)
            case "whole":
                others = (value + 1, value - 1)
            case "choice":
                others = [other for other in range(item.low, item.high + 1) if other != value]
        for other in others:
            if item.low <= other <= item.high:
                yield (*point[:place], other, *point[place + 1 :])


def _study(request: EngineRequest) -> optuna.Study:
    """A study in memory with the finished trials and the pending points."""
    import optuna

    # From the first trial on the model proposes: there is no phase of random points.
    sampler = optuna.samplers.GPSampler(seed=request.seed % 2**32, n_startup_trials=0, independent_sampler=_Refusing())
    study = optuna.create_study(sampler=sampler, storage=optuna.storages.InMemoryStorage(), direction="minimize")
    distributions = {item.name: _distribution(item) for item in request.dimensions}
    has_infeasible = any(item.cost is None for item in request.finished)
    costs = objective_values([item.cost for item in request.finished])
    for item, cost in zip(request.finished, costs, strict=True):
        violated = _VIOLATED if item.cost is None else _FEASIBLE
        study.add_trial(
            optuna.trial.create_trial(
                params=_params(request.dimensions, item.coordinates),
                distributions=distributions,
                value=cost,
                constraints={"feasible": violated} if has_infeasible else None,
            )
        )
    for point in request.pending:
        _add_pending(study, request.dimensions, point)
    return study


def objective_values(costs: Sequence[float | None]) -> list[float]:
    """The objective that the model gets for each trial: none is farther above the median than the best is below it.

    A model of all costs as they are would be one of the few that are far worse than all others. An infeasible trial has
    no cost; it counts as one of the bad ones, so that the model of the objective, too, leads away from the edge. In
    scripts/bench_bayesian.py a neutral number (the median) gave two to four times as many infeasible trials, and the
    worst cost as it is kept so far from the edge that the best points were missed.
    """
    known = sorted(cost for cost in costs if cost is not None)
    median = known[len(known) // 2]
    # Where half of them are as good as the best, the others still differ.
    most = 2 * median - known[0] if median > known[0] else known[-1]
    return [most if cost is None else min(cost, most) for cost in costs]


def _add_pending(study: optuna.Study, dimensions: Sequence[EngineDimension], point: Point) -> None:
    study.enqueue_trial(_params(dimensions, point))
    study.ask(fixed_distributions={item.name: _distribution(item) for item in dimensions})


def _params(dimensions: Sequence[EngineDimension], point: Point) -> dict[str, Any]:
    pairs = zip(dimensions, point, strict=True)
    return {item.name: float(value) if item.kind == "real" else int(value) for item, value in pairs}


def _distribution(item: EngineDimension) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match item.kind:
        case "real":
            return FloatDistribution(item.low, item.high)
        case "whole":
            return IntDistribution(item.low, item.high, log=item.log)
        case "choice":
            return CategoricalDistribution(list(range(item.low, item.high + 1)))


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState


class _Refusing:
    """A sampler that proposes nothing: GPSampler would draw at random by it where it cannot use its model."""

    def sample_independent(self, *_given: object) -> object:
        raise RuntimeError("Optuna's model proposed no point, and a random one is not wanted")

    def before_trial(self, *_given: object) -> None:
        """Nothing: only points of the model are proposed."""

    def after_trial(self, *_given: object) -> None:
        """Nothing, as before a trial."""


if __name__ == "__main__":
    main(sys.argv[1:])
