"""Which losses depend on the other examples of their batch, and so on the share of a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from rank_workloads import CASES, double_data, plain
from torch import Tensor, nn

from tunectl.training.batch_dependence import depends_on_its_batch
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


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (lambda: with_model(deciding), True),
        (lambda: with_model(deciding_in_training), True),
        (lambda: with_model(centred), True),
        (lambda: with_model(noisy), True),
        (relative, True),
        (lambda: with_model(each_by_itself), False),
        (lambda: with_model(with_noise, nn.Dropout(0.3), nn.BatchNorm1d(3)), False),
        (lambda: with_model(counting), False),
        (lambda: with_model(each_by_itself, nn.Linear(2, 2).bfloat16()), False),
        (kept, False),
        (ruined, False),
        (only_batches, False),
        (of_one, False),
        *(
            (CASES[name][0], False)
            for name in ("parameters that some shares do not use", "sparse gradients", "a stream")
        ),
        (CASES["averages over examples in buffers"][0], False),
        (CASES["a model that counts its calls"][0], False),
        (CASES["tied, frozen and complex parameters"][0], False),
        (CASES["functions that device 0 alone calls"][0], False),
    ],
)
def test_a_loss_that_decides_by_its_batch_is_found_and_one_of_single_examples_is_not(
    factory: Callable[[], Workload], *, expected: bool
) -> None:
    torch.manual_seed(0)
    workload = factory()
    before = {name: item.clone() for name, item in workload.model.state_dict().items()}
    state = torch.get_rng_state()
    assert depends_on_its_batch(workload, CPU) == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in workload.model.modules())
    assert not expected or all(torch.equal(item, before[name]) for name, item in workload.model.state_dict().items())
