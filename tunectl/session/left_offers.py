"""What an earlier run has left to workers: taken in when the folder is opened, and judged before trials run here.

A trial's folder is at home (`trials`), offered, or claimed by a worker; see store.offered_trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NoReturn

from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import RUNNER_ENDED, AttemptEnd
from tunectl.core.wording import first_listed
from tunectl.execution.backends.backend import ProcessEnded
from tunectl.execution.claim_watch import silent_claims, where_in_words
from tunectl.execution.failures import explain_end, took_too_long, was_stopped
from tunectl.execution.jobs import LOST, RELEASED
from tunectl.execution.protocol import EXIT_STOPPED, EXIT_UNWRITTEN
from tunectl.session.left_engine import left_engine
from tunectl.session.plan_agreement import named_trials
from tunectl.store.claimed_trials import ClaimedTrial, Ending, claimed_trials, has_begun, read_claimant, read_ending
from tunectl.store.heartbeats import PERIODS_TO_DEATH
from tunectl.store.lost_claims import finish_taking_back, take_back
from tunectl.store.offered_trials import (
    forget_offer,
    home_folder,
    offered_trials,
    read_offer,
    remove_marks,
    trials_with_marks,
    withdraw_trial,
)
from tunectl.store.run_state import remove_run_state
from tunectl.store.trial_files import append_attempt, read_trial
from tunectl.store.trial_progress import progress_made

_MOST_NAMED = 5


def had_workers(folder: StudyFolder) -> bool:
    """Whether a run has offered trials of this folder to workers, and was not ended since."""
    return folder.run_state.exists() or folder.offered.exists() or folder.claimed.exists()


def take_in_all(folder: StudyFolder) -> None:
    """Take in what workers have given back since the last run ended.

    To be called with the folder's lock. Raises FolderError where the folder cannot be read or written.
    """
    if had_workers(folder):
        finish_taking_back(folder)
        for claim in claimed_trials(folder):
            # The trial has ended, and counts so; its worker, which has only to give it back, may have died before.
            if claim.folder.result.exists():
                take_in_lost(claim)
        for trial in trials_with_marks(folder):
            take_in(folder, trial)


def withdraw_offers(folder: StudyFolder) -> list[ClaimedTrial]:
    """Take back all that is offered; gives the trials that workers have. Raises FolderError."""
    for trial in offered_trials(folder):
        withdraw_trial(folder, trial)
    return claimed_trials(folder)


def end_left_run(folder: StudyFolder) -> None:
    """Let workers end where nothing is offered or claimed any more. To be called with the folder's lock."""
    take_in_all(folder)
    if had_workers(folder) and not offered_trials(folder) and not claimed_trials(folder):
        remove_run_state(folder)


def take_in(folder: StudyFolder, trial: int) -> None:
    """Record how the last attempt ended at a worker, where it has no result; only its runner would have recorded it."""
    home = home_folder(folder, trial)
    if not (home.result.exists() or has_begun(home)):
        forget_offer(home)
        return
    ending, files = read_ending(home), read_trial(home)
    last = files.attempts[-1] if files.attempts else None
    is_unrecorded = last is not None and last.message == RUNNER_ENDED
    if ending is not None and is_unrecorded and last is not None and last.attempt == ending.attempt:
        attempt = _attempt(home, ending)
        if attempt is not None:
            append_attempt(home, attempt)
    remove_marks(home)


def _attempt(home: TrialFolder, ending: Ending) -> AttemptEnd | None:
    """The attempt that ended so, as the scheduler would judge it; None where it was only cut short."""
    event = ProcessEnded(
        *(home.trial or 0, ending.code, ending.signal, ending.seconds), lost=ending.lost, is_users=ending.is_users
    )
    offer, reached = read_offer(home), None
    limit = None if offer is None else offer.timeout_seconds
    is_final = ending.timed_out and limit is not None and was_stopped(event)
    if is_final and limit is not None:
        reason, message = "timeout", took_too_long(limit)
    elif ending.lost:
        reason, message = LOST, ending.message
    elif ending.released:
        reason, message, reached = RELEASED, ending.message, progress_made(home)
    elif event.verdict in (EXIT_STOPPED, EXIT_UNWRITTEN):
        return None  # it was asked to stop, or its disk was full
    else:
        reason, message = "crashed", ending.message or explain_end(event)
    return AttemptEnd(ending.attempt, reason, message, is_final, ending.device, reached)


def take_in_lost(claim: ClaimedTrial) -> None:
    """Take a trial back from a worker that has died, and record its attempt; raises FolderError."""
    study, claimant = claim.study, read_claimant(claim.folder)
    if not take_back(claim):
        return  # it was given back at this moment: the next run takes it in
    home = home_folder(study, claim.trial)
    is_unsaid = read_ending(home) is None and has_begun(home)
    if is_unsaid and (files := read_trial(home)).attempts and files.result is None:
        where = f" on {where_in_words(claimant)}" if claimant is not None else ""
        append_attempt(home, AttemptEnd(files.attempt, LOST, f"its worker{where} was silent"))
    take_in(study, claim.trial)


def check_no_work_left(folder: StudyFolder, what: str) -> None:
    """Raise FolderError, which names `what` needs that, where workers have trials of the folder, or may claim some."""
    claims = claimed_trials(folder)
    if claims or offered_trials(folder):
        stop = tunectl_command("stop", folder.path)
        who = who_has(claims) if claims else "a run has left trials to workers"
        raise FolderError(f"{folder.path}: {who}; {what} when they have ended, or end them by `{stop}`")


def at_rest(folder: StudyFolder, trial: int) -> TrialFolder:
    """The folder of a trial that no worker has, and that is not offered any more; raises UsageError where one has it.

    To be called with the folder's lock.
    """
    withdraw_trial(folder, trial)
    claims = [claim for claim in claimed_trials(folder) if claim.trial == trial]
    if claims:
        raise UsageError(
            f"{who_has(claims)}, and no run is at work that could ask them; `tunectl run` goes on with it, and "
            f"`{tunectl_command('stop', folder.path)}` ends all trials of workers"
        )
    return folder.home(trial)


def take_back_from_dead(
    folder: StudyFolder,
    say: Callable[[str], None],
    heartbeat_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Take back the trials of workers that have died, so that trials can run on this machine.

    Raises FolderError, which names the workers, where one of them is at work, or their engine may still have its job.
    """
    if not had_workers(folder):
        return
    claims = claimed_trials(folder)
    if claims:
        say(f"{who_has(claims)}; watching for {PERIODS_TO_DEATH * heartbeat_seconds:g} s whether they are at work")
    with left_engine(folder, say) if claims else nullcontext() as engine:
        if not silent_claims(folder, claims, heartbeat_seconds, clock, sleep):
            _refuse(folder, claims)
        if engine is not None and (known := [claim for claim in claims if engine.may_be_alive(claim)]):
            _refuse(folder, known, f"; {engine.name} may still have their jobs, though they are silent")
    for claim in claims:
        take_in_lost(claim)
    if claims := withdraw_offers(folder):
        _refuse(folder, claims)
    remove_run_state(folder)


def _refuse(folder: StudyFolder, claims: Sequence[ClaimedTrial], why: str = "") -> NoReturn:
    stop = tunectl_command("stop", folder.path)
    raise FolderError(
        f"{folder.path}: {who_has(claims)}{why}; with the backend of the workers this command goes on with them, and "
        f"`{stop}` ends them"
    )


@dataclass(frozen=True, slots=True)
class TrialOfWorker:
    """A trial that a worker has: on which host, and in which job of its engine ("" where no engine started it)."""

    trial: int
    host: str = ""
    pid: int = 0
    job: str = ""
    where: str = ""


def trials_of_workers(folder: StudyFolder) -> tuple[TrialOfWorker, ...]:
    """The trials that workers have; writes nothing."""
    found = []
    for claim in claimed_trials(folder):
        claimant = read_claimant(claim.folder)
        known = None if claimant is None else (claimant.host, claimant.pid, claimant.job, where_in_words(claimant))
        found.append(TrialOfWorker(claim.trial, *(known or ())))
    return tuple(found)


def who_has(claims: Sequence[ClaimedTrial]) -> str:
    """Which trials workers have, and where these are."""
    claimants = [read_claimant(claim.folder) for claim in claims]
    hosts = list(dict.fromkeys(where_in_words(item) for item in claimants if item is not None))
    return f"workers have {named_trials([claim.trial for claim in claims])}" + (
        f" (on {first_listed(hosts, _MOST_NAMED)})" if hosts else ""
    )
