"""Losses whose squares or sums are beyond what a float holds.

Tests evaluation.py, trial_progress.py and update_series.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from training_builders import cross_entropy, error_rate, make_request, plain_workload, train_trial

from tunectl.core.folders import TrialFolder
from tunectl.core.records import Recovery
from tunectl.training.evaluation import evaluate
from tunectl.training.evaluation_batches import Evaluator
from tunectl.workloads.workload import Workload


@pytest.mark.parametrize("height", [1e150, 1e156, 1e200, 1e306])
def test_a_float64_loss_whose_square_is_beyond_a_float_is_diverged_and_no_error(folder: TrialFolder, height: float):
    """The loss climbs to `height` in the last updates; where it is one of 1e306, the sum over them is infinite."""

    def factory() -> Workload:
        plain = plain_workload()
        updates = iter(range(10**6))

        def climbing(model: nn.Module, batch: Any) -> Any:
            losses = cross_entropy(model, batch).to(torch.float64)
            if not model.training:
                return losses
            return losses + height * (next(updates) >= 290)

        return Workload(plain.model, plain.data, climbing, error_rate, baseline_loss=1.0986)

    request = make_request(max_train_steps=400, eval_every=100, learning_rate=1e-3, batch_size=2)
    result = train_trial(request, folder, factory)
    assert result is not None
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "diverged", 400)
    assert len(result.message) < 150


def test_recovering_looks_at_losses_beyond_a_float_without_an_error(folder: TrialFolder):
    def factory() -> Workload:
        plain = plain_workload()
        updates = iter(range(10**6))

        def jumping(model: nn.Module, batch: Any) -> Any:
            losses = cross_entropy(model, batch).to(torch.float64)
            return losses + 1e308 * (model.training and next(updates) >= 100) if len(losses) == 1 else losses

        return Workload(plain.model, plain.data, jumping, error_rate)

    recovery = Recovery(max_recoveries=1)
    request = make_request(max_train_steps=200, eval_every=50, batch_size=1, learning_rate=1e-3, recovery=recovery)
    result = train_trial(request, folder, factory)
    assert result is not None
    assert result.reason == "diverged"


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e160, 1e300])
def test_the_spread_of_losses_is_known_at_every_size(size: float):
    values = torch.tensor([1.0, 2.0, 4.0, 9.0, 2.5], dtype=torch.float64) * size
    data = {"train": TensorDataset(values), "valid": TensorDataset(values)}
    workload = Workload(nn.Linear(1, 1), data, lambda _model, batch: batch[0])
    found = evaluate(Evaluator(workload, data, 3, 0, torch.device("cpu")))["valid"].loss
    assert found.spread == pytest.approx(float(np.std([1.0, 2.0, 4.0, 9.0, 2.5])) * size)
