"""A study that is interrupted, killed, looked at and called twice: nothing is lost, nobody is left behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from study_calls import HERE, STUDY, Called

UNCOMPARED = frozenset({"train_seconds", "eval_seconds", "startup_seconds", "device"})
PATIENCE_SECONDS = 60.0
MORE = "  behaviour: slow\n  bad_update: -1"
STEPS = 300  # of 5 ms each: a trial is still at work when the first has ended


def table(folder: Path) -> list[list[str]]:
    with open(folder / "tables" / "trials.csv", newline="") as file:
        rows = list(csv.reader(file))
    kept = [index for index, name in enumerate(rows[0]) if name not in UNCOMPARED]
    return [[row[index] for index in kept] for row in rows]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three slow trials and, beside it in `reference`, an undisturbed run of it."""
    home = tmp_path_factory.mktemp("slow")
    shutil.copy(HERE / "misbehaving.py", home)
    rate = "learning_rate: {role: nuisance, range: [1e-3, 1e-1], scale: log}"
    values = {"name": "slow", "factory": "regression", "metric": "valid/distance", "steps": STEPS, "trials": 3}
    (home / "slow.yaml").write_text(STUDY.format(**values, retries=1, learning_rate=rate, more=MORE))
    command = [sys.executable, "-m", "tunectl", "run", home / "slow.yaml", "--dir", home / "reference", "--slots", "2"]
    subprocess.run(command, check=True, capture_output=True)
    return home / "slow.yaml"


@contextmanager
def running(study: Path, folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A run of the study on one slot, from the moment at which its first trial has ended."""
    command = [sys.executable, "-m", "tunectl", "run", str(study), "--dir", str(folder), "--slots", "1"]
    marked = {**environment, "TUNECTL_TEST": str(folder)}
    with subprocess.Popen(command, env=marked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "trial 0 completed" in process.stderr.readline()
            yield process
        finally:
            process.kill()


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def started_for(folder: Path) -> list[int]:
    """The living processes of a run: its folder stands in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                marked = f"TUNECTL_TEST={folder}".encode() in (entry / "environ").read_bytes().split(b"\0")
                if marked and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_ctrl_c_once_saves_what_runs_and_the_same_command_ends_as_if_undisturbed(
    study: Path, tmp_path: Path, environment: dict[str, str], tunectl: Callable[..., Called]
) -> None:
    folder = tmp_path / "out"
    with running(study, folder, environment) as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on from here" in err
    assert started_for(folder) == []
    states = tunectl("status", folder, "--json").json()["states"]
    assert (states["completed"], states["cancelled"], states["pending"]) == (1, 1, 1)
    assert (folder / "trials" / "00001" / "resume.pt").is_file()
    assert not (folder / "trials" / "00001" / "result.json").exists()
    assert tunectl("run", study, "--dir", folder).code == 0
    assert table(folder) == table(study.parent / "reference")


def test_ctrl_c_twice_ends_at_once_and_loses_nothing_that_was_finished(
    study: Path, tmp_path: Path, environment: dict[str, str], tunectl: Callable[..., Called]
) -> None:
    folder = tmp_path / "out"
    with running(study, folder, environment) as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 130
    assert started_for(folder) == []
    assert tunectl("status", folder, "--json").json()["states"]["completed"] >= 1
    assert tunectl("run", study, "--dir", folder).code == 0
    assert table(folder) == table(study.parent / "reference")


def test_a_killed_runner_leaves_no_process_and_its_study_goes_on(
    study: Path, tmp_path: Path, environment: dict[str, str], tunectl: Callable[..., Called]
) -> None:
    folder = tmp_path / "out"
    with running(study, folder, environment) as process:
        process.kill()
    wait_until(lambda: started_for(folder) == [])
    # The index of the killed runner says that a trial is running; status knows better.
    assert tunectl("status", folder, "--json").json()["states"]["running"] == 0
    assert tunectl("run", study, "--dir", folder, "--order", "reversed").code == 0
    assert table(folder) == table(study.parent / "reference")


def test_a_second_runner_is_refused_and_status_can_be_asked_during_a_run(
    study: Path, tmp_path: Path, environment: dict[str, str], tunectl: Callable[..., Called]
) -> None:
    folder = tmp_path / "out"
    with running(study, folder, environment) as process:
        status = tunectl("status", folder, "--json").json()
        second = tunectl("run", study, "--dir", folder)
        process.communicate()
    assert status["runner_alive"] is True
    assert status["states"]["running"] == 1
    assert status["running"][0]["steps"] == STEPS
    assert second.code == 3
    assert f"in use by process {process.pid}" in second.err
    assert process.returncode == 0
    assert table(folder) == table(study.parent / "reference")


def test_the_order_of_trials_and_the_number_of_slots_change_no_number(
    study: Path, tmp_path: Path, tunectl: Callable[..., Called]
) -> None:
    called = tunectl("run", study, "--dir", tmp_path / "out", "--slots", "3", "--order", "reversed", "--json")
    assert called.code == 0
    assert table(tmp_path / "out") == table(study.parent / "reference")
    lines = (tmp_path / "out" / "plan.jsonl").read_text().splitlines()
    assert [json.loads(line)["trial"] for line in lines] == [0, 1, 2]
