"""Trials that a user stops for good, or wants to be run after all, recorded in their folders."""

from __future__ import annotations

from tunectl.core.errors import UsageError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import is_ended, is_stopped_for_good
from tunectl.store.trial_files import read_trial, record_end, trial_state

STOP_MESSAGE = "stopped by `tunectl stop`"
_RESUME_MESSAGE = "to be run again, by `tunectl resume`"


def check_trial(folder: StudyFolder, trial: int, trials: int) -> None:
    """Raise UsageError where a study of this many trials has no such trial, or belongs to a procedure."""
    if folder.procedure.exists():
        raise UsageError("it belongs to a procedure, which needs the result of each of its trials; stop it as a whole")
    if not 0 <= trial < trials:
        raise UsageError(f"--trial {trial}: expected a trial from 0 to {trials - 1}")


def record_stopped(home: TrialFolder) -> str:
    """Record that a trial which is not running is stopped for good, and say so.

    One that was stopped before stays so. Raises UsageError where it has ended in another way.
    """
    trial = home.trial
    state, reason, _ = trial_state(read_trial(home))
    if not is_stopped_for_good(state, reason):
        if is_ended(state, reason):
            raise UsageError(f"trial {trial} has ended already: it is {state}")
        record_end(home, STOP_MESSAGE, final=True)
    return stopped_words(home)


def record_resumed(home: TrialFolder) -> str:
    """Record that a trial which was stopped for good is run again, and say so; raises UsageError if it was not."""
    trial = home.trial
    state, reason, _ = trial_state(read_trial(home))
    if not is_stopped_for_good(state, reason):
        raise UsageError(f"trial {trial} was not stopped by `tunectl stop`: it is {state}")
    record_end(home, _RESUME_MESSAGE, final=False)
    return f"trial {trial} is run again"


def stopped_words(home: TrialFolder) -> str:
    """What became of a trial that was stopped for good, and how to run it after all."""
    trial = home.trial
    step = max((item.step for item in read_trial(home).measurements), default=None)
    how = "before its first step" if step is None else f"after its evaluation at step {step:,}"
    again = tunectl_command("resume", home.study / str(trial))
    return f"trial {trial} is cancelled, {how}; `{again}`, or `run` with --retry-failed, runs it after all"
