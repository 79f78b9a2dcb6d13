from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tunectl.spec.configuration import TrainingConfiguration
from tunectl.training.schedules import learning_rate


def rates(max_train_steps: int, **fields: Any) -> list[float]:
    configuration = TrainingConfiguration(optimizer="sgd", learning_rate=0.4, **fields)
    return [learning_rate(configuration, max_train_steps, t) for t in range(configuration.total_steps(max_train_steps))]


def test_a_constant_schedule_is_constant():
    assert rates(5) == [0.4] * 5


def test_warmup_rises_from_zero_and_reaches_the_base_rate_at_update_w():
    assert rates(3, warmup_steps=4) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4], abs=1e-15)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_prepended_warmup_leaves_the_decay_all_of_max_train_steps(schedule: str):
    assert rates(6, schedule=schedule, warmup_steps=3)[3:] == rates(6, schedule=schedule)


def test_linear_and_cosine_follow_their_formulas():
    assert rates(4, schedule="linear") == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=1e-15)
    expected = [0.4 * (1 + math.cos(math.pi * s / 4)) / 2 for s in range(4)]
    assert rates(4, schedule="cosine") == pytest.approx(expected, abs=1e-15)


def test_cosine_agrees_with_torch_until_its_end():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    oracle = []
    for _ in range(20):
        oracle.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(20, schedule="cosine") == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_after_decay_steps_the_rate_stays_where_it_ended_and_never_rises_again(schedule: str):
    found = rates(10, schedule=schedule, decay_steps=4)
    assert found[4:] == pytest.approx([0.0] * 6, abs=1e-16)
    assert found == sorted(found, reverse=True)


def test_a_warmup_within_the_steps_shortens_the_decay():
    found = rates(10, schedule="linear", warmup_steps=4, warmup="within")
    assert len(found) == 10
    assert found[4:] == pytest.approx([0.4 * (1 - s / 6) for s in range(6)], abs=1e-15)


def test_a_warmup_that_fills_everything_only_rises():
    found = rates(5, schedule="cosine", warmup_steps=5, warmup="within")
    assert found == pytest.approx([0.4 * t / 5 for t in range(5)], abs=1e-15)
    longer = rates(5, schedule="linear", warmup_steps=8, warmup="within")
    assert longer == pytest.approx([0.4 * t / 8 for t in range(5)], abs=1e-15)
