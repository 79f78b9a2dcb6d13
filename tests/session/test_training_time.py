"""How long training takes, with a backend in this process that writes what the trials would measure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tunectl.core.folders import StudyFolder
from tunectl.core.measurement_kinds import THROUGHPUT
from tunectl.core.records import PlannedTrial
from tunectl.execution.backends.backend import BackendEvent, ProcessEnded
from tunectl.execution.devices import Device
from tunectl.execution.slots import Slot
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.session.training_time import SECONDS_IN_ALL, SECONDS_OF_A_SETTING, training_time
from tunectl.space.trial_plan import plan_trials
from tunectl.store.trial_files import read_trial, write_measurements

STUDY = """\
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 100, eval_every: 50}
hyperparameters:
  width: {role: scientific, values: [8, 16, 32]}
  batch_size: {role: nuisance, values: [10, 20]}
  warmup_steps: 60
  learning_rate: 0.1
  optimizer: sgd
search: {sampler: grid}
"""


class Times:
    """A backend whose trials take `seconds` a step by their setting; None: nothing is measured, and they never end."""

    def __init__(self, trials: Sequence[PlannedTrial], seconds: Sequence[float | None]) -> None:
        self.of = {trial.trial: seconds[trial.setting] for trial in trials}
        self.requests: list[Mapping[str, Any]] = []
        self.killed: list[int] = []
        self.running: int | None = None

    def launch(self, trial: int, folder: Path, _slot: Slot, _attempt: int) -> None:
        self.running = trial
        place = StudyFolder(folder.parent.parent).trial(trial)
        self.requests.append(dict(read_trial(place).request or {}))
        seconds = self.of[trial]
        if seconds is not None:
            blocks = [(10, seconds), (20, 100 * seconds), (30, seconds)]
            metrics = [(step, {"seconds_per_step": time, "train_examples": 1197.0}) for step, time in blocks]
            write_measurements(place, [THROUGHPUT.measurement(step, found, 0.1) for step, found in metrics])

    def end_recorded(self, trial: int) -> None: ...

    def poll(self, _timeout: float) -> list[BackendEvent]:
        assert self.running is not None
        if self.of[self.running] is None and self.running not in self.killed:
            return []
        return [ProcessEnded(self.running, 0, None, 1.0)]

    def kill(self, trial: int) -> None:
        self.killed.append(trial)


@pytest.fixture
def checked(tmp_path: Path) -> CheckedStudy:
    (tmp_path / "study.yaml").write_text(STUDY)
    return check_study(tmp_path / "study.yaml", tmp_path)


def measured(checked: CheckedStudy, seconds: Sequence[float | None], tick: float = 0.0) -> tuple[Any, Times]:
    trials = plan_trials(checked.spec)
    backend, clock = Times(trials, seconds), itertools.count(0, tick)
    slot = Slot(0, Device("cpu"), {}, "cpu")
    return training_time(backend, checked, trials, slot, now=lambda: float(next(clock))), backend  # type: ignore[arg-type]


def test_the_time_is_that_of_every_trial_by_its_examples(checked: CheckedStudy) -> None:
    time, backend = measured(checked, [0.01, 0.02, 0.04])
    # 160 steps with the warmup, of 10 and of 20 examples; the median of the blocks counts; batches of 10 were timed.
    assert time.seconds == pytest.approx(160 * 3 * (0.01 + 0.02 + 0.04))
    assert (time.settings, time.step_seconds, time.train_examples) == (3, (0.01, 0.04), 1197)
    assert [request["kind"] for request in backend.requests] == ["throughput"] * 3
    assert [request["configuration"]["batch_size"] for request in backend.requests] == [10] * 3


def test_a_setting_that_is_too_slow_is_ended_and_counts_as_the_mean_of_the_others(checked: CheckedStudy) -> None:
    time, backend = measured(checked, [None, 0.02, 0.04], tick=SECONDS_OF_A_SETTING / 100)
    assert len(backend.killed) == 1
    assert time.settings < 3
    assert time.seconds is None, "a slow setting leaves no time for the others"
    assert SECONDS_OF_A_SETTING > SECONDS_IN_ALL


def test_settings_after_the_time_are_not_timed(checked: CheckedStudy) -> None:
    time, _ = measured(checked, [0.01, 0.02, 0.04], tick=SECONDS_IN_ALL / 4)
    assert time.settings == 2
    assert time.seconds == pytest.approx(160 * 3 * (0.01 + 0.02 + 0.015))


def test_where_nothing_could_be_timed_no_time_is_known(checked: CheckedStudy) -> None:
    time, _ = measured(checked, [None] * 3, tick=1.0)
    assert (time.seconds, time.settings, time.train_examples) == (None, 0, None)
