"""Whether a study has searched with enough trials, and for which fixed values its conclusions are valid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tunectl.analysis.comparison.not_distinguishable import ENOUGH_POINTS, retrain_deviation
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.best_of_k import QUANTILES, BestOfK, best_by_budget, expected_gain_of_doubling
from tunectl.analysis.results.runs import Floats, Run
from tunectl.analysis.updates.infeasible_fraction import MANY
from tunectl.analysis.updates.stability_edge import of_setting_words, shown_value
from tunectl.core.objective import Objective
from tunectl.core.wording import counted, first_listed, short_number
from tunectl.space.domains import FixedValue
from tunectl.space.hyperparameters import Hyperparameter

WORTH_DOUBLING = 0.05
"""Twice as many trials are proposed where the expected gain is more than this part of what the search has gained, from
its median trial to its best one.
"""

_MOST_NAMED = 6
_MOST_SETTINGS = 8


def sampled_enough_findings(evidence: StudyEvidence) -> list[Finding]:
    """`sampled-enough`, a note for each setting with ended trials (of many settings, for the best ones): what fewer
    trials would have reached, and what twice as many are expected to gain.
    """
    deviation = retrain_deviation(evidence)
    ended = {setting: runs for setting, runs in evidence.by_setting.items() if runs}
    best = sorted(ended, key=lambda setting: (float(evidence.costs(ended[setting]).min()), setting))
    chosen = sorted(best[:_MOST_SETTINGS])
    return [_sampled_enough(evidence, setting, ended[setting], deviation) for setting in chosen]


def _sampled_enough(evidence: StudyEvidence, setting: int, runs: Sequence[Run], deviation: float | None) -> Finding:
    costs = evidence.costs(runs)
    by_budget, gain = best_by_budget(costs), expected_gain_of_doubling(costs)
    feasible = costs[np.isfinite(costs)]
    share = _share_of_gain(feasible, gain)
    enough = gain is not None and (share <= WORTH_DOUBLING or (deviation is not None and gain <= deviation))
    missed = sum(run.never_reached(evidence.objective) for run in runs)
    lost = len(costs) - len(feasible) - missed >= MANY * len(costs)
    changes = () if enough or lost else _more_trials(evidence, can_extrapolate=gain is not None)
    return Finding(
        id="sampled-enough",
        level="note",
        sentence=_budget_sentence(evidence, setting, runs, by_budget[-1], gain),
        action=_budget_action(evidence, gain, len(runs), enough=enough, lost=lost, can_change=bool(changes)),
        settings=(setting,),
        trials=tuple(run.plan.trial for run in evidence.ranked(runs)[:1]),
        numbers={
            "trials": len(runs),
            "feasible": len(feasible) + missed,
            **({"not_reached": missed} if missed else {}),
            "best": evidence.objective.value(float(feasible.min())) if len(feasible) else None,
            "expected_gain_of_doubling": gain,
            "share_of_gain": None if gain is None else share,
            "retrain_deviation": deviation,
            "enough": enough,
            "best_of_k": [_budget_numbers(evidence, item) for item in by_budget],
        },
        sureness="from the gains up to half of the trials" if gain is not None else "",
        command=evidence.continuing_command if changes else "",
        changes=changes,
    )


def _share_of_gain(feasible: Floats, gain: float | None) -> float:
    if gain is None or not len(feasible):
        return 0.0
    # In halves, because the difference of two huge values overflows.
    half_gained = float(np.median(feasible / 2) - feasible.min() / 2)
    return gain / 2 / half_gained if half_gained > 0 else 0.0


class _Words(NamedTuple):
    """The words for what trials reach: a value of the metric, or a target after some steps."""

    reached: str
    have_reached: str
    unit: str
    succeeded: str
    good_trial: str

    @classmethod
    def of(cls, objective: Objective) -> _Words:
        if objective.steps_to is None:
            return cls("reached", "reached", "", "is feasible", "feasible trial")
        return cls("took", "taken", " steps", f"reached {objective.target}", "trial that reached the target")


def _budget_sentence(
    evidence: StudyEvidence, setting: int, runs: Sequence[Run], half: BestOfK, gain: float | None
) -> str:
    costs, of_setting = evidence.costs(runs), of_setting_words(evidence, setting)
    count, words = len(costs), _Words.of(evidence.objective)
    missed = sum(run.never_reached(evidence.objective) for run in runs)
    if not np.isfinite(costs).any():
        unknown = "it is not known what more trials would find"
        return f"No trial{of_setting} {words.succeeded} ({counted(count, 'trial')}): {unknown}."
    start = f"The best of {counted(count, 'trial')}{of_setting} {words.reached} {_shown(evidence, float(costs.min()))}"
    start += f" ({missed} never reached {evidence.objective.target})" if missed else ""
    if count == 1:
        return f"{start}: one trial says nothing about what more trials would find."
    if gain is None and math.isfinite(half.median):  # what half of a few trials reach says nothing
        return f"{start}."
    ends = sorted(evidence.objective.value(half.quantiles[place]) for place in (0, -1))
    if math.isfinite(half.quantiles[-1]):
        spread = f"; half as many would have {words.have_reached} {_shown(evidence, half.median)}, in 9 of 10 cases "
        spread += f"between {short_number(ends[0])} and {short_number(ends[1])}"
    elif math.isfinite(half.median):
        spread = f"; half as many would have {words.have_reached} {_shown(evidence, half.median)} in half of all cases"
    else:
        spread = f"; half as many would mostly have found no {words.good_trial}"
    if gain is None:
        return f"{start}{spread}."
    return f"{start}{spread}. Twice as many are expected to gain {short_number(gain, 2)}{words.unit} (extrapolated)."


def _budget_action(
    evidence: StudyEvidence, gain: float | None, count: int, *, enough: bool, lost: bool, can_change: bool
) -> str:
    if lost:
        return "first fix what makes these trials infeasible: most further trials would be infeasible too"
    if enough:
        return "nothing to do: more trials are expected to gain little"
    how = "raise search.trials; the trials that exist are kept" if can_change else "add points to the search"
    if gain is None:
        good = _Words.of(evidence.objective).good_trial.replace("trial", "trials", 1)
        return f"there are too few {good} to say what more would gain: {how}"
    return f"double the {counted(count, 'trial')} if that gain is worth it: {how}"


def _budget_numbers(evidence: StudyEvidence, item: BestOfK) -> dict[str, Any]:
    named = zip(("low", "lower_quartile", "median", "upper_quartile", "high"), item.quantiles, strict=True)
    assert len(QUANTILES) == 5
    return {
        "trials": item.trials,
        "expected": _finite(evidence.objective.value(item.expected)),
        **{name: _finite(evidence.objective.value(cost)) for name, cost in named},
        "all_infeasible": item.all_infeasible,
    }


def _shown(evidence: StudyEvidence, cost: float) -> str:
    return f"{short_number(evidence.objective.value(cost))}{_Words.of(evidence.objective).unit}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _more_trials(evidence: StudyEvidence, *, can_extrapolate: bool) -> tuple[Change, ...]:
    """The change that doubles search.trials, or raises it to ENOUGH_POINTS; none where the points are a grid or written
    by hand.
    """
    search = evidence.spec.search
    if search.trials is None or search.sampler not in ("halton", "random"):
        return ()
    if not any(item.has_coordinate for item in evidence.spec.hyperparameters):
        return ()
    if not can_extrapolate and 2 * search.trials < ENOUGH_POINTS:
        reason = "with fewer trials the gain from more cannot be estimated"
        return (Change(("search", "trials"), ENOUGH_POINTS, reason),)
    return (Change(("search", "trials"), 2 * search.trials, "twice as many are expected to find a better one"),)


def not_improved_findings(evidence: StudyEvidence) -> list[Finding]:
    """`not-improved`, a note: no trial that a model proposed is better than the best one that it knew before."""
    objective, earlier = evidence.objective, evidence.earlier
    before = earlier.best(objective) if earlier is not None else None
    proposed = [run for run in evidence.searched if run.plan.suggestion]
    best = evidence.ranked(proposed)[:1]
    if earlier is None or before is None or not proposed:
        return []
    if best and best[0].cost(objective) < objective.cost(before.value):
        return []
    unit = _Words.of(objective).unit
    reached = f" ({short_number(best[0].best_value or 0.0)}{unit})" if best else ""
    return [
        Finding(
            id="not-improved",
            level="note",
            sentence=f"The best of {counted(len(proposed), 'proposed trial')}{reached} is no better than the best of "
            f"the {counted(len(earlier.trials), 'trial')} before: {short_number(before.value or 0.0)}{unit}, trial "
            f"{before.trial} of {before.folder}.",
            action="keep that trial; raise search.trials if there were few proposals",
            trials=tuple(run.plan.trial for run in best),
            numbers={"proposed": len(proposed), "best_before": before.value, "trial_before": before.trial},
            sureness="by the measured values",
        )
    ]


def fixed_caveat_findings(evidence: StudyEvidence) -> list[Finding]:
    """`fixed-caveat`, a note: the conclusions are valid only for the fixed values."""
    spec = evidence.spec
    fixed = [item for item in spec.hyperparameters if not item.varies]
    if not fixed or not evidence.searched:
        return []
    asked = list(dict.fromkeys(item.name for item in spec.hyperparameters if item.role == "scientific"))
    values = {item.key: item.domain.value for item in fixed if isinstance(item.domain, FixedValue)}
    listed = [f"{key}={shown_value(value)}" for key, value in values.items()]
    what = f"about {' and '.join(asked)} " if asked else ""
    return [
        Finding(
            id="fixed-caveat",
            level="note",
            sentence=f"What this study says {what}is valid for its fixed values: {first_listed(listed, _MOST_NAMED)}.",
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
            "make learning_rate a nuisance hyperparameter: nearly every change needs its own learning rate, and one "
            "fixed value favours the setting that it happens to suit"
        )
    return "repeat the study if you change one of them; tune those that may interact as nuisance hyperparameters"
