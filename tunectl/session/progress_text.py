"""The progress of a run in words: one line for each trial that ends, and the time that is left."""

from __future__ import annotations

from tunectl.core.records import TrialOutcome
from tunectl.core.wording import short_text
from tunectl.session.run_progress import RunProgress

_LAST_TRAINING = {"data": "the data were counted", "final": "the model was trained", "test": "test was evaluated"}


def trial_line(outcome: TrialOutcome, progress: RunProgress, alike: int | None = None) -> str:
    """A finished trial in one line; `alike` is the first trial that failed with the same message."""
    head = f"[{progress.done}/{progress.total}] trial {outcome.plan.trial} {outcome.state}"
    if outcome.state == "failed" and alike in (None, outcome.plan.trial):
        return f"{head}: {outcome.reason}: {outcome.message}"
    if outcome.state == "failed":
        return f"{head}: {outcome.reason}, like trial {alike}"
    if outcome.state == "infeasible":
        at = f" at step {outcome.infeasible_step}" if outcome.infeasible_step is not None else ""
        return f"{head}: {outcome.reason}{at}"
    if outcome.state == "stopped":
        return f"{head} early: {outcome.message}"
    if outcome.state == "cancelled":
        return f"{head}: {outcome.message}"
    if outcome.plan.trial_kind == "throughput":
        return f"{head}: batch size {outcome.plan.hyperparameters.get('batch_size')} was timed"
    if outcome.plan.trial_kind == "profile":
        return f"{head}: its parts were timed"
    if outcome.plan.trial_kind == "curvature":
        return f"{head}: its checkpoints were measured"
    if outcome.plan.trial_kind in _LAST_TRAINING:
        return f"{head}: {_LAST_TRAINING[outcome.plan.trial_kind]}"
    return f"{head}: {_reached(outcome, progress)}{time_left(progress)}"


def _reached(outcome: TrialOutcome, progress: RunProgress) -> str:
    """What a completed trial reached."""
    target = "" if progress.objective is None else progress.objective.target
    if target and outcome.best_value is None:
        return f"{target} not reached by step {outcome.final_step}, where it is {_shown(outcome.final_value)}"
    if target:
        return f"{target} at step {outcome.best_step}"
    if outcome.best_value is None:
        return "no finite value"
    return f"best {_shown(outcome.best_value)} at step {outcome.best_step}"


def time_left(progress: RunProgress) -> str:
    """The time that is left, in brackets; "" where it is not known, or nothing is left."""
    if progress.seconds_left is None or progress.done == progress.total:
        return ""
    return f" ({duration(progress.seconds_left)} left)"


def duration(seconds: float) -> str:
    """A duration in its two largest units: `1 h 20 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _shown(value: object) -> str:
    return "–" if value is None else short_text(value)
