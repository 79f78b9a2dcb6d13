"""Whether the products of a Hessian are right: symmetric, and the derivative of the gradient."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from tunectl.core.curvature_settings import CurvatureMode
from tunectl.training.batch_values import in_double
from tunectl.training.curvature.double_backward import Gradients, flat_vector, gradient_with_graph
from tunectl.training.curvature.hessian_products import HessianProducts
from tunectl.training.curvature.measured_loss import Examples, MeasuredLoss, checked_weight
from tunectl.training.curvature.measured_model import measured_model
from tunectl.workloads.workload import Workload

_STEPS = (1e-6, 1e-7, 1e-8, 1e-9)
"""As parts of the size of the weights. The small ones are for large ReLU networks, in which a larger step switches some
unit on or off.
"""

_OFFSET = 1e-3
"""As a part of the size of the weights: at their start, many units of a ReLU network may be at 0 (zero biases, and
black borders), where it has no derivative.
"""

_NOTHING = 1e-9
"""A change of the gradient below this part of it, for a step as large as the weights, is rounding in float64."""


def own_backwards(losses: Tensor) -> list[str]:
    """The names of the autograd Functions in the graph of these losses that are not torch's own: those written in
    Python or in an extension.
    """
    users = [node for node in _nodes([losses]) if isinstance(node, BackwardCFunction) or "CppNode" in node.name()]
    return list(dict.fromkeys(node.name().removesuffix("Backward") for node in users))


def is_once_differentiable(grads: Gradients) -> bool:
    """Whether the graph of a gradient has a Function that is marked with @once_differentiable.

    Torch raises its error only in a backward pass to all leaves; the derivative for some is silently without the part.
    """
    return any(node.name().endswith("autograd::Error") for node in _nodes(grads))


def _nodes(tensors: Gradients) -> Iterator[Any]:
    """Every node in the graphs of these tensors."""
    seen: set[Any] = set()
    todo: list[Any] = [tensor.grad_fn for tensor in tensors if tensor is not None]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            todo += [following for following, _ in node.next_functions]


def asymmetry(products: HessianProducts, generator: torch.Generator) -> float:
    """|u'Hv - v'Hu| / |Hv| for a random v and u = Hv / |Hv|: 0 for a Hessian, up to rounding; 2 where H = -H'."""
    vector = random_vector(products.gradient, generator)
    image = products.product(vector)
    length = torch.linalg.vector_norm(image)
    if not bool(length > 0) or not bool(torch.isfinite(length)):
        return 0.0
    return float((length - vector @ products.product(image / length)).abs() / length)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The change of the gradient along a random vector as long as the weights, and the product with it, as norms;
    `part`: the norm of their difference over the larger one, infinite where the product is not finite.
    """

    change: float
    product: float
    part: float


def disagreement(
    loss: MeasuredLoss, parameters: Sequence[nn.Parameter], generator: torch.Generator
) -> Disagreement | None:
    """How far a product is from the central difference of gradients, near the present weights, at the step where both
    agree best.

    To be called in double precision: in single precision the difference has no right digit on ReLU networks. None
    where neither is more than rounding, and where the gradients are not finite. The parameters are changed; the
    measured state restores them.
    """
    weights = [parameter.detach().clone() for parameter in parameters]
    flat = torch.cat([weight.reshape(-1) for weight in weights])
    size = _norm(flat) or 1.0
    offset = random_vector(flat, generator) * size * _OFFSET
    _move(parameters, weights, offset)
    products = HessianProducts(loss, parameters)
    vector = random_vector(flat, generator) * size
    product = products.product(vector)
    nothing = _NOTHING * _norm(products.gradient)
    best: Disagreement | None = None
    for step in _STEPS:
        ahead, behind = (_gradient_at(loss, parameters, weights, offset + vector * signed) for signed in (step, -step))
        change = (ahead - behind) / (2 * step)
        norms = _norm(change), _norm(product)
        if not math.isfinite(norms[0]) or max(norms) <= nothing:
            return None
        apart = _norm(change - product) / max(norms) if math.isfinite(norms[1]) else math.inf
        if best is None or apart < best.part:
            best = Disagreement(*norms, apart)
    return best


def _gradient_at(
    loss: MeasuredLoss, parameters: Sequence[nn.Parameter], weights: Sequence[Tensor], shift: Tensor
) -> Tensor:
    _move(parameters, weights, shift)

    def gradient() -> Gradients:
        losses = loss.losses(0)
        return gradient_with_graph(losses.values, parameters, checked_weight(losses.weight))

    return flat_vector(loss.fitting(gradient, may_halve=False), parameters)


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector))


def _move(parameters: Sequence[nn.Parameter], weights: Sequence[Tensor], shift: Tensor) -> None:
    parts = torch.split(shift, [weight.numel() for weight in weights])
    with torch.no_grad():
        for parameter, weight, part in zip(parameters, weights, parts, strict=True):
            parameter.copy_(weight + part.view(weight.shape))


def random_vector(like: Tensor, generator: torch.Generator) -> Tensor:
    """A random direction of length 1, on the device of `like`, shape [n]."""
    vector = torch.randn(like.shape, dtype=torch.float64, generator=generator).to(like.device)
    vector /= torch.linalg.vector_norm(vector)
    return vector


class _WidenedConstants(TorchFunctionMode):
    """Lets code that has constants in float32, and casts to it, compute in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        return func(*tree_map(_widened, args), **tree_map(_widened, kwargs or {}))


def _widened(value: Any) -> Any:
    if value is torch.float32:
        return torch.float64
    return value.double() if isinstance(value, Tensor) and value.dtype is torch.float32 else value


@contextlib.contextmanager
def double_precision(workload: Workload, mode: CurvatureMode, examples: Examples) -> Iterator[MeasuredLoss]:
    """The measured loss with weights, buffers and inputs in float64; afterwards the model is as before."""
    default = torch.get_default_dtype()
    with measured_model(workload.model, mode, examples.device):
        try:
            torch.set_default_dtype(torch.float64)
            workload.model.double()

            def loss(model: nn.Module, batch: Any) -> Any:
                with _WidenedConstants():
                    return workload.loss(model, in_double(batch))

            doubled = replace(workload, loss=loss)
            with measured_model(workload.model, mode, examples.device) as model:
                yield MeasuredLoss(doubled, examples, model)
        finally:
            torch.set_default_dtype(default)
