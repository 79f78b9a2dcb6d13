"""What a study should know that trains each trial on several devices: where that is not the same as one device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm

from tunectl.core.errors import WorkloadError
from tunectl.core.exception_text import first_line, text_of
from tunectl.core.records import TrialRequest
from tunectl.core.wording import counted, first_listed
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.batch_dependence import BatchDependence, batch_dependence
from tunectl.training.synchronised_batch_norm import batch_norm_layers
from tunectl.workloads.workload import Workload

_ONE_VALUE = "Expected more than 1 value per channel when training"


def device_notes(workload: Workload, request: TrialRequest, device: torch.device) -> tuple[str, ...]:
    """Lines about a workload whose trials have several devices, none where they have one.

    The model is as before afterwards.
    """
    if request.devices == 1:
        return ()
    notes, configuration = list[str](), TrainingConfiguration(**request.configuration)
    if not request.sync_batch_norm and any(layer.training for layer in batch_norm_layers(workload.model).values()):
        notes.append(_of_batch_norm(configuration, request.devices))
    single = [name for name, layer in workload.model.named_modules() if _has_own_statistics(layer)]
    if single and any(size % request.devices for size in _micro_batches(configuration)):
        notes.append(
            f"the running statistics of {first_listed(single, 3)} are averaged over the {request.devices} devices once"
            " an update, and their shares of its micro-batches differ: they are others than on one device, where each"
            " micro-batch moves them; make all micro-batches multiples of the devices"
        )
    hooked = [name for name, parameter in workload.model.named_parameters() if _has_hooks(parameter)]
    if hooked:
        notes.append(
            f"a hook on the gradient of {first_listed(hooked, 3)} gets the part of it that is of the share of each of"
            f" the {request.devices} devices, before the parts are added up: unless it only multiplies it by a number,"
            " a trial is another one than on one device"
        )
    found = batch_dependence(workload, device, one_divisor=request.sync_batch_norm)
    return (*notes, *_of_dependence(found, request.devices))


def _of_dependence(found: BatchDependence, devices: int) -> list[str]:
    notes = list[str]()
    if found.of:
        why = {
            "loss": "the loss of an example depends on the others in its batch, as where code decides by the whole"
            " batch",
            "gradient": "the gradient of a batch is not the sum of those of its parts, as where a backward pass or a"
            " hook computes with the whole of it, or the loss calls backward()",
        }[found.of]
        notes.append(
            f"{why}, and so on the share of a batch that each of the {devices} devices has: a trial is another one than"
            " on one device"
        )
    if found.buffers:
        notes.append(
            f"the buffers {first_listed(found.buffers, 3)} of the model are no averages over the examples of a batch,"
            f" as sums or numbers of examples are: each of the {devices} devices computes them of its share, and they"
            " become the averages of these, or of whole numbers those of device 0; they are others than on one device"
        )
    if found.changes:
        notes.append(
            "the loss of the same examples changes from call to call, by what is kept elsewhere than in the model's"
            f" saved buffers: of {devices} devices each has other calls than one device has, in evaluations and in"
            " comparisons of the devices; unless it is changed in training mode alone, a trial is another one than on"
            " one device"
        )
    if found.own_draws:
        notes.append(
            "the model, the loss or augment draws from a random generator of its own, which gives the same numbers on"
            f" each of the {devices} devices: as on one device, where they are for a batch; but where each example"
            " needs its own, take torch's global generator, whose numbers differ, and in augment the one it gets"
        )
    return notes


def _of_batch_norm(configuration: TrainingConfiguration, devices: int) -> str:
    sizes = _micro_batches(configuration) or [configuration.batch_size]
    what, size = "micro-batch" if len(sizes) > 1 else "batch", min(sizes)
    least = max(1, size // devices)
    trouble = "; over one example, a layer without other axes fails" if least == 1 else ""
    if size < devices and len(sizes) > 1:
        trouble += (
            "; a device without an example of it takes the first one of it, which only its running statistics count"
        )
    return (
        f"batch normalisation in training is over the share of a {what} that each of the {devices} devices has, as few"
        f" as {counted(least, 'example')} of {size}{trouble}; training.sync_batch_norm: true makes it that of the whole"
        f" {what}"
    )


def _micro_batches(configuration: TrainingConfiguration) -> Sequence[int]:
    """The sizes of the micro-batches of an update, where there are several."""
    return configuration.micro_batch_sizes() if configuration.accumulate_steps > 1 else ()


def _has_own_statistics(layer: nn.Module) -> bool:
    """Whether a layer averages statistics of single examples in training, as instance normalisation may."""
    return isinstance(layer, _InstanceNorm) and layer.training and layer._buffers.get("running_mean") is not None


def _has_hooks(parameter: nn.Parameter) -> bool:
    return bool(parameter._backward_hooks) or bool(getattr(parameter, "_post_accumulate_grad_hooks", None))


def of_small_share(error: Exception, devices: int) -> WorkloadError | None:
    """What torch's exception means where batch normalisation got one example, the share of a device; None of others."""
    if devices == 1 or _ONE_VALUE not in text_of(error):
        return None
    return WorkloadError(
        f"batch normalisation got one value for each channel ({first_line(error)}): a device's share of a batch, or of"
        " a micro-batch, is one example, which has no variance; set training.sync_batch_norm: true, or make batch_size"
        " larger, accumulate_steps smaller, or the devices fewer"
    )
