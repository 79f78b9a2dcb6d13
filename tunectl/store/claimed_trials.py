"""Trials that workers have: `claimed/00007.<claim>`. A worker claims, beats and gives back; the runner watches, asks
it to stop, and takes back what a dead worker has left (store.lost_claims).

The name of a claim is never used again. So every operation of a worker whose claim was taken back finds that the folder
is gone: it cannot write into the trial of another worker.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunectl.core import real_folders
from tunectl.core.errors import FolderError
from tunectl.core.files import UNWRITABLE
from tunectl.core.folders import SHUT_OUT, StudyFolder, TrialFolder
from tunectl.core.typed_fields import DamagedError
from tunectl.store import heartbeats
from tunectl.store.given_files import given_files, last_bytes
from tunectl.store.heartbeats import Beat
from tunectl.store.offered_trials import home_folder, listed_names, offered_folder
from tunectl.store.own_links import lead_home
from tunectl.store.sealed_files import read_record, write_record
from tunectl.store.written_files import OutputFile

_NAME = re.compile(r"(?P<trial>\d{5,12})\.(?P<claim>[A-Za-z0-9_-]+)")
_LONGEST_HOST = 40


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who has claimed a trial: a process of `host`, and what its engine calls the job that it runs in.

    `engine` and `job` are "" for a worker that no engine started. `started` is the start time of the process in its
    host's own count, with which the pid is unique there. `device` is the name in the tables, `worker` a text that is
    another one for each worker. `waits`: the trial has not begun yet, since its files are late, or others use its
    device. `boot` says how it sees the folder (see core.boot_id.seen_from). `outputs` are the files that the worker
    prints to.
    """

    worker: str
    host: str
    pid: int
    attempt: int
    engine: str = ""
    job: str = ""
    started: int | None = None
    device: str = ""
    format: int = 1
    waits: bool = False
    boot: str = ""
    outputs: tuple[OutputFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a trial's process ended at a worker; the first fields are those of ProcessEnded.

    `released`: the worker stopped the trial because the worker itself had to end: the trial goes on elsewhere, and
    `message` says why. `timed_out`: it was stopped after the offer's `timeout_seconds`. `device` is the name in the
    tables. `had_company`: another trial was on its device. `never_began`: it was given back before it was launched.
    `files` has the sizes of its files then, by their paths in its folder, and `last_bytes` how some of them end
    (see given_files). Of a released one, `cause` is why the worker had to end, in the word of its batch system, where
    the worker knows it; `was_asked`: it was asked to, and does not know why.
    """

    attempt: int
    code: int | None = None
    signal: int | None = None
    seconds: float = 0.0
    lost: bool = False
    message: str = ""
    is_users: bool = False
    released: bool = False
    timed_out: bool = False
    had_company: bool = False
    device: str = ""
    host: str = ""
    format: int = 1
    never_began: bool = False
    files: Mapping[str, int] = field(default_factory=dict)
    last_bytes: Mapping[str, int] = field(default_factory=dict)
    cause: str = ""
    was_asked: bool = False


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Asks a worker to let a trial save and end, or to kill it."""

    kill: bool = False


@dataclass(frozen=True, slots=True)
class ClaimedTrial:
    """A trial that a worker has. `name` is that of the claim, and is never used again."""

    study: StudyFolder
    trial: int
    name: str

    @property
    def folder(self) -> TrialFolder:
        """The trial's folder while this worker has it."""
        return TrialFolder(self.study.claimed / self.name)


def claimed_trials(study: StudyFolder, *, must_exist: bool = False) -> list[ClaimedTrial]:
    """The trials that workers have, in the order of their numbers; raises FolderError where they cannot be listed, and
    with `must_exist` also where there is no such place.

    On a file server the list may be late: one of these may have been given back, and its files may not show yet. A
    claim whose trial was taken back is none, although code of its worker may have made the folder again (see
    store.lost_claims).
    """
    names = set(listed_names(study, study.claimed.name, must_exist=must_exist))
    found = [match for name in names if (match := _NAME.fullmatch(name)) is not None]
    claims = [
        ClaimedTrial(study, int(match["trial"]), match[0])
        for match in found
        if not any(f"{match[0]}{suffix}" in names for suffix in SHUT_OUT)
    ]
    return sorted(claims, key=lambda claimed: (claimed.trial, claimed.name))


def claim_trial(study: StudyFolder, trial: int, host: str | None = None) -> ClaimedTrial | None:
    """Claim an offered trial by one rename; None where it is not offered any more.

    Raises OSError where the folder cannot be moved for another reason.
    """
    shown = re.sub(r"[^A-Za-z0-9_-]", "-", host or socket.gethostname())[:_LONGEST_HOST] or "host"
    claimed = ClaimedTrial(study, trial, f"{trial:05d}.{shown}-{os.getpid()}-{os.urandom(5).hex()}")
    try:
        real_folders.move(offered_folder(study, trial).path, claimed.folder.path, study.path)
    except FileNotFoundError:
        return None
    return claimed


def write_claimant(claimed: ClaimedTrial, claimant: Claimant) -> None:
    """Say who has claimed the trial; raises OSError, FileNotFoundError where the trial was taken over."""
    write_record(claimed.folder.claimant, claimant, within=claimed.study.path)


def forget_ending(claimed: ClaimedTrial) -> None:
    """Remove what an earlier worker has written of an end, before the trial is begun here; raises OSError."""
    real_folders.remove_names(claimed.folder.path, [claimed.folder.ending.name], claimed.study.path)


def read_claimant(folder: TrialFolder) -> Claimant | None:
    """Who has claimed the trial; None where that is not written yet, is torn, or cannot be read now."""
    with contextlib.suppress(OSError, DamagedError):
        return read_record(Claimant, folder.claimant, within=folder.study)
    return None


def write_trial_beat(claimed: ClaimedTrial, count: int) -> None:
    """Write the heartbeat of a claim; raises OSError, FileNotFoundError where the trial was taken over."""
    heartbeats.write_beat(claimed.folder.beat, count, within=claimed.study.path)


def read_trial_beat(claimed: ClaimedTrial) -> Beat:
    """The heartbeat of a claim, to be judged by its changes; None where there is none yet."""
    return heartbeats.read_beat(claimed.folder.beat, within=claimed.study.path)


def is_gone(claimed: ClaimedTrial) -> bool:
    """Whether the claim was taken back, by a list of all claims; False where that cannot be found out now.

    A folder with its name may be there all the same: code of the trial has made it again.
    """
    study = claimed.study
    try:
        names = listed_names(study, study.claimed.name)
        if not names and study.plan.name not in listed_names(study, "."):
            return False  # the whole study folder is not there now
    except FolderError:
        return False
    return claimed.name not in names or any(f"{claimed.name}{suffix}" in names for suffix in SHUT_OUT)


def request_stop(claimed: ClaimedTrial, request: StopRequest) -> bool:
    """Ask the worker to stop the trial; False where it does not have it any more. Raises OSError."""
    try:
        write_record(claimed.folder.stop_request, request, within=claimed.study.path)
    except FileNotFoundError:
        return False
    return True


def read_stop_request(claimed: ClaimedTrial) -> StopRequest | None:
    """What the runner asks of the worker; None where nothing, or where that cannot be read now."""
    try:
        return read_record(StopRequest, claimed.folder.stop_request, within=claimed.study.path)
    except DamagedError:
        return StopRequest()
    except OSError:
        return None


def give_back(claimed: ClaimedTrial, ending: Ending) -> bool:
    """Give a trial whose process has ended back to the runner; False where it was taken over meanwhile.

    Nothing of the worker may write into the folder any more. A disk that is full keeps the ending from being written,
    not the trial from being given back: the runner then knows how it ended by its result.json alone. Raises OSError
    where the folder cannot be moved, or does not show now.
    """
    if is_gone(claimed):
        return False
    lead_home(claimed.folder)
    try:
        files = given_files(claimed.folder, goes_on=ending.code != 0)
        ending = replace(ending, files=files, last_bytes=last_bytes(claimed.folder, files))
        write_record(claimed.folder.ending, ending, within=claimed.study.path, durable=True)
    except FileNotFoundError:
        if is_gone(claimed):
            return False
        raise
    except OSError as error:
        if error.errno not in UNWRITABLE - {errno.EIO}:
            raise
    return return_home(claimed)


def return_home(claimed: ClaimedTrial) -> bool:
    """Move the folder of a claimed trial that has ended to `trials`; False where it is not there any more.

    Raises OSError where it cannot be moved, or does not show now.
    """
    home = home_folder(claimed.study, claimed.trial)
    try:
        real_folders.move(claimed.folder.path, home.path, claimed.study.path)
    except FileNotFoundError:
        if is_gone(claimed):
            return False
        raise
    return True


def unclaim(claimed: ClaimedTrial) -> bool:
    """Offer a claimed trial again that was never started; False where it was taken over. Raises OSError."""
    folder = claimed.folder
    try:
        real_folders.remove_names(
            folder.path,
            [path.name for path in (folder.ending, folder.stop_request, folder.beat, folder.claimant)],
            folder.study,
        )
        real_folders.move(folder.path, offered_folder(claimed.study, claimed.trial).path, claimed.study.path)
    except FileNotFoundError:
        return False
    return True


def read_ending(folder: TrialFolder) -> Ending | None:
    """How the trial's process ended at its worker; None where that was not written, or is torn."""
    with contextlib.suppress(OSError, DamagedError):
        return read_record(Ending, folder.ending, within=folder.study)
    return None


def has_begun(folder: TrialFolder) -> bool:
    """Whether a worker has launched the attempt that was offered last; what cannot be read shows that one has."""
    ending, claimant = read_ending(folder), read_claimant(folder)
    if ending is not None:
        return not ending.never_began
    return _may_be_there(folder.ending) or (_may_be_there(folder.claimant) if claimant is None else not claimant.waits)


def _may_be_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True
