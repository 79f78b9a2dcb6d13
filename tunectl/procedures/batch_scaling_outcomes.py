"""What became of a batch size: its best learning rate, the steps to the target, and how that compares with smaller
batches.

Deep Learning Tuning Playbook, "Choosing the batch size to minimize training time", after Shallue et al. 2018,
"Measuring the effects of data parallelism on neural network training" (arXiv 1811.03600): up to a critical batch size
twice the batch halves the steps to a target (perfect scaling), beyond it the returns diminish, and in the end there are
none.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tunectl.analysis.results.runs import Run
from tunectl.core.objective import Objective, first_step_reaching
from tunectl.procedures.batch_scaling_options import Candidate
from tunectl.procedures.curvature_runs import diverged_or_dead
from tunectl.procedures.procedure import majority

NEARLY_PERFECT = 0.7
"""Scaling is nearly perfect while the speed-up is at least this part of what perfect scaling would give: up to half a
doubling (1/sqrt(2)) is lost. McCandlish et al. 2018, "An empirical model of large-batch training" (arXiv 1812.06162),
put the critical batch where a half of it is lost (twice the examples); a first doubling without any effect loses as
much.
"""

USEFUL = 1.1
"""A larger batch is useful where it takes at least this many times fewer steps than every smaller one ..."""

CLEAR_ERRORS = 2.0
"""... and fewer by this many standard errors, from the spread of the seeds at all batch sizes ..."""

STILL = 3.0
"""The best rate does not move where it grows or falls by at most this factor, a step or two of the grid ..."""

FEWEST_MOVES = 8.0
"""... while the batch grows at least this much: with perfect scaling the rate would grow as much (Gilmer et al. 2021,
figure 6)."""


@dataclass(frozen=True)
class Tried:
    """A candidate at a batch size and its runs, one for each seed, with the steps after which each reached the target.

    `steps` are infinite for a run that did not reach it or is infeasible. `closest` is the best value that the first
    run reached, as a number to minimise.
    """

    candidate: Candidate
    runs: Sequence[Run]
    steps: Sequence[float]
    closest: float

    @property
    def median(self) -> float:
        """The median of the steps over the seeds; infinite where most did not reach the target."""
        return statistics.median(self.steps)

    @property
    def rank(self) -> tuple[float, ...]:
        """The lower the better: one that loses no seed first, then by the median of the steps, the worst seed, the
        best value, and the lower rate.
        """
        return float(math.isinf(max(self.steps))), self.median, max(self.steps), self.closest, self.candidate.rate


def tried_as(candidate: Candidate, runs: Sequence[Run], objective: Objective, target: float) -> Tried:
    """A candidate with what its runs, at least one, say about a target."""
    return Tried(candidate, runs, [_steps_to(run, objective, target) for run in runs], _closest(runs[0], objective))


@functools.lru_cache(maxsize=8192)
def _steps_to(run: Run, objective: Objective, target: float) -> float:
    if not run.feasible:
        return math.inf
    steps, values = run.curve(objective.metric)
    found = first_step_reaching([int(step) for step in steps], [float(v) for v in values], target, objective.direction)
    return math.inf if found is None else float(found)


@functools.lru_cache(maxsize=8192)
def _closest(run: Run, objective: Objective) -> float:
    """The best value after step 0 as a number to minimise; infinite for an infeasible run."""
    if not run.feasible:
        return math.inf
    pairs = zip(*run.curve(objective.metric), strict=True)
    return min((objective.metric_cost(float(value)) for step, value in pairs if step > 0), default=math.inf)


@dataclass(frozen=True)
class BatchOutcome:
    """What became of a batch size in a setting.

    `searched` are the candidates with their first run, `best` the best of those that ran under all seeds, None where
    none reached the target. `steps` is the length of its trials, `every` the distance of the evaluations of `best`.
    """

    batch_size: int
    searched: Sequence[Tried]
    best: Tried | None
    steps: int
    every: int

    @property
    def steps_to_target(self) -> float:
        """The median over the seeds of the best candidate; infinite where the target was not reached."""
        return math.inf if self.best is None else self.best.median

    @property
    def reached(self) -> bool:
        """Whether most seeds of the best candidate reached the target."""
        return math.isfinite(self.steps_to_target)

    @property
    def examples(self) -> float:
        """How many examples were trained on until the target."""
        return self.steps_to_target * self.batch_size

    @cached_property
    def step_seconds(self) -> float | None:
        """The median time of a step over all runs, None where it is not known."""
        runs = [run for item in self.searched for run in item.runs] + list(self.best.runs if self.best else ())
        times = [run.train_seconds / run.final_step for run in runs if run.train_seconds and run.final_step]
        return statistics.median(times) if times else None

    @property
    def train_examples(self) -> int | None:
        """The size of the training set, None where it is not known."""
        known = (run.train_examples for item in self.searched for run in item.runs)
        return next((count for count in known if count is not None), None)

    @property
    def edge(self) -> str:
        """`highest` or `lowest` where the best rate is that of all which were tried; "" where it is inside."""
        rates = {item.candidate.rate for item in self.searched}
        if self.best is None or len(rates) < 2:
            return ""
        rate = self.best.candidate.rate
        return "highest" if rate == max(rates) else "lowest" if rate == min(rates) else ""

    @property
    def largest_trained(self) -> float | None:
        """The largest rate that trained to the end."""
        return max((item.candidate.rate for item in self.searched if item.runs[0].feasible), default=None)

    @property
    def diverges_above(self) -> bool:
        """Whether a rate above the largest one that trained diverged."""
        trained = self.largest_trained
        return trained is not None and any(
            item.candidate.rate > trained and diverged_or_dead(item.runs[0]) for item in self.searched
        )

    @property
    def out_of_memory(self) -> bool:
        """Whether it does not fit into the memory."""
        return all(item.runs[0].reason == "out_of_memory" for item in self.searched)

    @property
    def why_not(self) -> str:
        """Why the target was not reached, in words; "" where it was."""
        if self.reached:
            return ""
        seeds = [math.isfinite(steps) for steps in self.best.steps] if self.best is not None else []
        if any(seeds):
            return f"reached by {sum(seeds)} of {len(seeds)} seeds in {self.steps:,} steps"
        reasons = {run.reason for item in self.searched for run in item.runs}
        if all(not item.runs[0].feasible for item in self.searched):
            return f"infeasible: {', '.join(sorted(reasons))}"
        return f"not reached in {self.steps:,} steps"


def reached(found: Sequence[BatchOutcome]) -> list[BatchOutcome]:
    """The batch sizes at which the target was reached."""
    return [item for item in found if item.reached]


def noise(found: Sequence[BatchOutcome]) -> float | None:
    """The standard deviation of the logarithm of the steps between seeds, pooled over the batch sizes.

    None where no batch size has two seeds that reached the target.
    """
    squares, freedom = 0.0, 0
    for item in found:
        logs = [math.log(steps) for steps in (item.best.steps if item.best else ()) if math.isfinite(steps)]
        if len(logs) > 1:
            squares += statistics.variance(logs) * (len(logs) - 1)
            freedom += len(logs) - 1
    return math.sqrt(squares / freedom) if freedom else None


def is_useful(found: Sequence[BatchOutcome], index: int) -> bool:
    """Whether a batch takes clearly fewer steps than every smaller one; the smallest that reaches the target does."""
    item, smaller = found[index], reached(found[:index])
    if not item.reached or not smaller:
        return item.reached
    best = min(smaller, key=lambda other: other.steps_to_target)
    ratio = best.steps_to_target / item.steps_to_target
    # The target may have been reached up to one interval of evaluations before it was seen.
    is_seen = item.steps_to_target <= best.steps_to_target - best.every
    deviation = noise(found) or 0.0
    seeds = [len(other.best.steps) for other in (item, best) if other.best is not None]
    error = deviation * math.sqrt(sum(1 / count for count in seeds))
    return is_seen and ratio >= USEFUL and math.log(ratio) >= CLEAR_ERRORS * error


@dataclass(frozen=True)
class Scaling:
    """How the steps to the target and the best rate of one setting change with the batch size.

    `found` are all batch sizes that were tried, `why_ended` says why no larger one was, in words. `throughput` are the
    seconds of a step by batch size as `batch-size` measured them; {} where it did not.
    """

    found: Sequence[BatchOutcome]
    why_ended: str = ""
    throughput: Mapping[int, float] = field(default_factory=dict)

    @cached_property
    def reached(self) -> list[BatchOutcome]:
        """The batch sizes at which the target was reached."""
        return reached(self.found)

    def speed_up(self, item: BatchOutcome) -> float | None:
        """How many times fewer steps it takes than the smallest batch that reached the target."""
        return self.reached[0].steps_to_target / item.steps_to_target if item.reached else None

    def perfect(self, item: BatchOutcome) -> float:
        """The speed-up with perfect scaling."""
        first = self.reached[0] if self.reached else self.found[0]
        return item.batch_size / first.batch_size

    @property
    def critical(self) -> BatchOutcome | None:
        """The last batch size up to which scaling is nearly perfect; None where the target was never reached."""
        last = None
        for item in self.reached:
            if (self.speed_up(item) or 0.0) < NEARLY_PERFECT * self.perfect(item):
                break
            last = item
        return last

    @property
    def largest_useful(self) -> BatchOutcome | None:
        """The largest batch size that takes clearly fewer steps than every smaller one."""
        places = reversed(range(len(self.found)))
        return next((self.found[place] for place in places if is_useful(self.found, place)), None)

    @property
    def is_timed_alone(self) -> bool:
        """Whether the times are those of `batch-size`, which trains alone: it measured every batch size in question."""
        return bool(self.reached) and all(item.batch_size in self.throughput for item in self.reached)

    def step_seconds(self, item: BatchOutcome) -> float | None:
        """The time of a step, as `batch-size` measured it, else in the trials; None where it is not known."""
        return self.throughput.get(item.batch_size) if self.is_timed_alone else item.step_seconds

    def seconds(self, item: BatchOutcome) -> float | None:
        """The time of training to the target: the time of a step times the steps; None where it is not known."""
        step = self.step_seconds(item)
        return item.steps_to_target * step if item.reached and step else None

    @property
    def fastest(self) -> BatchOutcome | None:
        """The batch size with the shortest training time, of equals the smaller; None where times are not known."""
        times = [(seconds, item) for item in self.reached if (seconds := self.seconds(item)) is not None]
        if not times or len(times) < len(self.reached):
            return None
        return min(times, key=lambda pair: (pair[0], pair[1].batch_size))[1]

    @property
    def batches(self) -> float:
        """The ratio of the largest and the smallest batch size that reached the target; 1 where there are not two."""
        return self.reached[-1].batch_size / self.reached[0].batch_size if self.reached else 1.0

    @property
    def growth(self) -> float | None:
        """How many times larger the best rate is at the largest batch than at the smallest; None without two."""
        rates = [item.best.candidate.rate for item in self.reached if item.best is not None]
        return rates[-1] / rates[0] if len(rates) > 1 else None

    @property
    def exponent(self) -> float | None:
        """The power of the batch size with which the best rate grows, by least squares over the logarithms."""
        points = [(math.log(i.batch_size), math.log(i.best.candidate.rate)) for i in self.reached if i.best]
        if len(points) < 2:
            return None
        return float(statistics.linear_regression(*zip(*points, strict=True)).slope)

    @property
    def rate_is_still(self) -> bool | None:
        """Whether the best rate does not move although the batch grows; None where too few batches say so."""
        if self.growth is None or self.batches < FEWEST_MOVES:
            return None
        return 1 / STILL <= self.growth <= STILL

    @property
    def is_curvature_limited(self) -> bool | None:
        """Whether the best rate does not move, and most often is the largest one that does not diverge.

        Gilmer et al. 2021, section 6: a diagnostic of a curvature so large that it limits the rate at any batch size.
        """
        if self.rate_is_still is None:
            return None
        at_limit = [
            item.diverges_above and item.best is not None and item.best.candidate.rate == item.largest_trained
            for item in self.reached
        ]
        return self.rate_is_still and majority(at_limit)
