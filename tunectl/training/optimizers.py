"""The optimizers by name: torch's, and the rules in update_rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.core.user_code import CodeName, is_code
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.clipping import add_clipping
from tunectl.training.eager_optimizers import eager
from tunectl.training.given_groups import given_groups, refuse_unknown_options
from tunectl.training.muon import ORTHOGONAL, muon
from tunectl.training.muon_split import muon_split
from tunectl.training.output_layer import OutputLayer, output_layer
from tunectl.training.update_rules import (
    RuleOptimizer,
    adam_playbook,
    lamb,
    lion,
    nadam,
    nadam_playbook,
    rmsprop_playbook,
)
from tunectl.training.user_optimizer import make_user_optimizer
from tunectl.workloads.workload import Workload


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, each once; raises WorkloadError where there is none."""
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not found:
        raise WorkloadError(
            "the model has no trainable parameter (every parameter has requires_grad=False, or there is none)"
        )
    return found


def refuse_others(model: nn.Module, trained: Sequence[nn.Parameter]) -> None:
    """Raise WorkloadError where the model has a parameter that requires a gradient now, and is not trained."""
    known = {id(parameter) for parameter in trained}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in known:
            raise WorkloadError(
                f"the parameter {name} requires a gradient now, and did not when the model was built; which parameters"
                " are trained is decided then: freeze others by a hyperparameter of the factory"
            )


def parameter_groups(parameters: Sequence[nn.Parameter], configuration: TrainingConfiguration) -> list[dict[str, Any]]:
    """The groups of an optimizer; with the scope `matrices`, parameters with fewer than two axes have no decay."""
    decay = configuration.weight_decay
    if configuration.weight_decay_scope == "all":
        return [{"params": list(parameters), "weight_decay": decay}]
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _is_dense(parameter: Tensor) -> bool:
    """Whether the elements fill one block of memory without gaps or overlaps, in any order of the axes."""
    expected = 1
    for stride, size in sorted(zip(parameter.stride(), parameter.shape, strict=True)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def can_fuse(model: nn.Module) -> bool:
    """Whether torch's fused kernels can train this model: real floating-point parameters on the CPU or CUDA, and no
    views with gaps or overlaps, which these kernels would treat as one block and train wrongly without an error.

    They are two to four times as fast as loops over the parameters; the results agree up to rounding.
    """
    return all(
        parameter.is_floating_point()
        and parameter.layout is torch.strided
        and parameter.device.type in ("cpu", "cuda")
        and _is_dense(parameter)
        for parameter in model.parameters()
    )


def _prepare_fused(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG001
    """Prepare an update for cases that torch's fused kernels do not support and its loops over parameters do.

    Where a gradient is sparse, no group uses those kernels any more. This cannot be known before
    (`functional.embedding(..., sparse=True)`), and torch's error may come when one group has been updated. A parameter
    that gets its first gradient later than others gets a velocity of zero, with which its first update is the same.
    Both are in the optimizer's state, so that a resumed trial has them too.
    """
    states, groups = optimizer.state, optimizer.param_groups
    all_moved = len(states) == sum([len(group["params"]) for group in groups])
    for group in groups:
        if not group.get("fused"):
            continue
        trained = [parameter for parameter in group["params"] if parameter.grad is not None]
        if any(parameter.grad.is_sparse for parameter in trained):
            for each in groups:
                each["fused"] = None
            return
        if not all_moved and group.get("momentum"):
            at_rest = [p for p in trained if states.get(p, {}).get("momentum_buffer") is None]
            # With loss scaling too: the kernels do not set the velocity in an update that is skipped.
            if len(at_rest) < len(trained) or hasattr(optimizer, "found_inf"):
                for parameter in at_rest:
                    states[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def workload_optimizer(workload: Workload, configuration: TrainingConfiguration) -> torch.optim.Optimizer:
    """The optimizer of a configuration for a workload's model, with its groups and its output layer."""
    return make_optimizer(workload.model, configuration, workload.parameter_groups, output=workload.output)


def make_optimizer(
    model: nn.Module,
    configuration: TrainingConfiguration,
    give_groups: Callable[..., Any] | None = None,
    *,
    output: Sequence[nn.Module | nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """The optimizer of a configuration for the model's trainable parameters; the loop sets the learning rate before
    each update. `give_groups` is the workload's, see Workload.parameter_groups, and `output` the output layer, where
    the workload declares it.

    sgd, momentum and nesterov are torch.optim.SGD, rmsprop and adam are RMSprop and Adam, adamw is AdamW; nadam, lamb,
    lion and the playbook's rules are in update_rules, muon in muon.py. Nesterov's rule with momentum 0 is plain SGD,
    for which torch does not accept `nesterov=True`. Raises WorkloadError where no parameter can be trained.

    What weight_decay w does to the weights v:

        sgd, momentum, nesterov                 L2: w v is added to the gradient, and passes through the momentum
        rmsprop, rmsprop_playbook               L2, and so divided by the root of the mean square
        adam, adam_playbook, nadam,
        nadam_playbook                          L2, through both moments
        adamw, lion, muon                       decoupled: v <- (1 - learning_rate w) v
        lamb                                    decoupled from the moments: w v is added to the step before it is scaled
    """
    layer, groups = output_layer(model, output), _groups(model, configuration, give_groups)
    optimizer = _made(groups, model, configuration, layer)
    refuse_unknown_options(groups, configuration.optimizer, getattr(optimizer, "defaults", {}))
    optimizer.register_step_pre_hook(_prepare_fused)
    add_clipping(optimizer, configuration, layer)
    return optimizer


def _groups(
    model: nn.Module, configuration: TrainingConfiguration, give_groups: Callable[..., Any] | None
) -> list[dict[str, Any]]:
    """The groups of all trained parameters: the workload's, or one; each with its weight decay.

    An optimizer of the study's own keeps its default of weight_decay where the study does not give any.
    """
    trained = trainable_parameters(model)
    given = [{"params": trained}] if give_groups is None else given_groups(give_groups, model, trained, configuration)
    own = is_code(configuration.optimizer)
    found: list[dict[str, Any]] = []
    for group in given:
        if "weight_decay" in group or (own and configuration.weight_decay_scope == "all"):
            found.append(group)
            continue
        for part in parameter_groups(group["params"], configuration):
            if own and part["weight_decay"] != 0:
                del part["weight_decay"]
            found.append({**group, **part})
    return found


def _made_muon(
    groups: list[dict[str, Any]], model: nn.Module, configuration: TrainingConfiguration, output: OutputLayer
) -> torch.optim.Optimizer:
    """Muon for the matrices of each group, AdamW for its other parameters."""
    split = muon_split(model, trainable_parameters(model), output)
    of_muon, rate = {id(parameter) for parameter in split.parameters(matrices=True)}, configuration.learning_rate
    factor = (configuration.adamw_learning_rate or rate) / rate
    divided = [
        {**group, "params": own, ORTHOGONAL: matrices, "rate_factor": 1.0 if matrices else factor}
        for matrices in (True, False)
        for group in groups
        if (own := [parameter for parameter in group["params"] if (id(parameter) in of_muon) == matrices])
    ]
    return eager(RuleOptimizer)(
        divided,
        muon,
        lr=rate,
        momentum=configuration.momentum,
        muon_scale=configuration.muon_scale,
        beta1=configuration.beta1,
        beta2=configuration.beta2,
        epsilon=configuration.epsilon,
    )


def _made(
    groups: list[dict[str, Any]], model: nn.Module, configuration: TrainingConfiguration, output: OutputLayer
) -> torch.optim.Optimizer:
    rate, momentum = configuration.learning_rate, configuration.momentum
    betas, epsilon = (configuration.beta1, configuration.beta2), configuration.epsilon
    adams = {"lr": rate, "beta1": configuration.beta1, "beta2": configuration.beta2, "epsilon": epsilon}
    fused = True if can_fuse(model) else None
    match configuration.optimizer:
        case "sgd":
            return eager(torch.optim.SGD)(groups, lr=rate, fused=fused)
        case "momentum":
            return eager(torch.optim.SGD)(groups, lr=rate, momentum=momentum, fused=fused)
        case "nesterov":
            return eager(torch.optim.SGD)(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=fused)
        case "adam":
            return eager(torch.optim.Adam)(groups, lr=rate, betas=betas, eps=epsilon, fused=fused)
        case "adamw":
            return eager(torch.optim.AdamW)(groups, lr=rate, betas=betas, eps=epsilon, fused=fused)
        case "nadam":
            return eager(RuleOptimizer)(groups, nadam, **adams)
        case "rmsprop":
            return eager(torch.optim.RMSprop)(groups, lr=rate, alpha=configuration.rho, eps=epsilon, momentum=momentum)
        case "rmsprop_playbook":
            own = {"rho": configuration.rho, "momentum": momentum, "epsilon": epsilon}
            return eager(RuleOptimizer)(groups, rmsprop_playbook, lr=rate, **own)
        case "adam_playbook":
            return eager(RuleOptimizer)(groups, adam_playbook, **adams)
        case "nadam_playbook":
            return eager(RuleOptimizer)(groups, nadam_playbook, **adams)
        case "lamb":
            return eager(RuleOptimizer)(groups, lamb, **adams)
        case "lion":
            own = {"beta1": configuration.beta1, "beta2": configuration.beta2}
            return eager(RuleOptimizer)(groups, lion, lr=rate, **own)
        case "muon":
            return _made_muon(groups, model, configuration, output)
        case _:
            return _of_code(configuration.optimizer, configuration, groups)


def _of_code(
    name: CodeName, configuration: TrainingConfiguration, groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    assert configuration.optimizer_code is not None, f"where {name} is has been found"
    return make_user_optimizer(groups, configuration.optimizer_code)
