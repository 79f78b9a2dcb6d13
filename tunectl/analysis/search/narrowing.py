"""`range-too-wide`: the best trials lie close together, well inside a range, which the next round can make narrower.

Deep Learning Tuning Playbook, "Exploration vs exploitation": "narrow our search spaces around the optimal value to
improve tuning efficiency". A range is narrowed only as far as the next round could still show that it went wrong: the
part where the best trials lie keeps a margin on both sides, so wide that the crowding test of an end does not take a
best place there for one at the end, and the other way round finds it where it lies beyond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunectl.analysis.comparison.setting_axes import SettingAxis
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.runs import Floats
from tunectl.analysis.search.boundary import crowded_ends
from tunectl.analysis.search.crowding import family_wise
from tunectl.analysis.search.widening import rounded
from tunectl.analysis.updates.stability_edge import search_places, shown_value
from tunectl.core.errors import PathKey
from tunectl.core.wording import counted
from tunectl.space.domains import Range

FEWEST_TO_NARROW = 16
"""With fewer trials the best ones are too few to say where the others are worse."""

SURE_OPTIMUM = 0.01
"""The chance, over all hyperparameters, that as many of the trials lie as close together by accident."""

BEST_PART, FEWEST_BEST, MOST_BEST = 0.2, 5, 10
"""The best fifth of the trials, at least five and at most ten: of many trials a fifth is no small part of the range."""

CLEAR_OF_END = 0.28
"""The margin on both sides, as a part of the new range: a best place further from an end is never a crowd there, see
`crowding.NEARNESS`.
"""

NARROWEST_STEP = 0.25
"""A round makes a range at most four times as narrow: the trial that shows an error of more is not planned then."""

WORTH_NARROWING = 0.7
"""A range that would keep more than this part of its width stays as it is."""

_SHORT_ENOUGH = 0.02
"""A new end is rounded if this moves it by at most this part of the range."""


@dataclass(frozen=True, eq=False)
class BestPart:
    """The part of an axis, from `low` to `high`, in which the best trials of a setting lie.

    `best` is their number, `chance` how often as many of these trials, drawn at random, lie as close together.
    """

    axis: SettingAxis
    low: float
    high: float
    best: int
    chance: float


def range_too_wide_findings(evidence: StudyEvidence) -> list[Finding]:
    """`range-too-wide`, a note for each range whose best trials are close together, in every setting that has it."""
    places = search_places(evidence)
    crowded = {crowd.axis.hyperparameter.path for crowd in crowded_ends(places)}
    nearest = [edge for edge in places.edges if edge.is_next_to_the_best(len(places.edges))]
    crowded |= {path for edge in nearest for path, _, _ in edge.ends}
    by_path: dict[PathKey, list[SettingAxis]] = {}
    for axis in places.axes:
        if isinstance(axis.hyperparameter.domain, Range):
            by_path.setdefault(axis.hyperparameter.path, []).append(axis)
    found: dict[PathKey, list[BestPart]] = {}
    for path, axes in by_path.items():
        parts = [best_part(axis) for axis in axes]
        # A range is that of all its settings: where the best place of one is not known, nothing is cut off.
        sure = [part for part in parts if part is not None and family_wise(part.chance, len(by_path)) <= SURE_OPTIMUM]
        if path not in crowded and len(sure) == len(parts):
            found[path] = sure
    narrowed = {path: new for path, parts in found.items() if (new := _narrower(parts)) is not None}
    inside = _inside(evidence, narrowed)
    return [_finding(evidence, found[path], new, inside, len(by_path)) for path, new in narrowed.items()]


def best_part(axis: SettingAxis) -> BestPart | None:
    """Where the best of a setting's trials lie on an axis; None where there are too few to say it.

    How good they are is corrected for the other hyperparameters.
    """
    positions = axis.positions[axis.feasible]
    best = min(max(FEWEST_BEST, round(BEST_PART * len(positions))), MOST_BEST)
    # Trials that never reached a target are not ordered: where they would be among the best, these are not known.
    if len(positions) < FEWEST_TO_NARROW or axis.reached < best:
        return None
    chosen = positions[np.argsort(axis.scores.values, kind="stable")[:best]]
    low, high = float(chosen.min()), float(chosen.max())
    return BestPart(axis, low, high, best, chance_of_span(positions, best, high - low))


def chance_of_span(positions: Floats, count: int, span: float) -> float:
    """The chance that `count` of these positions, drawn without repetition, lie within `span` of each other.

    `positions` have the shape [trials]. Exact: the draws are counted by their lowest position.
    """
    ordered = np.sort(positions)
    above = np.searchsorted(ordered, ordered + span * (1 + 1e-12) + 1e-12, side="right") - np.arange(len(ordered)) - 1
    ways = sum(math.comb(int(others), count - 1) for others in above)
    return ways / math.comb(len(ordered), count)


def _narrower(parts: Sequence[BestPart]) -> list[float] | None:
    """The ends of the new range; None where it would not be much narrower."""
    domain = parts[0].axis.hyperparameter.domain
    assert isinstance(domain, Range)
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    width = max((high - low) / (1 - 2 * CLEAR_OF_END), NARROWEST_STEP)
    middle = (low + high) / 2
    # The ends of the range are not passed: nothing is known beyond them.
    start, end = max(middle - width / 2, 0.0), min(middle + width / 2, 1.0)
    if end - start > WORTH_NARROWING:
        return None
    new = [_value_at(domain, start), _value_at(domain, end)]
    if domain.integer and new[1] - new[0] < 2:
        return None
    # Rounded, it may be wider.
    kept = domain.to_unit(new[1]) - domain.to_unit(new[0])
    return new if new[0] < new[1] and kept <= WORTH_NARROWING + 0.05 else None


def _value_at(domain: Range, position: float) -> float:
    """The value at a position, rounded as a person would write it, within the range."""
    if position in (0.0, 1.0):
        return domain.low if position == 0.0 else domain.high
    value = domain.from_unit(position)
    assert isinstance(value, (int, float))
    if domain.integer:
        return int(min(max(value, domain.low), domain.high))
    short = rounded(float(value), domain)
    if not domain.low <= short <= domain.high or abs(domain.to_unit(short) - position) > _SHORT_ENOUGH:
        short = float(value)  # two digits are few for a range whose ends are near each other
    return float(min(max(short, domain.low), domain.high))


def _inside(evidence: StudyEvidence, narrowed: dict[PathKey, list[float]]) -> int:
    """The number of searched trials that lie in all of the new ranges."""
    axes = {axis.hyperparameter.path: axis for axis in evidence.axes}
    out: set[int] = set()
    for path, (low, high) in narrowed.items():
        axis = axes[path]
        out |= {
            run.plan.trial for run, value in zip(axis.runs, axis.values, strict=True) if not low <= float(value) <= high
        }
    return sum(run.plan.trial not in out for run in evidence.searched)


def _finding(
    evidence: StudyEvidence, parts: Sequence[BestPart], new: Sequence[float], inside: int, questions: int
) -> Finding:
    item = parts[0].axis.hyperparameter
    domain = item.domain
    assert isinstance(domain, Range)
    best, trials = sum(part.best for part in parts), len(evidence.searched)
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    ends = [shown_value(_value_at(domain, at)) for at in (low, high)]
    kept = domain.to_unit(new[1]) - domain.to_unit(new[0])
    chance = family_wise(max(part.chance for part in parts), questions)
    listed = ", ".join(shown_value(number) for number in new)
    of_setting = "" if len(parts) == 1 else " of each setting"
    numbers: dict[str, Any] = {
        "best_trials": best,
        "best_low": domain.from_unit(low) if low < 1 else domain.high,
        "best_high": domain.from_unit(high) if high < 1 else domain.high,
        "share_of_range_kept": kept,
        "trials_in_new_ranges": inside,
        "trials": trials,
        "chance": chance,
    }
    return Finding(
        id="range-too-wide",
        level="note",
        sentence=f"The best {counted(best, 'trial')}{of_setting} lie between {ends[0]} and {ends[1]} of {item.key}, "
        f"{high - low:.0%} of its range: the best place is well inside.",
        action=f"narrow {item.key} to [{listed}], {kept:.0%} of its range, to search the good part more densely; "
        f"{inside} of the {counted(trials, 'trial')} lie where the next round would search",
        settings=tuple(part.axis.setting for part in parts) if len(evidence.settings) > 1 else (),
        hyperparameters=(item.key,),
        numbers=numbers,
        sureness=f"p = {chance:.2g} over all hyperparameters",
        changes=(Change((*item.path, "range"), list(new), "the best trials lie close together, well inside"),),
    )
