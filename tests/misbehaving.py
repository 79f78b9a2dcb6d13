"""A small regression whose training goes wrong in the way that `behaviour` names; found by the tests, run by
tunectl.
"""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

from tunectl import Infeasible, Workload

_generator = torch.Generator().manual_seed(0)
_x = torch.randn(256, 4, generator=_generator)
_y = _x @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]]) + 0.1 * torch.randn(256, 1, generator=_generator)


class Regression(nn.Module):
    def __init__(self, behaviour: str, bad_update: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.behaviour = behaviour
        self.bad_update = bad_update
        self.updates = 0
        if behaviour == "dead":
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x)
        if self.behaviour == "dead":
            out = out.detach() * 0 + self.linear.bias * 0
        if not self.training:
            return out
        update, self.updates = self.updates, self.updates + 1
        if self.behaviour == "gate" and 0 <= self.bad_update < update:
            time.sleep(0.005)  # so that a stop requested at the gate comes before the end
        if update == self.bad_update:
            misbehave(self.behaviour)
            if self.behaviour == "nan":
                out = out * float("nan")
        return out


def misbehave(behaviour: str) -> None:
    match behaviour:
        case "exception":
            raise RuntimeError("the model broke | in update\nseven")
        case "exit":
            os._exit(3)
        case "sigkill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "infeasible":
            raise Infeasible("no attention head divides the width")
        case "hangs":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                signal.pause()
        case "gate":
            wait_at(Path(os.environ["TUNECTL_TEST_GATE"]))


def wait_at(gate: Path) -> None:
    """Show that the trial is here, and continue when the test has opened the gate."""
    gate.with_name("reached").touch()
    while not gate.exists():
        time.sleep(0.01)


def regression(*, behaviour: str = "good", bad_update: int = 7) -> Workload:
    data = {
        "train": TensorDataset(_x[:128], _y[:128]),
        "valid": TensorDataset(_x[128:192], _y[128:192]),
        "test": TensorDataset(_x[192:], _y[192:]),
    }
    baseline = float(_y[:128].var(correction=0)) if behaviour != "dead" else float(_y[:128].square().mean())
    return Workload(
        model=Regression(behaviour, bad_update),
        data=data,
        loss=lambda model, batch: (model(batch[0]) - batch[1]).square().squeeze(1),
        metrics=lambda model, batch: {"distance": (model(batch[0]) - batch[1]).abs().squeeze(1)},
        baseline_loss=baseline,
    )


def raises(*, width: int = 3) -> Workload:
    raise ValueError(f"width {width} is not even")


def no_workload() -> int:
    return 3
