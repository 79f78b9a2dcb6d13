"""Evaluates a model on the splits of its workload: exact averages, without a change of the trial's state."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tunectl.core.errors import WorkloadError
from tunectl.core.records import PREFETCHED
from tunectl.language.configuration import Precision
from tunectl.training.batch_values import copied, moved, unwritten
from tunectl.training.batches import DrawnByKey, LoadedBatches
from tunectl.training.collation import batch_tensors, collate_of, drawn
from tunectl.training.example_losses import WRONG_WEIGHTS, are_right, example_losses
from tunectl.training.precision import casting
from tunectl.training.seeds import Purpose, randomness, sequence
from tunectl.training.split_metrics import FINALIZE, metric_number, split_metrics
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload


@dataclass(frozen=True, slots=True)
class LossSummary:
    """The loss over a split: mean and standard deviation over its examples, in the unit of the loss.

    `examples` is their number; of weighted ones the number of equal weights whose mean is as accurate, (sum w)^2 / sum
    w^2 (Kish, "Survey Sampling", 1965), rounded.
    """

    mean: float
    spread: float
    examples: int


@dataclass(frozen=True, slots=True)
class SplitEvaluation:
    """A split's metrics by name (`loss` always), and the mean and spread of its loss.

    `whole` are those among them that the workload's `evaluate` gave, which are no averages.
    """

    metrics: dict[str, float]
    loss: LossSummary
    whole: dict[str, float]


@dataclass(frozen=True, slots=True)
class Evaluator:
    """What is evaluated, and how: the splits with their data, the batch size, the seed, and the precision of loss and
    metrics (averages are always float64).
    """

    workload: Workload
    splits: Mapping[str, Dataset[Any]]
    batch_size: int
    seed: int
    device: torch.device
    data_workers: int = 0
    precision: Precision = "float32"
    prefetch: int = PREFETCHED


class Averages:
    """Weighted means of per-example values over batches, accumulated in float64 on the values' device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Any, weights: Any = None) -> None:
        """Add a batch: values of any shape (any number type or bool), weights of the same shape or None for ones.

        A value of weight zero does not count, even where it is NaN, as padding often is.
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


def _checked(name: str, what: str, values: Any, examples: int, *, parts: bool = False) -> Tensor:
    """The values or the weights of a metric, one for each example; with `parts` there may be several for each."""
    try:
        numbers = values if isinstance(values, Tensor) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise WorkloadError(f"{what} of metric {name!r}: expected numbers: {error}") from error
    if numbers.is_complex():
        raise WorkloadError(f"{what} of metric {name!r}: expected real numbers, got {numbers.dtype}")
    if tuple(numbers.shape[: 1 if parts else None]) != (examples,):
        raise WorkloadError(
            f"{what} of metric {name!r}: expected one per example, shape [{examples}{', ...' if parts else ''}] for"
            f" this batch, got {list(numbers.shape)}{'' if parts else _hint(numbers, examples)}"
        )
    return numbers


def _hint(values: Tensor, examples: int) -> str:
    """What may have been meant by values of several parts of each example."""
    if values.ndim > 1 and len(values) == examples:
        return "; for values of several parts of an example, as tokens, give a tuple (values, weights)"
    return ""


def _is_series(value: Any) -> bool:
    return value.ndim > 0 if isinstance(value, (Tensor, np.ndarray)) else isinstance(value, (list, tuple))


def add_metrics(averages: Averages, given: Any, examples: int, *, check_weights: bool = True) -> None:
    """Add what `metrics(model, batch)` gave for a batch; raises WorkloadError where it is not as `Workload` requires.

    `check_weights` tests for negative weights, which waits for the device.
    """
    if not isinstance(given, Mapping):
        raise WorkloadError(f"metrics(model, batch): expected a dict of per-example values, got {type(given).__name__}")
    for name, value in given.items():
        if not isinstance(name, str) or not name:
            raise WorkloadError(f"metrics(model, batch): expected names as text, got {name!r}")
        if name == "loss":
            continue
        if isinstance(value, list) and len(value) == 2 and all(map(_is_series, value)):
            raise WorkloadError(
                f"metric {name!r}: expected values or a tuple (values, weights), got a list of two series"
            )
        if isinstance(value, tuple) and len(value) == 2:
            values = _checked(name, "the values", value[0], examples, parts=True)
            weights = _checked(name, "the weights", value[1], examples, parts=True)
            if values.shape != weights.shape:
                raise WorkloadError(
                    f"metric {name!r}: expected values and weights of one shape, got {list(values.shape)} and"
                    f" {list(weights.shape)}"
                )
            if check_weights and bool((weights < 0).any()):
                raise WorkloadError(f"the weights of metric {name!r}: expected at least 0, got {weights.min().item()}")
            averages.add(name, values, weights)
        else:
            averages.add(name, _checked(name, "the values", value, examples))


@contextlib.contextmanager
def evaluating(model: nn.Module, seeds: np.random.SeedSequence, device: torch.device) -> Iterator[None]:
    """Evaluation mode without gradients, with fixed seeds; afterwards training mode, and all generators as before.

    `no_grad` and not `inference_mode`: a tensor that a module computes and keeps (a table of positions) could not be
    used in training later.
    """
    model.eval()
    try:
        with randomness(seeds, device), torch.no_grad():
            yield
    finally:
        model.train()


def _batches(evaluator: Evaluator, split: str) -> Iterator[tuple[Any, int]]:
    """The batches of a split, each with its number of examples."""
    dataset, collate = evaluator.splits[split], collate_of(evaluator.workload, split)
    size, step = len(dataset), evaluator.batch_size  # type: ignore[arg-type]
    starts = range(0, size, step)
    sizes = [min(step, size - start) for start in starts]
    tensors = batch_tensors(dataset, collate)
    if tensors is not None:
        for start, count in zip(starts, sizes, strict=True):
            # A copy, so that a loss that writes into its batch does not change the data.
            yield [moved(tensor[start : start + count].detach().clone(), evaluator.device) for tensor in tensors], count
        return
    make = DrawnByKey(dataset, evaluator.seed, Purpose.EVALUATION, collate)
    keys = ((number, list(range(start, start + sizes[number]))) for number, start in enumerate(starts))
    # A stream is read by one process. For a batch or two, processes would take more time than they save.
    workers = min(evaluator.data_workers, 1) if isinstance(dataset, StreamedExamples) else evaluator.data_workers
    if 0 < workers < len(starts):
        source = LoadedBatches(make, keys, evaluator.device, workers, evaluator.prefetch)
        try:
            for number, count in enumerate(sizes):
                yield source.take(number), count
        finally:
            source.close()
        return
    for key in keys:
        yield moved(make(key), evaluator.device), len(key[1])


class _LossMoments:
    """The loss over the batches of a split: its weighted mean, and its spread over the examples."""

    def __init__(self, averages: Averages) -> None:
        self.averages = averages
        self._moments = Averages()
        self._shift, self._unit = torch.zeros(()), torch.ones(())
        self._examples = 0
        self._squares: Tensor | None = None
        self._are_right: Tensor | None = None

    def add(self, given: Any, examples: int) -> None:
        """Add what the loss gave for a batch of this number of examples."""
        losses = example_losses(given, examples)
        values, weights = losses.per_example()
        self.averages.add("loss", values, weights)
        if not self._examples:
            # Deviations from a value near the mean: a large mean would hide a small spread. In units of the losses'
            # size: the square of 1e160 is larger than a float can be.
            self._shift, self._unit = values.mean(), values.abs().max()
            self._unit = torch.where(self._unit > 0, self._unit, 1.0)
        deviations = (values - self._shift) / self._unit
        self._moments.add("first", deviations, weights)
        self._moments.add("second", deviations**2, weights)
        if losses.weights is not None and weights is not None:
            self._note_weights(losses.weights, weights)
        self._examples += len(values)

    def _note_weights(self, given: Tensor, of_examples: Tensor) -> None:
        right, squares = are_right(given), torch.stack([of_examples.sum(), of_examples.square().sum()])
        self._are_right = right if self._are_right is None else self._are_right & right
        self._squares = squares if self._squares is None else self._squares + squares

    def summary(self, means: Mapping[str, float], split: str) -> LossSummary:
        """The loss over all batches of this split, of whose averages `means` has the mean.

        Raises WorkloadError where weights are not as they must be, and where their sum is 0.
        """
        examples = self._examples
        if self._are_right is not None and self._squares is not None:
            if not self._are_right:
                raise WorkloadError(f"{WRONG_WEIGHTS}, which those of the split {split!r} are not")
            total, squares = self._squares.tolist()
            if total == 0:
                raise WorkloadError(
                    f"the weights of loss(model, batch) are 0 for all examples of the split {split!r}: they have no"
                    " mean loss"
                )
            examples = max(1, round(total / squares * total)) if squares > 0 else 1
        moments = self._moments.means()
        first = moments.get("first", math.nan)
        variance = moments.get("second", math.nan) - first * first
        spread = float(self._unit) * math.sqrt(max(variance, 0.0)) if variance == variance else math.nan
        return LossSummary(means.get("loss", math.nan), spread, examples)


def evaluate_split(
    evaluator: Evaluator, split: str, derived_names: Sequence[str] = (), averages: Averages | None = None
) -> SplitEvaluation:
    """Evaluate one split, of whose values `averages` takes the means; see `evaluate`. To be called in `evaluating`."""
    loss = _LossMoments(Averages() if averages is None else averages)
    workload, cast = evaluator.workload, casting(evaluator.precision, evaluator.device)
    with contextlib.closing(_batches(evaluator, split)) as batches:  # type: ignore[type-var]
        for batch, examples in batches:
            # The metrics get the same batch.
            with unwritten(batch, "loss(model, batch)"), cast:
                given = workload.loss(workload.model, batch)
            loss.add(given, examples)
            if workload.metrics is not None:
                with cast:
                    found = workload.metrics(workload.model, batch)
                add_metrics(loss.averages, found, examples, check_weights=False)
    means = loss.averages.means()
    summary = loss.summary(means, split)
    # In one step with `finalize`: a ruined model has no such metrics either.
    whole: dict[str, float] = {}

    def metrics() -> dict[str, float]:
        with cast:
            whole.update(split_metrics(workload, evaluator.splits[split], evaluator.device, means))
        return with_derived(workload, means | whole)

    return SplitEvaluation(_or_known(metrics, means, derived_names), summary, whole)


def with_derived(workload: Workload, means: dict[str, float]) -> dict[str, float]:
    """The averages of a split with those that `finalize` derives from them.

    Raises WorkloadError where it gives no dict of numbers, or a name that exists already or is not allowed; exceptions
    of `finalize` pass.
    """
    if workload.finalize is None:
        return means
    derived = workload.finalize(dict(means))
    if not isinstance(derived, Mapping):
        raise WorkloadError(f"finalize(metrics): expected a dict of numbers, got {type(derived).__name__}")
    found = dict(means)
    for name, value in derived.items():
        number = metric_number(FINALIZE, name, value)
        if name not in means:
            found[name] = number
        elif not (math.isclose(number, means[name]) or (math.isnan(number) and math.isnan(means[name]))):
            raise WorkloadError(
                f"finalize(metrics) gives a {name!r} that differs from the average of this name; use another name"
            )
    return found


def _or_known(
    metrics: Callable[[], dict[str, float]], means: dict[str, float], known_names: Sequence[str]
) -> dict[str, float]:
    """What `metrics` gives; where the averages of a ruined model are too large for it (exp of a huge loss), the names
    known from before are NaN.
    """
    try:
        return metrics()
    except (ArithmeticError, ValueError) as error:
        if isinstance(error, ValueError) and all(map(math.isfinite, means.values())):
            raise
        return means | {name: math.nan for name in known_names if name not in means}


def evaluate(evaluator: Evaluator, derived_names: dict[str, list[str]] | None = None) -> dict[str, SplitEvaluation]:
    """Evaluate every split, each with the same fixed seed, so that no split's numbers depend on the other splits.

    `derived_names`, by split, keeps the names that `finalize` adds from one evaluation to the next: these metrics are
    NaN where it fails for arithmetic reasons. Raises WorkloadError where loss, metrics or finalize do not give what
    `Workload` requires, and where the loss writes into its batch.
    """
    found = {}
    known = {} if derived_names is None else derived_names
    for name in evaluator.splits:
        with evaluating(evaluator.workload.model, sequence(evaluator.seed, Purpose.EVALUATION), evaluator.device):
            found[name] = evaluate_split(evaluator, name, known.get(name, ()))
        known[name] = list(found[name].metrics)
    return found


def fixed_batch(evaluator: Evaluator, examples: int, first: int | None = None) -> Any:
    """A batch of at most `examples` examples, spread evenly over the evaluated sample of `train`, on the device.

    `first`: only this number of them, the first ones.
    """
    dataset = evaluator.splits["train"]
    size = len(dataset)  # type: ignore[arg-type]
    # np.unique would import numpy.ma at its first call: 20 ms and more in every trial.
    chosen = sorted(set(np.linspace(0, size - 1, min(size, examples)).astype(np.int64).tolist()))
    collate = collate_of(evaluator.workload, "train")
    batch = drawn(dataset, chosen[:first], sequence(evaluator.seed, Purpose.EVALUATION), collate)
    return moved(batch, evaluator.device)


def fixed_batch_losses(evaluator: Evaluator, batch: Any) -> Tensor:
    """The losses of the fixed batch in evaluation mode, on the device: shape [examples]; with weights [2, examples],
    the examples' weighted means and their weights.
    """
    model, cast = evaluator.workload.model, casting(evaluator.precision, evaluator.device)
    with evaluating(model, sequence(evaluator.seed, Purpose.EVALUATION), evaluator.device), cast:
        # Copies: the loss may write into its batch, and may give a buffer that it fills again at each call.
        losses = example_losses(evaluator.workload.loss(model, copied(batch)))
        if losses.weights is None:
            return losses.values.detach().clone()
        return torch.stack(losses.per_example())  # type: ignore[arg-type]
