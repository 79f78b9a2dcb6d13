"""A loss that weights its examples or their parts. Tests example_losses.py, and gradients.py, update_series.py,
trial_progress.py, evaluation.py and loop.py for weighted losses.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torch_parts import gradient_of, tensors_of
from training_builders import StopAt, comparable, cross_entropy, labelled, make_request, train_trial
from trial_records import lines_in

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.training.evaluation import evaluate, fixed_batch, fixed_batch_losses
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.example_losses import example_losses
from tunectl.training.gradients import MeanLoss, gradients
from tunectl.training.precision import LossScaler
from tunectl.training.update_series import StepSeries
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")
LENGTH, WORDS = 5, 7


def some_weights(*shape: int, zeros: bool = True, seed: int = 3) -> Tensor:
    """Random weights over three powers of ten, a third of them 0."""
    generator = torch.Generator().manual_seed(seed)
    weights = 10 ** (3 * torch.rand(shape, generator=generator) - 2)
    return torch.where(torch.rand(shape, generator=generator) < (0.33 if zeros else 0), 0.0, weights)


def sequences(examples: int, seed: int = 0) -> TensorDataset:
    """Token sequences of random lengths, some empty; each token's target is the same token, padding is 0."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(1, WORDS, (examples, LENGTH), generator=generator)
    lengths = torch.randint(0, LENGTH + 1, (examples, 1), generator=generator)
    return TensorDataset(torch.where(torch.arange(LENGTH) < lengths, words, 0))


def token_losses(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """The cross-entropy of every token, shape [B, T]; NaN at the padding, whose weight is 0."""
    (words,) = batch
    values = nn.functional.cross_entropy(model(words).transpose(1, 2), words, reduction="none")
    return torch.where(words == 0, math.nan, values), (words != 0).float()


def reduced_losses(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """The same loss, reduced by hand to a value and a weight for each sequence, [B]."""
    values, weights = token_losses(model, batch)
    lengths = weights.sum(dim=1)
    return torch.where(weights == 0, 0.0, values).sum(dim=1) / lengths.clamp(min=1), lengths


def token_workload(loss: Callable[[Any, Any], Any] = token_losses) -> Workload:
    model = nn.Sequential(nn.Embedding(WORDS, 4), nn.Linear(4, WORDS))
    return Workload(model, {"train": sequences(50), "valid": sequences(21, seed=1)}, loss, baseline_loss=math.log(6))


def request(**changes: Any) -> Any:
    return make_request(**{"objective": Objective("valid/loss", "minimize"), **changes})


def series(folder: TrialFolder, name: str) -> np.ndarray[Any, Any]:
    return np.concatenate([np.asarray(line[name], dtype=float) for line in lines_in(folder.steps)])


@pytest.mark.parametrize("shape", [(10,), (10, LENGTH), (10, 2, 3)])
@pytest.mark.parametrize("sizes", [[10], [3, 3, 3, 1]])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_gradient_of_an_update_is_that_of_the_weighted_mean_over_the_whole_batch(shape, sizes, scaled):
    torch.manual_seed(1)
    parameter, factors, weights = nn.Parameter(torch.randn(4)), torch.randn(*shape, 4), some_weights(*shape)

    def values(part: slice) -> Tensor:
        found = (factors[part] @ parameter).tanh().square()
        return torch.where(weights[part] == 0, math.nan, found)

    kept = torch.where(weights == 0, 0.0, values(slice(None)))
    oracle = (kept * weights).sum() / weights.sum()
    (expected,) = torch.autograd.grad(oracle, parameter)

    scaler = LossScaler(CPU) if scaled else None
    mean, first = MeanLoss(10, [parameter], None if scaler is None else scaler.scale), 0
    for size in sizes:
        part = slice(first, first + size)
        mean.backward((values(part), weights[part]), size)
        first += size
    grads = gradients([parameter])
    if scaler is not None:
        scaler.unscale(grads)
    torch.testing.assert_close(gradient_of(parameter), expected, rtol=1e-5, atol=1e-7)

    update = StepSeries(10, None)
    total, weight = mean.take_sum()
    update.append(total, (), 0.1, weight=weight)
    block = update.take()
    assert block.losses == pytest.approx([oracle.item()], rel=1e-6)
    assert block.weights == pytest.approx([weights.sum().item() / 10], rel=1e-6)


def test_micro_batches_with_and_without_weights_count_as_one_batch():
    parameter, factors = (
        nn.Parameter(torch.tensor([0.5, -1.0])),
        torch.randn(6, 2, generator=torch.Generator().manual_seed(0)),
    )
    weights = torch.tensor([1.0, 1.0, 0.5, 3.0, 1.0, 1.0])
    losses = (factors @ parameter).square()
    (expected,) = torch.autograd.grad((losses * weights).sum() / weights.sum(), parameter)
    for order in ([0, 1, 2], [1, 0, 2]):
        parameter.grad, mean = None, MeanLoss(6, [parameter])
        for number in order:
            part = slice(2 * number, 2 * number + 2)
            values = (factors[part] @ parameter).square()
            mean.backward((values, weights[part]) if number == 1 else values, 2)
        torch.testing.assert_close(gradient_of(parameter), expected)
        assert mean.take_sum()[1] == weights.sum()


def test_weights_of_one_train_as_no_weights_do(folder, tmp_path):
    def ones(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        losses = cross_entropy(model, batch)
        return losses, torch.ones_like(losses)

    def workload(loss: Callable[[Any, Any], Any]) -> Callable[[], Workload]:
        data = {"train": labelled(50), "valid": labelled(20, seed=1)}
        return lambda: Workload(nn.Linear(6, 3), data, loss, baseline_loss=1.0986)

    plain = TrialFolder(tmp_path / "plain")
    plain.path.mkdir()
    results = [
        train_trial(request(), place, workload(loss)) for place, loss in ((plain, cross_entropy), (folder, ones))
    ]
    assert [result and result.state for result in results] == ["completed", "completed"]
    assert series(folder, "loss") == pytest.approx(series(plain, "loss"), rel=1e-5)
    assert set(series(folder, "weight")) == {1.0}
    assert all("weight" not in line for line in lines_in(plain.steps))
    ends = [lines_in(place.measurements)[-1]["metrics"] for place in (folder, plain)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_loss_of_tokens_trains_as_the_same_loss_reduced_by_hand(folder, tmp_path, steps):
    other = TrialFolder(tmp_path / "other")
    other.path.mkdir()
    common = {"accumulate_steps": steps, "grad_clip_norm": 0.1, "optimizer": "adam", "learning_rate": 0.02}
    first = train_trial(request(**common), folder, token_workload)
    second = train_trial(request(**{**common, "accumulate_steps": 1}), other, lambda: token_workload(reduced_losses))
    assert first
    assert second
    assert first.state == second.state == "completed"
    for name in ("loss", "weight", "gradient_norm"):
        assert series(folder, name) == pytest.approx(series(other, name), rel=1e-3), name
    for line, same in zip(lines_in(folder.measurements), lines_in(other.measurements), strict=True):
        assert line["metrics"] == pytest.approx(same["metrics"], rel=1e-3)
    assert lines_in(folder.measurements)[-1]["metrics"]["valid/loss"] < math.log(6)


def test_a_trial_with_weights_that_is_stopped_goes_on_bit_for_bit(folder, tmp_path):
    whole = TrialFolder(tmp_path / "whole")
    whole.path.mkdir()
    train_trial(request(accumulate_steps=3), whole, token_workload)
    assert (
        train_trial(request(accumulate_steps=3), folder, token_workload, stop=StopAt(11), save_every_seconds=1e9)
        is None
    )
    train_trial(request(accumulate_steps=3), folder, token_workload)
    assert comparable(folder) == comparable(whole)


@pytest.mark.parametrize("loss", [token_losses, reduced_losses])
@pytest.mark.parametrize("batch_size", [1, 4, 21])
def test_an_evaluation_is_the_mean_over_all_tokens_of_the_split(loss, batch_size):
    torch.manual_seed(0)
    workload = token_workload(loss)
    found = evaluate(Evaluator(workload, {"valid": workload.data["valid"]}, batch_size, 1, CPU))["valid"]
    (words,) = tensors_of(workload.data["valid"])
    with torch.no_grad():
        values = nn.functional.cross_entropy(workload.model(words).transpose(1, 2).double(), words, reduction="none")
    weights = (words != 0).double().numpy()
    assert 0 in weights.sum(axis=1)
    of_sequences = [np.average(row, weights=w) for row, w in zip(values.numpy(), weights, strict=True) if w.sum()]
    lengths = weights.sum(axis=1)[weights.sum(axis=1) > 0]
    mean = np.average(values.numpy(), weights=weights)
    assert found.metrics["loss"] == pytest.approx(mean, rel=1e-6)
    spread = math.sqrt(np.average((np.array(of_sequences) - mean) ** 2, weights=lengths))
    assert found.loss.spread == pytest.approx(spread, rel=1e-5)
    assert found.loss.examples == round(lengths.sum() ** 2 / (lengths**2).sum())


def test_the_losses_of_the_fixed_batch_are_those_of_its_examples_with_their_weights():
    workload = token_workload()
    evaluator = Evaluator(workload, {"train": workload.data["train"]}, 16, 1, CPU)
    batch = fixed_batch(evaluator, 12)
    found = fixed_batch_losses(evaluator, batch)
    with torch.no_grad():
        values, weights = reduced_losses(workload.model, batch)
    assert torch.allclose(found, torch.stack([values, weights]).double(), atol=1e-6)


MISSING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a square": lambda output, target: (output - target) ** 2,
    "torch's": lambda output, target: nn.functional.smooth_l1_loss(output, target, reduction="none"),
    "a likelihood": lambda output, target: ((output - target) / (1 + output.exp())) ** 2 + (1 + output.exp()).log(),
    "a flat one": lambda output, target: (output.flatten() - target.flatten()).abs().sqrt().view_as(output),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_target_that_is_nan_has_no_part_in_the_gradient(name):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(6, 3, generator=generator), torch.randn(6, 4, generator=generator)
    torch.manual_seed(0)
    model, known = nn.Linear(3, 4), some_weights(6, 4) > 0
    assert not known.all()
    losses = example_losses((MISSING[name](model(inputs), torch.where(known, targets, math.nan)), known), 6)
    losses.products().sum().backward()
    found = gradient_of(model.weight).clone()
    model.zero_grad()
    MISSING[name](model(inputs), targets)[known].sum().backward()
    torch.testing.assert_close(found, gradient_of(model.weight))
    assert losses.products().sum().item() == pytest.approx(
        MISSING[name](model(inputs), targets)[known].sum().item(), rel=1e-5
    )


def test_a_nan_that_has_a_weight_stays_one():
    model, targets = nn.Linear(3, 1), torch.tensor([[1.0], [math.nan], [math.nan]])
    losses = example_losses(((model(torch.ones(3, 3)) - targets) ** 2, torch.tensor([[1.0], [1.0], [0.0]])), 3)
    losses.products().sum().backward()
    assert gradient_of(model.weight).isnan().all()


class Numbered(TensorDataset):
    """Examples with their numbers, for losses whose weights depend on them."""

    def __init__(self, examples: int) -> None:
        super().__init__(torch.arange(examples).float())


def numbered_workload(weights: Callable[[Tensor], Tensor]) -> Workload:
    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        (numbers,) = batch
        return (model(numbers[:, None] / 40).squeeze(1) - 1).square(), weights(numbers)

    return Workload(nn.Linear(1, 1), {"train": Numbered(40), "valid": Numbered(12)}, loss)


def test_an_update_without_weight_has_no_gradient_and_the_loss_before_it(folder):
    trial = request(batch_size=1, optimizer="sgd", no_progress=False)
    result = train_trial(trial, folder, lambda: numbered_workload(lambda numbers: numbers % 2))
    assert result is not None
    assert result.state == "completed"
    loss, weight, norm = (series(folder, name) for name in ("loss", "weight", "gradient_norm"))
    assert set(weight) == {0.0, 1.0}
    assert ((norm == 0) == (weight == 0)).all()
    for update in np.flatnonzero(weight == 0):
        assert loss[update] == (loss[update - 1] if update else 0.0)
    measured = lines_in(folder.measurements)
    for earlier, line in itertools.pairwise(measured):
        part = slice(earlier["step"], line["step"])
        assert line["metrics"]["train/minibatch_loss"] == pytest.approx(np.average(loss[part], weights=weight[part]))


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_wrong_weights_in_training_end_the_trial_with_an_error_that_names_the_update(folder, wrong):
    def weights(numbers: Tensor) -> Tensor:
        return torch.where(numbers == 39, wrong, 1.0)  # not in the evaluated sample

    trial = request(batch_size=8, train_examples=1, accumulate_steps=2)
    with pytest.raises(WorkloadError, match=r"finite numbers of at least 0, which those of update \d are not"):
        train_trial(trial, folder, lambda: numbered_workload(weights))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda numbers: 0 * numbers, "are 0 for all examples of the split 'valid'"),
        (lambda numbers: numbers - 1, "at least 0, which those of the split 'valid' are not"),
        (lambda numbers: numbers / 0, "at least 0, which those of the split 'valid' are not"),
    ],
)
def test_an_evaluation_with_weights_that_give_no_mean_is_an_error(weights, message):
    workload = numbered_workload(weights)
    with pytest.raises(WorkloadError, match=message):
        evaluate(Evaluator(workload, {"valid": workload.data["valid"]}, 5, 1, CPU))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((torch.zeros(4), None), "got a tuple of Tensor, NoneType"),
        ((torch.zeros(4), torch.ones(4), torch.ones(4)), "got a tuple of Tensor, Tensor, Tensor"),
        ((torch.zeros(4, 2), torch.ones(4)), r"one shape, \[B\] or \[B, ...\], got \[4, 2\] and \[4\]"),
        ((torch.zeros(()), torch.ones(())), r"got \[\] and \[\]"),
        ((torch.zeros(3, 2), torch.ones(3, 2)), r"gave 3 values for a batch of 4.*shape \[4, 2\], got shape \[3, 2\]"),
        ((torch.zeros(4), torch.ones(4, requires_grad=True)), r"use weights.detach\(\)"),
        ((torch.zeros(4), torch.ones(4, dtype=torch.complex64)), "expected real numbers"),
        (torch.zeros(4, 2), r"got shape \[4, 2\]; for values of several parts .* give a tuple"),
        (torch.zeros(()), "use reduction='none'"),
        ([torch.zeros(4), torch.ones(4)], "got list"),
    ],
)
def test_values_and_weights_of_a_wrong_form_are_errors_that_say_what_was_found(given, message):
    with pytest.raises(WorkloadError, match=message):
        example_losses(given, 4)


def test_a_first_micro_batch_of_little_weight_makes_no_large_gradients_on_the_way():
    parameter = nn.Parameter(torch.tensor(1.0))
    mean = MeanLoss(4, [parameter])
    sizes = []
    for weight in (1e-6, 1.0, 0.0, 1.0):
        mean.backward((parameter * torch.ones(1, 5), torch.full((1, 5), weight)), 1)
        sizes.append(float(gradient_of(parameter)))
    assert max(sizes) <= 1.0 + 1e-6
    assert sizes[-1] == pytest.approx(1.0)
