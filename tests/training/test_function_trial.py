"""A trial that is a function of the user's own."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from function_calls import Functions

import tunectl
from tunectl.core.errors import Infeasible, WorkloadError
from tunectl.store.trial_files import read_trial, write_measurements
from tunectl.training.function_trial import Trial
from tunectl.workloads.workload_import import factory_signature


@pytest.fixture
def functions(tmp_path: Path) -> Functions:
    return Functions(tmp_path)


def test_a_function_gets_its_hyperparameters_and_a_trial_to_record_to(functions: Functions) -> None:
    def train(trial: Trial, *, learning_rate: float, width: int) -> None:
        assert (learning_rate, width) == (0.1, 8)
        assert (trial.id, trial.seed, trial.device, trial.max_train_steps) == (7, 5, "cpu", 20)
        assert trial.hyperparameters == {"learning_rate": 0.1, "width": 8}
        assert trial.dir.is_dir()
        assert not trial.should_stop
        trial.record(10, {"train/loss": torch.tensor(0.5)})
        trial.record(10, {"valid/loss": 0.25})
        trial.record(20, {"valid/loss": 0.125})

    result = functions.run(train)
    assert result is not None
    assert (result.state, result.final_step) == ("completed", 20)
    assert functions.measured() == [(10, {"train/loss": 0.5, "valid/loss": 0.25}), (20, {"valid/loss": 0.125})]


def test_randomness_is_the_trial_s_own(functions: Functions) -> None:
    drawn = []

    def train(trial: Trial, **_values: Any) -> None:
        drawn.append((torch.rand(1).item(), random.random()))
        trial.record(20, {"valid/loss": 1.0})

    state = random.getstate()
    for _ in range(2):
        functions.run(train)
    random.setstate(state)
    assert drawn[0] == drawn[1]


def test_the_best_and_the_last_of_what_was_saved_are_kept(functions: Functions) -> None:
    def train(trial: Trial, **_values: Any) -> None:
        for step, value in ((5, 0.3), (10, 0.1), (15, 0.2), (20, 0.4)):
            trial.save(step, {"weights": torch.full((3,), float(step))})
            trial.record(step, {"valid/loss": value})

    functions.run(train)
    assert {path.name for path in (functions.folder.path / "files").iterdir()} == {
        "checkpoint-10.pt",
        "checkpoint-20.pt",
    }
    kept = {item.step: item.checkpoint for item in read_trial(functions.folder).measurements}
    assert kept[10] == "step-00000010.pt"
    loaded = torch.load(functions.folder.checkpoints / "step-00000010.pt", weights_only=True)
    assert loaded["content"]["weights"].tolist() == [10.0] * 3


def saving(trial: Trial, **_values: Any) -> None:
    saved = trial.resume()
    first = 0 if saved is None else saved["step"]
    for step in range(first + 5, 25, 5):
        trial.record(step, {"valid/loss": 1 / step, "from": first})
        trial.save(step, {"step": step})
        if step == 10 and saved is None:
            raise RuntimeError("the machine went down")


def test_a_function_goes_on_from_what_it_saved_last(functions: Functions) -> None:
    with pytest.raises(RuntimeError, match="went down"):
        functions.run(saving)
    with open(functions.folder.measurements, "a") as file:
        file.write('{"step": 13, "metrics": {"valid/loss": 9.0}, "kind": "evaluation", "elapsed_seconds": 1.0}\n')
    result = functions.run(saving, attempt=2)
    assert result is not None
    assert result.state == "completed"
    assert [(step, values["from"]) for step, values in functions.measured()] == [(5, 0), (10, 0), (15, 10), (20, 10)]


def test_the_time_of_what_a_function_goes_on_from_counts(functions: Functions) -> None:
    with pytest.raises(RuntimeError, match="went down"):
        functions.run(saving)
    known = read_trial(functions.folder).measurements
    write_measurements(functions.folder, [item._replace(elapsed_seconds=100.0 * item.step) for item in known])
    result = functions.run(saving, attempt=2)
    assert result is not None
    assert 1000 < result.train_seconds < 1100, "it went on from step 10"


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    functions: Functions, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError):
        functions.run(saving, keep_checkpoints=3)
    path = functions.folder.path / "files" / "checkpoint-10.pt"
    path.write_bytes(path.read_bytes()[:-20])
    functions.run(saving, keep_checkpoints=3)
    assert [(step, values["from"]) for step, values in functions.measured()][:2] == [(5, 0), (10, 5)]
    assert "checkpoint-10.pt is damaged" in capsys.readouterr().err


def test_a_function_that_does_not_resume_begins_anew(functions: Functions) -> None:
    for value in (0.5, 0.25):
        functions.run(lambda trial, value=value, **_: trial.record(20, {"valid/loss": value}))
    assert functions.measured() == [(20, {"valid/loss": 0.25})]


def test_resume_comes_first(functions: Functions) -> None:
    def train(trial: Trial, **_values: Any) -> None:
        trial.record(1, {"valid/loss": 1.0})
        trial.resume()

    with pytest.raises(RuntimeError, match="before the first"):
        functions.run(train)


def test_a_metric_that_is_nan_ends_the_function(functions: Functions) -> None:
    def train(trial: Trial, **_values: Any) -> None:
        trial.record(10, {"valid/loss": math.inf})
        trial.record(15, {"valid/loss": math.nan})
        raise AssertionError("it went on")

    result = functions.run(train)
    assert result is not None
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "nan_metric", 15)
    assert functions.measured()[-1][0] == 15


def test_the_function_may_say_that_the_hyperparameters_cannot_work(functions: Functions) -> None:
    def train(trial: Trial, **_values: Any) -> None:
        trial.record(10, {"valid/loss": 1.0})
        raise Infeasible("no head divides the width")

    result = functions.run(train)
    assert result is not None
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "no head divides the width", 10)


@pytest.mark.parametrize("error", [MemoryError("8 GiB"), torch.OutOfMemoryError("CUDA out of memory")])
def test_memory_that_runs_out_is_reported_as_such(functions: Functions, error: Exception) -> None:
    def train(trial: Trial, **_values: Any) -> None:
        raise error

    result = functions.run(train)
    assert result is not None
    assert (result.state, result.reason) == ("infeasible", "out_of_memory")


@pytest.mark.parametrize(("step", "state"), [(10, None), (20, "completed")])
def test_a_function_that_was_asked_to_stop_goes_on_later_unless_it_was_through(
    functions: Functions, step: int, state: str | None
) -> None:
    def train(trial: Trial, **_values: Any) -> None:
        functions.stopped = True
        assert trial.should_stop
        trial.record(step, {"valid/loss": 1.0})

    result = functions.run(train)
    assert (None if result is None else result.state) == state


@pytest.mark.parametrize("recorded", [{}, {"loss": 1.0}])
def test_a_function_that_never_records_the_objective_is_a_clear_failure(functions: Functions, recorded: Any) -> None:
    result = functions.run(lambda trial, **_: trial.record(20, recorded))
    assert result is not None
    assert (result.state, result.reason) == ("failed", "no_metric")
    assert "never recorded the objective valid/loss" in result.message
    assert ("; it recorded loss" in result.message) == bool(recorded)


def test_what_a_function_records_by_tunectl_record_belongs_to_its_trial(functions: Functions) -> None:
    def train(trial: Trial, **_values: Any) -> None:
        tunectl.record(1, {"valid/loss": 0.5})
        trial.record(2, {"valid/loss": 0.25})

    result = functions.run(train)
    assert result is not None
    assert (result.state, functions.measured()) == ("completed", [(1, {"valid/loss": 0.5}), (2, {"valid/loss": 0.25})])
    tunectl.record(3, {"valid/loss": 0.1})
    assert len(functions.measured()) == 2, "outside of it, nothing is recorded"


def test_a_function_that_a_call_does_not_run_is_refused() -> None:
    def trains_nothing(trial: Trial) -> Iterator[int]:
        trial.record(1, {"loss": 1.0})
        yield 1

    async def trains_later(trial: Trial) -> None:
        trial.record(1, {"loss": 1.0})

    for function in (trains_nothing, trains_later):
        with pytest.raises(WorkloadError, match=f"{function.__name__}: expected a plain function"):
            factory_signature(function, takes_trial=True)
    assert factory_signature(trains_nothing).parameters == ("trial",), "a workload's factory is another thing"


@pytest.mark.parametrize("step", [-1, 0.5])
def test_a_step_is_a_whole_number(functions: Functions, step: float) -> None:
    with pytest.raises(ValueError, match="expected a step that is a whole number"):
        functions.run(lambda trial, **_: trial.record(step, {"valid/loss": 1.0}))


class Best:
    """What a function may have in its state."""


def test_what_could_not_be_read_back_is_refused_at_the_first_save_by_its_key(functions: Functions) -> None:
    def train(trial: Trial, **_values: Any) -> None:
        trial.record(1, {"valid/loss": 1.0})
        trial.save(1, {"step": 1, "history": [{"best": Best()}]})

    with pytest.raises(WorkloadError, match=r"content\['history'\]\[0\]\['best'\] is of type .*Best"):
        functions.run(train)
    assert list((functions.folder.path / "files").iterdir()) == []


def test_state_with_numpy_s_numbers_dates_and_paths_comes_back(functions: Functions) -> None:
    saved = {"best": np.float64(0.1), "generator": np.random.get_state(), "at": datetime.date(2026, 1, 2)}
    found = []

    def train(trial: Trial, **_values: Any) -> None:
        found.append(trial.resume())
        trial.record(5, {"valid/loss": 1.0})
        trial.save(5, saved)
        if found == [None]:
            raise RuntimeError("the machine went down")

    with pytest.raises(RuntimeError):
        functions.run(train)
    functions.run(train, attempt=2)
    assert repr(found[1]) == repr(saved)


def saved_unreadably(trial: Trial, **_values: Any) -> None:
    for step in (5, 10):
        trial.record(step, {"valid/loss": 1.0})
        trial.save(step, {"step": step, "best": Best()})
    raise RuntimeError("the machine went down")


@pytest.mark.parametrize("goes_on_all_the_same", [True, False])
def test_a_whole_checkpoint_that_cannot_be_read_stops_the_trial_and_is_never_deleted(
    functions: Functions, monkeypatch: pytest.MonkeyPatch, goes_on_all_the_same: bool
) -> None:
    """As earlier versions saved it."""

    def careless(trial: Trial, **_values: Any) -> None:
        with contextlib.suppress(Exception):
            trial.resume()
        for step in (15, 20):
            trial.record(step, {"valid/loss": 0.5})
            trial.save(step, {"step": step})

    with monkeypatch.context() as patch:
        patch.setattr("tunectl.training.saved_state.check", lambda _parts: None)
        with pytest.raises(RuntimeError):
            functions.run(saved_unreadably, keep_checkpoints=1)
    path = functions.folder.path / "files" / "checkpoint-10.pt"
    before = path.read_bytes()
    measured = functions.measured()
    if goes_on_all_the_same:
        functions.run(careless, keep_checkpoints=1)
    else:
        with pytest.raises(
            WorkloadError, match=rf"{path} is whole, but cannot be loaded: it contains .*\.Best\. It is kept"
        ):
            functions.run(saving, keep_checkpoints=1)
        assert functions.measured() == measured
    assert path.read_bytes() == before


def test_a_checkpoint_later_than_the_recorded_metrics_is_skipped_and_kept(
    functions: Functions, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a failing disk may leave them; a power cut cannot."""
    with pytest.raises(RuntimeError):
        functions.run(saving, keep_checkpoints=3)
    lines = functions.folder.measurements.read_text().splitlines(keepends=True)
    functions.folder.measurements.write_text("".join(line for line in lines if json.loads(line)["step"] != 10))
    functions.run(saving, keep_checkpoints=3)
    assert [(step, values["from"]) for step, values in functions.measured()] == [(5, 0), (10, 5), (15, 5), (20, 5)]
    said = capsys.readouterr().err
    assert "checkpoint-10.pt is later than the last of its metrics on the disk" in said
    assert "kept as checkpoint-10.pt.kept-1: trial 7 goes on from checkpoint-5.pt" in said
    assert (functions.folder.path / "files" / "checkpoint-10.pt.kept-1").exists()
