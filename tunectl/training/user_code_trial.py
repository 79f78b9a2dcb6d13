"""The probe of a study's own optimizer and schedule: some updates, and whether a saved trial could go on."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tunectl.core.errors import WorkloadError
from tunectl.core.records import TrialRequest
from tunectl.core.user_code import UsedCode
from tunectl.language.code_arguments import optimizer_arguments
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training import saved_state
from tunectl.training.batch_norm_statistics import gathering_layers
from tunectl.training.given_groups import set_rate
from tunectl.training.optimizers import trainable_parameters, workload_optimizer
from tunectl.training.schedules import decay_factor, learning_rate, steps_of_decay
from tunectl.training.seeds import Purpose, randomness, sequence
from tunectl.training.user_optimizer import evaluated, has_modes, loaded_optimizer, no_closure, restore
from tunectl.workloads.workload import Workload

_BEFORE, _AFTER = 2, 2
"""The updates before and after the state is saved: a step count that is lost shows in the first one after it."""

_MOST_STEPS = 1000
"""The largest number of steps at which a schedule is computed."""


@dataclass(frozen=True, slots=True)
class _Updates:
    """Updates of the model's parameters with the same gradients each time, those of the probe's batch."""

    parameters: Sequence[nn.Parameter]
    gradients: Sequence[Tensor | None]
    rates: Sequence[float]
    seed: int
    device: torch.device

    def run(self, optimizer: Optimizer, steps: range, scale: float = 1.0) -> None:
        """Make these updates, each with its learning rate times `scale`, and with its own random numbers."""
        for step in steps:
            for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
                parameter.grad = None if gradient is None else gradient.clone()
            for group in optimizer.param_groups:
                set_rate(group, self.rates[step] * scale)
            with randomness(sequence(self.seed, Purpose.TRAINING, step), self.device):
                optimizer.step()

    def weights(self) -> list[Tensor]:
        """Copies of the parameters, in the host's memory: a large model may leave little on its device."""
        return [parameter.detach().to("cpu", copy=True) for parameter in self.parameters]

    @torch.no_grad()
    def set(self, weights: Sequence[Tensor]) -> None:
        """Give the parameters these values."""
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)


def try_optimizer(
    workload: Workload, optimizer: Optimizer, request: TrialRequest, device: torch.device
) -> tuple[str, ...]:
    """Try an optimizer of the study's own with the gradients that the parameters have; gives lines about it.

    The weights are as before afterwards. Raises WorkloadError where a trial could not use it: it clears the gradients,
    its state cannot be saved, a trial that goes on from it would not be the same, or it does not use the learning rate
    that it is given. Exceptions of its own code pass.
    """
    configuration = TrainingConfiguration(**request.configuration)
    used = configuration.optimizer_code
    assert used is not None
    if has_modes(optimizer) and configuration.polyak_decay is not None:
        raise WorkloadError(
            f"optimizer {used.reference.text}: it averages the weights by itself (it has train() and eval()); leave "
            "out polyak_decay"
        )
    parameters = trainable_parameters(workload.model)
    gradients = [None if parameter.grad is None else parameter.grad.clone() for parameter in parameters]
    first = learning_rate(configuration, request.max_train_steps, 0)
    # Different ones: a rate that was set before the state was loaded shows, too.
    rates = [first, *(configuration.learning_rate / step for step in range(1, _BEFORE + _AFTER))]
    updates = _Updates(parameters, gradients, rates, request.seed, device)

    def fresh() -> Optimizer:
        return workload_optimizer(workload, configuration)

    before = updates.weights()
    try:
        _check_gradients(optimizer, updates, used)
        _check_resume(optimizer, fresh, updates, used)
        _check_rate(fresh, updates, before, used)
        if configuration.schedule != "constant" or configuration.warmup_steps > 0:
            _check_later_rates(fresh, updates, before, used)
    finally:
        updates.set(before)
    return (_description(used), *_of_modes(workload, optimizer, request, configuration))


def _check_gradients(optimizer: Optimizer, updates: _Updates, used: UsedCode) -> None:
    """The first update; what it does to the gradients."""
    try:
        updates.run(optimizer, range(1))
    except Exception as error:
        if "closure" in str(error) or "'NoneType' object is not callable" in str(error):
            raise WorkloadError(no_closure(used.reference.text)) from error
        raise
    for parameter, gradient in zip(updates.parameters, updates.gradients, strict=True):
        if gradient is not None and _any(gradient) and (parameter.grad is None or not _any(parameter.grad)):
            raise WorkloadError(
                f"optimizer {used.reference.text}: its step() clears the gradients, which tunectl measures and clears "
                "itself; leave out what sets p.grad to None or zero"
            )


def _any(gradient: Tensor) -> bool:
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool(values.any())


def _check_resume(optimizer: Optimizer, fresh: Callable[[], Optimizer], updates: _Updates, used: UsedCode) -> None:
    """Whether updates after the state was saved and loaded are those that would have followed, bit for bit."""
    updates.run(optimizer, range(1, _BEFORE))
    raw, whole = updates.weights(), range(_BEFORE, _BEFORE + _AFTER)
    if has_modes(optimizer):
        state = _copy(optimizer.state_dict())
        with evaluated(optimizer, updates.parameters):
            shown, saved = updates.weights(), _saved(optimizer, used)
        if not _same(state, _copy(optimizer.state_dict())):
            raise WorkloadError(
                f"optimizer {used.reference.text}: its eval() and train() change its state, so that a trial would "
                "depend on when it is saved"
            )
    else:
        shown, saved = raw, _saved(optimizer, used)
    updates.run(optimizer, whole)
    wanted = updates.weights()
    updates.set(shown)
    again = fresh()
    again.load_state_dict(saved)
    if has_modes(again):
        restore(again, updates.parameters, raw)
    updates.run(again, whole)
    if all(map(_equal, wanted, updates.weights())):
        return
    lost = [name for name, value in _numbers(optimizer).items() if _numbers(again).get(name) != value]
    why = f" ({', '.join(lost)} {'is' if len(lost) == 1 else 'are'} not in it)" if lost else ""
    raise WorkloadError(
        f"optimizer {used.reference.text}: a trial that goes on from its state_dict() would not be the same{why}; keep "
        "all that its step() changes in self.state or in the groups"
    )


def _check_rate(fresh: Callable[[], Optimizer], updates: _Updates, before: Sequence[Tensor], used: UsedCode) -> None:
    """Whether the size of an update depends on the learning rate of the groups."""
    found = []
    for scale in (1.0, 0.5):
        updates.set(before)
        updates.run(fresh(), range(_BEFORE), scale)
        found.append(updates.weights())
    if all(map(_equal, *found)) and not all(map(_equal, found[0], before)):
        raise WorkloadError(
            f"optimizer {used.reference.text}: its updates do not depend on the lr of its groups, by which the "
            "schedule sets the learning rate of each update"
        )


def _check_later_rates(
    fresh: Callable[[], Optimizer], updates: _Updates, before: Sequence[Tensor], used: UsedCode
) -> None:
    """Whether the size of a later update depends on its learning rate: that of Rprop's first update alone does."""
    found, begun = [], list[Tensor]()
    for scale in (1.0, 0.5):
        updates.set(before)
        optimizer = fresh()
        updates.run(optimizer, range(1))
        begun = updates.weights()
        updates.run(optimizer, range(1, _BEFORE), scale)
        found.append(updates.weights())
    if all(map(_equal, *found)) and not all(map(_equal, found[0], begun)):
        raise WorkloadError(
            f"optimizer {used.reference.text}: only its first update depends on the lr of its groups, so that a"
            " schedule or a warmup has no effect; leave them out"
        )


def _saved(optimizer: Optimizer, used: UsedCode) -> Any:
    """The state as it is read back from a checkpoint."""
    state = optimizer.state_dict()
    try:
        saved_state.check({"optimizer": state})
    except saved_state.UnsavableError as error:
        raise WorkloadError(f"optimizer {used.reference.text}: {error}") from error
    file = io.BytesIO()
    saved_state.write(state, file)
    file.seek(0)
    return saved_state.read(file)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, (list, tuple)) else value


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor):
        return isinstance(right, Tensor) and _equal(left, right)
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(_same(left[key], right[key]) for key in left)
        )
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right) or left is right or (left != left and right != right)


def _equal(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return bool(((left == right) | (left.isnan() & right.isnan())).all())


def _numbers(optimizer: Optimizer) -> dict[str, float]:
    return {name: value for name, value in vars(optimizer).items() if isinstance(value, (int, float))}


def _description(used: UsedCode) -> str:
    """The class and its place, what it gets from the study, and the defaults that it keeps."""
    loaded = loaded_optimizer(used.reference)
    given = optimizer_arguments(used, loaded.signature, loaded.defaults)
    kept = [f"{name} {value!r}" for name, value in loaded.defaults.items() if name not in given]
    name = f"{loaded.make.__module__}.{getattr(loaded.make, '__qualname__', used.reference.factory)}"
    parts = [
        f"optimizer {used.reference.text} is {name}{_place(loaded.make)}",
        f"from the study it gets {', '.join(given)}" if given else "it gets nothing from the study",
        f"it keeps its defaults {', '.join(kept)}" if kept else "",
    ]
    return "; ".join(filter(None, parts))


def _place(code: Callable[..., Any]) -> str:
    try:
        return f" ({inspect.getsourcefile(code)}:{inspect.getsourcelines(code)[1]})"
    except (OSError, TypeError):
        return ""


def _of_modes(
    workload: Workload, optimizer: Optimizer, request: TrialRequest, configuration: TrainingConfiguration
) -> tuple[str, ...]:
    """Lines about an optimizer that evaluates other weights than it trains."""
    if not has_modes(optimizer):
        return ()
    name, lines = configuration.optimizer, list[str]()
    if configuration.schedule != "constant":
        lines.append(
            f"optimizer {name} has train() and eval(): it averages the weights by itself, and is made for schedule: "
            "constant"
        )
    if request.batch_norm_statistics is None and gathering_layers(workload.model):
        lines.append(
            f"optimizer {name} evaluates other weights than those of which batch normalisation has statistics: write "
            "training.batch_norm_statistics"
        )
    return tuple(lines)


def try_schedule(configuration: TrainingConfiguration, request: TrialRequest) -> tuple[str, ...]:
    """Compute a schedule of the study's own at some of its steps; gives a line about it.

    Raises WorkloadError where it does not give a factor, or another one when it is called again.
    """
    total = max(steps_of_decay(configuration, request.max_train_steps), 1)
    steps = sorted({int(step) for step in np.linspace(0, total - 1, min(total, _MOST_STEPS))})
    found = [decay_factor(configuration, request.max_train_steps, step) for step in steps]
    for step, factor in ((steps[-1], found[-1]), (steps[0], found[0])):
        again = decay_factor(configuration, request.max_train_steps, step)
        if again != factor:
            raise WorkloadError(
                f"schedule {configuration.schedule}: expected the same factor for the same step, got {factor:g} and "
                f"then {again:g} for step {step}"
            )
    shown = [
        f"{found[0]:.4g} at step 0",
        f"{found[len(found) // 2]:.4g} half way",
        f"{found[-1]:.4g} at step {steps[-1]}",
    ]
    return (f"schedule {configuration.schedule}: the learning rate times {', '.join(shown)}",)
