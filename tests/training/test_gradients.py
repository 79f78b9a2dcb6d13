from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch_parts import gradient_of
from training_builders import StopAt, comparable, make_request, train_trial
from trial_records import lines_in

from tunectl.core.folders import TrialFolder
from tunectl.training.gradients import UpdateRatio, clip, gradients, tensor_norms, total_norm


def parameters(scale: float) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    found = [nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(2))]
    for parameter in found[:2]:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * scale
    return found


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_norm_and_clipping_agree_with_torch_and_parameters_without_gradient_are_skipped(scale: float):
    ours, theirs = parameters(scale), parameters(scale)
    oracle = nn.utils.clip_grad_norm_(theirs, 2.5)
    grads = gradients(ours)
    norm = total_norm(tensor_norms(grads))
    clip(grads, norm, 2.5)
    assert len(grads) == 2
    assert norm.item() == pytest.approx(oracle.item(), rel=1e-6)
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(gradient_of(one), gradient_of(other), rtol=1e-6, atol=0)


def test_gradients_below_the_limit_stay_bit_for_bit():
    ours = parameters(0.01)
    before = [grad.clone() for grad in gradients(ours)]
    clip(gradients(ours), total_norm(tensor_norms(gradients(ours))), 10.0)
    assert all(torch.equal(one, other) for one, other in zip(gradients(ours), before, strict=True))


def test_no_gradient_at_all_is_no_error():
    assert list(tensor_norms([])) == []
    clip([], torch.zeros(()), 1.0)


def test_a_sparse_gradient_counts_the_sum_of_a_row_that_it_names_twice():
    embedding = nn.Embedding(4, 3, sparse=True)
    (embedding(torch.tensor([2, 2, 0])) * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
    sparse = gradient_of(embedding.weight)
    assert total_norm(tensor_norms([sparse])).item() == pytest.approx(sparse.to_dense().norm().item(), rel=1e-6)


def test_norms_of_different_precision_are_joined():
    single = tensor_norms([torch.full((4,), 3.0)])
    double = tensor_norms([torch.full((4,), 4.0, dtype=torch.float64)])
    assert total_norm([*single, *double]).item() == pytest.approx(10.0)


def test_the_update_ratio_is_that_of_all_weights_of_two_or_more_axes_together():
    generator = np.random.Generator(np.random.PCG64(0))
    arrays = [generator.normal(size=shape) for shape in ((3, 4), (5,), (2, 3, 2), ())]
    changes = [0.01 * generator.normal(size=array.shape) for array in arrays]
    weights = [nn.Parameter(torch.from_numpy(np.array(array))) for array in arrays]
    ratio = UpdateRatio(weights)
    ratio.begin()
    with torch.no_grad():
        for weight, change in zip(weights, changes, strict=True):
            weight.add_(torch.from_numpy(np.array(change)))
    norms = ratio.end()
    assert norms is not None
    expected = [np.sqrt(sum((found[place] ** 2).sum() for place in (0, 2))) for found in (changes, arrays)]
    assert norms.tolist() == pytest.approx(expected, rel=1e-12)
    vectors = UpdateRatio([weights[1]])
    vectors.begin()
    assert vectors.end() is None


@pytest.mark.parametrize("stop", [50, 51])
def test_a_trial_writes_the_ratio_every_fifty_updates_also_when_it_was_stopped(folder, tmp_path, stop):
    whole = TrialFolder(tmp_path / "whole")
    whole.path.mkdir()
    request = make_request(max_train_steps=103, eval_every=60, optimizer="sgd", learning_rate=1e-3)
    train_trial(request, whole)
    assert train_trial(request, folder, stop=StopAt(stop), save_every_seconds=1e9) is None
    train_trial(request, folder)
    assert comparable(folder) == comparable(whole)
    lines = lines_in(whole.steps)
    assert [line["update_ratio_steps"] for line in lines] == [[0, 50], [100]]
    assert all(0 < ratio < 1 for line in lines for ratio in line["update_ratio"])
