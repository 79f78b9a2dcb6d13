"""What happens while trials run: the events that progress is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunectl.core.records import FactorySignature, State
from tunectl.execution.breaker import CommonFailure
from tunectl.execution.slots import Slot

LaunchMode = Literal["fork", "spawn"]


@dataclass(frozen=True, slots=True)
class ServerReady:
    """The workload is loaded and trials can start.

    `mode` says how a trial's process is made; `reason`, empty under "fork", says why forking was unsafe. `signature`
    is what the workload's factory takes, None where the server did not load it. `shadowed` are sentences on the user's
    files that another module takes the place of.
    """

    seconds: float
    mode: LaunchMode
    reason: str = ""
    signature: FactorySignature | None = None
    shadowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial's process is there. `attempt` counts from 1 over all runs of the study."""

    trial: int
    slot: Slot
    attempt: int
    pid: int


@dataclass(frozen=True, slots=True)
class TrialRetried:
    """An attempt did not end by itself, and the trial waits for another one.

    `reason` is crashed, lost, or out_of_memory (it will be run again alone on its device). `message` is one line.
    """

    trial: int
    reason: str
    message: str
    attempt: int


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial reached the state in which this run leaves it: completed, infeasible, failed or cancelled.

    `seconds` is the time of the last attempt. `where` is file:line of a failure's innermost frame, where known.
    """

    trial: int
    state: State
    reason: str
    message: str
    seconds: float
    attempt: int
    where: str = ""


@dataclass(frozen=True, slots=True)
class StoppedByFailures:
    """The first trials to end all failed alike, so the study is stopped; `left` trials were not run to their end."""

    failure: CommonFailure
    left: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing but time passed. `stopping` says how urgently the trials are stopped: 1 they may save, 2 they are killed.

    `is_asked`: somebody asked for it, by Ctrl-C or a signal; else the study stops by itself.
    """

    running: int
    waiting: int
    stopping: int = 0
    is_asked: bool = False


Event = ServerReady | TrialStarted | TrialRetried | TrialEnded | StoppedByFailures | Tick
