"""Learning rates on a logarithmic grid, and what several seeds say about each."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tunectl.analysis.results.runs import Run
from tunectl.analysis.updates.instability import EARLY_FRACTION, UnstablePeriod, early_updates, instability
from tunectl.core.objective import Objective
from tunectl.procedures.procedure import Results, majority, runs_of

_DIGITS = 6

AT_EDGE = 5.0
"""The best rate is at the edge where training is unstable within this factor above it. The playbook looks at 5 and 10
times the best rate; noise of the seeds moves the best rate by a factor of 2 or 3.
"""


def log_grid(low: float, high: float, points: int) -> list[float]:
    """`points` rates from `low` to `high`, evenly on a logarithmic axis, to six significant digits; both ends exact."""
    if points < 2 or low == high:
        return [low]
    ratio = math.log(high / low) / (points - 1)
    inner = [rounded(low * math.exp(index * ratio)) for index in range(1, points - 1)]
    return [low, *inner, high]


def rounded(rate: float) -> float:
    """The rate to six significant digits: what a user reads is what was trained."""
    return float(f"{rate:.{_DIGITS - 1}e}")


@dataclass(frozen=True, slots=True)
class RateJudgement:
    """What the runs at one rate say, by majority.

    `value` is the median cost of the best values, infinite where most runs were infeasible; `best`
    is that median in the objective's own sign, None where it is not finite. `reasons` are the reasons of the infeasible
    runs, each once. `goes_up` says that the loss went up, not down, for a period in most runs, `is_lost` that own code
    ended worse than it began (see `with_lost`). `unstable_runs` is how many runs are infeasible or went up,
    `early` and `mid` how many became unstable early and later in training (one run may have done both).
    """

    rate: float
    runs: int
    value: float
    best: float | None
    feasible: bool
    goes_up: bool
    reasons: tuple[str, ...]
    is_lost: bool = False
    unstable_runs: int = 0
    early: int = 0
    mid: int = 0

    @property
    def when(self) -> str:
        """When its runs become unstable: "early", "mid-training", both (the more frequent first), or "" if unknown."""
        found = [(self.early, "early"), (self.mid, "mid-training")]
        return " and ".join(word for count, word in sorted(found, key=lambda pair: -pair[0]) if count)

    @property
    def stability(self) -> str:
        """How stable its runs are, in words for a table."""
        when = f" {self.when}" if self.when else ""
        if self.unstable:
            return f"unstable{when}: {self.instability}"
        return (
            f"stable, but {self.unstable_runs} of {self.runs} seeds unstable{when}" if self.unstable_runs else "stable"
        )

    @property
    def unstable(self) -> bool:
        """Whether most of its runs are infeasible, or go up for a period, or end where they began."""
        return not self.feasible or self.goes_up or self.is_lost or 2 * self.unstable_runs > self.runs

    @property
    def instability(self) -> str:
        """In which way it is unstable, in words; "" where it is stable."""
        if not self.feasible:
            return f"infeasible: {', '.join(self.reasons)}"
        if self.is_lost:
            return "it ends worse than the best rate begins"
        if self.goes_up:
            return "the loss goes up for a period"
        return f"the loss goes up for a period, or {', '.join(self.reasons)}" if self.unstable else ""


Onset = Literal["early", "mid"]


def judge_rate(rate: float, runs: Sequence[Run], objective: Objective, updates: int | None = None) -> RateJudgement:
    """The judgement of the runs at one rate under several seeds; `updates` are those of a trial that comes to its end,
    None where not every update is measured.
    """
    begins = [onsets(run, updates) for run in runs]
    value = statistics.median(run.cost(objective) for run in runs)
    best = None
    if math.isfinite(value):
        best = objective.value(value)
    return RateJudgement(
        rate=rate,
        runs=len(runs),
        value=value,
        best=best,
        feasible=majority([run.feasible for run in runs]),
        goes_up=majority([is_unstable(run) for run in runs]),
        reasons=tuple(dict.fromkeys(run.reason for run in runs if not run.feasible)),
        unstable_runs=sum(not run.feasible or is_unstable(run) for run in runs),
        early=sum("early" in found for found in begins),
        mid=sum("mid" in found for found in begins),
    )


def onsets(run: Run, updates: int | None) -> frozenset[Onset]:
    """When in its training a run became unstable: early, in the middle, or both; empty where neither is known.

    A period in which the loss is up counts by its begin; a value that is not finite out of nowhere by its update.
    """
    limit = early_updates(updates) if updates is not None else max(1, math.ceil(EARLY_FRACTION * len(run.updates)))
    begins = [period.start for period in _periods(run)]
    if not begins and not run.feasible and run.reason != "no_progress" and run.infeasible_step is not None:
        begins = [run.infeasible_step]
    return frozenset("early" if begin < limit else "mid" for begin in begins)


@functools.lru_cache(maxsize=1024)
def _periods(run: Run) -> tuple[UnstablePeriod, ...]:
    return tuple(instability(run.updates.loss, baseline=run.baseline_loss))


def is_unstable(run: Run) -> bool:
    """Whether the training loss of a run went up, not down, for a period."""
    return bool(_periods(run))


def judged(
    by_rate: Mapping[float, Sequence[Run]], objective: Objective, updates: int | None = None
) -> list[RateJudgement]:
    """The judgements, by rate; `updates` as in `judge_rate`."""
    return [judge_rate(rate, by_rate[rate], objective, updates) for rate in sorted(by_rate)]


def with_lost(
    judgements: Sequence[RateJudgement], by_rate: Mapping[float, Sequence[Run]], objective: Objective
) -> list[RateJudgement]:
    """The judgements of own code, whose few measurements do not show a dead network.

    A rate above the best one is lost where most of its runs end worse than the best rate's runs begin (the median of
    both), by the training loss, or by the objective where there is no training loss.
    """
    best = best_rate(judgements)
    begins = [] if best is None else [costs[0] for run in by_rate[best.rate] if (costs := _costs(run, objective))]
    if best is None or not begins:
        return list(judgements)
    limit = statistics.median(begins)

    def is_lost(item: RateJudgement) -> bool:
        ends = [costs[-1] for run in by_rate[item.rate] if run.feasible and (costs := _costs(run, objective))]
        return item.rate > best.rate and bool(ends) and statistics.median(ends) > limit

    return [replace(item, is_lost=is_lost(item)) for item in judgements]


def _costs(run: Run, objective: Objective) -> list[float]:
    """The training loss that own code gave, else the cost of the objective after step 0."""
    if len(run.updates.loss):
        return [float(value) for value in run.updates.loss]
    steps, values = run.curve(objective.metric)
    return [objective.metric_cost(float(value)) for step, value in zip(steps, values, strict=True) if step > 0]


def best_rate(judgements: Iterable[RateJudgement]) -> RateJudgement | None:
    """The feasible rate with the best value, of equals the smallest; None where none is feasible."""
    feasible = [item for item in judgements if item.feasible and math.isfinite(item.value)]
    return min(feasible, key=lambda item: (item.value, item.rate), default=None)


def next_unstable(judgements: Iterable[RateJudgement], above: float) -> RateJudgement | None:
    """The smallest unstable rate above another one; None where there is none."""
    return min((item for item in judgements if item.rate > above and item.unstable), key=lambda i: i.rate, default=None)


def runs_by_rate(results: Results, *phases: int) -> dict[float, list[Run]]:
    """The runs of some phases by their learning rate."""
    return by_rate(run for phase in phases for runs in runs_of(results, phase).values() for run in runs)


def by_rate(runs: Iterable[Run]) -> dict[float, list[Run]]:
    """The runs by their learning rate."""
    found: dict[float, list[Run]] = {}
    for run in runs:
        found.setdefault(float(run.plan.hyperparameters["learning_rate"]), []).append(run)
    return found


def why_apart(best: float, high: float) -> str:
    """Why a range test may miss the best rate of a sweep; which of the two holds."""
    if best > high:
        reason = (
            "in a range test the loss is lowest before that rate is reached, because lower rates have trained the "
            "network for hundreds of updates by then, to where the loss is sharper than where a run begins"
        )
    else:
        reason = (
            "a range test sees only what a rate does to the training loss within a few updates, not what it does to "
            "the whole of training"
        )
    return f"{reason}. The sweep trains in full: its result is the one to use."
