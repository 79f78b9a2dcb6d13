"""Warnings about fields of muon and of clipping beside each other."""

from __future__ import annotations

from tunectl.core.errors import Problem
from tunectl.language.review_context import Context


def shared_muon_rate(context: Context) -> list[Problem]:
    """With its authors' scale, muon's rate is far too large for the parameters that adamw trains."""
    names, extra = ["muon_scale", "adamw_learning_rate"], {"muon_scale": ["original"]}
    for combination in context.conditions.combinations(names, extra=extra):
        item = combination.active.get("muon_scale")
        is_original = combination.values.get("muon_scale") == "original"
        if item is not None and is_original and "adamw_learning_rate" not in combination.active:
            message = (
                "with muon_scale: original one learning rate does not fit both parts of muon (its authors have 0.02 "
                "for the matrices and 3e-4 for adamw); add adamw_learning_rate, or leave muon_scale out"
            )
            return [context.warn(item, message)]
    return []


def clipped_twice(context: Context) -> list[Problem]:
    """A global norm beside adaptive clipping makes units smaller that adaptive clipping would leave alone."""
    names, extra = ["grad_clip", "grad_clip_norm"], {"grad_clip": ["adaptive"]}
    for combination in context.conditions.combinations(names, extra=extra):
        item = combination.active.get("grad_clip_norm")
        if item is not None and combination.values.get("grad_clip") == "adaptive":
            message = (
                "grad_clip_norm beside grad_clip: adaptive: the gradient is clipped twice, first by its global norm, "
                "and neither threshold can be tuned without the other; leave one of them out"
            )
            return [context.warn(item, message)]
    return []
