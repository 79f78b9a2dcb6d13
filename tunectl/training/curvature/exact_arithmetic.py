"""Kernels and precision with which second derivatives exist and are right."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode


@contextlib.contextmanager
def exact_arithmetic(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the block gradients are taken, with second derivatives, in the precision of the weights.

    So without autocast and TF32, and without kernels that have no second derivative: those of
    scaled_dot_product_attention but the one of plain matrix products, and cuDNN's of recurrent networks. Weight
    normalisation is computed by plain operations: the second derivatives of torch's own are wrong (torch 2.13, where
    torch.autograd.gradgradcheck of torch._weight_norm fails), and TorchScript runs as it was written: those of its
    optimized graphs were wrong by half of their size.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
        # The fast path of transformer layers, in evaluation mode without gradients, gives slightly other numbers.
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        _without_tf32(stack, device)
        if device.type == "cuda" and any(isinstance(module, nn.RNNBase) for module in model.modules()):
            _set(stack, torch.backends.cudnn, "enabled", False)
        if any(map(_is_weight_normalised, model.modules())):
            stack.enter_context(_PlainWeightNorm())
        yield


def _without_tf32(stack: contextlib.ExitStack, device: torch.device) -> None:
    """Switch TF32 off by the switches that the program uses: torch refuses to read the others."""
    try:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        stack.callback(torch.set_float32_matmul_precision, before)
    except RuntimeError:
        for part in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):  # type: ignore[attr-defined]
            _set(stack, part, "fp32_precision", "ieee")
    if device.type != "cuda":
        return
    try:
        _set(stack, torch.backends.cudnn, "allow_tf32", False)
    except RuntimeError:
        for part in (torch.backends.cudnn.conv, torch.backends.cudnn.rnn):  # type: ignore[attr-defined]
            _set(stack, part, "fp32_precision", "ieee")


def _set(stack: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def _is_weight_normalised(module: nn.Module) -> bool:
    hooks = module._forward_pre_hooks.values()
    return isinstance(module, _WeightNorm) or any(isinstance(hook, WeightNorm) for hook in hooks)


class _PlainWeightNorm(TorchFunctionMode):
    """v g / |v|, |v| over all axes but one, by operations whose derivatives of every order are right."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))
