"""Counts how the trials of a worker have ended there, and finds that its host lacks what they need."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from typing import Literal

from tunectl.core.errors import FolderError
from tunectl.core.records import TrialResult
from tunectl.execution.failures import CircuitBreaker
from tunectl.execution.held_trials import HeldTrial
from tunectl.execution.worker_options import WorkerReport
from tunectl.store.claimed_trials import Ending
from tunectl.store.lost_claims import has_own_result
from tunectl.store.trial_files import read_result

_BY_ITSELF = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS}
"""The signals by which a process ends through what it does, as on a host whose processor lacks its instructions."""

EndKind = Literal["ended", "released", "stopped", "crashed", "lost", "never_began"]


def kind_of_end(held: HeldTrial, ending: Ending) -> EndKind:
    """As what a trial counts that is given back now. Without a result it may go on later, as the run decides."""
    if ending.never_began:
        return "never_began"
    if ending.released:
        return "released"
    if ending.code == 0 or ending.timed_out or (not held.is_lost and has_own_result(held.claimed.folder)):
        return "ended"
    return "stopped" if held.stop_cause == "asked" else "crashed"


def failure_at_once(held: HeldTrial, ending: Ending, how: str) -> TrialResult | None:
    """How a trial failed by itself before it had measured anything; None of every other end. `how` is it in words."""
    folder = held.claimed.folder
    with contextlib.suppress(OSError, FolderError):
        if held.is_lost or ending.released or (folder.measurements.exists() and folder.measurements.stat().st_size):
            return None
        result = read_result(folder)
        if result is not None and result.attempt == ending.attempt:
            return result if result.state == "failed" else None
        if ending.signal in _BY_ITSELF:
            return TrialResult(held.trial, "failed", "crashed", how)
    return None


class WorkerCounts:
    """How many trials of a worker have ended in which way.

    `why_none_works` is not "" where the first trials that ended here have all failed at once and for one cause: other
    hosts may have what this one lacks. Else such a host would take, and fail, all that are left while others train.
    """

    def __init__(self) -> None:
        self.why_none_works = ""
        self._counts: Counter[EndKind] = Counter()
        self._breaker = CircuitBreaker()

    def add(self, kind: EndKind, trial: int, failure: TrialResult | None) -> None:
        """Count a trial; `failure` is the answer of `failure_at_once`."""
        self._counts[kind] += 1
        if kind not in ("ended", "crashed"):
            return
        found = failure or TrialResult(trial, "completed")
        self._breaker.trial_ended(trial, found.state, found.reason, found.message, found.where)
        if self._breaker.tripped is not None and not self.why_none_works:
            common = self._breaker.tripped
            trials = ", ".join(map(str, dict.fromkeys(common.trials)))
            self.why_none_works = (
                f"the first trials here ({trials}) all failed alike before they measured anything, so that this host "
                f"may lack what they need: {common.message}"
            )

    def report(self, why: str, exit_code: int) -> WorkerReport:
        """What the worker has done, and why it ends."""
        counts = self._counts
        return WorkerReport(
            *(counts["ended"], counts["released"], counts["lost"], why, exit_code),
            stopped=counts["stopped"],
            crashed=counts["crashed"],
        )
