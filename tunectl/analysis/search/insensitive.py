"""`insensitive`: nuisance hyperparameters whose value makes no difference that the trials could show.

Deep Learning Tuning Playbook, "Identifying scientific, nuisance, and fixed hyperparameters": a nuisance hyperparameter
may be fixed if the caveat that this adds to the conclusions costs less than searching it; the less it interacts with
the others, the less harm is done. The absence of an effect counts only if there are enough trials to show one, and an
effect may be hidden in an interaction, or among the good trials alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.comparison.setting_axes import columns_over, regressors
from tunectl.analysis.findings.finding_evidence import HyperparameterAxis, StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.runs import Floats
from tunectl.analysis.search.features import fixed_entry
from tunectl.analysis.search.permutations import scores_within
from tunectl.analysis.search.regularisers import off_value_of
from tunectl.analysis.search.sensitivity import NEVER_FIXED, responding_keys
from tunectl.analysis.updates.effective_rate import stand_ins
from tunectl.analysis.updates.stability_edge import shown_value
from tunectl.core.records import Scalar
from tunectl.core.wording import counted
from tunectl.space.domains import Range
from tunectl.space.hyperparameters import Hyperparameter

FEWEST_FOR_AN_EFFECT = 40
"""Fewer trials cannot show an effect, its interactions and its absence."""

NO_SIGN = 0.1
"""An effect that random pairings of values and trials give less often than this is a sign of a real one."""

MOST_UNSEEN = 0.06
MOST_UNSEEN_AMONG_BETTER = 0.1
"""An effect that the trials cannot distinguish from chance may be at most this part of the variance; among the better
half, where nothing else explains much either, it may be a little more.
"""

_SEEN, _SEEN_PER_ROOT = 6.3, 4.5
"""An effect of m terms is detected at NO_SIGN in 19 of 20 cases if its sum of squares is 6.3 + 4.5 sqrt(m) times the
variance of the noise (the non-central F distribution with many degrees of freedom, within 4 % up to 40 terms).
"""

MOST_FOR_AN_EFFECT = 400
"""With more trials the first ones are judged; they cover the space as evenly as all."""

_DRAWS = (40, 160)

_INDEPENDENT = 1e-4
"""Terms that are this far from dependent on each other and on the others can be fitted by their products."""


@dataclass(frozen=True, eq=False)
class ExplainedPart:
    """What a hyperparameter explains of how good trials are, in addition to all others.

    `share` is its part of the variance, `chance` how often random pairings reach it, and `unseen` the largest part that
    these trials could not have distinguished from chance.
    """

    share: float
    chance: float
    unseen: float


def insensitive_findings(evidence: StudyEvidence) -> list[Finding]:
    """`insensitive`, a note for each nuisance hyperparameter that might be fixed, the most certain first.

    Those that something was found to depend on (`sensitive`) are none of them, whatever this test says.
    """
    parents = {name for item in evidence.spec.hyperparameters for name in item.when}
    parents |= stand_ins(evidence.spec)
    never, responds = NEVER_FIXED | parents, responding_keys(evidence)
    found: list[tuple[HyperparameterAxis, Sequence[ExplainedPart]]] = []
    for axis in evidence.axes:
        item = axis.hyperparameter
        if item.role == "nuisance" and item.name not in never and axis.key not in responds:
            effects = hyperparameter_effects(evidence, axis)
            if _say_nothing(effects):
                found.append((axis, effects))
    found.sort(key=lambda pair: -min(one.chance for one in pair[1]))
    sampled = sum(item.has_coordinate for item in evidence.spec.hyperparameters)
    return [
        # One remains to be searched: the one that is least certain.
        _finding(evidence, axis, effects, may_change=place + 1 < sampled)
        for place, (axis, effects) in enumerate(found)
    ]


def _say_nothing(effects: Sequence[ExplainedPart]) -> bool:
    """Whether no effect is a sign of a real one, although each could have been detected."""
    limits = (MOST_UNSEEN, MOST_UNSEEN_AMONG_BETTER)[: len(effects)]
    seen = [one.chance > NO_SIGN and one.unseen <= most for one, most in zip(effects, limits, strict=True)]
    return bool(seen) and all(seen)


def hyperparameter_effects(evidence: StudyEvidence, axis: HyperparameterAxis) -> Sequence[ExplainedPart]:
    """The effect of a hyperparameter over its trials, and over the better half of them; none if they are too few.

    Infeasible trials count as the worst.
    """
    runs = axis.runs[:MOST_FOR_AN_EFFECT]
    if len(runs) < FEWEST_FOR_AN_EFFECT:
        return ()
    settings = np.array([run.plan.setting for run in runs])
    costs, order = evidence.costs(runs), evidence.ordered_costs(runs)
    medians = {setting: np.median(costs[settings == setting]) for setting in np.unique(settings).tolist()}
    better = np.isfinite(costs) & (costs <= np.array([medians[setting] for setting in settings.tolist()]))
    if np.count_nonzero(better) < FEWEST_FOR_AN_EFFECT / 2:
        return ()
    others = [column for other in evidence.axes if other is not axis for column in columns_over(other, runs)]
    others += [(settings == setting).astype(float) for setting in list(medians)[1:]]
    own = np.array(list(regressors(axis))).reshape(-1, len(axis.runs))[:, : len(runs)]
    if not any(np.ptp(column[better]) > 0 for column in own):
        return ()  # a single value: others were not tried, or did badly
    return [
        _effect(scores_within(order[chosen], settings[chosen]), own[:, chosen], [column[chosen] for column in others])
        for chosen in (np.full(len(runs), True), better)
    ]


def _effect(scores: Floats, own: Floats, others: Sequence[Floats]) -> ExplainedPart:
    """The effect of the columns `own`, shape [columns, trials], on the scores: linear, squared, and in products."""
    count = len(scores)
    beside = _basis([np.ones(count), *_with_products(others)], count)
    rest = scores - beside @ (beside.T @ scores)
    table = np.array([column - column.mean() for column in others]).reshape(len(others), count)
    curved = np.array([len(np.unique(column)) > 2 for column in own], dtype=bool)
    terms = _terms(own, curved, table)
    shown = float(_explained(rest, terms, beside))
    total = float(np.sum((scores - scores.mean()) ** 2)) or 1.0
    noise = max(float(rest @ rest) - shown, 0.0) / max(count - beside.shape[1] - len(terms), 1)
    generator, drawn, reaching = np.random.default_rng(0), 0, 0
    for draws in _DRAWS:
        mixed = np.stack([own[:, generator.permutation(count)] for _ in range(draws)])
        reaching += int(np.count_nonzero(_explained(rest, _terms(mixed, curved, table), beside) >= shown))
        drawn += draws
        if not reaching:  # nothing hangs on knowing the chance better
            break
    unseen = (_SEEN + _SEEN_PER_ROOT * math.sqrt(len(terms))) * noise / total
    return ExplainedPart(shown / total, (1 + reaching) / (1 + drawn), unseen)


def _terms(own: Floats, curved: NDArray[np.bool_], others: Floats) -> Floats:
    """The terms of an effect, shape [..., terms, trials], of own columns of shape [..., columns, trials]."""
    centred = own - own.mean(axis=-1, keepdims=True)
    products = (centred[..., :, None, :] * others).reshape(*own.shape[:-2], -1, own.shape[-1])
    return np.concatenate([centred, centred[..., curved, :] ** 2, products], axis=-2)


def _explained(rest: Floats, terms: Floats, beside: Floats) -> Floats:
    """The sums of squares, shape [...], that the terms explain of what the others leave."""
    along = (terms.reshape(-1, len(rest)) @ beside).reshape(*terms.shape[:-1], -1)
    squares = terms @ np.swapaxes(terms, -1, -2) - along @ np.swapaxes(along, -1, -2)
    lengths = np.sqrt(np.maximum(np.diagonal(squares, axis1=-2, axis2=-1), 0.0))
    if lengths.min() > _INDEPENDENT * math.sqrt(len(rest)):
        # By the products of the few terms: far faster than a decomposition of many trials.
        unit, shown = squares / (lengths[..., :, None] * lengths[..., None, :]), terms @ rest / lengths
        if np.linalg.eigvalsh(unit)[..., 0].min() > _INDEPENDENT:
            return np.asarray((shown * np.linalg.solve(unit, shown[..., None])[..., 0]).sum(axis=-1))
    columns = np.swapaxes(terms - along @ beside.T, -1, -2)
    basis, sizes = np.linalg.qr(columns)
    alive = np.abs(np.diagonal(sizes, axis1=-2, axis2=-1)) > 1e-9 * math.sqrt(len(rest))
    return np.asarray((alive * (np.swapaxes(basis, -1, -2) @ rest) ** 2).sum(axis=-1))


def _with_products(columns: Sequence[Floats]) -> list[Floats]:
    centred = [column - column.mean() for column in columns]
    return [*centred, *(one * other for place, one in enumerate(centred) for other in centred[: place + 1])]


def _basis(columns: Sequence[Floats], count: int) -> Floats:
    """An orthonormal basis of the span of the first columns, at most a third as many as there are trials."""
    kept = np.array(columns[: max(1, count // 3)]).T
    left, sizes, _ = np.linalg.svd(kept, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-9 * sizes[0]])


def _finding(
    evidence: StudyEvidence, axis: HyperparameterAxis, effects: Sequence[ExplainedPart], *, may_change: bool
) -> Finding:
    item = axis.hyperparameter
    best = evidence.ranked(axis.runs)[0]
    off = off_value_of(item)
    value = _rounded(item, best.plan.hyperparameters[item.name]) if off is None else off
    runs, (everywhere, better) = len(axis.runs[:MOST_FOR_AN_EFFECT]), effects
    alone = (
        "" if len(evidence.settings) > 1 else "; whether it interacts with what you ask about next was not seen here"
    )
    where = (
        f"near {shown_value(value)}, the value of the best trial"
        if off is None
        else f"at {shown_value(off)}, where it is off"
    )
    by_hand = evidence.spec.search.sampler == "points" or not may_change
    return Finding(
        id="insensitive",
        level="note",
        sentence=f"{counted(runs, 'trial').capitalize()} show no difference between the values of {item.key}: an "
        f"effect of {everywhere.unseen:.0%} of the variance between them would have been detected, or one of "
        f"{better.unseen:.0%} between those of the better half.",
        action=f"fix {item.key} {where}, to search the others more densely{alone}",
        hyperparameters=(item.key,),
        trials=(best.plan.trial,),
        numbers={
            "value": value,
            "trials": runs,
            "share_of_variance": everywhere.share,
            "share_among_better_half": better.share,
            "chance": everywhere.chance,
            "chance_among_better_half": better.chance,
            "unseen_share": everywhere.unseen,
            "unseen_share_among_better_half": better.unseen,
        },
        sureness=f"p = {min(one.chance for one in effects):.2g} of an effect (permutation test)",
        changes=()
        if by_hand
        else (Change(item.path, fixed_entry(item, value), "no difference between its values found"),),
    )


def _rounded(item: Hyperparameter, value: Scalar) -> Scalar:
    """A sampled value rounded to three digits, if the result is still in its range."""
    if not isinstance(value, float) or not isinstance(item.domain, Range):
        return value
    short = float(f"{value:.3g}")
    return short if item.domain.low <= short <= item.domain.high else value
