"""Parameters that are not trained, as of a backbone: they stay as they are, whatever the study asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from training_builders import StopAt, comparable, cross_entropy, make_request, plain_workload, train_trial
from trial_records import lines_in

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.training.checkpoints import load
from tunectl.training.probe import probe
from tunectl.workloads.workload import Workload


def fine_tuned() -> Workload:
    """A frozen layer with frozen statistics below a head."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)).requires_grad_(False)
    model = nn.Sequential(backbone, nn.ReLU(), nn.Linear(8, 3))
    return replace(plain_workload(), model=model)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "weight_decay": 0.1, "polyak_decay": 0.5},
        {"optimizer": "momentum", "weight_decay": 0.1, "grad_clip_norm": 0.5, "accumulate_steps": 2},
        {"curvature": CurvatureSettings(every=5, examples=16)},
        {
            "initialisation": "gradinit",
            "initialisation_steps": 3,
            "initialisation_learning_rate": 0.01,
            "initialisation_momentum": 0.9,
        },
    ],
)
def test_frozen_parameters_are_in_every_checkpoint_and_never_change(
    folder: TrialFolder, tmp_path: Any, changes: dict[str, Any]
):
    request = make_request(max_train_steps=10, eval_every=5, **changes)
    assert probe(request, fine_tuned, device="cpu").checkpoint_bytes > 0
    undisturbed = TrialFolder(tmp_path / "undisturbed")
    undisturbed.path.mkdir()
    assert train_trial(request, undisturbed, fine_tuned) is not None
    assert train_trial(request, folder, fine_tuned, stop=StopAt(6)) is None
    assert train_trial(request, folder, fine_tuned) is not None
    assert comparable(folder) == comparable(undisturbed)
    before = fine_tuned().model.state_dict()
    for path in folder.checkpoints.iterdir():
        after = load(path)["model"]
        assert after.keys() == before.keys()
        for name in ("0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"):
            assert torch.equal(after[name], before[name])
        assert not torch.equal(after["2.weight"], before["2.weight"])
    if "curvature" in changes:
        assert any(line["kind"] == "curvature" for line in lines_in(folder.measurements))


def test_a_parameter_that_is_unfrozen_later_is_refused(folder: TrialFolder):
    workload = fine_tuned()

    def loss(model: Any, batch: Any) -> Any:
        if model.training:
            model[0][0].weight.requires_grad_(True)
        return cross_entropy(model, batch)

    with pytest.raises(WorkloadError, match=r"^the parameter 0\.0\.weight requires a gradient now"):
        train_trial(make_request(), folder, lambda: replace(workload, loss=loss))
