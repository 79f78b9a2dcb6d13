"""What a study should know that trains each trial on several devices: where that is not the same as one device."""

from __future__ import annotations

import contextlib

import torch

from tunectl.core.records import TrialRequest
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.measured_loss import MeasuredLoss
from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.synchronised_batch_norm import batch_norm_layers
from tunectl.workloads.workload import Workload

_EXAMPLES = 8


def device_notes(workload: Workload, request: TrialRequest, device: torch.device) -> tuple[str, ...]:
    """Lines about a workload whose trials have several devices, none where they have one.

    The model is as before afterwards.
    """
    if request.devices == 1:
        return ()
    notes = []
    if not request.sync_batch_norm and any(layer.training for layer in batch_norm_layers(workload.model).values()):
        notes.append(
            f"batch normalisation in training is over the share of a batch that each of the {request.devices} devices"
            " has; training.sync_batch_norm: true makes it that of the whole batch"
        )
    if _is_coupled(workload, device):
        notes.append(
            "the loss of an example depends on the others in its batch, and so on the share of a batch that each of the"
            f" {request.devices} devices has: a trial is another one than on one device"
        )
    return tuple(notes)


def _is_coupled(workload: Workload, device: torch.device) -> bool:
    examples = MeasuredExamples.of(workload, _EXAMPLES, device)
    # What else is wrong with the loss is found elsewhere.
    with contextlib.suppress(Exception), measured_model(workload.model, "eval", device) as model:
        return MeasuredLoss(workload, examples, model).changes_with_its_batch()
    return False
