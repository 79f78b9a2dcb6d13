"""The losses of the built-in workloads, each against its closed form and against a search for the best constant."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tunectl.workloads.label_loss import LOSSES, LabelLoss

_SHARES = np.array([0.5, 0.25, 0.15, 0.1])
_LABELS = torch.tensor([0] * 10 + [1] * 5 + [2] * 3 + [3] * 2)


def _batch(classes: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(7, classes, generator=generator, dtype=torch.float64)
    return [scores, torch.randint(classes, (7,), generator=generator)]


def _value(name: str, smoothing: float, scores: list[float], label: int) -> float:
    """The loss of one example, by the definition."""
    targets = [(1 - smoothing) * (place == label) + smoothing / len(scores) for place in range(len(scores))]
    if name == "mse":
        return 0.5 * sum((score - target) ** 2 for score, target in zip(scores, targets, strict=True))
    total = math.log(sum(math.exp(score) for score in scores))
    return sum(target * (total - score) for score, target in zip(scores, targets, strict=True))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("classes", [2, 10])
def test_each_example_has_the_loss_of_the_definition(name, smoothing, classes):
    scores, labels = _batch(classes)
    losses = LabelLoss(name, smoothing)(nn.Identity(), [scores, labels])
    expected = [_value(name, smoothing, *pair) for pair in zip(scores.tolist(), labels.tolist(), strict=True)]
    assert losses.shape == (7,)
    assert losses.dtype == torch.float64
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-12)


def test_without_keywords_it_is_torchs_cross_entropy_bit_for_bit():
    scores, labels = _batch(10)
    expected = nn.functional.cross_entropy(scores.float(), labels, reduction="none")
    assert torch.equal(LabelLoss()(nn.Identity(), [scores.float(), labels]), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_hessian_of_a_linear_model_under_mse_is_the_mean_of_xx_for_each_class(smoothing):
    inputs, labels = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64), _LABELS

    def mean_loss(weight: torch.Tensor) -> torch.Tensor:
        return LabelLoss("mse", smoothing)(lambda x: x @ weight.reshape(3, 4), [inputs, labels]).mean()  # type: ignore[arg-type]

    hessian = torch.autograd.functional.hessian(mean_loss, torch.zeros(12, dtype=torch.float64))
    expected = torch.kron(inputs.T @ inputs / 20, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(hessian, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_the_best_constant_is_not_beaten_and_is_reached_by_a_search(name, smoothing):
    loss = LabelLoss(name, smoothing)
    constant = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([constant], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        search.zero_grad()
        mean = loss(nn.Identity(), [constant.expand(20, 4), _LABELS]).mean()
        mean.backward()
        return mean

    search.step(step)
    assert loss.of_best_constant(_SHARES) == pytest.approx(step().item(), rel=1e-9)


def test_the_best_constants_have_closed_forms():
    even = np.full(10, 0.1)
    assert LabelLoss("cross_entropy").of_best_constant(even) == pytest.approx(math.log(10))
    assert LabelLoss("cross_entropy", 0.1).of_best_constant(even) == pytest.approx(math.log(10))
    assert LabelLoss("mse").of_best_constant(even) == pytest.approx(0.45)
    assert LabelLoss("mse", 0.1).of_best_constant(even) == pytest.approx(0.81 * 0.45)


def test_labels_that_miss_a_class_have_a_finite_baseline():
    half, single = np.array([0, 0.5, 0, 0.5]), np.array([0, 0, 1.0, 0])
    assert LabelLoss().of_best_constant(half) == pytest.approx(math.log(2))
    assert LabelLoss().of_best_constant(single) == 0
    assert LabelLoss("mse").of_best_constant(single) == 0
    smoothed = -(0.925 * math.log(0.925) + 3 * 0.025 * math.log(0.025))
    assert LabelLoss(label_smoothing=0.1).of_best_constant(single) == pytest.approx(smoothed)


@pytest.mark.parametrize("name", LOSSES)
def test_scores_in_bfloat16_do_not_round_the_targets(name):
    scores, labels = _batch(10)
    rounded = scores.to(torch.bfloat16)
    losses = LabelLoss(name, 0.1)(nn.Identity(), [rounded, labels])
    exact = LabelLoss(name, 0.1)(nn.Identity(), [rounded.double(), labels])
    # The squared error is taken in single precision; torch's cross-entropy gives back the precision of the scores.
    torch.testing.assert_close(losses.double(), exact, rtol=1e-6 if name == "mse" else 1e-2, atol=0)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"name": "MSE"}, "loss: expected one of cross_entropy, mse, got 'MSE'"),
        ({"name": None}, "loss: expected one of cross_entropy, mse, got None"),
        ({"name": 1}, "loss: expected one of cross_entropy, mse, got 1"),
        ({"label_smoothing": 1.0}, "label_smoothing: expected a number, at least 0 and below 1, got 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing: expected a number, at least 0 and below 1, got -0.1"),
        ({"label_smoothing": math.nan}, "label_smoothing: expected a number, at least 0 and below 1, got nan"),
        ({"label_smoothing": "0.1"}, "label_smoothing: expected a number, at least 0 and below 1, got '0.1'"),
        ({"label_smoothing": True}, "label_smoothing: expected a number, at least 0 and below 1, got True"),
    ],
)
def test_values_outside_their_range_are_refused_with_what_was_expected(keywords, message):
    with pytest.raises(ValueError) as caught:
        LabelLoss(**keywords)
    assert str(caught.value) == message
