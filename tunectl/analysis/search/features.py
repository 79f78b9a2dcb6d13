"""`feature-without-gain`: a part of the training pipeline that can be turned off, and that the trials do not need.

Deep Learning Tuning Playbook, "Exploration vs exploitation": "identify features that don't help and therefore can be
removed, reducing the complexity of future experiments". That a feature does not help is said only where the trials of
both sides are enough to compare them, and more trials would not decide it soon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunectl.analysis.comparison.not_distinguishable import ENOUGH_POINTS, MOST_TIMES, by_point, by_retrains
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.paired_best import PREFERRED, PairedBest, paired_best
from tunectl.analysis.search.regularisers import off_value_of
from tunectl.analysis.updates.stability_edge import shown_value
from tunectl.core.records import Scalar
from tunectl.space.domains import same
from tunectl.space.hyperparameters import Hyperparameter

MOST_WINS_ON = 0.8
"""Where the feature wins more of the draws than this, it may help, although more trials would not soon decide it: of
features that help by as much as the noise of a trial a sixth would be called useless.
"""


def feature_without_gain_findings(evidence: StudyEvidence) -> list[Finding]:
    """`feature-without-gain`, a note for each scientific hyperparameter that is no better on than off."""
    found = []
    for item in evidence.spec.hyperparameters:
        off = off_value_of(item) if item.makes_settings else None
        if off is None:
            continue
        compared = _compared(evidence, item, off)
        if compared and all(_no_gain(evidence, pair, result) for pair, result in compared.items()):
            found.append(_finding(evidence, item, off, compared))
    return found


def fixed_entry(item: Hyperparameter, value: Scalar) -> dict[str, Any]:
    """The hyperparameter's entry in a study file with one value, under the same condition."""
    when = {name: values[0] if len(values) == 1 else list(values) for name, values in item.when.items()}
    return {"role": "fixed", **({"when": when} if when else {}), "value": value}


def _compared(evidence: StudyEvidence, item: Hyperparameter, off: Scalar) -> dict[tuple[int, int], PairedBest | None]:
    """The settings with the feature off against those that differ in it alone, by (off, on)."""
    below = {other.name for other in evidence.spec.hyperparameters if item.name in other.when}
    pairs: dict[tuple[int, int], PairedBest | None] = {}
    for without, values in evidence.settings.items():
        if item.name not in values or not same(values[item.name], off):
            continue
        for setting, others in evidence.settings.items():
            if setting != without and differ_in(values, others) - below == {item.name}:
                pairs[without, setting] = paired_best(by_point(evidence, without), by_point(evidence, setting))
    return pairs


def differ_in(values: Mapping[str, Scalar], others: Mapping[str, Scalar]) -> set[str]:
    """The names of the scientific values in which two settings differ; one of them may have no value of it."""
    names = values.keys() | others.keys()
    return {name for name in names if name not in values or name not in others or not same(values[name], others[name])}


def _no_gain(evidence: StudyEvidence, pair: tuple[int, int], found: PairedBest | None) -> bool:
    """Whether there is no sign that the second setting is better, and enough trials that there might be one."""
    if found is None or found.points < ENOUGH_POINTS or 1 - found.wins > MOST_WINS_ON:
        return False
    best = [evidence.ranked(evidence.by_setting.get(setting, ()))[:1] for setting in pair]
    if not best[0]:
        return False
    again = by_retrains(evidence, best[1][0], best[0][0]) if best[1] else None
    if again is not None and again.verdict != "not enough evidence":
        # With the feature on first: it is adopted in place of that with the feature off, or not.
        return again.verdict == "do not adopt"
    return found.wins >= PREFERRED or found.times is None or found.times > MOST_TIMES


def _finding(
    evidence: StudyEvidence, item: Hyperparameter, off: Scalar, compared: Mapping[tuple[int, int], PairedBest | None]
) -> Finding:
    known = {pair: found for pair, found in compared.items() if found is not None}
    points, wins = min(found.points for found in known.values()), [found.wins for found in known.values()]
    worse = min(wins) >= PREFERRED
    is_parent = any(item.name in other.when for other in evidence.spec.hyperparameters)
    by_hand = evidence.spec.search.sampler == "points" or is_parent
    what = "is worse with every other value" if worse else "is no better with any other value"
    return Finding(
        id="feature-without-gain",
        level="note",
        sentence=f"The best of {points} trials {what} of {item.key} than with {shown_value(off)}, where it is off: it "
        "does not help here.",
        action=f"leave it out in the next round ({item.key} fixed at {shown_value(off)}): the pipeline becomes simpler",
        settings=tuple(dict.fromkeys(setting for pair in known for setting in pair)),
        hyperparameters=(item.key,),
        numbers={
            "off": off,
            "points": points,
            "wins_of_off": {on: found.wins for (_, on), found in known.items()},
        },
        sureness=f"off wins {min(wins):.0%} of the draws of {next(iter(known.values())).k} of {points} points, or more",
        changes=() if by_hand else (Change(item.path, fixed_entry(item, off), "it does not help"),),
    )
