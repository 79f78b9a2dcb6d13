"""What is refused before a study begins: models without second derivatives, or with wrong ones that raise no error."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from tunectl.core.curvature_settings import CurvatureMode, CurvatureSettings
from tunectl.core.errors import Infeasible, WorkloadError
from tunectl.core.exception_text import exception_line
from tunectl.training.curvature.derivative_checks import (
    asymmetry,
    disagreement,
    double_precision,
    is_once_differentiable,
    own_backwards,
)
from tunectl.training.curvature.double_backward import gradient_with_graph
from tunectl.training.curvature.hessian_products import HessianProducts
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.measured_loss import Examples, MeasuredLoss, NotMeasured, TooLittleMemory
from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.optimizers import trainable_parameters
from tunectl.workloads.workload import Workload

FULL_PRECISION = (torch.float32, torch.float64)

_ASYMMETRIC = 3e-2
"""In float32; networks have 1e-7 to 1e-5."""

_WRONG = 1e-3
"""A product that is right differs from the difference of gradients by 1e-6 or less of its size in float64."""

TRIED_EXAMPLES = 32
"""The largest number of examples that a workload is tried on."""

_FEW = 8
"""The largest number of examples for the test in float64."""

_SEED = 20211008
_COMPILED = "compiled (torch.compile), and compiled code has no second derivative"
_DETACHED = "is a part of the loss detached, or a gradient changed by a hook?"
_DIGITS = "in which second derivatives have too few digits"


_CURVATURE = "training.curvature: the curvature of this workload cannot be measured"


class _Refusal(Exception):  # noqa: N818  (becomes a WorkloadError)
    """Why second derivatives of a workload cannot be used."""


def refuse_unmeasurable(
    examples: Examples, workload: Workload, mode: CurvatureMode, *, refused: str = _CURVATURE
) -> None:
    """Measure a few examples on trial; afterwards the model and all generators are as before.

    Raises WorkloadError, with `refused` before the reason, where curvature cannot be measured at all, or where it would
    be wrong: weights in half precision or complex ones; compiled code; sparse gradients; an operation without a second
    derivative; and where the derivative of the gradient is another one than the change of the gradient shows, because
    an autograd Function or a part of the loss leaves autograd. Too little memory is no reason: a trial may still find
    room, or says that it did not.
    """
    try:
        _refuse_parts(workload)
        with contextlib.suppress(TooLittleMemory):
            functions, part = _tried(examples, workload, mode)
            _try_in_double(examples.beginning(_FEW), workload, mode, functions=functions, part=part)
    except _Refusal as reason:
        raise WorkloadError(f"{refused}: {reason}") from reason.__cause__


def why_unmeasurable(workload: Workload, settings: CurvatureSettings, device: torch.device) -> str:
    """Why a workload cannot be measured, by a few examples of its train split; "" where it can.

    The reason is that of `refuse_unmeasurable`, or the error that the user's code raises when it is measured.
    """
    examples = MeasuredExamples.of(workload, min(TRIED_EXAMPLES, settings.examples), device)
    try:
        refuse_unmeasurable(examples, workload, settings.mode)
    except WorkloadError as reason:
        return str(reason)
    except Exception as error:  # of the user's code, which trains all the same
        return exception_line(error)
    return ""


def _refuse_parts(workload: Workload) -> None:
    """Refuse what can be seen without a forward."""
    for name, parameter in workload.model.named_parameters():
        if parameter.is_complex() and parameter.requires_grad:
            raise _Refusal(f"the parameter {name} is complex ({parameter.dtype})")
        if parameter.is_floating_point() and parameter.dtype not in FULL_PRECISION:
            raise _Refusal(
                f"the parameter {name} has the type {parameter.dtype}, {_DIGITS}; with weights in float32 and"
                " `precision: bfloat16` it can be measured, in float32"
            )
    for name, module in workload.model.named_modules():
        what = f"the module {name}" if name else "the model"
        if _is_compiled(module):
            raise _Refusal(f"{what} is {_COMPILED}")
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse and module.weight.requires_grad:
            raise _Refusal(f"{what} has sparse gradients ({type(module).__name__} with sparse=True)")
    # torch.compiler.disable() leaves the first attribute, too.
    if hasattr(workload.loss, "_torchdynamo_orig_callable") and not hasattr(workload.loss, "_torchdynamo_disable"):
        raise _Refusal(f"the loss is {_COMPILED}")


def _is_compiled(module: nn.Module) -> bool:
    # By name: to import torch._dynamo would take a second.
    kinds = {(kind.__module__, kind.__name__) for kind in type(module).__mro__}
    compiled = ("torch._dynamo.eval_frame", "OptimizedModule") in kinds
    return compiled or getattr(module, "_compiled_call_impl", None) is not None


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    try:
        yield
    except TooLittleMemory:
        raise
    except NotMeasured as error:
        if isinstance(error.__cause__, Infeasible):
            raise error.__cause__ from None
        raise _Refusal(f"{what}{error}") from error


def _tried(examples: Examples, workload: Workload, mode: CurvatureMode) -> tuple[list[str], float]:
    """What has a backward pass of its own in the loss, and the asymmetry of its products in the model's precision."""
    with measured_model(workload.model, mode, examples.device) as model:
        loss, parameters = MeasuredLoss(workload, examples, model), trainable_parameters(workload.model)
        with _refused("loss(model, batch) failed in the mode in which it is measured: "):
            losses = loss.fitting(lambda: loss.losses(0).values, may_halve=True)
        if losses.dtype not in FULL_PRECISION:
            raise _Refusal(f"the losses have the type {losses.dtype}, {_DIGITS}; is there an autocast in the model?")
        if not losses.requires_grad:
            raise _Refusal("in the mode in which it is measured, the loss has no gradient")
        functions = own_backwards(losses)
        if any("CompiledFunction" in name for name in functions):
            raise _Refusal(f"a part of the loss is {_COMPILED}")
        with _refused("the loss has no second derivative: "):
            if loss.fitting(partial(_is_once_differentiable, losses, parameters), may_halve=False):
                raise _Refusal(f"it uses {_names(functions)}, which is marked with @once_differentiable")
            del losses
            return functions, asymmetry(HessianProducts(loss, parameters), torch.Generator().manual_seed(_SEED))


def _is_once_differentiable(losses: Tensor, parameters: Sequence[nn.Parameter]) -> bool:
    return is_once_differentiable(gradient_with_graph(losses, parameters, len(losses)))


def _try_in_double(
    examples: Examples, workload: Workload, mode: CurvatureMode, *, functions: list[str], part: float
) -> None:
    """Refuse products that are wrong in float64, where a wrong derivative cannot be taken for rounding."""
    generator = torch.Generator().manual_seed(_SEED)
    try:
        with double_precision(workload, mode, examples) as loss:
            parameters = trainable_parameters(workload.model)
            found = [disagreement(loss, parameters, generator) for _ in range(2)]
    except NotMeasured as error:
        if functions:
            raise _Refusal(
                f"it uses {_names(functions)}; whether its second derivatives are right can only be tested in"
                f" float64, and this failed: {error}"
            ) from error
        if part > _ASYMMETRIC:
            raise _Refusal(
                f"its second derivatives are not symmetric (u'Hv and v'Hu differ by {part:.0%} of |Hv|), so what the"
                f" backward pass gives is the gradient of no loss; {_DETACHED}"
            ) from error
        return
    for each in found:
        if each is not None and not math.isfinite(each.product):
            raise _Refusal(f"the gradient is finite, but its derivative along a random direction is {each.product}")
        if each is not None and each.part > _WRONG:
            uses = f"it uses {_names(functions)}, and second" if functions else "second"
            raise _Refusal(
                f"{uses} derivatives are wrong: along a random direction the gradient changes by {each.change:.4g}, the"
                f" derivative of the gradient gives {each.product:.4g}, and the two differ by {each.part:.0%}; "
                + ("does it detach what it saved, or leave autograd?" if functions else _DETACHED)
            )


def _names(functions: Sequence[str]) -> str:
    return f"code with a backward pass of its own ({', '.join(functions)})"
