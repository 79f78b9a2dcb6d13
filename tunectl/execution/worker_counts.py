"""Counts how the trials of a worker have ended there."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from tunectl.execution.held_trials import HeldTrial
from tunectl.execution.worker_options import WorkerReport
from tunectl.store.claimed_trials import Ending
from tunectl.store.lost_claims import has_own_result

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


class WorkerCounts:
    """How many trials of a worker have ended in which way."""

    def __init__(self) -> None:
        self._counts: Counter[EndKind] = Counter()

    def add(self, kind: EndKind) -> None:
        """Count a trial."""
        self._counts[kind] += 1

    def report(self, why: str, exit_code: int) -> WorkerReport:
        """What the worker has done, and why it ends."""
        counts = self._counts
        return WorkerReport(
            *(counts["ended"], counts["released"], counts["lost"], why, exit_code),
            stopped=counts["stopped"],
            crashed=counts["crashed"],
        )
