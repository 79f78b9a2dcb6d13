"""The rates that trained and those that diverged, and the runs by which `curvature` shows why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunectl.analysis.curvature.divergences import DIVERGED, ENDED_BY_NAN
from tunectl.analysis.results.runs import Run
from tunectl.procedures.curvature_measures import measured_steps, settings_at
from tunectl.procedures.curvature_options import (
    SHOWN,
    WITH,
    WITHOUT,
    CurvatureSweep,
    compared_step,
    points_of,
    trained_steps,
    warmup_steps,
)
from tunectl.procedures.procedure import (
    Results,
    Wish,
    covered_settings,
    majority,
    runs_of,
)

DIVERGED_OR_DEAD = frozenset({*DIVERGED, "no_progress"})
"""Reasons of infeasible trials that a too large learning rate may cause; many networks die without a NaN."""

STABLE_BELOW = 10.0
"""The stable run that is shown has about this part of the largest rate that trained."""

STEPS_PER_DECADE = 12
EVERY_STEP = 10
"""A chosen run is measured at each of its first steps, and of its last ones before a value that is not finite."""


def diverged_or_dead(run: Run) -> bool:
    """Whether a run is infeasible for a reason that a too large learning rate may cause."""
    return not run.feasible and run.reason in DIVERGED_OR_DEAD


@dataclass(frozen=True, slots=True)
class RateOutcomes:
    """What became of the rates of a setting, without a warmup or with one, by the majority of the seeds.

    `rates` are all of them, with their runs. `trained` is the largest at which most seeds completed, None where there
    is none. `diverged` is the smallest above the best rate at which most seeds diverged; a rate that is too low to make
    progress is none.
    """

    rates: Mapping[float, Sequence[Run]]

    @property
    def trained(self) -> float | None:
        """The largest rate that trained."""
        return max((rate for rate, runs in self.rates.items() if _most_trained(runs)), default=None)

    @property
    def diverged(self) -> float | None:
        """The smallest rate that diverged."""
        lowest = min((rate for rate, runs in self.rates.items() if _most_trained(runs)), default=0.0)
        found = (rate for rate, runs in self.rates.items() if rate > lowest and self.is_diverged(rate, runs))
        return min(found, default=None)

    def is_diverged(self, rate: float, runs: Sequence[Run]) -> bool:
        """Whether most seeds diverged at a rate."""
        if not majority([diverged_or_dead(run) for run in runs]):
            return False
        # With nothing that trained below it, a loss that does not move may mean that the rate is too low.
        trains_below = any(other < rate and _most_trained(found) for other, found in self.rates.items())
        return trains_below or not all(run.reason == "no_progress" for run in runs if diverged_or_dead(run))

    @property
    def why_none_trained(self) -> str | None:
        """Why there is no largest rate that trained; None where there is one."""
        return None if self.trained is not None else "no rate of the grid trained: try a smaller --low"

    @property
    def why_none_diverged(self) -> str | None:
        """Why there is no smallest rate that diverged; None where there is one."""
        return None if self.diverged is not None else "no rate of the grid diverged: try a larger --high"


def _most_trained(runs: Sequence[Run]) -> bool:
    return majority([run.feasible for run in runs])


def outcomes_of(spec: CurvatureSweep, results: Results, phase: int, place: int) -> RateOutcomes:
    """What became of the rates of a setting, by its place, in a phase of the grid."""
    runs = runs_of(results, phase)
    points = enumerate(points_of(spec))
    return RateOutcomes({rate: runs[point] for point, (here, rate) in points if here == place and point in runs})


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run that is shown: its name in the figure, its phase and point in the grid, and its results there."""

    name: str
    phase: int
    point: int
    run: Run


def shown_setting(spec: CurvatureSweep, results: Results) -> int:
    """The place of the setting whose runs show most: one in which a warmup rescues, else one that diverges."""

    def rank(place: int) -> tuple[bool, bool]:
        return _rescued(spec, results, place) is not None, _diverging(spec, results, place) is not None

    return max(range(len(covered_settings(spec))), key=lambda place: (rank(place), -place))


def _rescued(spec: CurvatureSweep, results: Results, place: int) -> float | None:
    """The largest rate that diverged without the warmup and trained with it."""
    without, with_it = (outcomes_of(spec, results, phase, place) for phase in (WITHOUT, WITH))
    found = [
        rate
        for rate, runs in without.rates.items()
        if without.is_diverged(rate, runs) and rate in with_it.rates and _most_trained(with_it.rates[rate])
    ]
    return max(found, default=None)


def _diverging(spec: CurvatureSweep, results: Results, place: int) -> float | None:
    rescued = _rescued(spec, results, place)
    return rescued if rescued is not None else outcomes_of(spec, results, WITHOUT, place).diverged


def shown_runs(spec: CurvatureSweep, results: Results) -> list[ShownRun]:
    """A stable run, one at the edge, one that diverges, and one that a warmup rescues; those that there are."""
    place = shown_setting(spec, results)
    without = outcomes_of(spec, results, WITHOUT, place)
    edge, diverging = without.trained, _diverging(spec, results, place)
    below = [rate for rate, runs in without.rates.items() if edge and rate < edge and _most_trained(runs)]
    stable = min(below, key=lambda rate: abs(rate - (edge or 0.0) / STABLE_BELOW), default=None)
    rescued = _rescued(spec, results, place)
    wanted: list[tuple[str, int, float | None, Callable[[Run], bool]]] = [
        ("stable", WITHOUT, stable, _is_feasible),
        ("at the edge", WITHOUT, edge, _is_feasible),
        ("diverges", WITHOUT, diverging, diverged_or_dead),
        ("rescued by the warmup", WITH, rescued, _is_feasible),
    ]
    places = {rate: point for point, (here, rate) in enumerate(points_of(spec)) if here == place}
    found = []
    for name, phase, rate, fits in wanted:
        if rate is None:
            continue
        runs = outcomes_of(spec, results, phase, place).rates[rate]
        run = next(run for run in runs if fits(run))
        found.append(ShownRun(f"{rate:g}, {name}", phase, places[rate], run))
    return found


def _is_feasible(run: Run) -> bool:
    return run.feasible


def again(spec: CurvatureSweep, chosen: Sequence[ShownRun]) -> list[Wish]:
    """The chosen runs once more, under the same seed, so that they train the same, and measured more often."""
    wishes = []
    for point, item in enumerate(chosen):
        missing = dict.fromkeys(name for name in spec.values if name not in item.run.plan.hyperparameters)
        changes = {**missing, **item.run.plan.hyperparameters}
        steps = _often(spec, item)
        curvature = settings_at(spec, steps, dict(item.run.plan.hyperparameters))
        training = {name: value for name, value in item.run.plan.training.items() if name != "curvature"}
        wishes.append(Wish(SHOWN, point, item.run.plan.repeat, changes, training, curvature=curvature))
    return wishes


def _often(spec: CurvatureSweep, item: ShownRun) -> list[int]:
    warmup = warmup_steps(spec) if item.phase == WITH else 0
    total = trained_steps(spec) + warmup
    last = total
    if item.run.reason in ENDED_BY_NAN and item.run.infeasible_step is not None:
        last = min(total, item.run.infeasible_step)
    count = STEPS_PER_DECADE * len(str(last))
    even = {round(10 ** (len(str(last)) * index / count)) for index in range(count + 1)}
    near_the_end = range(max(0, last - EVERY_STEP), last + 1) if last < total else ()
    regular = measured_steps(total, compared_step(spec), warmup)
    steps = {*range(EVERY_STEP + 1), *even, *near_the_end, *regular}
    return sorted(step for step in steps if step <= last)
