from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from narrowing import present
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch_parts import gradient_of
from training_builders import Augmented, comparable, cross_entropy, error_rate, labelled, make_request, train_trial

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.training.probe import probe
from tunectl.training.recomputation import recompute
from tunectl.workloads import digits
from tunectl.workloads.workload import Workload


def block(features: int) -> nn.Sequential:
    return nn.Sequential(spectral_norm(nn.Linear(features, 12)), nn.BatchNorm1d(12), nn.GELU(), nn.Dropout(0.4))


def blocks_workload(blocks: Any = None) -> Workload:
    """Blocks with all that a second run could change: dropout, batch statistics, a power iteration."""
    model = nn.Sequential(block(6), block(12), nn.Dropout(0.2), nn.Linear(12, 3))
    data = {"train": Augmented(labelled(50)), "valid": Augmented(labelled(20, seed=1))}
    chosen = (model[0], model[1]) if blocks is None else blocks
    return Workload(model, data, cross_entropy, error_rate, baseline_loss=1.0986, blocks=chosen)


def shared_workload() -> Workload:
    """One block that is run twice in every update: it is recomputed in the opposite order."""
    workload, shared = blocks_workload(), block(12)
    model = nn.Sequential(nn.Linear(6, 12), shared, shared, nn.Linear(12, 3))
    return replace(workload, model=model, blocks=[shared])


@pytest.mark.parametrize(
    ("factory", "changes"),
    [
        (blocks_workload, {}),
        (blocks_workload, {"accumulate_steps": 3}),
        (blocks_workload, {"precision": "bfloat16"}),
        (shared_workload, {}),
    ],
)
def test_results_with_recomputed_blocks_are_the_same_bit_for_bit(folder: TrialFolder, tmp_path, factory, changes):
    plain = TrialFolder(tmp_path / "plain")
    plain.path.mkdir()
    train_trial(make_request(optimizer="adam", **changes), plain, factory)
    request = make_request(optimizer="adam", activation_checkpointing="blocks", **changes)
    train_trial(request, folder, factory)
    assert comparable(folder) == comparable(plain)


def test_the_blocks_forget_what_they_computed_and_run_twice_only_where_a_gradient_is_taken():
    runs = {True: 0, False: 0}

    class Counting(nn.Module):
        def forward(self, values):
            runs[torch.is_grad_enabled()] += 1
            return torch.exp(torch.sin(torch.sin(values)))

    counting, inputs = Counting(), torch.ones(3, requires_grad=True)
    kept: list[int] = []
    recompute([counting, counting])

    def keep(saved: torch.Tensor) -> torch.Tensor:
        kept.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        result = counting(inputs).sum()
    assert (runs, kept) == ({True: 1, False: 0}, [3]), "the input alone"
    result.backward()
    assert runs == {True: 2, False: 0}
    expected = torch.autograd.grad(torch.exp(torch.sin(torch.sin(inputs))).sum(), inputs)[0]
    assert torch.equal(gradient_of(inputs), expected)
    with torch.no_grad():
        counting(inputs)
    assert runs == {True: 2, False: 1}


def test_a_loss_that_takes_gradients_of_gradients_has_the_same_gradient_with_recomputed_blocks():
    def gradient(workload: Workload, *, again: bool) -> list[torch.Tensor]:
        if again:
            recompute(workload.blocks)
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
        torch.manual_seed(0)
        (slope,) = torch.autograd.grad(workload.model(inputs).square().sum(), inputs, create_graph=True)
        slope.square().sum().backward()
        return [present(parameter.grad) for parameter in workload.model.parameters()]

    torch.manual_seed(3)
    plain = blocks_workload()
    torch.manual_seed(3)
    recomputed = blocks_workload()
    for one, other in zip(gradient(plain, again=False), gradient(recomputed, again=True), strict=True):
        assert torch.equal(one, other)
    buffers = zip(plain.model.buffers(), recomputed.model.buffers(), strict=True)
    assert all(torch.equal(one, other) for one, other in buffers)


def test_a_workload_without_blocks_is_refused_with_a_message():
    request = make_request(activation_checkpointing="blocks")
    with pytest.raises(WorkloadError, match=r"activation_checkpointing is blocks, but the workload m:f has none"):
        probe(request, lambda: blocks_workload(()), device="cpu")
    assert probe(request, blocks_workload, device="cpu").checkpoint_bytes > 0


@pytest.mark.parametrize("blocks", [5, [nn.Linear(2, 2)], ["0"]])
def test_blocks_that_are_no_modules_of_the_model_are_refused(blocks):
    with pytest.raises(WorkloadError, match="blocks"):
        probe(make_request(), lambda: blocks_workload(blocks), device="cpu")


@pytest.mark.parametrize(("factory", "layers"), [(digits.mlp, 3), (digits.cnn, 2)])
def test_the_built_in_networks_name_their_hidden_layers(factory, layers):
    workload = factory(num_layers=layers)
    assert len(workload.blocks) == layers
    assert all(len(found) >= 2 for found in workload.blocks)
