"""What of an update depends on the other examples of its batch, and so on the share of a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rank_workloads import CASES, cross_losses, double_data, network, plain
from torch import Tensor, nn

from tunectl.training.batch_dependence import BatchDependence, batch_dependence
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")


def with_model(forward: Callable[[Any, Tensor], Any], *more: nn.Module) -> Workload:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.other, self.more = nn.Linear(6, 3), nn.Linear(6, 3), nn.Sequential(*more)
            self.calls = 0

        def forward(self, features: Tensor) -> Any:
            return forward(self, features)

    return replace(plain(), model=Model().double())


def deciding(model: Any, features: Tensor) -> Any:
    return model.first(features) + (model.other(features) if bool(features.sum() > 0) else 0)


def deciding_in_training(model: Any, features: Tensor) -> Any:
    return deciding(model, features) if model.training else model.first(features)


def each_by_itself(model: Any, features: Tensor) -> Any:
    return torch.where(features.sum(dim=1, keepdim=True) > 0, model.first(features), model.other(features))


def centred(model: Any, features: Tensor) -> Any:
    return model.first(features - features.mean(dim=0))


def noisy(model: Any, features: Tensor) -> Any:
    """In training it draws random numbers; it decides in both modes."""
    return deciding(model, nn.functional.dropout(features, 0.5, model.training))


def with_noise(model: Any, features: Tensor) -> Any:
    return model.more(model.first(features)) + nn.functional.dropout(model.other(features), 0.5, model.training)


def counting(model: Any, features: Tensor) -> Any:
    model.calls += 1
    return model.first(features) * model.calls


def counting_in_training(model: Any, features: Tensor) -> Any:
    model.calls += model.training
    return model.first(features) * (1 + model.calls)


def remembering(model: Any, features: Tensor) -> Any:
    """It keeps a table of what it computes again each time."""
    model.table = torch.arange(6).double()
    return model.first(features + model.table)


def relative() -> Workload:
    """Its weights are relative to those of the batch, and sum to 1 in each."""

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        values = nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
        return values, torch.full_like(values, 1 / len(values))

    return replace(plain(), loss=loss)


def kept() -> Workload:
    """Its loss changes from call to call, whatever the batch is."""
    calls: list[int] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none") * len(calls)

    return replace(plain(), loss=loss)


def ruined() -> Workload:
    workload = plain()
    nn.init.constant_(next(workload.model.parameters()), float("nan"))
    return workload


def only_batches() -> Workload:
    """It cannot compute with one example by itself."""
    return with_model(lambda model, features: model.first(features.squeeze(0)).view(len(features), 3))


def of_one() -> Workload:
    data = double_data(1)
    return replace(plain(), data={"train": data, "valid": data})


class Halved(torch.autograd.Function):
    """Gives its input; the gradient is divided by its norm, that of all examples."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(_context: Any, grad: Tensor) -> Any:
        return grad / (1e-3 + grad.norm())


class Clamped(torch.autograd.Function):
    """Gives its input; each number of the gradient is limited by itself."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(_context: Any, grad: Tensor) -> Any:
        return grad.clamp(-0.02, 0.02)


def backwards_by(function: Any) -> Callable[[Any, Tensor], Any]:
    return lambda model, features: function.apply(model.first(features))


def weighing(workload: Workload) -> Workload:
    """Its weights sum to different numbers in different batches."""

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return cross_losses(model, batch), (batch[1] % 3).double()

    return replace(workload, loss=loss)


def with_module_hook() -> Workload:
    workload = with_model(lambda model, features: model.first(features.requires_grad_()))
    layer: Any = workload.model
    layer.first.register_full_backward_hook(lambda _layer, grads, _of_output: grads)
    layer.first.register_full_backward_pre_hook(lambda _layer, grads: (grads[0] / (1 + grads[0].norm()),))
    return workload


def regularised_by_itself() -> Workload:
    """The loss adds a gradient of its own, once a call."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if model.training:
            sum(each.square().sum() for each in model.parameters()).backward()  # type: ignore[union-attr]
        return cross_losses(model, batch)

    return replace(plain(), loss=loss)


def penalised() -> Workload:
    """By the gradients of examples for their inputs; by the mean loss of a batch it would depend on its size."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        with torch.enable_grad():
            features = batch[0].clone().requires_grad_()
            losses = cross_losses(model, [features, batch[1]])
            (found,) = torch.autograd.grad(losses.sum(), features, create_graph=True)
            return losses + found.square().sum(dim=1)

    return replace(plain(), loss=loss)


def perturbed() -> Workload:
    """In training by the gradient of the mean loss, which is smaller where a batch is larger."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        features = batch[0]
        if model.training:
            given = features.clone().requires_grad_()
            (found,) = torch.autograd.grad(cross_losses(model, [given, batch[1]]).mean(), given)
            features = features + found
        return cross_losses(model, [features, batch[1]])

    return replace(plain(), loss=loss)


def mean_for_each() -> Workload:
    """Each example has the mean loss of its batch: the loss of the whole is the same."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        losses = cross_losses(model, batch)
        return losses.mean().expand(len(losses))

    return replace(plain(), loss=loss)


class Tallies(nn.Module):
    """Counts calls and examples, and has a mean and a sum of what it saw, which it uses in later calls only."""

    calls: Tensor
    seen: Tensor
    sums: Tensor
    means: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("calls", torch.tensor(0)), ("seen", torch.tensor(0)), ("sums", torch.zeros(8))):
            self.register_buffer(name, values)
        self.register_buffer("means", torch.zeros(8))

    def forward(self, values: Tensor) -> Any:
        found = values + 0.1 * (self.means + self.sums + self.calls + self.seen).clone()
        if self.training:
            self.calls += 1
            self.seen += len(values)
            self.means.lerp_(values.detach().mean(dim=0), 0.1)
            self.sums.mul_(0.9).add_(values.detach().sum(dim=0))
        return found


def augmented(by: Callable[[Tensor, np.random.Generator], Tensor]) -> Workload:
    return replace(plain(), augment=lambda batch, generator: [by(batch[0], generator), batch[1]])


def drawing() -> Workload:
    """Its noise is from a generator of the model's own."""
    generator = torch.Generator().manual_seed(1)
    return with_model(
        lambda model, features: model.first(features + torch.rand(features.shape, generator=generator).double())
    )


def drawing_in_augment() -> Workload:
    own = np.random.default_rng(1)
    return augmented(lambda features, _: features + torch.from_numpy(own.random(features.shape)))


NOTHING, OF_LOSS, OF_GRADIENT = BatchDependence(), BatchDependence("loss"), BatchDependence("gradient")
CHANGES = BatchDependence(changes=True)
INDEPENDENT = (
    "parameters that some shares do not use",
    "sparse gradients",
    "a stream",
    "averages over examples in buffers",
    "a model that counts its calls",
    "a model that depends on its calls, and micro-batches with fewer examples than devices",
    "a teacher that follows with each batch, of fewer examples than devices",
    "tied, frozen and complex parameters",
    "functions that device 0 alone calls",
    "weights, and shares without any",
)


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (lambda: with_model(deciding), OF_LOSS),
        (lambda: with_model(deciding_in_training), OF_LOSS),
        (lambda: with_model(centred), OF_LOSS),
        (lambda: with_model(noisy), OF_LOSS),
        (relative, OF_LOSS),
        (perturbed, OF_LOSS),
        (lambda: augmented(lambda features, _: features - features.mean(dim=0)), OF_LOSS),
        (lambda: with_model(backwards_by(Halved)), OF_GRADIENT),
        (lambda: weighing(with_model(backwards_by(Clamped))), OF_GRADIENT),
        (with_module_hook, OF_GRADIENT),
        (regularised_by_itself, OF_GRADIENT),
        (lambda: replace(plain(), model=network(Tallies())), BatchDependence(buffers=("2.seen", "2.sums"))),
        (drawing, BatchDependence(own_draws=True)),
        (drawing_in_augment, BatchDependence(own_draws=True)),
        (kept, CHANGES),
        (lambda: with_model(backwards_by(Clamped)), NOTHING),
        (lambda: augmented(lambda features, _: features.tanh()), NOTHING),
        (lambda: augmented(lambda features, generator: features * generator.random()), NOTHING),
        (lambda: weighing(plain()), NOTHING),
        (penalised, NOTHING),
        (mean_for_each, NOTHING),
        (lambda: with_model(each_by_itself), NOTHING),
        (lambda: with_model(with_noise, nn.Dropout(0.3), nn.BatchNorm1d(3)), NOTHING),
        (lambda: with_model(counting), CHANGES),
        (lambda: with_model(counting_in_training), NOTHING),
        (lambda: with_model(remembering), NOTHING),
        (lambda: with_model(each_by_itself, nn.Linear(2, 2).bfloat16()), NOTHING),
        (ruined, NOTHING),
        (only_batches, NOTHING),
        (of_one, NOTHING),
        *((CASES[name][0], NOTHING) for name in INDEPENDENT),
    ],
)
def test_what_depends_on_how_a_batch_is_divided_is_found_and_what_is_of_single_examples_is_not(
    factory: Callable[[], Workload], expected: BatchDependence
) -> None:
    torch.manual_seed(0)
    workload = factory()
    before = {name: item.clone() for name, item in workload.model.state_dict().items()}
    state = torch.get_rng_state()
    assert batch_dependence(workload, CPU) == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in workload.model.modules())
    assert all(parameter.grad is None for parameter in workload.model.parameters())
    # NaN is not equal to itself.
    now = workload.model.state_dict()
    assert all(torch.equal(item.nan_to_num(7.0), before[name].nan_to_num(7.0)) for name, item in now.items())


def test_hooks_of_modules_are_there_again_afterwards() -> None:
    workload = with_module_hook()
    layer: Any = workload.model
    assert batch_dependence(workload, CPU) == OF_GRADIENT
    assert [len(layer.first._backward_hooks), len(layer.first._backward_pre_hooks)] == [1, 1]


def test_weights_change_nothing_of_a_limited_gradient_where_all_devices_have_one_divisor() -> None:
    """The divisor of the parts is then the number of examples, and that of one device the sum of the weights."""
    torch.manual_seed(0)
    assert batch_dependence(weighing(plain()), CPU, one_divisor=True) == NOTHING
    workload = weighing(with_model(backwards_by(Clamped)))
    assert batch_dependence(workload, CPU, one_divisor=True) == OF_GRADIENT
