"""The rate at which momentum adds updates up, learning_rate / (1 - momentum), as an axis of its own.

With momentum the sum of many equal updates is that of the rate learning_rate / (1 - momentum): Polyak's heavy ball,
Nesterov's method alike. Where training is unstable is a line in this rate, and no box of learning rates and momenta
has it as an end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunectl.analysis.comparison.setting_axes import SettingAxis
from tunectl.analysis.findings.findings import Change
from tunectl.core.errors import PathKey
from tunectl.language.configuration import FIELDS
from tunectl.language.study_spec import StudySpec
from tunectl.space.conditions import Conditions, TooManyCombinationsError
from tunectl.space.domains import Range, is_among
from tunectl.space.hyperparameters import Condition, Hyperparameter

_RATES = ("learning_rate", "lr")
_MOMENTUM = "momentum"
_NAMES = ("effective_rate", "effective_learning_rate")


@dataclass(frozen=True, slots=True)
class EffectiveRate:
    """A learning rate and a momentum that both vary."""

    rate: Hyperparameter
    momentum: Hyperparameter

    @property
    def text(self) -> str:
        """The effective rate as a sentence shows it."""
        return f"{self.rate.name} / (1 - {self.momentum.name})"

    @property
    def paths(self) -> tuple[PathKey, PathKey]:
        """Where both are in the study file."""
        return self.rate.path, self.momentum.path


def stand_ins(spec: StudySpec) -> set[str]:
    """The hyperparameters from which a study computes its learning rate, and that are no training field themselves."""
    found = list(_RATES)
    for name in found:  # grows while it is walked
        for item in spec.alternatives(name):
            found += [other for other in (item.formula.names if item.formula else ()) if other not in found]
    return {name for name in found[len(_RATES) :] if name not in FIELDS}


def effective_axes(axes: Sequence[SettingAxis]) -> list[tuple[SettingAxis, EffectiveRate]]:
    """For each setting in which a learning rate and a momentum vary, the axis of the effective rate.

    Its positions are those on a logarithmic scale between the smallest and the largest effective rate of the search
    space; its hyperparameter, which no study has, is called by the quotient.
    """
    found = []
    for axis in axes:
        if axis.hyperparameter.name not in _RATES:
            continue
        for other in axes:
            if other.setting == axis.setting and other.hyperparameter.name == _MOMENTUM:
                both = _joined(axis, other)
                found += [both] if both is not None else []
    return found


def _joined(axis: SettingAxis, other: SettingAxis) -> tuple[SettingAxis, EffectiveRate] | None:
    pair = EffectiveRate(axis.hyperparameter, other.hyperparameter)
    rates, momenta = pair.rate.domain.numbers, pair.momentum.domain.numbers
    if min(rates) <= 0 or not 0 <= min(momenta) <= max(momenta) < 1:
        return None
    low, high = min(rates) / (1 - min(momenta)), max(rates) / (1 - max(momenta))
    momentum_of = {run.plan.trial: float(value) for run, value in zip(other.runs, other.values, strict=True)}
    rows = [row for row, run in enumerate(axis.runs) if run.plan.trial in momentum_of]
    if not rows or not low < high:
        return None
    values = [float(axis.values[row]) / (1 - momentum_of[axis.runs[row].plan.trial]) for row in rows]
    item = Hyperparameter(
        pair.text, pair.text, "nuisance", Range(low, high, "log"), pair.rate.when, path=(*pair.rate.path, pair.text)
    )
    chosen = np.array(rows, dtype=int)
    joined = SettingAxis(
        hyperparameter=item,
        setting=axis.setting,
        runs=tuple(axis.runs[row] for row in rows),
        values=tuple(values),
        positions=np.array([item.sampled_domain.to_unit(value) for value in values], dtype=float),
        costs=axis.costs[chosen],
        # The momentum is among them; the rate itself is the sum of both, and explains nothing more.
        others=tuple(column[chosen] for column in axis.others),
    )
    return joined, pair


def searched_by_effective_rate(
    spec: StudySpec, pair: EffectiveRate, feasible: Iterable[float], reason: str
) -> list[Change]:
    """The changes by which the study searches the effective rate over what the `feasible` trials had.

    The learning rate becomes a formula, and keeps its range where the momentum has no value. None where the study lists
    its trials, or where its conditions are too many for that.
    """
    values = list(feasible)
    name = next((name for name in _NAMES if name not in spec.names), None)
    parts = _parts(spec, pair) if spec.search.sampler in ("halton", "random") else None
    if name is None or not values or parts is None:
        return []
    when, rest = parts
    low, high = _cut(min(values), 2), _cut(max(values), 3)
    if low >= high:  # a single one
        return []
    searched = {**when, "role": pair.rate.role, "range": [low, high], "scale": "log"}
    formula = {**when, "formula": f"{name} * (1 - {pair.momentum.name})"}
    path, rate_path = ("hyperparameters", name), pair.rate.path
    return [
        Change(path, searched, reason, only_with=rate_path),
        Change(rate_path, [formula, rest] if rest else formula, f"it follows from {name}", only_with=path),
    ]


def _parts(spec: StudySpec, pair: EffectiveRate) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The `when` of the formula, and an entry with the learning rate's own range for where the momentum has no value.

    Each is empty where it is not needed. None where more than one condition would be.
    """
    if _is_always_together(spec, pair):
        return _when(pair.rate.when), {}
    domain, switches = pair.rate.domain, list(pair.momentum.when.items())
    if len(spec.alternatives(pair.rate.name)) > 1 or pair.rate.when or len(switches) != 1:
        return None
    (parent, wanted), *_ = switches
    switch = spec.alternatives(parent)
    if not isinstance(domain, Range) or any(item.when or item.domain.listed is None for item in switch):
        return None
    left = tuple(value for item in switch for value in item.domain.listed or () if not is_among(value, wanted))
    rest = {**_when({parent: left}), "role": pair.rate.role, "range": [domain.low, domain.high], "scale": domain.scale}
    return _when({parent: wanted}), rest | ({"type": "int"} if domain.integer else {})


def _when(condition: Condition) -> dict[str, Any]:
    named = {parent: wanted[0] if len(wanted) == 1 else list(wanted) for parent, wanted in condition.items()}
    return {"when": named} if named else {}


def _is_always_together(spec: StudySpec, pair: EffectiveRate) -> bool:
    """Whether the momentum has a value wherever this learning rate is active."""
    conditions = Conditions(spec.hyperparameters)
    try:
        return all(
            combination.active.get(pair.rate.name) is not pair.rate or pair.momentum.name in combination.active
            for combination in conditions.combinations([pair.rate.name, pair.momentum.name])
        )
    except TooManyCombinationsError:
        return False


def _cut(number: float, digits: int) -> float:
    """The number cut off after its first digits: an upper end stays below the threshold."""
    unit = 10.0 ** (math.floor(math.log10(number)) + 1 - digits)
    return float(f"{math.floor(number / unit * (1 + 1e-12)) * unit:.{digits}g}")
