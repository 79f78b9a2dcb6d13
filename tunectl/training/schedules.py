"""The learning rate of every update."""

from __future__ import annotations

import math

from tunectl.core.user_code import CodeName
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.piecewise import factor_at, read_points
from tunectl.training.user_schedule import user_factor


def decay_factor(configuration: TrainingConfiguration, max_train_steps: int, updates: int) -> float:
    """The factor of a schedule, `updates` updates after its warmup and the constant rate that follows it; in [0, 1]
    unless it is a function of the study's own.

    linear and cosine fall to `end_learning_rate_factor` over T = decay_steps updates (default: all that are left), and
    stay there. step is multiplied by `decay_factor` every decay_steps updates (default: a third of all that are left,
    so that it drops twice). inverse_sqrt is sqrt(T / (T + s)), T = decay_steps (default: the warmup's length, at least
    1), so that the rate is base * sqrt(W / t) as in Vaswani et al. wsd and piecewise: see `_of_cooldown` and
    language.piecewise. range_test rises exponentially from `range_test_low` to the base rate at the last update.
    """
    end = configuration.end_learning_rate_factor
    match configuration.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - (1.0 - end) * _progress(configuration, max_train_steps, updates)
        case "cosine":
            falling = (1.0 + math.cos(math.pi * _progress(configuration, max_train_steps, updates))) / 2.0
            return end + (1.0 - end) * falling
        case "inverse_sqrt":
            scale = configuration.decay_steps or max(configuration.warmup_steps, 1)
            return math.sqrt(scale / (scale + updates))
        case "step":
            every = configuration.decay_steps or max(-(-steps_of_decay(configuration, max_train_steps) // 3), 1)
            return float(configuration.decay_factor ** (updates // every))
        case "wsd":
            return 1.0 - (1.0 - end) * _of_cooldown(configuration, max_train_steps, updates)
        case "piecewise":
            points, left = read_points(configuration.piecewise_points), steps_of_decay(configuration, max_train_steps)
            return factor_at(points, updates, left, linear=configuration.piecewise_shape == "linear")
        case "range_test":
            lowest = configuration.range_test_low / configuration.learning_rate
            return float(lowest ** (1 - updates / max(max_train_steps - 1, 1)))
        case _:
            return _of_code(configuration.schedule, configuration, max_train_steps, updates)


def _of_code(name: CodeName, configuration: TrainingConfiguration, max_train_steps: int, updates: int) -> float:
    assert configuration.schedule_code is not None, f"where {name} is has been found"
    return user_factor(configuration.schedule_code, updates, steps_of_decay(configuration, max_train_steps))


def steps_of_decay(configuration: TrainingConfiguration, max_train_steps: int) -> int:
    """The number of updates that are left for the schedule, after the warmup and the constant rate that follows it."""
    warmup = configuration.warmup_steps if configuration.warmup == "within" else 0
    return max_train_steps - warmup - configuration.post_warmup_steps


def _progress(configuration: TrainingConfiguration, max_train_steps: int, updates: int) -> float:
    whole = configuration.decay_steps or steps_of_decay(configuration, max_train_steps)
    # A warmup as long as the training leaves no update for the decay.
    return min(updates / whole, 1.0) if whole > 0 else 0.0


def _of_cooldown(configuration: TrainingConfiguration, max_train_steps: int, updates: int) -> float:
    """How far the cooldown of wsd has come: 0 before it, and 1 after the last update.

    The last `cooldown_share` of max_train_steps, N updates, are the cooldown (all that the warmup leaves, where these
    are fewer). After n of them the rate is 1 - n / N of the base rate (linear), or 1 - sqrt(n / N) (one_minus_sqrt),
    and in between towards `end_learning_rate_factor`. Hu et al., "MiniCPM" (2024), have the schedule; Hägele et al.,
    "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations" (NeurIPS 2024), the shapes.
    """
    left = steps_of_decay(configuration, max_train_steps)
    length = min(round(configuration.cooldown_share * max_train_steps), left)
    after = updates - (left - length)
    if length <= 0 or after <= 0:
        return 0.0
    share = min(after / length, 1.0)
    return share if configuration.cooldown_shape == "linear" else math.sqrt(share)


def learning_rate(configuration: TrainingConfiguration, max_train_steps: int, update: int) -> float:
    """The learning rate of update t, counted from 0.

    Linear warmup: base * t / W while t < W, so that the first update has rate 0 and update W the base rate. Then the
    base rate for P = `post_warmup_steps` updates, then the schedule's decay at t - W - P.
    """
    base, warmup = configuration.learning_rate, configuration.warmup_steps
    if update < warmup:
        return base * update / warmup
    return base * decay_factor(
        configuration, max_train_steps, max(0, update - warmup - configuration.post_warmup_steps)
    )
