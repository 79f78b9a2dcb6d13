"""What users request of a run that is at work: the scheduler looks at it between two events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tunectl.execution.jobs import Job


@dataclass(slots=True)
class RunControl:
    """The requests to a run; the code that reads them changes it, and the scheduler obeys.

    While it `is_paused` no trial is launched, and the running ones save and end, to be launched again after the pause;
    with `lets_run` they run on. `stopped` maps the ids of trials that are stopped for good to what their attempt says.
    `added` are trials to run after those that wait. `record_end` records in its folder that a trial which does not run
    was stopped. `leaves`: the run ends as soon as all trials are offered to workers, which go on without it.
    """

    is_paused: bool = False
    lets_run: bool = False
    stopped: dict[int, str] = field(default_factory=dict)
    added: list[Job] = field(default_factory=list)
    record_end: Callable[[int], object] = lambda _trial: None
    leaves: bool = False

    @property
    def sets_aside(self) -> bool:
        """Whether the running trials are to save and end until the pause is over."""
        return self.is_paused and not self.lets_run

    def take_added(self) -> list[Job]:
        """The trials that were added since the last call."""
        taken, self.added = self.added, []
        return taken
