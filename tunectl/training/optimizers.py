"""The optimizers, all of them torch's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import torch
from torch import nn

from tunectl.core.errors import WorkloadError
from tunectl.spec.configuration import TrainingConfiguration


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, each once; raises WorkloadError where there is none."""
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not found:
        raise WorkloadError(
            "the model has no trainable parameter (every parameter has requires_grad=False, or there is none)"
        )
    return found


def parameter_groups(parameters: Sequence[nn.Parameter], configuration: TrainingConfiguration) -> list[dict[str, Any]]:
    """The groups of an optimizer: with the scope `matrices`, weight decay spares parameters of fewer than two axes."""
    decay = configuration.weight_decay
    if configuration.weight_decay_scope == "all":
        return [{"params": list(parameters), "weight_decay": decay}]
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def can_fuse(model: nn.Module) -> bool:
    """Whether torch's fused kernels take this model: real floating-point parameters and no sparse gradient, on the CPU
    or CUDA.

    They are two to four times as fast as the loops over parameters; their results agree to rounding.
    """
    sparse = any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse for module in model.modules())
    return not sparse and all(
        parameter.is_floating_point() and parameter.layout is torch.strided and parameter.device.type in ("cpu", "cuda")
        for parameter in model.parameters()
    )


def make_optimizer(model: nn.Module, configuration: TrainingConfiguration) -> torch.optim.Optimizer:
    """The optimizer of a configuration for the model's trainable parameters; the loop sets the learning rate before
    each update.

    sgd, momentum and nesterov are torch.optim.SGD, adam is Adam (its weight decay is an L2 term in the gradient),
    adamw is AdamW (decoupled). Nesterov's rule with momentum 0 is plain SGD, which torch wants said so. Raises
    WorkloadError where nothing can be trained.
    """
    groups = parameter_groups(trainable_parameters(model), configuration)
    rate, momentum = configuration.learning_rate, configuration.momentum
    betas, epsilon = (configuration.beta1, configuration.beta2), configuration.epsilon
    fused = True if can_fuse(model) else None
    match configuration.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, fused=fused)
        case "momentum":
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=fused)
        case "nesterov":
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=rate, betas=betas, eps=epsilon, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=epsilon, fused=fused)
        case _:
            assert_never(configuration.optimizer)
