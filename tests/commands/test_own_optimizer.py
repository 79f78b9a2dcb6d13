"""A study with an optimizer and a schedule of its own, by the command.

The parts are tested in tests/session/test_study_code.py and tests/training/test_user_optimizer.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from study_calls import Called
from trial_records import lines_in

from tunectl.core.folders import StudyFolder

MINE = """
import torch

class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.sub_(group["lr"] * torch.sign(beta1 * m + (1 - beta1) * p.grad))
                m.mul_(beta2).add_((1 - beta2) * p.grad)

class Forgetful(Lion):
    def __init__(self, params, lr=1e-4):
        super().__init__(params, lr)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        for group in self.param_groups:
            group["lr"] /= self.count
        super().step()

def decay(step, total_steps, power=1.0):
    return (1 - step / total_steps) ** power
"""
MORE = """\
  beta1: 0.8
  schedule: ./mine.py:decay
  power: 2"""


@pytest.fixture
def write_own(write_study: Callable[..., Path]) -> Callable[..., Path]:
    def write(optimizer: str, **changes: object) -> Path:
        path = write_study(**changes)
        path.with_name("mine.py").write_text(MINE)
        path.write_text(path.read_text().replace("optimizer: momentum", f'optimizer: "{optimizer}"'))
        return path

    return write


def test_a_study_with_its_own_optimizer_and_schedule_is_described_and_trained(
    write_own: Callable[..., Path], tunectl: Callable[..., Called], tmp_path: Path
):
    called = tunectl("run", write_own("./mine.py:Lion", more=MORE, trials=2), "--json")
    assert called.code == 0, called.err
    assert "optimizer ./mine.py:Lion is mine.Lion" in called.messages
    assert "from the study it gets lr, betas" in called.messages
    folder = StudyFolder(tmp_path / "runs" / "small")
    for trial in (0, 1):
        rates = [rate for block in lines_in(folder.trial(trial).steps) for rate in block["learning_rate"]]
        base = json.loads(folder.trial(trial).request.read_text())["configuration"]["learning_rate"]
        assert rates == pytest.approx([base * (1 - step / 40) ** 2 for step in range(40)], rel=1e-5)


def test_an_optimizer_whose_trials_could_not_go_on_is_refused_at_its_place_before_anything_is_created(
    write_own: Callable[..., Path], tunectl: Callable[..., Called], tmp_path: Path
):
    called = tunectl("run", write_own("./mine.py:Forgetful"))
    assert called.code == 2
    assert ":6:14: hyperparameters.optimizer: ./mine.py:Forgetful: a trial that goes on" in called.messages
    assert "(count is not in it)" in called.messages
    assert not (tmp_path / "runs").exists()
