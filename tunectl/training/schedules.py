"""The learning rate of every update."""

from __future__ import annotations

import math
from typing import assert_never

from tunectl.spec.configuration import TrainingConfiguration


def decay_factor(configuration: TrainingConfiguration, max_train_steps: int, updates_after_warmup: int) -> float:
    """The factor of a schedule `updates_after_warmup` updates after its warmup, in [0, 1].

    The decay takes T = decay_steps updates, by default all that follow the warmup, and stays where it ends.
    """
    warmup = configuration.warmup_steps if configuration.warmup == "within" else 0
    whole = configuration.decay_steps if configuration.decay_steps is not None else max_train_steps - warmup
    # A warmup that fills everything leaves no update to decay in.
    progress = min(updates_after_warmup / whole, 1.0) if whole > 0 else 0.0
    match configuration.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return (1.0 + math.cos(math.pi * progress)) / 2.0
        case _:
            assert_never(configuration.schedule)


def learning_rate(configuration: TrainingConfiguration, max_train_steps: int, update: int) -> float:
    """The learning rate of update t, counted from 0.

    Linear warmup: base * t / W while t < W, so that the first update has rate 0 and update W has the base rate; then
    the schedule's decay at t - W.
    """
    base, warmup = configuration.learning_rate, configuration.warmup_steps
    if update < warmup:
        return base * update / warmup
    return base * decay_factor(configuration, max_train_steps, update - warmup)
