"""Whole runs on a Slurm that runs: what reaches the tables, whatever happens to the jobs; `make clusters` runs this."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from slurm_node import CPUS, SlurmNode, missing_programs, running_node, wait_for
from study_calls import HERE, STUDY

MISSING = missing_programs()
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

CALL_SECONDS = 300
UNCOMPARED = {"device", "attempts", "seconds_per_step", "seconds_to_best"}


@pytest.fixture(scope="module")
def node() -> Iterator[SlurmNode]:
    with running_node() as found:
        yield found


class Case:
    """A study in a folder of its own, and calls of the command on it."""

    def __init__(self, node: SlurmNode, root: Path) -> None:
        self.node, self.root = node, root
        self.study, self.folder, self.gate = root / "small.yaml", root / "runs" / "small", root / "gate"
        self.started: list[subprocess.Popen[str]] = []
        shutil.copy(HERE / "misbehaving.py", root / "misbehaving.py")

    def write(
        self, slurm: str = "", trials: int = 4, *, steps: int = 40, retries: int = 1, gated: bool = False
    ) -> None:
        """Write the study; `gated` trials wait at their second update for the gate, and then take 5 ms for each."""
        values = {
            "name": "small",
            "factory": "regression",
            "metric": "valid/distance",
            "steps": steps,
            "trials": trials,
            "retries": retries,
            "learning_rate": "learning_rate: {role: nuisance, range: [1e-3, 1e-1], scale: log}",
            "more": "  behaviour: gate\n  bad_update: 1" if gated else "",
        }
        text = STUDY.format(**values)
        wanted = f"grace_seconds: 5, heartbeat_seconds: 0.5, slurm: {{{slurm}}}"
        every = steps // 4 if gated else 10
        self.study.write_text(
            text.replace("grace_seconds: 20", wanted).replace("eval_every: 10", f"eval_every: {every}")
        )

    def run(self, *options: str, backend: str = "slurm") -> subprocess.Popen[str]:
        environ = {**self.node.environ, "TUNECTL_TEST_GATE": str(self.gate), "COLUMNS": "200"}
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

    def jobs(self, states: str = "all") -> Sequence[str]:
        return self.node.call("squeue", "--noheader", "--array", f"--states={states}", "--format=%i").split()

    def attempts(self, trial: int) -> list[dict[str, object]]:
        path = self.folder / "trials" / f"{trial:05d}" / "attempts.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def claims(self) -> list[str]:
        folder = self.folder / "claimed"
        return [path.name for path in folder.iterdir() if (path / "claim.json").exists()] if folder.exists() else []

    def until_claimed(self, count: int) -> None:
        wait_for(lambda: len(self.claims()) >= count, f"{count} trials are claimed")


@pytest.fixture
def case(node: SlurmNode, tmp_path: Path) -> Iterator[Case]:
    found = Case(node, tmp_path)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
            process.communicate()
    found.gate.touch()
    node.call("scancel", f"--user={os.getuid()}")
    wait_for(lambda: not node.call("squeue", "--noheader").strip(), "no job is left")


def test_a_study_ends_as_on_this_machine_and_leaves_no_job(case: Case) -> None:
    case.write("cpus_per_task: 2")
    text = case.to_end(case.run())
    assert "slurm: submitted 2 workers as job" in text
    assert case.results() == case.local_results()
    assert [row["attempts"] for row in case.rows()] == ["1"] * 4
    assert not (case.folder / "run.json").exists()
    wait_for(lambda: not case.jobs("R,PD"), "no job is left")
    assert sorted(path.suffix for path in (case.folder / "workers").glob("[0-9]*")) == [".log", ".log", ".sh"]


def test_a_cancelled_job_gives_its_trials_back_and_another_one_takes_them(case: Case) -> None:
    case.write(trials=2, steps=600, gated=True)
    case.gate.touch()
    process = case.run()
    case.until_claimed(2)
    case.node.call("scancel", case.jobs("R")[0])
    case.to_end(process)
    assert case.results() == case.local_results()
    assert sorted(row["attempts"] for row in case.rows()) == ["1", "2"]
    (attempt,) = case.attempts(0) + case.attempts(1)
    assert attempt["reason"] == "released (CANCELLED)"


def test_a_worker_that_is_killed_loses_its_trial_and_slurms_reason_is_in_the_attempt(case: Case) -> None:
    case.write(trials=1, steps=600, gated=True)
    process = case.run()
    case.until_claimed(1)
    (name,) = case.claims()
    os.kill(int(name.split("-")[-2]), signal.SIGKILL)
    wait_for(lambda: case.attempts(0), "the attempt is lost")
    case.gate.touch()
    case.to_end(process)
    assert case.results() == case.local_results()
    (attempt,) = case.attempts(0)
    assert attempt["reason"] == "lost (FAILED (signal 9))"
    assert "FAILED (signal 9)" in str(attempt["message"])


def test_a_trial_that_is_longer_than_its_job_goes_on_in_the_next_one(case: Case) -> None:
    case.write("time_minutes: 1", trials=1, steps=8_000, gated=True)
    case.gate.touch()
    case.to_end(case.run())
    assert case.results() == case.local_results()
    assert case.attempts(0), "the trial takes more than a minute"
    assert {str(item["reason"]) for item in case.attempts(0)} == {"released (TIMEOUT)"}
    assert "its time is nearly over" in "".join(log.read_text() for log in (case.folder / "workers").glob("*.log"))


def test_a_command_that_was_left_is_picked_up_again(case: Case) -> None:
    case.write(trials=3)
    text = case.to_end(case.run("--detach"))
    assert "slurm: submitted 3 workers" in text
    case.to_end(case.run())
    assert case.results() == case.local_results()
    assert [row["attempts"] for row in case.rows()] == ["1"] * 3


def test_a_runner_that_was_killed_finds_its_jobs_again(case: Case) -> None:
    case.write(trials=2, gated=True)
    process = case.run()
    case.until_claimed(2)
    process.kill()
    process.communicate()
    before = set(case.jobs())
    again = case.run()
    wait_for(lambda: (case.folder / "run.json").exists(), "it offers its trials again")
    case.gate.touch()
    case.to_end(again)
    assert set(case.jobs()) == before, "no other worker was needed"
    assert case.results() == case.local_results()
    assert [row["attempts"] for row in case.rows()] == ["1", "1"]


def test_while_a_node_is_drained_trials_wait(case: Case) -> None:
    case.write(f"cpus_per_task: {CPUS}")
    case.node.call("scontrol", "update", "NodeName=node1", "State=drain", "Reason=a test")
    process = case.run()
    wait_for(lambda: case.jobs("PD"), "the jobs wait")
    case.node.call("scontrol", "update", "NodeName=node1", "State=resume")
    case.to_end(process)
    assert case.results() == case.local_results()


def test_ctrl_c_without_a_terminal_leaves_the_jobs_at_work_and_stop_ends_them(case: Case) -> None:
    case.write(trials=2, steps=600, gated=True)
    case.gate.touch()
    process = case.run()
    case.until_claimed(2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=CALL_SECONDS)
    assert len(case.jobs("R")) == 2
    stop = [sys.executable, "-m", "tunectl", "stop", str(case.folder)]
    subprocess.run(stop, cwd=case.root, env=case.node.environ, check=True, capture_output=True, timeout=CALL_SECONDS)
    wait_for(lambda: not case.jobs("R,PD"), "no job is left")
    case.to_end(case.run())
    assert case.results() == case.local_results()


@pytest.mark.parametrize(
    ("slurm", "words"),
    [
        ("partition: nowhere", ["sbatch: invalid partition specified: nowhere"]),
        (
            "setup: [echo no such module >&2; exit 5]",
            [
                "workers that slurm started ended without having begun a trial",
                "FAILED (exit code 5)",
                "no such module",
            ],
        ),
    ],
)
def test_workers_that_cannot_start_end_the_run_with_slurms_words(case: Case, slurm: str, words: Sequence[str]) -> None:
    case.write(slurm)
    text = case.to_end(case.run(), code=2)
    assert all(word in text for word in words), text
