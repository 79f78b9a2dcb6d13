"""run.json and run.beat: what workers need to know of the run that offers trials, and whether it is at work."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tunectl.core import real_folders
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error, path_errors
from tunectl.core.records import Scalar, WorkloadReference
from tunectl.core.typed_fields import DamagedError
from tunectl.language.study_spec import ResourcesSection
from tunectl.store import heartbeats
from tunectl.store.heartbeats import Beat
from tunectl.store.lost_claims import forget_shut_out
from tunectl.store.sealed_files import read_record, write_record

FORMAT = 1

RunPhase = Literal["at_work", "left", "over"]
"""`left`: the command has ended, and the trials that are offered are trained without it; see RunState."""


@dataclass(frozen=True, slots=True)
class WorkerNeeds:
    """What a worker loads before it claims a trial, and where trials start.

    `workload`, `arguments` and `code` are those of Backend.load, `own_code` that of Backend.start. `current_folder` is
    that of the runner, in which programs are started and relative paths are looked for. `fingerprint` is a text that
    differs where the code to be loaded has changed: a worker then loads it again before it claims another trial.
    `files` are the user's files in which that code is, with their SHA-256 in hexadecimal, and `versions` the libraries
    of the run: a worker must have the same. `program` is what a command starts, "" where that depends on the trial,
    `program_folder` where it does, and `program_path` where the run finds it: all are "" for other workloads.
    """

    workload: WorkloadReference
    arguments: Mapping[str, Scalar] = field(default_factory=dict)
    code: tuple[WorkloadReference, ...] = ()
    own_code: bool = False
    current_folder: str = ""
    fingerprint: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    program: str = ""
    program_folder: str = ""
    program_path: str = ""


@dataclass(frozen=True, slots=True)
class RunState:
    """The run that offers trials. `token` is another one for each call of the command.

    In `phase` "at_work" the command writes a heartbeat and may offer further trials. "left": it has ended on purpose;
    workers train what is offered, and then end. "over": nothing will be offered, and workers end.
    `reverse`: the last trials are claimed first. `host` and `pid` are the command's, for messages.
    """

    token: str
    phase: RunPhase
    needs: WorkerNeeds
    resources: ResourcesSection
    heartbeat_seconds: float = 10.0
    reverse: bool = False
    host: str = ""
    pid: int = 0
    format: int = FORMAT


def write_run_state(study: StudyFolder, state: RunState) -> None:
    """Write run.json; raises FolderError where that cannot be done."""
    with path_errors(study.run_state, "written"):
        write_record(study.run_state, state, within=study.path)


def read_run_state(study: StudyFolder) -> RunState | None:
    """Read run.json; None where no run offers trials. Raises FolderError where it cannot be read."""
    try:
        state = read_record(RunState, study.run_state, within=study.path)
    except DamagedError as error:
        raise FolderError(
            f"{study.run_state}: cannot be read ({error}); it is damaged, or of another version of tunectl: the "
            "command that trains the study writes it again"
        ) from error
    except OSError as error:
        raise path_error(study.run_state, "read", error) from error
    if state is not None and state.format != FORMAT:
        raise FolderError(
            f"{study.run_state}: has format {state.format}, and this version of tunectl knows format {FORMAT}; use the "
            "version of the command that trains the study"
        )
    return state


def write_run_beat(study: StudyFolder, count: int) -> None:
    """Write the run's heartbeat; raises OSError where that cannot be done."""
    heartbeats.write_beat(study.run_beat, count, within=study.path)


def read_run_beat(study: StudyFolder) -> Beat:
    """The run's heartbeat, to be judged by its changes; None where there is none."""
    return heartbeats.read_beat(study.run_beat, within=study.path)


def remove_run_state(study: StudyFolder) -> None:
    """Remove run.json, the heartbeat, and the places of offered and claimed trials where they are empty.

    Workers then end. What cannot be removed only takes space.
    """
    forget_shut_out(study)
    for path in (study.run_state, study.run_beat):
        with contextlib.suppress(OSError):
            real_folders.remove(path, study.path)
    for place in (study.offered, study.claimed):
        with contextlib.suppress(OSError):
            real_folders.remove_empty(place, study.path)
