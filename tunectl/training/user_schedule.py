"""A schedule of the study's own: a function of the step."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from tunectl.core.errors import WorkloadError
from tunectl.core.user_code import UsedCode
from tunectl.language.code_arguments import TOTAL_STEPS
from tunectl.workloads.workload_import import factory_signature, load_factory


def user_factor(used: UsedCode, updates: int, total: int) -> float:
    """The factor of the base rate that the function gives, `updates` updates after the warmup, of `total` in all.

    The function gets the updates as its first argument, `total_steps` where it has such a parameter, and the
    hyperparameters that it names. Raises WorkloadError where it does not give a number of at least 0.
    """
    function, takes_total = _loaded(used.reference)
    more: dict[str, Any] = {TOTAL_STEPS: total} if takes_total else {}
    found = function(updates, **used.arguments, **more)
    try:
        factor = float(found)
    except (TypeError, ValueError):
        factor = math.nan
    if isinstance(found, (str, bool)) or not 0 <= factor < math.inf:
        raise WorkloadError(
            f"schedule {used.reference.text}: expected a factor of the learning rate, a number of at least 0, at step "
            f"{updates}, got {found!r}"
        )
    return factor


@cache
def _loaded(reference: Any) -> tuple[Any, bool]:
    """The function, and whether it takes the number of steps."""
    function = load_factory(reference)
    return function, TOTAL_STEPS in factory_signature(function, takes_trial=True).parameters
