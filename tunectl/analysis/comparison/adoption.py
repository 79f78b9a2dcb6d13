"""What the retrains of one best trial cannot show: another search, and another validation set.

Deep Learning Tuning Playbook, "Determining whether to adopt a training pipeline change or hyperparameter
configuration": beside the *trial variance* of retrains there are the *study variance*, between searches with other
points, and the *data collection and sampling variance*, between validation sets.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunectl.analysis.comparison.comparison import (
    FEWEST_RETRAINS,
    FIRST_RETRAINS,
    LEVEL,
    NOT_REACHED,
    POWER,
    Candidate,
    Comparison,
    detectable_difference,
    smallest_p,
)
from tunectl.analysis.results.runs import LARGEST
from tunectl.core.objective import Objective
from tunectl.core.wording import short_number

_NORMAL = statistics.NormalDist()
_WHOLE = 1e-3
"""A rate times the number of examples is a count if it is this near to a whole number: averages are float64."""


@dataclass(frozen=True, slots=True)
class RetrainLimits:
    """What the numbers of retrains can show at all.

    `smallest_p` is the smallest p-value that they can give. `detectable` has, for numbers of retrains of each, the
    difference of the means that is found with POWER; empty where the deviation of retrains is not known, or 0.
    """

    old: int
    new: int
    smallest_p: float
    detectable: tuple[tuple[int, float], ...] = ()

    @property
    def can_decide(self) -> bool:
        """Whether they can give any verdict but `not enough evidence`."""
        return self.smallest_p <= LEVEL

    @property
    def sentences(self) -> tuple[str, ...]:
        """What they cannot show, and what more of them would show, in words."""
        found = []
        if not self.can_decide:
            found.append(
                f"{self.old} and {self.new} retrains can never decide: where all of one are better than all of the "
                f"other, chance alone gives that with p = {self.smallest_p:.3g}, and {LEVEL:g} is needed"
            )
        if self.detectable:
            shown = " and ".join(f"{count} of each about {short_number(size, 2)}" for count, size in self.detectable)
            found.append(f"the difference that retrains find in {POWER:.0%} of cases: with {shown}")
        return tuple(found)


def retrain_limits(old: Candidate, new: Candidate) -> RetrainLimits | None:
    """What the retrains of two candidates can show; None where one has none."""
    if not old.costs or not new.costs or old.identical or new.identical:
        return None
    known = [item.retrain_deviation for item in (old, new) if item.retrain_deviation]
    deviation = math.sqrt(statistics.fmean([value**2 for value in known])) if known else 0.0
    sizes = [(count, detectable_difference(count, deviation)) for count in (FEWEST_RETRAINS, FIRST_RETRAINS)]
    detectable = tuple((count, size) for count, size in sizes if size)
    counts = (len(old.costs), len(new.costs))
    return RetrainLimits(*counts, smallest_p(*counts), detectable)


@dataclass(frozen=True, slots=True)
class StudyVariance:
    """How much the best of a search differs between searches with other points, and whether a difference is larger.

    `old` and `new` are the numbers of searches. `deviation` is the standard deviation of a search's best, beyond what
    its retrains differ by, 0 where retrains explain all of it. `p_better` is how often searches differ so much in this
    direction by chance (one-sided t-test over the searches' means). `more` is the number of searches of each with which
    a difference as large as this one would be found, None if there is none to find.
    """

    old: int
    new: int
    deviation: float
    p_better: float
    more: int | None

    @property
    def sentence(self) -> str:
        """What is known of other searches, in words."""
        luck = f"differ by a standard deviation of {short_number(self.deviation, 2)} more than their retrains"
        return (
            f"{self.old} and {self.new} searches {luck if self.deviation else 'differ no more than their retrains'}; "
            f"chance alone gives such a difference between them with p = {self.p_better:.3g}"
        )

    @property
    def is_enough(self) -> bool:
        """Whether the difference is larger than that between searches."""
        return self.p_better <= LEVEL


def study_variance(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> StudyVariance | None:
    """The variance between searches; each search is given by the costs of the retrains of its best trial.

    A search is one observation, the mean of these: its own retrains all share the luck of its points. Both sides are
    taken to vary alike. None where neither side was searched twice, or a retrain has no value.
    """
    freedom = len(old) + len(new) - 2
    groups = [*old, *new]
    if freedom < 1 or not (old and new) or not all(group and max(map(abs, group)) < NOT_REACHED for group in groups):
        return None
    means = [[statistics.fmean(group) for group in side] for side in (old, new)]
    variance = sum(statistics.variance(side) * (len(side) - 1) for side in means if len(side) > 1) / freedom
    difference = statistics.fmean(means[0]) - statistics.fmean(means[1])
    repeated = [group for group in groups if len(group) > 1]
    within = 0.0
    if repeated:
        degrees = sum(len(group) - 1 for group in repeated)
        pooled = sum(statistics.variance(group) * (len(group) - 1) for group in repeated) / degrees
        within = pooled * statistics.fmean([1 / len(group) for group in groups])
    return StudyVariance(
        len(old),
        len(new),
        deviation=math.sqrt(max(variance - within, 0.0)),
        p_better=_t_test(difference, variance * (1 / len(old) + 1 / len(new)), freedom),
        more=_searches_needed(difference, variance, max(len(old), len(new))),
    )


def _t_test(difference: float, error_variance: float, freedom: int) -> float:
    from scipy import stats

    if error_variance == 0:
        return 0.0 if difference > 0 else 1.0
    return float(stats.t.sf(difference / math.sqrt(error_variance), freedom))


def _searches_needed(difference: float, variance: float, had: int) -> int | None:
    """The number of searches of each with which the t-test finds the difference, with POWER; more than there were."""
    if difference <= 0:
        return None
    apart = (_NORMAL.inv_cdf(1 - LEVEL) + _NORMAL.inv_cdf(POWER)) ** 2 * 2 * variance / difference**2
    # One more, as the t quantiles of few degrees of freedom are larger than the normal ones.
    return None if apart >= LARGEST else max(math.ceil(apart) + 1, had + 1)


def weighed_with_searches(found: Comparison, variance: StudyVariance | None) -> Comparison:
    """The verdict where a study was searched with several seeds: adopt only what is beyond the luck of a search."""
    if variance is None or found.verdict != "adopt" or variance.is_enough:
        return found
    reason = (
        f"its retrains are better (p = {found.p_better:.3g}), but searches with other points differ as much "
        f"(p = {variance.p_better:.3g} with {variance.old} and {variance.new} searches)"
    )
    return replace(found, verdict="not enough evidence", reason=reason)


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """What the size of the validation set says about a difference of two rates on it.

    `examples` is its size, `better` the improvement as a number of examples. Another validation set of this size
    changes the improvement by a standard deviation between `least`, where one model's mistakes are among the other's,
    and `most`, where they are independent.
    """

    examples: int
    better: float
    least: float
    most: float

    @property
    def is_enough(self) -> bool:
        """Whether that number of examples could show a difference: a sign test's best is that none contradicts it."""
        return self.better >= -math.log2(LEVEL)

    @property
    def sentence(self) -> str:
        """What it says, in words."""
        what = "improvement" if self.better >= 0 else "loss"
        small = "" if self.is_enough or self.better <= 0 else ", too few to adopt whatever the retrains"
        return (
            f"the {what} is {short_number(abs(self.better), 2)} of {self.examples:,} validation examples{small}; "
            f"another validation set of this size would change it by {short_number(self.least, 2)} to "
            f"{short_number(self.most, 2)} (standard deviation, if mistakes are shared or independent)"
        )


def validation_set(
    examples: int, old: Sequence[float], new: Sequence[float], improvement: float
) -> ValidationSet | None:
    """The binomial variance of two rates over `examples` validation examples each.

    `old` and `new` are values of the metric; it is such a rate, of an error or an accuracy, where each value is a count
    divided by `examples`. None where one is not: the variance of such a metric is not known.
    """
    values = [*old, *new]
    if not old or not new or not all(0 <= value <= 1 and _is_count(value, examples) for value in values):
        return None
    one, other = statistics.fmean(old), statistics.fmean(new)
    apart = abs(one - other)
    shared = math.sqrt(max(apart - apart**2, 0.0) / examples)
    independent = math.sqrt((one * (1 - one) + other * (1 - other)) / examples)
    return ValidationSet(examples, improvement * examples, min(shared, independent), max(shared, independent))


def validation_of(
    objective: Objective, sides: Sequence[Sequence[float]], examples: int | None, found: Comparison
) -> ValidationSet | None:
    """What the size of the validation set says about a comparison of the costs `sides`, those of the old side first.

    `examples` is the number of examples on which both were measured, None where they differ, or it is not known.
    """
    if objective.steps_to is not None or found.improvement is None or not examples:
        return None
    old, new = ([objective.value(cost) for cost in costs] for costs in sides)
    return validation_set(examples, old, new, found.improvement)


def _is_count(value: float, examples: int) -> bool:
    return abs(value * examples - round(value * examples)) <= _WHOLE


def weighed_with_examples(found: Comparison, validation: ValidationSet | None) -> Comparison:
    """The verdict where the size of the validation set is known: it must be able to show the improvement."""
    if validation is None or found.verdict != "adopt" or validation.is_enough:
        return found
    reason = (
        f"its retrains are better (p = {found.p_better:.3g}), but only by {short_number(validation.better, 2)} of "
        f"{validation.examples:,} validation examples, too few to say that other examples would show it"
    )
    return replace(found, verdict="not enough evidence", reason=reason)
