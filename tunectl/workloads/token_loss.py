"""The loss and the metrics of models that predict tokens: cross-entropy, error rate, perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tunectl.workloads.label_loss import LabelLoss

Scored = Callable[[nn.Module, list[Tensor]], tuple[Tensor, Tensor]]
"""Gives the scores of a batch, shape [B, T, vocabulary], and the tokens to be predicted, shape [B, T], negative for
padding.
"""


def scored_text(model: nn.Module, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The `Scored` of a language model on tokens, shape [B, T + 1]: each but the first is predicted."""
    (tokens,) = batch
    return model(tokens[:, :-1]), tokens[:, 1:].long()


def scored_translation(model: nn.Module, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The `Scored` of a translator on source tokens, shape [B, S], and target tokens, shape [B, T + 1]."""
    source, target = batch[:2]
    return model(source, target[:, :-1]), target[:, 1:].long()


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """The cross-entropy of each token in nats, called as `loss(model, batch)`; padding has weight 0.

    `label_smoothing` is as in LabelLoss. Raises ValueError where it is outside its range.
    """

    scored: Scored
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        LabelLoss(label_smoothing=self.label_smoothing)

    def __call__(self, model: nn.Module, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The losses of the tokens and their weights, shape [B, T] both."""
        scores, targets = self.scored(model, batch)
        return cross_entropies(scores, targets, self.label_smoothing), weights_of(targets)

    def of_best_constant(self, token_shares: NDArray[np.float64]) -> float:
        """The lowest mean loss of one prediction for all tokens: without smoothing the entropy of the shares."""
        return LabelLoss(label_smoothing=self.label_smoothing).of_best_constant(token_shares)


def weights_of(targets: Tensor) -> Tensor:
    """1 for each token and 0 for padding, shape [B, T]."""
    return (targets >= 0).float()


def cross_entropies(scores: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The loss of each token, shape [B, T]; 0 for padding."""
    flat = F.cross_entropy(
        scores.flatten(0, 1), targets.flatten(), reduction="none", label_smoothing=label_smoothing, ignore_index=-1
    )
    return flat.view(targets.shape)


@dataclass(frozen=True, slots=True)
class TokenMetrics:
    """Called as `metrics(model, batch)`: `token_error_rate`, the part of the tokens that have not the highest score.

    With label smoothing also `cross_entropy`, the loss without it. Means over a split are means over its tokens.
    """

    loss: TokenLoss

    def __call__(self, model: nn.Module, batch: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """The metrics by name, each as (values, weights) of shape [B, T]."""
        scores, targets = self.loss.scored(model, batch)
        weights = weights_of(targets)
        # Scores with a NaN predict nothing.
        wrong = (scores.argmax(dim=2) != targets) | scores.isnan().any(dim=2)
        found = {"token_error_rate": (wrong.float(), weights)}
        if self.loss.label_smoothing > 0:
            found["cross_entropy"] = (cross_entropies(scores, targets), weights)
        return found


def with_perplexity(means: dict[str, float]) -> dict[str, float]:
    """`perplexity`, exp of the mean cross-entropy of a split's tokens, to be derived from its averages."""
    return {"perplexity": math.exp(means.get("cross_entropy", means["loss"]))}
