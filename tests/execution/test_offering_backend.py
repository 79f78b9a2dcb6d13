"""The backend that offers trials, without workers. Tests backends/offering.py, backends/local_check.py and
run_beat.py.

With workers: tests/contracts, and tests/commands/test_studies_with_workers.py.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from full_disks import fill_disk_under
from toy_trials import wait_until

from tunectl.core import folder_copies, real_folders
from tunectl.core.errors import FolderError, TunectlError, UsageError, WorkloadError
from tunectl.core.folders import StudyFolder
from tunectl.core.own_code_request import Request
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import TrialResult, WorkloadReference
from tunectl.execution import picked_up_trials, taking_back
from tunectl.execution.backends import offering
from tunectl.execution.backends.backend import BackendReady, ProcessEnded
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.backends.offering import OfferingBackend
from tunectl.execution.devices import CPU
from tunectl.execution.slots import Slot
from tunectl.execution.worker_engine import IDLE_SECONDS, EngineJob, WorkerOrder
from tunectl.execution.worker_supply import FRUITLESS_JOBS
from tunectl.language.study_spec import ResourcesSection
from tunectl.store import claimed_trials, lost_claims, offered_trials
from tunectl.store.claimed_trials import Claimant, Ending
from tunectl.store.heartbeats import LATE_SECONDS
from tunectl.store.run_state import read_run_beat, read_run_state
from tunectl.store.trial_files import write_result


class FakeLocal:
    """The local backend of a host without a GPU, on which loading and probing raise what the test says."""

    def __init__(self) -> None:
        self.fails = ""
        self.calls: list[str] = []
        self.files: tuple[str, ...] = ()

    def start(self, *, own_code: bool = False) -> None:
        self.calls.append("start")

    def load(self, *_: object) -> None:
        self.calls.append("load")

    def slots(self, resources: ResourcesSection, _count: int | None = None) -> tuple[Slot, ...]:
        if resources.devices not in ("auto", "cpu"):
            raise UsageError("no such GPU")
        return (Slot(0, CPU, {}, "cpu"),)

    def wait_ready(self, _stop: object) -> BackendReady:
        self.raise_if_asked()
        return BackendReady(1.0, files=self.files)

    def probe(self, _request: Request, slot: Slot, _stop: object) -> ProbedTrial:
        self.raise_if_asked()
        self.calls.append(f"probe on {slot.torch_device}")
        return ProbedTrial(7)

    def raise_if_asked(self) -> None:
        if self.fails:
            raise WorkloadError(self.fails)

    def close(self) -> None:
        self.calls.append("close")


@dataclass
class RefusingEngine:
    """An engine without a job that starts none where it `refuses`."""

    name: str = "slurm"
    can_be_left: bool = True
    most: int | None = None
    trials_at_once: int = 1
    refuses: str = ""
    known: dict[str, EngineJob] = field(default_factory=dict)
    is_cancelled: bool = False

    def submit(self, workers: int) -> None:
        if self.refuses:
            raise TunectlError(self.refuses)

    def jobs(self) -> dict[str, EngineJob]:
        return self.known

    def cancel(self) -> None:
        self.is_cancelled = True

    def close(self) -> None: ...


@pytest.fixture
def local() -> FakeLocal:
    return FakeLocal()


@pytest.fixture
def backend(local: FakeLocal) -> Iterator[OfferingBackend]:
    made = OfferingBackend("external", cast("LocalBackend", local))
    made.slots(ResourcesSection(heartbeat_seconds=0.1))
    made.start()
    made.load(WorkloadReference("toy:loads", "loads", module="toy"), {"width": 8})
    yield made
    made.close()


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "x")
    for trial in range(3):
        home = folder.home(trial)
        home.path.mkdir(parents=True)
        home.request.write_text(json.dumps({"kind": "workload", "attempt": 1}))
    return folder


REQUEST = cast("Request", None)


def test_its_slots_are_queues(backend: OfferingBackend) -> None:
    assert [slot.is_queue for slot in backend.slots(ResourcesSection(), 3)] == [True] * 3
    assert len(backend.slots(ResourcesSection())) == 1


@pytest.mark.parametrize(
    "message",
    [
        "the workload does not work: RuntimeError: Found no NVIDIA driver on your system",
        "the workload does not work: AssertionError: Torch not compiled with CUDA enabled",
        "the workload does not work: RuntimeError: No CUDA GPUs are available",
    ],
)
def test_a_workload_that_lacks_only_a_gpu_here_is_a_note(
    backend: OfferingBackend, local: FakeLocal, message: str
) -> None:
    local.fails = message
    ready = backend.wait_ready()
    assert ready is not None
    assert message in ready.messages[0]
    probed = backend.probe(REQUEST, backend.slots(ResourcesSection())[0])
    assert probed == ProbedTrial(0, (f"not tried on this machine, which has no GPU: {message}",))


def test_a_workload_that_is_wrong_is_refused(backend: OfferingBackend, local: FakeLocal) -> None:
    local.fails = "the workload does not work: ValueError: there is no metric valid/loss"
    with pytest.raises(WorkloadError, match="no metric"):
        backend.wait_ready()
    with pytest.raises(WorkloadError, match="no metric"):
        backend.probe(REQUEST, backend.slots(ResourcesSection())[0])


def test_devices_of_other_hosts_are_not_looked_for_here(backend: OfferingBackend, local: FakeLocal) -> None:
    slots = backend.slots(ResourcesSection(devices=(3,)))
    assert backend.probe(REQUEST, slots[0]) == ProbedTrial(7)
    assert local.calls[-1] == "probe on cpu"


def test_the_fork_server_ends_when_trials_are_offered_and_starts_again_for_a_probe(
    backend: OfferingBackend, local: FakeLocal, study: StudyFolder
) -> None:
    backend.begin(study, (), print)
    assert local.calls == ["start", "load", "close"]
    backend.probe(REQUEST, backend.slots(ResourcesSection())[0])
    assert local.calls[3:] == ["start", "load", "probe on cpu"]


def test_workers_find_what_they_need_and_a_heartbeat(backend: OfferingBackend, study: StudyFolder) -> None:
    backend.begin(study, (), print, fingerprint="f", reverse=True)
    state = read_run_state(study)
    assert state is not None
    assert (state.phase, state.reverse, state.heartbeat_seconds) == ("at_work", True, 0.1)
    assert (state.needs.workload.module, state.needs.arguments, state.needs.fingerprint) == ("toy", {"width": 8}, "f")
    assert state.needs.current_folder == str(Path.cwd())
    assert state.resources.backend == "external"
    first = read_run_beat(study)
    wait_until(lambda: read_run_beat(study) != first, "the heartbeat changes")


def test_workers_must_have_the_files_that_the_workload_imported_here(
    backend: OfferingBackend, local: FakeLocal, study: StudyFolder, tmp_path: Path
) -> None:
    helper = tmp_path / "helper.py"
    helper.write_text("K = 1")
    local.files = (str(helper), str(tmp_path / "removed.py"))
    backend.wait_ready()
    backend.begin(study, (), print, files={"/x/mine.py": "5a"})
    state = read_run_state(study)
    assert state is not None
    assert state.needs.files == {str(helper): hashlib.sha256(b"K = 1").hexdigest(), "/x/mine.py": "5a"}


def end_at_a_worker(study: StudyFolder, ending: Ending) -> None:
    """Let a worker take the first trial and give it back with this end."""
    claimed = claimed_trials.claim_trial(study, 0)
    assert claimed is not None
    claimed_trials.write_claimant(claimed, Claimant("w", "node", 1, 1))
    claimed_trials.give_back(claimed, ending)


def test_a_trial_whose_end_is_recorded_has_no_mark_of_its_worker(backend: OfferingBackend, study: StudyFolder) -> None:
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    backend.launch(0, study.home(0).path, slot, 1)
    end_at_a_worker(study, Ending(1, code=75, released=True))
    events = [event for event in backend.poll(5.0) if isinstance(event, ProcessEnded)]
    assert [event.released for event in events] == [True]
    backend.poll(0.0)
    assert study.home(0).ending.exists(), "until it is recorded, only this says how the trial ended"
    backend.end_recorded(0)
    backend.poll(0.0)
    assert [path.name for path in study.home(0).path.iterdir()] == ["request.json"]


@pytest.mark.parametrize("is_given", [True, False])
def test_an_end_that_the_run_did_not_record_is_left_to_the_next_one(
    local: FakeLocal, study: StudyFolder, monkeypatch: pytest.MonkeyPatch, is_given: bool
) -> None:
    engine = RefusingEngine()
    monkeypatch.setattr(offering, "make_engine", lambda *_: engine)
    backend = OfferingBackend("slurm", cast("LocalBackend", local))
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    for trial in (0, 1):
        backend.launch(trial, study.home(trial).path, slot, 1)
    end_at_a_worker(study, Ending(1, code=75, timed_out=True))
    if is_given:
        assert [event.trial for event in backend.poll(5.0) if isinstance(event, ProcessEnded)] == [0]
    engine.refuses = "no such partition"
    with pytest.raises(TunectlError, match="no such partition"):
        backend.poll(0.0)
    backend.finish()
    assert study.home(0).offer.exists()
    assert study.home(0).ending.exists()
    state = read_run_state(study)
    assert state is not None
    assert state.phase == "left"


def test_what_workers_have_at_the_start_is_only_watched_and_what_was_offered_is_taken_back(
    backend: OfferingBackend, local: FakeLocal, study: StudyFolder
) -> None:
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    for trial in range(3):
        backend.launch(trial, study.home(trial).path, slot, trial + 1)
    claims = [claimed_trials.claim_trial(study, trial) for trial in (0, 1)]
    for claimed in claims:
        assert claimed is not None
        claimed_trials.write_claimant(claimed, Claimant("w", "node", 1, 1))
    assert claims[1] is not None
    claimed_trials.give_back(claims[1], Ending(2, signal=9))

    again = OfferingBackend("external", cast("LocalBackend", local))
    assert again.begin(study, {0, 1, 2}, print) == {0: 1, 1: 2}
    assert offered_trials.offered_trials(study) == []
    for trial in (0, 1):
        again.launch(trial, study.home(trial).path, slot, trial + 1)
    ended = [event for event in again.poll(5.0) if isinstance(event, ProcessEnded)]
    assert [(event.trial, event.signal) for event in ended] == [(1, 9)]
    again.close()


def test_a_run_that_begins_again_says_so_before_it_takes_back_what_was_offered(
    backend: OfferingBackend, local: FakeLocal, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    backend.launch(0, study.home(0).path, slot, 1)
    backend.leave()
    seen: list[str] = []

    def withdraw(folder: StudyFolder, trial: int) -> bool:
        state = read_run_state(folder)
        assert state is not None
        seen.append(state.phase)
        return offered_trials.withdraw_trial(folder, trial)

    monkeypatch.setattr(picked_up_trials, "withdraw_trial", withdraw)
    again, said = OfferingBackend("external", cast("LocalBackend", local)), list[str]()
    assert again.begin(study, {0}, said.append) == {}
    assert seen == ["at_work"]
    assert not any("may be with workers" in line for line in said), "what was taken back is not waited for"
    again.close()


def _without_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_name: str, _order: object) -> None:
        raise UsageError("no such library")

    monkeypatch.setattr(offering, "make_engine", refused)


def test_a_run_whose_engine_cannot_be_made_leaves_no_heartbeat(
    local: FakeLocal, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_engine(monkeypatch)
    backend = OfferingBackend("slurm", cast("LocalBackend", local))
    with pytest.raises(UsageError, match="no such library"):
        backend.begin(study, (), print)
    backend.finish()
    assert not any(path.exists() for path in (study.run_state, study.run_beat, study.offered))


def test_a_run_whose_engine_cannot_be_made_here_lets_the_one_that_was_left_go_on(
    backend: OfferingBackend, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    backend.launch(0, study.home(0).path, slot, 1)
    backend.leave()
    left = study.run_state.read_bytes()
    _without_engine(monkeypatch)
    again = OfferingBackend("slurm", cast("LocalBackend", FakeLocal()))
    with pytest.raises(UsageError, match="no such library"):
        again.begin(study, {0}, print)
    again.finish()
    again.close()
    assert offered_trials.offered_trials(study) == [0]
    assert study.run_state.read_bytes() == left


def test_a_run_that_is_over_leaves_no_places_and_one_that_is_left_does(
    backend: OfferingBackend, study: StudyFolder
) -> None:
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    backend.launch(0, study.home(0).path, slot, 1)
    backend.leave()
    state = read_run_state(study)
    assert state is not None
    assert state.phase == "left"
    backend.finish()
    assert offered_trials.offered_trials(study) == [0]
    backend.begin(study, (), print)
    backend.finish()
    assert not any(path.exists() for path in (study.run_state, study.run_beat, study.offered, study.claimed))


def test_an_offered_trial_that_is_stopped_never_began(backend: OfferingBackend, study: StudyFolder) -> None:
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    backend.launch(0, study.home(0).path, slot, 1)
    backend.stop(0)
    assert [event for event in backend.poll(0.0) if isinstance(event, ProcessEnded)] == [
        ProcessEnded(0, None, None, 0.0, never_began=True)
    ]
    backend.kill(0)
    assert backend.poll(0.0) == []


def test_workers_that_come_in_a_pause_and_find_nothing_are_not_held_against_the_engine(
    local: FakeLocal, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, now = RefusingEngine(), [0.0]
    monkeypatch.setattr(offering, "make_engine", lambda *_: engine)
    backend = OfferingBackend("slurm", cast("LocalBackend", local), lambda: now[0])
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    backend.launch(0, study.home(0).path, slot, 1)
    backend.poll(0.0)
    engine.known = {str(job): EngineJob("queued") for job in range(FRUITLESS_JOBS)}
    backend.poll(0.0)
    backend.stop(0)
    for _ in range(2):  # its end, and nothing
        backend.poll(0.0)
    now[0] += 10 * IDLE_SECONDS
    engine.known = dict.fromkeys(engine.known, EngineJob("ended"))
    study.home(0).path.mkdir()
    study.home(0).request.write_text(json.dumps({"kind": "workload", "attempt": 1}))
    backend.launch(0, study.home(0).path, slot, 1)
    now[0] += 1.0
    assert backend.poll(0.0) == [], "another worker is asked for"
    backend.close()


def test_what_the_run_may_use_and_whether_it_waits_for_others_reaches_the_workers_of_its_engine(
    local: FakeLocal, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[WorkerOrder] = []

    def make(_name: str, order: WorkerOrder) -> RefusingEngine:
        orders.append(order)
        return RefusingEngine()

    monkeypatch.setattr(offering, "make_engine", make)
    backend = OfferingBackend("slurm", cast("LocalBackend", local))
    resources = ResourcesSection(heartbeat_seconds=0.1)
    backend.places(resources, backend.slots(resources, 6), print, waits=False)
    backend.begin(study, (), print)
    backend.close()
    assert orders[0].command("--slots", "4")[-3:] == ["--slots", "3", "--no-wait"]


def test_a_run_that_is_left_after_its_engine_has_refused_says_that_workers_are_missing(
    local: FakeLocal, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = RefusingEngine(known={"1": EngineJob("running")})
    monkeypatch.setattr(offering, "make_engine", lambda *_: engine)
    said: list[str] = []
    backend = OfferingBackend("slurm", cast("LocalBackend", local))
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), said.append)
    for trial in range(2):
        study.home(trial).path.mkdir(exist_ok=True)
        study.home(trial).request.write_text(json.dumps({"kind": "workload", "attempt": 1}))
        backend.launch(trial, study.home(trial).path, slot, 1)
    engine.refuses = "sbatch: error: too many"
    backend.poll(0.0)
    backend.leave(asks_for_workers=True)
    assert said == [
        f"warning: slurm started no further workers: sbatch: error: too many; {then}"
        for then in ("it is asked again", "the same command asks again")
    ]


def fail_moves(monkeypatch: pytest.MonkeyPatch, to: Path) -> None:
    """Let a file server fail where a folder is moved to this place."""
    real = real_folders.move

    def failing(path: Path, target: Path, within: Path) -> None:
        if target == to:
            raise OSError(errno.EIO, "Input/output error")
        real(path, target, within)

    monkeypatch.setattr(real_folders, "move", failing)


def test_a_trial_that_cannot_be_offered_now_is_offered_later(
    backend: OfferingBackend, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), said.append)
    with monkeypatch.context() as patching:
        fail_moves(patching, study.offered / "00000")
        for trial in (0, 1, 2):
            backend.launch(trial, study.home(trial).path, slot, 1)
        assert backend.poll(0.0) == []
        backend.stop(2)
        assert [event for event in backend.poll(0.0) if isinstance(event, ProcessEnded)] == [
            ProcessEnded(2, None, None, 0.0, never_began=True)
        ]
        assert offered_trials.offered_trials(study) == []
        assert study.home(0).request.exists()
    backend.poll(0.0)
    assert offered_trials.offered_trials(study) == [0, 1]
    assert [line for line in said if "wait for workers" not in line] == [
        f"warning: {study.offered / '00000'}: cannot be created: Input/output error; trying again for up to 300 s"
    ]


def test_a_run_that_ends_with_trials_at_workers_offers_none_again(
    backend: OfferingBackend, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    backend.launch(0, study.home(0).path, slot, 1)
    assert claimed_trials.claim_trial(study, 0) is not None
    with monkeypatch.context() as patching:
        fail_moves(patching, study.offered / "00001")
        backend.launch(1, study.home(1).path, slot, 1)
    backend.finish()
    assert offered_trials.offered_trials(study) == []
    state = read_run_state(study)
    assert state is not None
    assert state.phase == "left"


def test_a_trial_that_can_never_be_offered_is_an_error_at_once(
    backend: OfferingBackend, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    fill_disk_under(monkeypatch, "offer.json")
    with pytest.raises(FolderError, match="No space left"):
        backend.launch(0, study.home(0).path, slot, 1)
    assert backend.poll(0.0) == []


def test_a_run_that_follows_one_that_was_killed_waits_for_what_shows_late(
    backend: OfferingBackend, local: FakeLocal, study: StudyFolder
) -> None:
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), print)
    backend.launch(0, study.home(0).path, slot, 4)
    claimed = claimed_trials.claim_trial(study, 0)
    assert claimed is not None
    hidden = study.path / "hidden"
    claimed.folder.path.rename(hidden)

    def show(_line: str) -> None:
        hidden.rename(claimed.folder.path)

    stopped = OfferingBackend("external", cast("LocalBackend", local))
    assert stopped.begin(study, {0, 1, 2}, print, stop_requested=lambda: 1) is None
    stopped.finish()
    state = read_run_state(study)
    assert state is not None
    assert state.phase == "left", "the next run looks again for what shows late"

    again = OfferingBackend("external", cast("LocalBackend", local))
    assert again.begin(study, {0, 1, 2}, show) == {0: 4}
    again.close()


def fail_copies(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Let the first copies of lost trials fail with these errnos."""
    real, failures = folder_copies.copy_folder, list(numbers)

    def copy(*arguments: Any, **keywords: Any) -> None:
        if failures:
            raise OSError(failures.pop(), "does not show yet")
        real(*arguments, **keywords)

    monkeypatch.setattr("tunectl.store.lost_claims.copy_folder", copy)
    monkeypatch.setattr(taking_back, "_AGAIN_SECONDS", 0.0)


@pytest.mark.parametrize("is_soon", [False, True])
def test_a_trial_that_has_ended_at_a_worker_is_taken_from_it_and_is_home_without_marks_at_the_end(
    local: FakeLocal, study: StudyFolder, monkeypatch: pytest.MonkeyPatch, *, is_soon: bool
) -> None:
    now = [0.0]
    backend = OfferingBackend("external", cast("LocalBackend", local), lambda: now[0])
    backend.slots(ResourcesSection(heartbeat_seconds=0.1))
    offered_trials.make_places(study)
    offered_trials.offer_trial(study, offered_trials.Offer(1, 1))
    claimed = claimed_trials.claim_trial(study, 1)
    assert claimed is not None
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 1, boot="another machine"))
    write_result(claimed.folder, TrialResult(1, "completed"))
    said: list[str] = []
    assert backend.begin(study, {0}, said.append) == {}
    assert not claimed_trials.give_back(claimed, Ending(1, code=0)), "else it shows late that it did, and is forgotten"
    now[0] += 0.0 if is_soon else LATE_SECONDS
    fail_copies(monkeypatch, errno.ENOENT, errno.ENOTEMPTY)
    backend.finish()
    if is_soon:
        assert said[-1] == "trial 1 is not taken back from its worker yet; the same command does it later"
        assert lost_claims.unfinished(study)
        return
    home = study.home(1)
    assert sorted(path.name for path in home.path.iterdir()) == ["request.json", "result.json"]
    assert not study.claimed.exists()
    backend.close()


def shut_out_of_trial_1(study: StudyFolder) -> None:
    """A worker of an earlier run was shut out of trial 1, which is not taken back yet."""
    offered_trials.make_places(study)
    offered_trials.offer_trial(study, offered_trials.Offer(1, 1))
    claimed = claimed_trials.claim_trial(study, 1)
    assert claimed is not None
    assert lost_claims.shut_out(claimed)


def test_a_run_begins_when_what_it_takes_back_shows_late(
    backend: OfferingBackend, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut_out_of_trial_1(study)
    fail_copies(monkeypatch, errno.ENOENT, errno.ENOTEMPTY)
    said: list[str] = []
    assert backend.begin(study, {0}, said.append) == {}
    assert study.home(1).request.exists()


def test_a_stop_ends_the_patience_with_what_shows_late_before_the_run_begins(
    backend: OfferingBackend, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut_out_of_trial_1(study)
    said: list[str] = []
    with monkeypatch.context() as patching:
        fail_copies(patching, *[errno.ENOENT] * 9)
        assert backend.begin(study, {0}, said.append, stop_requested=lambda: int(len(said) > 0)) is None
    backend.finish()
    assert [line.startswith("stopped before a trial was begun") for line in said] == [False, True]
    assert len(lost_claims.unfinished(study)) == 1, "the next run takes it back"
    assert not study.run_state.exists()
    assert backend.begin(study, {0}, said.append) == {}
    assert study.home(1).request.exists()


@pytest.mark.parametrize("has_worker", [False, True])
def test_a_run_that_ends_before_all_is_taken_in_cancels_the_jobs_or_says_that_workers_go_on(
    local: FakeLocal, study: StudyFolder, monkeypatch: pytest.MonkeyPatch, *, has_worker: bool
) -> None:
    engine, said = RefusingEngine(), list[str]()
    monkeypatch.setattr(offering, "make_engine", lambda *_: engine)
    backend = OfferingBackend("slurm", cast("LocalBackend", local))
    slot = backend.slots(ResourcesSection(heartbeat_seconds=0.1))[0]
    backend.begin(study, (), said.append)
    backend.launch(0, study.home(0).path, slot, 1)
    claimed = claimed_trials.claim_trial(study, 0)
    assert claimed is not None
    if not has_worker:
        assert lost_claims.shut_out(claimed)
    backend.finish()
    state = read_run_state(study)
    assert state is not None
    assert state.phase == "left"
    assert engine.is_cancelled != has_worker
    assert [f"`tunectl stop {study.path}` ends them" in line for line in said] == [has_worker]
