"""What the procedure `batch-scaling` shows of the small study of figure 6."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from answered_studies import Answer

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure

FASTER = 3.0
"""How many times as large the speed-up with batch normalisation is to be."""

MOVES, STAYS = 10.0, 3.0
"""How much the best rate is to grow with batch normalisation, and at most without it."""


def figure_06(folder: Path) -> Answer:
    """The answer from the folder of the procedure; raises OSError where there is no conclusion."""
    return scaling_answer(json.loads((folder / "conclusion.json").read_bytes())["settings"])


def scaling_answer(settings: list[Mapping[str, Any]]) -> Answer:
    """The speed-up by the batch, and the growth of the best rate, with batch normalisation and without."""
    named = {setting["hyperparameters"]["normalization"]: setting for setting in settings}
    table = [["normalization", "batch_size", "best rate", "steps", "speed-up", "perfect"]]
    for name, setting in named.items():
        table += [[name, *(_shown(item[key]) for key in _COLUMNS)] for item in setting["batch_sizes"]]
    normalised, plain = named["batch"], named["none"]
    speed = [_number(setting["speed_up"]) for setting in (normalised, plain)]
    growth = [_number(setting["best_rate_growth"]) for setting in (normalised, plain)]
    figure = CurvesFigure(
        "paper-figure-06",
        "Steps to an error rate of 0.55, by batch size",
        Axis("batch_size", "log"),
        Axis("steps", "log"),
        [_curve(name, setting) for name, setting in named.items()],
    )
    return Answer(
        figure,
        table,
        f"the speed-up from the smallest batch to the largest is at least {FASTER:g} times as large with batch "
        f"normalisation, and the best rate grows {MOVES:g} times or more with it and at most {STAYS:g} times without",
        f"the speed-up is {speed[0]:.3g} with batch normalisation and {speed[1]:.3g} without, and the best rate grows "
        f"{growth[0]:.3g} and {growth[1]:.3g} times",
        speed[0] >= FASTER * speed[1] and growth[0] >= MOVES and growth[1] <= STAYS,
    )


_COLUMNS = ("batch_size", "learning_rate", "steps", "speed_up", "perfect_speed_up")


def _curve(name: str, setting: Mapping[str, Any]) -> Curve:
    reached = [item for item in setting["batch_sizes"] if item["steps"] is not None]
    return Curve([item["batch_size"] for item in reached], [item["steps"] for item in reached], name, name)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else f"{value:,}"
