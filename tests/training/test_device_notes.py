from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from training_builders import cross_entropy, labelled, make_request, plain_workload

from tunectl.core.objective import Objective
from tunectl.training.device_notes import device_notes
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


@pytest.mark.parametrize(
    ("factory", "changes", "expected"),
    [
        (plain_workload, {"devices": 2}, []),
        (normalised, {"devices": 1}, []),
        (normalised, {"devices": 2, "sync_batch_norm": True}, []),
        (normalised, {"devices": 2}, ["batch normalisation in training is over the share of a batch"]),
        (contrastive, {"devices": 3}, ["the loss of an example depends on the others in its batch"]),
        (contrastive, {"devices": 1}, []),
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


def test_the_probe_gives_them() -> None:
    objective = Objective("valid/loss", "minimize")
    found = probe(make_request(devices=2, batch_size=12, objective=objective), normalised, device="cpu")
    assert any("training.sync_batch_norm: true makes it that of the whole batch" in note for note in found.notes)
