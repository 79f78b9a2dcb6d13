from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from training_builders import StopAt, comparable, make_request, stochastic_workload, train_trial

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.training.averaging import WeightAverages


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999])
def test_the_averages_are_those_of_numpy_and_begin_as_the_weights(decay: float):
    generator = np.random.Generator(np.random.PCG64(0))
    model = nn.Linear(4, 3).double()
    averages = WeightAverages(list(model.parameters()), decay)
    expected = [parameter.detach().numpy().copy() for parameter in model.parameters()]
    for _ in range(50):
        for place, parameter in enumerate(model.parameters()):
            with torch.no_grad():
                parameter.add_(torch.from_numpy(generator.normal(size=parameter.shape)))
            expected[place] = decay * expected[place] + (1 - decay) * parameter.detach().numpy()
        averages.update()
    own = [parameter.detach().clone() for parameter in model.parameters()]
    with averages.applied():
        for parameter, average in zip(model.parameters(), expected, strict=True):
            assert np.allclose(parameter.detach().numpy(), average, rtol=1e-12, atol=1e-14)
    assert all(torch.equal(after, before) for after, before in zip(model.parameters(), own, strict=True))


def test_what_is_evaluated_and_kept_as_the_model_are_the_averages_and_training_is_as_without(folder, tmp_path):
    plain = TrialFolder(tmp_path / "plain")
    plain.path.mkdir()
    last = Objective("valid/loss", "minimize", "final")
    train_trial(make_request(objective=last), plain, stochastic_workload)
    train_trial(make_request(objective=last, polyak_decay=0.9), folder, stochastic_workload)
    assert folder.steps.read_bytes() == plain.steps.read_bytes()
    here, there = (torch.load(place.checkpoint(30), weights_only=True) for place in (folder, plain))
    names = [name for name in here["model"] if name.endswith(("weight", "bias"))]
    assert [raw.tolist() for raw in here["raw_weights"]] == [there["model"][name].tolist() for name in names]
    assert not torch.equal(here["model"]["0.weight"], there["model"]["0.weight"])
    assert torch.equal(here["model"]["1.running_mean"], there["model"]["1.running_mean"])
    assert here["metrics"]["valid/loss"] != there["metrics"]["valid/loss"]
    assert here["metrics"]["train/minibatch_loss"] == there["metrics"]["train/minibatch_loss"]


@pytest.mark.parametrize("stop", [0, 11, 14, 30])
def test_an_averaging_trial_that_is_stopped_goes_on_bit_for_bit(folder, tmp_path, stop):
    request = make_request(polyak_decay=0.8, optimizer="adam")
    whole = TrialFolder(tmp_path / "whole")
    whole.path.mkdir()
    train_trial(request, whole, stochastic_workload)
    assert train_trial(request, folder, stochastic_workload, stop=StopAt(stop), save_every_seconds=1e9) is None
    assert train_trial(request, folder, stochastic_workload) is not None
    assert comparable(folder) == comparable(whole)
