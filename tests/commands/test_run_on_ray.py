"""Whole runs on a Ray that runs: what reaches the tables, whatever happens; `make clusters` runs this."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_clusters import RayNodes, need_ray
from study_calls import HERE, STUDY
from toy_trials import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

CALL_SECONDS = 300
UNCOMPARED = {"device", "attempts", "seconds_per_step", "seconds_to_best"}


class Case:
    """A study in a folder of its own, and calls of the command on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.study, self.folder, self.gate = root / "small.yaml", root / "runs" / "small", root / "gate"
        self.started: list[subprocess.Popen[str]] = []
        shutil.copy(HERE / "misbehaving.py", root / "misbehaving.py")

    def write(self, address: str, trials: int = 4, *, gated: bool = False) -> None:
        """Write the study; `gated` trials wait at their second update for the gate."""
        values = {
            "name": "small",
            "factory": "regression",
            "metric": "valid/distance",
            "steps": 40,
            "trials": trials,
            "retries": 1,
            "learning_rate": "learning_rate: {role: nuisance, range: [1e-3, 1e-1], scale: log}",
            "more": "  behaviour: gate\n  bad_update: 1" if gated else "",
        }
        ray = f"grace_seconds: 10, heartbeat_seconds: 0.5, devices: cpu, ray: {{address: '{address}'}}"
        self.study.write_text(STUDY.format(**values).replace("grace_seconds: 20", ray))

    def run(self, *options: str, backend: str = "ray") -> subprocess.Popen[str]:
        environ = {**os.environ, "TUNECTL_TEST_GATE": str(self.gate), "COLUMNS": "200"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tunectl", "run", "small.yaml", "--backend", backend, *options],
            cwd=self.root,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def to_end(self, process: subprocess.Popen[str], code: int = 0) -> str:
        text, _ = process.communicate(timeout=CALL_SECONDS)
        assert process.returncode == code, text
        return text

    def rows(self, folder: Path | None = None) -> list[dict[str, str]]:
        with open((folder or self.folder) / "tables" / "trials.csv", newline="") as file:
            return list(csv.DictReader(file))

    def results(self, folder: Path | None = None) -> list[dict[str, str]]:
        """The table of trials without times, devices and attempts."""
        return [
            {name: value for name, value in row.items() if name not in UNCOMPARED and not name.endswith("_seconds")}
            for row in self.rows(folder)
        ]

    def local_results(self) -> list[dict[str, str]]:
        self.gate.touch()
        self.to_end(self.run("--dir", "runs/local", "--quiet", backend="local"))
        return self.results(self.root / "runs" / "local")

    def attempts(self, trial: int) -> list[dict[str, object]]:
        path = self.folder / "trials" / f"{trial:05d}" / "attempts.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def until_claimed(self, count: int) -> None:
        claimed = self.folder / "claimed"
        wait_until(lambda: len(list(claimed.glob("*/claim.json"))) >= count, f"{count} trials are claimed", seconds=120)


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    need_ray()
    found = Case(tmp_path)
    yield found
    found.gate.touch()
    for process in found.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def nodes(case: Case) -> Iterator[RayNodes]:
    cluster = RayNodes({"TUNECTL_TEST_GATE": str(case.gate)})
    cluster.add(1)
    cluster.add(1)
    yield cluster
    cluster.close()


def test_a_study_on_a_local_ray_ends_as_without_and_leaves_nothing(case: Case) -> None:
    case.write("local")
    text = case.to_end(case.run())
    assert "Ray: a local cluster; each worker has 1 CPU" in text
    assert case.results() == case.local_results()
    assert [row["attempts"] for row in case.rows()] == ["1"] * 4
    assert not {"run.json", "offered", "claimed"} & {path.name for path in case.folder.iterdir()}


def test_ctrl_c_on_a_local_ray_lets_the_trials_save_and_the_same_command_goes_on(case: Case) -> None:
    case.write("local", trials=2, gated=True)
    first = case.run()
    case.until_claimed(1)
    first.send_signal(signal.SIGINT)
    case.to_end(first, code=130)
    assert {attempt["reason"] for attempt in case.attempts(0) + case.attempts(1)} <= {"cancelled"}
    case.gate.touch()
    case.to_end(case.run())
    assert case.results() == case.local_results()


def test_a_local_ray_cannot_be_left(case: Case) -> None:
    case.write("local", trials=2)
    text = case.to_end(case.run("--detach"), code=2)
    assert "--detach: expected workers that go on without this command; a local Ray ends with it" in text
    assert not {"run.json", "offered", "claimed"} & {path.name for path in case.folder.iterdir()}


def test_a_node_that_is_lost_costs_an_attempt_and_no_trial(case: Case, nodes: RayNodes) -> None:
    case.write(nodes.address, trials=3, gated=True)
    run = case.run()
    case.until_claimed(2)
    nodes.add(1)
    nodes.remove(0)
    case.gate.touch()
    case.to_end(run)
    assert [row["state"] for row in case.rows()] == ["completed"] * 3
    assert case.results() == case.local_results()


def test_a_run_that_is_killed_finds_its_workers_again(case: Case, nodes: RayNodes) -> None:
    case.write(nodes.address, trials=3, gated=True)
    first = case.run()
    case.until_claimed(2)
    first.kill()
    first.communicate()
    second = case.run()
    case.gate.touch()
    case.to_end(second)
    assert [row["attempts"] for row in case.rows()] == ["1"] * 3, "the trials went on undisturbed"
    assert case.results() == case.local_results()
