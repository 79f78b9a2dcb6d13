"""The losses of the batches of one iteration, as functions of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.training.batch_values import copied
from tunectl.training.curvature.double_backward import Gradients, gradient_with_graph
from tunectl.training.curvature.measured_loss import chunk_losses
from tunectl.training.curvature.measured_model import MeasuredModel
from tunectl.workloads.workload import Workload


class BatchLosses:
    """The mean losses of some batches, each with its number of examples; to be used in the model's measured state."""

    def __init__(self, workload: Workload, model: MeasuredModel, batches: Sequence[tuple[Any, int]]) -> None:
        self._workload, self._model, self._batches = workload, model, batches

    def gradient(self, number: int, parameters: Sequence[nn.Parameter]) -> tuple[float, Gradients]:
        """The mean loss of a batch, by weight, and its gradient with its graph; None where a parameter has none."""
        batch, examples = self._batches[number]
        # A copy: a loss may write into its batch.
        products, weight = chunk_losses(self._workload, self._model, copied(batch), examples)
        if weight == 0:
            raise WorkloadError("loss(model, batch): no value of a batch has a weight")
        grads = gradient_with_graph(products, parameters, weight)
        if any(grad is not None and grad.layout is not torch.strided for grad in grads):
            raise WorkloadError("a gradient is sparse (nn.Embedding(sparse=True)?)")
        return float(products.detach().to(torch.float64).sum()) / weight, grads


def along(parts: Gradients, tensors: Sequence[Tensor]) -> list[float]:
    """The product of each part with its tensor, summed in float64; 0 for None."""
    sums = [
        tensor.new_zeros((), dtype=torch.float64)
        if part is None
        else (part.detach().to(torch.float64) * tensor.detach()).sum()
        for part, tensor in zip(parts, tensors, strict=True)
    ]
    found: list[float] = torch.stack(sums).tolist() if sums else []
    return found


def norms_of(tensors: Sequence[Tensor]) -> list[float]:
    """The Euclidean norm of each tensor, in float64."""
    norms = [torch.linalg.vector_norm(tensor.detach().to(torch.float64)) for tensor in tensors]
    found: list[float] = torch.stack(norms).tolist() if norms else []
    return found
