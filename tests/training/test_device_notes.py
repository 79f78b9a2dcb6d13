from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from training_builders import cross_entropy, labelled, make_request, plain_workload

from tunectl.core.objective import Objective
from tunectl.training.device_notes import device_notes, of_small_share
from tunectl.training.probe import probe
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")


def normalised() -> Workload:
    data = {"train": labelled(50), "valid": labelled(20, seed=1)}
    return Workload(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)), data, cross_entropy)


def contrastive() -> Workload:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        found = nn.functional.normalize(model(batch[0]), dim=1)
        return nn.functional.cross_entropy(found @ found.T, torch.arange(len(found)), reduction="none")

    return replace(plain_workload(), loss=loss, metrics=None)


def hooked() -> Workload:
    workload = plain_workload()
    layers: Any = workload.model
    layers[0].weight.register_hook(lambda gradient: gradient.clamp(-1, 1))
    layers[2].bias.register_post_accumulate_grad_hook(lambda parameter: None)
    return workload


def instances() -> Workload:
    layers = nn.Unflatten(1, (3, 2)), nn.InstanceNorm1d(3, track_running_stats=True), nn.Flatten(), nn.Linear(6, 3)
    return replace(plain_workload(), model=nn.Sequential(*layers))


class Limited(torch.autograd.Function):
    """Its gradient has the norm 1, of all examples together."""

    @staticmethod
    def forward(_context: Any, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(_context: Any, grad: torch.Tensor) -> Any:
        return grad / (1e-3 + grad.norm())


class Seen(nn.Module):
    """Counts examples."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.seen += len(values) * self.training
        return values


def computing(*more: nn.Module, by: Callable[[torch.Tensor], Any] = torch.clone) -> Workload:
    """Its losses are computed from the model's output as `by` gives it."""
    model = nn.Sequential(nn.Linear(6, 3), *more)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(by(model(batch[0])), batch[1], reduction="none")

    return replace(plain_workload(), model=model, loss=loss)


def drawing() -> Workload:
    generator = torch.Generator().manual_seed(0)
    return computing(by=lambda values: values + torch.rand(values.shape, generator=generator))


def annealed() -> Workload:
    calls = itertools.count(1)
    return computing(by=lambda values: values * next(calls))


OF_SHARES = "batch normalisation in training is over the share of a"


@pytest.mark.parametrize(
    ("factory", "changes", "expected"),
    [
        (plain_workload, {"devices": 2}, []),
        (normalised, {"devices": 1}, []),
        (normalised, {"devices": 2, "sync_batch_norm": True}, []),
        (normalised, {"devices": 2}, ["batch normalisation in training is over the share of a batch"]),
        (
            normalised,
            {"devices": 4},
            [f"{OF_SHARES} batch that each of the 4 devices has, as few as 2 examples of 8; "],
        ),
        (
            normalised,
            {"devices": 3, "accumulate_steps": 2},
            [
                f"{OF_SHARES} micro-batch that each of the 3 devices has, as few as 1 example of 4; over one example, a"
                " layer without other axes fails; training.sync_batch_norm: true makes it that of the whole micro-batch"
            ],
        ),
        (
            normalised,
            {"devices": 3, "accumulate_steps": 5},
            [
                f"{OF_SHARES} micro-batch that each of the 3 devices has, as few as 1 example of 2; over one example, a"
                " layer without other axes fails; a device without an example of it takes the first one of it, which"
                " only its running statistics count; training.sync_batch_norm: true makes it that of the whole"
                " micro-batch"
            ],
        ),
        (hooked, {"devices": 2}, ["a hook on the gradient of 0.weight, 2.bias gets the part of it that is of the"]),
        (instances, {"devices": 2, "accumulate_steps": 2}, []),
        (instances, {"devices": 3}, []),
        (
            instances,
            {"devices": 3, "accumulate_steps": 2},
            ["the running statistics of 1 are averaged over the 3 devices once an update, and their shares of its"],
        ),
        (hooked, {"devices": 1}, []),
        (contrastive, {"devices": 3}, ["the loss of an example depends on the others in its batch"]),
        (contrastive, {"devices": 1}, []),
        (
            lambda: computing(by=Limited.apply),
            {"devices": 2},
            ["the gradient of a batch is not the sum of those of its"],
        ),
        (
            lambda: computing(Seen()),
            {"devices": 2},
            ["the buffers 1.seen of the model are no averages over the examples"],
        ),
        (drawing, {"devices": 2}, ["the model, the loss or augment draws from a random generator of its own, which"]),
        (
            annealed,
            {"devices": 2},
            ["the loss of the same examples changes from call to call, by what is kept elsewhere"],
        ),
    ],
)
def test_a_note_says_where_several_devices_train_something_else(
    factory: Callable[[], Workload], changes: dict[str, Any], expected: list[str]
) -> None:
    workload = factory()
    before = {name: item.clone() for name, item in workload.model.state_dict().items()}
    notes = device_notes(workload, make_request(**changes), CPU)
    assert len(notes) == len(expected)
    assert all(note.startswith(start) for note, start in zip(notes, expected, strict=True))
    assert all(torch.equal(item, before[name]) for name, item in workload.model.state_dict().items())
    assert workload.model.training


def test_torchs_words_for_one_example_are_explained_where_a_trial_has_several_devices() -> None:
    def raised(call: Callable[[], Any]) -> ValueError:
        with pytest.raises(ValueError, match="1") as caught:
            call()
        return caught.value

    error = raised(lambda: nn.BatchNorm1d(2)(torch.zeros(1, 2)))
    explained = of_small_share(error, 4)
    assert str(explained).startswith(
        f"batch normalisation got one value for each channel ({error}): a device's share of"
    )
    assert of_small_share(error, 1) is None
    assert of_small_share(raised(lambda: int("1.0")), 4) is None


def test_the_probe_gives_them() -> None:
    objective = Objective("valid/loss", "minimize")
    found = probe(make_request(devices=2, batch_size=12, objective=objective), normalised, device="cpu")
    assert any("training.sync_batch_norm: true makes it that of the whole batch" in note for note in found.notes)
