"""A tiny regression that tries to go online in every process that loads or builds it."""

import contextlib
import socket

import torch
from torch import nn
from torch.utils.data import TensorDataset

from tunectl import Infeasible, Workload


def go_online() -> None:
    with contextlib.suppress(PermissionError), socket.socket() as connection:
        connection.connect(("127.0.0.1", 51234))
        raise AssertionError("no one is watching")


go_online()
_x = torch.linspace(-1, 1, 64)[:, None]


def factory(*, label: str) -> Workload:
    go_online()
    model = nn.Linear(1, 1)

    def loss(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        if label.endswith("goes wrong") and model.training:
            raise Infeasible(f"{label}\n| a second, line\x1b[31m\r\u2028")
        distance: torch.Tensor = model(batch[0]) - batch[1]
        return distance.square().squeeze(1)

    def metrics(model: nn.Module, batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"distance": (model(batch[0]) - batch[1]).abs().squeeze(1)}

    data = {"train": TensorDataset(_x, 2 * _x), "valid": TensorDataset(_x, 2 * _x)}
    return Workload(model=model, data=data, loss=loss, metrics=metrics)
