"""What every backend must do (execution/backends/backend.py): one suite, run on each of them and on a fake one.

How they are made for it is in cases.py. Those of Slurm and Ray need a cluster, which `make clusters` has.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from cases import CASES, Case, WithWorkers, is_gone
from toy_trials import all_gone, wait_until

from tunectl.core.errors import UsageError, WorkloadError
from tunectl.core.objective import Objective
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import TrialRequest, WorkloadReference
from tunectl.execution import processes
from tunectl.execution.backends import BACKENDS, DEFAULT
from tunectl.execution.backends.backend import BackendReady, ProcessEnded, ProcessStarted
from tunectl.execution.backends.offering import OfferingBackend
from tunectl.execution.jobs import AttemptLimits, Event, Job, TrialEnded, TrialRetried, TrialStarted
from tunectl.execution.protocol import EXIT_STOPPED
from tunectl.execution.scheduler import run_trials
from tunectl.language.study_spec import ResourcesSection

pytestmark = pytest.mark.timeout(240)


def need_processes(case: Case) -> None:
    if not case.has_processes:
        pytest.skip("its trials are threads")


def need_workers(case: Case) -> WithWorkers:
    if not isinstance(case, WithWorkers):
        pytest.skip("its trials end with this process")
    return case


def probe_request(study: str) -> TrialRequest:
    workload = WorkloadReference("toy:loads", "loads", module="toy")
    return TrialRequest(study, 0, 0, workload, {}, {}, Objective("valid/loss", "minimize"), 10, 5, 3)


def test_every_backend_is_in_this_suite_under_its_own_name() -> None:
    assert BACKENDS.keys() <= CASES.keys()
    assert {name: make().name for name, make in BACKENDS.items()} == {name: name for name in BACKENDS}
    assert ResourcesSection().backend == DEFAULT
    assert DEFAULT in BACKENDS


# --- the workload


def test_it_gives_slots_before_it_is_started(case: Case) -> None:
    assert case.backend.slots(case.resources)
    slots = case.backend.slots(case.resources, 3)
    assert [slot.index for slot in slots] == [0, 1, 2]
    with pytest.raises(UsageError, match="--slots"):
        case.backend.slots(case.resources, 0)


def test_it_is_ready_once_the_workload_is_loaded_however_often_that_is_asked(ready: Case) -> None:
    assert ready.backend.wait_ready() == ready.backend.wait_ready()


def test_a_workload_that_does_not_load_is_an_error_with_the_traceback_as_its_note(case: Case) -> None:
    case.begin("raises")
    with pytest.raises(WorkloadError, match="there is no such data set") as caught:
        case.backend.wait_ready()
    assert "Traceback" in caught.value.__notes__[0]


def test_a_stop_request_ends_the_wait_for_a_workload_that_never_loads(case: Case) -> None:
    case.begin("never_loads")
    assert case.backend.wait_ready(lambda: 1) is None


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


# --- launch


def test_a_trial_starts_once_and_ends_once(ready: Case) -> None:
    folder = ready.launch(0, "completes")
    (ended,) = ready.until_ended(0)
    assert (ended.code, ended.signal, ended.verdict, ended.lost, ended.is_users) == (0, None, 0, False, False)
    assert ended.seconds >= 0
    assert (folder / "result.json").exists(), "its folder is where it was before it was launched"
    assert [event for event in ready.backend.poll(0.05) if not isinstance(event, BackendReady)] == []
    assert ready.of(0) == [ProcessStarted, ProcessEnded]


def test_a_trial_launched_before_the_workload_is_loaded_runs_all_the_same(case: Case) -> None:
    case.begin()
    case.launch(0, "completes")
    assert case.until_ended(0)[0].code == 0


def test_the_worker_gets_the_number_of_the_attempt(ready: Case) -> None:
    ready.launch(0, "completes", attempt=7)
    ready.until_ended(0)
    assert [attempt for _, attempt in ready.pids(0)] == [7]


def test_trials_run_side_by_side_on_their_slots(ready: Case) -> None:
    for trial in range(4):
        ready.launch(trial, "waits_for_stop")
    ready.until_it_runs(0, 1, 2, 3)
    for trial in range(4):
        ready.backend.stop(trial)
    assert [ended.verdict for ended in ready.until_ended(0, 1, 2, 3)] == [EXIT_STOPPED] * 4


def test_each_of_many_trials_runs_once_however_many_want_it(ready: Case) -> None:
    trials = range(24)
    slots = len(ready.slots)
    if ready.trains_here:
        for first in range(0, len(trials), slots):
            for trial in trials[first : first + slots]:
                ready.launch(trial, "completes")
            ready.until_ended(*trials[first : first + slots])
    else:
        for trial in trials:
            ready.launch(trial, "completes")
        ready.until_ended(*trials)
    assert [len(ready.pids(trial)) for trial in trials] == [1] * len(trials)
    assert [ready.of(trial) for trial in trials] == [[ProcessStarted, ProcessEnded]] * len(trials)


# --- how trials end


def test_a_trial_that_is_killed_from_outside_has_a_signal_and_no_exit_code(ready: Case) -> None:
    ready.launch(0, "kills_itself")
    (ended,) = ready.until_ended(0)
    assert (ended.code, ended.signal, ended.verdict, ended.lost) == (None, signal.SIGKILL, None, False)


def test_an_exit_code_that_the_users_code_chose_is_not_the_workers(ready: Case) -> None:
    ready.launch(0, "exits_3")
    (ended,) = ready.until_ended(0)
    assert (ended.code, ended.is_users, ended.verdict) == (3, True, None)


def test_a_trial_that_is_stopped_saves_and_one_that_ignores_it_is_killed(ready: Case) -> None:
    ready.launch(0, "waits_for_stop")
    ready.launch(1, "ignores_stop")
    ready.until_it_runs(0, 1)
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


def test_a_trial_that_was_stopped_goes_on_in_the_same_folder(ready: Case) -> None:
    folder = ready.launch(0, "waits_for_stop")
    ready.until_it_runs(0)
    ready.backend.stop(0)
    ready.until_ended(0)
    ready.events.clear()
    assert ready.launch(0, "completes", attempt=2) == folder
    assert ready.until_ended(0)[0].code == 0
    assert [attempt for _, attempt in ready.pids(0)] == [1, 2], "what its first attempt wrote is still there"


def test_a_trial_whose_host_is_lost_ends_as_lost_and_can_be_launched_again(ready: Case) -> None:
    need_processes(ready)
    ready.launch(0, "ignores_stop")
    ready.until_it_runs(0)
    ready.lose(0)
    (ended,) = ready.until_ended(0)
    assert (ended.code, ended.signal, ended.lost) == (None, None, True)
    assert ended.message, "it says what is known"
    wait_until(lambda: is_gone(ready, 0), "no process of it is left")
    ready.events.clear()
    (ready.study.trial(0).path / "waiting").unlink()
    ready.launch(0, "completes", attempt=2)
    assert ready.until_ended(0)[0].code == 0
    assert [attempt for _, attempt in ready.pids(0)] == [1, 2]


# --- what is left behind


def test_the_processes_that_a_trial_started_have_ended_when_it_has(ready: Case) -> None:
    need_processes(ready)
    folder = ready.launch(0, "leaves_children")
    ready.until_ended(0)
    assert all_gone(*(int((folder / name).read_text()) for name in ("child", "session", "daemon")))


def test_a_trials_folder_has_what_the_trial_wrote_and_nothing_else(ready: Case) -> None:
    folder = ready.launch(0, "completes")
    ready.until_ended(0)
    ready.end()
    expected = {"request.json", "pids.jsonl", "result.json"} | ({"log.txt"} if ready.has_processes else set())
    assert {path.name for path in folder.iterdir()} == expected


def test_a_run_that_has_ended_leaves_no_process_and_no_place_for_trials(ready: Case) -> None:
    for trial in range(3):
        ready.launch(trial, "completes")
    ready.until_ended(0, 1, 2)
    ready.end()
    names = {path.name for path in ready.study.path.iterdir()}
    assert not names & {"offered", "claimed", "run.json", "run.beat"}
    if isinstance(ready, WithWorkers):
        assert [worker.returncode for worker in ready.workers] == [0] * len(ready.workers)


def test_closing_ends_what_it_started_here_and_may_be_done_twice_or_before_the_start(ready: Case) -> None:
    before = processes.children()
    ready.launch(0, "ignores_stop")
    ready.until_it_runs(0)
    ready.backend.close()
    ready.backend.close()
    workers = {worker.pid for worker in ready.workers} if isinstance(ready, WithWorkers) else set()
    assert not (processes.children() - before - workers)
    if ready.trains_here and ready.has_processes:
        assert is_gone(ready, 0)
    ready.make().close()


def test_a_run_that_is_left_is_picked_up_by_the_next_one(ready: Case) -> None:
    case = need_workers(ready)
    case.launch(0, "waits_for_stop")
    case.launch(1, "waits_for_stop")
    case.until_it_runs(0, 1)
    case.backend.close()
    assert not is_gone(case, 0), "workers go on without it"
    case.backend = case.make()
    case.backend.slots(case.resources, 4)
    case.begin()
    assert isinstance(case.backend, OfferingBackend)
    case.folder(2, "completes")  # one without a folder would be waited for
    assert case.backend.begin(case.study, {0, 1, 2}, print) == {0: 1, 1: 1}
    case.events.clear()
    for trial in (0, 1):
        case.backend.launch(trial, case.study.home(trial).path, case.slots[trial], 1)
    case.launch(2, "completes")
    case.until_ended(2)
    case.backend.stop(0)
    case.backend.stop(1)
    assert [ended.verdict for ended in case.until_ended(0, 1)] == [EXIT_STOPPED] * 2
    assert [len(case.pids(trial)) for trial in range(3)] == [1] * 3


def test_a_trial_that_waits_for_a_worker_is_taken_back_when_it_is_stopped(ready: Case) -> None:
    case = need_workers(ready)
    for trial in range(4):
        case.launch(trial, "waits_for_stop")
    case.until_it_runs(0, 1, 2, 3)
    folder = case.launch(4, "completes")
    case.backend.stop(4)
    (ended,) = case.until_ended(4)
    assert ended.never_began
    assert not folder.exists(), "it is as before it was launched"
    for trial in range(4):
        case.backend.stop(trial)
    case.until_ended(0, 1, 2, 3)


# --- with the scheduler


def test_the_scheduler_runs_a_study_on_it_and_tries_a_crashed_trial_again(ready: Case) -> None:
    behaviours = ["completes", "kills_itself", "completes"]
    events: list[Event] = []

    def prepare(job: Job) -> Path:
        behaviour = behaviours[job.trial] if job.attempt == 1 else "completes"
        return ready.folder(job.trial, behaviour)

    ready.have_workers()
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


def test_the_scheduler_tries_a_lost_trial_again(ready: Case) -> None:
    need_processes(ready)
    events: list[Event] = []

    def prepare(job: Job) -> Path:
        return ready.folder(job.trial, "ignores_stop" if job.attempt == 1 else "completes")

    def hear(event: Event) -> None:
        events.append(event)

    def lose_once() -> int:
        # Once it is lost its folder is on its way, and may be in no place between two looks.
        if not lost and ready.has(0, "waiting"):
            attempts = [attempt for _, attempt in ready.pids(0)]
            if attempts == [1]:
                lost.append(0)
                ready.lose(0)
        return 0

    lost: list[int] = []
    ready.have_workers()
    states = run_trials(
        [Job(0)],
        ready.backend,
        ready.slots,
        limits=AttemptLimits(),
        prepare=prepare,
        on_event=hear,
        stop_requested=lose_once,
        poll_seconds=0.05,
    )
    assert states == {0: "completed"}
    assert [event.reason.partition(" ")[0] for event in events if isinstance(event, TrialRetried)] == ["lost"]
