"""What an earlier run has left to workers. Tests left_offers.py, left_engine.py and stopped_workers.py.

By commands: tests/commands/test_studies_with_workers.py.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tunectl.core import real_folders
from tunectl.core.boot_id import seen_from
from tunectl.core.errors import FolderError, StoppedError, UsageError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import TrialResult, WorkloadReference
from tunectl.execution.engines import slurm_foreign
from tunectl.execution.engines.slurm_commands import Answer
from tunectl.language.study_spec import ResourcesSection
from tunectl.session import left_offers, stopped_workers
from tunectl.session.stopped_workers import stop_workers
from tunectl.store import claimed_trials, offered_trials, run_state
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, Ending, StopRequest
from tunectl.store.heartbeats import LATE_SECONDS, UNREADABLE
from tunectl.store.lost_claims import shut_out, unfinished
from tunectl.store.offered_trials import Offer
from tunectl.store.run_state import RunState, WorkerNeeds
from tunectl.store.sealed_files import write_record
from tunectl.store.trial_files import read_trial, trial_state, write_result

HEARTBEAT = 10.0


@dataclass
class Study:
    """A folder with three offered trials, and a clock that moves by the sleeps alone."""

    folder: StudyFolder
    now: float = 0.0
    said: list[str] = field(default_factory=list)
    beating: list[ClaimedTrial] = field(default_factory=list)
    boot: str = ""

    def __post_init__(self) -> None:
        self.boot = seen_from(self.folder.path)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for claimed in self.beating:
            claimed_trials.write_trial_beat(claimed, int(self.now * 1000))

    def claim(self, trial: int) -> ClaimedTrial:
        claimed = claimed_trials.claim_trial(self.folder, trial)
        assert claimed is not None
        claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 1, 1, boot=self.boot))
        claimed_trials.write_trial_beat(claimed, 1)
        return claimed

    def take_back_from_dead(self) -> None:
        left_offers.take_back_from_dead(self.folder, self.said.append, HEARTBEAT, lambda: self.now, self.sleep)

    def take_in_lost(self, claimed: ClaimedTrial) -> None:
        assert shut_out(claimed)
        left_offers.take_in_all(self.folder, lambda: self.now, self.sleep, say=self.said.append)

    def take_in(self) -> None:
        left_offers.take_in_all(self.folder, lambda: self.now, self.sleep, say=self.said.append)

    def stop(self, *, now: bool = False) -> tuple[str, ...]:
        return stop_workers(self.folder, self.said.append, now=now, clock=lambda: self.now, sleep=self.sleep)

    def attempts(self, trial: int) -> list[tuple[int, str, str]]:
        return [(item.attempt, item.reason, item.message) for item in read_trial(self.folder.trial(trial)).attempts]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    folder = StudyFolder(tmp_path)
    offered_trials.make_places(folder)
    for trial in range(3):
        home = folder.home(trial)
        home.path.mkdir(parents=True)
        home.request.write_text(json.dumps({"kind": "workload", "attempt": 1}))
        offered_trials.offer_trial(folder, Offer(trial, 1, timeout_seconds=60.0))
    needs = WorkerNeeds(WorkloadReference("toy:loads", "loads", module="toy"))
    run_state.write_run_state(folder, RunState("t", "left", needs, ResourcesSection(), heartbeat_seconds=HEARTBEAT))
    return Study(folder)


@pytest.mark.parametrize(
    ("ending", "recorded"),
    [
        (Ending(1, signal=11, device="cpu"), [(1, "crashed", "was killed by SIGSEGV, see log.txt")]),
        (Ending(1, code=75, released=True, message="its time was over"), [(1, "released", "its time was over")]),
        (Ending(1, code=75, released=True, message="over", cause="TIMEOUT"), [(1, "released (TIMEOUT)", "over")]),
        (Ending(1, lost=True, message="its server died"), [(1, "lost", "its server died")]),
        (Ending(1, code=75), [(1, "cancelled", "its runner ended before it")]),
        (Ending(1, code=74), [(1, "cancelled", "its runner ended before it")]),
        (Ending(1, code=75, timed_out=True), [(1, "timeout", "it took longer than trial_timeout_seconds: 60")]),
        (Ending(1, signal=9, timed_out=True), [(1, "timeout", "it took longer than trial_timeout_seconds: 60")]),
        (Ending(1, signal=11, timed_out=True), [(1, "crashed", "was killed by SIGSEGV, see log.txt")]),
    ],
)
def test_how_a_trial_ended_while_no_run_was_at_work_is_recorded(
    study: Study, ending: Ending, recorded: list[tuple[int, str, str]]
) -> None:
    claimed_trials.give_back(study.claim(0), ending)
    study.take_in()
    assert study.attempts(0) == recorded
    state = trial_state(read_trial(study.folder.home(0)))[0]
    assert state == {"timeout": "failed", "cancelled": "cancelled"}.get(recorded[0][1], "pending")
    assert not study.folder.home(0).offer.exists()
    assert offered_trials.offered_trials(study.folder) == [1, 2], "what is offered stays so"
    study.take_in()
    assert study.attempts(0) == recorded


@pytest.mark.parametrize("is_said", [False, True])
def test_how_far_a_trial_had_come_is_recorded_when_it_was_lost_while_no_run_was_at_work(
    study: Study, is_said: bool
) -> None:
    """A loss after progress uses up no retry."""
    claimed = study.claim(0)
    line = {"step": 30, "kind": "evaluation", "metrics": {}, "elapsed_seconds": 1.0}
    claimed.folder.measurements.write_text(json.dumps(line) + "\n")
    if is_said:
        claimed_trials.give_back(claimed, Ending(1, lost=True, message="its server died"))
        study.take_in()
    else:
        study.take_back_from_dead()
    (attempt,) = read_trial(study.folder.trial(0)).attempts
    assert (attempt.reason, attempt.reached) == ("lost", 30)


def test_a_trial_that_never_began_at_its_worker_is_as_before_its_offer(study: Study) -> None:
    claimed_trials.give_back(study.claim(0), Ending(1, never_began=True))
    study.take_in()
    assert study.attempts(0) == []
    assert not study.folder.home(0).path.exists()


@pytest.mark.parametrize("claimant", [None, Claimant("w", "node-1", 1, 1, waits=True)])
def test_a_claim_of_a_dead_worker_that_never_began_is_no_lost_attempt(study: Study, claimant: Claimant | None) -> None:
    claimed = claimed_trials.claim_trial(study.folder, 0)
    assert claimed is not None
    if claimant is not None:
        claimed_trials.write_claimant(claimed, claimant)
    study.take_in_lost(claimed)
    assert study.attempts(0) == []
    assert not study.folder.home(0).path.exists()


def test_a_result_that_shows_late_is_waited_for_and_nothing_of_its_trial_is_removed(study: Study) -> None:
    claimed_trials.give_back(study.claim(0), Ending(1, code=0))
    home, result = study.folder.home(0), TrialResult(0, "completed", attempt=1)
    plain_sleep = study.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if study.now >= 20.0 and not home.result.exists():
            assert sorted(path.name for path in home.path.iterdir()) == [
                *("beat", "claim.json", "ended.json", "offer.json", "request.json"),
            ]
            write_result(home, result)

    left_offers.take_in_all(study.folder, lambda: study.now, sleep)
    assert 20.0 <= study.now < 25.0
    assert sorted(path.name for path in home.path.iterdir()) == ["request.json", "result.json"]
    assert study.attempts(0) == []


def test_an_end_that_shows_part_by_part_is_waited_for_as_long_as_parts_show(study: Study) -> None:
    claimed_trials.give_back(study.claim(0), Ending(1, code=0))
    home, plain_sleep = study.folder.home(0), study.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if study.now > LATE_SECONDS - 5 and not home.measurements.exists():
            home.measurements.write_text('{"step": 0}\n')
        if study.now > 2 * LATE_SECONDS - 15 and not home.result.exists():
            write_result(home, TrialResult(0, "completed", attempt=1))

    study.sleep = sleep  # type: ignore[method-assign]
    study.take_in()
    assert 2 * LATE_SECONDS - 15 < study.now < 2 * LATE_SECONDS - 10
    assert not any("warning" in line for line in study.said)
    assert not home.offer.exists()


def test_an_end_that_shows_late_is_waited_for_and_recorded(study: Study) -> None:
    claimed = study.claim(0)
    claimed_trials.return_home(claimed)
    home, plain_sleep = study.folder.home(0), study.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if study.now >= 20.0 and not home.ending.exists():
            write_record(home.ending, Ending(1, signal=11), within=study.folder.path)

    left_offers.take_in_all(study.folder, lambda: study.now, sleep)
    assert [item[:2] for item in study.attempts(0)] == [(1, "crashed")]
    assert not home.offer.exists()


def test_a_trial_that_came_back_without_any_word_of_a_worker_was_never_begun_after_a_while(study: Study) -> None:
    claimed = claimed_trials.claim_trial(study.folder, 0)
    assert claimed is not None
    claimed_trials.return_home(claimed)
    left_offers.take_in_all(study.folder, lambda: study.now, study.sleep)
    assert study.now >= LATE_SECONDS
    assert not study.folder.home(0).path.exists()


def test_a_trial_that_could_not_be_taken_back_yet_is_work_that_is_left(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = study.claim(0)
    claimed.folder.resume.write_bytes(b"resume")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patching:
        patching.setattr(os, "fsync", full)
        with pytest.raises(FolderError, match="No space left"):
            study.take_in_lost(claimed)
        with pytest.raises(FolderError, match="No space left"):
            left_offers.end_left_run(study.folder)
    left_offers.withdraw_offers(study.folder)
    with pytest.raises(FolderError, match="workers have trial 0"):
        left_offers.check_no_work_left(study.folder, "move it")
    with pytest.raises(UsageError, match="workers have trial 0"):
        left_offers.at_rest(study.folder, 0)
    left_offers.end_left_run(study.folder)
    assert study.folder.home(0).resume.read_bytes() == b"resume"
    assert not left_offers.had_workers(study.folder)


def test_an_offer_that_a_killed_run_left_half_made_is_forgotten(study: Study) -> None:
    (study.folder.offered / "00000").rename(offered_trials.desk_folder(study.folder, 0).path)
    study.take_in()
    assert not study.folder.home(0).path.exists()


def test_trials_of_dead_workers_are_taken_back_for_this_machine(study: Study) -> None:
    study.claim(1)
    study.take_back_from_dead()
    watching = "watching for 30 s, or 60 s where they show no heartbeat, whether they are at work"
    assert study.said == [f"workers have trial 1 (on node-1); {watching}"]
    assert 3 * HEARTBEAT <= study.now < 3 * HEARTBEAT + 5
    assert study.attempts(1) == [(1, "lost", "its worker on node-1 was silent")]
    assert not left_offers.had_workers(study.folder)


@pytest.mark.parametrize("command", ["take_back_from_dead", "stop", "next command"])
def test_what_a_worker_of_another_machine_wrote_last_is_waited_for_before_its_trial_is_copied(
    study: Study, command: str
) -> None:
    study.boot = "that of another machine"
    claimed = study.claim(1)
    lost = TrialFolder(claimed.folder.path.with_name(f"{claimed.name}.lost"))
    plain_sleep, seen = study.sleep, list[float]()

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if lost.path.exists():
            seen.append(study.now)
            if study.now - seen[0] > LATE_SECONDS - 5 and not lost.resume.exists():
                lost.resume.write_bytes(b"resume")  # shows now

    study.sleep = sleep  # type: ignore[method-assign]
    if command == "stop":
        study.stop()
    elif command == "next command":
        study.take_in_lost(claimed)
    else:
        study.take_back_from_dead()
    assert study.folder.home(1).resume.read_bytes() == b"resume"
    assert study.attempts(1) == [(1, "lost", "its worker on node-1 was silent")]
    late = "a trial is taken back from a worker on another host; waiting 60 s, which its last files may take to show"
    assert study.said[-1] == late


def failing_moves(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> list[Path]:
    """Let the first moves of a whole copy fail with this errno; gives where they were to lead."""
    real, failed = real_folders.move, list[Path]()

    def move(path: Path, to: Path, within: Path) -> None:
        if to.suffix == ".whole" and len(failed) < times:
            failed.append(to)
            raise OSError(number, os.strerror(number))
        real(path, to, within)

    monkeypatch.setattr(real_folders, "move", move)
    return failed


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY, errno.ESTALE])
def test_taking_back_at_the_start_goes_on_when_what_showed_late_shows(
    study: Study, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert shut_out(study.claim(1))
    study.claim(2)
    failed = failing_moves(monkeypatch, number, 3)
    left_offers.take_in_all(study.folder, lambda: study.now, study.sleep, say=study.said.append)
    assert len(failed) == 3
    assert study.attempts(1) == [(1, "lost", "its worker on node-1 was silent")]
    (said,) = study.said
    assert "trying again for up to 60 s" in said


def test_taking_back_that_fails_for_long_or_for_good_is_an_error(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = study.claim(1)
    assert shut_out(claimed)
    for number in (errno.EACCES, errno.EEXIST):
        with monkeypatch.context() as patching:
            failing_moves(patching, number, 1000)
            with pytest.raises(FolderError, match="cannot be written"):
                left_offers.take_in_all(study.folder, lambda: study.now, study.sleep, say=study.said.append)
    with monkeypatch.context() as patching:
        failing_moves(patching, errno.EEXIST, 1000)
        left_offers.end_left_run(study.folder)  # left to the next run
    assert LATE_SECONDS <= study.now < LATE_SECONDS + 5
    assert [claim.name for claim in unfinished(study.folder)] == [claimed.name]


def test_a_command_that_ends_leaves_what_may_show_late_to_the_next_one(study: Study) -> None:
    study.boot = "that of another machine"
    assert shut_out(claimed := study.claim(1))
    left_offers.end_left_run(study.folder)
    assert [claim.name for claim in unfinished(study.folder)] == [claimed.name]
    assert left_offers.had_workers(study.folder)


def test_a_stop_waits_for_a_heartbeat_that_may_show_late(study: Study) -> None:
    state = run_state.read_run_state(study.folder)
    assert state is not None
    run_state.write_run_state(study.folder, replace(state, heartbeat_seconds=1.0))
    claimed = study.claim(0)
    claimed.folder.beat.unlink()
    plain_sleep = study.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if study.now > LATE_SECONDS - 5 and claimed.folder.path.exists():
            claimed_trials.give_back(claimed, Ending(1, code=75))

    study.sleep = sleep  # type: ignore[method-assign]
    study.stop()
    assert study.now > LATE_SECONDS - 5
    assert [reason for _, reason, _ in study.attempts(0)] == ["cancelled"]


def test_a_stop_says_that_it_waits_for_heartbeats_that_cannot_be_read_and_for_requests_that_cannot_be_written(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed, plain_sleep = study.claim(0), study.sleep

    def unwritten(_claimed: ClaimedTrial, _request: StopRequest) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if study.now > 100.0 and claimed.folder.path.exists():
            claimed_trials.give_back(claimed, Ending(1, code=75))

    study.sleep = sleep  # type: ignore[method-assign]
    monkeypatch.setattr(stopped_workers, "read_trial_beat", lambda _claimed: UNREADABLE)
    monkeypatch.setattr(stopped_workers, "request_stop", unwritten)
    study.stop()
    assert study.now > 100.0
    assert study.said[1:] == [
        f"warning: {claimed.folder.stop_request}: cannot be written: No space left on device",
        "warning: trial 0: the heartbeat of its worker cannot be read; waiting",
    ]


def test_workers_that_beat_as_an_earlier_run_has_asked_are_not_dead_by_the_period_of_this_one(study: Study) -> None:
    state = run_state.read_run_state(study.folder)
    assert state is not None
    run_state.write_run_state(study.folder, replace(state, heartbeat_seconds=60.0))
    claimed, plain_sleep = study.claim(1), study.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        claimed_trials.write_trial_beat(claimed, 1 + int(study.now // 60.0))

    study.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(FolderError, match="workers have trial 1"):
        study.take_back_from_dead()


def test_a_trial_whose_worker_could_not_read_its_offer_was_lost_by_it(study: Study) -> None:
    claimed_trials.give_back(study.claim(0), Ending(0, lost=True, message="its offer.json cannot be read"))
    left_offers.take_in_all(study.folder, lambda: study.now, study.sleep)
    assert study.attempts(0) == [(1, "lost", "its offer.json cannot be read")]


def test_a_trial_of_a_worker_that_beats_is_not_taken_and_nothing_is_changed(study: Study) -> None:
    study.beating = [study.claim(1)]
    with pytest.raises(FolderError, match=r"workers have trial 1 \(on node-1\); with the backend of the workers"):
        study.take_back_from_dead()
    assert offered_trials.offered_trials(study.folder) == [0, 2]
    assert [claimed.trial for claimed in claimed_trials.claimed_trials(study.folder)] == [1]


def test_a_folder_without_workers_costs_no_wait(tmp_path: Path) -> None:
    study = Study(StudyFolder(tmp_path / "other"))
    study.take_back_from_dead()
    assert (study.now, study.said) == (0.0, [])


def test_a_trial_that_a_worker_has_is_not_changed_by_a_request(study: Study) -> None:
    study.claim(1)
    with pytest.raises(UsageError, match="workers have trial 1"):
        left_offers.at_rest(study.folder, 1)
    assert left_offers.at_rest(study.folder, 0) == study.folder.home(0)
    assert offered_trials.offered_trials(study.folder) == [2]


def test_workers_of_one_host_differ_by_their_processes(study: Study) -> None:
    boot = study.boot
    for trial, claimant in enumerate((Claimant("a", "vm", 11, 1), Claimant("b", "vm", 12, 1, "slurm", "7_1"))):
        claimed_trials.write_claimant(study.claim(trial), replace(claimant, boot=boot))
    assert [item.where for item in left_offers.trials_of_workers(study.folder)] == ["vm", "vm (slurm job 7_1)"]
    claimed_trials.write_claimant(study.claim(2), Claimant("c", "vm", 13, 1, boot=boot))
    where = [item.where for item in left_offers.trials_of_workers(study.folder)]
    assert where == ["vm (process 11)", "vm (slurm job 7_1)", "vm (process 13)"]


def test_where_work_is_left_the_folder_may_not_be_moved(study: Study) -> None:
    with pytest.raises(FolderError, match="a run has left trials to workers; move it when they have ended"):
        left_offers.check_no_work_left(study.folder, "move it")


def test_a_stop_takes_offers_back_asks_workers_and_takes_back_from_the_dead(study: Study) -> None:
    alive = study.claim(0)
    study.claim(1)  # its worker has died
    study.beating = [alive]
    asked: list[bool] = []
    plain_sleep = study.sleep

    def sleep(seconds: float) -> None:
        request = claimed_trials.read_stop_request(alive) if alive.folder.path.exists() else None
        if request is not None and not asked:
            asked.append(request.kill)
            study.beating = []
            claimed_trials.give_back(alive, Ending(1, code=75))
        plain_sleep(seconds)

    study.sleep = sleep  # type: ignore[method-assign]
    assert study.stop() == ("2 trials of workers stopped, and what was offered is taken back",)
    assert asked == [False]
    assert [reason for _, reason, _ in study.attempts(0)] == ["cancelled"]
    assert [reason for _, reason, _ in study.attempts(1)] == ["lost"]
    assert study.attempts(2) == []
    assert not left_offers.had_workers(study.folder)


@dataclass
class FakeEngine:
    """An engine that knows the jobs that the test names, and what it was asked."""

    known: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)

    def knows(self, job: str) -> bool:
        return job in self.known

    def cancel(self) -> None:
        self.calls.append("cancel")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def engine(study: Study, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine of the study, which was left by a run on Slurm."""
    made = FakeEngine()
    monkeypatch.setattr("tunectl.session.left_engine.make_engine", lambda _name, _order: made)
    state = run_state.read_run_state(study.folder)
    assert state is not None
    run_state.write_run_state(study.folder, replace(state, resources=ResourcesSection(backend="slurm")))
    return made


def claim_in_job(study: Study, trial: int) -> ClaimedTrial:
    claimed = study.claim(trial)
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 1, 1, "slurm", "12_3", boot=study.boot))
    return claimed


def test_a_stop_waits_for_a_silent_worker_whose_job_the_engine_knows_and_cancels_the_jobs_last(
    study: Study, engine: FakeEngine
) -> None:
    claimed = claim_in_job(study, 0)
    engine.known.add("12_3")
    plain_sleep = study.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if study.now > 10 * HEARTBEAT and claimed.folder.path.exists():
            assert engine.calls == []
            claimed_trials.give_back(claimed, Ending(1, code=75))

    study.sleep = sleep  # type: ignore[method-assign]
    assert study.stop() == (
        "1 trial of workers stopped, and what was offered is taken back; the jobs of slurm are cancelled",
    )
    assert len([line for line in study.said if "slurm may still have its job" in line]) == 1
    assert [reason for _, reason, _ in study.attempts(0)] == ["cancelled"]
    assert engine.calls == ["cancel", "close"]


@pytest.mark.parametrize("now", [False, True])
def test_a_stop_takes_trials_back_whose_jobs_are_gone_or_that_are_not_to_save(
    study: Study, engine: FakeEngine, now: bool
) -> None:
    claim_in_job(study, 0)
    engine.known |= {"12_3"} if now else set()
    study.stop(now=now)
    assert [reason for _, reason, _ in study.attempts(0)] == ["lost"]
    assert study.now < 5 * HEARTBEAT


def test_a_silent_worker_whose_job_the_engine_knows_keeps_its_trial_from_this_machine(
    study: Study, engine: FakeEngine
) -> None:
    claim_in_job(study, 1)
    engine.known.add("12_3")
    with pytest.raises(FolderError, match="slurm may still have their jobs, though they are silent"):
        study.take_back_from_dead()
    assert [claimed.trial for claimed in claimed_trials.claimed_trials(study.folder)] == [1]
    engine.known.clear()
    study.take_back_from_dead()
    assert [reason for _, reason, _ in study.attempts(1)] == ["lost"]


def test_where_the_engine_cannot_be_asked_its_workers_have_not_died(
    study: Study, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_name: str, _order: object) -> None:
        raise UsageError("submitit is not installed")

    monkeypatch.setattr("tunectl.session.left_engine.make_engine", refused)
    claim_in_job(study, 1)
    with pytest.raises(FolderError, match="may still have their jobs"):
        study.take_back_from_dead()
    assert "warning: the workers' jobs are not known here: submitit is not installed" in study.said
    assert engine.calls == []


class NoSuchJob:
    """A question to squeue, whose answer is that there is no such job: it ended long ago, or is another cluster's."""

    is_open = False

    def __init__(self, _clock: object) -> None: ...

    def answer(self) -> None: ...

    def ask(self, *_command: str) -> Answer:
        return Answer("", "slurm_load_jobs error: Invalid job id specified", 0.0)


def test_a_job_that_slurm_has_never_shown_counts_as_gone_when_its_worker_was_silent_for_a_minute(
    study: Study, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_foreign, "Question", NoSuchJob)
    jobs = slurm_foreign.ForeignJobs("tunectl-x", lambda: study.now)
    monkeypatch.setattr(engine, "knows", jobs.knows, raising=False)
    claim_in_job(study, 1)
    study.take_back_from_dead()
    assert [reason for _, reason, _ in study.attempts(1)] == ["lost"]
    assert LATE_SECONDS <= study.now < LATE_SECONDS + 5


def test_a_worker_that_beats_while_slurm_is_asked_keeps_its_trial(
    study: Study, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "knows", lambda _job: None, raising=False)
    claimed, plain_sleep = claim_in_job(study, 1), study.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        study.beating = [claimed] if study.now > 4 * HEARTBEAT else []

    study.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(FolderError, match="with the backend of the workers") as raised:
        study.take_back_from_dead()
    assert "though they are silent" not in str(raised.value)
    assert study.now < LATE_SECONDS


def test_a_stop_asks_the_workers_before_it_waits_for_what_shows_late(study: Study) -> None:
    study.boot = "that of another machine"
    assert shut_out(study.claim(0))
    alive, plain_sleep, slept = study.claim(1), study.sleep, list[float]()

    def sleep(seconds: float) -> None:
        if not slept:
            assert claimed_trials.read_stop_request(alive) is not None
            assert offered_trials.offered_trials(study.folder) == []
            claimed_trials.give_back(alive, Ending(1, code=75))
        slept.append(seconds)
        plain_sleep(seconds)

    study.sleep = sleep  # type: ignore[method-assign]
    assert study.stop()[0].startswith("1 trial of workers stopped")
    assert [reason for _, reason, _ in study.attempts(0)] == ["lost"]


@pytest.mark.parametrize("late", ["copy", "end"])
def test_a_stop_that_is_requested_while_what_workers_left_is_waited_for_ends_the_wait_and_nothing_is_copied(
    study: Study, late: str
) -> None:
    study.boot = "that of another machine"
    claimed = study.claim(0)
    if late == "copy":
        assert shut_out(claimed)
    else:
        claimed_trials.give_back(claimed, Ending(1, code=0))
    with pytest.raises(StoppedError, match="the next run waits again"):
        left_offers.take_in_all(
            *(study.folder, lambda: study.now, study.sleep),
            say=study.said.append,
            stop_requested=lambda: int(study.now > 1.0),
        )
    assert study.now < 2.0
    assert len(study.said) == 1
    home = study.folder.home(0)
    assert home.path.exists() == home.offer.exists() == (late == "end")
    assert [claim.trial for claim in unfinished(study.folder)] == ([0] if late == "copy" else [])
    study.take_in()
    assert [reason for _, reason, _ in study.attempts(0)] == (["lost"] if late == "copy" else ["crashed"])


def test_a_stop_ends_the_watch_of_silent_workers_and_leaves_their_trials(study: Study) -> None:
    claimed = study.claim(1)
    with pytest.raises(StoppedError):
        left_offers.take_back_from_dead(
            *(study.folder, study.said.append, HEARTBEAT, lambda: study.now, study.sleep),
            stop_requested=lambda: int(study.now > 5.0),
        )
    assert study.now < 3 * HEARTBEAT
    assert claimed_trials.claimed_trials(study.folder) == [claimed]


def test_a_command_that_ends_waits_for_no_file_and_the_next_one_names_what_does_not_show(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = study.claim(0)
    claimed.folder.checkpoints.mkdir()
    (claimed.folder.checkpoints / "7.pt").write_bytes(b"abc")
    claimed_trials.give_back(claimed, Ending(1, signal=11))
    for trial in offered_trials.offered_trials(study.folder):
        offered_trials.withdraw_trial(study.folder, trial)
    home = study.folder.home(0)
    missing = home.checkpoints / "7.pt"
    missing.unlink()
    with monkeypatch.context() as patching:
        patching.setattr("tunectl.session.left_offers.time.sleep", lambda _seconds: pytest.fail("waits"))
        left_offers.end_left_run(study.folder)
    assert home.offer.exists()
    assert left_offers.had_workers(study.folder)
    study.take_in()
    assert [reason for _, reason, _ in study.attempts(0)] == ["crashed"]
    assert study.said == [
        f"waiting up to 60 s for what workers gave back to show; {missing} does not yet",
        f"warning: {missing} does not show as its worker left it",
    ]


def test_a_worker_that_is_about_to_give_a_result_back_is_not_shut_out(study: Study) -> None:
    study.boot = "that of another machine"
    claimed, plain_sleep = study.claim(0), study.sleep
    write_result(claimed.folder, TrialResult(0, "completed", attempt=1))

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if study.now >= 1.0 and claimed.folder.path.exists():
            claimed_trials.give_back(claimed, Ending(1, code=0))

    study.sleep = sleep  # type: ignore[method-assign]
    study.take_in()
    assert 1.0 <= study.now < 2.0
    assert unfinished(study.folder) == []
    assert not study.folder.home(0).offer.exists()
