"""What an earlier run has left to workers: taken in when the folder is opened, and judged before trials run here.

A trial's folder is at home (`trials`), offered, or claimed by a worker; see store.offered_trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from tunectl.core import real_folders
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import RUNNER_ENDED, AttemptEnd
from tunectl.core.wording import first_listed
from tunectl.execution.backends.backend import ProcessEnded
from tunectl.execution.failures import explain_end, took_too_long, was_stopped
from tunectl.execution.jobs import LOST, RELEASED, named_reason
from tunectl.execution.protocol import EXIT_STOPPED, EXIT_UNWRITTEN
from tunectl.execution.silent_claims import silent_claims
from tunectl.execution.taking_back import finish_patiently, hearing, shows_late
from tunectl.execution.watched_trials import MOST_CHANGES, where_in_words
from tunectl.execution.whole_ends import end_of, is_whole_end
from tunectl.session.continuing_command import continuing_command
from tunectl.session.left_engine import LeftEngine, left_engine, left_state
from tunectl.session.plan_agreement import named_trials
from tunectl.store.claimed_trials import (
    Claimant,
    ClaimedTrial,
    Ending,
    claimed_trials,
    has_begun,
    read_claimant,
    read_ending,
)
from tunectl.store.given_files import not_shown
from tunectl.store.heartbeats import LATE_SECONDS, PERIODS_TO_DEATH
from tunectl.store.lost_claims import finish_taking_back, has_own_result, may_show_late, shut_out, unfinished
from tunectl.store.offered_trials import (
    finish_offers,
    forget_offer,
    home_folder,
    offered_trials,
    read_offer,
    remove_marks,
    trials_with_marks,
    withdraw_trial,
)
from tunectl.store.run_state import remove_run_state
from tunectl.store.trial_files import append_attempt, folder_stamp, read_trial
from tunectl.store.trial_progress import progress_made

_MOST_NAMED = 5
_LOOK_SECONDS = 0.2
_GIVING_BACK_SECONDS = 3.0
"""What a worker takes at the most, most often, from a trial's result to giving the trial back."""
_ANSWER_SECONDS = 10.0
"""What an engine's answer about a job may take at the most, beside LATE_SECONDS."""


def _say_nothing(_line: str) -> None: ...


def had_workers(folder: StudyFolder) -> bool:
    """Whether a run has offered trials of this folder to workers, and was not ended since."""
    return folder.run_state.exists() or folder.offered.exists() or folder.claimed.exists()


def take_in_all(
    folder: StudyFolder,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    *,
    say: Callable[[str], None] = _say_nothing,
    waits: bool = True,
    stop_requested: Callable[[], int] = lambda: 0,
) -> None:
    """Take in what workers have given back since the last run ended.

    What does not show yet, as a file server may show it late, is waited for; unless it `waits`, it is left to the next
    run. To be called with the folder's lock. Raises StoppedError where a stop was requested while it waited: nothing
    may be begun then. Raises FolderError where the folder cannot be read or written.
    """
    if not had_workers(folder):
        return
    sleep = hearing(sleep, stop_requested)
    finish_offers(folder)
    shut_out_ended(folder, clock, sleep, waits=waits)
    is_late = any(may_show_late(claim) for claim in unfinished(folder))
    if waits and is_late:  # when its worker was shut out is not known
        where = "a trial is taken back from a worker on another host"
        say(f"{where}; waiting {LATE_SECONDS:g} s, which its last files may take to show")
        _wait(LATE_SECONDS, clock, sleep)
    if waits or not is_late:
        for trial in _finished(folder, say, clock, sleep, waits=waits):
            _take_in_silent(folder, trial, read_claimant(home_folder(folder, trial)))
    _take_in_marked(folder, say, clock, sleep, waits=waits)


def shut_out_ended(
    folder: StudyFolder, clock: Callable[[], float], sleep: Callable[[float], None], *, waits: bool = True
) -> None:
    """Shut workers out of trials that have ended, and count so: such a worker has only to give its trial back, and may
    have died before. For that it is waited a little, since most are alive.
    """
    until = clock() + (_GIVING_BACK_SECONDS if waits else 0.0)
    while ended := [
        claim
        for claim in claimed_trials(folder)
        if has_own_result(claim.folder) and (waits or not may_show_late(claim))
    ]:
        if clock() >= until:
            for claim in ended:
                shut_out(claim)
            return
        sleep(_LOOK_SECONDS)


def _take_in_marked(
    folder: StudyFolder,
    say: Callable[[str], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    *,
    waits: bool,
) -> None:
    """Take in the trials that are back from workers, as soon as all shows of how they ended, and else after a while, in
    which nothing more of them has shown.
    """
    until, said, changes = clock() + LATE_SECONDS, False, 0
    left = trials_with_marks(folder)
    shown = dict[int, object]()
    while True:
        homes = {trial: home_folder(folder, trial) for trial in left}
        before, shown = shown, {trial: (folder_stamp(home), read_ending(home)) for trial, home in homes.items()}
        if any(before.get(trial, shown[trial]) != shown[trial] for trial in left) and changes < MOST_CHANGES:
            until, changes = clock() + LATE_SECONDS, changes + 1
        is_over = waits and clock() >= until
        for trial in left:
            missing = _not_whole(folder, trial)
            if missing and is_over:
                say(f"warning: {missing} does not show as its worker left it")
            if is_over or not missing:
                take_in(folder, trial)
        left = [trial for trial in left if home_folder(folder, trial).offer.exists()]
        if not (left and waits):
            return
        if not said:
            said = True
            missing = _not_whole(folder, left[0]) or home_folder(folder, left[0]).path
            say(f"waiting up to {LATE_SECONDS:g} s for what workers gave back to show; {missing} does not yet")
        sleep(_LOOK_SECONDS)


def _finished(
    folder: StudyFolder,
    say: Callable[[str], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    *,
    waits: bool,
) -> list[int]:
    """The trials that are now taken back; unless it `waits`, what shows late is left to the next run."""
    if waits:
        return finish_patiently(folder, say, clock, sleep)
    try:
        return finish_taking_back(folder)
    except FolderError as error:
        if not shows_late(error):
            raise
        return []


def _not_whole(folder: StudyFolder, trial: int) -> Path | None:
    """A file that does not show, or not whole, of how a trial ended at its worker; None where all of that shows."""
    home = home_folder(folder, trial)
    with path_errors(home.path, "read"):
        if home.offer.name not in real_folders.names(home.path, folder.path):
            return None  # it was taken in, and only something of its marks is left
    offer, ending = read_offer(home), read_ending(home)
    attempt = offer.attempt if offer is not None else ending.attempt if ending is not None else None
    if attempt is None:
        return home.offer
    ending, has_result = end_of(home, attempt)
    if is_whole_end(home, ending, has_result=has_result):
        return None
    if ending is None:
        return home.ending
    return next((home.path / name for name in not_shown(home, ending)), home.result)


def withdraw_offers(folder: StudyFolder) -> list[ClaimedTrial]:
    """Take back all that is offered; gives the trials that workers have. Raises FolderError."""
    for trial in offered_trials(folder):
        withdraw_trial(folder, trial)
    return claimed_trials(folder)


def end_left_run(folder: StudyFolder) -> None:
    """Let workers end where nothing is offered or claimed any more. To be called with the folder's lock."""
    take_in_all(folder, waits=False)
    if had_workers(folder) and not (offered_trials(folder) or _with_workers(folder) or trials_with_marks(folder)):
        remove_run_state(folder)


def _with_workers(folder: StudyFolder) -> list[ClaimedTrial]:
    """The trials that workers have, and those that could not be taken back from them yet."""
    return [*claimed_trials(folder), *unfinished(folder)]


def take_in(folder: StudyFolder, trial: int) -> None:
    """Record how the last attempt ended at a worker, where it has no result; only its runner would have recorded it."""
    home = home_folder(folder, trial)
    with path_errors(home.path, "read"):
        names = set(real_folders.names(home.path, folder.path))
    if home.offer.name not in names:  # this was done, and then the run was killed
        remove_marks(home)
        return
    if not (home.result.name in names or has_begun(home)):
        forget_offer(home)
        return
    ending, files = read_ending(home), read_trial(home)
    last = files.attempts[-1] if files.attempts else None
    is_unrecorded = last is not None and last.message == RUNNER_ENDED
    # 0: the worker could not read the offer.
    if ending is not None and is_unrecorded and last is not None and ending.attempt in (last.attempt, 0):
        attempt = _attempt(home, replace(ending, attempt=last.attempt))
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
        reason, message, reached = LOST, ending.message, progress_made(home)
    elif ending.released:
        reason, message, reached = named_reason(RELEASED, ending.cause), ending.message, progress_made(home)
    elif event.verdict in (EXIT_STOPPED, EXIT_UNWRITTEN):
        return None  # it was asked to stop, or its disk was full
    else:
        reason, message = "crashed", ending.message or explain_end(event)
    return AttemptEnd(ending.attempt, reason, message, is_final, ending.device, reached)


def _wait(seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    until = clock() + seconds
    while clock() < until:
        sleep(_LOOK_SECONDS)


def _take_in_silent(folder: StudyFolder, trial: int, claimant: Claimant | None) -> None:
    home = home_folder(folder, trial)
    is_unsaid = read_ending(home) is None and has_begun(home)
    if is_unsaid and (files := read_trial(home)).attempts and files.result is None:
        where = f" on {where_in_words(claimant)}" if claimant is not None else ""
        lost = AttemptEnd(files.attempt, LOST, f"its worker{where} was silent", reached=progress_made(home))
        append_attempt(home, lost)
    take_in(folder, trial)


def check_no_work_left(folder: StudyFolder, what: str) -> None:
    """Raise FolderError, which names `what` needs that, where workers have trials of the folder, or may claim some."""
    claims = _with_workers(folder)
    if claims or offered_trials(folder):
        stop = tunectl_command("stop", folder.path)
        who = who_has(claims) if claims else "a run has left trials to workers"
        raise FolderError(f"{folder.path}: {who}; {what} when they have ended, or end them by `{stop}`")


def at_rest(folder: StudyFolder, trial: int) -> TrialFolder:
    """The folder of a trial that no worker has, and that is not offered any more; raises UsageError where one has it.

    To be called with the folder's lock.
    """
    withdraw_trial(folder, trial)
    claims = [claim for claim in _with_workers(folder) if claim.trial == trial]
    if claims:
        raise UsageError(
            f"{who_has(claims)}, and no run is at work that could ask them; `{continuing_command(folder)}` goes on "
            f"with it, and `{tunectl_command('stop', folder.path)}` ends all trials of workers"
        )
    return folder.home(trial)


def take_back_from_dead(
    folder: StudyFolder,
    say: Callable[[str], None],
    heartbeat_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    stop_requested: Callable[[], int] = lambda: 0,
) -> None:
    """Take back the trials of workers that have died, so that trials can run on this machine.

    Raises StoppedError where a stop was requested while it waited.
    Raises FolderError, which names the workers, where one of them is at work, or their engine may still have its job.
    """
    if not had_workers(folder):
        return
    sleep = hearing(sleep, stop_requested)
    claims, state = claimed_trials(folder), left_state(folder)
    # Workers keep the period with which they began a trial.
    heartbeat_seconds = heartbeat_seconds if state is None else max(heartbeat_seconds, state.heartbeat_seconds)
    with left_engine(folder, say) if claims else nullcontext() as engine:
        if engine is not None:
            _watch_left(folder, claims, engine, heartbeat_seconds, say, clock, sleep)
    for claim in claims:
        shut_out(claim)
    take_in_all(folder, clock, sleep, say=say)
    if claims := withdraw_offers(folder):
        _refuse(folder, claims)
    remove_run_state(folder)


def _watch_left(
    folder: StudyFolder,
    claims: Sequence[ClaimedTrial],
    engine: LeftEngine,
    heartbeat_seconds: float,
    say: Callable[[str], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Watch claims until their workers count as dead; raises FolderError where one is at work, or may be.

    The engine is asked all the while: of a job that it has never shown it says only after LATE_SECONDS that it is gone.
    """
    dead_seconds = PERIODS_TO_DEATH * heartbeat_seconds
    unknown = f", or {engine.name} does not show their jobs" if engine.name else ""
    most = f", or {LATE_SECONDS:g} s where they show no heartbeat{unknown}" if dead_seconds < LATE_SECONDS else ""
    say(f"{who_has(claims)}; watching for {dead_seconds:g} s{most}, whether they are at work")
    until = clock() + LATE_SECONDS + _ANSWER_SECONDS

    def may_tell() -> bool:
        later = [claim for claim in claims if engine.may_tell_later(claim)]  # each is asked at each look
        return bool(later) and clock() < until

    if not silent_claims(folder, claims, heartbeat_seconds, say, clock, sleep, may_tell):
        _refuse(folder, claims)
    if known := [claim for claim in claims if engine.may_be_alive(claim)]:
        _refuse(folder, known, f"; {engine.name} may still have their jobs, though they are silent")


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
    claimants = {claim.trial: read_claimant(claim.folder) for claim in claimed_trials(folder)}
    workers = {(item.worker, item.host) for item in claimants.values() if item is not None and not item.job}
    hosts = [host for _, host in workers]
    found = []
    for trial, item in claimants.items():
        if item is None:
            found.append(TrialOfWorker(trial))
        else:
            where = where_in_words(item, with_process=hosts.count(item.host) > 1)
            found.append(TrialOfWorker(trial, item.host, item.pid, item.job, where))
    return tuple(found)


def who_has(claims: Sequence[ClaimedTrial]) -> str:
    """Which trials workers have, and where these are."""
    claimants = [read_claimant(claim.folder) for claim in claims]
    hosts = list(dict.fromkeys(where_in_words(item) for item in claimants if item is not None))
    return f"workers have {named_trials([claim.trial for claim in claims])}" + (
        f" (on {first_listed(hosts, _MOST_NAMED)})" if hosts else ""
    )
