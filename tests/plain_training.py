"""A training loop of torch alone, as its documentation has it, with which trials on several devices are compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.workloads.workload import Workload


@dataclass
class PlainTraining:
    """Trains a workload in this process, in batches of its own sampler's order, and notes what a trial has to give.

    The loss of an update is the weighted mean over all its examples, in however many parts they pass the model.
    """

    workload: Workload
    part_sizes: Sequence[int]
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    tables: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._parameters = list(self.workload.model.parameters())
        self._averages = [parameter.detach().clone() for parameter in self._parameters]
        self._since: list[tuple[float, float]] = []

    def run(self, updates: int, eval_every: int, *, rate: float, momentum: float, clip: float, decay: float) -> None:
        """SGD with momentum, the gradient's norm clipped; evaluated are averages of the weights."""
        optimizer = torch.optim.SGD(self._parameters, lr=rate, momentum=momentum)
        batches = self._batches()
        self._evaluate()
        for update in range(1, updates + 1):
            numerator, weight = self._sums(next(batches))
            optimizer.zero_grad()
            (numerator / weight if weight > 0 else 0.0 * numerator).backward()
            self.norms.append(float(nn.utils.clip_grad_norm_(self._parameters, clip)))
            optimizer.step()
            for average, parameter in zip(self._averages, self._parameters, strict=True):
                average.mul_(decay).add_(parameter.detach(), alpha=1 - decay)
            total = float(numerator.detach())
            self.losses.append(total / float(weight) if weight > 0 else self.losses[-1])
            self._since.append((total, float(weight)))
            if update % eval_every == 0:
                self._evaluate()

    def _batches(self) -> Iterator[list[list[Tensor]]]:
        """The batches of updates without end, each in parts; one may go over the end of an epoch."""
        train: Any = self.workload.data["train"]
        order: Any = self.workload.sampler
        examples = (int(place) for epoch in itertools.count() for place in order(train, epoch, None))
        while True:
            places = [list(itertools.islice(examples, size)) for size in self.part_sizes]
            yield [[tensor[each] for tensor in train.tensors] for each in places]

    def _sums(self, parts: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """The sum of all losses by their weights, and of the weights."""
        numerators, weights = [], []
        for part in parts:
            given: Any = self.workload.loss(self.workload.model, part)
            values, of_part = given if isinstance(given, tuple) else (given, torch.ones_like(given))
            numerators.append((values * of_part).sum())
            weights.append(of_part.sum())
        return torch.stack(numerators).sum(), torch.stack(weights).sum()

    def _evaluate(self) -> None:
        """Note the metrics of the averaged weights over each whole split, and of the updates since the last call."""
        model, table = self.workload.model, dict[str, float]()
        kept = [parameter.detach().clone() for parameter in self._parameters]
        with torch.no_grad():
            _set(self._parameters, self._averages)
            model.eval()
            for split, data in self.workload.data.items():
                batch = list(data.tensors)  # type: ignore[attr-defined]
                numerator, weight = self._sums([batch])
                table[f"{split}/loss"] = float(numerator / weight)
                metrics: Any = self.workload.metrics
                table |= {f"{split}/{name}": float(given.mean()) for name, given in metrics(model, batch).items()}
            model.train()
            _set(self._parameters, kept)
        if self._since:
            numerators, weights = zip(*self._since, strict=True)
            table["train/minibatch_loss"] = sum(numerators) / sum(weights)
            self._since = []
        self.tables.append(table)


def _set(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
