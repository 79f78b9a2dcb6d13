"""What the sweeps of warmup and clipping both conclude: one recipe, and what the next procedure goes on from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tunectl.analysis.results.runs import Run
from tunectl.procedures.levers import Levers, earlier
from tunectl.procedures.procedure import AnySweep, Results
from tunectl.procedures.rate_judgements import AT_EDGE, RateJudgement, judged, next_unstable, runs_by_rate, with_lost
from tunectl.procedures.recipes import Judged, Recipe, fresh_repeats


def going_on(
    spec: AnySweep,
    results: Results,
    best: Judged | None,
    bare: Judged | None,
    sweeps: Mapping[int, Levers],
    *,
    unstable: float | None = None,
) -> dict[str, Any]:
    """The answers by which another procedure goes on, named like those of lr-sweep.

    `recipe` is adopted where the best under fresh seeds is not the bare one, without the lever; else what was adopted
    before stays, and so do the rates. `at_boundary` says whether a rate above those of the sweep may be better, None
    where no rate was chosen; `seeds_used` is how many seeds have had a part in choosing. `sweeps` are the
    levers by phase. `unstable` is the unstable rate that the user gave.
    """
    if best is None or best is bare:
        return staying(spec, bare.recipe.rate if bare is not None else None, unstable=unstable)
    above = _unstable_above(spec, results, best.recipe, sweeps)
    return {
        "recipe": best.settings(spec),
        "adopt": True,
        "best_learning_rate": best.recipe.rate,
        "unstable_base_learning_rate": above.rate if above else None,
        "edge_of_stability": above is not None and above.rate <= AT_EDGE * best.recipe.rate,
        "at_boundary": best.recipe.rate > _second_highest(results, best.recipe, sweeps),
        "seeds_used": fresh_repeats(spec).stop,
    }


def staying(spec: AnySweep, rate: float | None = None, *, unstable: float | None = None) -> dict[str, Any]:
    """The same answers where nothing new is adopted; `rate` is the best one where none was known before."""
    known = earlier(spec)
    return {
        "recipe": spec.before.get("recipe"),
        "adopt": False,
        "best_learning_rate": known.best_rate if known.best_rate is not None else rate,
        "unstable_base_learning_rate": unstable or known.unstable_rate,
        "edge_of_stability": known.is_at_edge,
        "at_boundary": None,
        "seeds_used": fresh_repeats(spec).stop,
    }


def remarks(answers: Mapping[str, Any], best: Judged | None) -> list[str]:
    """Remarks on the recipe that was adopted, a sentence each."""
    if not answers["adopt"] or best is None:
        return []
    found = ["Its rate is the highest of the sweep: a higher one may be better."] if answers["at_boundary"] else []
    if best.is_idle:
        found.append("Its threshold clips no update and is left out of the recipe.")
    return found


def _unstable_above(
    spec: AnySweep, results: Results, recipe: Recipe, sweeps: Mapping[int, Levers]
) -> RateJudgement | None:
    """The smallest unstable rate above the recipe's in the sweep with its levers."""
    runs = _runs_of_sweep(results, recipe, sweeps)
    judgements = judged(runs, spec.objective)
    if spec.own_code:
        judgements = with_lost(judgements, runs, spec.objective)
    return next_unstable(judgements, recipe.rate)


def _second_highest(results: Results, recipe: Recipe, sweeps: Mapping[int, Levers]) -> float:
    """The rate next below the highest in the sweep with the recipe's levers, infinite where there is but one."""
    rates = sorted(_runs_of_sweep(results, recipe, sweeps))
    return rates[-2] if len(rates) > 1 else math.inf


def _runs_of_sweep(results: Results, recipe: Recipe, sweeps: Mapping[int, Levers]) -> dict[float, list[Run]]:
    return runs_by_rate(results, *(phase for phase, levers in sweeps.items() if levers == recipe.levers))
