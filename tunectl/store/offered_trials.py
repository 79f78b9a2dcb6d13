"""Trials that a run offers to workers: `offered/00007`, with offer.json. The runner offers and withdraws.

In `trials` a folder has an offer.json only where it came back from a worker and was not taken in yet.

A trial's folder moves as a whole, by one rename, which is atomic also on a file server: of two processes that move the
same folder one finds that it is gone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tunectl.core import real_folders
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder, trial_of_folder
from tunectl.core.path_errors import path_error, path_errors
from tunectl.core.typed_fields import DamagedError
from tunectl.store.given_files import given_files, last_bytes
from tunectl.store.sealed_files import read_record, write_record
from tunectl.store.unbegun_attempts import forget_attempt, remove_if_empty

_TRIAL = re.compile(r"\d{5,12}")

DESK = ".new"
"""What the name of a trial's folder has behind it while the runner makes or takes back its offer."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the runner offers: an attempt at a trial.

    `alone`: it must have its device for itself. A worker stops the trial `timeout_seconds` after it was launched, and
    kills it `grace_seconds` after it was asked to stop. `files` has the sizes of the files from which it goes on, by
    their paths in its folder (see given_files), and `last_bytes` how some of them end: a worker waits for these. Those
    are {} in an offer of an earlier version, and of a trial that has not begun.
    """

    trial: int
    attempt: int
    alone: bool = False
    timeout_seconds: float | None = None
    grace_seconds: float = 30.0
    format: int = 1
    files: Mapping[str, int] = field(default_factory=dict)
    last_bytes: Mapping[str, int] = field(default_factory=dict)


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


def desk_folder(study: StudyFolder, trial: int) -> TrialFolder:
    """Where the runner makes an offer, or takes it back: no worker touches this folder, so that a killed runner leaves
    no half of an offer that looks like a trial which a worker has given back.
    """
    return TrialFolder(study.offered / f"{trial:05d}{DESK}")


def offer_trial(study: StudyFolder, offer: Offer) -> None:
    """Offer a trial whose folder is in `trials`, with its request.json.

    Raises FolderError where it cannot be written, or is not there; then it is in `trials` as before.
    """
    home, desk = home_folder(study, offer.trial), desk_folder(study, offer.trial)
    with path_errors(home.path, "replaced"):
        try:
            real_folders.move(home.path, desk.path, study.path)
        except FileNotFoundError:
            if not desk.path.is_dir():  # an earlier call could not put it into `trials`
                raise
    try:
        remove_marks(desk)
        files = given_files(desk, goes_on=True)
        with path_errors(desk.offer, "written"):
            offer = replace(offer, files=files, last_bytes=last_bytes(desk, files))
            write_record(desk.offer, offer, within=study.path)
        place = offered_folder(study, offer.trial)
        with path_errors(place.path, "created"):
            real_folders.move(desk.path, place.path, study.path)
    except FolderError:
        with contextlib.suppress(FolderError, OSError):
            remove_marks(desk)
            real_folders.move(desk.path, home.path, study.path)
        raise


def withdraw_trial(study: StudyFolder, trial: int) -> bool:
    """Take an offer back; False where the trial is not offered, or was claimed at this moment.

    Raises FolderError where the folder cannot be moved.
    """
    place, desk = offered_folder(study, trial), desk_folder(study, trial)
    try:
        real_folders.move(place.path, desk.path, study.path)
    except FileNotFoundError:
        if not desk.path.is_dir():  # an earlier call could not put it into `trials`
            return False
    except OSError as error:
        raise path_error(place.path, "replaced", error) from error
    _put_home(study, trial)
    return True


def finish_offers(study: StudyFolder) -> None:
    """Put into `trials` what a killed runner was about to offer or to take back. Only by the process that holds the
    study's lock. Raises FolderError.
    """
    for name in listed_names(study, study.offered.name):
        number = name.removesuffix(DESK)
        if number != name and _TRIAL.fullmatch(number):
            _put_home(study, int(number))


def _put_home(study: StudyFolder, trial: int) -> None:
    desk, home = desk_folder(study, trial), home_folder(study, trial)
    forget_offer(desk)
    with path_errors(home.path, "replaced"), contextlib.suppress(FileNotFoundError):  # it was empty
        real_folders.move(desk.path, home.path, study.path)


def offered_trials(study: StudyFolder, *, must_exist: bool = False) -> list[int]:
    """The trials that are offered, in the order of their numbers; [] where no run offers any.

    On a file server the list may be late: a trial in it may have been claimed. Raises FolderError where it cannot be
    read, and with `must_exist` also where there is no such place.
    """
    names = listed_names(study, study.offered.name, must_exist=must_exist)
    return sorted(int(name) for name in names if _TRIAL.fullmatch(name))


def listed_names(study: StudyFolder, place: str, *, must_exist: bool = False) -> list[str]:
    """The names in a place of the study folder; [] where there is no such place, unless it `must_exist`. Raises
    FolderError.
    """
    try:
        return real_folders.names(study.path / place, study.path)
    except FileNotFoundError as error:
        if must_exist:
            raise path_error(study.path / place, "read", error) from error
        return []
    except OSError as error:
        raise path_error(study.path / place, "read", error) from error


def trials_with_marks(study: StudyFolder) -> list[int]:
    """The trials in `trials` whose folders still have what is only needed between runner and worker."""
    numbers = (trial_of_folder(name) for name in listed_names(study, study.trials.name))
    homes = {trial: home_folder(study, trial) for trial in numbers if trial is not None}
    return sorted(trial for trial, home in homes.items() if home.offer.exists() or home.claimant.exists())


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

    The offer goes first: where it is missing, how the trial ended was taken in. After a kill in between, what is left
    is only removed. Raises FolderError where a file cannot be removed.
    """
    marks = (folder.offer, folder.stop_request, folder.beat, folder.ending, folder.claimant)
    with path_errors(folder.path, "removed"), contextlib.suppress(FileNotFoundError):
        real_folders.remove_names(folder.path, [path.name for path in marks], folder.study)
