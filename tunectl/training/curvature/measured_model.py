"""The state in which a model is measured, and how it is put back afterwards, bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from tunectl.core.curvature_settings import CurvatureMode
from tunectl.training.curvature.exact_arithmetic import exact_arithmetic
from tunectl.training.curvature.module_state import ModuleState, ParameterState
from tunectl.training.model_generators import ModelGenerators, is_same_state
from tunectl.training.seeds import TRAIN_SAMPLE_SEED, Purpose, random_state, randomness, sequence

_SEEDS = sequence(TRAIN_SAMPLE_SEED, Purpose.EVALUATION)
"""For every forward of every measurement of every trial: so the loss is one function of the weights."""


class MeasuredModel:
    """A model in the state in which it is measured; made by `measured_model`.

    `draws_random_numbers` becomes True where a forward drew from a global generator, or from one that a module has.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, generators: ModelGenerators, seeds: np.random.SeedSequence
    ) -> None:
        self._device, self._generators, self._seeds = device, generators, seeds
        self._state = ModuleState(model)
        with randomness(seeds, device):
            self._seeded = random_state(device)
        self.draws_random_numbers = False

    @contextlib.contextmanager
    def forward(self) -> Iterator[None]:
        """The context of each forward: it begins with the same random numbers and buffers as every other one."""
        self._state.lend_copies()
        try:
            with randomness(self._seeds, self._device):
                yield
                if not is_same_state(self._seeded, random_state(self._device)) or self._generators.have_drawn():
                    self.draws_random_numbers = True
        finally:
            self._state.put_back()
            self._generators.put_back()


@contextlib.contextmanager
def measured_model(
    model: nn.Module, mode: CurvatureMode, device: torch.device, seeds: np.random.SeedSequence = _SEEDS
) -> Iterator[MeasuredModel]:
    """Within the block the model is as it is measured; afterwards it and all global state are as before, bit for bit.

    In mode `train` the layers that normalise over the batch keep the mode that they have in training, and all other
    modules are in evaluation mode; in mode `eval` all are. The modes are set without the model's own train() and
    eval(), which may do more than that. The arithmetic is that of `exact_arithmetic`. Each forward has
    these `seeds`.

    Weights, buffers and other attributes of modules, their modes, gradients and hooks, all generators and the global
    switches are put back, also where the block raises.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(randomness(seeds, device))
        stack.enter_context(exact_arithmetic(model, device))
        generators = ModelGenerators(model)
        stack.callback(generators.put_back)
        stack.callback(ModuleState(model).put_back)
        stack.callback(ParameterState(model).put_back)
        for module in model.modules():
            if not (mode == "train" and normalises_over_batch(module)):
                module.training = False
        yield MeasuredModel(model, device, generators, seeds)


def normalises_over_batch(module: nn.Module) -> bool:
    """Whether a module is a batch or instance normalisation, torch's or one with running statistics like them."""
    return isinstance(module, _NormBase) or "running_mean" in module._buffers


def uses_batch_statistics(model: nn.Module) -> bool:
    """Whether a module of this model, in its present mode, normalises examples by those in the same batch."""
    return any(
        (module.training or module._buffers.get("running_mean") is None)
        for module in model.modules()
        if isinstance(module, _BatchNorm) or ("running_mean" in module._buffers and not isinstance(module, _NormBase))
    )
