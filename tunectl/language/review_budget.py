"""Warnings about the number of trials of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tunectl.core.errors import Problem
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, counted
from tunectl.language.review_context import Context, can_differ, scientific
from tunectl.space.hyperparameters import Hyperparameter

# The playbook's ladder for Adam (see optimizer_traits); we extend it by doubling for every further dimension.
_BUDGETS = (10, 25, 50)

FEWEST_TRIALS = 5
"""With fewer trials a setting is hardly tuned: which of its trials is best is mostly luck."""

_MOST_GRID_DIMENSIONS = 2
_UNEVEN = 2
"""Values are covered unevenly where one has more than this many times the trials of another."""


def affordable_dimensions(trials: int) -> int:
    """How many nuisance hyperparameters this many trials can tune: 1 below 10, 2 below 25, 3 below 50, 4 below 100."""
    dimensions, bound = 1, 0
    for bound in _BUDGETS:
        if trials < bound:
            return dimensions
        dimensions += 1
    while trials >= 2 * bound:
        bound *= 2
        dimensions += 1
    return dimensions


def too_many_dimensions(context: Context) -> list[Problem]:
    """A warning for more sampled hyperparameters than the number of trials can cover."""
    if context.spec.search.sampler in (
        "grid",
        "points",
        "bayesian",
    ):  # the last begins with the trials of another study
        return []
    worst: tuple[int, Problem] | None = None
    for setting, trials in zip(context.settings, context.trials, strict=True):
        dimensions = context.dimensions(setting)
        most = affordable_dimensions(trials)
        if dimensions > most and (worst is None or dimensions > worst[0]):
            message = (
                f"{counted(dimensions, 'nuisance hyperparameter')}{context.describe(setting)} on "
                f"{counted(trials, 'trial')}: this number of trials covers about {most}; "
                "raise trials, or fix the least sensitive ones"
            )
            worst = (dimensions, context.spec.problem(("search", "trials"), message))
    return [worst[1]] if worst else []


def unequal_dimensions(context: Context) -> list[Problem]:
    """A warning if settings with the same number of trials sample different numbers of hyperparameters."""
    if len(set(context.trials)) != 1 or len(context.settings) < 2:
        return []
    counts = [context.dimensions(setting) for setting in context.settings]
    if len(set(counts)) == 1:
        return []
    most, least = counts.index(max(counts)), counts.index(min(counts))
    message = (
        "settings with the same number of trials but different numbers of nuisance hyperparameters: "
        f"{max(counts)}{context.describe(context.settings[most])}, "
        f"{min(counts)}{context.describe(context.settings[least])}; the one with more is tuned less well; give all "
        "the same number, or raise trials"
    )
    return [context.spec.problem(("search", "trials"), message)]


def nothing_sampled(context: Context) -> list[Problem]:
    """A warning for several trials of a setting in which nothing is sampled."""
    trials = context.spec.search.trials or 1
    if (
        trials == 1
        or context.spec.search.sampler not in ("halton", "random")
        or any(item.has_coordinate and can_differ(item) for item in context.spec.hyperparameters)
    ):
        return []
    message = (
        f"nothing is sampled, so the {trials:,} trials of a setting differ only by their seed; leave trials out, or "
        "make something a nuisance"
    )
    return [context.spec.problem(("search", "trials"), message)]


def too_few_trials(context: Context) -> list[Problem]:
    """Several settings, each with so few trials that it cannot be optimised over its nuisance hyperparameters."""
    tuned = [
        trials for setting, trials in zip(context.settings, context.trials, strict=True) if context.dimensions(setting)
    ]
    if len(context.settings) < 2 or not tuned:
        return []
    least = min(tuned)
    if least >= FEWEST_TRIALS:
        return []
    each = f"{least} each" if set(context.trials) == {least} else f"{least} for one of them"
    message = (
        f"{counted(len(context.settings), 'setting')} share {counted(sum(context.trials), 'trial')}, {each}: too few "
        "to find good nuisance values in each, so that luck decides; compare fewer values, or give every setting at "
        f"least {FEWEST_TRIALS} trials"
    )
    return [context.spec.problem(("search", "trials"), message)]


def grid_in_many_dimensions(context: Context) -> list[Problem]:
    """Playbook, "What is the best search algorithm": a grid is acceptable in one or two dimensions."""
    if context.spec.search.sampler != "grid":
        return []
    dimensions = max((context.dimensions(setting) for setting in context.settings), default=0)
    if dimensions <= _MOST_GRID_DIMENSIONS:
        return []
    message = (
        f"a grid in {dimensions} nuisance dimensions: most of its trials differ only in what hardly matters, and each "
        "hyperparameter gets few different values; write sampler: halton, which covers each of them evenly"
    )
    return [context.spec.problem(("search", "sampler"), message)]


def uneven_coverage(context: Context) -> list[Problem]:
    """Scientific values with unequal numbers of trials: by chance with sampler random, by hand with points."""
    sampler = context.spec.search.sampler
    if sampler == "random":
        chance = [item for item in scientific(context.spec) if item.has_coordinate and can_differ(item)]
        return [context.warn(item, _by_chance(item)) for item in chance]
    if sampler != "points":
        return []
    names = dict.fromkeys(item.name for item in scientific(context.spec))
    problems = []
    for name in names:
        counts = _points_of(context, name)
        if len(counts) > 1 and max(counts.values()) > _UNEVEN * min(counts.values()):
            (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
            message = (
                f"the points cover {name} unevenly: {many} have {as_text(most)}, {few} {as_text(least)}, and the best "
                "of more trials is better by chance alone; list the same number of points for each value"
            )
            problems.append(context.spec.problem(("search", "points"), message))
    return problems


def _by_chance(item: Hyperparameter) -> str:
    return (
        f"random points cover the values of {item.name}, which is scientific, unevenly: by chance, some get several "
        "times the trials of others; write sampler: halton"
        + ("" if not item.sampled else ", or leave sampled: true out, so that every value is a setting")
    )


def _points_of(context: Context, name: str) -> Counter[Scalar]:
    """The number of listed points for each value of a scientific hyperparameter, including values without a point."""
    listed: list[Mapping[str, Scalar]] = list(context.spec.search.points)
    found: Counter[Scalar] = Counter()
    if all(name in point for point in listed):
        for item in context.spec.alternatives(name):
            found.update(dict.fromkeys(item.domain.listed or (), 0))
        found.update(point[name] for point in listed)
    return found
