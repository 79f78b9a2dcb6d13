"""The loss and metrics of tokens: against numbers by hand, and with padding. Tests token_loss.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformer_shapes import shape_of

from tunectl.training.averages import Averages
from tunectl.workloads.models.transformer import TransformerLM, Translator
from tunectl.workloads.token_loss import TokenLoss, TokenMetrics, scored_text, scored_translation, with_perplexity


class _Fixed(nn.Module):
    """The scores are the logarithms of these probabilities, wherever a token is."""

    def __init__(self, probabilities: list[float]) -> None:
        super().__init__()
        self.probabilities = torch.tensor(probabilities)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.probabilities.log().expand(*tokens.shape, -1)


def test_losses_and_weights_of_each_token_are_those_by_hand():
    model, batch = _Fixed([0.5, 0.25, 0.25]), [torch.tensor([[2, 0, 1, -1], [2, 2, 0, 0]])]
    values, weights = TokenLoss(scored_text)(model, batch)
    half, quarter = math.log(2), math.log(4)
    assert weights.tolist() == [[1, 1, 0], [1, 1, 1]]
    torch.testing.assert_close(values, torch.tensor([[half, quarter, 0], [quarter, half, half]]))
    smoothed, _ = TokenLoss(scored_text, label_smoothing=0.3)(model, batch)
    even = (half + 2 * quarter) / 3
    torch.testing.assert_close(smoothed[0, :2], torch.tensor([0.7 * half + 0.3 * even, 0.7 * quarter + 0.3 * even]))


def test_perplexity_over_examples_of_unequal_length_is_that_of_all_tokens_together():
    model, averages = _Fixed([0.5, 0.25, 0.25]), Averages()
    loss = TokenLoss(scored_text, label_smoothing=0.1)
    for tokens in ([[2, 0, -1, -1]], [[2, 1, 1, 1], [0, 2, 0, -1]]):
        for name, (values, weights) in TokenMetrics(loss)(model, [torch.tensor(tokens)]).items():
            averages.add(name, values, weights)
    means = averages.means()
    # Token 0 twice and token 1 or 2 four times; 0 is the likeliest.
    assert means["token_error_rate"] == pytest.approx(4 / 6)
    mean = (2 * math.log(2) + 4 * math.log(4)) / 6
    assert means["cross_entropy"] == pytest.approx(mean)
    assert with_perplexity(means | {"loss": 5.0})["perplexity"] == pytest.approx(math.exp(mean))
    assert with_perplexity({"loss": 2.0}) == {"perplexity": pytest.approx(math.exp(2))}


def test_scores_with_a_nan_are_errors():
    rates, _ = TokenMetrics(TokenLoss(scored_text))(_Fixed([0.5, math.nan, 0.5]), [torch.tensor([[1, 0]])])[
        "token_error_rate"
    ]
    assert rates.tolist() == [[1.0]]


@pytest.mark.parametrize("kind", ["lm", "nmt"])
def test_padding_changes_no_loss_no_metric_and_no_gradient(kind):
    torch.manual_seed(0)
    target = [torch.tensor([[7, 3, 1, 2, 7]]), torch.tensor([[7, 5, 7]])]
    source = [torch.tensor([[1, 2, 7]]), torch.tensor([[3, 4, 5, 6, 7]])]
    model: nn.Module
    if kind == "lm":
        model = TransformerLM(8, shape_of(max_length=20))
        loss, alone = TokenLoss(scored_text, 0.1), [[one] for one in target]
        padded = [torch.cat([pad(one, (0, 9 - one.shape[1]), value=-1) for one in target])]
    else:
        model = Translator(8, 8, shape_of(max_length=20), shared_embeddings=False)
        loss, alone = TokenLoss(scored_translation, 0.1), [list(pair) for pair in zip(source, target, strict=True)]
        padded = [torch.cat([pad(one, (0, 9 - one.shape[1]), value=-1) for one in side]) for side in (source, target)]

    def gradients(losses: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(losses, list(model.parameters())))

    values, weights = loss(model, padded)
    single = [loss(model, batch)[0].sum() for batch in alone]
    assert weights.sum().item() == 4 + 2
    torch.testing.assert_close((values * weights).sum(1), torch.stack(single))
    for found, expected in zip(gradients((values * weights).sum()), gradients(single[0] + single[1]), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    for name, (rates, counted) in TokenMetrics(loss)(model, padded).items():
        each = [TokenMetrics(loss)(model, batch)[name][0].sum() for batch in alone]
        torch.testing.assert_close((rates * counted).sum(1), torch.stack(each))


def test_the_best_constant_is_the_entropy_of_the_tokens():
    shares = np.array([0.5, 0.25, 0.25, 0.0])
    assert TokenLoss(scored_text).of_best_constant(shares) == pytest.approx(1.5 * math.log(2))
    smoothed = 0.9 * shares + 0.025
    assert TokenLoss(scored_text, 0.1).of_best_constant(shares) == pytest.approx(-(smoothed * np.log(smoothed)).sum())


def test_a_wrong_label_smoothing_is_refused():
    with pytest.raises(ValueError, match="label_smoothing: expected a number, at least 0 and below 1, got 1"):
        TokenLoss(scored_text, 1)
