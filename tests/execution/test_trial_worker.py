"""Workers that claim offered toy trials.

Tests trial_worker.py, held_trials.py, worker_options.py and worker_stops.py.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from full_disks import fill_disk_under
from toy_trials import all_gone, pid_in, wait_until

from tunectl.core import real_folders
from tunectl.core.errors import FolderError, UsageError, WorkloadError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import WorkloadReference
from tunectl.execution import shared_places
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.held_trials import WorkerName
from tunectl.execution.place_locks import PlaceLocks
from tunectl.execution.runtime_folder import runtime_folder
from tunectl.execution.trial_worker import TrialWorker
from tunectl.execution.worker_options import WorkerOptions, WorkerReport
from tunectl.execution.worker_stops import WorkerStops
from tunectl.language.study_spec import ResourcesSection
from tunectl.store import claimed_trials, lost_claims, offered_trials, run_state
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, Ending, StopRequest
from tunectl.store.heartbeats import LATE_SECONDS, Beat
from tunectl.store.offered_trials import Offer
from tunectl.store.run_state import RunState, WorkerNeeds

TESTS = Path(__file__).parent.parent


class InOrder(Random):
    """Chooses the trial with the lowest number, the last one of those that a worker would take next."""

    def choice(self, seq: Any) -> Any:
        return seq[-1]


class Site:
    """A study with offered toy trials, and a worker for them. `hear` is called with each line of the worker."""

    def __init__(self, root: Path) -> None:
        self.study = StudyFolder(root / "study")
        self.study.trials.mkdir(parents=True)
        self.study.plan.touch()
        offered_trials.make_places(self.study)
        self.offers = 0
        self.lines: list[str] = []
        self.hear: Callable[[str], None] = lambda _line: None
        self.clock: Callable[[], float] = time.monotonic
        self.stops = WorkerStops()
        self.killed_for_memory: Iterator[int | None] = itertools.repeat(None)
        self.state = RunState(
            "token",
            "left",
            WorkerNeeds(WorkloadReference("toy:loads", "loads", module="toy"), current_folder=str(root)),
            ResourcesSection(devices="cpu", grace_seconds=20.0),
            heartbeat_seconds=5.0,
        )

    def offer(self, *behaviours: str, **changes: Any) -> None:
        for behaviour in behaviours:
            trial, self.offers = self.offers, self.offers + 1
            home = offered_trials.home_folder(self.study, trial)
            home.path.mkdir()
            home.request.write_text(json.dumps({"behaviour": behaviour}))
            offered_trials.offer_trial(self.study, replace(Offer(trial, 1), **changes))

    def work(self, **options: Any) -> WorkerReport:
        run_state.write_run_state(self.study, self.state)
        return self.worker(**options).work()

    def worker(self, **options: Any) -> TrialWorker:
        def say(line: str) -> None:
            self.lines.append(line)
            self.hear(line)

        given = replace(WorkerOptions(WorkerName("w", "made-up", "12_3"), slots=1), **options)
        environ = {**os.environ, "PYTHONPATH": str(TESTS)}
        return TrialWorker(
            self.study,
            given,
            self.stops,
            say,
            clock=self.clock,
            random=InOrder(),
            make_backend=lambda: LocalBackend(environ, "toy_worker"),
            count_killed=lambda: next(self.killed_for_memory),
        )

    def claim(self) -> ClaimedTrial:
        (claimed,) = claimed_trials.claimed_trials(self.study)
        return claimed

    def when_claimed(self, act: Callable[[ClaimedTrial], object]) -> None:
        """Act once, when the worker's trial waits to be stopped."""

        def hear(line: str) -> None:
            if "claimed" in line:
                self.hear = lambda _line: None
                claimed = self.claim()
                pid_in(claimed.folder.path / "waiting")
                act(claimed)

        self.hear = hear

    def ending(self, trial: int) -> Ending:
        ending = claimed_trials.read_ending(offered_trials.home_folder(self.study, trial))
        assert ending is not None
        return ending


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_offered_trials_are_trained_and_given_back_with_how_they_ended(site: Site) -> None:
    site.offer("completes", "exits_3", "completes")
    report = site.work(slots=2)
    assert (report.ended, report.crashed, report.released, report.lost, report.exit_code) == (2, 1, 0, 0, 0)
    assert report.why == "no trial is left"
    assert offered_trials.offered_trials(site.study) == []
    assert claimed_trials.claimed_trials(site.study) == []
    assert [(site.ending(trial).code, site.ending(trial).attempt) for trial in range(3)] == [(0, 1), (3, 1), (0, 1)]
    assert site.ending(1).is_users
    assert site.ending(0).device == "cpu"
    claimant = claimed_trials.read_claimant(offered_trials.home_folder(site.study, 0))
    assert isinstance(claimant, Claimant)
    assert (claimant.engine, claimant.job, claimant.pid, claimant.attempt) == ("made-up", "12_3", os.getpid(), 1)
    log = offered_trials.home_folder(site.study, 0).log
    assert log.read_text() == "trained\n"


def test_a_host_on_which_the_first_trials_fail_at_once_leaves_the_others_to_other_hosts(site: Site) -> None:
    site.offer("fails", "fails", "fails", "completes")
    report = site.work()
    assert (report.ended, report.exit_code) == (3, 2)
    assert "the first trials here (0, 1, 2) all failed alike before they measured anything" in report.why
    assert offered_trials.offered_trials(site.study) == [3]


def test_a_workload_that_cannot_be_loaded_here_ends_the_worker_before_it_claims_anything(site: Site) -> None:
    site.offer("completes")
    workload = WorkloadReference("toy:raises", "raises", module="toy")
    site.state = replace(site.state, needs=replace(site.state.needs, workload=workload))
    with pytest.raises(WorkloadError, match="there is no such data set"):
        site.work()
    assert offered_trials.offered_trials(site.study) == [0]


def test_a_host_without_the_folder_in_which_trials_start_claims_nothing(site: Site, tmp_path: Path) -> None:
    site.offer("completes")
    site.state = replace(site.state, needs=replace(site.state.needs, current_folder=str(tmp_path / "gone")))
    with pytest.raises(UsageError, match="gone: is not there on this host"):
        site.work()
    assert offered_trials.offered_trials(site.study) == [0]


def test_trials_start_in_the_folder_in_which_the_run_was_started(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    before = Path.cwd()
    site.state = replace(site.state, needs=replace(site.state.needs, current_folder=str(place)))
    site.offer("reports")
    site.hear = lambda _line: None
    site.work()
    assert Path.cwd() == before
    assert site.ending(0).code == 0


def test_a_trial_that_the_run_asks_to_stop_saves_and_is_given_back(site: Site) -> None:
    site.offer("waits_for_stop")
    site.when_claimed(lambda claimed: claimed_trials.request_stop(claimed, StopRequest()))
    report = site.work()
    assert (report.ended, report.stopped, report.crashed) == (0, 1, 0)
    ending = site.ending(0)
    assert (ending.code, ending.released, ending.timed_out, report.exit_code) == (75, False, False, 0)
    assert (site.study.trials / "00000" / "saved").exists()


def test_a_trial_that_the_run_asks_to_kill_is_killed(site: Site) -> None:
    site.offer("ignores_stop")
    site.when_claimed(lambda claimed: claimed_trials.request_stop(claimed, StopRequest(kill=True)))
    site.work()
    assert site.ending(0).signal == signal.SIGKILL


def test_a_trial_that_does_not_save_within_its_grace_is_killed(site: Site) -> None:
    site.offer("ignores_stop", grace_seconds=0.0)
    site.when_claimed(lambda claimed: claimed_trials.request_stop(claimed, StopRequest()))
    site.work()
    assert site.ending(0).signal == signal.SIGKILL


def test_a_trial_that_takes_longer_than_its_limit_is_stopped_without_the_run(site: Site) -> None:
    site.offer("waits_for_stop", timeout_seconds=0.05)
    site.work()
    assert site.ending(0).timed_out
    assert "took longer than trial_timeout_seconds" in site.lines[-1]


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGHUP, 130), (signal.SIGUSR2, 0)]
)
def test_a_worker_that_is_asked_to_end_releases_its_trials_saved(
    site: Site, number: signal.Signals, exit_code: int
) -> None:
    site.offer("waits_for_stop", "waits_for_stop")
    site.when_claimed(lambda _claimed: site.stops.take_signal(number))
    report = site.work()
    assert (report.ended, report.released, report.exit_code) == (0, 1, exit_code)
    assert len(offered_trials.offered_trials(site.study)) == 1
    (home,) = site.study.trials.iterdir()
    assert (home / "saved").exists()
    ending = site.ending(int(home.name))
    assert (ending.released, ending.was_asked, ending.cause) == (True, True, "")


@pytest.mark.parametrize(("counts", "is_said"), [((4, 6), True), ((4, 4), False), ((None, None), False)])
def test_a_trial_that_was_killed_when_the_system_killed_processes_of_its_job_for_want_of_memory_says_so(
    site: Site, counts: tuple[int | None, ...], is_said: bool
) -> None:
    site.killed_for_memory = iter(counts)
    site.offer("kills_itself")
    site.work()
    ending = site.ending(0)
    assert ending.signal == signal.SIGKILL
    assert ("(OUT_OF_MEMORY): since it began, the system has killed 2 of its job's" in ending.message) == is_said


def test_a_trial_that_a_batch_system_has_signalled_before_its_worker_is_released(site: Site) -> None:
    site.offer("waits_for_stop")

    def act(claimed: ClaimedTrial) -> None:
        os.kill(pid_in(claimed.folder.path / "waiting"), signal.SIGTERM)
        wait_until((claimed.folder.path / "saved").exists, "the trial has saved")
        site.stops.take_signal(signal.SIGTERM)

    site.when_claimed(act)
    report = site.work()
    assert (report.released, report.exit_code) == (1, 130)
    assert site.ending(0).message == "its worker was asked to stop"


def test_a_trial_that_another_process_asked_to_stop_has_saved_and_is_released(site: Site) -> None:
    site.offer("waits_for_stop")
    site.when_claimed(lambda claimed: os.kill(pid_in(claimed.folder.path / "waiting"), signal.SIGTERM))
    report = site.work()
    assert (report.released, report.exit_code) == (1, 0)
    assert site.ending(0).message == "another process asked it to stop"


def test_a_second_signal_kills_the_trials(site: Site) -> None:
    site.offer("ignores_stop")

    def act(_claimed: ClaimedTrial) -> None:
        site.stops.take_signal(signal.SIGINT)
        site.stops.take_signal(signal.SIGINT)

    site.when_claimed(act)
    report = site.work()
    assert (report.released, report.exit_code) == (1, 130)
    assert site.ending(0).signal == signal.SIGKILL


def test_a_worker_whose_time_is_nearly_over_releases_its_trials_in_time(site: Site) -> None:
    site.offer("waits_for_stop")
    begun = time.monotonic()
    # Of less than twice what giving back takes, half is used for training.
    report = site.work(ends_at=begun + 8.0, end_cause="TIMEOUT")
    assert time.monotonic() < begun + 8.0
    assert (report.released, report.exit_code, report.why) == (1, 0, "its time is nearly over")
    assert site.ending(0).cause == "TIMEOUT"


def test_a_worker_that_lost_its_trial_kills_it_writes_nothing_and_goes_on_with_another_one(site: Site) -> None:
    site.offer("waits_for_stop")
    seen: dict[str, object] = {}

    def act(claimed: ClaimedTrial) -> None:
        seen["pid"] = pid_in(claimed.folder.path / "waiting")
        assert lost_claims.take_back(claimed)
        seen["content"] = content(site.study.trials / "00000")
        site.offer("completes")

    site.state = replace(site.state, heartbeat_seconds=0.05)
    site.when_claimed(act)
    report = site.work()
    assert (report.ended, report.lost, report.exit_code) == (1, 1, 0)
    assert content(site.study.trials / "00000") == seen["content"]
    assert all_gone(int(str(seen["pid"])))
    assert any("trial 0: was taken over" in line for line in site.lines)
    assert claimed_trials.claimed_trials(site.study) == []


def test_a_worker_that_gives_a_result_back_too_late_says_that_the_run_has_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_back = claimed_trials.give_back

    def late(claimed: ClaimedTrial, ending: Ending) -> bool:
        assert lost_claims.take_back(claimed)  # as a run does that begins and finds the result
        return give_back(claimed, ending)

    monkeypatch.setattr(claimed_trials, "give_back", late)
    site.offer("completes")
    report = site.work()
    assert (report.ended, report.lost, report.exit_code) == (0, 1, 0)
    assert site.lines[-1] == (
        "trial 0: was taken over, with what it had written, before this worker could give it back"
    )
    assert offered_trials.home_folder(site.study, 0).result.exists()


def test_the_heartbeat_of_a_claim_changes_while_its_trial_runs(site: Site) -> None:
    site.offer("waits_for_stop")
    site.state = replace(site.state, heartbeat_seconds=0.05)
    beats: list[Beat] = []

    class Looked(WorkerStops):
        def __call__(self) -> int:
            for claimed in claimed_trials.claimed_trials(site.study):
                beats.append(claimed_trials.read_trial_beat(claimed))
                if len(set(beats)) > 3:
                    claimed_trials.request_stop(claimed, StopRequest())
            return 0

    site.stops = Looked()
    site.work()
    assert len(set(beats)) > 3


def test_a_disk_that_is_full_at_the_claim_ends_the_worker_and_the_trial_stays_offered(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk_under(monkeypatch, "claim.json")
    site.offer("completes")
    report = site.work()
    assert report.exit_code == 3
    assert "No space left on device" in report.why
    assert offered_trials.offered_trials(site.study) == [0]
    assert sorted(path.name for path in (site.study.offered / "00000").iterdir()) == ["offer.json", "request.json"]


def test_an_ending_that_a_full_disk_does_not_take_gives_the_trial_back_without_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk_under(monkeypatch, "ended.json")
    site.offer("completes")
    assert site.work().ended == 1
    home = offered_trials.home_folder(site.study, 0)
    assert home.result.exists()
    assert claimed_trials.read_ending(home) is None


def test_a_trial_that_must_run_alone_waits_until_no_other_one_is_on_its_device(site: Site) -> None:
    site.offer("waits_for_stop")
    waiting: list[ClaimedTrial] = []

    def hear(line: str) -> None:
        if line.startswith("trial 0: claimed"):
            waiting.append(site.claim())
            site.offer("completes", alone=True)

    class Looked(WorkerStops):
        def __call__(self) -> int:
            claims = {item.trial: item for item in claimed_trials.claimed_trials(site.study)}
            if {0, 1} <= set(claims):
                claimant = claimed_trials.read_claimant(claims[1].folder)
                assert claimant is None or claimant.waits
                claimed_trials.request_stop(claims[0], StopRequest())
            return 0

    site.hear, site.stops = hear, Looked()
    site.work(slots=2)
    assert [line.partition(",")[0] for line in site.lines if line.startswith("trial")] == [
        "trial 0: claimed",
        "trial 0: stopped",
        "trial 1: claimed",
        "trial 1: completed after " + site.lines[-1].rpartition("after ")[2],
    ]
    assert not site.ending(1).had_company
    assert site.ending(0).had_company, "who else has cores of an engine is not known"


def test_a_trial_that_must_run_alone_keeps_its_turn_for_places_that_other_runs_use(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a worker that trains no other trial: else those that wait less long would always go first."""
    monkeypatch.setattr(shared_places, "core_places", lambda: ("core-0", "core-1"))
    folder, _ = runtime_folder(os.environ)
    assert folder is not None
    other = PlaceLocks(folder)
    assert other.lock("core-0")
    site.offer("completes", alone=True)
    rounds = itertools.count()

    class Looked(WorkerStops):
        def __call__(self) -> int:
            if "core-0" in other.wanted_before() or next(rounds) > 40:
                other.unlock("core-0")
            return 0

    site.stops = Looked()
    assert site.work(name=WorkerName("w")).ended == 1
    assert next(rounds) <= 40, "it waited in the queue"
    other.close()


@pytest.mark.parametrize("kill", [False, True])
def test_a_claimed_trial_that_waits_for_its_device_is_given_back_unbegun_when_the_run_asks_for_its_end(
    site: Site, kill: bool
) -> None:
    site.offer("waits_for_stop")
    site.hear = lambda line: site.offer("completes", alone=True) if line.startswith("trial 0: claimed") else None
    asked: list[Claimant] = []

    class Looked(WorkerStops):
        def __call__(self) -> int:
            claims = {item.trial: item for item in claimed_trials.claimed_trials(site.study)}
            waiting = claimed_trials.read_claimant(claims[1].folder) if 1 in claims else None
            if waiting is not None and not asked:
                asked.append(waiting)
                claimed_trials.request_stop(claims[1], StopRequest(kill))
            elif asked and 0 in claims and 1 not in claims:
                claimed_trials.request_stop(claims[0], StopRequest())
            return 0

    site.stops = Looked()
    report = site.work(slots=2)
    assert [(item.attempt, item.job, item.waits) for item in asked] == [(1, "12_3", True)]
    assert site.ending(1) == Ending(1, host=site.ending(1).host, never_began=True)
    assert not offered_trials.home_folder(site.study, 1).log.exists()
    assert (report.ended, report.stopped, report.released) == (0, 1, 0)


def test_a_trial_that_waits_is_offered_again_where_the_run_needs_another_workload(site: Site) -> None:
    site.offer("waits_for_stop")

    def hear(line: str) -> None:
        if line.startswith("trial 0: claimed"):
            site.offer("completes", alone=True)

    class Looked(WorkerStops):
        def __call__(self) -> int:
            claims = {item.trial: item for item in claimed_trials.claimed_trials(site.study)}
            if 1 in claims and claims[1].folder.claimant.exists() and site.state.needs.fingerprint == "":
                site.state = replace(site.state, needs=replace(site.state.needs, fingerprint="changed"))
                run_state.write_run_state(site.study, site.state)
            elif 0 in claims and 1 not in claims:
                claimed_trials.request_stop(claims[0], StopRequest())
            return 0

    site.hear, site.stops = hear, Looked()
    report = site.work(slots=2)
    assert (report.ended, report.stopped) == (1, 1)
    assert site.ending(1).code == 0


def test_a_trial_of_a_run_that_ended_at_the_moment_of_its_claim_is_not_begun(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.offer("completes")
    claim = claimed_trials.claim_trial

    def late(study: StudyFolder, trial: int) -> ClaimedTrial | None:
        run_state.remove_run_state(study)
        return claim(study, trial)

    monkeypatch.setattr(claimed_trials, "claim_trial", late)
    report = site.work()
    assert (report.ended, report.why) == (0, "the run is over")
    assert offered_trials.offered_trials(site.study) == [0]
    assert not (site.study.offered / "00000" / "log.txt").exists()


def test_trials_that_were_on_one_device_at_a_time_had_company(site: Site) -> None:
    site.offer("waits_for_stop", "completes")

    class Looked(WorkerStops):
        def __call__(self) -> int:
            if offered_trials.home_folder(site.study, 1).ending.exists():
                for claimed in claimed_trials.claimed_trials(site.study):
                    claimed_trials.request_stop(claimed, StopRequest())
            return 0

    site.stops = Looked()
    site.work(slots=2)
    assert site.ending(0).had_company
    assert site.ending(1).had_company


@pytest.mark.parametrize("name", ["request", "offer"])
def test_a_claimed_trial_whose_request_cannot_be_read_is_given_back_as_lost(site: Site, name: str) -> None:
    site.offer("completes")
    site.state = replace(site.state, heartbeat_seconds=0.1)
    getattr(offered_trials.offered_folder(site.study, 0), name).write_bytes(b'{"beh')
    times = itertools.count(step=2.0)
    site.clock = lambda: float(next(times))
    assert site.work().crashed == 1
    assert site.ending(0).lost
    assert next(times) > LATE_SECONDS, "a file server may show them late, however short the heartbeats are"


def goes_on_late(site: Site, behaviour: str, act: Callable[[Path, Path], object]) -> Path:
    """A trial that has begun elsewhere, whose `saved` does not show at its next worker; `act` is called with its place
    and with where it is until it shows, when the worker waits for it.
    """
    site.offer(behaviour)
    hidden = site.study.path / "hidden"
    offered_trials.withdraw_trial(site.study, 0)
    home = offered_trials.home_folder(site.study, 0)
    home.path.mkdir(exist_ok=True)
    home.request.write_text(json.dumps({"behaviour": behaviour, "attempt": 2}))
    (home.path / "saved").write_text("state")
    offered_trials.offer_trial(site.study, Offer(0, 2))
    (site.study.offered / "00000" / "saved").rename(hidden)

    def hear(line: str) -> None:
        if "waiting up to 60 s" in line:
            claimed = site.claim()
            assert not (claimed.folder.path / "pids.jsonl").exists(), "it may not have begun"
            act(claimed.folder.path / "saved", hidden)

    times = itertools.count(step=0.5)
    site.clock, site.hear = lambda: float(next(times)), hear
    return hidden


def test_a_trial_that_goes_on_is_launched_when_what_another_host_has_saved_shows(site: Site) -> None:
    goes_on_late(site, "completes", lambda place, hidden: hidden.rename(place))
    assert site.work().ended == 1
    assert [line for line in site.lines if "saved" in line] == [
        "trial 0: waiting up to 60 s for the files from which it goes on to show; saved does not yet"
    ]
    assert site.ending(0).attempt == 2


def test_a_worker_that_is_stopped_while_a_trial_waits_for_its_files_offers_it_again(site: Site) -> None:
    goes_on_late(site, "completes", lambda _place, _hidden: site.stops.ask(1))
    assert site.work().ended == 0
    assert offered_trials.offered_trials(site.study) == [0]
    offer = offered_trials.read_offer(offered_trials.offered_folder(site.study, 0))
    assert offer is not None
    assert offer.files == {"saved": len("state")}


def test_a_run_that_needs_another_workload_has_it_loaded_before_the_next_claim(site: Site) -> None:
    site.offer("reports")

    def hear(line: str) -> None:
        if line.startswith("trial 0: claimed"):
            site.state = replace(site.state, needs=replace(site.state.needs, fingerprint="changed"))
            run_state.write_run_state(site.study, site.state)
            site.offer("reports")

    site.hear = hear
    report = site.work()
    assert report.ended == 2
    loaded = [json.loads((site.study.trials / f"0000{trial}" / "facts.json").read_text()) for trial in range(2)]
    assert loaded[0]["loaded_pid"] != loaded[1]["loaded_pid"]


def test_a_run_that_only_starts_again_keeps_what_its_workers_have_loaded(site: Site) -> None:
    site.offer("reports")

    def hear(line: str) -> None:
        if line.startswith("trial 0: claimed"):
            run_state.write_run_state(site.study, replace(site.state, token="another", pid=4711))
            site.offer("reports")

    site.hear = hear
    assert site.work().ended == 2
    loaded = [json.loads((site.study.trials / f"0000{trial}" / "facts.json").read_text()) for trial in range(2)]
    assert loaded[0]["loaded_pid"] == loaded[1]["loaded_pid"]


def test_a_worker_that_waits_does_not_end_while_the_run_that_left_its_trials_begins_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[int] = []

    def begins_again(study: StudyFolder) -> list[int]:
        listed.append(1)
        if len(listed) == 2:  # the run takes back what it had offered, just before the worker looks for it again
            run_state.write_run_state(study, replace(site.state, token="another", phase="at_work"))
        elif len(listed) == 4:
            monkeypatch.setattr("tunectl.execution.offer_queue.offered_trials", offered_trials.offered_trials)
            site.offer("completes")
            run_state.write_run_state(study, replace(site.state, token="another"))
        return []

    monkeypatch.setattr("tunectl.execution.offer_queue.offered_trials", begins_again)
    assert site.work().ended == 1


@pytest.mark.parametrize("phase", ["over", None])
def test_a_worker_of_a_run_that_is_over_claims_nothing(site: Site, phase: str | None) -> None:
    site.offer("completes")
    if phase is not None:
        run_state.write_run_state(site.study, replace(site.state, phase="over"))
    report = site.worker(idle_seconds=0.0).work()
    assert (report.ended, report.exit_code) == (0, 0)
    assert report.why == ("the run is over" if phase else "no run offers trials to workers here")
    assert offered_trials.offered_trials(site.study) == [0]


def test_a_server_that_dies_takes_the_trial_with_it_and_another_one_is_started(site: Site) -> None:
    site.offer("kills_the_server", "completes")
    report = site.work()
    assert (report.ended, report.crashed) == (1, 1)
    assert site.ending(0).lost
    assert site.ending(1).code == 0


def test_a_worker_that_ends_by_an_error_gives_back_what_it_has(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer("waits_for_stop")

    def act(_claimed: ClaimedTrial) -> None:
        raise FolderError("made up")

    site.when_claimed(act)
    with pytest.raises(FolderError, match="made up"):
        site.work()
    ending = site.ending(0)
    assert ending.released
    assert ending.message == "its worker ended by an error"
    assert all_gone(pid_in(site.study.trials / "00000" / "waiting"))


def test_offers_that_cannot_be_listed_for_a_moment_end_no_trial(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer("waits_for_stop", "completes")
    listed = "tunectl.execution.offer_queue.offered_trials"
    failed: list[int] = []

    def act(claimed: ClaimedTrial) -> None:
        def failing(study: StudyFolder) -> list[int]:
            failed.append(1)
            if len(failed) > 1:
                monkeypatch.setattr(listed, offered_trials.offered_trials)
            claimed_trials.request_stop(claimed, StopRequest())
            raise FolderError(f"{study.offered}: cannot be read: Stale file handle")

        monkeypatch.setattr(listed, failing)

    site.when_claimed(act)
    report = site.work(slots=2)
    assert (report.ended, report.stopped) == (1, 1)
    assert len([line for line in site.lines if "Stale file handle" in line]) == 1
    assert (site.study.trials / "00000" / "saved").exists()


def test_a_worker_that_waits_outlives_a_short_failure_of_the_file_server_and_no_long_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    run_state.write_run_state(site.study, replace(site.state, phase="at_work", heartbeat_seconds=1000.0))
    fails_from, fails_until = 1010.0, 1040.0

    def read(study: StudyFolder) -> RunState | None:
        now[0] += 5.0
        if fails_from <= now[0] < fails_until:
            raise FolderError(f"{study.run_state}: cannot be read: Stale file handle") from OSError(errno.ESTALE, "")
        return run_state.read_run_state(study)

    def waits(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("tunectl.execution.offering_run.read_run_state", read)
    monkeypatch.setattr("tunectl.execution.trial_worker.select.select", lambda *given: waits(given[-1]))
    options = WorkerOptions(WorkerName("w"), slots=1, idle_seconds=100.0)
    report = TrialWorker(site.study, options, site.stops, site.lines.append, clock=lambda: now[0]).work()
    assert report.why == "no trial was offered for 100 seconds"
    assert len([line for line in site.lines if "Stale file handle" in line]) == 1
    fails_from, fails_until = now[0] + 10.0, 1e9
    with pytest.raises(FolderError, match="Stale file handle"):
        TrialWorker(site.study, options, site.stops, site.lines.append, clock=lambda: now[0]).work()


def test_a_host_with_other_code_than_the_run_claims_nothing(site: Site, tmp_path: Path) -> None:
    site.offer("completes")
    file = tmp_path / "mine.py"
    file.write_text("a = 2\n")
    needs = replace(site.state.needs, files={str(file): hashlib.sha256(b"a = 1\n").hexdigest()})
    site.state = replace(site.state, needs=needs)
    with pytest.raises(UsageError, match=r"mine\.py is another file here"):
        site.work()
    assert offered_trials.offered_trials(site.study) == [0]


def test_a_trial_that_cannot_be_given_back_now_is_given_back_later_and_beats_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.offer("completes")
    site.state = replace(site.state, heartbeat_seconds=0.05)
    real, beats = real_folders.move, set[object]()

    def failing(path: Path, to: Path, within: Path) -> None:
        if to.parent == site.study.trials and len(beats) < 3:
            beats.add(claimed_trials.read_trial_beat(site.claim()))
            raise OSError(errno.EIO, "Input/output error")
        real(path, to, within)

    monkeypatch.setattr(real_folders, "move", failing)
    report = site.work()
    assert (report.ended, report.exit_code) == (1, 0)
    assert site.ending(0).code == 0
    assert len([line for line in site.lines if "Input/output error; trying again for up to 300 s" in line]) == 1


def test_a_worker_without_a_trial_waits_for_a_file_server_that_fails_for_a_moment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.offer("completes")
    real, failed = real_folders.names, list[int]()

    def failing(folder: Path, within: Path | None = None) -> list[str]:
        if folder == site.study.offered and len(failed) < 3:
            failed.append(1)
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(folder, within)

    monkeypatch.setattr(real_folders, "names", failing)
    report = site.work()
    assert (report.ended, report.exit_code, len(failed)) == (1, 0, 3)
    assert len([line for line in site.lines if "Stale file handle; trying again for up to 300 s" in line]) == 1


@pytest.mark.parametrize(
    ("signals", "times", "requests"),
    [
        ([signal.SIGTERM, signal.SIGTERM], [0.0, 0.5], 1),
        ([signal.SIGTERM, signal.SIGTERM], [0.0, 5.0], 2),
        ([signal.SIGINT, signal.SIGINT], [0.0, 0.1], 2),
        ([signal.SIGUSR2, signal.SIGUSR2, signal.SIGTERM], [0.0, 0.1, 9.0], 2),
    ],
)
def test_signals_that_a_batch_system_repeats_count_once(
    signals: Sequence[signal.Signals], times: Sequence[float], requests: int
) -> None:
    now = iter(times)
    clock = [0.0]
    stops = WorkerStops(lambda: clock[0])
    for number in signals:
        clock[0] = next(now)
        stops.take_signal(number)
    assert stops() == requests
    assert stops.time_is_short == (signal.SIGUSR2 in signals)


def test_a_file_server_that_does_not_find_a_claim_which_it_lists_takes_no_trial_from_its_worker(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.offer("completes")
    real, fails = claimed_trials.write_claimant, iter([True])

    def write(claimed: ClaimedTrial, claimant: Claimant) -> None:
        if next(fails, False):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        real(claimed, claimant)

    monkeypatch.setattr(claimed_trials, "write_claimant", write)
    report = site.work()
    assert (report.ended, report.lost) == (1, 0)
    assert site.ending(0).code == 0
