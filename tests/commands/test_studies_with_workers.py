"""Studies whose trials `tunectl worker` trains, by the commands: they end as on one machine, also after kills.

Tests session/work_elsewhere.py, session/left_offers.py and session/stopped_workers.py, too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from offered_studies import content_of
from study_calls import HERE, Called, call_in_process
from toy_trials import wait_until
from warm_server import ForkedProcess, WarmServers

from tunectl.core.folders import StudyFolder
from tunectl.session.continuing_command import continuing_command

STUDY = """\
study: shared
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
resources: {backend: external, devices: cpu, heartbeat_seconds: 0.5, grace_seconds: 20}
"""
OWN_CODE = """\
study: own
workload:
  command: [python, -S, program.py, "{lr}"]
  metrics: [{regex: 'step (?P<step>.) loss (?P<loss>\\S+)'}]
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 1}
hyperparameters:
  lr: {role: nuisance, values: [0.1, 0.2, 0.3, 0.4]}
search: {sampler: grid}
resources: {backend: external, devices: cpu, heartbeat_seconds: 0.5}
"""
PROGRAM = """\
import os, sys, time
print("step 1 loss", sys.argv[1], flush=True)
open(f"reached-{sys.argv[1]}.lock", "w").close()
while sys.argv[1] == "0.2" and not os.path.exists("gate.lock"):
    time.sleep(0.001)
"""
PLACES = ("offered", "claimed", "run.json", "run.beat")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose second trial waits at a gate and, beside it in `reference`, its run on this machine."""
    home = tmp_path_factory.mktemp("shared")
    shutil.copy(HERE / "misbehaving.py", home)
    (home / "shared.yaml").write_text(STUDY)
    (home / "open").touch()
    environment = {**os.environ, "TUNECTL_TEST_GATE": str(home / "open")}
    words = ["run", home / "shared.yaml", "--backend", "local", "--dir", home / "reference"]
    called = call_in_process(Path.cwd(), environment, *words)  # requests name files from the current folder
    assert called.code == 0, called.err
    return home / "shared.yaml"


class Running:
    """The processes of a test, in the background."""

    def __init__(self, stack: ExitStack, servers: WarmServers, environment: dict[str, str], folder: Path) -> None:
        self._stack, self._servers, self._environment, self.folder = stack, servers, environment, folder
        self.gate = folder.with_name("gate")
        environment["TUNECTL_TEST_GATE"] = str(self.gate)

    def start(self, *arguments: str | Path, output: Path | None = None) -> ForkedProcess:
        """Start a command; it is killed at the end of the test. `output` is a new file for what it prints."""
        opened = self.folder.with_name("output").open("a") if output is None else output.open("w")
        self._stack.enter_context(opened)
        process = self._servers.start_program([*map(str, arguments)], self._environment, opened, opened)
        self._stack.callback(process.wait)
        self._stack.callback(self.kill, process)
        return process

    @staticmethod
    def kill(process: ForkedProcess) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    @property
    def output(self) -> str:
        return self.folder.with_name("output").read_text()

    def until_offered(self) -> None:
        wait_until(lambda: (self.folder / "run.json").exists(), "trials are offered")

    @property
    def token(self) -> str:
        """What is another one for each call of a command that offers trials."""
        return str(json.loads((self.folder / "run.json").read_text())["token"])

    def until_at_the_gate(self) -> None:
        wait_until(lambda: self.gate.with_name("reached").exists(), "a worker has the second trial")


@pytest.fixture
def running(tmp_path: Path, fast_machine: WarmServers, environment: dict[str, str]) -> Iterator[Running]:
    with ExitStack() as stack:
        yield Running(stack, fast_machine, environment, tmp_path / "out")


def measured(trial: Path) -> dict[str, object]:
    """The files of a trial but that from which it goes on: it has the seconds that training took."""
    return {name: content for name, content in content_of(trial).items() if name != "resume.pt"}


def assert_as_on_one_machine(folder: Path, reference: Path) -> None:
    for trial in sorted((reference / "trials").iterdir()):
        assert measured(folder / "trials" / trial.name) == measured(trial), trial.name
    assert [name for name in PLACES if (folder / name).exists()] == []
    assert {path.name for path in (folder / "trials" / "00000").iterdir()} == {
        path.name for path in (reference / "trials" / "00000").iterdir()
    }


def test_two_workers_train_what_a_run_offers_as_the_run_itself_would(
    study: Path, running: Running, tunectl: Callable[..., Called]
) -> None:
    running.gate.touch()
    run = running.start("run", study, "--dir", running.folder)
    running.until_offered()
    worker = running.start("worker", running.folder, "--slots", "1")
    assert tunectl("worker", running.folder, "--slots", "1").code == 0
    assert run.wait() == 0, running.output
    assert worker.wait() == 0, running.output
    assert_as_on_one_machine(running.folder, study.with_name("reference"))


@pytest.mark.slow
def test_a_run_that_is_killed_is_continued_by_the_same_command_while_its_worker_goes_on(
    study: Path, running: Running
) -> None:
    run = running.start("run", study, "--dir", running.folder)
    running.until_offered()
    running.start("worker", running.folder, "--slots", "1")
    running.until_at_the_gate()
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = running.token
    again = running.start("run", study, "--dir", running.folder)
    wait_until(lambda: running.token != before, "the same command offers trials again")
    running.gate.touch()
    assert again.wait() == 0, running.output
    assert not (running.folder / "trials" / "00001" / "attempts.jsonl").exists(), "the attempt was never disturbed"
    assert_as_on_one_machine(running.folder, study.with_name("reference"))


def test_what_workers_print_to_a_file_in_the_folder_of_the_programs_counts_as_a_file_of_no_trial(
    running: Running, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "program.py").write_text(PROGRAM)
    (home / "own.yaml").write_text(OWN_CODE)
    run = running.start("run", home / "own.yaml", "--dir", running.folder)
    running.until_offered()
    first = running.start("worker", running.folder, "--slots", "1", output=home / "worker.log")
    wait_until(lambda: (home / "reached-0.2.lock").exists(), "the first worker has the second trial")
    running.kill(first)
    (home / "gate.lock").touch()
    running.start("worker", running.folder, "--slots", "1", output=home / "worker.log")
    assert run.wait() == 0, running.output
    findings = json.loads((running.folder / "findings.json").read_text())["findings"]
    assert [item for item in findings if item["id"] == "shared-files"] == []
    assert "worker.log" not in running.output


def test_a_run_that_is_left_is_trained_to_its_end_by_workers_and_picked_up_by_the_same_command(
    study: Path, running: Running, tmp_path: Path, tunectl: Callable[..., Called]
) -> None:
    folder = running.folder
    run = running.start("run", study, "--dir", folder)
    running.until_offered()
    worker = running.start("worker", folder, "--slots", "1")
    running.until_at_the_gate()
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 130, running.output
    assert "leaving the trials to their workers" in running.output
    status = tunectl("status", folder, "--json").json()
    assert [item["trial"] for item in status["workers"]] == [1]
    assert status["states"]["running"] == 1
    assert not status["runner_alive"]
    refused = tunectl("run", study, "--dir", folder, "--backend", "local")
    assert refused.code == 3
    assert "workers have trial 1" in refused.messages
    for command in (("mv", folder, tmp_path / "elsewhere"), ("stop", folder, "--trial", "1")):
        assert tunectl(*command).code in (2, 3), command
    assert folder.exists()
    running.gate.touch()
    assert worker.wait() == 0, running.output
    assert tunectl("run", study, "--dir", folder).code == 0
    assert_as_on_one_machine(folder, study.with_name("reference"))


def test_what_was_detached_can_be_stopped_and_nothing_is_left_of_it(
    study: Path, running: Running, tunectl: Callable[..., Called]
) -> None:
    folder = running.folder
    detached = tunectl("run", study, "--dir", folder, "--detach", "--json")
    assert detached.code == 0
    assert detached.json()["left"]
    assert sorted(path.name for path in (folder / "offered").iterdir()) == ["00000", "00001", "00002"]
    worker = running.start("worker", folder, "--slots", "1")
    running.until_at_the_gate()
    stopping = running.start("stop", folder)
    wait_until(lambda: any(folder.glob("claimed/*/stop.json")), "the worker is asked to stop")
    running.gate.touch()
    assert stopping.wait() == 0, running.output
    assert worker.wait() == 0
    assert [name for name in PLACES if (folder / name).exists()] == []
    states = tunectl("status", folder, "--json").json()["states"]
    assert states["running"] == 0
    assert not list(folder.glob("trials/*/offer.json"))
    called = tunectl("run", study, "--dir", folder, "--backend", "local")
    assert called.code == 0
    assert "this run trains with the backend local; the last run of this study trained with external" in called.messages
    assert continuing_command(StudyFolder(folder)).endswith(f" --dir {folder} --backend local")
    assert_as_on_one_machine_but_for_attempts(folder, study.with_name("reference"))


def assert_as_on_one_machine_but_for_attempts(folder: Path, reference: Path) -> None:
    for trial in sorted((reference / "trials").iterdir()):
        found, right = content_of(folder / "trials" / trial.name), content_of(trial)
        for name in ("checkpoints/step-00000060.pt", "measurements.jsonl", "steps.jsonl"):
            assert found.get(name) == right.get(name), (trial.name, name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--backend", "local", "--detach"), "--detach: expected trials that workers train"),
        (("--backend", "slurmm"), "--backend: expected local, external, slurm, ray, got slurmm; did you mean slurm"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_created(
    study: Path, tmp_path: Path, tunectl: Callable[..., Called], options: tuple[str, ...], words: str
) -> None:
    called = tunectl("run", study, "--dir", tmp_path / "out", *options)
    assert called.code == 2
    assert words in called.messages
    assert not (tmp_path / "out").exists()


def test_a_procedure_that_times_trials_needs_this_machine(study: Path, tunectl: Callable[..., Called]) -> None:
    called = tunectl("batch-size", study, "--at", "bad_update=-1", "--at", "learning_rate=0.01")
    assert called.code == 2
    assert "resources.backend: expected local for batch-size, which times trials on one machine" in called.messages
