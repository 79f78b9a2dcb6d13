"""Workloads in double precision for trials on several devices, and the cases in which these equal one device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from training_builders import Augmented, labelled

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.records import Recovery
from tunectl.workloads.workload import Workload


def double_data(examples: int = 50, seed: int = 0) -> TensorDataset:
    features, labels = labelled(examples, seed=seed).tensors
    return TensorDataset(features.double(), labels)


def cross_losses(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def network(*more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), *more, nn.Linear(8, 3)).double()


def plain() -> Workload:
    return Workload(
        network(), {"train": double_data(), "valid": double_data(20, 1)}, cross_losses, baseline_loss=1.0986
    )


def part_weights(batch: Any) -> Tensor:
    """Weights of two parts of each example, [B, 2]; of every third label both are 0."""
    return torch.stack([batch[1] % 3, 2 * (batch[1] % 3)], dim=1).double()


def weighted() -> Workload:
    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        losses = cross_losses(model, batch)
        return torch.stack([losses, losses**2], dim=1), part_weights(batch)

    return replace(plain(), loss=loss)


class _Words(nn.Module):
    """Sums of embeddings, whose gradient is sparse: each row is that of a word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 3, sparse=True)

    def forward(self, words: Tensor) -> Any:
        return self.embedding(words).sum(dim=1)


def _sparse() -> Workload:
    words = torch.randint(0, 30, (60, 2), generator=torch.Generator().manual_seed(0))
    data = TensorDataset(words, words.sum(dim=1) % 3)
    return Workload(_Words().double(), {"train": data, "valid": data}, cross_losses)


def _weighted_words() -> Workload:
    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return cross_losses(model, batch), (batch[1] % 2).double()

    return replace(_sparse(), loss=loss)


class _Unusual(nn.Module):
    """A tied layer, a frozen one, and one with complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.waves = nn.Parameter(torch.randn(6, 3, dtype=torch.complex128))
        self.conjugated = nn.Parameter(torch.randn(3, dtype=torch.complex128))

    def forward(self, features: Tensor) -> Any:
        hidden = self.frozen(self.second(torch.tanh(self.first(features))))
        return (hidden.to(torch.complex128) @ self.waves * self.conjugated.conj()).abs()


class _Codebook(nn.Module):
    """Adds means of its inputs: one of all updates, and ones that begin late, not saved or written unseen by torch."""

    means: Tensor
    late: Tensor
    unsaved: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(8))
        self.register_buffer("late", torch.zeros(8))
        self.register_buffer("unsaved", torch.zeros(8), persistent=False)
        self.calls = 0

    def forward(self, values: Tensor) -> Tensor:
        # By what the updates before have left.
        given = values + 0.1 * (self.means + self.late + torch.tanh(self.unsaved)).clone()
        if self.training:
            self.calls += 1
            mean = values.detach().mean(dim=0)
            self.means.data.mul_(0.9).add_(0.1 * mean)
            if self.calls > 12:
                self.late = 0.9 * self.late + mean
                self.unsaved += mean
        return given


class _Rare(nn.Module):
    """Averages its inputs in every third batch, counts in evaluations, and normalises from the eighth batch on, each
    after a state that an interrupted trial has to know of.
    """

    batches: Tensor
    means: Tensor
    unseen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        for name in ("means", "unseen", "constant"):
            self.register_buffer(name, torch.full((8,), 0.1))
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, values: Tensor) -> Any:
        if not self.training:
            return self.norm(values) + self.means
        self.batches += 1
        self.norm.train(int(self.batches) > 7)
        if int(self.batches) % 3 == 0:
            self.means.mul_(0.7).add_(0.3 * values.detach().mean(dim=0))
        if int(self.batches) > 5:
            self.unseen.data.mul_(0.7).add_(0.3 * values.detach().mean(dim=0))
        return self.norm(values + self.means.clone() + self.unseen.clone())


def rare() -> Workload:
    """In float32, where a sum in another order has other bits."""
    model = nn.Sequential(nn.Linear(6, 8), _Rare(), nn.Tanh(), nn.Linear(8, 3))
    return Workload(model, {"train": labelled(50), "valid": labelled(20, seed=1)}, cross_losses)


class _Counting(nn.Module):
    """Depends on how often it was called, in evaluations too."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, values: Tensor) -> Tensor:
        self.calls += 1
        return values * (1 + 0.01 * self.calls)


class _Scaled(nn.Module):
    """Multiplies by a buffer, which functions change that are called at evaluations."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.scale


def _evaluated_whole() -> Workload:
    """With functions that device 0 alone calls, and batches that a function collates."""
    scaled = _Scaled()

    def collate(items: Any) -> Any:
        return [torch.stack([features for features, _ in items]).flip(0), torch.stack([y for _, y in items]).flip(0)]

    def evaluate(model: nn.Module, dataset: Any, device: torch.device) -> dict[str, float]:
        scaled.scale += 0.1
        return {"largest": float(model(torch.stack([item[0] for item in dataset])).max())}

    def on_evaluation(trial: Any) -> None:
        scaled.scale *= 0.8
        (trial.folder / "once.txt").touch(exist_ok=False)

    def metrics(model: nn.Module, batch: Any) -> Any:
        return {"pair": (model(batch[0]), (batch[1][:, None] % 2).expand(-1, 3))}

    data = {"train": _Items(double_data()), "valid": _Items(double_data(20, 1))}
    return replace(
        plain(),
        model=network(scaled),
        data=data,
        collate=collate,
        evaluate=evaluate,
        on_evaluation=on_evaluation,
        metrics=metrics,
        finalize=lambda found: {"sum": found["pair"] + found["largest"]},
    )


def overflowing() -> Workload:
    """In float32: the gradient of one example of 50 is too large for float16."""
    large = labelled(50).tensors[0][17]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        is_large = (batch[0] == large).all(dim=1) & model.training
        return cross_losses(model, batch).float() * torch.where(is_large, 100.0, 1.0)

    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    return Workload(model, {"train": labelled(50), "valid": labelled(20, seed=1)}, loss)


class _Called(nn.Module):
    """Depends on its calls in training: by counters, as a buffer and as an attribute, and by a normalised weight, of
    which each call finds the largest singular value more exactly.
    """

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))
        self.number = 0
        self.layer = spectral_norm(nn.Linear(8, 8))

    def forward(self, values: Tensor) -> Tensor:
        scale = 1 + 0.01 * self.calls + 0.02 * self.number
        self.calls += self.training
        self.number += self.training
        found: Tensor = self.layer(values * scale)
        return found


class _Edges(nn.Module):
    """Has buffers that are sparse, repeat a number, or both, and averages its inputs in one that repeats."""

    edges: Tensor
    means: Tensor
    ones: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", torch.eye(8).roll(1, dims=0).to_sparse())
        self.register_buffer("ones", torch.ones(1).expand(8))
        self.register_buffer("means", torch.zeros(1, 1).expand(2, 8))

    def forward(self, values: Tensor) -> Tensor:
        given = (self.edges @ values.T).T + self.ones + self.means[0]
        if self.training:
            self.means = (0.9 * self.means[0] + 0.1 * values.detach().mean(dim=0)).expand(2, 8)
        return given


def _following() -> Workload:
    """A teacher, whose weights are not trained, follows the student with each batch."""
    pair = nn.ModuleDict({"student": nn.Linear(6, 3), "teacher": nn.Linear(6, 3).requires_grad_(False)}).double()

    def loss(model: Any, batch: Any) -> Tensor:
        if model.training:
            model["teacher"].weight.data.lerp_(model["student"].weight.detach(), 0.1)
        given, taught = (model[name](batch[0]) for name in ("student", "teacher"))
        return cross_losses(model["student"], batch) + (given - taught).square().sum(dim=1)

    return replace(plain(), model=pair, loss=loss)


class _Branches(nn.Module):
    """One layer for examples of the first class, which many shares do not have, and one that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other, self.unused = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, features: Tensor, is_first: Tensor) -> Any:
        found = features.new_zeros(len(features), 3)
        for layer, chosen in ((self.first, is_first), (self.other, ~is_first)):
            if chosen.any():
                found = found.index_add(0, chosen.nonzero().squeeze(1), layer(features[chosen]))
        return found


def _branches() -> Workload:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0], batch[1] == 0), batch[1], reduction="none")

    return replace(plain(), model=_Branches().double(), loss=loss)


def _of_one_class() -> Workload:
    """The losses of a batch without the first class are constants, as those of many shares and micro-batches are."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        found, chosen = torch.zeros(len(batch[1]), dtype=torch.float64), (batch[1] == 0).nonzero().squeeze(1)
        if not len(chosen):
            return found
        losses = nn.functional.cross_entropy(model(batch[0][chosen]), batch[1][chosen], reduction="none")
        return found.index_put((chosen,), losses)

    return replace(plain(), loss=loss)


class _Items(Dataset[Any]):
    """The examples of a data set one by one, and which of them were read."""

    def __init__(self, inner: TensorDataset, limit: int = 10**9) -> None:
        self.inner, self.limit = inner, limit

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        return self.inner[index]


def _items() -> Workload:
    return replace(plain(), data={"train": _Items(double_data()), "valid": double_data(20, 1)})


class _Stream(IterableDataset[Any]):
    def __init__(self, inner: TensorDataset) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[Any]:
        return (self.inner[int(place)] for place in torch.randperm(len(self.inner)))


def _stream() -> Workload:
    from tunectl.training.built_workload import checked_workload

    return checked_workload(
        replace(plain(), data={"train": _Stream(double_data()), "valid": double_data(20, 1)}), "m:f"
    )


def _sampled() -> Workload:
    def order(dataset: Any, epoch: int, generator: np.random.Generator) -> Any:
        return generator.integers(0, len(dataset), 17 + epoch)

    return replace(plain(), sampler=order)


def stochastic() -> Workload:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3))
    data = {"train": Augmented(labelled(50)), "valid": labelled(20, seed=1)}

    def augment(batch: Any, generator: np.random.Generator) -> Any:
        return [batch[0] + float(generator.normal()), batch[1]]

    return Workload(model, data, cross_losses, augment=augment)


def _raising() -> Workload:
    """Raises where it computes with weights that are not finite, and has the first example: on one rank alone."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        is_ruined = not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
        if is_ruined and model.training and bool((batch[0] == first).all(dim=1).any()):
            raise ValueError("the weights are not finite")
        return (batch[0] @ model.weight.T).square().square().sum(dim=1)

    data = double_data()
    first = data[0][0]
    return Workload(nn.Linear(6, 1).double(), {"train": data, "valid": double_data(20, 1)}, loss)


GRADINIT = {
    "initialisation": "gradinit",
    "initialisation_steps": 5,
    "initialisation_learning_rate": 1e-2,
    "initialisation_momentum": 0.9,
}
CASES: dict[str, tuple[Callable[[], Workload], dict[str, Any]]] = {
    "a batch that the devices do not divide": (plain, {"batch_size": 7}),
    "a batch with fewer examples than devices": (plain, {"batch_size": 3}),
    "a batch larger than the data": (plain, {"batch_size": 61, "optimizer": "adam"}),
    "weights, and shares without any": (weighted, {"batch_size": 2}),
    "accumulation": (plain, {"batch_size": 10, "accumulate_steps": 3}),
    "accumulation with weights": (weighted, {"batch_size": 10, "accumulate_steps": 4, "optimizer": "adamw"}),
    "clipping of units": (plain, {"grad_clip": "adaptive", "adaptive_clip_factor": 0.02}),
    "clipping of updates": (plain, {"grad_clip": "update", "update_clip_rms": 0.5, "optimizer": "adam"}),
    "micro-batches with fewer examples than devices": (plain, {"batch_size": 8, "accumulate_steps": 4}),
    "accumulation and clipping, with a ragged end": (
        weighted,
        {"batch_size": 11, "accumulate_steps": 3, "grad_clip_norm": 0.2, "polyak_decay": 0.9},
    ),
    "clipping, and averaged weights": (plain, {"grad_clip_norm": 0.3, "polyak_decay": 0.9, "batch_size": 5}),
    "muon": (plain, {"optimizer": "muon", "batch_size": 5}),
    "sparse gradients": (_sparse, {"batch_size": 5, "optimizer": "sgd"}),
    "sparse gradients and weights": (_weighted_words, {"batch_size": 4, "optimizer": "sgd"}),
    "tied, frozen and complex parameters": (
        lambda: replace(plain(), model=_Unusual().double()),
        {"batch_size": 5, "grad_clip_norm": 0.5},
    ),
    "averages over examples in buffers": (lambda: replace(plain(), model=network(_Codebook())), {"batch_size": 7}),
    "a model that counts its calls": (lambda: replace(plain(), model=network(_Counting())), {"batch_size": 7}),
    "a model that depends on its calls, and micro-batches with fewer examples than devices": (
        lambda: replace(plain(), model=network(_Called())),
        {"batch_size": 7, "accumulate_steps": 5},
    ),
    "buffers that are sparse, or repeat their memory": (
        lambda: replace(plain(), model=network(_Edges())),
        {"batch_size": 7},
    ),
    "a teacher that follows with each batch, of fewer examples than devices": (_following, {"batch_size": 2}),
    "functions that device 0 alone calls": (_evaluated_whole, {"batch_size": 5}),
    "parameters that some shares do not use": (_branches, {"batch_size": 5, "weight_decay": 0.1}),
    "losses that are constants for some shares": (_of_one_class, {"batch_size": 20, "accumulate_steps": 4}),
    "examples one by one": (_items, {"batch_size": 5, "accumulate_steps": 2}),
    "examples from loader processes": (_items, {"batch_size": 3, "data_workers": 1}),
    "recovery, where one rank raises an exception": (
        _raising,
        {"recovery": Recovery(0.1, 6), "learning_rate": 0.03, "batch_size": 50, "eval_every": 4, "optimizer": "sgd"},
    ),
    "an initialisation": (plain, {**GRADINIT, "batch_size": 5}),
    "curvature": (plain, {"curvature": CurvatureSettings(every=15), "batch_size": 5}),
    "a stream": (_stream, {"batch_size": 5, "accumulate_steps": 2}),
    "a sampler": (_sampled, {"batch_size": 5}),
}
