"""The engine of Slurm on a Slurm that runs, with a program in place of the worker; `make clusters` runs this file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm_node import OTHER_PARTITION, PATIENCE_SECONDS, SlurmNode, missing_programs, running_node, wait_for

from tunectl.core.errors import TunectlError
from tunectl.execution.engines.slurm import SlurmEngine
from tunectl.execution.worker_engine import WorkerOrder
from tunectl.language.study_spec import ResourcesSection, SlurmSection

MISSING = missing_programs()
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

LONG_SECONDS = 240.0
"""Slurm looks at time limits every 30 seconds, and starts a requeued job after two minutes."""

STAND_IN = """\
import os, signal, sys, time
from pathlib import Path
from tunectl.commands.worker import _name
def note(text):
    print(text, flush=True)
    if text == os.environ.get("STAND_IN_ENDS_AT"):
        sys.exit(int(os.environ.get("STAND_IN_CODE", "0")))
for number in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, lambda found, frame: note(signal.Signals(found).name))
note("job " + _name(os.environ).job)
note("arguments " + " ".join(sys.argv[1:]))
note("started")
while True:
    signal.pause()
"""


@pytest.fixture(scope="module")
def node() -> Iterator[SlurmNode]:
    with running_node() as found:
        yield found


class Case:
    """An engine for one study folder, with STAND_IN as its workers."""

    def __init__(self, study: Path, section: SlurmSection) -> None:
        script = study.with_name("stand_in.py")
        script.write_text(STAND_IN)
        resources = ResourcesSection(slurm=section)
        self.said: list[str] = []
        self.order = WorkerOrder(study, resources, self.said.append, study / "workers", (sys.executable, str(script)))
        self.engine = SlurmEngine(self.order)

    def until(self, job: str, state: str, reason: str | None = None, seconds: float = PATIENCE_SECONDS) -> None:
        def is_so() -> bool:
            found = self.engine.jobs().get(job)
            return found is not None and found.state == state and reason in (None, found.reason)

        wait_for(is_so, f"job {job} is {state} ({reason}): {self.engine.jobs()}, {self.said}", seconds)

    def log(self, job: str) -> str:
        path = self.order.folder / f"{job}.log"
        return path.read_text() if path.exists() else ""

    def until_logged(self, job: str, text: str, seconds: float = PATIENCE_SECONDS) -> None:
        wait_for(lambda: text in self.log(job), f"{text} is in the log of job {job}", seconds)

    def submitted(self, workers: int) -> list[str]:
        before = set(self.engine.jobs())
        self.engine.submit(workers)
        return sorted(set(self.engine.jobs()) - before)


@pytest.fixture
def start(node: SlurmNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Case]]:
    for name, value in node.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    cases: list[Case] = []

    def made(section: SlurmSection | None = None, name: str = "a study, 100%") -> Case:
        study = tmp_path / name
        study.mkdir(exist_ok=True)
        cases.append(Case(study, section or SlurmSection()))
        return cases[-1]

    yield made
    for case in cases:
        case.engine.cancel()
        case.engine.close()
    node.call("scancel", "--signal=KILL", "--full", f"--user={os.getuid()}")
    wait_for(lambda: not node.call("squeue", "--noheader").strip(), "no job is left")


def test_workers_of_an_array_run_write_their_logs_and_end_when_they_are_cancelled(start) -> None:
    case = start(SlurmSection(setup=("export STAND_IN_ENDS_AT=SIGTERM", "false", "# a comment")))
    first, second = case.submitted(2)
    for job in (first, second):
        case.until(job, "running")
        case.until_logged(job, "started")
        assert f"job {job}\n" in case.log(job)
        assert "arguments -m tunectl worker" in case.log(job)
        assert "line 2 of resources.slurm.setup ended with exit code 1" in case.log(job)
        assert case.engine.jobs()[job].log == case.order.folder / f"{job}.log"
        assert case.engine.knows(job) is True
    case.engine.cancel()
    for job in (first, second):
        case.until(job, "ended", "CANCELLED")
        case.until_logged(job, "SIGTERM")
        assert case.engine.knows(job) is False


def test_jobs_wait_their_turn_and_slurm_says_why(start) -> None:
    case = start(SlurmSection(cpus_per_task=8))
    first, second = case.submitted(2)
    case.until(first, "running")
    case.until(second, "queued", "Resources")
    later = start()
    assert {job: found.state for job, found in later.engine.jobs().items()} == {first: "running", second: "queued"}


def test_an_exit_code_is_the_reason_and_a_job_that_ends_by_itself_has_none(start) -> None:
    case = start(SlurmSection(setup=("export STAND_IN_ENDS_AT=started", "export STAND_IN_CODE=$SLURM_ARRAY_TASK_ID")))
    first, second = case.submitted(2)
    case.until(first, "ended", "")
    case.until(second, "ended", "FAILED (exit code 1)")


def test_a_job_is_warned_ahead_of_its_time_limit_and_one_that_goes_on_is_ended_by_it(start) -> None:
    warned = start(SlurmSection(time_minutes=1, setup=("export STAND_IN_ENDS_AT=SIGUSR2",)))
    deaf = start(SlurmSection(time_minutes=1), "deaf")
    (first,), (second,) = warned.submitted(1), deaf.submitted(1)
    warned.until_logged(first, "SIGUSR2", LONG_SECONDS)
    warned.until(first, "ended", "")
    deaf.until(second, "ended", "TIMEOUT", LONG_SECONDS)
    assert "SIGUSR2" in deaf.log(second).split("SIGTERM")[0]


def test_a_requeued_job_is_another_worker_and_its_log_goes_on(start, node) -> None:
    case = start(SlurmSection(setup=("export STAND_IN_ENDS_AT=SIGTERM",)))
    (job,) = case.submitted(1)
    case.until_logged(job, "started")
    node.call("scontrol", "requeue", job)
    case.until(job, "ended", "REQUEUED")
    case.until(f"{job}r1", "queued")
    assert (case.engine.knows(job), case.engine.knows(f"{job}r1")) == (False, True)
    case.until_logged(job, f"job {job}r1\n", LONG_SECONDS)
    case.until(f"{job}r1", "running")
    assert f"job {job}\n" in case.log(job)


def test_a_job_that_is_pre_empted_is_asked_to_end_and_starts_again_later(start) -> None:
    case = start(SlurmSection(cpus_per_task=8, setup=("export STAND_IN_ENDS_AT=SIGTERM",)))
    urgent = start(SlurmSection(cpus_per_task=8, partition=OTHER_PARTITION), "urgent")
    (job,) = case.submitted(1)
    case.until_logged(job, "started")
    (other,) = urgent.submitted(1)
    case.until_logged(job, "SIGTERM")
    case.until(job, "ended", "PREEMPTED")
    case.until(f"{job}r1", "queued")
    urgent.until(other, "running")


def test_a_node_that_fails_ends_its_jobs_which_start_again_and_one_that_is_drained_starts_none(start, node) -> None:
    case = start()
    (first,) = case.submitted(1)
    case.until(first, "running")
    node.call("scontrol", "update", "NodeName=node1", "State=drain", "Reason=a test")
    (second,) = case.submitted(1)
    case.until(second, "queued")
    case.until(first, "running")
    node.call("scontrol", "update", "NodeName=node1", "State=resume")
    case.until(second, "running")
    node.call("scontrol", "update", "NodeName=node1", "State=down", "Reason=a test")
    for job in (first, second):
        case.until(job, "ended", "NODE_FAIL")
        case.until(f"{job}r1", "queued")
    wait_for(lambda: node.call("sinfo", "--noheader", "--format=%T").startswith("idle"), "the node is back")


def test_what_slurm_refuses_is_said_in_its_own_words(start) -> None:
    case = start(SlurmSection(partition="nowhere"))
    with pytest.raises(TunectlError, match=r"sbatch: .*invalid partition"):
        case.engine.submit(1)


def test_a_job_of_another_name_is_asked_for_by_its_id(start, node, monkeypatch) -> None:
    monkeypatch.setattr("tunectl.execution.engines.slurm_foreign.LATE_SECONDS", 1.0)
    case = start()
    text = node.call("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 1000")
    job = text.strip()
    wait_for(lambda: case.engine.knows(job) is True, "squeue knows the job")
    node.call("scancel", job)
    wait_for(lambda: case.engine.knows(job) is False, "squeue knows that it has ended")
    wait_for(lambda: case.engine.knows("999999") is False, "squeue knows no such job")


def test_a_controller_that_is_away_for_a_while_ends_no_job(start, node, tmp_path: Path, monkeypatch) -> None:
    case = start()
    (job,) = case.submitted(1)
    case.until(job, "running")
    conf = tmp_path / "slurm.conf"
    lines = (node.folder / "slurm.conf").read_text().splitlines()
    conf.write_text("\n".join("SlurmctldPort=1" if line.startswith("SlurmctldPort") else line for line in lines))
    with monkeypatch.context() as away:
        away.setenv("SLURM_CONF", str(conf))
        wait_for(lambda: case.engine.knows(job) is None, "nothing is known of the job", LONG_SECONDS)
        assert case.engine.jobs()[job].state == "running"

        def is_said() -> bool:
            assert case.engine.jobs()[job].state == "running"
            return any("the jobs count as they were last known" in line for line in case.said)

        wait_for(is_said, "it is said that squeue does not answer", LONG_SECONDS)
    wait_for(lambda: case.engine.knows(job) is True, "squeue answers again")
