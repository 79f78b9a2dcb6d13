"""Which layer is the output layer, and which parameters muon trains. Tests output_layer.py, muon_split.py,
layer_notes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_builders import cross_entropy, make_request, plain_workload

from tunectl.core.errors import WorkloadError
from tunectl.training.muon_split import MuonSplit, muon_split
from tunectl.training.optimizers import trainable_parameters
from tunectl.training.output_layer import output_layer, weights_of_loss
from tunectl.training.probe import probe
from tunectl.workloads.workload import Workload


class Attention(nn.Module):
    """An embedding, learned positions, an attention, an own matrix, a normalization, and a head that may be tied."""

    def __init__(self, tied: str = "") -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 8)
        self.positions = nn.Parameter(torch.zeros(1, 5, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.own = nn.Parameter(torch.randn(8, 8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 7, bias=False) if tied != "function" else nn.Identity()
        if tied == "weight":
            self.head.weight = self.tokens.weight

    def forward(self, index: Tensor) -> Tensor:
        x = self.tokens(index) + self.positions
        x = self.norm(self.attention(x, x, x)[0] @ self.own)[:, 0]
        found: Tensor = self.head(x) if isinstance(self.head, nn.Linear) else x @ self.tokens.weight.T
        return found


class Reversed(nn.Module):
    """Its output layer is defined first."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(8, 3), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.body(x)))
        return found


def split_of(model: nn.Module, *output: Any) -> MuonSplit:
    return muon_split(model, trainable_parameters(model), output_layer(model, output))


def matrices(split: MuonSplit) -> set[str]:
    return {item.name for item in split.placed if item.is_matrix}


def reasons(split: MuonSplit) -> dict[str, str]:
    return {item.name: item.why for item in split.placed if not item.is_matrix}


def test_muon_trains_hidden_matrices_and_says_why_not_the_others():
    split = split_of(Attention())
    assert matrices(split) == {"attention.in_proj_weight", "attention.out_proj.weight", "own"}
    assert reasons(split) == {
        "tokens.weight": "embedding",
        "positions": "tensors with more than two axes",
        "attention.in_proj_bias": "vectors",
        "attention.out_proj.bias": "vectors",
        "norm.weight": "normalizations",
        "norm.bias": "normalizations",
        "head.weight": "output layer",
    }
    assert "taken for matrices by their shape alone: own (64 numbers)" in split.in_words()
    assert len(split.parameters(matrices=True)) + len(split.parameters(matrices=False)) == len(split.placed)


def test_a_tied_embedding_is_an_embedding_and_no_hidden_layer_is_taken_for_the_output():
    split = split_of(Attention("weight"))
    assert matrices(split) == matrices(split_of(Attention()))
    assert reasons(split)["tokens.weight"] == "embedding, also output layer"


def test_a_declared_output_layer_is_the_one_wherever_it_is_defined():
    model = Reversed()
    assert matrices(split_of(model, model.head)) == {"body.weight"}
    assert matrices(split_of(model, model.head.weight, model.head.bias)) == {"body.weight"}
    assert matrices(split_of(model)) == {"head.weight"}, "this is why the probe looks at the loss"


@pytest.mark.parametrize(
    ("layer", "is_matrix"),
    [
        (nn.Conv1d(2, 4, 3), True),
        (nn.Conv2d(2, 4, 3), True),
        (nn.ConvTranspose2d(2, 4, 3), True),
        (nn.LSTM(3, 4), True),
        (nn.Bilinear(2, 3, 4), False),
        (nn.Linear(5, 1), False),
        (nn.EmbeddingBag(5, 4), False),
        (nn.LayerNorm((4, 5)), False),
        (nn.BatchNorm2d(4), False),
        (nn.PReLU(5), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_layer_has_its_place(layer: nn.Module, is_matrix: bool):
    split = split_of(nn.Sequential(layer, nn.Linear(4, 2)))
    weights = [item for item in split.placed if item.name.startswith("0.") and item.parameter.ndim >= 2]
    assert all(item.is_matrix == is_matrix for item in weights)
    assert not any(item.is_matrix for item in split.placed if item.parameter.ndim < 2)


def index_workload(model: nn.Module, output: Callable[[Any], list[Any]] = lambda model: []) -> Workload:
    def loss(called: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(called(batch[0].abs().long() % 7)[:, :3], batch[1], reduction="none")

    data = {name: torch.utils.data.TensorDataset(item[:][0][:, :5], item[:][1]) for name, item in DATA.items()}
    return Workload(model, data, loss, output=output(model))


DATA: Any = plain_workload().data
MUON: dict[str, Any] = {"optimizer": "muon", "objective": make_request().objective}


def notes(workload: Workload, **changes: Any) -> tuple[str, ...]:
    loss = replace(make_request().objective, metric="valid/loss")
    return probe(make_request(**{**MUON, "objective": loss, **changes}), lambda: workload, device="cpu").notes


def test_the_probe_prints_the_split_and_what_adaptive_clipping_leaves_out():
    assert notes(plain_workload()) == (
        "muon trains 0.weight (48 numbers); adamw vectors: 0.bias (8 numbers); adamw output layer: 2.weight, 2.bias "
        "(27 numbers)",
    )
    assert notes(plain_workload(), optimizer="sgd", grad_clip="adaptive") == (
        "adaptive clipping leaves out the output layer: 2.weight and 2.bias",
    )
    assert notes(plain_workload(), optimizer="sgd") == ()


@pytest.mark.parametrize("tied", ["", "weight"])
def test_the_loss_confirms_the_layer_that_is_defined_last(tied: str):
    assert notes(index_workload(Attention(tied)))


def test_an_output_layer_that_is_not_certain_is_asked_for_and_a_declared_one_is_taken():
    reversed_model = Reversed()
    workload = Workload(reversed_model, DATA, cross_entropy)
    with pytest.raises(WorkloadError) as error:
        notes(workload)
    assert str(error.value) == (
        "muon needs to know the output layer, and it is not certain: the last weight of the model is body.weight, and "
        "the loss is computed from head.weight; declare it, as in Workload(..., output=[model.head])"
    )
    assert notes(replace(workload, output=[reversed_model.head]))[0].startswith("muon trains body.weight (48 numbers)")
    with pytest.raises(
        WorkloadError,
        match=r"the last weight of the model is attention.out_proj.weight, and .* from tokens.weight; declare",
    ):
        notes(index_workload(Attention("function")))
    assert notes(index_workload(Attention("function"), lambda model: [model.tokens]))


def test_a_penalty_of_weights_makes_the_output_layer_uncertain_and_only_where_it_matters():
    def penalised(model: Any, batch: Any) -> Tensor:
        return cross_entropy(model, batch) + model[0].weight.square().sum()

    workload = replace(plain_workload(), loss=penalised)
    with pytest.raises(WorkloadError, match="grad_clip: adaptive needs to know the output layer"):
        notes(workload, optimizer="sgd", grad_clip="adaptive")
    assert notes(workload, optimizer="sgd", grad_clip="update") == ()


def test_the_weights_of_a_loss_are_those_without_another_weight_behind_them():
    body, left, right = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 3, bias=False)
    x = body(torch.ones(4, 6)).relu()
    found = weights_of_loss((left(x) + right(x).exp()).sum(dim=1))
    assert {id(weight) for weight in found} == {id(left.weight), id(right.weight)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert weights_of_loss(left(x).sum(dim=1)) == [left.weight]


def test_what_is_declared_must_be_of_the_model():
    with pytest.raises(WorkloadError, match="output: expected modules or parameters of the model, got a Linear"):
        notes(replace(plain_workload(), output=[nn.Linear(8, 3)]))
    with pytest.raises(WorkloadError, match="output: expected a sequence of modules or parameters, got a Linear"):
        notes(replace(plain_workload(), output=nn.Linear(8, 3)))  # type: ignore[arg-type]
