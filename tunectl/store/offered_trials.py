"""Trials that a run offers to workers: `offered/00007`, with offer.json. The runner offers and withdraws.

A trial's folder moves as a whole, by one rename, which is atomic also on a file server: of two processes that move the
same folder one finds that it is gone.
"""

from __future__ import annotations

import contextlib
import errno
import re
from dataclasses import dataclass

from tunectl.core import real_folders
from tunectl.core.folders import StudyFolder, TrialFolder, trial_of_folder
from tunectl.core.path_errors import path_error, path_errors
from tunectl.core.typed_fields import DamagedError
from tunectl.store.sealed_files import read_record, write_record
from tunectl.store.unbegun_attempts import forget_attempt, remove_if_empty

_TRIAL = re.compile(r"\d{5,12}")


@dataclass(frozen=True, slots=True)
class Offer:
    """What the runner offers: an attempt at a trial.

    `alone`: it must have its device for itself. A worker stops the trial `timeout_seconds` after it was launched, and
    kills it `grace_seconds` after it was asked to stop.
    """

    trial: int
    attempt: int
    alone: bool = False
    timeout_seconds: float | None = None
    grace_seconds: float = 30.0
    format: int = 1


def offered_folder(study: StudyFolder, trial: int) -> TrialFolder:
    """Where the folder of this trial is while it is offered."""
    return TrialFolder(study.offered / f"{trial:05d}")


def home_folder(study: StudyFolder, trial: int) -> TrialFolder:
    """Where the folder of this trial is while it is neither offered nor claimed."""
    return TrialFolder(study.trials / f"{trial:05d}")


def make_places(study: StudyFolder) -> None:
    """Make the folders of offered and of claimed trials; raises FolderError where that cannot be done."""
    for place in (study.offered, study.claimed):
        with path_errors(place, "created"):
            real_folders.made(place, study.path)


def offer_trial(study: StudyFolder, offer: Offer) -> None:
    """Offer a trial whose folder is in `trials`, with its request.json; nothing happens if it is offered already.

    Raises FolderError where it cannot be written, and where a worker has the trial.
    """
    home, place = home_folder(study, offer.trial), offered_folder(study, offer.trial)
    remove_marks(home)
    with path_errors(home.offer, "written"):
        write_record(home.offer, offer, within=study.path)
    with path_errors(place.path, "created"):
        real_folders.move(home.path, place.path, study.path)


def withdraw_trial(study: StudyFolder, trial: int) -> bool:
    """Take an offer back; False where the trial is not offered, or was claimed at this moment.

    Raises FolderError where the folder cannot be moved.
    """
    home, place = home_folder(study, trial), offered_folder(study, trial)
    try:
        real_folders.move(place.path, home.path, study.path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise path_error(place.path, "replaced", error) from error
    forget_offer(home)
    return True


def offered_trials(study: StudyFolder) -> list[int]:
    """The trials that are offered, in the order of their numbers; [] where no run offers any.

    On a file server the list may be late: a trial in it may have been claimed. Raises FolderError where it cannot be
    read.
    """
    return sorted(int(name) for name in listed_names(study, study.offered.name) if _TRIAL.fullmatch(name))


def listed_names(study: StudyFolder, place: str) -> list[str]:
    """The names in a place of the study folder, [] where there is no such place; raises FolderError."""
    try:
        return real_folders.names(study.path / place, study.path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise path_error(study.path / place, "read", error) from error


def trials_with_marks(study: StudyFolder) -> list[int]:
    """The trials in `trials` whose folders still have what is only needed between runner and worker."""
    numbers = (trial_of_folder(name) for name in listed_names(study, study.trials.name))
    return sorted(trial for trial in numbers if trial is not None and home_folder(study, trial).offer.exists())


def read_offer(folder: TrialFolder) -> Offer | None:
    """The offer in a trial's folder, wherever it is; None where there is none, or it is torn or cannot be read."""
    with contextlib.suppress(OSError, DamagedError):
        return read_record(Offer, folder.offer, within=folder.study)
    return None


def forget_offer(folder: TrialFolder) -> None:
    """Let a trial be as before it was offered, where no worker had it; raises FolderError where that cannot be done."""
    offer = read_offer(folder)
    if offer is not None:
        forget_attempt(folder, offer.attempt)
    remove_marks(folder)
    remove_if_empty(folder)


def remove_marks(folder: TrialFolder) -> None:
    """Remove from a trial's folder what it has only while it is offered or claimed: all that is no part of the trial.

    Raises FolderError where a file cannot be removed.
    """
    for path in (folder.stop_request, folder.beat, folder.claimant, folder.ending, folder.offer):
        with path_errors(path, "removed"):
            real_folders.remove(path, folder.study)
