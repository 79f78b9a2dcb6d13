"""What a run sees of its workers, and when one counts as dead.

Tests claim_watch.py, watched_trials.py, silent_claims.py, whole_ends.py, taking_back.py and server_patience.py, with
backends/offering.py.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from moved_clock import Clock
from offered_studies import offered_study
from toy_trials import wait_until

from tunectl.core import real_folders, regular_files
from tunectl.core.boot_id import seen_from
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.execution import claim_watch, whole_ends
from tunectl.execution import silent_claims as silent_claims_module
from tunectl.execution.backends.backend import ProcessEnded, ProcessStarted
from tunectl.execution.claim_watch import ClaimWatch
from tunectl.execution.server_patience import SERVER_SECONDS, passing_error
from tunectl.execution.silent_claims import silent_claims
from tunectl.execution.taking_back import TakingBack
from tunectl.execution.watched_trials import CAUSE_SECONDS
from tunectl.execution.worker_engine import EngineJob, JobState
from tunectl.execution.worker_supply import WorkerSupply
from tunectl.store import claimed_trials, lost_claims, offered_trials
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, Ending, StopRequest
from tunectl.store.heartbeats import LATE_SECONDS, UNREADABLE
from tunectl.store.offered_trials import Offer
from tunectl.store.sealed_files import write_record
from tunectl.store.trial_files import read_trial

HEARTBEAT = 10.0


@dataclass
class FakeEngine:
    """An engine that knows what the test says."""

    name: str = "slurm"
    can_be_left: bool = True
    most: int | None = None
    trials_at_once: int = 1
    known: dict[str, EngineJob] = field(default_factory=dict)
    can_be_asked: bool = True

    def submit(self, workers: int) -> None:
        raise AssertionError(workers)

    def jobs(self) -> Mapping[str, EngineJob]:
        return self.known

    def knows(self, job: str) -> bool | None:
        return self.known[job].state != "ended" if self.can_be_asked else None

    def cancel(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Case:
    """An offered study of three trials, watched from a clock that only the test moves."""

    study: StudyFolder
    watch: ClaimWatch
    clock: Clock
    engine: FakeEngine
    said: list[str]
    boot: str = ""

    def __post_init__(self) -> None:
        self.boot = seen_from(self.study.path)

    def look(self, seconds: float = 0.0) -> list[ProcessStarted | ProcessEnded]:
        """What happens while time passes, seen once a second."""
        found = list(self.watch.look())
        for _ in range(int(seconds)):
            self.clock.now += 1.0
            found += self.watch.look()
        return found

    def claim(self, trial: int = 0, engine: str = "", job: str = "") -> ClaimedTrial:
        claimed = claimed_trials.claim_trial(self.study, trial)
        assert claimed is not None
        claimed_trials.write_claimant(
            claimed, Claimant("w", "node-1", 4711, 1, engine, job, device="GPU-a", boot=self.boot)
        )
        claimed_trials.write_trial_beat(claimed, 1)
        return claimed


def made(path: Path, *, has_engine: bool, taking: TakingBack | None = None) -> Case:
    study, clock, engine, said = offered_study(path, 3), Clock(), FakeEngine(), list[str]()
    supply = WorkerSupply(engine, None, said.append, clock) if has_engine else None
    watch = ClaimWatch(study, HEARTBEAT, supply, said.append, clock, taking or TakingBack(in_thread=False))
    for trial in range(3):
        watch.add(trial, 1)
    return Case(study, watch, clock, engine, said)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return made(tmp_path, has_engine=False)


@pytest.fixture
def with_engine(tmp_path: Path) -> Case:
    return made(tmp_path, has_engine=True)


def write_result(folder: TrialFolder, lines: int = 0, **more: object) -> None:
    content = {"trial": 0, "state": "completed", "attempt": 1, "measurements": lines, **more}
    folder.result.write_text(json.dumps(content))


def test_nothing_happens_while_trials_are_offered(case: Case) -> None:
    assert case.look(100) == []
    assert case.watch.offered == {0, 1, 2}


def test_a_claim_is_a_start_on_that_host_and_device(case: Case) -> None:
    case.claim(1)
    assert case.look() == [ProcessStarted(1, 4711, "GPU-a", "node-1 (process 4711)")]
    assert case.look(5) == []
    assert case.watch.offered == {0, 2}


def test_a_trial_that_came_and_went_between_two_looks_has_a_start_and_an_end(case: Case) -> None:
    claimed = case.claim()
    write_result(claimed.folder)
    claimed_trials.give_back(claimed, Ending(1, code=0, seconds=2.0))
    started, ended = case.look()
    assert isinstance(started, ProcessStarted)
    assert ended == ProcessEnded(0, 0, None, 2.0)
    assert case.watch.trials.keys() == {1, 2}


def test_how_it_ended_at_the_worker_is_how_it_ends(case: Case) -> None:
    claimed = case.claim()
    claimed_trials.give_back(claimed, Ending(1, signal=9, seconds=2.0, message="out of memory", had_company=True))
    assert case.look()[-1] == ProcessEnded(0, None, 9, 2.0, message="out of memory", had_company=True)


def test_a_result_that_shows_late_is_waited_for(case: Case) -> None:
    claimed = case.claim()
    claimed_trials.give_back(claimed, Ending(1, code=0, seconds=2.0))
    assert [event for event in case.look(30) if isinstance(event, ProcessEnded)] == []
    home = case.study.home(0)
    home.measurements.write_text('{"step": 0}\n')
    write_result(home, lines=2)
    assert case.look(10) == []
    home.measurements.write_text('{"step": 0}\n' * 3)  # as an earlier attempt left it
    assert case.look(5) == []
    home.measurements.write_text('{"step": 0}\n{"step": 1}\n')
    assert [event.code for event in case.look(1) if isinstance(event, ProcessEnded)] == [0]


@pytest.mark.parametrize("name", ["checkpoints/step-00000010.pt", "steps.jsonl", "predictions.jsonl", "resume.pt"])
@pytest.mark.parametrize("late", ["missing", "short", "longer", "other"])
def test_a_trial_has_ended_when_all_files_show_that_its_worker_left(case: Case, name: str, late: str) -> None:
    claimed = case.claim()
    case.look()
    write_result(claimed.folder)
    (claimed.folder.path / name).parent.mkdir(exist_ok=True)
    (claimed.folder.path / name).write_bytes(b"1\n" * 30)
    claimed_trials.give_back(claimed, Ending(1, code=0))
    shown = {"missing": None, "short": b"1\n" * 29, "longer": b"1\n" * 31, "other": b"2\n" * 30}[late]
    (case.study.home(0).path / name).unlink()
    if shown is not None:
        (case.study.home(0).path / name).write_bytes(shown)
    if late in ("missing", "short") or "/" not in name:  # a checkpoint of the same name is of the same training
        assert case.look(5) == []
    (case.study.home(0).path / name).write_bytes(b"1\n" * 30)
    assert [event.code for event in case.look(1) if isinstance(event, ProcessEnded)] == [0]
    assert case.said == []


@pytest.mark.parametrize("name", ["resume.pt", "log.txt", "files/last/model.pt"])
def test_a_trial_that_goes_on_elsewhere_is_waited_for_until_all_shows_as_its_worker_left_it(
    case: Case, name: str
) -> None:
    claimed = case.claim()
    case.look()
    path = claimed.folder.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"step 40")
    claimed_trials.give_back(claimed, Ending(1, code=75, released=True))
    late = case.study.home(0).path / name
    late.write_bytes(b"step 20" if name == "resume.pt" else b"step")
    assert case.look(5) == []
    late.write_bytes(b"step 40")
    assert [event.released for event in case.look(1) if isinstance(event, ProcessEnded)] == [True]
    assert case.said == []
    offered_trials.offer_trial(case.study, Offer(0, 2))
    offer = offered_trials.read_offer(offered_trials.offered_folder(case.study, 0))
    assert offer is not None
    assert offer.files[name] == len(b"step 40")


def test_what_is_late_is_looked_for_once_a_second(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed, looks = case.claim(), list[float]()

    def late(_home: object, _left: object) -> list[str]:
        looks.append(case.clock.now)
        return ["resume.pt"]

    monkeypatch.setattr(whole_ends, "not_shown", late)
    claimed_trials.give_back(claimed, Ending(1, code=75, released=True))
    for _ in range(20):
        case.clock.now += 0.25
        assert case.look() == []
    assert len(looks) == len(set(map(int, looks))) <= 6


def test_what_shows_part_by_part_is_waited_for_as_long_as_parts_show(case: Case) -> None:
    claimed = case.claim()
    case.look()
    write_result(claimed.folder)
    names = ["steps.jsonl", "predictions.jsonl", "measurements.jsonl"]
    for name in names:
        (claimed.folder.path / name).write_bytes(b"1\n" * 30)
    write_result(claimed.folder, lines=30)
    claimed_trials.give_back(claimed, Ending(1, code=0))
    home = case.study.home(0).path
    for name in names:
        (home / name).rename(home.parent / name)
    for name in names:
        assert case.look(LATE_SECONDS - 5) == []
        (home.parent / name).rename(home / name)
    assert [event.code for event in case.look(1) if isinstance(event, ProcessEnded)] == [0]
    assert case.said == []


def test_a_trial_whose_folder_never_stops_changing_ends(case: Case) -> None:
    claimed = case.claim()
    case.look()
    write_result(claimed.folder, lines=1)
    claimed_trials.give_back(claimed, Ending(1, code=0))
    ended: list[object] = []
    for size in range(2, 20):
        (case.study.home(0).steps).write_bytes(b"1" * size)
        ended += [event for event in case.look(LATE_SECONDS - 5) if isinstance(event, ProcessEnded)]
    assert len(ended) == 1


def test_files_that_go_by_themselves_are_not_waited_for(case: Case) -> None:
    claimed = case.claim()
    case.look()
    write_result(claimed.folder)
    for name in (".nfs00000000000a", ".resume.pt.01234567.tmp", "log.txt"):
        (claimed.folder.path / name).write_bytes(b"1")
    claimed_trials.give_back(claimed, Ending(1, code=0))
    for name in (".nfs00000000000a", ".resume.pt.01234567.tmp", "log.txt"):
        (case.study.home(0).path / name).unlink()
    assert [event.code for event in case.look() if isinstance(event, ProcessEnded)] == [0]


def test_a_file_that_never_shows_is_named(case: Case) -> None:
    claimed = case.claim()
    write_result(claimed.folder)
    claimed.folder.checkpoints.mkdir()
    (claimed.folder.checkpoints / "step-00000010.pt").write_bytes(b"1")
    claimed_trials.give_back(claimed, Ending(1, code=0))
    (case.study.home(0).checkpoints / "step-00000010.pt").unlink()
    assert [event.code for event in case.look(LATE_SECONDS + 2) if isinstance(event, ProcessEnded)] == [0]
    (said,) = case.said
    assert "step-00000010.pt does not show as its worker left it" in said


def test_an_end_that_a_full_disk_kept_from_being_written_is_known_by_the_result(case: Case) -> None:
    claimed = case.claim()
    write_result(claimed.folder)
    claimed_trials.return_home(claimed)
    assert case.look(LATE_SECONDS - 2) == [], "how it ended may show late"
    assert case.look(4)[-1].code == 0  # type: ignore[union-attr]


def test_a_trial_that_its_worker_gave_back_without_an_end_and_a_result_is_released_after_a_while(case: Case) -> None:
    claimed_trials.return_home(case.claim())
    assert [event for event in case.look(LATE_SECONDS - 1) if isinstance(event, ProcessEnded)] == []
    *_, ended = case.look(2)
    assert isinstance(ended, ProcessEnded)
    assert (ended.released, ended.lost) == (True, False)


def test_the_end_of_an_earlier_attempt_is_not_taken_for_the_end_of_this_one(case: Case) -> None:
    claimed = case.claim()
    write_result(claimed.folder, attempt=7)
    claimed_trials.give_back(claimed, Ending(7, code=0))
    assert not any(isinstance(event, ProcessEnded) for event in case.look(10))


def test_an_attempt_that_wrote_no_result_says_whose_result_there_is(case: Case) -> None:
    claimed = case.claim()
    write_result(claimed.folder, attempt=7)
    claimed_trials.give_back(claimed, Ending(1, code=0))
    *_, ended = case.look(LATE_SECONDS + 2)
    assert isinstance(ended, ProcessEnded)
    assert (ended.code, ended.message) == (0, "wrote no result; result.json is that of attempt 7")


def test_a_result_whose_lines_are_missing_for_good_is_that_of_its_attempt(case: Case) -> None:
    claimed = case.claim()
    write_result(claimed.folder, lines=2)
    claimed_trials.give_back(claimed, Ending(1, code=0))
    *_, ended = case.look(LATE_SECONDS + 2)
    assert isinstance(ended, ProcessEnded)
    assert (ended.code, ended.message) == (0, "")
    assert [line for line in read_trial(case.study.home(0)).damage if "has 0 of the 2 lines" in line]


def test_a_trial_that_was_never_started_and_is_offered_again_is_as_before(case: Case) -> None:
    claimed = case.claim()
    case.look()
    claimed_trials.unclaim(claimed)
    assert case.look(100) == []
    assert case.watch.offered == {0, 1, 2}


def test_a_worker_that_beats_is_alive_whatever_the_times_of_its_files_are(case: Case) -> None:
    claimed = case.claim()
    found = case.look()
    for count in range(2, 30):
        claimed_trials.write_trial_beat(claimed, count)
        found += case.look(HEARTBEAT)
    assert [type(event) for event in found] == [ProcessStarted]


def test_a_worker_that_is_silent_for_three_periods_is_dead_and_its_trial_is_taken_back(case: Case) -> None:
    claimed = case.claim()
    assert len(case.look(29)) == 1
    (ended,) = case.look(3)
    assert isinstance(ended, ProcessEnded)
    assert (ended.lost, ended.message) == (True, "its worker on node-1 was silent for 30 s")
    assert case.study.home(0).request.exists()
    assert not claimed_trials.give_back(claimed, Ending(1, code=0)), "the old worker is shut out"


def test_a_runner_that_was_suspended_has_not_seen_that_a_worker_is_silent(case: Case) -> None:
    claimed = case.claim()
    case.look(5)
    case.clock.now += 3_600
    assert case.look() == []
    claimed_trials.write_trial_beat(claimed, 2)
    assert case.look(25) == []


def test_a_worker_that_died_after_its_end_was_written_has_ended_as_it_says(case: Case) -> None:
    claimed = case.claim()
    (claimed.folder.path / "log.txt").write_text("done\n")
    write_result(claimed.folder)
    home_before = claimed_trials.give_back(claimed, Ending(1, code=0, seconds=2.0))
    assert home_before
    # As if the rename had not been done: the folder is back among the claims.
    case.study.home(0).path.rename(claimed.folder.path)
    assert case.look(40)[-1] == ProcessEnded(0, 0, None, 2.0)


def test_a_worker_that_died_after_an_end_without_a_result_says_whose_result_there_is(case: Case) -> None:
    claimed = case.claim()
    write_result(claimed.folder, attempt=7)
    assert claimed_trials.give_back(claimed, Ending(1, code=0))
    case.study.home(0).path.rename(claimed.folder.path)
    ended = case.look(40)[-1]
    assert isinstance(ended, ProcessEnded)
    assert (ended.code, ended.message) == (0, "wrote no result; result.json is that of attempt 7")


def test_a_silent_worker_whose_job_the_engine_knows_is_waited_for_and_that_is_said_once(with_engine: Case) -> None:
    case = with_engine
    case.engine.known["12_3"] = EngineJob("running")
    case.claim(engine="slurm", job="12_3")
    assert len(case.look(200)) == 1
    assert case.said == [
        "trial 0: its worker on node-1 (slurm job 12_3) has been silent for 30 s, but its job is still there; waiting: "
        "cancel that job if the worker is dead"
    ]
    case.engine.known["12_3"] = EngineJob("ended", "NODE_FAIL", Path("/logs/12_3.out"))
    (ended,) = case.look(1)
    assert isinstance(ended, ProcessEnded)
    assert (ended.lost, ended.cause, ended.is_excused) == (True, "NODE_FAIL", False)
    assert "whose job ended: NODE_FAIL, was silent for" in ended.message
    assert "/logs/12_3.out" in ended.message


def test_an_engine_that_cannot_be_asked_keeps_a_silent_worker_from_counting_as_dead(with_engine: Case) -> None:
    case = with_engine
    case.engine.known["12"] = EngineJob("ended", "PREEMPTED")
    case.engine.can_be_asked = False
    case.claim(engine="slurm", job="12")
    assert len(case.look(100)) == 1
    assert "slurm cannot say now whether its job is still there" in case.said[0]
    case.engine.can_be_asked = True
    (ended,) = case.look(1)
    assert isinstance(ended, ProcessEnded)
    assert (ended.cause, ended.is_excused) == ("PREEMPTED", True)


def test_the_engine_is_not_asked_about_a_worker_that_it_did_not_start(with_engine: Case) -> None:
    with_engine.claim()
    assert any(isinstance(event, ProcessEnded) and event.lost for event in with_engine.look(40))


def test_a_silent_worker_of_a_known_job_is_shut_out_where_its_trial_is_to_be_killed(with_engine: Case) -> None:
    case = with_engine
    case.engine.known["12"] = EngineJob("running")
    case.claim(engine="slurm", job="12")
    case.look(5)
    case.watch.stop(0, StopRequest(kill=True))
    assert any(isinstance(event, ProcessEnded) and event.lost for event in case.look(40))


def test_a_stop_takes_an_offered_trial_back_as_if_it_had_not_been_offered(case: Case) -> None:
    case.study.trial(0).request.write_text('{"kind": "workload", "attempt": 1}')
    assert case.watch.stop(0, StopRequest()) == ProcessEnded(0, None, None, 0.0, never_began=True)
    assert not case.study.home(0).path.exists()
    assert case.look() == []


def test_a_stop_reaches_the_worker_also_where_the_claim_shows_only_later(case: Case) -> None:
    claimed = case.claim()
    assert case.watch.stop(0, StopRequest()) is None
    case.look(1)
    assert claimed_trials.read_stop_request(claimed) == StopRequest(kill=False)
    case.watch.stop(0, StopRequest(kill=True))
    assert claimed_trials.read_stop_request(claimed) == StopRequest(kill=True)


def test_claims_are_silent_only_where_none_of_them_beats(case: Case) -> None:
    claims = [case.claim(0), case.claim(1)]

    def sleep(seconds: float) -> None:
        case.clock.now += seconds

    assert silent_claims(case.study, claims, HEARTBEAT, case.said.append, case.clock, sleep)

    def beat(seconds: float) -> None:
        case.clock.now += seconds
        if case.clock.now > 60.0:
            claimed_trials.write_trial_beat(claims[1], int(case.clock.now))

    assert not silent_claims(case.study, claims, HEARTBEAT, case.said.append, case.clock, beat)


@pytest.mark.parametrize("waits", [None, True])
def test_a_trial_whose_worker_died_before_it_began_has_used_no_attempt(case: Case, waits: bool | None) -> None:
    claimed = claimed_trials.claim_trial(case.study, 0)
    assert claimed is not None
    if waits:
        claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 1, waits=True))
    assert case.look(LATE_SECONDS + 2) == [ProcessEnded(0, None, None, 0.0, never_began=True)]
    assert not TrialFolder(case.study.trials / "00000").offer.exists()


def test_a_trial_that_waits_at_its_worker_has_not_started_and_is_known_to_be_claimed(with_engine: Case) -> None:
    claimed = claimed_trials.claim_trial(with_engine.study, 0)
    assert claimed is not None
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 1, "slurm", "12_3", waits=True))
    claimed_trials.write_trial_beat(claimed, 1)
    assert with_engine.look(2) == []
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 1, "slurm", "12_3", device="GPU-a"))
    assert [type(event) for event in with_engine.look(2)] == [ProcessStarted]


def test_a_trial_that_its_worker_gives_back_unbegun_never_began(case: Case) -> None:
    claimed = case.claim()
    case.watch.stop(0, StopRequest())
    case.look(1)
    claimed_trials.give_back(claimed, Ending(1, never_began=True))
    assert [event for event in case.look(1) if isinstance(event, ProcessEnded)] == [
        ProcessEnded(0, None, None, 0.0, never_began=True)
    ]


def test_a_trial_that_is_to_end_and_is_offered_again_by_its_worker_is_taken_back(case: Case) -> None:
    claimed = case.claim()
    case.look(1)
    assert case.watch.stop(0, StopRequest()) is None
    claimed_trials.unclaim(claimed)
    assert case.look(1) == [ProcessEnded(0, None, None, 0.0, never_began=True)]
    assert case.watch.offered == {1, 2}


def test_a_worker_that_cannot_read_an_offer_gives_the_trial_back_at_once(case: Case) -> None:
    claimed = claimed_trials.claim_trial(case.study, 0)
    assert claimed is not None
    claimed_trials.give_back(claimed, Ending(0, lost=True, message="its offer.json cannot be read"))
    (ended,) = case.look(1)
    assert isinstance(ended, ProcessEnded)
    assert (ended.lost, ended.message) == (True, "its offer.json cannot be read")


def test_a_worker_that_died_when_it_could_not_read_an_offer_has_lost_the_trial_for_that(case: Case) -> None:
    claimed = case.claim()
    ending = Ending(0, lost=True, message="its offer.json cannot be read")
    write_record(claimed.folder.ending, ending, within=claimed.study.path)
    *_, ended = case.look(31)
    assert isinstance(ended, ProcessEnded)
    assert (ended.lost, ended.message) == (True, "its offer.json cannot be read")


def test_the_progress_of_a_trial_that_is_released_is_progress_of_its_workers(
    with_engine: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[tuple[int, int]] = []
    monkeypatch.setattr(WorkerSupply, "trial_left", lambda _self, trial, progress: left.append((trial, progress)))
    for trial, step in ((0, 30), (1, 0)):
        claimed = with_engine.claim(trial, "slurm", "12_3")
        line = {"step": step, "kind": "evaluation", "metrics": {}, "elapsed_seconds": 1.0}
        claimed.folder.measurements.write_text(json.dumps(line) + "\n")
        claimed_trials.give_back(claimed, Ending(1, code=75, released=True))
    with_engine.look(1)
    assert left == [(0, 30), (1, 0)]


def released_at(case: Case, **ending: Any) -> None:
    claimed = case.claim(0, "slurm", "12_3")
    case.look()
    claimed_trials.give_back(claimed, Ending(1, code=75, released=True, message="was asked", **ending))


def ends(events: list[ProcessStarted | ProcessEnded]) -> list[str]:
    return [event.cause for event in events if isinstance(event, ProcessEnded)]


@pytest.mark.parametrize("state", ["running", "ended"])
def test_a_released_trial_waits_for_the_engines_word_about_its_worker(with_engine: Case, state: JobState) -> None:
    with_engine.engine.known["12_3"] = EngineJob("running")
    released_at(with_engine, was_asked=True)
    assert ends(with_engine.look(5)) == []
    with_engine.engine.known["12_3"] = EngineJob(state, "PREEMPTED")
    assert ends(with_engine.look(1)) == ["PREEMPTED"]


@pytest.mark.parametrize("job", [EngineJob("ended", "FAILED (exit code 130)"), EngineJob("ended"), None])
def test_a_released_trial_does_not_wait_where_no_word_will_come(with_engine: Case, job: EngineJob | None) -> None:
    with_engine.engine.known.update({"12_3": job} if job is not None else {})
    released_at(with_engine, was_asked=True)
    assert ends(with_engine.look()) == [""]


def test_a_released_trial_does_not_wait_for_a_word_for_long_nor_where_it_is_to_end(with_engine: Case) -> None:
    with_engine.engine.known["12_3"] = EngineJob("running")
    released_at(with_engine, was_asked=True)
    assert ends(with_engine.look(CAUSE_SECONDS - 1)) == []
    with_engine.watch.stop(0, StopRequest())
    assert ends(with_engine.look()) == [""]


def test_a_released_trial_goes_on_after_a_while_without_a_word(with_engine: Case) -> None:
    with_engine.engine.known["12_3"] = EngineJob("running")
    released_at(with_engine, was_asked=True)
    assert ends(with_engine.look(CAUSE_SECONDS)) == [""]


def test_what_a_worker_knows_of_its_end_is_the_cause(with_engine: Case) -> None:
    with_engine.engine.known["12_3"] = EngineJob("running")
    released_at(with_engine, cause="TIMEOUT")
    assert ends(with_engine.look()) == ["TIMEOUT"]


def test_a_beat_that_cannot_be_read_is_no_silence(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = case.claim()
    case.look(5)
    real = regular_files.content

    def fails(path: Path, **more: Any) -> bytes:
        if path.name == "beat":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, **more)

    with monkeypatch.context() as patching:
        patching.setattr(regular_files, "content", fails)
        assert case.look(100) == []
    assert case.said == ["trial 0: the heartbeat of its worker on node-1 cannot be read; waiting"]
    assert case.look(20) == []
    claimed_trials.write_trial_beat(claimed, 2)
    assert case.look(20) == []
    assert any(isinstance(event, ProcessEnded) for event in case.look(15))


def test_a_beat_that_does_not_show_yet_may_show_as_late_as_a_file_server_is(case: Case) -> None:
    claimed = claimed_trials.claim_trial(case.study, 0)
    assert claimed is not None
    assert case.look(LATE_SECONDS - 1) == []
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 1, boot=case.boot))
    claimed_trials.write_trial_beat(claimed, 1)
    assert [type(event) for event in case.look(29)] == [ProcessStarted]
    never = claimed_trials.claim_trial(case.study, 1)
    assert never is not None
    assert [event.trial for event in case.look(LATE_SECONDS + 2) if isinstance(event, ProcessEnded)] == [0, 1]


def test_a_claim_whose_files_do_not_show_is_a_claim_and_no_end(case: Case) -> None:
    claimed = case.claim()
    for name in ("offer.json", "claim.json", "request.json"):
        (claimed.folder.path / name).rename(case.study.path / name)
    found = []
    for count in range(2, 200):
        claimed_trials.write_trial_beat(claimed, count)
        found += case.look(1)
    assert found == []
    for name in ("offer.json", "claim.json", "request.json"):
        (case.study.path / name).rename(claimed.folder.path / name)
    assert [type(event) for event in case.look(1)] == [ProcessStarted]


def test_places_that_cannot_be_listed_are_listed_again_and_nothing_counts_as_missing_meanwhile(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed_trials.give_back(case.claim(), Ending(1, code=0))
    assert not any(isinstance(event, ProcessEnded) for event in case.look(LATE_SECONDS - 2))
    real = real_folders.names

    def fails(folder: Path, within: Path | None = None) -> list[str]:
        if folder.name == "offered":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return real(folder, within)

    with monkeypatch.context() as patching:
        patching.setattr(real_folders, "names", fails)
        assert case.look(SERVER_SECONDS - 10) == []
    assert len(case.said) == 1
    assert "No such file or directory; trying again for up to 300 s" in case.said[0]
    assert case.look(LATE_SECONDS - 2) == []
    monkeypatch.setattr(real_folders, "names", fails)
    with pytest.raises(FolderError, match="tried again for 300 s"):
        case.look(SERVER_SECONDS + 10)


def test_a_trial_that_cannot_be_taken_back_is_neither_lost_nor_begun_anew_and_is_taken_back_later(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = case.claim()
    claimed.folder.resume.write_bytes(b"resume")
    claimed.folder.log.write_bytes(b"log")
    case.look()
    real = os.fsync

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patching:
        patching.setattr(os, "fsync", full)
        assert case.look(300) == []
    assert real is os.fsync
    assert len(case.said) == 1
    assert "cannot be taken back from its worker on node-1" in case.said[0]
    assert "No space left on device; trying again every 10 s" in case.said[0]
    assert not case.study.home(0).path.exists()
    (ended,) = case.look(12)
    assert isinstance(ended, ProcessEnded)
    assert ended.lost
    assert case.study.home(0).resume.read_bytes() == b"resume"


def test_a_run_that_is_stopped_does_not_wait_for_a_trial_that_cannot_be_taken_back(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = case.claim()
    claimed.folder.resume.write_bytes(b"resume")
    case.look()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    case.look(40)
    for trial in range(3):
        case.watch.stop(trial, StopRequest(kill=True))
    with pytest.raises(FolderError, match="the next run does it"):
        case.look(15)
    assert case.study.trial(0).resume.read_bytes() == b"resume"


def test_a_trial_that_is_to_be_killed_and_cannot_be_taken_back_does_not_end_the_run_of_the_others(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.claim().folder.resume.write_bytes(b"resume")
    case.look()
    case.watch.stop(0, StopRequest(kill=True))
    with monkeypatch.context() as patching:
        patching.setattr(os, "fsync", failing(errno.EIO))
        assert case.look(100) == []
    (ended,) = case.look(12)
    assert isinstance(ended, ProcessEnded)
    assert ended.lost
    assert case.study.home(0).resume.read_bytes() == b"resume"


def test_what_a_worker_of_another_machine_wrote_last_is_copied_though_it_shows_late(case: Case) -> None:
    case.boot = "that of another machine"
    claimed = case.claim()
    lost = TrialFolder(claimed.folder.path.with_name(f"{claimed.name}.lost"))
    assert len(case.look(31)) == 1
    assert lost.path.is_dir()
    assert not claimed_trials.give_back(claimed, Ending(1, code=0)), "the old worker is shut out at once"
    assert case.said == [
        "trial 0 is taken from its worker on node-1, which was silent for 30 s; its last files may take 60 s to show"
    ]
    assert case.look(LATE_SECONDS - 3) == []
    lost.resume.write_bytes(b"resume")  # shows now
    lost.measurements.write_bytes(b"{}\n")
    (ended,) = case.look(3)
    assert isinstance(ended, ProcessEnded)
    assert (ended.lost, ended.message) == (True, "its worker on node-1 was silent for 30 s")
    home = case.study.home(0)
    assert (home.resume.read_bytes(), home.measurements.read_bytes()) == (b"resume", b"{}\n")


def test_a_trial_of_which_only_the_taking_back_was_forgotten_is_taken_back_and_not_made_anew(case: Case) -> None:
    claimed = case.claim()
    claimed.folder.resume.write_bytes(b"resume")
    case.look()
    assert lost_claims.shut_out(claimed)
    assert case.look(LATE_SECONDS - 1) == []
    (ended,) = case.look(2)
    assert isinstance(ended, ProcessEnded)
    assert ended.lost
    assert case.study.home(0).resume.read_bytes() == b"resume"


def test_a_trial_that_is_in_no_place_is_looked_for_and_never_made_anew(case: Case) -> None:
    claimed = case.claim()
    case.look()
    elsewhere = case.study.path / "elsewhere"
    claimed.folder.path.rename(elsewhere)
    assert case.look(LATE_SECONDS + 100) == []
    assert len(case.said) == 1
    assert f"trial 0 is in none of {case.study.trials}, {case.study.offered}, {case.study.claimed}" in case.said[0]
    assert not case.study.home(0).path.exists()
    elsewhere.rename(case.study.home(0).path)
    write_result(case.study.home(0))
    assert case.look(LATE_SECONDS - 1) == [], "how it ended may show yet"
    assert [event.code for event in case.look(3) if isinstance(event, ProcessEnded)] == [0]


def test_each_of_several_trials_that_are_in_no_place_is_named_once(case: Case) -> None:
    for trial in (0, 1):
        case.claim(trial).folder.path.rename(case.study.path / f"elsewhere {trial}")
    case.look(LATE_SECONDS + 20)
    assert [line.split(" is in")[0] for line in case.said] == ["warning: trial 0", "warning: trial 1"]


def test_a_run_ends_with_the_places_where_it_has_looked_for_a_trial_for_minutes(case: Case) -> None:
    case.claim().folder.path.rename(case.study.path / "elsewhere")
    with pytest.raises(FolderError, match=r"trial 0 is in none of .*/claimed; tried again for 300 s"):
        case.look(LATE_SECONDS + SERVER_SECONDS + 2)


def failing(number: int) -> Any:
    """A call that raises an OSError with this errno."""

    def fails(*_arguments: object, **_keywords: object) -> None:
        raise OSError(number, os.strerror(number))

    return fails


@pytest.mark.parametrize("is_given_back", [True, False])
def test_marks_that_cannot_be_removed_now_from_a_trial_that_never_began_are_removed_later(
    case: Case, monkeypatch: pytest.MonkeyPatch, is_given_back: bool
) -> None:
    claimed = claimed_trials.claim_trial(case.study, 0)
    assert claimed is not None
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 1, waits=True, boot=case.boot))
    claimed_trials.write_trial_beat(claimed, 1)
    if is_given_back:
        claimed_trials.give_back(claimed, Ending(1, never_began=True))
    with monkeypatch.context() as patching:
        patching.setattr(real_folders, "remove_names", failing(errno.ESTALE))
        assert case.look(40) == []
    assert [line.endswith("trying again for up to 300 s") for line in case.said] == [True]
    assert case.look() == [ProcessEnded(0, None, None, 0.0, never_began=True)]
    assert not case.study.home(0).offer.exists()


def test_a_trial_that_came_home_without_a_word_of_a_worker_never_began(case: Case) -> None:
    claimed = claimed_trials.claim_trial(case.study, 0)
    assert claimed is not None
    claimed_trials.return_home(claimed)
    assert case.look(LATE_SECONDS - 1) == []
    assert case.look(2) == [ProcessEnded(0, None, None, 0.0, never_began=True)]


class SlowTaking(TakingBack):
    """Takes trials back when the test says so."""

    def __init__(self) -> None:
        super().__init__(in_thread=False)
        self.asked: list[ClaimedTrial] = []

    def begin(self, claim: ClaimedTrial) -> None:
        self.asked.append(claim)

    def go_on(self) -> None:
        for claim in self.asked:
            super().begin(claim)
        self.asked.clear()


def test_a_list_of_offers_that_is_late_does_not_make_a_run_forget_what_it_takes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taking = SlowTaking()
    case = made(tmp_path, has_engine=False, taking=taking)
    case.claim()
    case.look(31)
    assert [claim.trial for claim in taking.asked] == [0]
    with monkeypatch.context() as patching:
        patching.setattr(claim_watch, "offered_trials", lambda _study, **_more: [0, 1, 2])
        assert case.look(5) == []
    taking.go_on()
    (ended,) = case.look()
    assert isinstance(ended, ProcessEnded)
    assert (ended.lost, ended.message) == (True, "its worker on node-1 was silent for 30 s")


def test_what_became_of_one_claim_is_not_taken_for_what_became_of_another(tmp_path: Path) -> None:
    taking = SlowTaking()
    case = made(tmp_path, has_engine=False, taking=taking)
    claimed = case.claim()
    case.look(31)
    other = ClaimedTrial(case.study, 0, "00000.node-2-1-00")
    TakingBack.begin(taking, other)  # it was given back: False
    assert case.look() == []
    assert claimed.folder.path.is_dir()
    taking.go_on()
    assert [event.lost for event in case.look() if isinstance(event, ProcessEnded)] == [True]


def test_an_offer_of_which_only_the_second_step_back_fails_is_withdrawn_later(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.study.trial(0).resume.write_bytes(b"resume")
    with monkeypatch.context() as patching:
        patching.setattr(offered_trials, "forget_offer", failing_folder)
        assert case.watch.stop(0, StopRequest()) is None
        assert case.look(5) == []
    assert offered_trials.desk_folder(case.study, 0).path.is_dir()
    assert case.look(1) == [ProcessEnded(0, None, None, 0.0, never_began=True)]
    assert case.study.home(0).resume.read_bytes() == b"resume"


def failing_folder(folder: TrialFolder) -> None:
    raise passing_error(f"{folder.path}: cannot be read", errno.EIO)


@pytest.mark.parametrize(("ending", "heard"), [(Ending(1, code=0), ["ended"]), (Ending(1, released=True), ["left"])])
def test_the_engine_hears_of_an_end_that_is_found_when_a_trial_is_taken_back(
    with_engine: Case, monkeypatch: pytest.MonkeyPatch, ending: Ending, heard: list[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr(WorkerSupply, "trial_ended", lambda _self: said.append("ended"))
    monkeypatch.setattr(WorkerSupply, "trial_left", lambda _self, _trial, _progress: said.append("left"))
    claimed = with_engine.claim()
    write_record(claimed.folder.ending, ending, within=claimed.study.path)
    with_engine.look(40)
    assert said == heard


def test_heartbeats_that_cannot_be_read_for_minutes_are_an_error_that_names_one(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = [case.claim(0)]

    def sleep(seconds: float) -> None:
        case.clock.now += seconds

    monkeypatch.setattr(silent_claims_module, "read_trial_beat", lambda _claim: UNREADABLE)
    with pytest.raises(FolderError, match=rf"{claims[0].name}: the heartbeat .* cannot be read; tried again for 300 s"):
        silent_claims(case.study, claims, HEARTBEAT, case.said.append, case.clock, sleep)
    assert len(case.said) == 1
    assert case.clock.now >= SERVER_SECONDS


def test_an_offer_that_cannot_be_withdrawn_now_is_withdrawn_later(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    real = real_folders.move

    def fails(path: Path, to: Path, within: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patching:
        patching.setattr(real_folders, "move", fails)
        assert case.watch.stop(0, StopRequest()) is None
        assert case.look(5) == []
    assert real_folders.move is real
    assert case.look(1) == [ProcessEnded(0, None, None, 0.0, never_began=True)]


def test_a_trial_is_taken_back_in_a_thread_while_the_run_looks_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = claimed_trials.claim_trial(offered_study(tmp_path, 1), 0)
    assert claimed is not None
    claimed.folder.resume.write_bytes(b"resume")
    may_go_on, real = threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        may_go_on.wait(20.0)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    taking = TakingBack()
    taking.begin(claimed)
    assert list(taking.ended()) == []
    may_go_on.set()
    found: list[object] = []

    def is_back() -> bool:
        found.extend(taking.ended())
        return bool(found)

    wait_until(is_back, "it is taken back")
    assert found == [(claimed, True)]
    taking.close()
    assert claimed.study.home(0).resume.read_bytes() == b"resume"


def test_a_copy_is_interrupted_when_the_run_ends_and_goes_on_in_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = claimed_trials.claim_trial(offered_study(tmp_path, 1), 0)
    assert claimed is not None
    claimed.folder.log.write_bytes(b"log")
    claimed.folder.resume.write_bytes(b"resume")
    copies, closed, real = threading.Event(), threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        copies.set()
        closed.wait(20.0)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    taking = TakingBack()
    taking.begin(claimed)
    assert copies.wait(20.0)
    closing = threading.Thread(target=taking.close)
    closing.start()
    wait_until(taking._closed.is_set, "it is asked to end")
    closed.set()
    closing.join()
    assert list(taking.ended()) == []
    assert lost_claims.unfinished(claimed.study) == [claimed]
    lost_claims.finish_taking_back(claimed.study)
    assert claimed.study.home(0).log.read_bytes() == b"log"
