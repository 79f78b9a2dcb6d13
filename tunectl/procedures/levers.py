"""What makes training stable besides a lower rate: a warmup, clipping, smaller initial weights; and earlier results.

The levers are combined: the paper trains a Transformer without normalization by a warmup, clipping and a quarter of the
initialisation together (Gilmer et al. 2021, "A loss curvature perspective on training instability in deep learning",
table 2), where no one of them is enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunectl.core.records import Scalar
from tunectl.procedures.procedure import AnySweep

QUARTER = 0.25
"""The part of the initialisation that the paper tries (table 2)."""

_RATES = ("best_learning_rate", "unstable_base_learning_rate")


@dataclass(frozen=True, slots=True)
class Levers:
    """What a recipe changes beside the learning rate; None leaves it as the study has it.

    `warmup` are updates before the study's own schedule, `clip` is the largest norm of a gradient, infinite for no
    clipping at all, `init_scale` the scale of the initial weights.
    """

    warmup: int | None = None
    clip: float | None = None
    init_scale: float | None = None

    @property
    def changes(self) -> dict[str, Scalar | None]:
        """The hyperparameters of a trial with them, None for one that is left out."""
        found: dict[str, Scalar | None] = {}
        if self.warmup is not None:
            found |= {"warmup_steps": self.warmup, "warmup": None, "post_warmup_steps": None}
        if self.clip is not None:
            found["grad_clip_norm"] = self.clip if math.isfinite(self.clip) else None
        if self.init_scale is not None:
            found["init_scale"] = self.init_scale
        return found

    @property
    def in_words(self) -> str:
        """What they are, such as "with 100 steps of warmup, clipped at 1.3"."""
        added = [f"{self.warmup} steps of warmup"] if self.warmup is not None else []
        if self.init_scale is not None:
            added.append(f"init_scale {self.init_scale:g}")
        parts = [f"with {' and '.join(added)}"] if added else []
        if self.clip is not None:
            parts.append(f"clipped at {self.clip:g}" if math.isfinite(self.clip) else "without clipping")
        return ", ".join(parts) if parts else "without warmup"

    @property
    def rank(self) -> tuple[bool, int, float]:
        """The lower, the less they change: other initial weights last, then by the warmup, then by the clipping."""
        return self.init_scale is not None, self.warmup or 0, 0.0 if self.clip is None else 1 / self.clip


def quartered(spec: AnySweep, levers: Levers) -> Levers | None:
    """These levers and a quarter of the study's `init_scale`; None where there is none, or it is changed already."""
    if spec.init_scale is None or levers.init_scale is not None:
        return None
    return replace(levers, init_scale=spec.init_scale * QUARTER)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the procedure before found, each None where it is not known.

    `levers` are those of the recipe that it adopted, none of them without one. `is_at_edge` says whether instability
    keeps the best rate down.
    """

    levers: Levers = Levers()
    best_rate: float | None = None
    unstable_rate: float | None = None
    is_at_edge: bool | None = None


def earlier(spec: AnySweep) -> Earlier:
    """What `before` says; `problems_before` says whether it can be read."""
    recipe = spec.before.get("recipe") or {}
    clip, init_scale = recipe.get("grad_clip_norm"), recipe.get("init_scale")
    if "grad_clip_norm" in recipe and clip is None:
        clip = math.inf
    return Earlier(
        levers=Levers(recipe.get("warmup_steps"), clip, init_scale),
        best_rate=spec.before.get("best_learning_rate"),
        unstable_rate=spec.before.get("unstable_base_learning_rate"),
        is_at_edge=spec.before.get("edge_of_stability"),
    )


def problems_before(before: Mapping[str, Any], lever: str) -> list[str]:
    """What is wrong with the conclusion that a procedure is to go on from, which tries `lever` by itself."""
    if not before:
        return []
    if not all(name in before for name in _RATES):
        older = next((name for field, name in _OLDER.items() if field in before), None)
        if older is not None:
            return [
                f"--from: that conclusion.json was written by an older {older}, which mixed the numbers of several "
                f"recipes; run the same {older} again in its folder: it keeps the trials and writes a new one"
            ]
        return ["--from: expected a folder of lr-sweep, warmup-sweep or clip-sweep, got another conclusion.json"]
    recipe = before.get("recipe")
    recipe = {} if recipe is None else recipe
    if not isinstance(recipe, dict):
        return [f"--from: conclusion.json: recipe: expected hyperparameters or null, got {recipe!r}"]
    unknown = sorted(recipe.keys() - _IN_RECIPE)
    if unknown:
        return [f"--from: conclusion.json: recipe: no procedure changes {', '.join(unknown)}; put it into the study"]
    found = [
        f"--from: conclusion.json: {name}: expected a number above 0, got {value!r}"
        for name, value in {**{name: before[name] for name in _RATES}, **recipe}.items()
        if name in _ABOVE_0 and value is not None and not _is_above_0(value)
    ]
    used = before.get("seeds_used", 0)
    if not isinstance(used, int) or isinstance(used, bool) or used < 0:
        found.append(f"--from: conclusion.json: seeds_used: expected a whole number, got {used!r}")
    if before.get("better_than_constant") is False and before["unstable_base_learning_rate"] is None:
        found.append(
            "--from: that sweep found no learning rate better than a constant prediction, and none that is unstable: "
            "there is nothing to stabilise; check the model and the data first"
        )
    if not found and recipe.get(lever) is not None:
        found.append(f"--from: its recipe already has {lever}: {recipe[lever]:g}; give the folder that it went on from")
    return found


_OLDER = {"warmup_steps": "warmup-sweep", "grad_clip_norm": "clip-sweep"}
"""Fields of conclusion.json from before it had a recipe."""

_ABOVE_0 = frozenset({*_RATES, "learning_rate", "warmup_steps", "grad_clip_norm", "init_scale"})
_IN_RECIPE = frozenset({"learning_rate", "warmup_steps", "warmup", "post_warmup_steps", "grad_clip_norm", "init_scale"})


def _is_above_0(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
