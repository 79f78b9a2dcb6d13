"""`tunectl worker`: offered trials are trained by workers on any host, byte by byte as by a run without workers.

Tests commands/worker.py and cli/worker.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from offered_studies import content_of, offered_again
from study_calls import HERE, Called, call_in_process
from toy_trials import wait_until
from warm_server import ForkedProcess, WarmServers

from tunectl.cli.worker import _summary
from tunectl.commands.worker import WorkerRequest, _check_time, _ends_at, _name, _opened, run_worker
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.execution import processes
from tunectl.execution.worker_engine import TIME_IS_SHORT
from tunectl.execution.worker_options import WorkerReport
from tunectl.execution.worker_stops import WorkerStops
from tunectl.store import claimed_trials, lost_claims, offered_trials
from tunectl.store.claimed_trials import ClaimedTrial
from tunectl.store.offered_trials import Offer

PATIENCE_SECONDS = 90.0
GATED = """\
study: gated
workload: ./misbehaving.py:regression
objective: {metric: valid/distance, direction: minimize}
training: {max_train_steps: 40, eval_every: 10, keep_checkpoints: 2}
hyperparameters:
  optimizer: momentum
  learning_rate: {role: nuisance, range: [1e-3, 1e-1], scale: log}
  batch_size: 16
  behaviour: gate
  bad_update: {role: nuisance, values: [-1, 17]}  # at update 17 a trial waits until the test opens the gate
search:
  points:
    - {learning_rate: 0.01, bad_update: -1}
    - {learning_rate: 0.02, bad_update: 17}
    - {learning_rate: 0.03, bad_update: -1}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study, trained by `tunectl run`."""
    home = tmp_path_factory.mktemp("gated")
    shutil.copy(HERE / "misbehaving.py", home)
    (home / "gated.yaml").write_text(GATED)
    (home / "open").touch()
    environment = {**os.environ, "TUNECTL_TEST_GATE": str(home / "open")}
    called = call_in_process(home, environment, "run", "gated.yaml", "--dir", "trained", "--quiet")
    assert called.code == 0, called.err
    return home / "trained"


@pytest.fixture
def gate(tmp_path: Path, environment: dict[str, str]) -> Path:
    environment["TUNECTL_TEST_GATE"] = str(tmp_path / "gate")
    return tmp_path / "gate"


@pytest.fixture
def study(trained: Path, tmp_path: Path) -> StudyFolder:
    """The same study, with all trials offered."""
    return offered_again(trained, tmp_path / "study", heartbeat_seconds=0.2)


@dataclass(frozen=True)
class Worker:
    """A process of a worker, and the files of its output."""

    process: ForkedProcess | subprocess.Popen[bytes]
    out: IO[str]
    err: IO[str]

    def ended(self) -> tuple[int, str, str]:
        """Wait for its end: its exit code and its output."""
        code = self.process.wait(PATIENCE_SECONDS)
        return code, Path(self.out.name).read_text(), Path(self.err.name).read_text()


Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path, fast_machine: WarmServers, environment: Mapping[str, str]) -> Iterator[Start]:
    """Start workers with one slot, as forks, or really with the words `before` it; they are killed in the end."""
    with ExitStack() as stack:

        def started(folder: Path, before: Sequence[str] = ()) -> Worker:
            number = len(list(tmp_path.glob("*.out")))
            out, err = (stack.enter_context((tmp_path / f"{number}.{name}").open("w")) for name in ("out", "err"))
            words = ["worker", str(folder), "--slots", "1", "--no-wait"]
            process: ForkedProcess | subprocess.Popen[bytes]
            if before:
                command = [*before, sys.executable, "-m", "tunectl", *words]
                process = subprocess.Popen(command, env=environment, stdout=out, stderr=err)
            else:
                process = fast_machine.start_program(words, environment, out, err)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return Worker(process, out, err)

        yield started


def at_the_gate(gate: Path, study: StudyFolder) -> ClaimedTrial:
    """The claim of the trial that waits at the gate, after its checkpoint at step 10."""
    wait_until(gate.with_name("reached").exists, "a trial waits at the gate")
    return next(claimed for claimed in claimed_trials.claimed_trials(study) if claimed.trial == 1)


def assert_as_trained(study: StudyFolder, trained: Path) -> None:
    lost_claims.finish_taking_back(study)
    lost_claims.forget_shut_out(study)
    assert list(study.offered.iterdir()) == list(study.claimed.iterdir()) == []
    for trial in range(3):
        home = offered_trials.home_folder(study, trial)
        offered_trials.remove_marks(home)
        assert content_of(home.path) == content_of(trained / "trials" / f"{trial:05d}"), f"trial {trial}"


@pytest.mark.slow
def test_two_workers_train_each_trial_once_and_as_without_workers(
    study: StudyFolder, trained: Path, gate: Path, start: Start
) -> None:
    gate.touch()
    both = [start(study.path) for _ in range(2)]
    seen = [each.ended() for each in both]
    assert [code for code, _, _ in seen] == [0, 0]
    claims = [line for _, _, err in seen for line in err.splitlines() if "claimed" in line]
    assert sorted(line.partition(":")[0] for line in claims) == ["trial 0", "trial 1", "trial 2"]
    assert_as_trained(study, trained)


def test_the_trial_of_a_killed_worker_goes_on_at_another_one_and_no_process_is_left(
    study: StudyFolder, trained: Path, gate: Path, start: Start, tunectl: Callable[..., Called]
) -> None:
    process = start(study.path, before=["env", f"TUNECTL_TEST={study.path}"]).process
    claimed = at_the_gate(gate, study)
    process.kill()
    process.wait()
    wait_until(lambda: not marked_processes(study.path), "the fork server and the trial have ended")
    assert lost_claims.take_back(claimed)
    offered_trials.offer_trial(study, Offer(1, 1))
    gate.touch()
    assert tunectl("worker", study.path, "--slots", "1", "--no-wait").code == 0
    assert_as_trained(study, trained)


def marked_processes(mark: Path) -> list[int]:
    text = f"TUNECTL_TEST={mark}".encode()
    found = []
    for entry in processes.PROC.glob("[0-9]*"):
        try:
            if text in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_worker_that_is_terminated_saves_its_trial_which_another_one_goes_on_with(
    study: StudyFolder, trained: Path, gate: Path, start: Start, tunectl: Callable[..., Called]
) -> None:
    worker = start(study.path)
    at_the_gate(gate, study)
    worker.process.send_signal(signal.SIGTERM)
    gate.touch()
    code, out, err = worker.ended()
    assert code == 130
    assert "trial 1: released: its worker was asked to stop" in " ".join(err.split())
    assert "the worker has ended: it was asked to stop" in out
    home = offered_trials.home_folder(study, 1)
    assert home.resume.exists()
    assert not home.result.exists()
    offered_trials.offer_trial(study, Offer(1, 1))
    assert tunectl("worker", study.path, "--slots", "1", "--no-wait").code == 0
    assert_as_trained(study, trained)


def test_a_suspended_worker_that_comes_back_leaves_the_trial_to_the_one_that_took_over(
    study: StudyFolder, trained: Path, gate: Path, start: Start, tunectl: Callable[..., Called]
) -> None:
    first = start(study.path)
    claimed = at_the_gate(gate, study)
    first.process.send_signal(signal.SIGSTOP)
    assert lost_claims.take_back(claimed)
    offered_trials.offer_trial(study, Offer(1, 1))
    gate.touch()  # the trial of the suspended worker goes on, too
    assert tunectl("worker", study.path, "--slots", "1", "--no-wait").code == 0
    first.process.send_signal(signal.SIGCONT)
    code, out, err = first.ended()
    assert code == 0
    assert "trial 1: was taken over" in " ".join(err.split())
    assert "1 taken over by others" in " ".join(out.split())
    assert_as_trained(study, trained)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a folder in a second place")
def test_workers_that_see_the_folder_in_different_places_share_its_trials(
    study: StudyFolder, trained: Path, gate: Path, start: Start, tmp_path: Path
) -> None:
    gate.touch()
    elsewhere = tmp_path / "mounted here"
    elsewhere.mkdir()
    script = 'mount --bind "$0" "$1" && shift && exec "$@"'
    mounted = ["unshare", "--mount", "sh", "-c", script, str(study.path), str(elsewhere)]
    if subprocess.run([*mounted, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no folder can be mounted here")
    one, other = start(elsewhere, before=mounted), start(study.path)
    seen = [one.ended(), other.ended()]
    assert [code for code, _, _ in seen] == [0, 0]
    claims = [line.partition(":")[0] for _, _, err in seen for line in err.splitlines() if "claimed" in line]
    assert sorted(claims) == ["trial 0", "trial 1", "trial 2"]
    assert_as_trained(study, trained)


def test_a_workload_that_cannot_be_imported_here_is_exit_code_2_and_claims_nothing(
    study: StudyFolder, trained: Path, tunectl: Callable[..., Called]
) -> None:
    code = trained.parent / "misbehaving.py"
    code.rename(code.with_suffix(".away"))
    try:
        called = tunectl("worker", "study")
    finally:
        code.with_suffix(".away").rename(code)
    assert called.code == 2
    assert "misbehaving.py" in called.messages
    assert offered_trials.offered_trials(study) == [0, 1, 2]


def test_a_folder_without_a_run_that_offers_is_said_and_no_error(
    study: StudyFolder, tunectl: Callable[..., Called]
) -> None:
    study.run_state.unlink()
    called = tunectl("worker", "study", "--idle-seconds", "0")
    assert (called.code, called.err) == (0, "")
    assert "no run offers trials to workers here" in called.out


def test_a_folder_that_is_no_study_folder_is_exit_code_3(tmp_path: Path, tunectl: Callable[..., Called]) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").touch()
    called = tunectl("worker", tmp_path / "notes")
    assert called.code == 3
    assert "is not a study folder" in called.messages


def test_a_folder_that_no_run_has_made_yet_is_exit_code_3_and_says_what_makes_it(
    tmp_path: Path, tunectl: Callable[..., Called]
) -> None:
    for idle in ((), ("--idle-seconds", "0.3")):
        called = tunectl("worker", tmp_path / "nothing", *idle)
        assert called.code == 3
        assert "`tunectl run STUDY --backend external` makes it" in called.messages


def test_a_worker_with_idle_seconds_waits_for_the_folder_that_a_run_makes(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = study.path.rename(tmp_path / "away")
    monkeypatch.setattr("tunectl.commands.worker.select.select", lambda *_: away.rename(study.path))
    stops = WorkerStops()
    assert _opened(WorkerRequest(study.path, idle_seconds=60.0), stops).path == study.path
    study.path.rename(away)
    stops.take_signal(signal.SIGTERM)
    with pytest.raises(FolderError, match="is not a study folder yet"):
        _opened(WorkerRequest(study.path, idle_seconds=60.0), stops)


def test_a_time_in_which_nothing_can_be_trained_is_refused_with_the_smallest_useful_one(
    study: StudyFolder, tunectl: Callable[..., Called]
) -> None:
    called = tunectl("worker", "study", "--stop-after-seconds", "29")
    assert called.code == 2
    assert "saving may take 20 s (resources.grace_seconds)" in called.messages
    assert "give at least 30" in called.messages
    _check_time(study, 30.0)
    study.run_state.unlink()  # before a run offers trials, the study says it
    with pytest.raises(UsageError, match="give at least 40"):
        _check_time(study, 39.0)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (
            WorkerReport(1, 0, 0, "the run is over", stopped=2, crashed=1),
            "1 ended here, 2 stopped as the run has asked",
        ),
        (WorkerReport(0, 2, 0, TIME_IS_SHORT), f"{TIME_IS_SHORT}; trials: 0 ended here, 2 released"),
        (WorkerReport(0, 0, 0, TIME_IS_SHORT), "before it could train a trial"),
    ],
)
def test_the_last_line_counts_apart_what_ended_and_what_may_go_on(report: WorkerReport, words: str) -> None:
    assert words in _summary(report)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_seconds_that_are_no_number_of_seconds_are_refused(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(UsageError, match="--idle-seconds: expected a number of seconds"):
        run_worker(WorkerRequest(tmp_path, idle_seconds=seconds), print)


def test_the_time_limit_of_a_slurm_job_counts_where_it_is_earlier() -> None:
    said: list[str] = []
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(time.time() + 100)}
    now = time.monotonic()
    assert _ends_at(None, {}, said.append) == (None, "")
    for seconds, environ, expected, word in (
        *((None, job, 100, "TIMEOUT"), (50.0, job, 50, "")),
        *((500.0, job, 100, "TIMEOUT"), (50.0, {}, 50, "")),
    ):
        found, cause = _ends_at(seconds, environ, said.append)
        assert found is not None
        assert abs(found - now - expected) < 5
        assert cause == word
    assert said == []
    assert _ends_at(None, {"SLURM_JOB_ID": "7"}, said.append) == (None, "TIMEOUT"), "of a warning of this job"
    assert _ends_at(None, {**job, "SLURM_JOB_END_TIME": "soon"}, said.append)[0] is None
    assert "SLURM_JOB_END_TIME: expected a number of seconds, got 'soon'" in said[0]
    assert _ends_at(None, {**job, "SLURM_JOB_END_TIME": str(time.time() - 100)}, said.append)[0] is None
    assert "this host's clock" in said[1]


def test_a_worker_imports_nothing_with_which_studies_are_read() -> None:
    # Hazard: each of a hundred workers would begin half a second later.
    code = "import sys, tunectl.cli.main, tunectl.commands.worker as _; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"tunectl.execution.trial_worker", "tunectl.language.study_spec"} <= {*loaded}
    assert {"numpy", "torch", "yaml", "pydantic", "tunectl.language.sections"} & {*loaded} == set()


def test_a_worker_that_an_engine_named_has_this_name_also_inside_a_slurm_job() -> None:
    found = _name({"TUNECTL_JOB": "ray:tunectl-1", "SLURM_JOB_ID": "7"})
    assert (found.engine, found.job) == ("ray", "tunectl-1"), "a cluster of Ray may be a job of Slurm"


def test_a_worker_in_a_slurm_job_names_the_job_in_its_claims() -> None:
    assert (_name({}).engine, _name({}).job) == ("", "")
    assert (_name({"SLURM_JOB_ID": "7"}).engine, _name({"SLURM_JOB_ID": "7"}).job) == ("slurm", "7")
    array = {
        **{"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"},
        "SLURM_JOB_NAME": "tunectl-x",
    }
    assert _name(array).job == _name({**array, "SLURM_RESTART_COUNT": "0"}).job == "7_2"
    assert _name({**array, "SLURM_RESTART_COUNT": "3"}).job == "7_2r3", "a job that is started again is another worker"
    assert _name(array).worker != _name(array).worker
