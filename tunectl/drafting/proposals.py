"""Proposed search spaces: role, range and scale of a hyperparameter, by its name and value."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunectl.core.records import Scalar
from tunectl.language.name_meaning import is_share
from tunectl.language.study_edit import in_flow

_POSITIVE = re.compile(
    r"(?:.*_)?(?:lr|learning_rate|wd|weight_decay|l1|l2|eps|epsilon|grad_clip|clip_norm|grad_norm|clip)"
)
"""Names of hyperparameters that are searched on a logarithmic scale."""

_NEAR_ONE = re.compile(r"(?:.*_)?(?:momentum|beta_?[12]|betas_[12]|ema_decay|polyak_decay|rho)")
_BESIDE_TRAINING = re.compile(
    "verbose|debug|quiet|silent|cuda|gpu|mps|cpu|device|save|log|progress|eval|test|dry|resume|download|wandb|tensorboard"
    "|profile|distributed|ddp|overwrite|force|cache|deterministic|pin_memory|skip|hub|benchmark|compile|print|plot"
)
"""Flags that do not change how the model is trained."""

_WHEN_ZERO = (1e-6, 1e-2)
_MOST_CHOICES = 8


def proposal(name: str, value: Scalar, choices: Sequence[str] = ()) -> str:
    """An entry with which a hyperparameter would vary, as YAML on one line; "" if its name and value suggest none.

    A range extends from a tenth of the value to ten times the value.
    """
    lower = name.lower()
    if isinstance(value, bool):
        return "" if _BESIDE_TRAINING.search(lower) else "{role: scientific, values: [true, false]}"
    if 1 < len(choices) <= _MOST_CHOICES and isinstance(value, str):
        return in_flow({"role": "scientific", "values": list(choices)})
    if isinstance(value, str):
        return ""
    if _POSITIVE.fullmatch(lower) and value >= 0:
        low, high = (_rounded(value / 10), _rounded(value * 10)) if value > 0 else _WHEN_ZERO
        return _nuisance(low, high, "log")
    if _NEAR_ONE.fullmatch(lower) and 0 <= value < 1:
        gap = 1 - value
        return _nuisance(_rounded(1 - min(10 * gap, 0.2)), _below_one(min(gap / 10, 0.01)), "one_minus_log")
    if is_share(name):
        highest = 0.2 if "smoothing" in lower else 0.5
        return _nuisance(0, highest, "") if 0 <= value <= highest else ""
    return ""


def _nuisance(low: float, high: float, scale: str) -> str:
    entry: dict[str, object] = {"role": "nuisance", "range": [low, high]}
    return in_flow(entry | ({"scale": scale} if scale else {}))


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _below_one(gap: float) -> float:
    """1 minus the gap, without rounding errors."""
    return round(1 - gap, 8)
