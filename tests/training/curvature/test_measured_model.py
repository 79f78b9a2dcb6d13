from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from measured_builders import CPU, cross_entropy, measured_workload, points, products_of, tanh_net
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from training_builders import frozen, stochastic_workload

from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.curvature.measured_loss import NotMeasured
from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.optimizers import make_optimizer
from tunectl.training.recomputation import recompute
from tunectl.training.seeds import Purpose, random_state, seed_everything, sequence
from tunectl.workloads.workload import Workload


class Restless(nn.Module):
    """Does in its forward all that a forward can do to a model and to the process."""

    assigned: Tensor
    written: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = spectral_norm(nn.Linear(4, 6))
        self.norm = nn.BatchNorm1d(6)
        self.plain = nn.BatchNorm1d(6, track_running_stats=False)
        self.drop = nn.Dropout(0.5)
        self.table = nn.Embedding(3, 6, max_norm=0.1)  # scales its weights in place when it is used
        self.last = nn.Linear(6, 3)
        self.still = nn.Linear(2, 2).requires_grad_(False)
        self.register_buffer("assigned", torch.zeros(2))
        self.register_buffer("written", torch.zeros(2))
        self.register_buffer("absent", None)
        self.average = torch.zeros(2)
        self.calls, self.seen = 0, [0]
        self.by_call, self.recent = {"calls": 0}, deque([0], maxlen=3)
        self.own = torch.Generator().manual_seed(5)
        self.numpys, self.pythons = np.random.default_rng(1), random.Random(2)
        self.broken = False
        self.norm.eval()
        recompute([self.last])

    def train(self, mode: bool = True) -> Restless:
        raise AssertionError("train() or eval() was called")

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        self.by_call[f"call {self.calls}"] = self.calls
        self.recent.append(self.calls)
        self.assigned = self.assigned + 1
        self.written.add_(1)
        self.average.mul_(0.9).add_(1)
        self.last_inputs = inputs
        self.register_buffer("late", torch.ones(1))
        self.still.requires_grad_(True)
        noise = torch.rand(1, generator=self.own) + self.numpys.normal() + self.pythons.random()
        noise = noise + torch.rand(1) + float(np.random.normal()) + random.random()
        with torch.no_grad():
            self.last.weight.clamp_(-0.2, 0.2)
        hidden = self.drop(self.plain(self.norm(torch.tanh(self.first(inputs)))))
        hidden = hidden + self.table(torch.arange(len(inputs)) % 3) + noise * self.written.mean()
        if self.broken:
            raise KeyError("broken")
        if hidden.requires_grad:
            torch.autograd.backward(hidden.sum(), retain_graph=True)
        return self.last(hidden)


def restless(**attributes: Any) -> Workload:
    model = Restless()
    for name, value in attributes.items():
        setattr(model, name, value)
    model.double()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    model.last.weight.register_hook(lambda gradient: gradient * 10)
    model.first.register_full_backward_hook(lambda module, given, got: pytest.fail("a hook ran"))
    return Workload(model, {"train": points()}, cross_entropy)


def everything(model: Any) -> Any:
    """All that must be as before, as plain values."""
    own = [vars(module) for module in model.modules()]
    return (
        frozen(model.state_dict()),
        [sorted(attributes) for attributes in own],
        [module.training for module in model.modules()],
        [
            (id(p), p.data_ptr(), p.requires_grad, frozen(p.grad), len(p._backward_hooks or ()))
            for p in model.parameters()
        ],
        [(id(b), b.data_ptr()) for b in model.buffers()],
        [len(attributes["_backward_hooks"]) for attributes in own],
        [frozen(model.average), id(model.average), model.calls, list(model.seen), dict(model.by_call), model.recent],
        [frozen(model.own.get_state()), str(model.numpys.bit_generator.state), model.pythons.getstate()],
        frozen(random_state(CPU)),
        [torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()],
        [torch.get_float32_matmul_precision(), torch.backends.mha.get_fastpath_enabled()],
        [torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()],
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_measurement_leaves_everything_bit_for_bit_as_it_was(mode: Any):
    workload = restless()
    torch.manual_seed(3)
    before = everything(workload.model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with products_of(workload, mode=mode) as (products, loss):
            assert products.product(products.gradient).any()
            assert loss.draws_random_numbers
            inside = [loss.mean() for _ in range(2)]
            assert inside[0] == inside[1], "each forward begins in the same state"
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert everything(workload.model) == before


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_so_does_a_measurement_that_raises(error: type[BaseException]):
    workload = restless()
    before = everything(workload.model)
    with pytest.raises(error), products_of(workload):
        raise error
    assert everything(workload.model) == before
    workload.model.broken = True  # type: ignore[assignment]
    with pytest.raises(NotMeasured, match="broken"), products_of(workload):
        pass
    assert everything(workload.model) == before


def test_only_batch_and_instance_normalisation_keep_their_mode_and_only_in_mode_train():
    class OwnNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(3))

    norms = [nn.BatchNorm1d(3), nn.InstanceNorm2d(3), nn.SyncBatchNorm(3), OwnNorm()]
    model = nn.Sequential(*norms, nn.BatchNorm2d(3).eval(), nn.Dropout(), nn.LayerNorm(3), nn.GroupNorm(1, 3))
    with measured_model(model, "train", CPU):
        assert [module.training for module in model] == [True] * 4 + [False] * 4
    with measured_model(model, "eval", CPU):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model] == [True] * 4 + [False] + [True] * 3


def test_products_do_not_depend_on_autocast_hooks_or_gradients_of_the_model():
    workload = measured_workload(tanh_net())
    with products_of(workload) as (products, _):
        expected = products.gradient_product
    model: Any = workload.model
    model[0].weight.register_hook(lambda gradient: gradient * 10)
    model[0].register_full_backward_hook(lambda module, given, got: None)
    model[2].weight.grad = torch.ones_like(model[2].weight)
    with torch.autocast("cpu", torch.bfloat16), products_of(workload) as (products, _):
        assert torch.equal(products.gradient_product, expected)


SWITCHES = [
    ("torch.set_float32_matmul_precision('high')", "torch.get_float32_matmul_precision()", "cuda.matmul"),
    ("torch.backends.cuda.matmul.allow_tf32 = True", "torch.backends.cuda.matmul.allow_tf32", "cuda.matmul"),
    ("torch.backends.cuda.matmul.fp32_precision = 'tf32'", "torch.backends.cuda.matmul.fp32_precision", "cuda.matmul"),
    ("torch.backends.fp32_precision = 'tf32'", "torch.backends.cuda.matmul.fp32_precision", "mkldnn.matmul"),
]
IN_PROCESSES = """
import json, os, sys, traceback
import torch
from torch import nn
from tunectl.training.curvature.measured_model import measured_model
for before, seen, part in json.loads(sys.argv[1]):
    if os.fork() == 0:  # each in a process of its own, of which one has imported torch
        try:
            exec(before)
            was = eval(seen)
            with measured_model(nn.Linear(2, 2), "train", torch.device("cpu")):
                within = eval(f"torch.backends.{part}.fp32_precision")
            print(json.dumps([within, was, eval(seen)]), flush=True)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.wait()
"""


def test_products_are_computed_in_full_float32_and_the_programs_switches_are_put_back():
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this version of torch has one kind of switches")
    command = [sys.executable, "-c", IN_PROCESSES, json.dumps(SWITCHES)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == len(SWITCHES), run.stderr
    for switch, (within, before, after) in zip(SWITCHES, found, strict=True):
        assert within in ("ieee", "none"), switch
        assert before == after, switch


def test_a_buffer_that_is_written_after_it_was_used_does_not_spoil_the_graph():
    class Scaled(nn.Module):
        scale: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(1))
            self.net = tanh_net()

        def forward(self, inputs: Tensor) -> Tensor:
            self.scale = self.scale * 3
            return self.net(inputs) * self.scale

    class InPlace(Scaled):
        def forward(self, inputs: Tensor) -> Tensor:
            self.scale.mul_(3)
            return self.net(inputs) * self.scale

    expected = measured_workload(tanh_net(), lambda model, batch: cross_entropy(lambda x: model(x) * 3, batch))
    with products_of(expected) as (products, _):
        wanted = products.gradient_product
    for kind in (Scaled, InPlace):
        with products_of(measured_workload(kind())) as (products, _):
            assert torch.allclose(products.gradient_product, wanted, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "lamb"])
def test_training_with_measurements_in_between_ends_with_the_same_weights_bit_for_bit(optimizer: Any):
    def trained(*, measured: bool) -> Any:
        seed_everything(sequence(0, Purpose.TRAINING), CPU)
        workload, configuration = stochastic_workload(), TrainingConfiguration(learning_rate=0.01, optimizer=optimizer)
        rule = make_optimizer(workload.model, configuration)
        order = torch.utils.data.default_collate([workload.data["train"][index] for index in range(32)])
        for _ in range(6):
            if measured:
                with products_of(workload) as (products, _):
                    products.product(products.gradient)
            rule.zero_grad()
            workload.loss(workload.model, order).mean().backward()  # with dropout
            rule.step()
        return frozen(workload.model.state_dict()), frozen(rule.state_dict()["state"]), frozen(random_state(CPU))

    assert trained(measured=True) == trained(measured=False)
