"""The choice of a recipe, levers and a learning rate, that is safe under seeds that had no part in choosing it.

Near the edge of stability one seed in four may be lost, and the median of three does not show it. Their mean does: a
lost seed outweighs all others, and where none is lost it is less noisy than the worst of three. The recipe that was
chosen so was also lucky: the safest few run again under fresh seeds, and their worst there decides. A rate just below
one that loses seeds may lose one in twenty, which eight seeds do not show either: a lower one runs beside it, and is
taken unless it is clearly worse.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tunectl.analysis.results.runs import Run
from tunectl.core.objective import Objective
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, short_number
from tunectl.procedures.levers import Levers
from tunectl.procedures.procedure import SEEDS, AnySweep, Results, Wish, runs_of
from tunectl.procedures.rate_judgements import rounded, runs_by_rate

CANDIDATES = 3
"""Recipes of each kind, with and without a lever, that are run again under fresh seeds: as many of each, since the best
of more looks better by chance.
"""

FRESH_SEEDS = 5
"""Where one seed in four is lost, three seeds do not show it in 42 of 100 cases; these and the sweep's three in 10."""

FRESH = range(SEEDS, SEEDS + FRESH_SEEDS)
"""The repeats whose seeds no sweep has used."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A learning rate and the levers that go with it, adopted as a whole or not at all."""

    levers: Levers
    rate: float

    def is_of(self, run: Run) -> bool:
        """Whether a run is one of this recipe: a folder may hold those of an earlier way to choose."""
        values = run.plan.hyperparameters
        return all(
            # Own code may not take what is changed.
            name not in values if value is None else values.get(name, value) == value
            for name, value in self.changes.items()
        )

    @property
    def changes(self) -> dict[str, Scalar | None]:
        """What a trial of it changes."""
        return {**self.levers.changes, "learning_rate": self.rate}

    def settings(self, spec: AnySweep) -> dict[str, Scalar | None]:
        """The hyperparameters to adopt, the rate first: what a trial of it changes, without what the study leaves at
        the same default. None is one that the study gives and the recipe goes without.
        """
        changes = self.levers.changes
        found: dict[str, Scalar | None] = {"learning_rate": self.rate}
        found |= {name: value for name, value in changes.items() if value is not None}
        if "warmup" in changes and spec.values.get("warmup", "prepend") != "prepend":
            found["warmup"] = "prepend"
        if "post_warmup_steps" in changes and spec.values.get("post_warmup_steps", 0):
            found["post_warmup_steps"] = 0
        if "grad_clip_norm" in changes and changes["grad_clip_norm"] is None and "grad_clip_norm" in spec.values:
            found["grad_clip_norm"] = None
        return found


@dataclass(frozen=True, slots=True)
class Judged:
    """A recipe and its runs under fresh seeds."""

    recipe: Recipe
    runs: Sequence[Run]

    @property
    def is_idle(self) -> bool:
        """Whether its threshold scaled no gradient down in any of its runs, which are then the same without it."""
        clip = self.recipe.levers.clip
        clipped = [run.updates.clipped for run in self.runs]
        return clip is not None and math.isfinite(clip) and all(len(item) and not item.any() for item in clipped)

    def settings(self, spec: AnySweep) -> dict[str, Scalar | None]:
        """The hyperparameters to adopt, as `Recipe.settings`, without a threshold that is idle."""
        levers = replace(self.recipe.levers, clip=math.inf) if self.is_idle else self.recipe.levers
        return replace(self.recipe, levers=levers).settings(spec)

    def costs(self, objective: Objective) -> list[float]:
        """The cost of the best value of each run, infinite for an infeasible one."""
        return [run.cost(objective) for run in self.runs]

    def median(self, objective: Objective) -> float | None:
        """The median of the best values in the objective's own sign, None where most runs were infeasible."""
        return _median(self.runs, objective)

    def in_words(self, objective: Objective) -> str:
        """What each run reached, at which rate and with which warmup."""
        values = [
            short_number(run.best_value)
            if run.best_value is not None and math.isfinite(run.cost(objective))
            else run.reason or "no finite value"
            for run in self.runs
        ]
        return f"{', '.join(values)} at {self.recipe.rate:g} {self.recipe.levers.in_words}"

    def is_cautious(self, best: Judged, objective: Objective) -> bool:
        """Whether the rate is lower than the best one's, no seed is lost, and the values are not clearly worse."""
        mine, theirs = self.costs(objective), best.costs(objective)
        if self.recipe.rate >= best.recipe.rate or not all(map(math.isfinite, (*mine, *theirs))):
            return False
        worse = [here - there for here, there in zip(mine, theirs, strict=True)]
        error = statistics.stdev(worse) / math.sqrt(len(worse)) if len(worse) > 1 else 0.0
        return statistics.fmean(worse) <= error

    def rank(self, objective: Objective) -> tuple[float, ...]:
        """The lower the better: by the worst seed, then the median; of equals the levers that change less, such as the
        shorter warmup, then the lower rate.
        """
        costs = self.costs(objective)
        return max(costs), statistics.median(costs), *self.recipe.levers.rank, self.recipe.rate


def candidates(results: Results, phases: Mapping[int, Levers], objective: Objective) -> list[Recipe]:
    """The recipes to run again: the safest few. Where the next rate above the first lost a seed, or was not even tried,
    the last of them makes room for the first at a lower rate, half a step of its sweep away from that edge.
    """
    found = safest(results, phases, objective)
    if not found:
        return []
    first = found[0]
    phase = next(phase for phase, levers in phases.items() if levers == first.levers)
    runs = runs_by_rate(results, phase)
    rates = sorted(runs)
    index = rates.index(first.rate)
    is_below_a_sound_one = index + 1 < len(rates) and all(run.feasible for run in runs[rates[index + 1]])
    if is_below_a_sound_one or len(rates) == 1:
        return found
    below = rates[index - 1] if index > 0 else first.rate**2 / rates[index + 1]
    return [first, Recipe(first.levers, rounded(math.sqrt(first.rate * below))), *found[1 : CANDIDATES - 1]]


def chosen(judged: Sequence[Judged], objective: Objective) -> Judged | None:
    """The best under fresh seeds, or one with the same levers and a lower rate that is not clearly worse.

    Clearly worse is by more than the standard error of the mean difference under the same seeds (the one-standard-error
    rule of Breiman et al. 1984, Classification and Regression Trees, 3.4.3: of models that cannot be distinguished,
    the more cautious). None where there are none.
    """
    best = min(judged, key=lambda item: item.rank(objective), default=None)
    if best is None:
        return None
    lower = [item for item in judged if item.recipe.levers == best.recipe.levers and item.is_cautious(best, objective)]
    return min(lower, key=lambda item: item.recipe.rate, default=best)


def safest(
    results: Results, phases: Mapping[int, Levers], objective: Objective, count: int = CANDIDATES
) -> list[Recipe]:
    """The recipes that are worth running again, the safest first; `phases` are those of the sweeps, with their levers.

    The safest of each sweep come first, then the safest of all the others. A rate is ranked by the mean of its seeds,
    in which a lost one is infinite, then by their median; where most of its seeds were lost, it is none.
    """
    ranked: list[tuple[tuple[float, ...], Recipe]] = []
    for phase, levers in phases.items():
        of_phase = []
        for rate, runs in runs_by_rate(results, phase).items():
            losses = [run.cost(objective) for run in runs]
            if math.isfinite(statistics.median(losses)):
                key = (statistics.fmean(losses), statistics.median(losses), *levers.rank, rate)
                of_phase.append((key, Recipe(levers, rate)))
        of_phase.sort(key=lambda item: item[0])
        ranked += [((float(index > 0), *key), recipe) for index, (key, recipe) in enumerate(of_phase)]
    return [recipe for _, recipe in sorted(ranked, key=lambda item: item[0])[:count]]


def fresh_repeats(spec: AnySweep) -> range:
    """The repeats whose seeds had no part in choosing, in this procedure or in those that it goes on from."""
    # lr-sweep confirms its best rate under FRESH and says so; it sweeps under SEEDS.
    used = spec.before.get("seeds_used", FRESH.stop if spec.before.get("confirmed") else SEEDS)
    return range(used, used + FRESH_SEEDS)


def fresh_runs(phase: int, recipes: Sequence[Recipe], repeats: range = FRESH) -> list[Wish]:
    """Each recipe under seeds that had no part in choosing it."""
    return [Wish(phase, point, repeat, recipe.changes) for point, recipe in enumerate(recipes) for repeat in repeats]


def judged_again(results: Results, phase: int, recipes: Sequence[Recipe]) -> list[Judged]:
    """The recipes with their runs under fresh seeds; those that have none are left out."""
    runs = runs_of(results, phase)
    return [
        Judged(recipe, runs[point])
        for point, recipe in enumerate(recipes)
        if point in runs and recipe.is_of(runs[point][0])
    ]


def is_safer(one: Judged, other: Judged | None, objective: Objective) -> bool:
    """Whether the worst seed of one is better than the other's worst, and its median better than the other's median.

    None is a recipe that loses every seed; one that loses a seed itself is never safer.
    """
    mine = one.rank(objective)[:2]
    theirs = other.rank(objective)[:2] if other is not None else (math.inf, math.inf)
    return all(here < there for here, there in zip(mine, theirs, strict=True))


def compared(spec: AnySweep, judged: Sequence[Judged | None]) -> list[dict[str, object]]:
    """What each recipe reached, for conclusion.json: its own settings beside its own values."""
    return [{"recipe": item.settings(spec), "best": item.median(spec.objective)} for item in judged if item is not None]


def recipe_lines(spec: AnySweep, recipe: Judged, other: Judged | None) -> str:
    """The lines of YAML to adopt, below comments that say by which runs, under which seeds, they were judged."""
    seeds = ", ".join(str(run.plan.seed) for run in recipe.runs)
    against = other.in_words(spec.objective) if other is not None else "no feasible rate without it"
    comments = [
        f"{spec.objective.metric}: {recipe.in_words(spec.objective)};",
        against,
        f"(one run for each of the seeds {seeds}, under which no recipe was chosen)",
    ]
    lines = [f"# {line}" for comment in comments for line in textwrap.wrap(comment, 78)]
    for name, value in recipe.settings(spec).items():
        lines.append(f"{name}: {as_text(value)}" if value is not None else f"# without {name}")
    return "\n".join(lines)


def sweep_rows(results: Results, phases: Sequence[int], objective: Objective) -> list[tuple[object, ...]]:
    """A row for each rate: the median of what each sweep reached there, or why most of its runs were infeasible."""
    sweeps = [runs_by_rate(results, phase) for phase in phases]
    rates = sorted({rate for sweep in sweeps for rate in sweep})
    return [(rate, *(_cell(sweep.get(rate, []), objective) for sweep in sweeps)) for rate in rates]


def _cell(runs: Sequence[Run], objective: Objective) -> object:
    if not runs:
        return None
    reasons = dict.fromkeys(run.reason for run in runs if not run.feasible)
    median = _median(runs, objective)
    return median if median is not None else f"infeasible: {', '.join(reasons)}"


def _median(runs: Sequence[Run], objective: Objective) -> float | None:
    loss = statistics.median(run.cost(objective) for run in runs)
    if not math.isfinite(loss):
        return None
    return objective.value(loss)
