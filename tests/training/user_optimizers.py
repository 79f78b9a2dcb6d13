"""Optimizers and schedules as users write them, right and wrong; a study names them by this file."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tunectl.core.records import CodeKind, Scalar, WorkloadReference
from tunectl.core.user_code import UsedCode

FILE = Path(__file__)


def used(name: str, kind: CodeKind = "optimizer", /, **arguments: Scalar) -> UsedCode:
    """What a trial uses of this file, or of `module:Name`, with hyperparameters by the study's names."""
    module, colon, found = name.rpartition(":")
    if colon:
        return UsedCode(WorkloadReference(name, found, module=module, workload_kind=kind), arguments)
    text = f"./{FILE.name}:{name}"
    return UsedCode(WorkloadReference(text, name, file=str(FILE), workload_kind=kind), arguments)


def fields(name: str, **arguments: Scalar) -> dict[str, Any]:
    """The fields of a training configuration with this optimizer."""
    found = used(name, "optimizer", **arguments)
    return {"optimizer": found.reference.text, "optimizer_code": found}


class Plain(Optimizer):
    """Gradient descent."""

    def __init__(self, params: Iterable[Any], lr: float | Tensor = 1e-2, **more: Any) -> None:
        super().__init__(params, {"lr": lr, **more})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.move(group, parameter)

    def move(self, group: dict[str, Any], parameter: Tensor) -> None:
        parameter.sub_(group["lr"] * parameter.grad)


class Lion(Plain):
    """Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas=betas, weight_decay=weight_decay)

    def move(self, group: dict[str, Any], parameter: Tensor) -> None:
        assert parameter.grad is not None
        beta1, beta2 = group["betas"]
        momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(group["lr"] * torch.sign(beta1 * momentum + (1 - beta1) * parameter.grad))
        momentum.mul_(beta2).add_((1 - beta2) * parameter.grad)


class Noisy(Plain):
    """With random numbers of torch in every update, as Langevin dynamics."""

    def move(self, group: dict[str, Any], parameter: Tensor) -> None:
        parameter.sub_(group["lr"] * (parameter.grad + 0.1 * torch.randn_like(parameter)))  # type: ignore[operator]


class Needing(Plain):
    """Has arguments without a default."""

    def __init__(self, params: Iterable[Any], lr: float, gamma: float, *, mode: str) -> None:
        super().__init__(params, lr)


class TensorRate(Plain):
    """Has its learning rate as a tensor, as with `capturable`."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-2) -> None:
        super().__init__(params, torch.tensor(lr))


class Replacing(Plain):
    """Gives parameters new tensors."""

    def move(self, group: dict[str, Any], parameter: Tensor) -> None:
        parameter.data = parameter.data - group["lr"] * parameter.grad


class FusedInName(Plain):
    """Has an option of torch's name, and updates also where a gradient is not finite."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, fused: bool = True) -> None:
        super().__init__(params, lr, fused=fused)


class ScheduleFree(Optimizer):
    """Schedule-free SGD (Defazio et al. 2024): the gradient is taken at y, what is evaluated is x."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "k": 0, "train_mode": False})

    @torch.no_grad()
    def eval(self) -> None:
        self._exchange(to_training=False)

    @torch.no_grad()
    def train(self) -> None:
        self._exchange(to_training=True)

    def _exchange(self, *, to_training: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] != to_training:
                weight = 1 - group["momentum"] if to_training else 1 - 1 / group["momentum"]
                for parameter in group["params"]:
                    if "z" in self.state[parameter]:
                        parameter.lerp_(self.state[parameter]["z"], weight)
                group["train_mode"] = to_training

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            if not group["train_mode"]:
                raise RuntimeError("call train() first")
            group["k"] += 1
            share = 1 / group["k"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                z = self.state[parameter].setdefault("z", parameter.clone())
                parameter.lerp_(z, share)
                parameter.add_(group["lr"] * (group["momentum"] * (1 - share) - 1) * parameter.grad)
                z.sub_(group["lr"] * parameter.grad)


class DriftingModes(ScheduleFree):
    """Its state changes whenever it is evaluated."""

    @torch.no_grad()
    def train(self) -> None:
        super().train()
        for state in self.state.values():
            if "z" in state:
                state["z"].mul_(1.001)


class Closure(Plain):
    def step(self, closure: Any) -> None:  # type: ignore[override]
        closure()


class LateClosure(Plain):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        closure()


class Unsavable(Plain):
    def move(self, group: dict[str, Any], parameter: Tensor) -> None:
        super().move(group, parameter)
        self.state[parameter]["generator"] = torch.Generator()


class Zeroing(Plain):
    def move(self, group: dict[str, Any], parameter: Tensor) -> None:
        super().move(group, parameter)
        assert parameter.grad is not None
        parameter.grad.zero_()


class Clearing(Plain):
    def move(self, group: dict[str, Any], parameter: Tensor) -> None:
        super().move(group, parameter)
        parameter.grad = None


class Counting(Plain):
    """Keeps its count where state_dict() does not have it."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-2) -> None:
        super().__init__(params, lr)
        self.count = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.count += 1
        super().step()

    def move(self, group: dict[str, Any], parameter: Tensor) -> None:
        parameter.sub_(group["lr"] / self.count * parameter.grad)


class SavedCount(Counting):
    """Saves its count by itself."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "count"})


class Stale(Plain):
    """Wraps another optimizer, whose groups are no longer its own when a state was loaded."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-2) -> None:
        super().__init__(params, lr)
        self.wrapped = Plain(self.param_groups)
        self.wrapped.param_groups = self.param_groups

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.wrapped.step()


class FixedRate(Plain):
    """Has a learning rate of its own."""

    def move(self, group: dict[str, Any], parameter: Tensor) -> None:
        parameter.sub_(0.01 * parameter.grad)  # type: ignore[operator]


class Rateless(Optimizer):
    def __init__(self, params: Iterable[Any], speed: float = 1e-2) -> None:
        super().__init__(params, {"speed": speed})


class NoOptimizer:
    def __init__(self, params: Iterable[Any], lr: float = 1e-2) -> None:
        self.params = list(params)


def made(params: Iterable[Any], lr: float = 1e-2, **options: Any) -> Optimizer:
    """A function that gives an optimizer."""
    return torch.optim.SGD(params, lr, **options)


def halving(step: int, total_steps: int, *, halvings: int = 4) -> float:
    return float(0.5 ** (halvings * step / total_steps))


def ruined(step: int) -> float:
    return float("nan") if step == 3 else 1.0


def drawn(step: int) -> float:
    return random.random()


def said(step: int) -> str:
    return "1"
