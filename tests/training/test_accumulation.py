"""An update in micro-batches is the update of the whole batch. Tests batches.py, gradients.py and loop.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from training_builders import (
    StopAt,
    comparable,
    cross_entropy,
    labelled,
    make_request,
    plain_workload,
    stochastic_workload,
    train_trial,
)
from trial_records import lines_in

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.batches import training_batches
from tunectl.training.gradients import MeanLoss
from tunectl.training.training_data import TrainingData
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")


def series(folder: TrialFolder, name: str) -> np.ndarray[Any, Any]:
    return np.concatenate([np.asarray(line[name], dtype=float) for line in lines_in(folder.steps)])


def nested_workload() -> Workload:
    """Examples that are dicts of a tuple, a number and text; each draws noise of its own."""

    class Nested(Dataset[Any]):
        def __init__(self, size: int, seed: int) -> None:
            self.inner = labelled(size, seed=seed)

        def __len__(self) -> int:
            return len(self.inner)

        def __getitem__(self, index: int) -> dict[str, Any]:
            features, label = self.inner[index]
            return {"pair": (features + 0.1 * torch.randn(6), label), "name": f"example {index}", "weight": 1.0}

    def loss(model: nn.Module, batch: Any) -> Tensor:
        assert len(batch["name"]) == len(batch["weight"]) == len(batch["pair"][0])
        return cross_entropy(model, batch["pair"])

    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    return Workload(model, {"train": Nested(50, 0), "valid": Nested(20, 1)}, loss)


@pytest.mark.parametrize(
    ("batch", "steps", "sizes"),
    [(8, 1, [8]), (8, 2, [4, 4]), (10, 4, [3, 3, 3, 1]), (9, 4, [3, 3, 3]), (7, 7, [1] * 7), (3, 8, [1] * 3)],
)
def test_micro_batches_hold_the_batch_divided_upwards_and_the_last_one_what_is_left(batch, steps, sizes):
    configuration = TrainingConfiguration("sgd", 0.1, batch_size=batch, accumulate_steps=steps)
    assert configuration.micro_batch_sizes() == sizes


@pytest.mark.parametrize(
    ("factory", "optimizer", "steps"),
    [
        (plain_workload, "momentum", 2),
        (plain_workload, "adam", 3),
        (plain_workload, "sgd", 8),
        (nested_workload, "adam", 3),
    ],
)
def test_accumulation_is_the_large_batch_to_float_rounding(folder, tmp_path, factory, optimizer, steps):
    whole = TrialFolder(tmp_path / "whole")
    whole.path.mkdir()
    common = {"optimizer": optimizer, "learning_rate": 0.02, "grad_clip_norm": 1.0, "weight_decay": 0.01}
    common["objective"] = make_request().objective.__class__("valid/loss", "minimize")
    train_trial(make_request(**common), whole, factory)
    train_trial(make_request(**common, accumulate_steps=steps), folder, factory)  # 3: micro-batches of 3, 3, 2
    for name in ("loss", "gradient_norm", "learning_rate"):
        assert np.allclose(series(folder, name), series(whole, name), rtol=2e-4, atol=1e-6), name
    ends = [torch.load(place.resume, weights_only=True)["model"] for place in (folder, whole)]
    for name in ends[0]:
        assert torch.allclose(ends[0][name], ends[1][name], rtol=2e-4, atol=1e-5), name


@pytest.mark.parametrize("workers", [0, 2])
def test_the_micro_batches_are_the_slices_of_the_batch_also_from_loader_processes(workers):
    dataset = nested_workload().data["train"]
    common: dict[str, Any] = {"seed": 5, "batch_size": 8, "first_update": 0, "total_updates": 9, "device": CPU}
    whole = training_batches(TrainingData(dataset), data_workers=0, **common)
    divided = training_batches(TrainingData(dataset), data_workers=workers, micro_batch_sizes=[3, 3, 2], **common)
    try:
        for update in range(9):
            batch, parts = whole.take(update), divided.take(update)
            assert [len(part["name"]) for part in parts] == [3, 3, 2]
            assert torch.equal(torch.cat([part["pair"][0] for part in parts]), batch["pair"][0])
            assert [name for part in parts for name in part["name"]] == batch["name"]
    finally:
        divided.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_accumulating_trial_that_is_stopped_goes_on_bit_for_bit(folder, tmp_path, workers):
    request = make_request(accumulate_steps=3, data_workers=workers)
    whole = TrialFolder(tmp_path / "whole")
    whole.path.mkdir()
    train_trial(make_request(accumulate_steps=3), whole, stochastic_workload)
    assert train_trial(request, folder, stochastic_workload, stop=StopAt(11), save_every_seconds=1e9) is None
    assert train_trial(request, folder, stochastic_workload) is not None
    assert comparable(folder) == comparable(whole)


def test_a_loss_of_the_wrong_length_is_an_error_for_a_micro_batch_too():
    losses = torch.zeros(4, requires_grad=True)
    with pytest.raises(WorkloadError, match="gave 4 values for a batch of 3 examples"):
        MeanLoss(8, []).backward(losses * 1, 3)
    mean = MeanLoss(8, [])
    mean.backward(losses * 1, 4)
    with pytest.raises(WorkloadError, match="gave 3 values for a batch of 4 examples"):
        mean.backward(losses[:3] * 1, 4)


def test_the_losses_of_some_micro_batches_may_be_constants_but_not_those_of_all_and_of_one_batch_not_either():
    weight = torch.nn.Parameter(torch.ones(2))
    mean = MeanLoss(4, [weight], is_divided=True)
    mean.begin()
    mean.backward(torch.zeros(2), 2)
    mean.backward(3 * weight, 2)
    assert mean.take_sum()[0] == 6
    assert weight.grad is not None
    assert weight.grad.tolist() == [0.75, 0.75]
    mean.begin()
    for _ in range(2):
        mean.backward(torch.zeros(2), 2)
    with pytest.raises(WorkloadError, match="expected a tensor with a gradient, got one that requires none"):
        mean.take_sum()
    with pytest.raises(RuntimeError, match="does not require grad"):
        MeanLoss(2, [weight]).backward(torch.zeros(2), 2)
