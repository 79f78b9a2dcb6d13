"""A study that is interrupted, killed, read and called twice: nothing is lost, and no process is left behind."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from forked_programs import ForkedProgram, forked_program, started_for, wait_until
from study_calls import HERE, Called, call_in_process
from warm_server import WarmServers

UNCOMPARED = frozenset({"train_seconds", "eval_seconds", "startup_seconds", "device", "attempts"})
STEPS = 60
SLOW = """\
study: gated
workload: ./misbehaving.py:regression
objective: {metric: valid/distance, direction: minimize}
training: {max_train_steps: 60, eval_every: 10, keep_checkpoints: 2}
hyperparameters:
  optimizer: momentum
  learning_rate: {role: nuisance, range: [1e-3, 1e-1], scale: log}
  batch_size: 16
  behaviour: gate
  bad_update: {role: nuisance, values: [-1, 7]}  # at update 7 a trial waits until the test opens the gate
search:
  points:
    - {learning_rate: 0.01, bad_update: -1}
    - {learning_rate: 0.02, bad_update: 7}
    - {learning_rate: 0.03, bad_update: -1}
"""


Running = Callable[[], AbstractContextManager[ForkedProgram]]


def table(folder: Path) -> list[list[str]]:
    with open(folder / "tables" / "trials.csv", newline="") as file:
        rows = list(csv.reader(file))
    kept = [index for index, name in enumerate(rows[0]) if name not in UNCOMPARED]
    return [[row[index] for index in kept] for row in rows]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose second trial waits at a gate and, beside it in `reference`, an undisturbed run of it."""
    home = tmp_path_factory.mktemp("gated")
    shutil.copy(HERE / "misbehaving.py", home)
    (home / "gated.yaml").write_text(SLOW)
    (home / "open").touch()
    environment = {**os.environ, "TUNECTL_TEST_GATE": str(home / "open")}
    called = call_in_process(home, environment, "run", home / "gated.yaml", "--dir", home / "reference")
    assert called.code == 0, called.err
    return home / "gated.yaml"


@pytest.fixture
def gate(tmp_path: Path, environment: dict[str, str]) -> Path:
    """The gate of the runs that this test starts; it opens when the test creates the file."""
    environment["TUNECTL_TEST_GATE"] = str(tmp_path / "gate")
    return tmp_path / "gate"


@pytest.fixture
def running(fast_machine: WarmServers, study: Path, tmp_path: Path, environment: dict[str, str]) -> Running:
    @contextmanager
    def started() -> Iterator[ForkedProgram]:
        """A run of the study on one slot: its first trial has ended, its second waits at the gate."""
        folder = tmp_path / "out"
        marked = {**environment, "TUNECTL_TEST": str(folder)}
        with forked_program(fast_machine, ["run", study, "--dir", folder, "--slots", "1"], marked) as program:
            program.read_until("trial 0 completed")
            wait_until(Path(environment["TUNECTL_TEST_GATE"]).with_name("reached").exists)
            assert program.pid in started_for(folder)
            yield program

    return started


def test_ctrl_c_once_saves_what_runs_and_the_same_command_ends_as_if_undisturbed(
    study: Path, tmp_path: Path, gate: Path, running: Running, tunectl: Callable[..., Called]
) -> None:
    folder = tmp_path / "out"
    with running() as process:
        process.send_signal(signal.SIGINT)
        process.read_until("stopping")
        gate.touch()
        _, err = process.communicate()
    assert process.returncode == 130
    assert "run the same command to resume" in err
    assert started_for(folder) == []
    states = tunectl("status", folder, "--json").json()["states"]
    assert (states["completed"], states["cancelled"], states["pending"]) == (1, 1, 1)
    assert (folder / "trials" / "00001" / "resume.pt").is_file()
    assert not (folder / "trials" / "00001" / "result.json").exists()
    assert tunectl("run", study, "--dir", folder).code == 0
    assert table(folder) == table(study.parent / "reference")


def test_ctrl_c_twice_ends_at_once_and_loses_nothing_that_was_finished(
    study: Path, tmp_path: Path, gate: Path, running: Running, tunectl: Callable[..., Called]
) -> None:
    folder = tmp_path / "out"
    with running() as process:
        process.send_signal(signal.SIGINT)
        process.read_until("stopping")
        process.send_signal(signal.SIGTERM)
        process.communicate()  # the trial still waits at its gate: it was killed
    assert process.returncode == 130
    assert started_for(folder) == []
    assert tunectl("status", folder, "--json").json()["states"]["completed"] == 1
    gate.touch()
    assert tunectl("run", study, "--dir", folder).code == 0
    assert table(folder) == table(study.parent / "reference")


def test_a_killed_runner_leaves_no_process_and_its_study_goes_on(
    study: Path, tmp_path: Path, gate: Path, running: Running, tunectl: Callable[..., Called]
) -> None:
    folder = tmp_path / "out"
    with running() as process:
        process.kill()
    wait_until(lambda: started_for(folder) == [])
    # The index of the killed runner says that a trial is running; status knows better, once the last process that was
    # killed has let go of the folder's lock.
    wait_until(lambda: tunectl("status", folder, "--json").json()["states"]["running"] == 0)
    gate.touch()
    assert tunectl("run", study, "--dir", folder, "--order", "reversed", "--slots", "3").code == 0
    assert table(folder) == table(study.parent / "reference")


def test_a_second_runner_is_refused_and_status_can_be_asked_during_a_run(
    study: Path, tmp_path: Path, gate: Path, running: Running, tunectl: Callable[..., Called]
) -> None:
    folder = tmp_path / "out"
    with running() as process:
        status = tunectl("status", folder, "--json").json()
        second = tunectl("run", study, "--dir", folder)
        gate.touch()
        process.communicate()
    assert status["runner_alive"] is True
    assert status["states"]["running"] == 1
    assert [(trial["trial"], trial["steps"]) for trial in status["running"]] == [(1, STEPS)]
    assert second.code == 3
    assert f"in use by process {process.pid}" in second.err
    assert process.returncode == 0
    assert table(folder) == table(study.parent / "reference")


@pytest.mark.slow
def test_a_run_that_was_paused_and_stopped_goes_on_as_if_undisturbed_and_leaves_out_what_was_stopped_for_good(
    study: Path,
    tmp_path: Path,
    environment: dict[str, str],
    gate: Path,
    fast_machine: WarmServers,
    running: Running,
    tunectl: Callable[..., Called],
) -> None:
    folder = tmp_path / "out"
    with running() as process:
        with forked_program(fast_machine, ["pause", folder], environment) as asked:
            process.read_until("paused by `tunectl pause`")
            gate.touch()
            said, _ = asked.communicate()
        assert said.startswith("paused: no trial is running; 1 trial saved and will go on\n")
        status = tunectl("status", folder, "--json").json()
        assert (status["paused"], status["states"]["running"]) == (True, 0)
        stopped = tunectl("stop", folder, "--trial", 2)
        again = tunectl("stop", folder / "0")
        whole = tunectl("stop", folder)
        process.communicate()
    assert (stopped.code, again.code, whole.code, process.returncode) == (0, 2, 0, 130)
    assert stopped.out.startswith("trial 2 is cancelled, before its first step; `tunectl resume ")
    assert "trial 0 has ended already: it is completed" in again.err
    assert whole.out.startswith(f"the run (process {process.pid} on ")
    assert tunectl("stop", folder).out == f"{folder}: no run is at work, nothing to stop\n"
    assert tunectl("pause", folder).code == tunectl("resume", folder).code == 2
    assert not (folder / "requests").exists()

    called = tunectl("run", study, "--dir", folder)
    assert called.code == 0, "a trial that was stopped for good has ended"
    assert "stopped by `tunectl stop`: 2; --retry-failed runs them after all" in called.err
    states = tunectl("status", folder, "--json").json()["states"]
    assert (states["completed"], states["cancelled"]) == (2, 1)
    assert tunectl("run", study, "--dir", folder, "--retry-failed").code == 0
    assert table(folder) == table(study.parent / "reference")
