"""Loss and gradient norm of every update, kept on the device and read in blocks, so that no update waits for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from tunectl.training.gradients import total_norm

BLOCK_UPDATES = 500
"""The largest number of updates in a block; a loss that is not finite is found at its end at the latest."""

_PENDING_NORMS = 2048
"""The number of single norms that are joined into one tensor, which limits the number of small tensors."""


@dataclass(frozen=True, slots=True)
class BadUpdate:
    """The first update whose loss or gradient norm is not finite; in a trial that may recover, also the last one before
    an evaluation that found it diverged.
    """

    update: int
    reason: Literal["nan_loss", "nan_gradient", "diverged"]
    value: float


@dataclass(frozen=True, slots=True)
class Block:
    """The series of consecutive updates from `first` on: minibatch loss, unclipped gradient norm, clipped or not,
    learning rate; the updates that loss scaling skipped; update ratios (see gradients.UpdateRatio) with their updates.
    """

    first: int
    losses: list[float]
    gradient_norms: list[float]
    clipped: list[bool]
    learning_rates: list[float]
    skipped: list[int] = field(default_factory=list)
    ratio_updates: list[int] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.losses)

    def first_bad(self) -> BadUpdate | None:
        """The first update that is not finite; the reason is the loss where loss and gradient are both not finite.

        A gradient that overflowed under loss scaling does not count: its update was skipped.
        """
        for place, (loss, norm) in enumerate(zip(self.losses, self.gradient_norms, strict=True)):
            if not math.isfinite(loss):
                return BadUpdate(self.first + place, "nan_loss", loss)
            if not math.isfinite(norm) and self.first + place not in self.skipped:
                return BadUpdate(self.first + place, "nan_gradient", norm)
        return None

    def until(self, update: int) -> Block:
        """The block without what comes after `update`."""
        end = update - self.first + 1
        measured = sum(number <= update for number in self.ratio_updates)
        return Block(
            self.first,
            self.losses[:end],
            self.gradient_norms[:end],
            self.clipped[:end],
            self.learning_rates[:end],
            [number for number in self.skipped if number <= update],
            self.ratio_updates[:measured],
            self.ratios[:measured],
        )

    def to_json(self) -> dict[str, Any]:
        """The line of steps.jsonl; `skipped` is in it only where an update was skipped."""
        skipped = {"skipped": self.skipped} if self.skipped else {}
        return {
            "first": self.first,
            "loss": self.losses,
            "gradient_norm": self.gradient_norms,
            "clipped": self.clipped,
            "learning_rate": self.learning_rates,
            "update_ratio_steps": self.ratio_updates,
            "update_ratio": self.ratios,
            **skipped,
        }


class StepSeries:
    """The updates since the last block, as tensors on the device.

    The loss is kept as the sum over the batch (a node for the mean would take a twentieth of the time of a small
    update), the gradient norm as the norms of its tensors. They are joined at the same updates in an interrupted trial,
    so that the last bits are the same.
    """

    def __init__(self, batch_size: int, max_norm: float | None, first: int = 0) -> None:
        self._batch_size, self._max_norm, self._first = batch_size, max_norm, first
        self._loss_sums: list[Tensor] = []
        self._rates: list[float] = []
        self._norms: list[Tensor] = []
        self._norm_counts: list[int] = []
        self._joined: list[Tensor] = []
        self._skipped: list[Tensor] = []
        self._ratio_updates: list[int] = []
        self._ratio_norms: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._loss_sums)

    def append(self, loss_sum: Tensor, norms: Sequence[Tensor], learning_rate: float) -> None:
        """Add an update: the sum of its losses, its gradient norms (whose root of squares is the norm), its learning
        rate.
        """
        self._loss_sums.append(loss_sum)
        self._rates.append(learning_rate)
        self._norms.extend(norms)
        self._norm_counts.append(len(norms))
        if len(self._norms) >= _PENDING_NORMS:
            self._join()

    def append_skipped(self, skipped: Tensor) -> None:
        """Add whether loss scaling skipped an update (1 or 0, shape []): for every update, or for none."""
        self._skipped.append(skipped)

    def append_ratio(self, update: int, norms: Tensor | None) -> None:
        """Add the norms of what an update changed and of what was there, shape [2]; None where there is no weight."""
        if norms is not None:
            self._ratio_updates.append(update)
            self._ratio_norms.append(norms)

    def _join(self) -> None:
        counts = self._norm_counts
        if not counts:
            return
        if not self._norms:
            self._joined.append(self._loss_sums[0].new_zeros(len(counts)))
        elif len(set(counts)) == 1:
            self._joined.append(torch.linalg.vector_norm(torch.stack(self._norms).view(len(counts), counts[0]), dim=1))
        else:
            ends = itertools.accumulate(counts)
            rows = [self._norms[end - count : end] for count, end in zip(counts, ends, strict=True)]
            zero = torch.zeros_like(self._norms[0])
            self._joined.append(torch.stack([total_norm(row) if row else zero for row in rows]))
        self._norms, self._norm_counts = [], []

    def take(self) -> Block:
        """The block of all updates since the last one, read from the device; the series is empty afterwards."""
        if not self._loss_sums:
            return Block(self._first, [], [], [], [])
        self._join()
        losses = [total / self._batch_size for total in torch.stack(self._loss_sums).to(torch.float64).tolist()]
        norms = torch.cat(self._joined).to(torch.float64).tolist()
        limit = math.inf if self._max_norm is None else self._max_norm
        skips = torch.stack(self._skipped).tolist() if self._skipped else [0.0] * len(norms)
        clipped = [norm > limit and not skip for norm, skip in zip(norms, skips, strict=True)]
        skipped = [self._first + place for place, skip in enumerate(skips) if skip]
        block = Block(self._first, losses, norms, clipped, self._rates, skipped, self._ratio_updates, self._ratios())
        self._first += len(losses)
        self._loss_sums, self._rates, self._joined, self._skipped = [], [], [], []
        self._ratio_updates, self._ratio_norms = [], []
        return block

    def _ratios(self) -> list[float]:
        pairs = torch.stack(self._ratio_norms).to(torch.float64).tolist() if self._ratio_norms else []
        return [change / norm if norm != 0 else math.nan if change == 0 else math.inf for change, norm in pairs]

    def state(self) -> dict[str, Any]:
        """All updates that were not taken yet, as plain numbers, lists and tensors on the CPU."""
        empty = torch.empty(0)
        return {
            "first": self._first,
            "loss_sums": torch.stack(self._loss_sums).cpu() if self._loss_sums else empty,
            "learning_rates": list(self._rates),
            "norms": torch.stack(self._norms).cpu() if self._norms else empty,
            "norm_counts": list(self._norm_counts),
            "joined": [joined.cpu() for joined in self._joined],
            "skipped": torch.stack(self._skipped).cpu() if self._skipped else empty,
            "ratio_updates": list(self._ratio_updates),
            "ratio_norms": [norms.cpu() for norms in self._ratio_norms],
        }

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state` gave."""
        self._first = int(state["first"])
        self._loss_sums = list(state["loss_sums"].to(device).unbind())
        self._rates = list(state["learning_rates"])
        self._norms = list(state["norms"].to(device).unbind())
        self._norm_counts = list(state["norm_counts"])
        self._joined = [joined.to(device) for joined in state["joined"]]
        self._skipped = list(state["skipped"].to(device).unbind())
        self._ratio_updates = list(state["ratio_updates"])
        self._ratio_norms = [norms.to(device) for norms in state["ratio_norms"]]
