"""Going back to the last good state when a trial becomes unstable, for trials that ask for it.

A state is good where its evaluation found a finite training loss that is not far above the one at step 0. The last good
state is kept in memory and in `resume.pt`, so that a trial that was stopped recovers from the same one. `resume.pt`
alone would not do: when it is written depends on the clock.

The updates after the good state are removed: measurements, series and checkpoints are those of one training without
them. What was removed, and why, is in recoveries.jsonl.
"""

from __future__ import annotations

import math

from tunectl.core import real_folders
from tunectl.core.divergence import is_diverged
from tunectl.training.evaluation_files import remove_later_files
from tunectl.training.saved_trial import kept, load_parts, save_as_resume
from tunectl.training.training_state import TrialState
from tunectl.training.update_series import BadUpdate


def can_recover(state: TrialState) -> bool:
    """Whether the trial may go back once more."""
    recovery = state.request.recovery
    return recovery is not None and state.progress.recoveries < recovery.max_recoveries


def judge_and_keep(state: TrialState) -> BadUpdate | None:
    """Judge the state that was just evaluated: keep a good one, or give the update to recover from.

    It is bad where the training loss is not finite, or where the rule of `diverged` holds for the mean minibatch loss
    of the last updates (as many as that rule uses at the end, at least 10). To be called at every evaluation. Gives
    None where the state is good, where the trial may not recover (any more), and where there is no good state.
    """
    if not can_recover(state):
        state.good = None
        state.best.hold(())
        return None
    progress, batch_size = state.progress, state.configuration.batch_size
    start, end, smoothed = progress.start, progress.end, progress.smoothed_loss()
    if start is None or end is None or not math.isfinite(end.mean):
        bad = BadUpdate(progress.step - 1, "nan_loss", math.nan if end is None else end.mean)
        return None if state.good is None else bad
    if smoothed is not None and is_diverged(smoothed, progress.start_in_training(batch_size), start.spread):
        return None if state.good is None else BadUpdate(progress.step - 1, "diverged", smoothed)
    if is_diverged(end.mean, start.mean, start.spread):
        # It may be recovering by itself, or diverging: neither good nor bad.
        return None
    state.good = kept(state)
    state.best.hold(step for step, _ in state.best.entries())
    return None


def go_back(state: TrialState, bad: BadUpdate) -> bool:
    """Set the trial back to its last good state, with a smaller learning rate; gives false where it cannot recover.

    The caller makes new batches from there on. A kill at any moment is harmless: the line of recoveries.jsonl is valid
    only with the new `resume.pt`, and the removed lines are cut off only after it is written.
    """
    good, recovery, progress = state.good, state.request.recovery, state.progress
    if good is None or recovery is None or state.recoveries is None or not can_recover(state):
        return False
    progress.train_seconds += state.clock.lap()
    progress.go_back(good["progress"], bad.update, state.device)
    state.recoveries.append(
        {
            "recovery": progress.recoveries,
            "update": bad.update,
            "reason": bad.reason,
            "value": bad.value,
            "returned_to": progress.step,
            "learning_rate_factor": rate_factor(state),
            "measurements": state.measurements.beyond(good["measurements_offset"]),
            "steps": state.steps.beyond(good["steps_offset"]),
        }
    )
    load_parts(state, good)
    state.best.go_back(good["best"])
    save_as_resume(state, {**good, "progress": progress.state()})
    # The resume.pt before it needs the lines that are removed now.
    if state.ranks.rank == 0:
        real_folders.remove(state.folder.previous_resume, state.folder.study)
    state.best.previous_removed()
    state.measurements.cut(good["measurements_offset"])
    state.steps.cut(good["steps_offset"])
    if state.predictions is not None:
        state.predictions.lines.cut(good["predictions_offset"])
    if state.ranks.rank == 0:
        remove_later_files(state.folder, progress.step)
    state.best.prune()
    return True


def rate_factor(state: TrialState) -> float:
    """The factor by which the recoveries so far have reduced the learning rate."""
    recovery = state.request.recovery
    return 1.0 if recovery is None else float(recovery.learning_rate_factor**state.progress.recoveries)
