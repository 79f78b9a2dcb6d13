"""What a trial measures: its evaluations, the series of its updates, and how its time was used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunectl.core import jsontext


class Measurement(NamedTuple):
    """A line of measurements.jsonl: one evaluation. A tuple, since large studies have very many of them.

    `step` counts finished updates. `learning_rate` and `gradient_norm` (unclipped) are those of the last update, None
    at step 0. `elapsed_seconds` counts training and evaluation over all attempts. `checkpoint` is the file's name in
    `checkpoints/`, None where none was kept; a better one may have replaced it since.
    """

    step: int
    metrics: Mapping[str, float]
    measurement_kind: str = "evaluation"
    learning_rate: float | None = None
    gradient_norm: float | None = None
    elapsed_seconds: float = 0.0
    checkpoint: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The line's content, in the order of the file format."""
        return {
            "step": self.step,
            "kind": self.measurement_kind,
            "metrics": dict(self.metrics),
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm,
            "elapsed_seconds": self.elapsed_seconds,
            "checkpoint": self.checkpoint,
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Measurement | None:
        """The measurement of a line, None where the line is not a measurement."""
        step, metrics, measurement_kind = line.get("step"), line.get("metrics"), line.get("kind", "evaluation")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0 or not isinstance(metrics, dict):
            return None
        if not isinstance(measurement_kind, str):
            return None
        read = {str(name): jsontext.number(value) for name, value in metrics.items()}
        checkpoint = line.get("checkpoint")
        return cls(
            step=step,
            metrics={name: value for name, value in read.items() if value is not None},
            measurement_kind=measurement_kind,
            learning_rate=jsontext.number(line.get("learning_rate")),
            gradient_norm=jsontext.number(line.get("gradient_norm")),
            elapsed_seconds=jsontext.number(line.get("elapsed_seconds")) or 0.0,
            checkpoint=checkpoint if isinstance(checkpoint, str) else None,
        )


@dataclass(frozen=True, slots=True)
class UpdateBlock:
    """A line of steps.jsonl: consecutive updates from `first` on, each list with one entry an update.

    `loss` is the minibatch loss, `gradient_norm` the unclipped global norm. `skipped` are the updates that changed
    nothing because a float16 gradient overflowed with the loss scale of that moment; their norm is not finite.
    `update_ratio` is, for the updates `update_ratio_steps`, the norm of the change of all weights with two or more axes
    divided by the norm of these weights before it.
    """

    first: int
    loss: Sequence[float]
    gradient_norm: Sequence[float]
    clipped: Sequence[bool]
    learning_rate: Sequence[float]
    skipped: Sequence[int] = ()
    update_ratio_steps: Sequence[int] = ()
    update_ratio: Sequence[float] = ()


@dataclass(slots=True)
class TrialSeconds:
    """How the time of a trial was used until now, in seconds.

    `startup_seconds` is the last attempt's, from its start to the start of its training; the others are sums over all
    attempts. The caller of a training keeps it, so that the numbers are known after an exception.
    """

    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    startup_seconds: float = 0.0
