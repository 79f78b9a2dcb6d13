"""The metrics of a program, collected by step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.measurements import Measurement
from tunectl.programs import collected_metrics
from tunectl.programs.collected_metrics import Collector
from tunectl.store.trial_files import read_trial


class Trial:
    """A collector and its file."""

    def __init__(self, root: Path, *, counts: bool = False) -> None:
        self.folder = TrialFolder(root)
        self.file = LineFile(self.folder.measurements)
        self.now = 0.0
        self.collector = Collector(lambda: self.now, counts=counts)

    def close(self) -> None:
        self.file.close()

    def measurements(self) -> list[tuple[int, dict[str, float]]]:
        self.collector.write(self.file)
        return [(item.step, dict(item.metrics)) for item in read_trial(self.folder).measurements]


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    made = Trial(tmp_path)
    yield made
    made.close()


def test_metrics_of_one_step_from_several_places_are_one_measurement(trial: Trial) -> None:
    trial.collector.add(10, {"train/loss": 0.5})
    trial.collector.add(10, {"valid/loss": 0.25})
    trial.collector.add(20, {"train/loss": 0.4})
    assert trial.measurements() == [(10, {"train/loss": 0.5, "valid/loss": 0.25}), (20, {"train/loss": 0.4})]


def test_metrics_after_the_first_nan_do_not_count(trial: Trial) -> None:
    # Hazard: how much of it is read before the program is stopped is chance, and it may be the best value.
    trial.collector.add(10, {"loss": 0.5})
    trial.collector.add(20, {"loss": math.nan})
    trial.collector.add(30, {"loss": 0.1})
    assert [step for step, _ in trial.measurements()] == [10, 20]
    assert (trial.collector.first_nan, trial.collector.last_step) == ((20, "loss"), 20)


def test_late_metrics_are_joined_with_those_of_their_step(trial: Trial) -> None:
    for step in (10, 20):
        trial.collector.add(step, {"train/loss": 1 / step})
        trial.collector.write(trial.file)
    trial.collector.add(10, {"valid/loss": 0.25})
    assert trial.measurements() == [(10, {"train/loss": 0.1, "valid/loss": 0.25}), (20, {"train/loss": 0.05})]


def test_metrics_without_a_step_belong_to_the_last_step(trial: Trial) -> None:
    trial.collector.add(10, {"train/loss": 0.5})
    trial.collector.add(None, {"valid/loss": 0.25})
    assert trial.measurements() == [(10, {"train/loss": 0.5, "valid/loss": 0.25})]


def test_metrics_are_counted_if_no_step_is_ever_given(tmp_path: Path) -> None:
    trial = Trial(tmp_path, counts=True)
    for value in (0.5, 0.25, 0.125):
        trial.collector.add(None, {"train/loss": value})
        trial.collector.add(None, {"valid/loss": value * 2})
    found = trial.measurements()
    trial.close()
    assert found == [
        (n, {"train/loss": value, "valid/loss": 2 * value}) for n, value in ((1, 0.5), (2, 0.25), (3, 0.125))
    ]


def test_nothing_new_writes_nothing(trial: Trial) -> None:
    for _ in range(2):
        trial.collector.add(10, {"loss": math.nan, "other": 1.0})
        trial.collector.write(trial.file)
    assert len(trial.folder.measurements.read_text().splitlines()) == 1


def test_the_first_nan_is_kept_and_infinity_is_a_number(trial: Trial) -> None:
    trial.collector.add(10, {"loss": math.inf})
    assert trial.collector.first_nan is None
    trial.collector.add(20, {"loss": math.nan})
    trial.collector.add(30, {"other": math.nan})
    assert trial.collector.first_nan == (20, "loss")


def test_learning_rate_and_gradient_norm_are_fields_of_the_measurement(trial: Trial) -> None:
    trial.now = 2.5
    trial.collector.add(10, {"loss": 0.5, "learning_rate": 0.1, "gradient_norm": 3.0})
    trial.collector.name_checkpoint(10, "step-00000010.pt")
    trial.collector.name_checkpoint(99, "there is no such step")
    trial.collector.write(trial.file)
    (found,) = read_trial(trial.folder).measurements
    assert found == Measurement(10, {"loss": 0.5}, "evaluation", 0.1, 3.0, 2.5, "step-00000010.pt")


def test_a_resumed_trial_keeps_its_measurements_and_its_time(trial: Trial) -> None:
    earlier = [Measurement(10, {"loss": 0.5}, elapsed_seconds=7.0, learning_rate=0.1, checkpoint="a")]
    trial.collector.begin_with(earlier)
    trial.now = 1.0
    trial.collector.add(20, {"loss": 0.25})
    trial.collector.name_checkpoint(10, None)
    trial.collector.write(trial.file)
    first, second = read_trial(trial.folder).measurements
    assert first == earlier[0]._replace(checkpoint=None)
    assert (second.step, second.elapsed_seconds) == (20, 8.0)
    assert trial.collector.names == {"loss", "learning_rate"}


def test_a_long_training_does_not_fill_the_memory(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected_metrics, "_STEPS_REMEMBERED", 500)
    for step in range(5000):
        trial.collector.add(step, {"loss": 1.0})
        if step == 7:
            trial.collector.name_checkpoint(step, "kept")
        if step % 100 == 0:
            trial.collector.write(trial.file)
    assert len(trial.collector.steps) < 1200
    assert trial.collector.value(7, "loss") == 1.0, "a checkpoint's value is needed to rank it"


def test_metrics_before_the_first_step_are_of_step_0(trial: Trial) -> None:
    trial.collector.add(None, {"valid/loss": 0.9})
    trial.collector.add(50, {"train/loss": 0.5})
    trial.collector.add(None, {"valid/loss": 0.45})
    assert trial.measurements() == [(0, {"valid/loss": 0.9}), (50, {"train/loss": 0.5, "valid/loss": 0.45})]
    assert (trial.collector.last_step, trial.collector.last_step_of("valid/loss")) == (50, 50)


def test_steps_that_go_back_do_not_move_the_last_step(trial: Trial) -> None:
    trial.collector.add(50, {"loss": 0.5})
    trial.collector.add(10, {"loss": 0.9})
    assert trial.collector.last_step == 50


def test_only_a_metric_that_is_marked_ends_a_trial(tmp_path: Path) -> None:
    collector = Collector(lambda: 0.0, ends_on_nan=lambda name: name == "loss")
    collector.add(1, {"eta": math.nan})
    assert collector.first_nan is None
    collector.add(2, {"loss": math.nan})
    assert collector.first_nan == (2, "loss")
