from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset
from torch_parts import numpy_state, tensors_of
from training_builders import (
    Augmented,
    cross_entropy,
    error_rate,
    frozen,
    labelled,
    plain_workload,
    stochastic_workload,
)

from tunectl.core.errors import WorkloadError
from tunectl.training.averages import Averages, add_metrics
from tunectl.training.evaluated_splits import evaluated_splits, sample
from tunectl.training.evaluation import evaluate, fixed_batch, fixed_batch_losses
from tunectl.training.evaluation_batches import Evaluator
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")


def evaluator(workload: Workload, batch_size: int = 7, workers: int = 0, seed: int = 1) -> Evaluator:
    return Evaluator(workload, evaluated_splits(workload, None), batch_size, seed, CPU, workers)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 19, 20, 21, 1000])
def test_averages_are_those_of_the_whole_split_whatever_the_batch_size(batch_size: int):
    torch.manual_seed(0)
    workload = plain_workload()
    found = evaluate(evaluator(workload, batch_size))
    features, labels = tensors_of(workload.data["valid"])
    with torch.no_grad():
        losses = nn.functional.cross_entropy(workload.model(features).double(), labels, reduction="none")
        wrong = workload.model(features).argmax(1) != labels
    assert found["valid"].metrics["loss"] == pytest.approx(losses.mean().item(), abs=1e-7)
    assert found["valid"].metrics["error_rate"] == wrong.double().mean().item()
    assert found["valid"].loss.mean == found["valid"].metrics["loss"]
    assert found["valid"].loss.spread == pytest.approx(losses.std(correction=0).item(), abs=1e-6)
    assert found["valid"].loss.examples == 20


def test_every_split_but_test_is_evaluated_and_train_by_a_sample_as_large_as_valid():
    workload = plain_workload()
    splits = evaluated_splits(workload, None)
    assert {name: len(tensors_of(data)[0]) for name, data in splits.items()} == {"train": 20, "valid": 20}
    assert len(tensors_of(evaluated_splits(workload, 35)["train"])[0]) == 35
    assert len(tensors_of(evaluated_splits(workload, 10**6)["train"])[0]) == 50
    data = {**workload.data, "shifted": labelled(9, seed=8), "valid_for_training": labelled(20)}
    assert list(evaluated_splits(Workload(workload.model, data, cross_entropy), None)) == ["train", "valid", "shifted"]


def test_the_sample_of_train_is_the_same_for_every_kind_of_data_set_and_every_call():
    data = labelled(50)
    plain = tensors_of(sample(data, 12))
    drawn = sample(Augmented(data), 12)
    assert isinstance(drawn, Subset)
    features = {tuple(row.tolist()) for row in plain[0]}
    assert len(features) == 12
    assert [int(data[i][1]) for i in drawn.indices] == plain[1].tolist()
    assert torch.equal(tensors_of(sample(data, 12))[0], plain[0])


def test_weights_average_by_weight_over_uneven_batches_and_a_zero_weight_hides_even_nan():
    averages = Averages()
    averages.add("x", torch.tensor([1.0, math.nan]), torch.tensor([2, 0]))
    averages.add("x", torch.tensor([4.0]), torch.tensor([6.0]))
    averages.add("none", torch.tensor([1.0]), torch.tensor([0.0]))
    averages.add("flag", [True, False, True, True])
    averages.add("count", torch.tensor([1, 2], dtype=torch.int8))
    means = averages.means()
    assert means["x"] == (1 * 2 + 4 * 6) / 8
    assert math.isnan(means["none"])
    assert (means["flag"], means["count"]) == (0.75, 1.5)


def test_averages_are_accumulated_in_double_precision():
    averages = Averages()
    for _ in range(100):
        averages.add("x", torch.full((1000,), 0.1))
    assert averages.means()["x"] == pytest.approx(float(np.float32(0.1)), abs=1e-12)


def test_a_spread_that_is_small_beside_its_mean_is_not_swallowed():
    values = torch.tensor([1e6 + 0.25, 1e6 - 0.25, 1e6 + 0.25, 1e6 - 0.25], dtype=torch.float64)
    model = nn.Linear(1, 1)
    data = {"train": TensorDataset(values), "valid": TensorDataset(values)}
    found = evaluate(evaluator(Workload(model, data, lambda model, batch: batch[0]), batch_size=3))
    assert found["valid"].loss.spread == pytest.approx(0.25, rel=1e-6)


def test_evaluating_changes_neither_model_nor_generators_and_gives_the_same_twice():
    torch.manual_seed(0)
    workload = stochastic_workload()
    workload.model.train()
    before = frozen(workload.model.state_dict()), torch.get_rng_state().tolist(), numpy_state()
    first = evaluate(evaluator(workload))
    assert (
        frozen(workload.model.state_dict()),
        torch.get_rng_state().tolist(),
        numpy_state(),
    ) == before
    assert all(module.training for module in workload.model.modules())
    torch.rand(3)
    assert evaluate(evaluator(workload)) == first
    assert evaluate(evaluator(workload, seed=2)) != first


def test_a_metric_that_draws_numbers_is_repeatable_and_does_not_disturb_the_training():
    def noisy(model: nn.Module, batch: Any) -> Any:
        size = len(batch[1])
        return {"torch": torch.rand(size), "numpy": np.random.rand(size)}

    plain = plain_workload()
    workload = Workload(plain.model, plain.data, cross_entropy, noisy)
    before = torch.get_rng_state().tolist(), numpy_state()
    first = evaluate(evaluator(workload))
    assert (torch.get_rng_state().tolist(), numpy_state()) == before
    torch.rand(1)
    assert evaluate(evaluator(workload)) == first


def test_loader_processes_do_not_change_an_evaluation():
    torch.manual_seed(0)
    workload = stochastic_workload()
    assert evaluate(evaluator(workload, 3, workers=2)) == evaluate(evaluator(workload, 3))


def greedy(model: nn.Module, batch: Any) -> Any:
    batch[0].mul_(2)
    return cross_entropy(model, batch)


def test_a_loss_that_writes_into_its_batch_is_refused_and_the_data_are_unchanged():
    workload = plain_workload()
    before = tensors_of(workload.data["valid"])[0].clone()
    with pytest.raises(WorkloadError, match=r"loss\(model, batch\) writes into its batch; work on a copy"):
        evaluate(evaluator(Workload(workload.model, workload.data, greedy, error_rate)))
    assert torch.equal(tensors_of(workload.data["valid"])[0], before)


def test_a_loss_cannot_change_the_fixed_batch():
    workload = plain_workload()
    changed = evaluator(Workload(workload.model, workload.data, greedy))
    batch = fixed_batch(changed, 9)
    assert torch.equal(fixed_batch_losses(changed, batch), fixed_batch_losses(changed, batch))


def test_finalize_adds_to_what_was_averaged():
    workload = plain_workload()
    derived = Workload(
        workload.model, workload.data, cross_entropy, error_rate, finalize=lambda m: {"perplexity": math.exp(m["loss"])}
    )
    metrics = evaluate(evaluator(derived))["valid"].metrics
    assert metrics["perplexity"] == math.exp(metrics["loss"])
    assert list(metrics) == ["loss", "error_rate", "perplexity"]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (lambda model, batch: {"accuracy": torch.tensor(0.5)}, r"accuracy.*shape \[7\].*got \[\]"),
        (lambda model, batch: {"m": torch.zeros(7, 2)}, r"got \[7, 2\]"),
        (lambda model, batch: {"m": (torch.zeros(7), torch.zeros(3))}, r"weights of metric 'm'"),
        (lambda model, batch: {"m": [torch.zeros(7), torch.ones(7)]}, r"'m': expected values or a tuple \(values, w"),
        (lambda model, batch: {"m": [[1.0] * 7, np.ones(7)]}, r"'m': expected values or a tuple \(values, weights\)"),
        (lambda model, batch: {"m": ["x"] * 7}, r"the values of metric 'm': expected numbers"),
        (lambda model, batch: {"m": (torch.zeros(7), None)}, r"the weights of metric 'm': expected numbers"),
        (
            lambda model, batch: {"m": torch.zeros(7, dtype=torch.complex64)},
            r"metric 'm': expected real numbers, got torch.complex64",
        ),
        (lambda model, batch: torch.zeros(7), r"expected a dict.*got Tensor"),
        (lambda model, batch: {3: torch.zeros(7)}, r"names as text.*3"),
    ],
)
def test_metrics_of_a_wrong_shape_are_named(metrics: Any, message: str):
    workload = plain_workload()
    with pytest.raises(WorkloadError, match=message):
        evaluate(evaluator(Workload(workload.model, workload.data, cross_entropy, metrics)))


def test_two_examples_given_as_a_list_are_no_pair_and_negative_weights_are_named():
    averages = Averages()
    add_metrics(averages, {"a": [1.0, 2.0], "b": [torch.tensor(1.0), torch.tensor(0.0)]}, 2)
    assert averages.means() == {"a": 1.5, "b": 0.5}
    with pytest.raises(WorkloadError, match=r"weights of metric 'm': expected at least 0, got -2"):
        add_metrics(averages, {"m": (torch.ones(2), torch.tensor([1.0, -2.0]))}, 2)


def finalized(finalize: Any, offset: float = 0.0) -> Evaluator:
    workload = plain_workload()

    def loss(model: nn.Module, batch: Any) -> Any:
        return cross_entropy(model, batch) + offset

    return evaluator(Workload(workload.model, workload.data, loss, error_rate, finalize=finalize))


@pytest.mark.parametrize(
    ("finalize", "message"),
    [
        (lambda m: None, r"expected a dict of numbers, got NoneType"),
        (lambda m: {"f": "1.5"}, r"expected a dict of numbers, got 'f': '1.5'"),
        (lambda m: {"f": torch.zeros(2)}, r"expected a dict of numbers, got 'f'"),
        (lambda m: {"f": None}, r"expected a dict of numbers, got 'f': None"),
        (lambda m: {"loss": 0.0}, r"'loss' that differs from the average of this name"),
        (lambda m: {"minibatch_loss": 0.0}, r"'minibatch_loss', the name"),
        (lambda m: {"a/b": 0.0}, r"names as text without a slash, got 'a/b'"),
        (lambda m: {3: 0.0}, r"names as text without a slash, got 3"),
    ],
)
def test_what_finalize_gives_wrongly_is_named(finalize: Any, message: str):
    with pytest.raises(WorkloadError, match=message):
        evaluate(finalized(finalize))


def test_finalize_may_give_the_averages_back_and_numbers_of_any_kind():
    metrics = evaluate(finalized(lambda m: {**m, "t": torch.tensor(2), "n": np.float32(0.5)}))["valid"].metrics
    assert list(metrics) == ["loss", "error_rate", "t", "n"]
    assert (metrics["t"], metrics["n"]) == (2.0, 0.5)


@pytest.mark.parametrize(
    ("derive", "offset"), [(math.exp, 1e4), (int, math.inf), (int, math.nan), (math.log, -math.inf)]
)
def test_what_finalize_cannot_compute_for_a_ruined_model_is_nan_under_the_names_known_before(
    derive: Any, offset: float
):
    def finalize(means: dict[str, float]) -> dict[str, float]:
        return {"derived": derive(means["loss"])}

    names: dict[str, list[str]] = {}
    evaluate(finalized(finalize), names)
    assert names["valid"] == ["loss", "error_rate", "derived"]
    ruined = finalized(finalize, offset)
    for _ in range(2):
        found = evaluate(ruined, names)["valid"].metrics
        assert list(found) == ["loss", "error_rate", "derived"]
        assert math.isnan(found["derived"])
    assert list(evaluate(ruined)["valid"].metrics) == ["loss", "error_rate"]


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), TypeError("x")])
def test_what_else_finalize_raises_passes(error: Exception):
    def finalize(means: dict[str, float]) -> dict[str, float]:
        raise error

    with pytest.raises(type(error)):
        evaluate(finalized(finalize))


def test_what_a_module_computes_once_while_evaluated_can_be_trained_through():
    class Lazy(nn.Linear):
        table: Any = None

        def forward(self, x: Any) -> Any:
            if self.table is None:
                self.table = torch.ones(3)
            return super().forward(x) * self.table  # kept for the way back, as no tensor of inference_mode can be

    workload = Workload(Lazy(6, 3), plain_workload().data, cross_entropy)
    evaluate(evaluator(workload))
    cross_entropy(workload.model, [torch.ones(2, 6), torch.zeros(2, dtype=torch.int64)]).sum().backward()
    assert workload.model.get_parameter("weight").grad is not None


def test_the_fixed_batch_is_spread_over_the_sample_and_no_larger_than_it():
    workload = plain_workload()
    assert fixed_batch(evaluator(workload), 64)[0].shape == (20, 6)
    assert fixed_batch(evaluator(workload), 5)[0].shape == (5, 6)
