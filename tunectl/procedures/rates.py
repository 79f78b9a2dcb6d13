"""Learning rates on a logarithmic grid, and what several seeds say about each."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tunectl.analysis.instability import instability
from tunectl.analysis.runs import Run
from tunectl.core.objective import Objective
from tunectl.procedures.procedure import Results, majority, runs_of

_DIGITS = 6


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

    `value` is the median of the best values as a number to minimise, infinite where most runs were infeasible; `best`
    is that median in the objective's own sign, None where it is not finite. `reasons` are the reasons of the infeasible
    runs, each once. `goes_up` says that the loss went up, not down, for a period in most runs, `is_lost` that own code
    ended where training had better never begun (see `with_lost`).
    """

    rate: float
    runs: int
    value: float
    best: float | None
    feasible: bool
    goes_up: bool
    reasons: tuple[str, ...]
    is_lost: bool = False

    @property
    def unstable(self) -> bool:
        """Infeasible, or its loss goes up for a period, or ends where it began."""
        return not self.feasible or self.goes_up or self.is_lost

    @property
    def kind(self) -> str:
        """In which way it is unstable, in words; "" where it is stable."""
        if not self.feasible:
            return f"infeasible: {', '.join(self.reasons)}"
        if self.is_lost:
            return "it ends worse than the best rate begins"
        return "the loss goes up for a period" if self.goes_up else ""


def judge_rate(rate: float, runs: Sequence[Run], objective: Objective) -> RateJudgement:
    """The judgement of the runs at one rate under several seeds."""
    value = statistics.median(run.loss(objective) for run in runs)
    best = None
    if math.isfinite(value):
        best = value if objective.direction == "minimize" else -value
    return RateJudgement(
        rate=rate,
        runs=len(runs),
        value=value,
        best=best,
        feasible=majority([run.feasible for run in runs]),
        goes_up=majority([is_unstable(run) for run in runs]),
        reasons=tuple(dict.fromkeys(run.reason for run in runs if not run.feasible)),
    )


@functools.lru_cache(maxsize=1024)
def is_unstable(run: Run) -> bool:
    """Whether the training loss of a run went up, not down, for a period."""
    return bool(instability(run.updates.loss, baseline=run.baseline_loss))


def judged(by_rate: Mapping[float, Sequence[Run]], objective: Objective) -> list[RateJudgement]:
    """The judgements, by rate."""
    return [judge_rate(rate, by_rate[rate], objective) for rate in sorted(by_rate)]


def with_lost(
    judgements: Sequence[RateJudgement], by_rate: Mapping[float, Sequence[Run]], objective: Objective
) -> list[RateJudgement]:
    """The judgements of own code, which tells too little of its updates to see a dead network in them.

    A rate above the best one is lost where most of its runs end worse than the best rate's runs begin (the median of
    both), by the training loss, or by the objective where no training loss is told.
    """
    best = best_rate(judgements)
    begins = [] if best is None else [told[0] for run in by_rate[best.rate] if (told := _told(run, objective))]
    if best is None or not begins:
        return list(judgements)
    limit = statistics.median(begins)

    def is_lost(item: RateJudgement) -> bool:
        ends = [told[-1] for run in by_rate[item.rate] if run.feasible and (told := _told(run, objective))]
        return item.rate > best.rate and bool(ends) and statistics.median(ends) > limit

    return [replace(item, is_lost=is_lost(item)) for item in judgements]


def _told(run: Run, objective: Objective) -> list[float]:
    """The training loss that own code told, else the objective after step 0 as a number to minimise."""
    if len(run.updates.loss):
        return [float(value) for value in run.updates.loss]
    steps, values = run.curve(objective.metric)
    return [objective.loss(float(value)) for step, value in zip(steps, values, strict=True) if step > 0]


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
