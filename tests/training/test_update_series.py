from __future__ import annotations

import io
import math

import pytest
import torch
from torch import Tensor

from tunectl.core import jsontext
from tunectl.training.update_series import Block, StepSeries

CPU = torch.device("cpu")


def fill(series: StepSeries, updates: range, parameters: int = 3) -> None:
    for t in updates:
        generator = torch.Generator().manual_seed(t)
        series.append(
            torch.rand((), generator=generator) * 8, list(torch.rand(parameters, generator=generator)), 0.1 * t
        )


def norms_of(t: int, parameters: int) -> Tensor:
    generator = torch.Generator().manual_seed(t)
    torch.rand((), generator=generator)
    return torch.rand(parameters, generator=generator)


def test_a_block_holds_mean_losses_global_norms_and_rates_in_order():
    series = StepSeries(batch_size=8, max_norm=1.0)
    fill(series, range(20))
    block = series.take()
    assert block.first == 0
    for t in range(20):
        assert block.losses[t] == pytest.approx(
            torch.rand((), generator=torch.Generator().manual_seed(t)).item(), abs=1e-6
        )
        assert block.gradient_norms[t] == pytest.approx(norms_of(t, 3).norm().item(), rel=1e-6)
        assert block.clipped[t] == (block.gradient_norms[t] > 1.0)
    assert block.learning_rates == [0.1 * t for t in range(20)]
    assert 0 < sum(block.clipped) < 20
    fill(series, range(20, 23))
    assert (series.take().first, len(series.take())) == (20, 0)


def test_many_parameters_and_varying_numbers_of_gradients_are_joined_right():
    series = StepSeries(batch_size=1, max_norm=None)
    sizes = [700, 700, 700, 3, 5, 0, 900, 2000, 1]
    for t, size in enumerate(sizes):
        series.append(torch.zeros(()), list(norms_of(t, size)), 0.0)
    found = series.take().gradient_norms
    assert found == pytest.approx([norms_of(t, size).norm().item() for t, size in enumerate(sizes)], rel=1e-5)


@pytest.mark.parametrize("parameters", [3, 900])
def test_a_saved_series_goes_on_to_the_very_same_block(parameters: int):
    whole, first, second = (StepSeries(8, 1.0) for _ in range(3))
    fill(whole, range(17), parameters)
    fill(first, range(9), parameters)
    buffer = io.BytesIO()
    torch.save(first.state(), buffer)
    buffer.seek(0)
    second.load_state(torch.load(buffer, weights_only=True), CPU)
    fill(second, range(9, 17), parameters)
    assert second.take() == whole.take()


def test_an_empty_series_can_be_saved_too():
    series = StepSeries(8, None)
    fill(series, range(4))
    series.take()
    other = StepSeries(8, None)
    other.load_state(series.state(), CPU)
    fill(other, range(4, 6))
    assert other.take().first == 4


def test_the_first_bad_update_is_found_and_a_bad_loss_comes_before_its_gradient():
    block = Block(100, [1.0, 2.0, math.inf, math.nan], [1.0, 2.0, math.nan, math.nan], [False] * 4, [0.1] * 4)
    bad = block.first_bad()
    assert bad is not None
    assert (bad.update, bad.reason, bad.value) == (102, "nan_loss", math.inf)
    assert len(block.until(102)) == 3
    gradient = Block(0, [1.0, 2.0, math.nan], [1.0, math.inf, math.nan], [False] * 3, [0.1] * 3).first_bad()
    assert gradient is not None
    assert (gradient.update, gradient.reason) == (1, "nan_gradient")
    assert Block(0, [1.0], [0.0], [False], [0.1]).first_bad() is None


def test_the_line_writes_numbers_that_are_not_finite_as_text():
    line = jsontext.encode(Block(5, [math.nan], [math.inf], [True], [0.5]).to_json())
    assert line == (
        '{"first": 5, "loss": ["nan"], "gradient_norm": ["inf"], "clipped": [true], "learning_rate": [0.5],'
        ' "update_ratio_steps": [], "update_ratio": []}'
    )


def test_a_norm_of_a_skipped_update_is_no_bad_one_and_not_clipped():
    series = StepSeries(batch_size=1, max_norm=1.0)
    for norm, skipped in ((2.0, 0.0), (math.inf, 1.0), (math.nan, 1.0), (0.5, 0.0), (math.inf, 0.0)):
        series.append_skipped(torch.tensor(skipped))
        series.append(torch.zeros(()), [torch.tensor(norm)], 0.1)
    block = series.take()
    assert block.skipped == [1, 2]
    assert block.clipped == [True, False, False, False, True]
    bad = block.first_bad()
    assert bad is not None
    assert (bad.update, bad.reason) == (4, "nan_gradient")
    assert block.to_json()["skipped"] == [1, 2]
    assert block.until(1).skipped == [1]


def test_a_saved_series_keeps_what_was_skipped_and_the_ratios():
    whole, first, second = (StepSeries(8, None) for _ in range(3))
    for series, updates in ((whole, range(9)), (first, range(4))):
        for update in updates:
            extended(series, update)
    buffer = io.BytesIO()
    torch.save(first.state(), buffer)
    buffer.seek(0)
    second.load_state(torch.load(buffer, weights_only=True), CPU)
    for update in range(4, 9):
        extended(second, update)
    taken = whole.take()
    assert second.take() == taken
    assert (taken.ratio_updates, taken.skipped) == ([0, 3, 6], [0, 5])
    assert taken.ratios == pytest.approx([0.1, 0.4, 0.7])
    assert taken.until(5).ratio_updates == [0, 3]


def extended(series: StepSeries, update: int) -> None:
    series.append_skipped(torch.tensor(float(update % 5 == 0)))
    if update % 3 == 0:
        series.append_ratio(update, torch.tensor([0.1 * (update + 1), 1.0]))
    fill(series, range(update, update + 1))


def test_weights_of_zero_have_no_finite_ratio_and_a_model_without_matrices_has_none():
    series = StepSeries(1, None)
    series.append_ratio(0, torch.tensor([1.0, 0.0]))
    series.append_ratio(50, torch.tensor([0.0, 0.0]))
    series.append_ratio(100, None)
    series.append(torch.zeros(()), [torch.zeros(())], 0.1)
    block = series.take()
    assert (block.ratio_updates, block.ratios[0]) == ([0, 50], math.inf)
    assert math.isnan(block.ratios[1])
