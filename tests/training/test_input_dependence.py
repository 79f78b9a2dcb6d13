from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_parts import numpy_state
from training_builders import cross_entropy, error_rate, frozen, labelled, plain_workload, stochastic_workload

from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.feasibility import Exchange
from tunectl.training.input_dependence import NotExchanged, exchange
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")


def exchanged(workload: Workload, batch_size: int = 64) -> Exchange | None:
    found = exchange(Evaluator(workload, dict(workload.data), batch_size, 0, CPU))
    return None if isinstance(found, NotExchanged) else found


def reason(workload: Workload, batch_size: int = 64) -> NotExchanged:
    """Why predictions could not be exchanged."""
    found = exchange(Evaluator(workload, dict(workload.data), batch_size, 0, CPU))
    assert isinstance(found, NotExchanged)
    return found


def is_constant(workload: Workload, batch_size: int = 64) -> bool | None:
    """Whether the predictions are the same for all examples; None where it cannot be said."""
    found = exchanged(workload, batch_size)
    return None if found is None else found.changed < 1e-6


def dead(model: nn.Module) -> nn.Module:
    """The model with all that comes from the input multiplied by zero."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.zeros_(module.weight)
    return model


class Scores(NamedTuple):
    scores: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class Output:
    scores: Tensor
    name: str = "scores"


class Net(nn.Module):
    """Scores of three classes for six features, given in some form."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.hidden, self.head, self.form = nn.Linear(6, 8), nn.Linear(8, 3), form

    def forward(self, features: Tensor) -> Any:
        hidden = self.hidden(features).relu()
        return self.form(self.head(hidden), hidden)


FORMS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], Tensor]]] = {
    "a tensor": (lambda scores, hidden: scores, lambda output: output),
    "a tuple": (lambda scores, hidden: (scores, hidden), lambda output: output[0]),
    "a named tuple": (Scores, lambda output: output.scores),
    "a dict with a number in it": (
        lambda scores, hidden: {"logits": scores, "layers": 2},
        lambda output: output["logits"],
    ),
    "a list in a dict": (lambda scores, hidden: {"all": [hidden, scores]}, lambda output: output["all"][1]),
    "a frozen dataclass": (lambda scores, hidden: Output(scores), lambda output: output.scores),
    "classes first": (lambda scores, hidden: scores.T, lambda output: output.T),
    "a class, not scores": (
        lambda scores, hidden: (scores - scores.mean(dim=0)).argmax(dim=1),
        lambda output: nn.functional.one_hot(output, 3).float(),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_output_shows_whether_it_depends_on_the_input(form: str):
    shape, scores = FORMS[form]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(scores(model(batch[0])), batch[1], reduction="none")

    data = {"train": labelled(50), "valid": labelled(20)}
    torch.manual_seed(0)
    assert is_constant(Workload(Net(shape), data, loss)) is False
    assert is_constant(Workload(dead(Net(shape)), data, loss)) is True


@pytest.mark.parametrize("alive", [True, False])
def test_of_weighted_losses_the_examples_that_have_a_weight_show_it(alive: bool):
    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        # Two values an example; NaN for all examples but those of one label.
        values = nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
        weights = torch.stack([batch[1] == 2, batch[1] == 1], dim=1) * 3.0
        return torch.where(weights > 0, values[:, None], math.nan), weights

    data = {"train": labelled(50), "valid": labelled(20)}
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    found = exchanged(Workload(model if alive else dead(model), data, loss))
    assert found is not None
    assert (found.changed < 1e-6) is not alive
    with torch.no_grad():
        losses = cross_entropy(model, data["train"].tensors)[data["train"].tensors[1] > 0]
    assert found.size == pytest.approx(float(losses.square().mean().sqrt()), rel=1e-5)


def test_every_example_gets_another_ones_prediction_and_then_all_get_that_of_one():
    seen: list[Tensor] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        seen.append(model(batch[0]))
        return nn.functional.cross_entropy(seen[-1], batch[1], reduction="none")

    plain = plain_workload()
    assert exchanged(Workload(plain.model, plain.data, loss), batch_size=20) is not None
    own, part, others, one = seen
    assert torch.equal(part, own[:2])
    partners = (own[None] == others[:, None]).all(dim=2).int().argmax(dim=1)
    assert torch.equal(own[partners], others)
    assert torch.equal(one, own[:1].expand_as(own))
    met, place = [], 0
    for _ in range(20):
        place = int(partners[place])
        met.append(place)
    assert sorted(met) == list(range(20))  # one cycle: exchanged once or nineteen times, none has its own again


class Tokens(nn.Module):
    """The next token, from an embedding of this one and of its place."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.tokens, self.places, self.head, self.order = (
            nn.Embedding(7, 8),
            nn.Parameter(torch.randn(5, 8)),
            nn.Linear(8, 7),
            order,
        )
        nn.init.normal_(self.places)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.tokens(tokens) + self.places
        scores: Tensor = self.head(states) + states[..., :7]
        if self.order in ("time first", "flat, time first"):
            scores = scores.transpose(0, 1)
        return scores.flatten(0, 1) if "flat" in self.order else scores


# As long as the batch are the sequence with 5 examples, and the scores with 7.
@pytest.mark.parametrize("batch_size", [5, 7, 64])
@pytest.mark.parametrize("order", ["batch first", "time first", "flat", "flat, time first"])
def test_predictions_that_depend_on_the_place_in_a_sequence_alone_are_constant(order: str, batch_size: int):
    def loss(model: nn.Module, batch: Any) -> Tensor:
        tokens = batch["tokens"]
        scores = model(tokens[:, :-1])
        if order == "flat, time first":
            scores = scores.unflatten(0, (5, -1))
        if "time first" in order:
            scores = scores.transpose(0, 1)
        losses = nn.functional.cross_entropy(scores.reshape(-1, 7), tokens[:, 1:].reshape(-1), reduction="none")
        return losses.view(len(tokens), -1).mean(dim=1)

    rows = np.random.default_rng(0).integers(0, 7, (40, 6))
    data: Any = [{"tokens": torch.from_numpy(row)} for row in rows]
    torch.manual_seed(0)
    for model, expected in ((Tokens(order), False), (dead(Tokens(order)), True)):
        assert is_constant(Workload(model, {"train": data, "valid": data}, loss), batch_size) is expected


@pytest.mark.parametrize("alive", [True, False])
def test_a_model_whose_parts_are_called_one_by_one_is_seen_by_them(alive: bool):
    parts = nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(6, 4), nn.Tanh()), "decoder": nn.Linear(4, 6)})

    def loss(model: Any, batch: Any) -> Tensor:
        losses: Tensor = (model["decoder"](model["encoder"](batch[0])) - batch[0]).square().mean(dim=1)
        return losses

    data = {"train": labelled(50), "valid": labelled(20)}
    assert is_constant(Workload(parts if alive else dead(parts), data, loss)) is not alive


def test_what_cannot_be_exchanged_is_not_judged():
    data = {"train": labelled(50), "valid": labelled(20)}
    model = nn.Linear(6, 3)

    def own_loss(model: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(batch[0] @ model.weight.T, batch[1], reduction="none")

    assert reason(Workload(model, data, own_loss)) == NotExchanged("the loss calls no module of the model")

    class LossInside(nn.Module):
        def forward(self, features: Tensor, labels: Tensor) -> Tensor:
            return nn.functional.cross_entropy(
                features.new_zeros(len(labels), 3) + torch.arange(3.0), labels, reduction="none"
            )

    inside = Workload(LossInside(), data, lambda model, batch: model(*batch))
    assert reason(inside) == NotExchanged("the model's outputs are the losses")
    one = {"train": labelled(1), "valid": labelled(1)}
    assert reason(Workload(model, one, cross_entropy)) == NotExchanged("there are fewer than two examples")

    calls = []

    def once(model: Any, batch: Any) -> Tensor:
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("a prediction that does not fit its target")
        return cross_entropy(model, batch)

    said = "ValueError: a prediction that does not fit its target"
    assert reason(Workload(model, data, once)) == NotExchanged(said, is_error=True)


class Prototypes(nn.Module):
    """Scores, beside a table that is as long as the batch and has nothing to do with it."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.head, self.table = nn.Linear(6, 3), nn.Parameter(torch.randn(examples, 3))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.table, self.head(features)


def test_a_table_that_is_as_long_as_the_batch_is_left_as_it_is():
    def loss(model: nn.Module, batch: Any) -> Tensor:
        table, scores = model(batch[0])
        weights = torch.arange(len(table), dtype=torch.float32)
        return nn.functional.cross_entropy(scores + (weights @ table), batch[1], reduction="none")

    data = {"train": labelled(50), "valid": labelled(20)}
    assert is_constant(Workload(dead(Prototypes(20)), data, loss), batch_size=20) is True
    assert is_constant(Workload(Prototypes(20), data, loss), batch_size=20) is False


@pytest.mark.parametrize(("hidden", "expected"), [(4, True), (20, None)])
def test_where_a_model_takes_one_size_of_batch_the_only_axis_of_that_length_is_the_batch(
    hidden: int, expected: bool | None
):
    class OneSize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, hidden)

        def forward(self, features: Tensor) -> Tensor:
            scores: Tensor = self.head(features.view(20, 6))
            return scores

    data = {"train": labelled(50), "valid": labelled(20)}
    assert is_constant(Workload(dead(OneSize()), data, cross_entropy), batch_size=20) is expected


def test_memory_that_does_not_suffice_is_said_and_is_no_error_of_the_trial():
    calls = []

    def loss(model: Any, batch: Any) -> Tensor:
        calls.append(1)
        if len(calls) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
        return cross_entropy(model, batch)

    found = reason(Workload(nn.Linear(6, 3), {"train": labelled(50), "valid": labelled(20)}, loss))
    assert found == NotExchanged("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.", is_error=True)


def test_looking_changes_neither_model_nor_generators_and_is_repeatable():
    workload = stochastic_workload()
    workload.model.train()
    before = frozen(workload.model.state_dict()), torch.get_rng_state().tolist(), numpy_state()
    first = exchanged(workload)
    after = frozen(workload.model.state_dict()), torch.get_rng_state().tolist(), numpy_state()
    assert after == before
    assert all(module.training for module in workload.model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in workload.model.modules())
    torch.rand(3)
    assert exchanged(workload) == first


def test_batch_normalisation_and_dropout_do_not_hide_a_dead_network():
    def network(last: float) -> nn.Module:
        head = nn.Linear(12, 3)
        nn.init.constant_(head.weight, last)
        return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5), head)

    data = {"train": labelled(50), "valid": labelled(20)}
    assert is_constant(Workload(network(0.0), data, cross_entropy, error_rate)) is True
    assert exchanged(Workload(stochastic_workload().model, data, cross_entropy, error_rate)) is not None


def test_at_most_1024_examples_are_looked_at():
    sizes: list[int] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        sizes.append(len(batch[1]))
        return cross_entropy(model, batch)

    workload = Workload(nn.Linear(6, 3), {"train": labelled(5000), "valid": labelled(20)}, loss)
    assert exchanged(workload, batch_size=4096) is not None
    assert exchanged(workload, batch_size=100) is not None
    assert sizes == [1024, 128, 1024, 1024, 100, 12, 100, 100]


def test_a_loss_over_the_batch_as_a_whole_is_not_taken_for_one_without_predictions():
    """Whose predictions are compared with which target does not matter to it: only that they vary as the targets do."""

    def matched_moments(model: nn.Module, batch: Any) -> Tensor:
        outputs: Tensor = model(batch[0])[:, 0]
        losses: Tensor = (outputs.std() - 2.0).square() + (batch[1] - 1.0).square()
        return losses

    data = {"train": labelled(50), "valid": labelled(20)}
    assert is_constant(Workload(nn.Linear(6, 1), data, matched_moments)) is False


def test_parameters_that_are_read_past_the_modules_leave_it_unknown():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own, self.shift = nn.Parameter(torch.randn(6, 3)), dead(nn.Linear(6, 3))

    def loss(model: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(batch[0] @ model.own + model.shift(batch[0]), batch[1], reduction="none")

    assert exchanged(Workload(Mixed(), {"train": labelled(50), "valid": labelled(20)}, loss)) is None


def test_running_statistics_that_lag_behind_make_no_living_network_dead():
    """In evaluation mode its units are all shut, since the running mean has hardly moved from 0."""
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))
    nn.init.constant_(model.get_parameter("0.bias"), -1000.0)
    data = {"train": labelled(50), "valid": labelled(20)}
    scores = model.eval()(data["train"].tensors[0])
    assert bool((scores == scores[0]).all())
    before = frozen(model.state_dict())
    assert is_constant(Workload(model, data, cross_entropy)) is False
    assert frozen(model.state_dict()) == before


def test_losses_that_are_no_numbers_leave_it_unknown():
    data = {"train": labelled(50), "valid": labelled(20)}
    model = nn.Linear(6, 3)
    nn.init.constant_(model.bias, float("nan"))
    assert exchanged(Workload(model, data, cross_entropy)) is None
