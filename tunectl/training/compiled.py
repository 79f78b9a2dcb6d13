"""torch.compile for the forward passes of updates; all else (evaluation, curvature, initialisation) stays eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tunectl.core.errors import WorkloadError
from tunectl.core.exception_text import exception_line

BACKEND = "inductor"
"""torch.compile's default. Tests have another one, which needs no compiler of C++."""

MOST_SHAPES = 64
"""Batches of more shapes than this are refused: each is compiled anew."""

_NO_COMPILER = ("InvalidCxxCompiler", "TritonMissing", "no C++ compiler", "Python.h")


def update_loss(model: nn.Module, loss: Callable[[Any, Any], Any], *, compiled: bool) -> Callable[[Any, Any], Any]:
    """The loss of updates: `loss` itself, or, where `compiled`, with the compiled forward of this model in it.

    Only calls of the model itself are compiled (`model(x)`, not `model.encoder(x)`). Its modules, weights and state
    keep their names, and whatever else calls it gets it as it was. Each shape of a batch is compiled for itself, so
    that the numbers do not depend on which shape came first, and a resumed trial has the same. The compiled call raises
    WorkloadError where the model cannot be compiled, and after MOST_SHAPES shapes.
    """
    if not compiled:
        return loss
    forward = _compiled(model)

    def with_compiled(called: Any, batch: Any) -> Any:
        model._compiled_call_impl = forward
        try:
            return loss(called, batch)
        except Exception as error:
            explained = _explained(error)
            if explained is None:
                raise
            raise explained from error
        finally:
            model._compiled_call_impl = None

    return with_compiled


def _compiled(model: nn.Module) -> Callable[..., Any]:
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    # In this process: a pool of compiling processes would outlive a trial that is killed.
    inductor.compile_threads = 1
    # Else the model would silently be eager from some shape on, and a resumed trial from another one.
    dynamo.recompile_limit = MOST_SHAPES
    dynamo.fail_on_recompile_limit_hit = True

    # Not Module.compile: torch does not compile a method of its own classes, such as that of nn.Sequential.
    def call(*args: Any, **kwargs: Any) -> Any:
        return model._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]

    found: Callable[..., Any] = torch.compile(call, dynamic=False, backend=BACKEND)
    return found


def _explained(error: Exception) -> WorkloadError | None:
    """The error of the compiler as a user can act on it; None where it is another one."""
    name, module = type(error).__name__, type(error).__module__
    if not module.startswith(("torch._dynamo", "torch._inductor")):
        return None
    if "RecompileLimit" in name:
        return WorkloadError(
            f"compile: the model is compiled for each shape of a batch, and there are more than {MOST_SHAPES}, or a "
            "number in the model that changes; leave compile out, or pad the batches"
        )
    error = getattr(error, "inner_exception", error)  # of a backend
    text = str(error)
    remedy = "leave compile out"
    if any(word in f"{name} {type(error).__name__} {text}" for word in _NO_COMPILER):
        remedy = "torch.compile needs a C++ compiler on the CPU (g++), and Triton on a GPU; install it, or " + remedy
    return WorkloadError(f"compile: the model cannot be compiled: {exception_line(error)}; {remedy}")


def compiled_graphs() -> int:
    """How many graphs torch has compiled in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
