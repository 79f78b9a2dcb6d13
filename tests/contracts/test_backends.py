"""What every backend must do (execution/backends/backend.py): one suite, run on each of them and on a fake one.

A new backend gets an entry in CASES: how it is made for these tests, with the behaviours of toy_worker.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from in_process_backend import InProcessBackend
from toy_trials import DEADLINE_SECONDS, wait_until

from tunectl.core.errors import UsageError, WorkloadError
from tunectl.core.objective import Objective
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import TrialRequest, WorkloadReference
from tunectl.execution.backends import BACKENDS, DEFAULT
from tunectl.execution.backends.backend import Backend, BackendReady, ProcessEnded, ProcessStarted
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.jobs import AttemptLimits, Event, Job, TrialEnded, TrialStarted
from tunectl.execution.protocol import EXIT_STOPPED
from tunectl.execution.scheduler import run_trials
from tunectl.language.study_spec import ResourcesSection

TESTS = Path(__file__).parent.parent
RESOURCES = ResourcesSection(devices="cpu")


def local() -> Backend:
    return LocalBackend({**os.environ, "PYTHONPATH": str(TESTS)}, "toy_worker")


CASES: dict[str, Callable[[], Backend]] = {"local": local, "in_process": InProcessBackend}


WITH_WORKERS = {"external", "slurm", "ray"}
"""These backends only offer trials: workers are part of their cases."""


class Case:
    """A backend and the toy trials that are launched on it."""

    def __init__(self, backend: Backend, root: Path) -> None:
        self.backend, self.root = backend, root
        self.slots = backend.slots(RESOURCES, 4)
        self.events: list[object] = []

    def begin(self, factory: str = "loads") -> None:
        self.backend.start()
        text = str(self.root / "loading")  # where the toy worker that never loads writes its pid
        self.backend.load(WorkloadReference(text, factory, module="toy"), {})

    def folder(self, trial: int, behaviour: str) -> Path:
        folder = self.root / f"{trial:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "request.json").write_text(json.dumps({"behaviour": behaviour}))
        return folder

    def launch(self, trial: int, behaviour: str, attempt: int = 1) -> Path:
        folder = self.folder(trial, behaviour)
        self.backend.launch(trial, folder, self.slots[trial % len(self.slots)], attempt)
        return folder

    def until_ended(self, *trials: int) -> list[ProcessEnded]:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not set(trials) <= {event.trial for event in self.events if isinstance(event, ProcessEnded)}:
            assert time.monotonic() < deadline, self.events
            self.events += self.backend.poll(0.05)
        ended = {event.trial: event for event in self.events if isinstance(event, ProcessEnded)}
        return [ended[trial] for trial in trials]

    def of(self, trial: int) -> list[type]:
        return [type(event) for event in self.events if getattr(event, "trial", None) == trial]


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    backend = CASES[request.param]()
    yield Case(backend, tmp_path / "trials")
    backend.close()


@pytest.fixture
def ready(case: Case) -> Case:
    case.begin()
    assert isinstance(case.backend.wait_ready(), BackendReady)
    return case


def probe_request(study: str) -> TrialRequest:
    workload = WorkloadReference("toy:loads", "loads", module="toy")
    return TrialRequest(study, 0, 0, workload, {}, {}, Objective("valid/loss", "minimize"), 10, 5, 3)


def test_every_backend_is_in_this_suite_under_its_own_name() -> None:
    assert BACKENDS.keys() - WITH_WORKERS <= CASES.keys()
    assert {name: make().name for name, make in BACKENDS.items()} == {name: name for name in BACKENDS}
    assert ResourcesSection().backend == DEFAULT
    assert DEFAULT in BACKENDS


def test_it_gives_slots_before_it_is_started(case: Case) -> None:
    assert case.backend.slots(RESOURCES)
    slots = case.backend.slots(RESOURCES, 3)
    assert [slot.index for slot in slots] == [0, 1, 2]
    with pytest.raises(UsageError, match="--slots"):
        case.backend.slots(RESOURCES, 0)


def test_it_is_ready_once_the_workload_is_loaded_however_often_that_is_asked(ready: Case) -> None:
    assert ready.backend.wait_ready() == ready.backend.wait_ready()


def test_a_workload_that_does_not_load_is_an_error_with_the_traceback_as_its_note(case: Case) -> None:
    case.begin("raises")
    with pytest.raises(WorkloadError, match="there is no such data set") as caught:
        case.backend.wait_ready()
    assert "Traceback" in caught.value.__notes__[0]


def test_a_stop_request_ends_the_wait_for_a_workload_that_never_loads(case: Case) -> None:
    case.root.mkdir()
    case.begin("never_loads")
    assert case.backend.wait_ready(lambda: 1) is None


def test_a_trial_starts_once_and_ends_once(ready: Case) -> None:
    folder = ready.launch(0, "completes")
    (ended,) = ready.until_ended(0)
    assert (ended.code, ended.signal, ended.verdict, ended.lost, ended.is_users) == (0, None, 0, False, False)
    assert ended.seconds >= 0
    assert (folder / "result.json").exists()
    assert [event for event in ready.backend.poll(0.05) if not isinstance(event, BackendReady)] == []
    assert ready.of(0) == [ProcessStarted, ProcessEnded]


def test_a_trial_launched_before_the_workload_is_loaded_runs_all_the_same(case: Case) -> None:
    case.begin()
    case.launch(0, "completes")
    assert case.until_ended(0)[0].code == 0


def test_the_worker_gets_the_number_of_the_attempt(ready: Case) -> None:
    folder = ready.launch(0, "completes", attempt=7)
    ready.until_ended(0)
    assert json.loads((folder / "pids.jsonl").read_text())[1] == 7


def test_trials_run_side_by_side_on_their_slots(ready: Case) -> None:
    folders = [ready.launch(trial, "waits_for_stop") for trial in range(4)]
    wait_until(lambda: all((folder / "waiting").exists() for folder in folders), "all four trials run")
    for trial in range(4):
        ready.backend.stop(trial)
    assert [ended.verdict for ended in ready.until_ended(0, 1, 2, 3)] == [EXIT_STOPPED] * 4


def test_a_trial_that_is_killed_from_outside_has_a_signal_and_no_exit_code(ready: Case) -> None:
    ready.launch(0, "kills_itself")
    (ended,) = ready.until_ended(0)
    assert (ended.code, ended.signal, ended.verdict, ended.lost) == (None, signal.SIGKILL, None, False)


def test_an_exit_code_that_the_users_code_chose_is_not_the_workers(ready: Case) -> None:
    ready.launch(0, "exits_3")
    (ended,) = ready.until_ended(0)
    assert (ended.code, ended.is_users, ended.verdict) == (3, True, None)


def test_a_trial_that_is_stopped_saves_and_one_that_ignores_it_is_killed(ready: Case) -> None:
    folders = [ready.launch(0, "waits_for_stop"), ready.launch(1, "ignores_stop")]
    wait_until(lambda: all((folder / "waiting").exists() for folder in folders), "both trials run")
    ready.backend.stop(0)
    ready.backend.stop(1)
    assert ready.until_ended(0)[0].verdict == EXIT_STOPPED
    assert ProcessEnded not in ready.of(1)
    ready.backend.kill(1)
    (killed,) = ready.until_ended(1)
    assert (killed.code, killed.signal) == (None, signal.SIGKILL)


def test_a_trial_that_has_ended_may_be_stopped_and_killed_without_effect(ready: Case) -> None:
    ready.launch(0, "completes")
    ready.until_ended(0)
    ready.backend.stop(0)
    ready.backend.kill(0)
    ready.launch(1, "completes")
    assert ready.until_ended(1)[0].code == 0
    assert ready.of(0) == [ProcessStarted, ProcessEnded]


def test_a_probe_gives_the_size_of_a_checkpoint_or_says_what_does_not_work(ready: Case) -> None:
    assert ready.backend.probe(probe_request("works"), ready.slots[0]) == ProbedTrial(1234)
    with pytest.raises(WorkloadError, match=r"the workload does not work: .*no data here"):
        ready.backend.probe(probe_request("no data here"), ready.slots[0])
    assert ready.backend.probe(probe_request("works"), ready.slots[0]) == ProbedTrial(1234), "it can be used again"


def test_a_stop_request_ends_a_probe_that_hangs(ready: Case) -> None:
    asked = iter([0, 0])
    assert ready.backend.probe(probe_request("hangs"), ready.slots[0], lambda: next(asked, 1)) is None


def test_a_descriptor_may_be_held_before_and_after_the_start(case: Case, tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        case.backend.hold(lock.fileno())
        case.begin()
        case.backend.hold(lock.fileno())
        assert case.backend.wait_ready() is not None


def test_closing_ends_what_runs_and_may_be_done_twice_or_before_the_start(ready: Case) -> None:
    folder = ready.launch(0, "ignores_stop")
    wait_until((folder / "waiting").exists, "the trial runs")
    ready.backend.close()
    ready.backend.close()
    CASES[ready.backend.name]().close()


def test_the_scheduler_runs_a_study_on_it_and_tries_a_crashed_trial_again(ready: Case) -> None:
    behaviours = ["completes", "kills_itself", "completes"]
    events: list[Event] = []

    def prepare(job: Job) -> Path:
        behaviour = behaviours[job.trial] if job.attempt == 1 else "completes"
        return ready.folder(job.trial, behaviour)

    states = run_trials(
        [Job(trial) for trial in range(3)],
        ready.backend,
        ready.slots[:2],
        limits=AttemptLimits(),
        prepare=prepare,
        on_event=events.append,
        stop_requested=lambda: 0,
        poll_seconds=0.05,
    )
    assert states == dict.fromkeys(range(3), "completed")
    ended = {event.trial: event.attempt for event in events if isinstance(event, TrialEnded)}
    assert ended == {0: 1, 1: 2, 2: 1}
    assert sorted(event.trial for event in events if isinstance(event, TrialStarted)) == [0, 1, 1, 2]
