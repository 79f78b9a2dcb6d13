"""Evaluates a model on the splits of its workload: exact averages, without a change of the trial's state."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunectl.core.errors import LostRankError, WorkloadError
from tunectl.training.averages import Averages, add_metrics
from tunectl.training.batch_values import copied, moved, unwritten
from tunectl.training.collation import collate_of, drawn
from tunectl.training.divided_work import alone, tried
from tunectl.training.evaluation_batches import Evaluator, batches_of_split
from tunectl.training.example_losses import example_losses
from tunectl.training.loss_moments import LossMoments, LossSummary
from tunectl.training.precision import casting
from tunectl.training.seeds import Purpose, randomness, sequence
from tunectl.training.split_metrics import FINALIZE, metric_number, split_metrics
from tunectl.training.split_sums import SplitSums
from tunectl.workloads.workload import Workload


@dataclass(frozen=True, slots=True)
class SplitEvaluation:
    """A split's metrics by name (`loss` always), and the mean and spread of its loss.

    `whole` are those among them that the workload's `evaluate` gave, which are no averages; `averages` has the others.
    """

    metrics: dict[str, float]
    loss: LossSummary
    whole: dict[str, float]
    averages: Averages = field(compare=False, repr=False)


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


def evaluate_split(
    evaluator: Evaluator, split: str, derived_names: Sequence[str] = (), averaging: type[Averages] = Averages
) -> SplitEvaluation:
    """Evaluate one split, whose means are those of an object of the class `averaging`; see `evaluate`.

    To be called in `evaluating`, by all ranks.
    """
    loss = _summed(evaluator, split, averaging)
    workload, means = evaluator.workload, loss.averages.means()
    summary = loss.summary(means, split)

    def complete() -> tuple[dict[str, float], dict[str, float]]:
        # In one step with `finalize`: a ruined model has no such metrics either.
        whole: dict[str, float] = {}

        def metrics() -> dict[str, float]:
            with casting(evaluator.precision, evaluator.device):
                whole.update(split_metrics(workload, evaluator.splits[split], evaluator.device, means))
            return with_derived(workload, means | whole)

        return _or_known(metrics, means, derived_names), whole

    found, whole = alone(evaluator.ranks, workload.model, complete)
    _check_derived(evaluator, split, means | whole, found)
    return SplitEvaluation(found, summary, whole, loss.averages)


def _summed(evaluator: Evaluator, split: str, averaging: type[Averages]) -> LossMoments:
    """The sums over all batches of a split, at every rank.

    Each rank evaluates some of the batches, whole ones, unless one of them must evaluate all (see divided_work).
    """
    ranks, failed = evaluator.ranks, ""
    if ranks.count > 1 and split not in evaluator.undivided:
        loss = LossMoments(averaging(SplitSums(ranks)))
        own = partial(_add_batches, evaluator, split, evaluator.own_batches(split), loss)
        found = tried(ranks, evaluator.workload.model, evaluator.device, own)
        if found.ending == "done":
            loss.averages.sums.join()
            return loss
        if found.ending == "failed":
            failed = found.why
        else:
            evaluator.undivided[split] = found.why

    def summed() -> LossMoments:
        whole = LossMoments(averaging())
        _add_batches(evaluator, split, evaluator.all_batches(split), whole)
        return whole

    if ranks.count == 1:
        return summed()
    known = alone(ranks, evaluator.workload.model, lambda: summed().averages.sums.known())
    if failed:
        evaluator.rescued[split] = failed
    return LossMoments(averaging(SplitSums.of(*known)))


def _add_batches(evaluator: Evaluator, split: str, numbers: range, loss: LossMoments) -> None:
    workload, cast = evaluator.workload, casting(evaluator.precision, evaluator.device)
    with contextlib.closing(batches_of_split(evaluator, split, numbers)) as batches:  # type: ignore[type-var]
        for number, batch, examples in batches:
            loss.averages.sums.batch = number
            # The metrics get the same batch.
            with unwritten(batch, "loss(model, batch)"), cast:
                given = workload.loss(workload.model, batch)
            loss.add(given, examples)
            if workload.metrics is not None:
                with cast:
                    found = workload.metrics(workload.model, batch)
                add_metrics(loss.averages, found, examples, check_weights=False)


def _check_derived(evaluator: Evaluator, split: str, means: dict[str, float], found: Mapping[str, float]) -> None:
    """Raise WorkloadError where `finalize` derives from the same averages on another rank what is not in `found`.

    It has then kept something of the batches that it was called for, of which each rank has only some.
    """
    workload, ranks = evaluator.workload, evaluator.ranks
    if ranks.count == 1 or workload.finalize is None or split in evaluator.undivided:
        return
    try:
        derived = with_derived(workload, means)
        differs = any(not _is_close(value, found.get(name, math.nan)) for name, value in derived.items())
    except LostRankError:
        raise
    except Exception:
        # What fails for a ruined model does so on every rank.
        differs = found.keys() > means.keys() and all(map(math.isfinite, found.values()))
    if ranks.agreed(differs):
        raise WorkloadError(
            f"finalize(metrics) gives other numbers for the split {split!r} on another device of the trial, for the"
            " same averages: it may depend on nothing else; what needs the whole split belongs into"
            " evaluate(model, dataset, device)"
        )


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))


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
    """Evaluate every split, each with the same fixed seed, so that no split's numbers depend on the other splits; to be
    called by all ranks.

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
