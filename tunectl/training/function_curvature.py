"""Curvature that the user's function measures by `trial.curvature(model, loss, batch)`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import WorkloadError
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.measurements import Measurement
from tunectl.training.batch_values import copied
from tunectl.training.curvature.curvature_meter import CurvatureMeter
from tunectl.training.curvature.given_batch import GivenBatch
from tunectl.training.curvature.measured_loss import NotMeasured
from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.curvature.refusals import refuse_unmeasurable
from tunectl.training.example_losses import example_losses
from tunectl.training.optimizers import trainable_parameters
from tunectl.training.probe import SMALL_BATCH
from tunectl.workloads.workload import Workload


@dataclass(frozen=True, slots=True)
class Measured:
    """The values at a step by name, and whether this call measured them."""

    values: Mapping[str, float]
    is_new: bool


class FunctionCurvature:
    """The measurements of one function, at most one a step; `earlier` are those of an earlier attempt."""

    def __init__(self, settings: CurvatureSettings | None, seed: int, earlier: Iterable[Measurement] = ()) -> None:
        self._settings, self._seed = settings or CurvatureSettings(), seed
        prefix = CURVATURE.column("")
        self._measured: dict[int, Mapping[str, float]] = {
            item.step: {name.removeprefix(prefix): value for name, value in item.metrics.items()} for item in earlier
        }
        self._searches: dict[str, Any] | None = None
        self._checked: tuple[nn.Module, Callable[..., Any]] | None = None
        self._norms_at_record: str | None = None

    def note_record(self) -> None:
        """Note the weights with which metrics were recorded: those of the model that was measured last."""
        if self._checked is not None:
            self._norms_at_record = _norms(self._checked[0])

    def check_step(self, model: nn.Module, step: int) -> None:
        """Raise WorkloadError where the weights have changed since `step`, the last one that was recorded."""
        known = self._checked is not None and self._checked[0] is model
        if known and self._norms_at_record is not None and self._norms_at_record != _norms(model):
            raise WorkloadError(
                f"trial.curvature(model, loss, batch): the weights have changed since step {step}, the last one that"
                " was recorded; call it after trial.record, or give step="
            )

    def measured(self, step: int, model: nn.Module, loss: Callable[..., Tensor], batch: Any) -> Measured:
        """The curvature at a step: measured where the settings say so, or at every step where they do not.

        Raises WorkloadError where the curvature of this model cannot be measured, with the reason.
        """
        if step in self._measured:
            return Measured(self._measured[step], is_new=False)
        settings = self._settings
        if (settings.every is not None or settings.at) and not settings.is_at(step):
            return Measured({}, is_new=False)
        began = time.monotonic()
        try:
            found = self._measure(step, model, loss, batch)
        except NotMeasured as reason:
            sys.stderr.write(f"tunectl: curvature was not measured at step {step}: {reason}\n")
            found = {}
        self._measured[step] = found | {"seconds": time.monotonic() - began}
        return Measured(self._measured[step], is_new=True)

    def _measure(self, step: int, model: nn.Module, loss: Callable[..., Tensor], batch: Any) -> dict[str, float]:
        if not isinstance(model, nn.Module):
            raise WorkloadError(f"trial.curvature(model, loss, batch): expected a torch.nn.Module, got {model!r}")
        workload = Workload(model=model, data={}, loss=lambda model, batch: _flat(loss(model, batch)))
        device = trainable_parameters(model)[0].device
        examples = GivenBatch(batch, _examples(workload, batch, self._settings, device), device)
        if self._checked != (model, loss):
            refuse_unmeasurable(examples.beginning(SMALL_BATCH), workload, self._settings.mode)
            self._checked = (model, loss)
            self.note_record()
        meter = CurvatureMeter(self._settings, workload, examples, device=device, seed=self._seed)
        if self._searches is not None:
            meter.searches.load_state(self._searches)
        found = meter.measure(step)
        self._searches = meter.searches.state()
        if "examples" in found and examples.length is not None:
            found["examples"] = float(examples.length)
        elif examples.count == 1:  # one value for a batch of unknown length may be its mean
            found.pop("examples", None)
        return found


def _norms(model: nn.Module) -> str:
    """The norms of the weights as text, in which NaN equals NaN."""
    return str([float(torch.linalg.vector_norm(parameter.detach())) for parameter in trainable_parameters(model)])


def _flat(given: Any) -> Tensor | tuple[Tensor, Tensor]:
    """What the user's loss gave: one value for each example, also where it is a mean; or values with weights."""
    losses = example_losses(given.reshape(-1) if isinstance(given, Tensor) else given)
    return losses.values if losses.weights is None else (losses.values, losses.weights)


def _examples(workload: Workload, batch: Any, settings: CurvatureSettings, device: torch.device) -> int:
    """The number of values that the loss gives for the batch: one for each example, or 1, their mean."""
    with measured_model(workload.model, settings.mode, device) as model, model.forward(), torch.no_grad():
        losses = example_losses(workload.loss(workload.model, copied(batch))).values
    if not len(losses):
        raise WorkloadError("trial.curvature(model, loss, batch): the loss gave no value; is the batch empty?")
    return len(losses)
