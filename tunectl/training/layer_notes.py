"""What the probe says of the layers that muon and adaptive clipping treat in their own way."""

from __future__ import annotations

from torch import Tensor

from tunectl.core.wording import listed
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.muon_split import muon_split
from tunectl.training.optimizers import trainable_parameters
from tunectl.training.output_layer import check_output_layer, output_layer
from tunectl.workloads.workload import Workload


def layer_notes(workload: Workload, configuration: TrainingConfiguration, losses: Tensor) -> tuple[str, ...]:
    """A line for each rule that depends on the layer of a parameter; () where the configuration has none.

    `losses` are those of a batch, with their graph. Raises WorkloadError where it is not certain which layer is the
    output layer.
    """
    is_muon, is_adaptive = configuration.optimizer == "muon", configuration.grad_clip == "adaptive"
    if not is_muon and not is_adaptive:
        return ()
    model, layer = workload.model, output_layer(workload.model, workload.output)
    why = " and ".join(["muon"] * is_muon + ["grad_clip: adaptive"] * is_adaptive)
    check_output_layer(model, layer, losses, why)
    lines = []
    if is_muon:
        lines.append(muon_split(model, trainable_parameters(model), layer).in_words())
    if is_adaptive:
        left_out = [name for name, parameter in model.named_parameters() if parameter in layer]
        lines.append(f"adaptive clipping leaves out the output layer: {listed(left_out)}")
    return tuple(lines)
