from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.schedules import learning_rate


def rates(max_train_steps: int, **fields: Any) -> list[float]:
    configuration = TrainingConfiguration(optimizer="sgd", learning_rate=0.4, **fields)
    return [learning_rate(configuration, max_train_steps, t) for t in range(configuration.total_steps(max_train_steps))]


def test_a_constant_schedule_is_constant():
    assert rates(5) == [0.4] * 5


def test_warmup_rises_from_zero_and_reaches_the_base_rate_at_update_w():
    assert rates(3, warmup_steps=4) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4], abs=1e-15)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "step"])
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


@pytest.mark.parametrize("end", [0.1, 0.5, 1.0])
def test_a_decay_ends_at_its_factor_and_stays_there(end: float):
    linear = rates(10, schedule="linear", decay_steps=4, end_learning_rate_factor=end)
    assert linear[:5] == pytest.approx([0.4 * (1 - (1 - end) * s / 4) for s in range(5)], abs=1e-15)
    cosine = rates(10, schedule="cosine", decay_steps=4, end_learning_rate_factor=end)
    assert cosine[:5] == pytest.approx(
        [0.4 * (end + (1 - end) * (1 + math.cos(math.pi * s / 4)) / 2) for s in range(5)]
    )
    assert linear[4:] == pytest.approx([0.4 * end] * 6, abs=1e-15)
    assert cosine[4:] == pytest.approx([0.4 * end] * 6, abs=1e-15)


def test_the_end_factor_agrees_with_torch_s_eta_min():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.4 * 0.05)
    oracle = []
    for _ in range(20):
        oracle.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(20, schedule="cosine", end_learning_rate_factor=0.05) == pytest.approx(oracle, abs=1e-12)


def test_the_inverse_square_root_continues_a_warmup_as_vaswani_et_al_have_it():
    found = rates(400, schedule="inverse_sqrt", warmup_steps=100)
    assert found[100:] == pytest.approx([0.4 * math.sqrt(100 / t) for t in range(100, 500)], abs=1e-15)
    assert max(found) == found[100] == 0.4
    assert rates(4, schedule="inverse_sqrt") == pytest.approx([0.4 / math.sqrt(1 + s) for s in range(4)])
    assert rates(4, schedule="inverse_sqrt", decay_steps=9)[3] == pytest.approx(0.4 * math.sqrt(9 / 12))


def test_steps_drop_by_their_factor_at_every_multiple():
    assert rates(7, schedule="step", decay_steps=2, decay_factor=0.5) == [0.4, 0.4, 0.2, 0.2, 0.1, 0.1, 0.05]
    thirds = rates(9, schedule="step")
    assert thirds == pytest.approx([0.4] * 3 + [0.04] * 3 + [0.004] * 3, abs=1e-15)
    assert rates(10, schedule="step")[-1] == pytest.approx(0.004), "it drops twice, whatever the number of steps"
    assert rates(1, schedule="step") == [0.4]


def test_steps_agree_with_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.3)
    oracle = []
    for _ in range(20):
        oracle.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(20, schedule="step", decay_steps=4, decay_factor=0.3) == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "inverse_sqrt", "step"])
def test_a_stretch_after_the_warmup_keeps_the_base_rate_and_the_decay_takes_what_is_left(schedule: str):
    found = rates(12, schedule=schedule, warmup_steps=3, post_warmup_steps=4)
    assert len(found) == 15, "the stretch lies within max_train_steps"
    assert found[3:8] == pytest.approx([0.4] * 5)
    if schedule != "inverse_sqrt":
        assert found[7:] == pytest.approx(rates(8, schedule=schedule), abs=1e-15)
    else:
        assert found[7:] == pytest.approx([0.4 * math.sqrt(3 / (3 + s)) for s in range(8)], abs=1e-15)


def test_a_stretch_that_fills_everything_never_decays():
    assert rates(5, schedule="cosine", warmup_steps=2, post_warmup_steps=5)[2:] == [0.4] * 5


def test_a_range_test_rises_by_equal_ratios_from_its_lowest_rate_to_the_base_rate():
    found = rates(5, schedule="range_test", range_test_low=0.4e-4)
    assert found == pytest.approx([0.4e-4, 0.4e-3, 0.4e-2, 0.4e-1, 0.4], rel=1e-12)
    assert rates(1, schedule="range_test", range_test_low=0.1) == pytest.approx([0.1])


@pytest.mark.parametrize("shape", ["linear", "one_minus_sqrt"])
def test_wsd_is_constant_until_its_cooldown_and_then_falls_by_its_shape(shape: str):
    found = rates(20, schedule="wsd", cooldown_share=0.25, cooldown_shape=shape, end_learning_rate_factor=0.1)
    fallen = [n / 5 if shape == "linear" else math.sqrt(n / 5) for n in range(5)]
    assert found == pytest.approx([0.4] * 15 + [0.4 * (1 - 0.9 * share) for share in fallen], abs=1e-15)


def test_wsd_s_defaults_are_a_fifth_of_the_steps_and_one_minus_the_square_root():
    assert rates(10, schedule="wsd") == pytest.approx([0.4] * 9 + [0.4 * (1 - math.sqrt(0.5))], abs=1e-15)


def test_the_cooldown_is_a_share_of_all_steps_and_as_long_as_what_a_warmup_leaves_at_most():
    within = rates(20, schedule="wsd", cooldown_share=0.5, cooldown_shape="linear", warmup_steps=4, warmup="within")
    assert within[:4] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert within[4:10] == [0.4] * 6
    assert within[10:] == pytest.approx([0.4 * (1 - n / 10) for n in range(10)], abs=1e-15)
    prepended = rates(20, schedule="wsd", cooldown_share=0.5, cooldown_shape="linear", warmup_steps=4)
    assert prepended[4:] == pytest.approx([0.4] * 10 + [0.4 * (1 - n / 10) for n in range(10)], abs=1e-15)
    whole = rates(10, schedule="wsd", cooldown_share=1.0, cooldown_shape="linear", warmup_steps=4, warmup="within")
    assert whole[4:] == pytest.approx([0.4 * (1 - n / 6) for n in range(6)], abs=1e-15)
    assert len(rates(4, schedule="wsd", warmup_steps=4, warmup="within")) == 4


def test_a_piecewise_schedule_agrees_with_torch_s_milestones_and_follows_straight_lines():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[3, 7], gamma=0.1)
    oracle = []
    for _ in range(10):
        oracle.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(10, schedule="piecewise", piecewise_points="3: 0.1, 7: 0.01") == pytest.approx(oracle, abs=1e-15)
    assert rates(10, schedule="piecewise", piecewise_points="30%: 0.1, 70%: 0.01") == pytest.approx(oracle, abs=1e-15)
    lines = rates(6, schedule="piecewise", piecewise_points="2: 2, 4: 0.5", piecewise_shape="linear")
    assert lines == pytest.approx([0.4, 0.6, 0.8, 0.5, 0.2, 0.2], abs=1e-15)
    after = rates(8, schedule="piecewise", piecewise_points="50%: 0", warmup_steps=2, post_warmup_steps=4)
    assert after == pytest.approx([0.0, 0.2, *[0.4] * 6, 0.0, 0.0], abs=1e-15), "half of the 4 updates that are left"
