"""Tests curvature/divergences.py."""

from __future__ import annotations

import numpy as np
import pytest
from narrowing import present
from planted_curvature import measured_run

from tunectl.analysis.curvature.divergences import departure, divergence, has_diverged


def lost(steps, ratio, *, start=90, end=110, known=None, reason="nan_loss", with_losses=True):
    """A trial whose loss rises from `start` on and is not finite at `end`."""
    t = np.arange(end)
    loss = (0.5 + np.exp(-t / 50)) * np.exp(np.clip(t - start, 0, None) * 0.5)
    loss = np.append(loss, np.nan)
    return measured_run(
        steps, ratio, known=known, loss=loss if with_losses else None, state="infeasible", reason=reason,
        infeasible_step=end,
    )  # fmt: skip


STEPS = range(0, 101, 10)
LEAVING = [0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 1.2, 1.6, 2.5]


def test_a_ratio_that_crosses_one_before_the_loss_rises_has_left_the_stable_region():
    found = departure(lost(STEPS, LEAVING))
    assert found is not None
    assert (found.below, found.above, found.highest) == (70, 80, 2.5)
    assert found.divergence.start == pytest.approx(90, abs=3)
    assert found.divergence.end == 110


@pytest.mark.parametrize("reason", ["nan_loss", "nan_gradient", "diverged"])
def test_every_reason_of_a_divergence_counts(reason):
    assert departure(lost(STEPS, LEAVING, reason=reason)) is not None


def test_without_losses_the_step_at_which_it_was_lost_counts():
    assert present(divergence(lost(STEPS, LEAVING, with_losses=False))).start == 110
    assert departure(lost(STEPS, LEAVING, with_losses=False)) is not None


def test_a_trial_that_did_not_diverge_has_not_left():
    assert departure(measured_run(STEPS, LEAVING)) is None
    slow = measured_run(STEPS, LEAVING, state="infeasible", reason="no_progress", infeasible_step=110)
    assert not has_diverged(slow)
    assert departure(slow) is None


def test_above_from_the_beginning_below_to_the_end_and_back_below_are_none():
    assert departure(lost(STEPS, np.full(11, 2.0))) is None
    assert departure(lost(STEPS, np.full(11, 0.5))) is None
    assert departure(lost(STEPS, [0.3, 0.5, 1.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])) is None


def test_a_crossing_long_before_is_none():
    steps = range(0, 1001, 50)
    ratio = np.where(np.arange(21) < 5, 0.5, 1.5)
    assert departure(lost(steps, ratio, start=900, end=1000)) is None


def test_at_the_edge_of_stability_the_ratio_must_go_clearly_above():
    hovering = [1.01, 0.98, 1.02, 0.97, 1.01, 0.99, 1.02, 0.97, 1.04, 1.05, 1.06]
    assert departure(lost(STEPS, hovering)) is None
    assert departure(lost(STEPS, [*hovering[:8], 1.2, 1.6, 2.5])) is not None


def test_a_lower_bound_before_does_not_show_that_it_was_below():
    assert departure(lost(STEPS, LEAVING, known=[False] * 11)) is None
    # Above the bound a lower bound is enough.
    assert departure(lost(STEPS, LEAVING, known=[True] * 8 + [False] * 3)) is not None


def test_lines_after_the_trial_was_lost_do_not_count():
    assert departure(lost([0, 50, 120], [0.5, 0.5, 3.0])) is None
