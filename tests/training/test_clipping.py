"""Adaptive clipping and clipping of the update against their formulas in NumPy. Tests clipping.py."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_builders import StopAt, comparable, make_request, plain_workload, train_trial

from tunectl.core.folders import TrialFolder
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.optimizers import make_optimizer


def with_gradients(scale: float = 1.0) -> Any:
    """A convolution, a layer, and the output layer, with gradients of very different sizes."""
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(3, 4), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[2].weight[1] = 0.0
    sizes = torch.logspace(-3, 1, 4, dtype=torch.float64)
    for parameter in model.parameters():
        rows = sizes[: len(parameter)].view(-1, *[1] * (parameter.ndim - 1))
        parameter.grad = scale * rows * torch.randn_like(parameter)
    return model


def agc_oracle(weight: Tensor, gradient: Tensor, factor: float) -> np.ndarray:
    """The rule of Brock et al., row by row; a vector is one unit."""
    w, g = weight.detach().numpy().copy(), gradient.numpy().copy()
    units = [(w, g)] if w.ndim == 1 else zip(w, g, strict=True)
    for own, its in units:
        norm, most = np.sqrt((its**2).sum()), factor * max(np.sqrt((own**2).sum()), 1e-3)
        if norm > most:
            its *= most / norm
    return np.asarray(g)


def test_adaptive_clipping_is_that_of_its_authors_and_spares_the_output_layer():
    model = with_gradients()
    before = [(p.detach().clone(), p.grad.clone()) for p in model.parameters() if p.grad is not None]
    make_optimizer(model, TrainingConfiguration("sgd", 0.5, grad_clip="adaptive", adaptive_clip_factor=0.2)).step()
    clipped = 0
    for place, ((weight, gradient), parameter) in enumerate(zip(before, model.parameters(), strict=True)):
        expected = gradient.numpy() if place >= 4 else agc_oracle(weight, gradient, 0.2)
        assert ((weight - parameter.detach()) / 0.5).numpy() == pytest.approx(expected, abs=1e-12)
        clipped += int(np.any(expected != gradient.numpy()))
    assert clipped == 4
    zeros = (before[2][0][1] - model[2].weight[1].detach()).norm() / 0.5
    assert float(zeros) == pytest.approx(0.2 * 1e-3), "a unit of zeros can move"


def test_an_l2_term_is_added_after_adaptive_clipping_and_sparse_gradients_are_refused():
    model: Any = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1)).double()
    weight = model[0].weight.detach().clone()
    model[0].weight.grad = torch.zeros(2, 2, dtype=torch.float64)
    fields: dict[str, Any] = {"grad_clip": "adaptive", "adaptive_clip_factor": 1e-6}
    make_optimizer(model, TrainingConfiguration("sgd", 0.1, weight_decay=1.0, **fields)).step()
    torch.testing.assert_close(model[0].weight.detach(), 0.9 * weight)
    table = nn.Sequential(nn.Embedding(3, 2, sparse=True), nn.Linear(2, 1))
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="grad_clip: adaptive does not support sparse gradients"):
        make_optimizer(table, TrainingConfiguration("sgd", 0.1, **fields)).step()


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "adamw", "lion", "muon", "lamb"])
def test_an_update_is_scaled_to_its_largest_root_mean_square_and_a_decoupled_decay_is_not_clipped(optimizer: Any):
    """The oracle: the optimizer's own step U, without decay where that is decoupled, over max(1, RMS(U) / d)."""
    base, decay, most = 0.05, 0.3, 0.1
    fields: dict[str, Any] = {"weight_decay": decay, "adamw_learning_rate": 0.004}
    clipped, plain = with_gradients(), with_gradients()
    before = [parameter.detach().clone() for parameter in plain.parameters()]
    first = make_optimizer(
        clipped, TrainingConfiguration(optimizer, base, grad_clip="update", update_clip_rms=most, **fields)
    )
    first.step()
    make_optimizer(plain, TrainingConfiguration(optimizer, base, **fields)).step()
    scaled = 0
    for place, (start, unclipped, found) in enumerate(
        zip(before, plain.parameters(), clipped.parameters(), strict=True)
    ):
        rate = base if optimizer != "muon" or place in (0, 2) else 0.004  # matrices have muon's rate, others adamw's
        kept = 1 - rate * decay if optimizer in ("adamw", "lion", "muon") else 1.0
        update = (kept * start - unclipped.detach()) / rate
        size = max(1.0, float(update.square().mean().sqrt()) / most)
        scaled += size > 1
        torch.testing.assert_close(found.detach(), kept * start - rate * update / size, rtol=1e-6, atol=1e-9)
        if size == 1:
            assert torch.equal(found, unclipped), "bit for bit"
    assert scaled


@pytest.mark.parametrize("clip", ["adaptive", "update"])
def test_clipping_keeps_a_gradient_that_is_not_finite_visible_and_rate_zero_still(clip: Any):
    model = with_gradients()
    optimizer = make_optimizer(model, TrainingConfiguration("sgd", 0.1, grad_clip=clip))
    before = copy.deepcopy(model.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for bad in (float("nan"), float("inf")):
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        model.load_state_dict(before)
        model[0].weight.grad[0, 0, 0] = bad
        optimizer.step()
        assert not torch.isfinite(model[0].weight).all()


@pytest.mark.parametrize(
    ("clip", "field", "precision"),
    [("adaptive", "adaptive_clip_factor", "float32"), ("update", "update_clip_rms", "float16")],
)
def test_a_trial_is_clipped_by_its_field_and_goes_on_bit_for_bit(tmp_path: Path, clip: str, field: str, precision: str):
    def trained(name: str, *, stops: bool = False, **changes: Any) -> Any:
        folder = TrialFolder(tmp_path / name)
        folder.path.mkdir()
        request = make_request(precision=precision, weight_decay=0.01, max_train_steps=12, **changes)
        if stops:
            assert train_trial(request, folder, plain_workload, stop=StopAt(5)) is None
        assert train_trial(request, folder, plain_workload) is not None
        return comparable(folder)

    tight: dict[str, Any] = {"grad_clip": clip, field: 1e-3}
    whole, without = trained("whole", **tight), trained("without")
    assert whole == trained("stopped", stops=True, **tight)
    loose: dict[str, Any] = {**tight, field: 1e9}
    assert trained("loose", **loose) == without != whole
