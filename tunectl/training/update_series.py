"""Loss and gradient norm of every update, kept on the device and read in blocks, so that no update waits for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from tunectl.core.errors import WorkloadError
from tunectl.training.example_losses import WRONG_WEIGHTS
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

    `weights`: the sum of an update's weights over its number of examples, None where no loss had weights. An update
    whose weights sum to 0 has no loss of its own; it has that of the update before it, the first one 0.
    """

    first: int
    losses: list[float]
    gradient_norms: list[float]
    clipped: list[bool]
    learning_rates: list[float]
    skipped: list[int] = field(default_factory=list)
    ratio_updates: list[int] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    weights: list[float] | None = None

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
            None if self.weights is None else self.weights[:end],
        )

    def to_json(self) -> dict[str, Any]:
        """The line of steps.jsonl; `skipped` is in it only where an update was skipped, `weight` where losses have
        weights.
        """
        skipped = {"skipped": self.skipped} if self.skipped else {}
        weights = {} if self.weights is None else {"weight": self.weights}
        return {
            "first": self.first,
            "loss": self.losses,
            "gradient_norm": self.gradient_norms,
            "clipped": self.clipped,
            "learning_rate": self.learning_rates,
            "update_ratio_steps": self.ratio_updates,
            "update_ratio": self.ratios,
            **skipped,
            **weights,
        }


class StepSeries:
    """The updates since the last block, as tensors on the device.

    The loss is kept as the sum over the batch (a node for the mean would take a twentieth of the time of a small
    update), with the sum of its weights where there are any, the gradient norm as the norms of its tensors. They are
    joined at the same updates in an interrupted trial, so that the last bits are the same.
    """

    def __init__(self, batch_size: int, max_norm: float | None, first: int = 0) -> None:
        self._batch_size, self._max_norm, self._first = batch_size, max_norm, first
        self._loss_sums: list[Tensor] = []
        self._weights: list[Tensor | None] = []
        self._last_loss = 0.0
        self._rates: list[float] = []
        self._norms: list[Tensor] = []
        self._norm_counts: list[int] = []
        self._joined: list[Tensor] = []
        self._skipped: list[Tensor] = []
        self._ratio_updates: list[int] = []
        self._ratio_norms: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._loss_sums)

    def append(
        self, loss_sum: Tensor, norms: Sequence[Tensor], learning_rate: float, *, weight: Tensor | None = None
    ) -> None:
        """Add an update: the sum of its losses, its gradient norms (whose root of squares is the norm), its learning
        rate; `weight` is the sum of the losses' weights, None where each is 1.
        """
        self._loss_sums.append(loss_sum)
        self._weights.append(weight)
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
        """The block of all updates since the last one, read from the device; the series is empty afterwards.

        Raises WorkloadError where the weights of a loss were not as they must be.
        """
        if not self._loss_sums:
            return Block(self._first, [], [], [], [])
        self._join()
        weights = self._relative_weights()
        losses = [total / self._batch_size for total in torch.stack(self._loss_sums).to(torch.float64).tolist()]
        losses = losses if weights is None else self._means(losses, weights)
        norms = torch.cat(self._joined).to(torch.float64).tolist()
        limit = math.inf if self._max_norm is None else self._max_norm
        skips = torch.stack(self._skipped).tolist() if self._skipped else [0.0] * len(norms)
        clipped = [norm > limit and not skip for norm, skip in zip(norms, skips, strict=True)]
        skipped = [self._first + place for place, skip in enumerate(skips) if skip]
        ratios = self._ratio_updates, self._ratios()
        block = Block(self._first, losses, norms, clipped, self._rates, skipped, *ratios, weights)
        self._first += len(losses)
        self._last_loss = losses[-1]
        self._loss_sums, self._weights, self._rates, self._joined, self._skipped = [], [], [], [], []
        self._ratio_updates, self._ratio_norms = [], []
        return block

    def _relative_weights(self) -> list[float] | None:
        """The sum of the weights of each update over its number of examples; None where no loss had weights."""
        known = next((weight for weight in self._weights if weight is not None), None)
        if known is None:
            return None
        whole = torch.full_like(known, self._batch_size, dtype=torch.float64)
        sums = torch.stack([whole if weight is None else weight.to(torch.float64) for weight in self._weights])
        weights = [total / self._batch_size for total in sums.tolist()]
        for place, weight in enumerate(weights):
            if not math.isfinite(weight):
                raise WorkloadError(f"{WRONG_WEIGHTS}, which those of update {self._first + place} are not")
        return weights

    def _means(self, losses: Sequence[float], weights: Sequence[float]) -> list[float]:
        """The loss of each update from its sum and that of its weights, both over the number of examples."""
        found, last = [], self._last_loss
        for loss, weight in zip(losses, weights, strict=True):
            last = loss / weight if weight > 0 else last
            found.append(last)
        return found

    def _ratios(self) -> list[float]:
        pairs = torch.stack(self._ratio_norms).to(torch.float64).tolist() if self._ratio_norms else []
        return [change / norm if norm != 0 else math.nan if change == 0 else math.inf for change, norm in pairs]

    def state(self) -> dict[str, Any]:
        """All updates that were not taken yet, as plain numbers, lists and tensors on the CPU."""
        empty = torch.empty(0)
        weighted = any(weight is not None for weight in self._weights)
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
            "last_loss": self._last_loss,
            **({"weights": [_on_host(weight) for weight in self._weights]} if weighted else {}),
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
        # States of earlier versions have neither part.
        self._last_loss = state.get("last_loss", 0.0)
        weights = state.get("weights", [None] * len(self._loss_sums))
        self._weights = [None if weight is None else weight.to(device) for weight in weights]


def _on_host(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else weight.cpu()
