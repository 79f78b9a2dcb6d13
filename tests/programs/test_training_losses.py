"""Whether own code learned, judged by the losses that it printed. Also tests core/divergence.py."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from function_calls import Functions

from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.programs.training_losses import LossVerdict, verdict_on
from tunectl.training.function_trial import Trial

BASELINE = math.log(10)


def verdict(
    losses: Iterable[float],
    baseline: float | None = BASELINE,
    *,
    first: int = 0,
    every: int = 10,
    objective: Sequence[float] = (),
    no_progress: bool = True,
) -> LossVerdict | None:
    lines = []
    for place, loss in enumerate(losses):
        metrics = {"train/loss": float(loss)}
        if place < len(objective):
            metrics["valid/error"] = float(objective[place])
        lines.append(Measurement(first + place * every, metrics))
    return verdict_on(lines, Objective("valid/error", "minimize"), baseline=baseline, no_progress=no_progress)


def reason(*arguments: Any, **options: Any) -> str:
    found = verdict(*arguments, **options)
    return "" if found is None else found.reason


def noise(seed: int, count: int, scale: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, count)


LEARNS = 0.2 + 2.1 * np.exp(-np.linspace(0, 5, 60)) + noise(1, 60)
DEAD = np.array([2.8, 2.6, 2.9, *(BASELINE + noise(2, 57))])


def test_a_loss_that_falls_is_feasible_and_one_that_ends_far_above_its_start_diverged() -> None:
    assert reason(LEARNS) == ""
    found = verdict(np.concatenate([LEARNS[:20], np.geomspace(1, 1e4, 40)]))
    assert found is not None
    assert found.reason == "diverged"
    assert "the training loss ended at" in found.message


def test_a_loss_flat_at_the_baseline_has_made_no_progress() -> None:
    found = verdict(DEAD)
    assert found is not None
    assert found.reason == "no_progress"
    assert found.message.endswith("the best constant prediction has 2.303")
    assert reason(DEAD, no_progress=False) == ""
    assert reason(DEAD, None) == "", "without a baseline it may be slow"


def test_a_loss_that_never_moved_is_that_of_a_dead_network_only_exactly_at_the_baseline() -> None:
    """A network that learns too slowly for the noise of batches does not move either."""
    assert reason(BASELINE + 0.03 + noise(4, 60)) == ""
    assert reason(BASELINE + noise(5, 60)) == "", "the mean of such noisy losses is not known so well"
    assert reason(BASELINE + noise(5, 60, 0.002)) == "no_progress"
    assert reason(BASELINE * 1.01 + noise(5, 60, 0.002)) == ""
    assert reason(3.4 + noise(6, 60)) == ""


def test_a_bad_start_that_falls_to_the_baseline_is_no_progress_but_not_divergence() -> None:
    assert reason([80, 30, 9, 4, *DEAD]) == "no_progress"


def test_a_loss_that_still_falls_however_slowly_is_feasible() -> None:
    assert reason(BASELINE + 0.3 - np.linspace(0, 0.2, 60) + noise(3, 60, 0.02)) == ""


def test_a_slow_fall_that_half_of_a_few_losses_does_not_show_is_feasible() -> None:
    """Those of two networks that learned slowly, printed every 50 updates."""
    one = [2.562, 2.796, 2.597, 2.496, 2.34, 2.529, 2.156, 2.283, 2.191, 2.377, 2.123, 2.239]
    other = [2.568, 2.501, 2.364, 2.349, 2.576, 2.401, 2.363, 2.279, 2.297, 2.244, 2.399, 2.254]
    for losses in (one, other):
        assert reason(losses, 2.301, first=50, every=50) == ""


def test_an_objective_that_still_moves_shows_progress_that_noise_hides() -> None:
    assert reason(DEAD, objective=np.linspace(0.91, 0.89, 60)) == ""
    assert reason(DEAD, objective=[0.9] * 60) == "no_progress"


@pytest.mark.parametrize("count", [1, 4])
def test_too_few_losses_are_not_judged(count: int) -> None:
    assert reason([2.3, *[1e9] * (count - 1)]) == ""
    assert reason(DEAD[-9:]) == "", "nor of nine whether they are flat"


def test_a_first_loss_that_comes_late_is_not_a_start() -> None:
    """By then it may have fallen already, and ends below where training began."""
    losses = [0.4, 0.3, 0.3, 0.5, 0.9, 1.2, 1.2, 1.2]
    assert reason(losses, None, first=100, every=100) == ""
    assert reason(losses, None, first=0, every=100) == "diverged"
    assert reason(losses, BASELINE, first=100, every=100) == "", "the best constant prediction is no better"
    assert reason([20.0] * 8, BASELINE, first=100, every=100) == "diverged"
    assert reason([200, 150, 120, 90, 60, 40, 20, 10], BASELINE, first=100, every=100) == "", "it is falling"


def test_a_loss_that_was_never_below_its_first_has_made_no_progress_without_a_baseline() -> None:
    assert reason([1.0, *[1.2] * 20], None) == "no_progress"
    assert reason([1.0, 0.99, *[1.2] * 20], None) == ""


def test_one_spike_at_the_end_is_not_the_end() -> None:
    assert reason([*LEARNS, 500.0]) == ""


def test_a_catapult_that_comes_back_is_feasible() -> None:
    assert reason([2.3, 60, 900, 400, 20, *LEARNS]) == ""


@pytest.mark.parametrize("huge", [1e160, 1e300, math.inf])
def test_losses_of_any_size_are_judged_without_an_overflow(huge: float) -> None:
    assert reason([2.3, 5, 1e5, *[huge] * 30]) == "diverged"
    assert reason([2.3, 5, 1e5, *[huge, huge / 2] * 15], None) == "diverged"


def test_losses_below_0_are_not_judged() -> None:
    assert reason(-np.linspace(1, 50, 30), None) == ""
    assert reason([-1.0, -2, -1, *[3.0] * 10], None) == ""


def test_the_rule_needs_neither_torch_nor_numpy() -> None:
    code = "import sys, tunectl.programs.training_losses as _; print(sorted({'torch', 'numpy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


PROGRAM = """\
import sys
rate = float(sys.argv[1])
for step in range(12):
    loss = {0.1: 2.3 / (step + 1), 1.0: 2.3 + 0.001 * (step % 2), 9.0: 2.3 * 3 ** step}[rate]
    print(f"step {step + 1} train {loss} valid {loss}")
"""
STUDY = """\
workload:
  command: [python, -S, program.py, "{rate}"]
  metrics: [{regex: 'step (?P<step>\\d+) train (?P<train__loss>\\S+) valid (?P<valid__loss>\\S+)'}]
  baseline_loss: 2.3
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 12}
hyperparameters: {rate: {role: scientific, values: [0.1, 1.0, 9.0]}}
"""


@pytest.mark.parametrize(("rate", "reason"), [(0.1, ""), (1.0, "no_progress"), (9.0, "diverged")])
def test_a_function_is_judged_in_the_same_way(tmp_path: Path, rate: float, reason: str) -> None:
    def train(trial: Trial, **_values: object) -> None:
        for step in range(12):
            loss = {0.1: 2.3 / (step + 1), 1.0: 2.3 + 0.001 * (step % 2), 9.0: 2.3 * 3**step}[rate]
            trial.record(step + 1, {"train/loss": loss, "valid/loss": loss})

    result = Functions(tmp_path).run(train, max_train_steps=12, baseline_loss=2.3)
    assert result is not None
    assert (result.reason, result.baseline_loss) == (reason, 2.3)


def test_a_study_of_own_code_has_its_rates_that_fail(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "own.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "tunectl", "run", "own.yaml", "--dir", "out", "--quiet"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    results = [json.loads((tmp_path / f"out/trials/0000{trial}/result.json").read_text()) for trial in range(3)]
    assert [(item["state"], item["reason"]) for item in results] == [
        ("completed", ""),
        ("infeasible", "no_progress"),
        ("infeasible", "diverged"),
    ]
    assert {item["baseline_loss"] for item in results} == {2.3}


RISES = np.linspace(0.8, 0.2, 51)
"""A validation error that gets better all the way."""

NO_LOSSES = {
    "a running mean that begins with nothing": np.concatenate([[0.0], np.linspace(2.2, 0.2, 50)]),
    "a reward's, around 0": np.concatenate([[-0.04], 0.07 * np.sin(np.arange(50))]),
    "a generator's": np.linspace(0.6, 4.7, 51),
    "one with a penalty that grows": np.linspace(0.05, 0.55, 51),
}


@pytest.mark.parametrize("name", NO_LOSSES)
def test_a_loss_that_grows_while_the_objective_improves_or_has_no_start_is_not_judged(name: str) -> None:
    assert reason(NO_LOSSES[name], objective=RISES, baseline=None) == ""


@pytest.mark.parametrize("name", ["a generator's", "one with a penalty that grows"])
def test_a_loss_that_grows_while_the_objective_does_not_improve_has_diverged(name: str) -> None:
    assert reason(NO_LOSSES[name], objective=np.full(51, 0.9), baseline=None) == "diverged"
