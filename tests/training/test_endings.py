"""The end of a trial: its last checkpoint, and metrics that are too large. Tests trial.py and evaluation_step.py."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_builders import StopAt, comparable, cross_entropy, make_request, plain_workload, train_trial
from trial_records import ended, lines_in

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.workloads.workload import Workload


def with_perplexity() -> Workload:
    """The loss is scaled, so that its exponential is soon too large for a float."""
    plain = plain_workload()
    return replace(
        plain,
        loss=lambda model, batch: 200 * cross_entropy(model, batch),
        finalize=lambda means: {"perplexity": math.exp(means["loss"])},
        baseline_loss=None,
    )


def test_a_trial_that_counts_by_its_end_keeps_the_checkpoint_of_its_last_step(folder: TrialFolder):
    request = make_request(objective=Objective("valid/loss", "maximize", "final"), keep_checkpoints=1)
    train_trial(request, folder)
    lines = lines_in(folder.measurements)
    assert lines[-1]["metrics"]["valid/loss"] < lines[1]["metrics"]["valid/loss"]
    assert lines[-1]["checkpoint"] == "step-00000030.pt"
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000030.pt"]
    assert torch.load(folder.checkpoint(30), weights_only=True)["step"] == 30


def test_an_exception_keeps_the_one_in_whose_handling_it_was_raised(folder: TrialFolder) -> None:
    def loss(model: nn.Module, batch: Any) -> Any:
        try:
            return dict[str, Any]()["weights"]
        except KeyError:
            raise ValueError("no weights")  # noqa: B904  (the case)

    with pytest.raises(ValueError, match="no weights") as caught:
        train_trial(make_request(), folder, lambda: replace(plain_workload(), loss=loss))
    assert isinstance(caught.value.__context__, KeyError)
    assert not caught.value.__suppress_context__


def test_a_perplexity_too_large_is_recorded_as_nan_and_a_resumed_trial_knows_its_name(
    folder: TrialFolder, tmp_path: Path
):
    request = make_request(optimizer="sgd", learning_rate=3.0, objective=Objective("valid/perplexity", "minimize"))
    train_trial(request, folder, with_perplexity)
    found = [float(line["metrics"]["valid/perplexity"]) for line in lines_in(folder.measurements)]
    assert math.isfinite(found[0])
    assert any(map(math.isnan, found[1:]))
    other = TrialFolder(tmp_path / "other")
    other.path.mkdir()
    for update in (10, 10, 10):
        train_trial(request, other, with_perplexity, stop=StopAt(update))
    train_trial(request, other, with_perplexity)
    assert str(comparable(other)["measurements"]) == str(comparable(folder)["measurements"])


def test_a_loss_that_training_mode_has_from_the_start_is_not_a_divergence(folder: TrialFolder) -> None:
    # Without statistics, evaluation mode has outputs near 0 and a loss near the constant prediction's; batch
    # normalisation in training mode has outputs of size 1 at once.
    def normalised(scale: float) -> Workload:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 3, bias=False))
        with torch.no_grad():
            model.get_parameter("0.weight").mul_(scale)
        return replace(plain_workload(), model=model, loss=squares, baseline_loss=None)

    def squares(model: nn.Module, batch: Any) -> Tensor:
        losses: Tensor = (model(batch[0]).mul(20).sub(nn.functional.one_hot(batch[1], 3))).square().sum(dim=1)
        return losses

    slow = make_request(optimizer="sgd", learning_rate=1e-5, batch_size=32, max_train_steps=20, no_progress=False)
    result = ended(train_trial(slow, folder, lambda: normalised(0.003)))
    lines = lines_in(folder.measurements)
    # In training mode the losses are far above that of evaluation mode at the start, and fall.
    assert lines[-1]["metrics"]["train/minibatch_loss"] > 5 * lines[0]["metrics"]["train/loss"]
    assert result.message == ""
    fast = TrialFolder(folder.path.with_name("fast"))
    fast.path.mkdir()
    rising = replace(slow, configuration={**slow.configuration, "learning_rate": 0.3})
    assert ended(train_trial(rising, fast, lambda: normalised(0.003))).reason in ("diverged", "nan_loss")
