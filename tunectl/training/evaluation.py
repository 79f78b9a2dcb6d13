"""Evaluates a model on the splits of its workload: exact averages, without a change of the trial's state."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

from tunectl.core.errors import WorkloadError
from tunectl.core.final_training import VALID_FOR_TRAINING
from tunectl.language.configuration import Precision
from tunectl.training.batches import LoadedBatches, copied, drawn, moved, plain_tensors, unwritten
from tunectl.training.example_losses import WRONG_WEIGHTS, are_right, example_losses
from tunectl.training.precision import casting
from tunectl.training.seeds import TRAIN_SAMPLE_SEED, Purpose, randomness, sequence
from tunectl.workloads.workload import Workload

NOT_EVALUATED = "test"
"""The split that is not evaluated during training."""

MEASURED_SERIES = ("minibatch_loss", "skipped_updates")
"""The metrics of the updates under `train/`; no metric of a workload may have such a name."""


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
    """A split's averages by metric name (`loss` always), and the mean and spread of its loss."""

    metrics: dict[str, float]
    loss: LossSummary


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


def is_evaluated(name: str) -> bool:
    """Whether a data set of a workload is evaluated during training: `test` is not, nor what is no split."""
    return name not in (NOT_EVALUATED, VALID_FOR_TRAINING)


def evaluated_splits(workload: Workload, train_examples: int | None) -> dict[str, Dataset[Any]]:
    """The data sets that are evaluated, by split: all that `is_evaluated`, of `train` a sample as large as `valid`
    unless a number is given.
    """
    splits = {name: dataset for name, dataset in workload.data.items() if is_evaluated(name)}
    examples = train_examples if train_examples is not None else len(workload.data["valid"])  # type: ignore[arg-type]
    return splits | {"train": sample(workload.data["train"], examples)}


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


def _batches(evaluator: Evaluator, dataset: Dataset[Any]) -> Iterator[Any]:
    size, step = len(dataset), evaluator.batch_size  # type: ignore[arg-type]
    starts = range(0, size, step)
    tensors = plain_tensors(dataset)
    if tensors is not None:
        for start in starts:
            # A copy, so that a loss that writes into its batch does not change the data.
            yield [moved(tensor[start : start + step].detach().clone(), evaluator.device) for tensor in tensors]
        return
    keys = ((number, list(range(start, min(start + step, size)))) for number, start in enumerate(starts))
    # For a batch or two, processes would take more time than they save.
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


class _LossMoments:
    """The loss over the batches of a split: its weighted mean, and its spread over the examples."""

    def __init__(self) -> None:
        self.averages = Averages()
        self._moments = Averages()
        self._shift, self._unit = torch.zeros(()), torch.ones(())
        self._examples = 0
        self._squares: Tensor | None = None
        self._are_right: Tensor | None = None

    def add(self, given: Any) -> int:
        """Add what the loss gave for a batch; its number of examples."""
        losses = example_losses(given)
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
        return len(values)

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


def _evaluate_split(evaluator: Evaluator, split: str, derived_names: Sequence[str]) -> SplitEvaluation:
    workload, loss, cast = evaluator.workload, _LossMoments(), casting(evaluator.precision, evaluator.device)
    with contextlib.closing(_batches(evaluator, evaluator.splits[split])) as batches:  # type: ignore[type-var]
        for batch in batches:
            # The metrics get the same batch.
            with unwritten(batch, "loss(model, batch)"), cast:
                given = workload.loss(workload.model, batch)
            examples = loss.add(given)
            if workload.metrics is not None:
                with cast:
                    found = workload.metrics(workload.model, batch)
                add_metrics(loss.averages, found, examples, check_weights=False)
    means = loss.averages.means()
    summary = loss.summary(means, split)
    return SplitEvaluation(_with_known(workload, means, derived_names), summary)


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
        number = _derived(name, value)
        if name not in means:
            found[name] = number
        elif not (math.isclose(number, means[name]) or (math.isnan(number) and math.isnan(means[name]))):
            raise WorkloadError(
                f"finalize(metrics) gives a {name!r} that differs from the average of this name; use another name"
            )
    return found


def _derived(name: Any, value: Any) -> float:
    """A derived metric as a number; raises WorkloadError where its name or its value is not allowed."""
    if not isinstance(name, str) or not name or "/" in name:
        raise WorkloadError(f"finalize(metrics): expected names as text without a slash, got {name!r}")
    if name in MEASURED_SERIES:
        raise WorkloadError(f"finalize(metrics) gives {name!r}, the name of a measured series; use another name")
    try:
        if isinstance(value, (str, bytes, bytearray)):  # float() would read text
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WorkloadError(f"finalize(metrics): expected a dict of numbers, got {name!r}: {value!r}") from error


def _with_known(workload: Workload, means: dict[str, float], derived_names: Sequence[str]) -> dict[str, float]:
    """As `with_derived`; where the averages of a ruined model are too large for it (exp of a huge loss), the names
    known from before are NaN.
    """
    try:
        return with_derived(workload, means)
    except (ArithmeticError, ValueError) as error:
        if isinstance(error, ValueError) and all(map(math.isfinite, means.values())):
            raise
        return means | {name: math.nan for name in derived_names if name not in means}


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
            found[name] = _evaluate_split(evaluator, name, known.get(name, ()))
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
    return moved(drawn(dataset, chosen[:first], sequence(evaluator.seed, Purpose.EVALUATION)), evaluator.device)


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
