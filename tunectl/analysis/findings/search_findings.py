"""What a study says about its search: whether it was wide enough, dense enough, and what its conclusions hold for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunectl.analysis.comparison.not_distinguishable import ENOUGH_POINTS, retrain_deviation, settings_findings
from tunectl.analysis.findings.finding_evidence import Evidence
from tunectl.analysis.findings.findings import Change, Finding, FindingFunctions
from tunectl.analysis.results.best_of_k import QUANTILES, BestOfK, best_by_budget, expected_gain_of_doubling
from tunectl.analysis.results.runs import Floats, Run
from tunectl.analysis.search.boundary import search_boundary_findings
from tunectl.analysis.search.insensitive import insensitive_findings
from tunectl.analysis.search.scientific_ends import scientific_end_findings
from tunectl.analysis.updates.stability_edge import (
    MANY,
    infeasible_fraction_findings,
    of_setting_words,
    shown_value,
    stability_edge_findings,
)
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.wording import as_text, counted, short_number
from tunectl.space.domains import FixedValue
from tunectl.space.hyperparameters import Hyperparameter

WORTH_DOUBLING = 0.05
"""Twice the trials are proposed where they are expected to gain more than this part of what the search has gained, from
its median trial to its best.
"""

_MOST_NAMED = 6
_MOST_SETTINGS = 8


def search_findings(evidence: Evidence) -> list[Finding]:
    """All findings about the search, the warnings first; what matters more stands earlier."""
    found = [finding for find in SEARCH_FINDINGS.values() for finding in find(evidence)]
    return sorted(found, key=lambda finding: finding.level != "warning")


def sampled_enough_findings(evidence: Evidence) -> list[Finding]:
    """`sampled-enough`, a note for each setting with ended trials, or for the best of many settings: what fewer trials
    would have reached, and what twice as many would be expected to gain.
    """
    deviation = retrain_deviation(evidence)
    ended = {setting: runs for setting, runs in evidence.by_setting.items() if runs}
    best = sorted(ended, key=lambda setting: (float(evidence.losses(ended[setting]).min()), setting))
    chosen = sorted(best[:_MOST_SETTINGS])
    return [_sampled_enough(evidence, setting, ended[setting], deviation) for setting in chosen]


def _sampled_enough(evidence: Evidence, setting: int, runs: Sequence[Run], deviation: float | None) -> Finding:
    losses = evidence.losses(runs)
    by_budget, gain = best_by_budget(losses), expected_gain_of_doubling(losses)
    feasible = losses[np.isfinite(losses)]
    share = _share(feasible, gain)
    enough = gain is not None and (share <= WORTH_DOUBLING or (deviation is not None and gain <= deviation))
    lost = len(losses) - len(feasible) >= MANY * len(losses)
    changes = () if enough or lost else _more_trials(evidence, can_extrapolate=gain is not None)
    return Finding(
        id="sampled-enough",
        level="note",
        sentence=_budget_sentence(evidence, setting, losses, by_budget[-1], gain),
        action=_budget_action(gain, len(runs), enough=enough, lost=lost, can_change=bool(changes)),
        settings=(setting,),
        trials=tuple(run.plan.trial for run in evidence.ranked(runs)[:1]),
        numbers={
            "trials": len(runs),
            "feasible": len(feasible),
            "best": _value(evidence, float(feasible.min())) if len(feasible) else None,
            "expected_gain_of_doubling": gain,
            "share_of_gain": None if gain is None else share,
            "retrain_deviation": deviation,
            "enough": enough,
            "best_of_k": [_budget_numbers(evidence, item) for item in by_budget],
        },
        sureness="extrapolated from the gains up to half of the trials" if gain is not None else "",
        command=tunectl_command("run", evidence.spec.label) if changes else "",
        changes=changes,
    )


def _share(feasible: Floats, gain: float | None) -> float:
    if gain is None or not len(feasible):
        return 0.0
    # By halves, as the whole distance of two huge values overflows.
    half_gained = float(np.median(feasible / 2) - feasible.min() / 2)
    return gain / 2 / half_gained if half_gained > 0 else 0.0


def _budget_sentence(evidence: Evidence, setting: int, losses: Floats, half: BestOfK, gain: float | None) -> str:
    count, of_setting = len(losses), of_setting_words(evidence, setting)
    if not np.isfinite(losses).any():
        return f"No trial{of_setting} is feasible ({counted(count, 'trial')}): what more would find is not known."
    best = _shown(evidence, float(np.min(losses)))
    start = f"The best of {counted(count, 'trial')}{of_setting} reached {best}"
    if count == 1:
        return f"{start}: of one trial nothing follows for more of them."
    if gain is None and math.isfinite(half.median):  # what half of a few trials give says nothing
        return f"{start}."
    ends = sorted(_value(evidence, half.quantiles[place]) for place in (0, -1))
    if math.isfinite(half.quantiles[-1]):
        spread = f"; half as many would have reached {_shown(evidence, half.median)}, in 9 of 10 cases between "
        spread += f"{short_number(ends[0])} and {short_number(ends[1])}"
    elif math.isfinite(half.median):
        spread = f"; half as many would have reached {_shown(evidence, half.median)} in the middle of all cases"
    else:
        spread = "; half as many would mostly have found no feasible trial"
    if gain is None:
        return f"{start}{spread}."
    return f"{start}{spread}. Twice as many would be expected to gain {short_number(gain, 2)}: an extrapolation."


def _budget_action(gain: float | None, count: int, *, enough: bool, lost: bool, can_change: bool) -> str:
    if lost:
        return "mend what makes so many trials infeasible first: more of the same would mostly be lost, too"
    if enough:
        return "none is due: more trials are expected to gain little"
    how = "raise search.trials; every trial there is stays" if can_change else "add points to the search"
    if gain is None:
        return f"too few feasible trials to say what more would gain: {how}"
    return f"double the {counted(count, 'trial')} if that gain is worth it: {how}"


def _budget_numbers(evidence: Evidence, item: BestOfK) -> dict[str, Any]:
    named = zip(("low", "lower_quartile", "median", "upper_quartile", "high"), item.quantiles, strict=True)
    assert len(QUANTILES) == 5
    return {
        "trials": item.trials,
        "expected": _finite(_value(evidence, item.expected)),
        **{name: _finite(_value(evidence, loss)) for name, loss in named},
        "all_infeasible": item.all_infeasible,
    }


def _value(evidence: Evidence, loss: float) -> float:
    """The objective's own value of a loss."""
    return evidence.objective.value(loss)


def _shown(evidence: Evidence, loss: float) -> str:
    return short_number(_value(evidence, loss))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _more_trials(evidence: Evidence, *, can_extrapolate: bool) -> tuple[Change, ...]:
    """The change that doubles search.trials, or raises it to what is enough to say something; none where the points are
    a grid or written by hand.
    """
    search = evidence.spec.search
    if search.trials is None or search.sampler not in ("halton", "random"):
        return ()
    if not any(item.has_coordinate for item in evidence.spec.hyperparameters):
        return ()
    if not can_extrapolate and 2 * search.trials < ENOUGH_POINTS:
        return (Change(("search", "trials"), ENOUGH_POINTS, "fewer say little about what more would find"),)
    return (Change(("search", "trials"), 2 * search.trials, "twice as many are expected to find a better one"),)


def fixed_caveat_findings(evidence: Evidence) -> list[Finding]:
    """`fixed-caveat`, a note: which conclusions hold only for the values fixed."""
    spec = evidence.spec
    fixed = [item for item in spec.hyperparameters if not item.varies]
    if not fixed or not evidence.searched:
        return []
    asked = list(dict.fromkeys(item.name for item in spec.hyperparameters if item.role == "scientific"))
    values = {item.key: item.domain.value for item in fixed if isinstance(item.domain, FixedValue)}
    listed = [f"{key}={_of_fixed(value)}" for key, value in values.items()]
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    what = f"about {' and '.join(asked)} " if asked else ""
    return [
        Finding(
            id="fixed-caveat",
            level="note",
            sentence=f"What this study says {what}holds for the values that are fixed: "
            f"{', '.join(listed[:_MOST_NAMED])}{more}.",
            action=_caveat_action(asked, fixed),
            hyperparameters=tuple(values),
            numbers={"fixed": dict(values), "scientific": asked},
            sureness="by design",
        )
    ]


def _caveat_action(asked: Sequence[str], fixed: Sequence[Hyperparameter]) -> str:
    names = {item.name for item in fixed}
    if asked and "learning_rate" in names:
        return (
            "make learning_rate a nuisance hyperparameter: nearly every change wants its own, and one value for all "
            "settings favours the one that it happens to suit"
        )
    return "ask again where one of them is to be changed; make those that may interact nuisances"


def _of_fixed(value: Any) -> str:
    return shown_value(value) if isinstance(value, float) else as_text(value)


SEARCH_FINDINGS: FindingFunctions = {
    "infeasible-fraction": infeasible_fraction_findings,
    "stability-edge": stability_edge_findings,
    "search-boundary": search_boundary_findings,
    "search-boundary of the scientific hyperparameters": scientific_end_findings,
    "settings-not-distinguishable": settings_findings,
    "sampled-enough": sampled_enough_findings,
    "insensitive": insensitive_findings,
    "fixed-caveat": fixed_caveat_findings,
}
