"""Evaluations by several ranks, each a process, against those of one; and the averages against plain arithmetic.

Tests evaluation.py, evaluation_batches.py, split_sums.py, divided_work.py, first_rank.py, sample_errors.py and
batch_norm_statistics.py on several devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from rank_calls import on_ranks
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from training_builders import Augmented, cohen_kappa, cross_entropy, error_rate, labelled, make_request

from tunectl.core.errors import Infeasible
from tunectl.core.records import BatchNormStatistics
from tunectl.training.batch_norm_statistics import BatchNormGatherer
from tunectl.training.evaluated_splits import evaluated_splits
from tunectl.training.evaluation import evaluate, evaluating
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.first_rank import on_first
from tunectl.training.ranks import Ranks
from tunectl.training.sample_errors import whole_metrics
from tunectl.training.seeds import Purpose, sequence
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload

COUNTS = (1, 2, 4)
CPU = torch.device("cpu")
VALID = 23
"""In batches of 5: five, of which the last has three examples."""


def in_double(data: TensorDataset) -> TensorDataset:
    features, labels = data.tensors
    return TensorDataset(features.double(), labels)


def metrics(model: nn.Module, batch: Any) -> Mapping[str, Any]:
    """By example, by weight, by the parts of examples, and relative to the rest of the batch."""
    scores = model(batch[0])
    largest = scores.max(dim=1).values
    return {
        **error_rate(model, batch),
        "weighted": (largest, batch[1] * 0.37),
        "parts": (scores, (scores > 0).double()),
        "relative": (largest - largest.mean()).square(),
    }


def base() -> Workload:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    data = {"train": in_double(labelled(50)), "valid": in_double(labelled(VALID, seed=1))}
    return Workload(model, data, cross_entropy, metrics, finalize=lambda found: {"perplexity": math.exp(found["loss"])})


def weighted_loss(model: nn.Module, batch: Any) -> Any:
    scores = model(batch[0])
    return scores.square(), (batch[1] != 1)[:, None] * torch.tensor([1.0, 0.25, 3.0]).double()


def whole_split(model: nn.Module, dataset: Any, device: torch.device) -> Mapping[str, float]:
    features, labels = dataset.tensors
    return {"kappa": cohen_kappa(model(features).argmax(dim=1), labels), "examples": len(labels)}


class AsDouble(Dataset[Any]):
    def __init__(self, inner: Dataset[Any]) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]

    def __getitem__(self, place: int) -> Any:
        features, label = self.inner[place]
        return features.double(), label


class Stream(IterableDataset[Any]):
    """Draws random numbers between its examples."""

    def __init__(self, inner: Dataset[Any]) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        for place in range(len(self)):
            features, label = self.inner[place]
            yield features + torch.rand(1).double(), label


def noisy(model: nn.Module, batch: Any) -> Mapping[str, Any]:
    size = len(batch[1])
    return {"torch": torch.rand(size), "numpy": np.random.rand(size)}


class WithGenerator(nn.Module):
    """Draws from a generator of its own."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.generator = inner, np.random.default_rng(7)

    def forward(self, values: Tensor) -> Tensor:
        drawn: Tensor = self.inner(values) + float(self.generator.normal())
        return drawn


def failing(error: Callable[[], Exception]) -> Callable[[nn.Module, Any], Tensor]:
    """A loss that raises in the second batch of valid, whose first example has the place 5."""
    bad = in_double(labelled(VALID, seed=1)).tensors[0][5]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if torch.equal(batch[0][0], bad):
            raise error()
        return cross_entropy(model, batch)

    return loss


class OddError(Exception):
    """Cannot be made again from its text."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def late_names(model: nn.Module, batch: Any) -> Mapping[str, Any]:
    """A metric that the last batch alone has, and one that it has not."""
    return {"late" if len(batch[1]) < 5 else "early": batch[1]}


def counting() -> Workload:
    """Its `finalize` depends on the batches that were seen."""
    seen = []

    def counted(model: nn.Module, batch: Any) -> Mapping[str, Any]:
        seen.append(len(batch[1]))
        return {}

    return replace(base(), metrics=counted, finalize=lambda found: {"seen": sum(seen)})


def negative(model: nn.Module, batch: Any) -> Any:
    values = cross_entropy(model, batch)
    return values, torch.where(batch[1] == 2, -1.0, 1.0)


def ruined() -> Workload:
    workload = base()
    last: Any = list(workload.model.modules())[-1]
    with torch.no_grad():
        last.weight.fill_(1e200)
    return replace(workload, loss=lambda model, batch: model(batch[0]).square().sum(dim=1))


def streamed() -> Workload:
    workload = base()
    return replace(workload, data={**workload.data, "valid": StreamedExamples(Stream(workload.data["valid"]))})


def drawn_data() -> Workload:
    workload = base()
    data = {"train": labelled(50), "valid": AsDouble(Augmented(labelled(VALID, seed=1)))}
    return replace(workload, data={**data, "train": AsDouble(data["train"])})


CASES: dict[str, tuple[Callable[[], Workload], dict[str, Any]]] = {
    "plain": (base, {}),
    "batches of one": (base, {"batch_size": 1}),
    "one batch": (base, {"batch_size": 1000}),
    "weighted loss": (lambda: replace(base(), loss=weighted_loss), {}),
    "whole-split metrics": (lambda: replace(base(), evaluate=whole_split), {}),
    "examples drawn anew": (drawn_data, {}),
    "loader processes": (drawn_data, {"data_workers": 2}),
    "stream": (streamed, {}),
    "stream with a loader process": (streamed, {"data_workers": 2}),
    "random metrics": (lambda: replace(base(), metrics=noisy), {}),
    "own generator": (lambda: replace(base(), model=WithGenerator(base().model)), {}),
    "names of some batches": (lambda: replace(base(), metrics=late_names), {}),
    "ruined": (ruined, {}),
    "error": (lambda: replace(base(), loss=failing(lambda: ValueError("no such label"))), {}),
    "odd error": (lambda: replace(base(), loss=failing(lambda: OddError(1, 2))), {}),
    "infeasible": (lambda: replace(base(), loss=failing(lambda: Infeasible("too_deep"))), {}),
    "negative weights": (lambda: replace(base(), loss=negative), {}),
    "no number": (lambda: replace(base(), evaluate=lambda *_: {"a": "text"}), {}),
    "stateful finalize": (counting, {}),
}


def _found(ranks: Ranks, factory: Callable[[], Workload], changes: Mapping[str, Any]) -> Any:
    torch.manual_seed(ranks.rank)
    workload = factory()
    splits = evaluated_splits(workload, 12)
    settings = {"batch_size": 5, "data_workers": 0, **changes}
    evaluator = Evaluator(workload, splits, settings["batch_size"], 1, CPU, settings["data_workers"], ranks=ranks)
    before = torch.get_rng_state().tolist()
    try:
        # Twice: the second time it is known of which splits rank 0 must evaluate all batches.
        every = [evaluate(evaluator), evaluate(evaluator)]
    except Exception as error:
        return type(error).__name__, str(error)
    assert torch.get_rng_state().tolist() == before
    return [{name: (item.metrics, asdict(item.loss), item.whole) for name, item in found.items()} for found in every]


def _everything(ranks: Ranks) -> dict[str, Any]:
    found = {name: _found(ranks, factory, changes) for name, (factory, changes) in CASES.items()}
    return found | {"whole": _whole(ranks), "statistics": _statistics(ranks), "on first": _on_first(ranks)}


def _whole(ranks: Ranks) -> Any:
    workload = replace(base(), evaluate=whole_split)
    evaluator = Evaluator(workload, evaluated_splits(workload, 12, {"valid": 9}), 5, 1, CPU, ranks=ranks)
    return whole_metrics(evaluator, {"valid": 9})


def _statistics(ranks: Ranks) -> Any:
    found = []
    for name, factory, sizes in (("drawn", drawn_data, {}), ("divided", base, {"accumulate_steps": 3})):
        torch.manual_seed(0)
        workload = factory()
        request = make_request(batch_norm_statistics=BatchNormStatistics(5), batch_size=8, **sizes)
        gatherer = BatchNormGatherer.of_request(request, workload, CPU, ranks)
        assert gatherer is not None
        workload.model.train()
        with gatherer.gathered() as trained:
            found.append((name, {name: buffer.tolist() for name, buffer in workload.model.named_buffers()}))
        assert all(torch.equal(buffer, trained[name]) for name, buffer in workload.model.named_buffers())
    return found


def _on_first(ranks: Ranks) -> Any:
    return on_first(ranks, lambda: {"rank": ranks.rank})


@pytest.fixture(scope="module")
def everything() -> dict[int, list[dict[str, Any]]]:
    return on_ranks(_everything, COUNTS)


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("case", [name for name in CASES if name != "stateful finalize"])
def test_every_rank_has_the_metrics_of_one_device_bit_for_bit(
    everything: dict[int, list[dict[str, Any]]], case: str, count: int
) -> None:
    (expected,) = (found[case] for found in everything[1])
    for found in (of_rank[case] for of_rank in everything[count]):
        if isinstance(expected, tuple):
            assert found == expected or (case == "odd error" and found == ("RuntimeError", "OddError: 1 and 2"))
            continue
        for one, other in zip(expected, found, strict=True):
            for split, (given, loss, whole) in one.items():
                assert repr(other[split][0]) == repr(given)
                assert list(other[split][0]) == list(given)
                assert repr(other[split][2]) == repr(whole)
                assert other[split][1] == pytest.approx(loss, rel=1e-12, nan_ok=True)
    # Rank 0 has the exception itself.
    if isinstance(expected, tuple):
        assert everything[count][0][case] == expected


def test_the_metrics_are_those_of_all_examples_at_once(everything: dict[int, list[dict[str, Any]]]) -> None:
    workload: Any = base()
    features, labels = workload.data["valid"].tensors
    with evaluating(workload.model, sequence(1, Purpose.EVALUATION), CPU):
        scores = workload.model(features)
    losses, largest = torch.nn.functional.cross_entropy(scores, labels, reduction="none"), scores.max(dim=1).values
    weights, counted = labels * 0.37, (scores > 0).double()
    for count in COUNTS:
        found, loss, _ = everything[count][-1]["plain"][0]["valid"]
        assert found["loss"] == pytest.approx(float(losses.mean()), rel=1e-12)
        assert found["error_rate"] == pytest.approx(float((scores.argmax(1) != labels).double().mean()), rel=1e-15)
        assert found["weighted"] == pytest.approx(float((largest * weights).sum() / weights.sum()), rel=1e-12)
        assert found["parts"] == pytest.approx(float((scores * counted).sum() / counted.sum()), rel=1e-12)
        assert found["perplexity"] == pytest.approx(math.exp(float(losses.mean())), rel=1e-12)
        assert loss["spread"] == pytest.approx(float(losses.std(correction=0)), rel=1e-10)
        assert loss["examples"] == VALID


def test_a_metric_that_depends_on_its_batch_gets_the_batches_of_one_device(
    everything: dict[int, list[dict[str, Any]]],
) -> None:
    workload: Any = base()
    features, _ = workload.data["valid"].tensors
    with evaluating(workload.model, sequence(1, Purpose.EVALUATION), CPU):
        largest = workload.model(features).max(dim=1).values
    relative = torch.cat([(part - part.mean()).square() for part in largest.split(5)])
    of_all = (largest - largest.mean()).square()
    assert everything[4][0]["plain"][0]["valid"][0]["relative"] == pytest.approx(float(relative.mean()), rel=1e-12)
    assert abs(float(of_all.mean() - relative.mean())) > 1e-4


@pytest.mark.parametrize("count", COUNTS[1:])
def test_whole_splits_have_the_values_of_one_device_and_their_errors(
    everything: dict[int, list[dict[str, Any]]], count: int
) -> None:
    (expected,) = (found["whole"] for found in everything[1])
    assert "valid_sample_error/parts" in expected
    for of_rank in everything[count]:
        found = of_rank["whole"]
        assert found == pytest.approx(expected, rel=1e-11)
        assert {name: found[name] for name in found if "_error/" not in name} == {
            name: expected[name] for name in expected if "_error/" not in name
        }


@pytest.mark.parametrize("count", COUNTS[1:])
def test_gathered_statistics_are_those_of_one_device(everything: dict[int, list[dict[str, Any]]], count: int) -> None:
    (expected,) = (found["statistics"] for found in everything[1])
    for of_rank in everything[count]:
        for (name, found), (other, given) in zip(of_rank["statistics"], expected, strict=True):
            assert name == other
            for buffer, values in given.items():
                assert found[buffer] == pytest.approx(values, rel=1e-12, abs=1e-14)
        assert of_rank["statistics"] == everything[count][0]["statistics"]


@pytest.mark.parametrize("count", COUNTS)
def test_what_rank_0_computes_reaches_every_rank(everything: dict[int, list[dict[str, Any]]], count: int) -> None:
    assert [found["on first"] for found in everything[count]] == [{"rank": 0}] * count


@pytest.mark.parametrize("count", COUNTS[1:])
def test_a_finalize_that_keeps_something_of_its_batches_is_refused(
    everything: dict[int, list[dict[str, Any]]], count: int
) -> None:
    for found in everything[count]:
        kind, message = found["stateful finalize"]
        assert kind == "WorkloadError"
        assert message.startswith("finalize(metrics) gives other numbers for the split 'train' on another device")
