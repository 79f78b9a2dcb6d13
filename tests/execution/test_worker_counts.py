"""Which ends of a worker's trials show that its host lacks what they need."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialResult
from tunectl.execution.devices import CPU
from tunectl.execution.held_trials import HeldTrial
from tunectl.execution.slots import Slot
from tunectl.execution.worker_counts import EndKind, WorkerCounts, failure_at_once
from tunectl.store.claimed_trials import ClaimedTrial, Ending
from tunectl.store.trial_files import write_result

FAILED = TrialResult(3, "failed", "exit_code_1", "ModuleNotFoundError: No module named 'mine'")
CRASHED = Ending(1, signal=signal.SIGILL)


@pytest.fixture
def held(tmp_path: Path) -> HeldTrial:
    made = HeldTrial(ClaimedTrial(StudyFolder(tmp_path), 3, "00003.vm-5-0a1b"), Slot(0, CPU, {}, "cpu"), 0.0)
    made.claimed.folder.path.mkdir(parents=True)
    return made


def test_a_trial_that_failed_by_itself_before_it_measured_anything_failed_at_once(held: HeldTrial) -> None:
    folder = held.claimed.folder
    assert failure_at_once(held, Ending(1, code=71), "ended") is None, "there is no result"
    assert failure_at_once(held, replace(CRASHED, signal=signal.SIGKILL), "was killed") is None
    crashed = failure_at_once(held, CRASHED, "was killed by SIGILL")
    assert crashed is not None
    assert (crashed.reason, crashed.message) == ("crashed", "was killed by SIGILL")
    write_result(folder, FAILED)
    found = failure_at_once(held, Ending(1, code=0), "")
    assert found is not None
    assert found.message == FAILED.message
    assert failure_at_once(held, Ending(2, code=0), "") is None, "that result is of an earlier attempt"
    assert failure_at_once(held, Ending(1, released=True), "") is None
    write_result(folder, replace(FAILED, state="infeasible"))
    assert failure_at_once(held, Ending(1, code=0), "") is None
    write_result(folder, FAILED)
    folder.measurements.write_text("{}\n")
    assert failure_at_once(held, Ending(1, code=0), "") is None


@pytest.mark.parametrize(
    ("ends", "is_bad"),
    [
        ("fff", True),
        ("ff", False),
        ("frslnff", True),  # what was released, stopped, lost or never began says nothing
        ("ffe", False),
        ("efff", False),  # a trial works here
        ("ffo", False),
    ],
)
def test_a_host_on_which_the_first_trials_all_fail_alike_lacks_what_they_need(ends: str, is_bad: bool) -> None:
    kinds: dict[str, EndKind] = {"r": "released", "s": "stopped", "l": "lost", "n": "never_began"}
    other = replace(FAILED, message="ValueError: too wide")
    counts = WorkerCounts()
    for trial, end in enumerate(ends):
        counts.add(kinds.get(end, "ended"), trial, {"f": FAILED, "o": other}.get(end))
    assert bool(counts.why_none_works) == is_bad
    if is_bad:
        assert "all failed alike before they measured anything" in counts.why_none_works
        assert str(FAILED.message) in counts.why_none_works
