"""The trial scheduler on a backend and a clock made for the tests. Tests scheduler.py and jobs.py."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from full_disks import fill_disk_under
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunectl.core.errors import FolderError
from tunectl.core.files import flush_folder
from tunectl.core.folders import TrialFolder
from tunectl.core.records import AttemptEnd
from tunectl.execution.backends.backend import Backend, BackendReady, ProcessEnded, ProcessStarted
from tunectl.execution.devices import CPU, Device
from tunectl.execution.jobs import (
    MOST_IDLE_RELEASES,
    AttemptLimits,
    Hopeless,
    Job,
    StoppedByFailures,
    Tick,
    TrialEnded,
    TrialRetried,
    TrialStarted,
)
from tunectl.execution.scheduler import run_trials
from tunectl.execution.shared_places import OWN_PLACES, OwnPlaces, Places
from tunectl.execution.slots import Slot, make_slots
from tunectl.store import json_lines
from tunectl.store.trial_files import read_trial, record_missing_attempt, trial_state

GPUS = (Device("cuda", 0, "A", "GPU-a"), Device("cuda", 1, "B", "GPU-b"))


@dataclass
class Script:
    """How one attempt goes: how long it takes, how it ends, and whether it heeds a stop."""

    seconds: float = 10.0
    ending: str = "completed"
    heeds: bool = True
    unkillable: bool = False
    does: Callable[[], object] = lambda: None


@dataclass
class Running:
    folder: TrialFolder
    slot: Slot
    script: Script
    ends: float
    attempt: int
    stopped: bool = False
    killed: bool = False


@dataclass
class FakeBackend:
    """Plays scripts on a clock that only `poll` moves; asserts what no backend may be asked."""

    scripts: Callable[[int, int], Script]
    now: float = 0.0
    running: dict[int, Running] = field(default_factory=dict)
    launches: list[tuple[int, int, int, float]] = field(default_factory=list)
    neighbours: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    most_at_once: int = 0
    reports: list = field(default_factory=list)
    recorded: list[int] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def launch(self, trial, folder, slot, attempt):
        assert trial not in self.running, "a trial runs once at a time"
        assert slot.index not in {item.slot.index for item in self.running.values()}, "a slot holds one trial"
        assert not (folder / "result.json").exists()
        for other, item in self.running.items():
            if item.slot.device == slot.device:
                self.neighbours.setdefault((other, self.attempt_of(other)), set()).add(trial)
                self.neighbours.setdefault((trial, attempt), set()).add(other)
        script = self.scripts(trial, attempt)
        self.running[trial] = Running(TrialFolder(folder), slot, script, self.now + script.seconds, attempt)
        self.launches.append((trial, attempt, slot.index, self.now))
        self.most_at_once = max(self.most_at_once, len(self.running))
        self.reports.append(ProcessStarted(trial, 1000 + trial))

    def attempt_of(self, trial):
        return [launch[1] for launch in self.launches if launch[0] == trial][-1]

    def stop(self, trial):
        assert not self.running[trial].stopped, "SIGTERM once"
        self.running[trial].stopped = True

    def kill(self, trial):
        self.running[trial].killed = True

    def end_recorded(self, trial):
        self.recorded.append(trial)

    def poll(self, timeout_seconds):
        self.now += timeout_seconds
        reports, self.reports = self.reports, []
        for trial, item in sorted(self.running.items()):
            ended = self.end_of(trial, item)
            if ended is not None:
                del self.running[trial]
                reports.append(ended)
        return reports

    def end_of(self, trial, item):
        script = item.script
        seconds = script.seconds
        if item.killed and not script.unkillable:
            return ProcessEnded(trial, None, signal.SIGKILL, seconds)
        if item.stopped and script.heeds:
            return ProcessEnded(trial, 75, None, seconds)
        if self.now < item.ends or script.unkillable:
            return None
        script.does()
        match script.ending:
            case "users_70" | "users_71" | "users_74" | "users_75":
                return ProcessEnded(trial, int(script.ending[-2:]), None, seconds, is_users=True)
            case "completed" | "infeasible" | "failed":
                write_result(item.folder, item.attempt, script.ending, "error" if script.ending == "failed" else "")
                return ProcessEnded(trial, 0, None, seconds)
            case "out_of_memory":
                write_result(item.folder, item.attempt, "infeasible", "out_of_memory", provisional=True)
                return ProcessEnded(trial, 0, None, seconds)
            case "segfault_after_result":
                write_result(item.folder, item.attempt, "completed")
                return ProcessEnded(trial, None, signal.SIGSEGV, seconds)
            case "torn_result":
                item.folder.result.write_text('{"trial": ')
                return ProcessEnded(trial, 0, None, seconds)
            case "lost":
                return ProcessEnded(trial, None, None, seconds, lost=True, message="the server died")
            case "unstartable":
                return ProcessEnded(trial, None, None, seconds, message="no log")
            case "unwritten":
                return ProcessEnded(trial, 74, None, seconds)
            case "unwritten there":
                return ProcessEnded(trial, 74, None, seconds, released=True, message="its worker could not write")
            case "error_here" | "error_there":
                where = "mine.py:3" if script.ending == "error_here" else f"mine.py:{trial}"
                message = f"ValueError: width {trial} is odd"
                write_result(item.folder, item.attempt, "failed", "error", message=message, where=where)
                return ProcessEnded(trial, 0, None, seconds)
            case "exit_0":
                return ProcessEnded(trial, 0, None, seconds)
            case "released":
                return ProcessEnded(trial, 75, None, seconds, released=True, message="another process asked it to stop")
            case "never_began":
                return ProcessEnded(trial, None, None, 0.0, never_began=True)
            case "exit_75":
                return ProcessEnded(trial, 75, None, seconds)
            case _:
                return ProcessEnded(trial, None, signal.SIGSEGV, seconds)


def write_result(folder: TrialFolder, attempt: int, state: str, reason: str = "", **more: object) -> None:
    content = {"trial": int(folder.path.name), "state": state, "reason": reason, "attempt": attempt, **more}
    folder.result.write_text(json.dumps(content))


class Study:
    """A run of the scheduler over made-up trials, with all that it said."""

    def __init__(
        self, root: Path, scripts, slots=None, retries=1, stops=None, grace=30.0, prepare=None, timeout=math.inf
    ):
        self.root = root
        self.events: list = []
        self.backend = FakeBackend(scripts)
        self.slots = make_slots([CPU], count=2) if slots is None else slots
        self.retries = retries
        self.stops = stops or (lambda now: 0)
        self.grace, self.timeout = grace, timeout
        self.prepare = prepare or self.folder
        self.note = self.events.append
        self.places: Places = OWN_PLACES
        self.hopeless: Callable[[], dict[int, Hopeless]] = dict

    def folder(self, job) -> Path:
        path = self.root / f"{job.trial:05d}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def run(self, jobs):
        return run_trials(
            jobs,
            cast(Backend, self.backend),  # the scheduler calls none of the other methods
            self.slots,
            limits=AttemptLimits(self.retries, self.timeout, self.grace),
            prepare=self.prepare,
            on_event=self.note,
            stop_requested=lambda: self.stops(self.backend.now),
            places=self.places,
            hopeless=lambda: self.hopeless(),
            poll_seconds=1.0,
            clock=self.backend.clock,
        )

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def attempts(self, trial) -> list[tuple[int, str, bool]]:
        files = read_trial(TrialFolder(self.root / f"{trial:05d}"))
        return [(item.attempt, item.reason, item.final) for item in files.attempts]

    def state(self, trial) -> str:
        return trial_state(read_trial(TrialFolder(self.root / f"{trial:05d}")))[0]


def by_trial(**scripts):
    """Scripts by trial (`t3=`), each a Script or one for each attempt, the last for all later ones."""

    def choose(trial, attempt):
        script = scripts.get(f"t{trial}", Script())
        return script[min(attempt, len(script)) - 1] if isinstance(script, list) else script

    return choose


def jobs(count: int) -> list[Job]:
    return [Job(trial) for trial in range(count)]


def test_trials_run_in_order_on_all_slots(tmp_path):
    study = Study(tmp_path, by_trial())
    assert study.run(jobs(5)) == dict.fromkeys(range(5), "completed")
    assert [launch[0] for launch in study.backend.launches] == [0, 1, 2, 3, 4]
    assert study.backend.most_at_once == 2
    assert [event.trial for event in study.of(TrialStarted)] == [0, 1, 2, 3, 4]
    assert {(event.state, event.seconds, event.attempt) for event in study.of(TrialEnded)} == {("completed", 10.0, 1)}
    assert study.of(Tick)[0] == Tick(2, 3, 0)


def test_no_trials_is_no_work(tmp_path):
    study = Study(tmp_path, by_trial())
    assert study.run([]) == {}
    assert study.events == []


def test_a_listener_that_cannot_note_what_happens_stops_the_study_as_a_request_would(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(2), t1=Script(30)), grace=5.0)

    def note(event):
        study.events.append(event)
        if isinstance(event, TrialEnded) and event.trial == 0:
            raise FolderError("study.db: cannot be read")

    study.note = note
    with pytest.raises(FolderError, match=r"study\.db: cannot be read"):
        study.run(jobs(5))
    ends = [(event.trial, event.state) for event in study.of(TrialEnded)]
    assert ends == [(0, "completed"), (1, "cancelled")], "what ran could save itself, and nothing more was launched"


def test_no_slots_is_an_error_and_no_endless_wait(tmp_path):
    with pytest.raises(ValueError, match="expected at least one slot"):
        Study(tmp_path, by_trial(), slots=()).run(jobs(1))


def test_results_of_every_state_count_as_they_are(tmp_path):
    scripts = by_trial(
        t0=Script(ending="infeasible"), t1=Script(ending="failed"), t2=Script(ending="segfault_after_result")
    )
    study = Study(tmp_path, scripts)
    assert study.run(jobs(3)) == {0: "infeasible", 1: "failed", 2: "completed"}
    assert study.of(TrialRetried) == [], "an error is not tried again by itself"
    assert not any(study.attempts(trial) for trial in range(3))


def test_a_crashed_trial_is_tried_again_at_once(tmp_path):
    study = Study(tmp_path, by_trial(t0=[Script(1, "crash"), Script()]), slots=make_slots([CPU], count=1))
    assert study.run(jobs(3)) == dict.fromkeys(range(3), "completed")
    assert [launch[:2] for launch in study.backend.launches] == [(0, 1), (0, 2), (1, 1), (2, 1)]
    assert study.attempts(0) == [(1, "crashed", False)]
    (retried,) = study.of(TrialRetried)
    assert (retried.trial, retried.reason, retried.attempt) == (0, "crashed", 1)
    assert "SIGSEGV" in retried.message


@pytest.mark.parametrize(
    ("ending", "reason", "said"),
    [
        ("crash", "crashed", "was killed by SIGSEGV"),
        ("lost", "lost", "the server died"),
        ("exit_0", "crashed", "ended with exit code 0 before its result was written"),
        ("exit_75", "crashed", "another process than tunectl asked it to stop"),
        ("torn_result", "crashed", "exit code 0"),
        ("unstartable", "crashed", "no log"),
    ],
)
def test_a_trial_that_never_ends_by_itself_fails_after_its_retries(tmp_path, ending, reason, said):
    study = Study(tmp_path, by_trial(t0=Script(2, ending)), retries=2)
    assert study.run(jobs(1)) == {0: "failed"}
    assert study.attempts(0) == [(1, reason, False), (2, reason, False), (3, reason, True)]
    (ended,) = study.of(TrialEnded)
    assert (ended.state, ended.reason, ended.attempt) == ("failed", reason, 3)
    assert said in ended.message


def test_attempts_of_earlier_runs_count_against_the_retries_but_stops_do_not(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(1, "crash"), t1=Script(1, "crash")))
    earlier = {
        0: (AttemptEnd(1, "crashed"),),
        1: (AttemptEnd(1, "cancelled"), AttemptEnd(2, "cancelled")),
    }
    assert study.run([Job(trial, attempts) for trial, attempts in earlier.items()]) == {0: "failed", 1: "failed"}
    assert study.attempts(0) == [(2, "crashed", True)]
    assert study.attempts(1) == [(3, "crashed", False), (4, "crashed", True)]


def test_zero_retries_means_one_attempt(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(1, "crash")), retries=0)
    assert study.run(jobs(1)) == {0: "failed"}
    assert study.attempts(0) == [(1, "crashed", True)]


def test_memory_that_ran_out_beside_another_trial_is_tried_again_alone_on_that_device(tmp_path):
    # Trial 0 ends while 1 runs; nothing else starts on the device until 0 had it for itself.
    scripts = by_trial(t0=[Script(2, "out_of_memory"), Script(5)], t1=Script(20))
    study = Study(tmp_path, scripts)
    assert study.run(jobs(4)) == dict.fromkeys(range(4), "completed")
    assert (0, 2) not in study.backend.neighbours
    launched = {(trial, attempt): at for trial, attempt, _slot, at in study.backend.launches}
    assert launched[0, 2] >= 20, "it waited for trial 1"
    assert launched[2, 1] >= launched[0, 2] + 5, "and trial 2 waited for it"
    assert [event.reason for event in study.of(TrialRetried)] == ["out_of_memory"]
    assert study.attempts(0) == [(1, "out_of_memory", False)]


def test_memory_that_ran_out_alone_is_a_result(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(2, "out_of_memory")))
    assert study.run(jobs(1)) == {0: "infeasible"}
    (ended,) = study.of(TrialEnded)
    assert ended.reason == "out_of_memory"
    assert study.state(0) == "infeasible", "and not one that waits for a judgement"
    assert study.of(TrialRetried) == []


def test_memory_that_ran_out_before_the_runner_was_killed_is_tried_again_alone(tmp_path):
    # The result is there, and it is not known whether the other trial took the memory.
    folder = TrialFolder(tmp_path / "00000")
    folder.path.mkdir()
    write_result(folder, 1, "infeasible", "out_of_memory", provisional=True)
    assert trial_state(read_trial(folder))[0] == "pending"
    record_missing_attempt(folder)
    record_missing_attempt(folder)
    study = Study(tmp_path, by_trial())
    assert study.attempts(0) == [(1, "out_of_memory", False)]
    again = Job(0, read_trial(folder).attempts)
    assert (again.alone, again.attempt) == (True, 2)
    assert study.run([again, Job(1)]) == dict.fromkeys(range(2), "completed")
    assert study.backend.neighbours == {}


def test_memory_that_runs_out_again_alone_is_a_result(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(2, "out_of_memory"), t1=Script(20)))
    assert study.run(jobs(3)) == {0: "infeasible", 1: "completed", 2: "completed"}
    assert study.attempts(0) == [(1, "out_of_memory", False)]
    assert study.state(0) == "infeasible"


def test_a_judgement_that_cannot_be_written_leaves_the_trial_to_be_tried_again(tmp_path, monkeypatch):
    study = Study(tmp_path, by_trial(t0=Script(2, "out_of_memory")))
    fill_disk_under(monkeypatch, "result.json")
    with pytest.raises(OSError, match="No space left"):
        study.run(jobs(1))
    assert study.state(0) == "pending"


def test_a_neighbour_that_has_ended_already_counts_as_company(tmp_path):
    study = Study(tmp_path, by_trial(t0=[Script(10, "out_of_memory"), Script()], t1=Script(1)), retries=0)
    assert study.run(jobs(2)) == dict.fromkeys(range(2), "completed")
    assert [event.reason for event in study.of(TrialRetried)] == ["out_of_memory"], "and no retry was used up"


def test_a_trial_that_must_be_alone_holds_up_its_own_gpu_only(tmp_path):
    slots = make_slots(GPUS, trials_per_device=2)
    scripts = by_trial(
        t0=[Script(2, "out_of_memory"), Script(50)],
        t1=Script(30),
        t2=Script(30),
        t3=Script(3),
        t4=Script(3),
        t5=Script(3),
    )
    study = Study(tmp_path, scripts, slots=slots)
    assert study.run(jobs(8)) == dict.fromkeys(range(8), "completed")
    assert (0, 2) not in study.backend.neighbours
    others = [at for trial, _attempt, _slot, at in study.backend.launches if trial in (4, 5)]
    assert max(others) < 30, "the other GPU went on"


def test_trials_are_spread_over_the_gpus_before_they_share_one(tmp_path):
    study = Study(tmp_path, by_trial(), slots=make_slots(GPUS, trials_per_device=2))
    study.run(jobs(4))
    assert [study.slots[launch[2]].device.index for launch in study.backend.launches] == [0, 1, 0, 1]


def test_a_stop_launches_nothing_more_and_lets_running_trials_save(tmp_path):
    study = Study(tmp_path, by_trial(), stops=lambda now: int(now >= 3))
    assert study.run(jobs(5)) == {0: "cancelled", 1: "cancelled", 2: "pending", 3: "pending", 4: "pending"}
    assert study.backend.now < 6
    assert study.attempts(0) == [(1, "cancelled", False)]
    assert trial_state(read_trial(TrialFolder(tmp_path / "00000")))[0] == "cancelled"
    assert not (tmp_path / "00002").exists()


def test_a_trial_that_completes_while_it_is_asked_to_stop_is_complete(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(5, heeds=False)), stops=lambda now: int(now >= 3))
    assert study.run(jobs(1)) == {0: "completed"}
    assert study.attempts(0) == []


def test_what_does_not_save_in_its_grace_is_killed(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(100, heeds=False)), stops=lambda now: int(now >= 3), grace=7)
    assert study.run(jobs(1)) == {0: "cancelled"}
    assert 10 <= study.backend.now <= 13


def test_a_second_stop_kills_at_once(tmp_path):
    stops = lambda now: int(now >= 3) + int(now >= 5)  # noqa: E731
    study = Study(tmp_path, by_trial(t0=Script(100, heeds=False)), stops=stops, grace=50)
    assert study.run(jobs(1)) == {0: "cancelled"}
    assert study.backend.now <= 7


def test_a_process_that_cannot_be_killed_is_waited_for_with_a_limit(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(unkillable=True)), stops=lambda now: 2 * int(now >= 1))
    assert study.run(jobs(1)) == {0: "cancelled"}
    assert study.backend.now < 30


def test_a_trial_that_crashes_while_stopping_waits_for_the_next_run(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(4, "crash", heeds=False)), stops=lambda now: int(now >= 3))
    assert study.run(jobs(1)) == {0: "pending"}
    assert study.attempts(0) == [(1, "crashed", False)]


def test_a_stop_before_the_first_launch_runs_nothing(tmp_path):
    study = Study(tmp_path, by_trial(), stops=lambda now: 1)
    assert study.run(jobs(2)) == {0: "pending", 1: "pending"}
    assert study.backend.launches == []


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), FolderError("request.json: cannot be written")]
)
def test_a_folder_that_cannot_be_written_stops_the_others_gently_and_is_raised(tmp_path, error):
    def prepare(job):
        if job.trial == 1:
            raise error
        return study.folder(job)

    study = Study(tmp_path, by_trial(), prepare=prepare)
    with pytest.raises(type(error)):
        study.run(jobs(3))
    assert study.attempts(0) == [(1, "cancelled", False)]
    assert [launch[0] for launch in study.backend.launches] == [0]


def test_an_attempt_that_cannot_be_recorded_stops_the_study(tmp_path, monkeypatch):
    study = Study(tmp_path, by_trial(t0=Script(2, "crash")))
    write, tried = json_lines._append, []

    def first_one_fails(descriptor, content):
        tried.append(content)
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(descriptor, content)

    monkeypatch.setattr(json_lines, "_append", first_one_fails)
    with pytest.raises(FolderError, match=r"attempts\.jsonl"):
        study.run(jobs(3))
    assert study.attempts(1) == [(1, "cancelled", False)]
    assert study.attempts(0) == [(1, "crashed", False)], "it was recorded when the disk had room again"
    assert sorted(study.backend.recorded) == [0, 1]


@pytest.mark.parametrize("ending", ["crash", "released"])
def test_an_end_whose_record_was_written_though_its_flush_failed_is_recorded_once(tmp_path, monkeypatch, ending):
    study = Study(tmp_path, by_trial(t0=Script(2, ending)))
    flush, flushed = flush_folder, []

    def first_one_fails(folder):
        flushed.append(folder)
        if len(flushed) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flush(folder)

    monkeypatch.setattr(json_lines, "flush_folder", first_one_fails)
    with pytest.raises(FolderError, match=r"attempts\.jsonl"):
        study.run(jobs(1))
    assert [attempt for attempt, _, _ in study.attempts(0)] == [1]
    assert len(TrialFolder(tmp_path / "00000").attempts.read_bytes().splitlines()) == 1
    assert study.backend.recorded == [0]


@pytest.mark.parametrize("kind", [TrialEnded, TrialRetried])
def test_an_end_is_recorded_once_where_the_listener_cannot_note_it(tmp_path, kind):
    study = Study(tmp_path, by_trial(t0=Script(2, "crash")))

    def note(event):
        study.events.append(event)
        if isinstance(event, kind):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    study.note = note
    with pytest.raises(OSError, match="Input/output error"):
        study.run(jobs(1))
    of_files = TrialFolder(tmp_path / "00000").attempts.read_bytes().splitlines()
    assert len(of_files) == len(study.attempts(0)) == len(study.backend.recorded) == (2 if kind is TrialEnded else 1)
    assert len(study.of(kind)) == 1


def test_an_end_that_can_never_be_recorded_is_not_said_to_be(tmp_path, monkeypatch):
    study = Study(tmp_path, by_trial(t0=Script(2, "crash")), retries=0)

    def full(_descriptor, _content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(json_lines, "_append", full)
    with pytest.raises(FolderError, match=r"attempts\.jsonl"):
        study.run(jobs(1))
    assert study.backend.recorded == []
    assert study.of(TrialEnded) == []


def test_a_result_of_another_attempt_is_not_the_end_of_this_one(tmp_path):
    folder = TrialFolder(tmp_path / "00000")
    late = partial(write_result, folder, 1, "completed")
    study = Study(tmp_path, by_trial(t0=Script(2, "exit_0", does=late)), retries=0)
    assert study.run([Job(0, (AttemptEnd(1, "lost"),))]) == {0: "failed"}
    assert study.attempts(0) == [(2, "crashed", True)]


@pytest.mark.parametrize("spoilt", ["attempts.jsonl", "."])
def test_a_trial_that_spoils_its_own_folder_fails_alone(tmp_path, spoilt):
    def spoil():
        folder = tmp_path / "00001"
        if spoilt == ".":
            shutil.rmtree(folder)
            folder.touch()
        else:
            (folder / spoilt).mkdir()

    study = Study(tmp_path, by_trial(t1=Script(2, "crash", does=spoil)))
    assert study.run(jobs(3)) == {0: "completed", 1: "failed", 2: "completed"}


def test_a_trial_that_deletes_its_folder_is_tried_again_in_a_new_one(tmp_path):
    study = Study(tmp_path, by_trial(t1=Script(2, "crash", does=lambda: shutil.rmtree(tmp_path / "00001"))))
    assert study.run(jobs(3)) == {0: "completed", 1: "failed", 2: "completed"}
    assert study.attempts(1) == [(2, "crashed", True)], "the attempt before went with the folder"


def test_an_exit_code_that_the_user_s_code_chose_is_not_taken_for_the_worker_s(tmp_path):
    for number in (70, 71, 74, 75):
        folder = tmp_path / str(number)
        folder.mkdir()
        study = Study(folder, by_trial(t1=Script(2, f"users_{number}")))
        assert study.run(jobs(3)) == {0: "completed", 1: "failed", 2: "completed"}
        assert study.attempts(1) == [(1, "crashed", False), (2, "crashed", True)]


def test_a_result_that_is_a_folder_makes_room_for_the_next_attempt(tmp_path):
    study = Study(tmp_path, by_trial())
    (tmp_path / "00000" / "result.json" / "deep").mkdir(parents=True)
    assert study.run(jobs(1)) == {0: "completed"}


def test_a_trial_that_cannot_write_its_files_stops_the_study_and_is_gone_on_with_later(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(2, "unwritten")))
    with pytest.raises(
        FolderError, match=r"00000: the trial could not write its files \(.* MB are free, see log.txt\)"
    ):
        study.run(jobs(4))
    assert study.attempts(0) == study.attempts(1) == [(1, "cancelled", False)]
    assert [launch[0] for launch in study.backend.launches] == [0, 1], "the others would end as it did"


def test_a_trial_that_could_not_write_its_files_at_a_worker_goes_on_elsewhere(tmp_path):
    study = Study(tmp_path, by_trial(t0=[Script(2, "unwritten there"), Script(2)]))
    assert study.run(jobs(2)) == {0: "completed", 1: "completed"}
    assert study.attempts(0) == [(1, "released", False)]


def test_a_trial_that_no_worker_has_room_for_stops_the_study_and_has_not_failed(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(1, "unwritten there")))
    with pytest.raises(FolderError, match="00000: the trial could not write its files"):
        study.run(jobs(1))
    assert study.attempts(0) == [
        *[(attempt, "released", False) for attempt in range(1, MOST_IDLE_RELEASES)],
        (MOST_IDLE_RELEASES, "cancelled", False),
    ]


def test_a_trial_that_takes_too_long_may_save_and_has_failed(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(100)), timeout=20.0)
    assert study.run(jobs(4)) == {0: "failed", 1: "completed", 2: "completed", 3: "completed"}
    assert study.attempts(0) == [(1, "timeout", True)]
    (ended,) = [event for event in study.of(TrialEnded) if event.trial == 0]
    assert (ended.reason, ended.message) == ("timeout", "it took longer than trial_timeout_seconds: 20")
    assert study.of(TrialRetried) == [], "it would take too long again"
    assert trial_state(read_trial(TrialFolder(tmp_path / "00000")))[:2] == ("failed", "timeout")


def test_a_trial_that_takes_too_long_and_does_not_save_in_its_grace_is_killed(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(100, heeds=False)), timeout=20.0, grace=7)
    assert study.run(jobs(1)) == {0: "failed"}
    assert study.attempts(0) == [(1, "timeout", True)]
    assert 27 <= study.backend.now <= 30


def test_a_trial_that_ends_in_the_grace_after_its_time_counts_as_it_ended(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(25, heeds=False)), timeout=20.0)
    assert study.run(jobs(1)) == {0: "completed"}
    assert study.attempts(0) == []


def test_a_trial_that_crashes_in_the_grace_after_its_time_has_crashed(tmp_path):
    study = Study(tmp_path, by_trial(t0=[Script(25, "crash", heeds=False), Script(1)]), timeout=20.0)
    assert study.run(jobs(1)) == {0: "completed"}
    assert study.attempts(0) == [(1, "crashed", False)]


def test_every_attempt_has_the_whole_time(tmp_path):
    study = Study(tmp_path, by_trial(t0=[Script(15, "crash"), Script(15)]), timeout=20.0)
    assert study.run(jobs(1)) == {0: "completed"}


def test_a_trial_past_its_time_that_cannot_be_killed_keeps_its_slot_and_the_others_go_on(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(heeds=False, unkillable=True)), timeout=20.0, grace=5)
    assert study.run(jobs(6)) == {0: "failed", **dict.fromkeys(range(1, 6), "completed")}
    assert study.attempts(0) == [(1, "timeout", True)]
    assert {launch[2] for launch in study.backend.launches if launch[0] > 1} == {1}


def test_trials_that_cannot_be_killed_on_all_slots_end_the_run_with_the_rest_pending(tmp_path):
    scripts = by_trial(t0=Script(heeds=False, unkillable=True), t1=Script(heeds=False, unkillable=True))
    study = Study(tmp_path, scripts, timeout=20.0, grace=5)
    assert study.run(jobs(3)) == {0: "failed", 1: "failed", 2: "pending"}
    assert study.backend.now < 60


def test_a_stop_while_a_trial_saves_past_its_time_does_not_ask_it_twice(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(100, heeds=False)), timeout=20.0, stops=lambda now: int(now >= 22))
    assert study.run(jobs(1)) == {0: "failed"}, "the fake backend asserts that SIGTERM comes once"


@pytest.mark.parametrize("ending", ["error_here", "crash", "exit_0"])
def test_the_first_three_trials_that_fail_alike_stop_the_study(tmp_path, ending):
    study = Study(tmp_path, lambda trial, attempt: Script(2 + trial, ending), retries=0)
    states = study.run(jobs(9))
    assert [states[trial] for trial in range(3)] == ["failed"] * 3
    assert states[3] == "cancelled", "what was running may save"
    assert [states[trial] for trial in range(4, 9)] == ["pending"] * 5
    (stopped,) = study.of(StoppedByFailures)
    assert (stopped.failure.trials, stopped.left) == ((0, 1, 2), 6)
    assert stopped.failure.message == study.of(TrialEnded)[0].message


@pytest.mark.parametrize("third", ["error_there", "completed", "infeasible", "crash"])
def test_three_trials_that_do_not_all_fail_alike_stop_nothing(tmp_path, third):
    endings = ["error_here", "error_here", third]
    scripts = lambda trial, attempt: Script(2, endings[trial] if trial < 3 else "error_here")  # noqa: E731
    study = Study(tmp_path, scripts, retries=0, slots=make_slots([CPU], count=1))
    states = study.run(jobs(8))
    assert len(study.of(TrialEnded)) == len(states) == 8
    assert study.of(StoppedByFailures) == []


def test_three_trials_that_fail_alike_and_are_all_there_are_stop_nothing(tmp_path):
    study = Study(tmp_path, lambda trial, attempt: Script(2, "error_here"))
    assert set(study.run(jobs(3)).values()) == {"failed"}
    assert study.of(StoppedByFailures) == []


def test_what_was_cancelled_is_not_among_the_first_to_end(tmp_path):
    study = Study(tmp_path, lambda trial, attempt: Script(2, "error_here"), stops=lambda now: int(now >= 1))
    assert study.run(jobs(4)) == {0: "cancelled", 1: "cancelled", 2: "pending", 3: "pending"}
    assert study.of(StoppedByFailures) == []


def test_a_trial_that_is_to_be_tried_after_it_failed_has_all_its_retries_again(tmp_path):
    earlier = (AttemptEnd(1, "crashed"), AttemptEnd(2, "crashed", final=True))
    study = Study(tmp_path, by_trial(t0=Script(1, "crash")))
    assert study.run([Job(0, earlier)]) == {0: "failed"}
    assert study.attempts(0) == [(3, "crashed", False), (4, "crashed", True)]


def test_that_the_backend_is_ready_again_is_passed_on_as_an_event(tmp_path):
    study = Study(tmp_path, by_trial())
    ready = BackendReady(0.1, messages=("each trial starts as a new process",))
    study.backend.reports.append(ready)
    study.run(jobs(1))
    assert study.of(BackendReady) == [ready]


scripts_of_trials = st.lists(
    st.lists(
        st.builds(
            Script,
            seconds=st.integers(0, 6).map(float),
            ending=st.sampled_from(
                [
                    "completed",
                    "infeasible",
                    "failed",
                    "out_of_memory",
                    "crash",
                    "lost",
                    "exit_0",
                    "exit_75",
                    "segfault_after_result",
                ]
            ),
            heeds=st.booleans(),
            unkillable=st.sampled_from([False] * 9 + [True]),
        ),
        min_size=1,
        max_size=4,
    ),
    max_size=8,
)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scripts=scripts_of_trials,
    gpus=st.integers(0, 2),
    per_device=st.integers(1, 3),
    retries=st.integers(0, 2),
    stop_at=st.none() | st.integers(0, 20),
    kill_after=st.none() | st.integers(0, 5),
    grace=st.integers(0, 5),
)
def test_every_trial_ends_in_one_state_and_no_slot_is_used_twice(
    tmp_path_factory, scripts, gpus, per_device, retries, stop_at, kill_after, grace
):
    slots = make_slots(GPUS[:gpus], per_device) if gpus else make_slots([CPU], count=per_device)

    def script(trial, attempt):
        chosen = scripts[trial][min(attempt, len(scripts[trial])) - 1]
        if stop_at is None and chosen.unkillable:
            return Script(chosen.seconds, chosen.ending, chosen.heeds)
        return chosen

    def stops(now):
        if stop_at is None or now < stop_at:
            return 0
        return 2 if kill_after is not None and now >= stop_at + kill_after else 1

    stuck_without_stop = stop_at is None
    study = Study(tmp_path_factory.mktemp("study"), script, slots, retries, stops, float(grace))
    states = study.run(jobs(len(scripts)))
    assert sorted(states) == list(range(len(scripts)))
    ends = [event.trial for event in study.of(TrialEnded)]
    assert len(ends) == len(set(ends)), "a trial ends once"
    assert set(ends) == {trial for trial, state in states.items() if state != "pending"}
    allowed = {"completed", "infeasible", "failed"} | (set() if stuck_without_stop else {"cancelled", "pending"})
    assert set(states.values()) <= allowed
    for trial, state in states.items():
        attempts = study.attempts(trial)
        assert [number for number, _reason, _final in attempts] == list(range(1, len(attempts) + 1))
        assert sum(reason in ("crashed", "lost") for _number, reason, _final in attempts) <= retries + 1
        assert sum(reason == "out_of_memory" for _number, reason, _final in attempts) <= 1
        kept = trial_state(read_trial(TrialFolder(study.root / f"{trial:05d}")))[0]
        assert kept == state, "the files say what the scheduler said"
        for number, reason, _final in attempts:
            if reason == "out_of_memory":
                assert (trial, number + 1) not in study.backend.neighbours, "the next attempt was alone"


@dataclass
class LatePlaces(OwnPlaces):
    """Another run uses all places until a time; afterwards `company` is beside each trial that is not alone."""

    clock: Callable[[], float]
    free_from: float
    company: bool = False
    taken: list[tuple[int, bool]] = field(default_factory=list)
    most: int = 0
    waits: bool = False

    def take(self, slot, *, alone=False):
        if self.clock() < self.free_from:
            self.waits = True
            return False
        self.taken.append((slot.index, alone))
        self.most = max(self.most, len(self.taken))
        return True

    def give_back(self, slot):
        self.taken = [item for item in self.taken if item[0] != slot.index]

    def end_round(self, *, jobs_left, running):
        waits, self.waits = self.waits and jobs_left, False
        return waits

    def has_company(self, slot):
        return self.company


def test_a_run_waits_until_other_runs_leave_their_places(tmp_path):
    study = Study(tmp_path, by_trial())
    study.places = places = LatePlaces(study.backend.clock, 100.0)
    assert study.run(jobs(3)) == dict.fromkeys(range(3), "completed")
    assert min(launch[3] for launch in study.backend.launches) >= 100.0
    assert places.most == 2
    assert places.taken == [], "all are given back"


def test_a_stop_while_a_run_waits_for_places_ends_it_at_once(tmp_path):
    study = Study(tmp_path, by_trial(), stops=lambda now: int(now >= 5))
    study.places = LatePlaces(study.backend.clock, math.inf)
    assert study.run(jobs(3)) == dict.fromkeys(range(3), "pending")
    assert study.backend.launches == []
    assert study.backend.now < 6


def test_places_of_a_trial_whose_folder_cannot_be_made_are_given_back(tmp_path):
    def prepare(job):
        raise OSError(errno.ENOTDIR, "Not a directory")

    study = Study(tmp_path, by_trial(), prepare=prepare)
    study.places = places = LatePlaces(study.backend.clock, 0.0)
    assert study.run(jobs(3)) == dict.fromkeys(range(3), "failed")
    assert places.taken == []


def test_memory_that_another_run_may_have_taken_is_no_verdict_on_the_trial(tmp_path):
    study = Study(tmp_path, by_trial(t0=[Script(ending="out_of_memory"), Script(ending="out_of_memory")]))
    study.places = LatePlaces(study.backend.clock, 0.0, company=True)
    assert study.run(jobs(1)) == {0: "infeasible"}
    assert [event.reason for event in study.of(TrialRetried)] == ["out_of_memory"]
    assert len(study.backend.launches) == 2, "alone, with all places taken, its result counts"


WORSE = Hopeless("at step 30 it is worse than the median", 30, 4.5)


def hopeless_from(study: Study, time: float, trial: int = 0) -> None:
    study.hopeless = lambda: {trial: WORSE} if study.backend.now >= time else {}


def test_a_hopeless_trial_is_asked_to_save_and_has_then_ended_for_good(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(50)))
    hopeless_from(study, 5.0)
    resume = TrialFolder(study.folder(Job(0))).resume
    resume.touch()
    assert study.run(jobs(3)) == {0: "stopped", 1: "completed", 2: "completed"}
    result = read_trial(TrialFolder(tmp_path / "00000")).result
    assert result is not None
    assert (result.state, result.reason, result.message) == ("stopped", "stopped_early", WORSE.message)
    assert (result.final_step, result.train_seconds, result.attempt, result.device) == (30, 4.5, 1, "cpu")
    assert not resume.exists(), "it is not trained further"
    assert study.attempts(0) == []
    assert [event.state for event in study.of(TrialEnded) if event.trial == 0] == ["stopped"]
    assert min(launch[3] for launch in study.backend.launches if launch[0] == 2) < 10, "its slot is used at once"


def test_a_hopeless_trial_whose_resume_file_cannot_be_removed_was_stopped_early_all_the_same(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(50)))
    hopeless_from(study, 5.0)
    (TrialFolder(study.folder(Job(0))).resume / "inside").mkdir(parents=True)
    assert study.run(jobs(1)) == {0: "stopped"}
    assert study.state(0) == "stopped"


def test_a_hopeless_trial_that_ends_by_itself_meanwhile_keeps_its_result(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(6, heeds=False)))
    hopeless_from(study, 5.0)
    assert study.run(jobs(1)) == {0: "completed"}


def test_a_hopeless_trial_that_does_not_save_is_killed_and_has_ended_all_the_same(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(500, heeds=False)), grace=10.0)
    hopeless_from(study, 5.0)
    assert study.run(jobs(1)) == {0: "stopped"}
    assert study.backend.now < 20


def test_a_trial_that_crashes_while_it_is_asked_to_stop_is_tried_again(tmp_path):
    study = Study(tmp_path, by_trial(t0=[Script(6, "crash", heeds=False), Script()]))
    hopeless_from(study, 5.5)
    assert [event.reason for event in study.of(TrialRetried)] == []
    study.run(jobs(1))
    assert [event.reason for event in study.of(TrialRetried)] == ["crashed"]


def trained_to(folder: TrialFolder, step: int) -> None:
    line = {"step": step, "kind": "evaluation", "metrics": {}, "elapsed_seconds": 1.0}
    folder.measurements.write_text(json.dumps(line) + "\n")


def test_a_trial_that_is_released_again_and_again_without_progress_has_failed(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(1, "released")))
    trained_to(TrialFolder(study.folder(Job(0))), 30)
    assert study.run(jobs(1)) == {0: "failed"}
    # The first attempt made progress, from step 0 to 30.
    assert [(reason, final) for _, reason, final in study.attempts(0)] == [
        *[("released", False)] * MOST_IDLE_RELEASES,
        ("released", True),
    ]
    (ended,) = study.of(TrialEnded)
    assert ended.message == (
        "was released 10 times in a row without a further update; the last time: another process asked it to stop"
    )


def test_a_trial_that_goes_on_is_released_as_often_as_its_workers_end(tmp_path):
    folder = TrialFolder(tmp_path / "00000")
    scripts = [Script(1, "released", does=partial(trained_to, folder, step)) for step in range(1, 40)]
    study = Study(tmp_path, by_trial(t0=[*scripts, Script()]))
    assert study.run(jobs(1)) == {0: "completed"}
    assert len(study.attempts(0)) == 39


def test_a_loss_after_which_a_trial_has_come_further_does_not_count_against_its_retries(tmp_path):
    folder = TrialFolder(tmp_path / "00000")
    further = [Script(1, "lost", does=partial(trained_to, folder, step)) for step in (10, 20, 30)]
    study = Study(tmp_path, by_trial(t0=[*further, Script(1, "lost"), Script()]))
    assert study.run(jobs(1)) == {0: "completed"}
    assert [item.reached for item in read_trial(folder).attempts] == [10, 20, 30, 30]


def test_losses_without_progress_and_crashes_count_also_beside_those_that_do_not(tmp_path):
    folder = TrialFolder(tmp_path / "00000")
    lost = Script(1, "lost", does=partial(trained_to, folder, 10))
    study = Study(tmp_path, by_trial(t0=[lost, Script(1, "crash"), lost]))
    assert study.run(jobs(1)) == {0: "failed"}
    assert study.attempts(0) == [(1, "lost", False), (2, "crashed", False), (3, "lost", True)]
    again = Job(0, tuple(read_trial(folder).attempts))
    assert (again.failures, again.failures_with("lost", 10), again.failures_with("lost", 11)) == (0, 1, 0)


def test_a_lost_attempt_is_no_release_without_progress():
    earlier = [AttemptEnd(number, "lost (NODE_FAIL)", reached=30) for number in range(1, 30)]
    assert Job(0, tuple(earlier)).idle_releases(30) == 1


def test_a_trial_of_a_worker_that_gives_it_back_unbegun_is_prepared_and_launched_again(tmp_path):
    prepared: list[Job] = []
    study = Study(tmp_path, by_trial(t0=[Script(0, "never_began")]))

    def prepare(job: Job) -> Path:
        prepared.append(job)
        study.backend.scripts = by_trial(t0=Script(0, "never_began") if len(prepared) == 1 else Script())
        return study.folder(job)

    study.prepare = prepare
    assert study.run([Job(0, is_at_work=True)]) == {0: "completed"}
    assert [(job.is_at_work, job.attempt) for job in prepared] == [(True, 1), (False, 1)]


def test_a_hopeless_trial_whose_worker_dies_was_stopped_early_all_the_same(tmp_path):
    study = Study(tmp_path, by_trial(t0=Script(6, "lost", heeds=False)))
    hopeless_from(study, 5.0)
    assert study.run(jobs(1)) == {0: "stopped"}
    result = read_trial(TrialFolder(tmp_path / "00000")).result
    assert result is not None
    assert (result.reason, result.message) == ("stopped_early", WORSE.message)
    assert study.attempts(0) == []


def test_a_result_that_shows_only_when_its_trial_is_launched_again_is_the_end_of_the_trial(tmp_path):
    study = Study(tmp_path, by_trial())
    folder = TrialFolder(study.folder(Job(0)))
    write_result(folder, 1, "completed")
    assert study.run(jobs(2)) == {0: "completed", 1: "completed"}
    assert [launch[0] for launch in study.backend.launches] == [1]
    assert folder.result.exists()
