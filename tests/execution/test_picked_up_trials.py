"""What a run finds of the run before it. Tests picked_up_trials.py, with `begin` of backends/offering.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from offered_studies import offered_study

from tunectl.core.folders import StudyFolder
from tunectl.execution import picked_up_trials
from tunectl.execution.backends import offering
from tunectl.execution.backends.offering import OfferingBackend
from tunectl.execution.claim_watch import ClaimWatch
from tunectl.language.study_spec import ResourcesSection
from tunectl.store import claimed_trials, offered_trials
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, Ending
from tunectl.store.heartbeats import LATE_SECONDS
from tunectl.store.offered_trials import Offer


@dataclass
class Late:
    """A study folder of three offered trials, in which something shows at a time of the clock."""

    study: StudyFolder
    hidden: Path
    now: float = 0.0
    shows_at: float = 20.0
    moved: tuple[Path, Path] | None = None
    stops_at: float = 1e9
    said: list[str] = field(default_factory=list)

    def hide(self, path: Path) -> None:
        self.moved = (self.hidden / path.name, path)
        path.rename(self.moved[0])

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.moved is not None and self.now >= self.shows_at:
            self.moved[0].rename(self.moved[1])
            self.moved = None

    def is_waited_for(self) -> bool:
        """Whether the wait came to its end."""
        return picked_up_trials.wait_for_late(
            *(self.study, {0, 1, 2}, 30.0, self.said.append),
            stop_requested=lambda: int(self.now >= self.stops_at),
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def wait(self) -> dict[int, int]:
        """What is at work after the wait."""
        wanted = {0, 1, 2}
        assert self.is_waited_for()
        return picked_up_trials.attempts_at_work(self.study, wanted)

    def claim(self, trial: int) -> ClaimedTrial:
        claimed = claimed_trials.claim_trial(self.study, trial)
        assert claimed is not None
        return claimed


@pytest.fixture
def late(tmp_path: Path) -> Late:
    study, hidden = offered_study(tmp_path / "study", 3), tmp_path / "hidden"
    hidden.mkdir()
    for trial in (1, 2):
        assert offered_trials.withdraw_trial(study, trial)
        study.home(trial).path.mkdir()
        study.home(trial).request.write_text('{"attempt": 4}')
    return Late(study, hidden)


def test_where_all_trials_show_nothing_is_waited_for(late: Late) -> None:
    late.claim(0)
    assert late.wait() == {0: 1}
    assert (late.now, late.said) == (0.0, [])


def test_a_claim_that_shows_late_is_waited_for_and_is_at_work(late: Late) -> None:
    late.hide(late.claim(0).folder.path)
    assert late.wait() == {0: 1}
    assert 20.0 <= late.now < 21.0
    assert late.said == ["1 trial may be with workers; looking for 30 s whether they show"]


def test_a_stop_ends_the_wait_and_nothing_may_be_begun(late: Late) -> None:
    late.hide(late.claim(0).folder.path)
    late.stops_at = 3.0
    assert not late.is_waited_for()
    assert 3.0 <= late.now < 4.0
    assert late.said[1:] == ["stopped before a trial was begun; workers go on with what they have"]


def test_an_offer_that_shows_late_is_taken_back(late: Late) -> None:
    late.hide(offered_trials.offered_folder(late.study, 0).path)
    late.study.trials.joinpath("00000").mkdir()
    (late.study.trials / "00000").rmdir()
    assert late.wait() == {}
    assert offered_trials.offered_trials(late.study) == []
    assert 20.0 <= late.now < 21.0, "what was taken back is with no worker"


def test_a_trial_that_a_worker_gives_back_late_is_at_work_until_it_is_taken_in(late: Late) -> None:
    claimed = late.claim(0)
    claimed_trials.give_back(claimed, Ending(1, code=0))
    late.hide(late.study.home(0).path)
    assert late.wait() == {0: 1}


def test_trials_that_were_never_offered_cost_one_wait(late: Late) -> None:
    assert offered_trials.withdraw_trial(late.study, 0)
    assert late.wait() == {}
    assert 30.0 <= late.now < 31.0


@pytest.mark.parametrize("content", [None, b"", b'{"trial": 0, "att'])
def test_a_claim_whose_offer_is_torn_or_missing_is_at_work_by_what_else_says_its_attempt(
    late: Late, content: bytes | None
) -> None:
    claimed = late.claim(0)
    folder = claimed.folder
    folder.offer.unlink()
    if content is not None:
        folder.offer.write_bytes(content)
    folder.request.write_text('{"attempt": 3}')
    assert late.wait() == {0: 3}
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 5))
    assert late.wait() == {0: 5}
    assert late.now == 0.0
    folder.claimant.unlink()
    folder.request.unlink()
    assert late.wait() == {0: 1}, "a claim without any file is one as well, once it was waited for"
    assert late.now >= 30.0
    assert offered_trials.offered_trials(late.study) == []


def test_a_worker_that_cannot_read_an_offer_does_not_know_its_attempt(late: Late) -> None:
    claimed = late.claim(0)
    claimed.folder.offer.unlink()
    claimed.folder.request.write_text('{"attempt": 3}')
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 0, waits=True))
    assert late.wait() == {0: 3}
    claimed.folder.request.unlink()
    late.wait()
    assert late.now >= 30.0, "no file says it: what shows late is waited for"


def test_an_offer_that_is_read_late_is_waited_for(late: Late) -> None:
    claimed = late.claim(0)
    claimed.folder.request.unlink()
    late.hide(claimed.folder.offer)
    assert late.wait() == {0: 1}
    assert 20.0 <= late.now < 21.0
    assert offered_trials.read_offer(claimed.folder) == Offer(0, 1)


@dataclass
class Begun:
    """What a run that begins waits for, and by which period it judges workers, in seconds."""

    waits: list[float] = field(default_factory=list)
    periods: list[float] = field(default_factory=list)

    def wait(self, _study: StudyFolder, _wanted: object, seconds: float, *_more: object) -> bool:
        self.waits.append(seconds)
        return True

    def watch(self, study: StudyFolder, period: float, *more: Any) -> ClaimWatch:
        self.periods.append(period)
        return ClaimWatch(study, period, *more)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    made = Begun()
    monkeypatch.setattr(offering, "wait_for_late", made.wait)
    monkeypatch.setattr(offering, "ClaimWatch", made.watch)
    return made


def begin(study: StudyFolder, heartbeat_seconds: float) -> None:
    backend = OfferingBackend("external")
    backend.slots(ResourcesSection(heartbeat_seconds=heartbeat_seconds))
    backend.begin(study, {0}, lambda _line: None)
    backend.close()


def test_a_run_waits_at_least_as_long_as_a_file_server_is_late_however_short_the_heartbeats_were(
    late: Late, begun: Begun
) -> None:
    begin(late.study, 0.1)
    assert begun.waits == [], "there was no run before"
    begin(late.study, 0.1)
    begin(late.study, 100.0)
    begin(late.study, 0.1)
    assert begun.waits == [LATE_SECONDS, LATE_SECONDS, 300.0]


def test_a_run_that_cannot_read_what_the_one_before_it_has_left_waits_too(late: Late, begun: Begun) -> None:
    late.study.run_state.write_bytes(b'{"tok')
    begin(late.study, 0.1)
    assert begun.waits == [LATE_SECONDS]


def test_workers_are_judged_by_the_longer_period_of_this_run_and_the_one_before_it(late: Late, begun: Begun) -> None:
    for period in (0.5, 60.0, 10.0):
        begin(late.study, period)
    assert begun.periods == [0.5, 60.0, 60.0]
