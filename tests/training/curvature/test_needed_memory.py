from __future__ import annotations

from typing import Any

import pytest
import torch
from measured_builders import CPU, cross_entropy, measured_workload, points
from torch import nn
from torch.utils.data import TensorDataset

from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.measured_loss import MeasuredLoss, NotMeasured
from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.curvature.needed_memory import fit_to_memory
from tunectl.training.optimizers import trainable_parameters

WIDTH, EXAMPLES = 1000, 256
AN_EXAMPLE = 8 * WIDTH
"""Bytes of one layer's activations of an example."""


def fitted(free: int | None, layers: tuple[nn.Module, ...] = ()) -> tuple[int, int]:
    """The examples and the chunks that are chosen where this number of bytes is free."""
    torch.manual_seed(0)
    data = TensorDataset(*(tensor.repeat(11, *[1] * (tensor.ndim - 1)) for tensor in points().tensors))
    workload = measured_workload(nn.Sequential(nn.Linear(4, WIDTH), *layers, nn.Tanh(), nn.Linear(WIDTH, 3)), data=data)
    examples = MeasuredExamples(workload.data["train"], EXAMPLES, CPU)
    with measured_model(workload.model, "train", CPU) as model:
        fit_to_memory(MeasuredLoss(workload, examples, model), trainable_parameters(workload.model), free)
    return examples.count, examples.chunks


def test_the_chunks_become_smaller_as_less_memory_is_free():
    needed = EXAMPLES * AN_EXAMPLE
    assert fitted(1000 * needed) == (EXAMPLES, 1)
    found = [fitted(needed // part)[1] for part in (1, 2, 4, 8)]
    assert found == sorted(found)
    assert found[0] > 1
    assert 4 <= found[3] / found[0] <= 16
    # What a product takes at its peak, a small multiple of the activations, is in the half of the memory that it may.
    assert found[0] <= 64


def test_with_batch_normalisation_examples_are_halved():
    count, chunks = fitted(EXAMPLES * AN_EXAMPLE, (nn.BatchNorm1d(WIDTH),))
    assert chunks == 1
    assert 2 <= count < EXAMPLES


def test_where_no_example_fits_this_is_said():
    with pytest.raises(NotMeasured, match="the memory is too small even for 2 examples"):
        fitted(AN_EXAMPLE // 2, (nn.BatchNorm1d(WIDTH),))
    with pytest.raises(NotMeasured, match="the memory is too small even for one example at a time"):
        fitted(AN_EXAMPLE // 2)


def test_it_is_done_once_for_a_set_of_examples():
    workload = measured_workload(nn.Linear(4, 3))
    examples = MeasuredExamples(workload.data["train"], 24, CPU)
    calls = []

    def counting(model: Any, batch: Any) -> torch.Tensor:
        calls.append(len(batch[0]))
        return cross_entropy(model, batch)

    counted = measured_workload(workload.model, counting)
    with measured_model(workload.model, "train", CPU) as model:
        for _ in range(3):
            fit_to_memory(MeasuredLoss(counted, examples, model), trainable_parameters(workload.model), 10**9)
    assert calls == [4, 8]
