"""Evaluating a model on the splits of its workload: exact averages, and nothing changed by it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

from tunectl.core.errors import WorkloadError
from tunectl.training.batches import LoadedBatches, drawn, moved, plain_tensors
from tunectl.training.seeds import TRAIN_SAMPLE_SEED, Purpose, randomness, sequence
from tunectl.workloads.workload import Workload

NOT_EVALUATED = "test"
"""The split that waits until somebody asks for it."""


@dataclass(frozen=True, slots=True)
class LossSummary:
    """The loss over a split: mean and standard deviation over its examples, in the unit of the loss."""

    mean: float
    spread: float
    examples: int


@dataclass(frozen=True, slots=True)
class SplitEvaluation:
    """A split's averages by metric name (`loss` always), and its loss as `loss` gave it."""

    metrics: dict[str, float]
    loss: LossSummary


@dataclass(frozen=True, slots=True)
class Evaluator:
    """What is evaluated, and how: the splits with their data, the batch size, and where the randomness comes from."""

    workload: Workload
    splits: Mapping[str, Dataset[Any]]
    batch_size: int
    seed: int
    device: torch.device
    data_workers: int = 0


def sample(dataset: Dataset[Any], examples: int) -> Dataset[Any]:
    """A fixed random sample without replacement, in the data set's order; the data set itself if it is no larger."""
    size = len(dataset)  # type: ignore[arg-type]
    if examples >= size:
        return dataset
    generator = np.random.Generator(np.random.PCG64(TRAIN_SAMPLE_SEED))
    chosen = np.sort(generator.permutation(size)[:examples])
    tensors = plain_tensors(dataset)
    if tensors is None:
        return Subset(dataset, chosen.tolist())
    indices = torch.from_numpy(chosen)
    return TensorDataset(*(tensor.detach().index_select(0, indices.to(tensor.device)) for tensor in tensors))


def evaluated_splits(workload: Workload, train_examples: int | None) -> dict[str, Dataset[Any]]:
    """The data sets that are evaluated, by split: all but `test`, of `train` a sample as large as `valid` unless a
    number is given.
    """
    splits = {name: dataset for name, dataset in workload.data.items() if name != NOT_EVALUATED}
    examples = train_examples if train_examples is not None else len(workload.data["valid"])  # type: ignore[arg-type]
    return splits | {"train": sample(workload.data["train"], examples)}


class Averages:
    """Weighted means of per-example values over batches, accumulated in float64 on the values' device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Any, weights: Any = None) -> None:
        """Add a batch: values of shape [B] (any number type or bool), weights of the same shape or None for ones.

        A value of weight zero does not count, whatever it is (padding is often NaN).
        """
        numbers = torch.as_tensor(values).detach().to(torch.float64)
        if weights is None:
            part = torch.stack([numbers.sum(), numbers.new_tensor(float(numbers.numel()))])
        else:
            factors = torch.as_tensor(weights, device=numbers.device).detach().to(torch.float64)
            counted = torch.where(factors == 0, torch.zeros_like(numbers), numbers)
            part = torch.stack([(counted * factors).sum(), factors.sum()])
        self._sums[name] = self._sums[name] + part.to(self._sums[name].device) if name in self._sums else part

    def means(self) -> dict[str, float]:
        """The means by name; NaN where the weights sum to zero."""
        pairs = {name: pair.tolist() for name, pair in self._sums.items()}
        return {name: total / weight if weight != 0 else math.nan for name, (total, weight) in pairs.items()}


def checked_losses(losses: Any) -> Tensor:
    """The losses of a batch; raises WorkloadError where they are no tensor of shape [B]."""
    if not isinstance(losses, Tensor):
        raise WorkloadError(
            f"loss(model, batch) must give a tensor of shape [B], a value per example; it gave {type(losses).__name__}"
        )
    if losses.ndim != 1:
        hint = " (a mean over the batch: use reduction='none')" if losses.ndim == 0 else ""
        raise WorkloadError(
            f"loss(model, batch) must give one value per example, shape [B]; it gave shape {list(losses.shape)}{hint}"
        )
    return losses


def _checked(name: str, what: str, values: Any, examples: int) -> Tensor:
    numbers = torch.as_tensor(values)
    if tuple(numbers.shape) != (examples,):
        raise WorkloadError(
            f"{what} of metric {name!r} must have one entry per example, shape [{examples}] for this batch;"
            f" found {list(numbers.shape)}"
        )
    return numbers


def add_metrics(averages: Averages, given: Any, examples: int) -> None:
    """Add what `metrics(model, batch)` gave for a batch; raises WorkloadError where it is not as `Workload` says."""
    if not isinstance(given, Mapping):
        raise WorkloadError(
            f"metrics(model, batch) must give a dict of per-example values; it gave {type(given).__name__}"
        )
    for name, value in given.items():
        if not isinstance(name, str) or not name:
            raise WorkloadError(f"metrics(model, batch) must give names as text; it gave {name!r}")
        if name == "loss":
            continue
        if isinstance(value, tuple) and len(value) == 2:
            values = _checked(name, "the values", value[0], examples)
            averages.add(name, values, _checked(name, "the weights", value[1], examples))
        else:
            averages.add(name, _checked(name, "the values", value, examples))


@contextlib.contextmanager
def evaluating(model: nn.Module, seeds: np.random.SeedSequence, device: torch.device) -> Iterator[None]:
    """Evaluation mode without gradients, under fixed seeds; afterwards training mode and all generators as before.

    `no_grad`, not `inference_mode`: what a module computes and keeps (a table of positions) could not be trained
    through later.
    """
    model.eval()
    try:
        with randomness(seeds, device), torch.no_grad():
            yield
    finally:
        model.train()


def _batches(evaluator: Evaluator, dataset: Dataset[Any]) -> Iterator[Any]:
    size, step = len(dataset), evaluator.batch_size  # type: ignore[arg-type]
    starts = range(0, size, step)
    tensors = plain_tensors(dataset)
    if tensors is not None:
        for start in starts:
            # A copy: a loss that writes into its batch must not write into the data.
            yield [moved(tensor[start : start + step].detach().clone(), evaluator.device) for tensor in tensors]
        return
    keys = ((number, list(range(start, min(start + step, size)))) for number, start in enumerate(starts))
    # Processes for a batch or two would cost more than they bring.
    if evaluator.data_workers > 0 and len(starts) > evaluator.data_workers:
        source = LoadedBatches(
            dataset, keys, evaluator.seed, Purpose.EVALUATION, evaluator.device, evaluator.data_workers
        )
        try:
            for number in range(len(starts)):
                yield source.take(number)
        finally:
            source.close()
        return
    for number, examples in keys:
        yield moved(drawn(dataset, examples, sequence(evaluator.seed, Purpose.EVALUATION, number)), evaluator.device)


def _evaluate_split(evaluator: Evaluator, dataset: Dataset[Any]) -> SplitEvaluation:
    workload, averages, moments = evaluator.workload, Averages(), Averages()
    shift: Tensor | None = None
    examples = 0
    with contextlib.closing(_batches(evaluator, dataset)) as batches:  # type: ignore[type-var]
        for batch in batches:
            losses = checked_losses(workload.loss(workload.model, batch)).detach().to(torch.float64)
            averages.add("loss", losses)
            # Squares about a value near the mean: about zero, a large mean would swallow a small spread.
            shift = losses.mean() if shift is None else shift
            moments.add("first", losses - shift)
            moments.add("second", (losses - shift) ** 2)
            examples += losses.shape[0]
            if workload.metrics is not None:
                add_metrics(averages, workload.metrics(workload.model, batch), losses.shape[0])
    means = averages.means()
    return SplitEvaluation(with_derived(workload, means), _loss_summary(means, moments.means(), examples))


def _loss_summary(means: Mapping[str, float], moments: Mapping[str, float], examples: int) -> LossSummary:
    variance = moments.get("second", math.nan) - moments.get("first", math.nan) ** 2
    return LossSummary(
        means.get("loss", math.nan), math.sqrt(max(variance, 0.0)) if variance == variance else math.nan, examples
    )


def with_derived(workload: Workload, means: dict[str, float]) -> dict[str, float]:
    """The averages of a split and what `finalize` derives from them."""
    if workload.finalize is None:
        return means
    derived = workload.finalize(dict(means))
    return means | {str(name): float(value) for name, value in derived.items()}


def evaluate(evaluator: Evaluator) -> dict[str, SplitEvaluation]:
    """Evaluate every split, each under the same fixed seed, so that no split's numbers depend on another's being there.

    Raises WorkloadError where loss or metrics do not give one value per example.
    """
    found = {}
    for name, dataset in evaluator.splits.items():
        with evaluating(evaluator.workload.model, sequence(evaluator.seed, Purpose.EVALUATION), evaluator.device):
            found[name] = _evaluate_split(evaluator, dataset)
    return found


def fixed_batch(evaluator: Evaluator, examples: int) -> Any:
    """A batch of at most `examples` examples spread evenly over the evaluated sample of `train`, on the device."""
    dataset = evaluator.splits["train"]
    size = len(dataset)  # type: ignore[arg-type]
    chosen = np.unique(np.linspace(0, size - 1, min(size, examples)).astype(np.int64)).tolist()
    return moved(drawn(dataset, chosen, sequence(evaluator.seed, Purpose.EVALUATION)), evaluator.device)


def fixed_batch_losses(evaluator: Evaluator, batch: Any) -> Tensor:
    """The losses of the fixed batch in evaluation mode, shape [examples], on the device."""
    model = evaluator.workload.model
    with evaluating(model, sequence(evaluator.seed, Purpose.EVALUATION), evaluator.device):
        # A copy: the loss may give a buffer that it fills anew each time.
        return evaluator.workload.loss(model, batch).detach().clone()
