"""What torture_slurm.py counts: faults by kind, and what was wrong in the studies in which they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from comparing import Differences

SCANCEL, KILL_WORKER, KILL_RUNNER = "scancel of a job", "SIGKILL to a worker", "SIGKILL to the runner"
DRAIN, STALL, LIMIT = "node drained and resumed", "worker stalled, trial taken over", "time limit of a minute"
KINDS = (SCANCEL, KILL_WORKER, KILL_RUNNER, DRAIN, STALL, LIMIT)


@dataclass
class Harm:
    """What was wrong at the end of studies."""

    studies: int = 0
    lost: int = 0
    bytes: int = 0
    left: int = 0


@dataclass
class Ledger:
    """Which faults came, by kind, and what they caused: `harm` in all, `harm_of` in the studies with a kind."""

    sent: Counter[str] = field(default_factory=Counter)
    harm: Harm = field(default_factory=Harm)
    harm_of: dict[str, Harm] = field(default_factory=lambda: {kind: Harm() for kind in KINDS})
    kept: int = 0  # stalled workers whose trial was not taken over
    calls: int = 0
    jobs: int = 0
    hung: int = 0

    @property
    def good(self) -> bool:
        return not (self.hung or self.harm.left or self.harm.lost or self.harm.bytes)

    def take(self, found: Differences, left: int, kinds: Collection[str]) -> None:
        """Note what was wrong in a study in which faults of these kinds came."""
        for harm in (self.harm, *(self.harm_of[kind] for kind in kinds)):
            harm.studies += 1
            harm.lost += len(found.lost)
            harm.bytes += found.bytes
            harm.left += left


def show(ledger: Ledger) -> None:
    """Print a table with a line for each kind."""
    print(f"{'':34} faults  studies  lost trials  differing bytes  processes left")
    for name, count, harm in (
        *((kind, ledger.sent[kind], ledger.harm_of[kind]) for kind in KINDS),
        ("in all", ledger.sent.total(), ledger.harm),
    ):
        print(f"{name:34} {count:6}  {harm.studies:7}  {harm.lost:11}  {harm.bytes:15}  {harm.left:14}")
    print(f"{ledger.calls} calls of run, {ledger.jobs} jobs, {ledger.hung} studies or calls that hung or failed")
    if ledger.kept:
        print(f"stalled workers whose trial was not taken over in time: {ledger.kept}")
