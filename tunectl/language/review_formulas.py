"""Warnings about the ranges from which formulas compute training fields."""

from __future__ import annotations

import math

from tunectl.core.errors import Problem
from tunectl.core.records import Scalar
from tunectl.language.configuration import FIELDS
from tunectl.language.review_context import Context
from tunectl.space.domains import Derived, Range
from tunectl.space.formulas import FormulaError
from tunectl.space.hyperparameters import Hyperparameter


def factors_on_a_linear_scale(context: Context) -> list[Problem]:
    """A warning for each linear range to which a field is in proportion whose order of magnitude matters."""
    problems = []
    for derived in context.spec.hyperparameters:
        rule = FIELDS.get(derived.name)
        if not isinstance(derived.domain, Derived) or rule is None or not rule.wants_log_scale:
            continue
        for name in derived.domain.formula.names:
            for item in context.spec.alternatives(name):
                if name not in FIELDS and _is_factor(context, derived.domain, item):
                    message = (
                        f"{name} on a linear scale: {derived.name} is in proportion to it, whose order of magnitude "
                        "matters, and half of the trials would be in the upper half of the range; write scale: log"
                    )
                    problems.append(context.warn(item, message))
    return problems


def _is_factor(context: Context, domain: Derived, item: Hyperparameter) -> bool:
    """Whether the formula's value is in proportion to a positive linear range, where the others are in their middle."""
    own = item.domain
    if not isinstance(own, Range) or own.scale != "linear" or own.low <= 0:
        return False
    others = {name: _middle(context, name) for name in domain.formula.names if name != item.name}
    values: dict[str, Scalar] = {name: value for name, value in others.items() if value is not None}
    try:
        low, high = (domain.formula.value({**values, item.name: end}) for end in (own.low, own.high))
    except FormulaError:
        return False
    return low > 0 and math.isclose(high / low, own.high / own.low, rel_tol=1e-6)


def _middle(context: Context, name: str) -> float | None:
    for item in context.spec.alternatives(name):
        if isinstance(item.domain, Range):
            return float(item.domain.from_unit(0.5))
        if item.domain.numbers:
            return item.domain.numbers[0]
    return None
