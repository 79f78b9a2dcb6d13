"""The progress of a trial and the numbers from which its end is judged; `resume.pt` keeps them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from tunectl.core.divergence import start_in_training
from tunectl.training.feasibility import Exchange, Statistics, TrialEvidence, tail_updates
from tunectl.training.loss_moments import LossSummary
from tunectl.training.update_series import Block


def total(numbers: Sequence[float]) -> float:
    """The sum of finite numbers, rounded once; infinite where it is beyond what a float holds."""
    try:
        return math.fsum(numbers)
    except OverflowError:
        return sum(numbers)


@dataclass(slots=True)
class TrialProgress:
    """The state of a trial without its model, optimizer and generators.

    `step` counts finished updates; `evaluated_step` is the last evaluation's, None before the first. `interval_*` sum
    the minibatch losses since the last evaluation, each update by its weight, `tail_*` those of the last updates of the
    trial (`feasibility.tail_updates`). `first_loss` is that of the first minibatch. `fixed_batch_losses` are those of
    the fixed batch so far (see evaluation.fixed_batch_losses), on the device. `metric_names`: those of the last
    evaluation, by split. `skipped_updates` counts those that loss scaling skipped. `recent_losses` are the minibatch
    losses of the last `recent_updates` updates. `recoveries` counts how often the trial went back to an earlier state,
    `first_bad_update` is the first for which it did.
    `curvature_step` is the step of the last measurement of curvature, None before the first.
    """

    step: int = 0
    evaluated_step: int | None = None
    interval_loss_sum: float = 0.0
    interval_updates: float = 0
    tail_loss_sum: float = 0.0
    tail_square_sum: float = 0.0
    tail_count: int = 0
    gradient_norm: float | None = None
    learning_rate: float | None = None
    first_loss: float | None = None
    start: LossSummary | None = None
    end: LossSummary | None = None
    lowest_train_loss: float = math.inf
    fixed_batch_losses: list[Tensor] = field(default_factory=list)
    metric_names: dict[str, list[str]] = field(default_factory=dict)
    skipped_updates: int = 0
    recent_updates: int = 0
    recent_losses: list[float] = field(default_factory=list)
    recoveries: int = 0
    first_bad_update: int | None = None
    curvature_step: int | None = None
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    curvature_seconds: float = 0.0
    initialisation_seconds: float = 0.0

    @property
    def elapsed_seconds(self) -> float:
        """Seconds of initialisation, training, evaluation and measurements of curvature, over all attempts."""
        return self.initialisation_seconds + self.train_seconds + self.eval_seconds + self.curvature_seconds

    def add(self, block: Block, total_steps: int) -> None:
        """Account for a block of updates."""
        if not len(block):
            return
        if block.first == 0:
            self.first_loss = block.losses[0]
        if block.weights is None:
            self.interval_loss_sum += total(block.losses)
            self.interval_updates += len(block)
        else:
            weighted = [loss * weight for loss, weight in zip(block.losses, block.weights, strict=True)]
            self.interval_loss_sum += total(weighted)
            self.interval_updates += total(block.weights)
        tail_begins = total_steps - tail_updates(total_steps)
        tail = block.losses[max(0, tail_begins - block.first) :]
        self.tail_count += len(tail)
        self.tail_loss_sum += total(tail)
        self.tail_square_sum += total([loss * loss for loss in tail])
        self.learning_rate = block.learning_rates[-1]
        self.skipped_updates += len(block.skipped)
        last = block.first + len(block) - 1
        while last in block.skipped:
            last -= 1
        if last >= block.first:
            self.gradient_norm = block.gradient_norms[last - block.first]
        if self.recent_updates > 0:
            self.recent_losses = [*self.recent_losses, *block.losses][-self.recent_updates :]

    def smoothed_loss(self) -> float | None:
        """The mean of the recent minibatch losses; None where there are fewer than 10 (or than `recent_updates`)."""
        count = len(self.recent_losses)
        return total(self.recent_losses) / count if count and count >= min(10, self.recent_updates) else None

    def go_back(self, state: dict[str, Any], bad_update: int, device: torch.device) -> None:
        """Restore an earlier state because of this update; the time that was used still counts."""
        earlier = TrialProgress.from_state(state, device)
        earlier.recoveries = self.recoveries + 1
        earlier.first_bad_update = bad_update if self.first_bad_update is None else self.first_bad_update
        earlier.train_seconds, earlier.eval_seconds = self.train_seconds, self.eval_seconds
        earlier.curvature_seconds = self.curvature_seconds
        for item in fields(self):
            setattr(self, item.name, getattr(earlier, item.name))

    def interval_mean(self) -> float | None:
        """The mean minibatch loss since the last call; None where there was no update, or none of any weight."""
        if self.interval_updates == 0:
            return None
        mean = self.interval_loss_sum / self.interval_updates
        self.interval_loss_sum, self.interval_updates = 0.0, 0
        return mean

    def evaluated(self, loss: LossSummary) -> None:
        """Account for the loss over the evaluated sample of `train` at this step."""
        if self.step == 0:
            self.start = loss
        elif loss.mean < self.lowest_train_loss:
            self.lowest_train_loss = loss.mean
        self.end = loss
        self.evaluated_step = self.step

    def start_in_training(self, batch_size: int) -> float:
        """The mean loss at step 0 with which minibatch losses are compared; NaN before the evaluation there."""
        if self.start is None:
            return math.nan
        return start_in_training(self.start.mean, self.start.spread, self.first_loss, batch_size)

    def evidence(
        self, total_steps: int, batch_size: int, exchange: Exchange | None = None, *, statistics: Statistics = "none"
    ) -> TrialEvidence:
        """The measurements from which the end is judged. To be called after the evaluation at the last step."""
        unknown = LossSummary(math.nan, math.nan, 0)
        start, end = self.start or unknown, self.end or unknown
        mean = self.tail_loss_sum / self.tail_count if self.tail_count else math.nan
        # Not mean**2, which raises where the product is infinite.
        variance = self.tail_square_sum / self.tail_count - mean * mean if self.tail_count else math.nan
        fixed_batch_losses, fixed_batch_weights = self._fixed_batch()
        return TrialEvidence(
            total_steps=total_steps,
            start_mean=start.mean,
            start_spread=start.spread,
            start_in_training=self.start_in_training(batch_size),
            end_mean=end.mean,
            end_spread=end.spread,
            examples=end.examples,
            lowest_loss=self.lowest_train_loss,
            tail_mean=mean,
            tail_spread=math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.inf,
            tail_count=self.tail_count,
            fixed_batch_losses=fixed_batch_losses,
            fixed_batch_weights=fixed_batch_weights,
            exchange=exchange,
            statistics=statistics,
        )

    def _fixed_batch(self) -> tuple[list[list[float]], list[float] | None]:
        """The losses of the fixed batch, a row for each evaluation, and the weights of its examples at the last one,
        None where they have none; without the examples that had no weight.
        """
        rows = self.fixed_batch_losses
        if not any(row.ndim == 2 for row in rows):
            return [row.tolist() for row in rows], None
        pairs = [
            row if row.ndim == 2 else torch.stack([row.double(), torch.ones_like(row, dtype=torch.float64)])
            for row in rows
        ]
        losses, weights = torch.stack(pairs).unbind(1)
        counted = (weights > 0).all(dim=0)
        return losses[:, counted].tolist(), weights[-1, counted].tolist()

    def state(self) -> dict[str, Any]:
        """The fields as plain numbers, lists, dicts and tensors on the CPU."""
        return asdict(self) | {"fixed_batch_losses": [losses.cpu() for losses in self.fixed_batch_losses]}

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> TrialProgress:
        """The progress of `state`."""
        summaries = {name: None if state[name] is None else LossSummary(**state[name]) for name in ("start", "end")}
        losses = [losses.to(device) for losses in state["fixed_batch_losses"]]
        return cls(**{**state, **summaries, "fixed_batch_losses": losses})
