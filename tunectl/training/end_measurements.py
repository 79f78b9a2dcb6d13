"""What is measured after the training of a trial that completed: whole splits, and correct predictions by class.

A kill in between is harmless: `resume.pt` is that of the last step, and the lines that follow it are cut off and
written again, the same.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tunectl.core.example_predictions import PREDICTION, TARGET, ClassCounts
from tunectl.core.measurement_kinds import WHOLE
from tunectl.core.measurements import Measurement
from tunectl.training.checkpoints import UnreadableError, UnusableResume, load
from tunectl.training.first_rank import on_first
from tunectl.training.predictions import PredictionKeeper, predicted, split_of
from tunectl.training.sample_errors import sampled_sizes, whole_metrics
from tunectl.training.saved_trial import evaluated_statistics, evaluated_weights
from tunectl.training.training_state import TrialState

MOST_CLASSES = 1000
"""The largest number of classes of which correct predictions are counted."""

_NOT_WHOLE = "the whole split was not evaluated at every kept checkpoint"
_NOT_COUNTED = "correct predictions were not counted by class"


def measure_at_end(state: TrialState, stop: Callable[[], bool]) -> bool:
    """Measure a trial after its last step, with the weights of its kept checkpoints and of the last step.

    Gives false where `stop()` became true; then the trial is to be resumed. The model has other weights afterwards.
    """
    sizes = sampled_sizes(state.evaluator) if state.request.split_examples and state.request.whole_at_end else {}
    # They are counted at the selected checkpoint: without one, not at all.
    has_selected = state.request.keep_checkpoints > 0
    counts = False
    if has_selected and state.predictions is not None:
        counts = on_first(state.ranks, partial(_has_classes, state.predictions, state))
    if not sizes and not counts:
        return True
    entries = state.best.entries()
    selected = entries[0][0] if entries else state.total_steps
    found: list[Measurement] = []
    counted: ClassCounts | None = None
    # The last step first: its weights are there, and those of checkpoints replace them.
    for step in sorted({state.total_steps, *(step for step, _ in entries)}, reverse=True):
        if stop():
            return False
        with _weights_of(state, step) as is_there:
            if is_there and sizes:
                metrics = whole_metrics(state.evaluator, sizes)
                found.append(Measurement(step, metrics, WHOLE.name, elapsed_seconds=state.progress.elapsed_seconds))
            if is_there and counts and step == selected:
                counted = on_first(state.ranks, partial(_class_counts, state, step))
    # By step, so that the last line is again that of the last step.
    for item in reversed(found):
        state.measurements.append(item.to_json())
    if counted is not None and state.predictions is not None:
        state.predictions.lines.append(counted.to_json())
    for file in state.line_files:
        file.sync()
    state.progress.eval_seconds += state.clock.lap()
    return True


@contextlib.contextmanager
def _weights_of(state: TrialState, step: int) -> Iterator[bool]:
    """Within the block the model has the weights that were evaluated at this step; gives false where they are lost."""
    if step == state.total_steps:
        with contextlib.ExitStack() as stack, evaluated_weights(state):
            evaluated_statistics(state, stack)
            yield True
        return
    reason = on_first(state.ranks, partial(_load, state, step))
    if reason:
        state.notes[_NOT_WHOLE] = reason
        yield False
        return
    state.ranks.broadcast_([*state.workload.model.parameters(), *state.workload.model.buffers()])
    yield True


def _load(state: TrialState, step: int) -> str:
    """Load the weights of a checkpoint; gives why that is not possible, "" where it is."""
    try:
        parts = load(state.folder.checkpoint(step))
    except (UnusableResume, UnreadableError) as error:
        return str(error)
    state.workload.model.load_state_dict(parts["model"])
    return ""


def _has_classes(keeper: PredictionKeeper, state: TrialState) -> bool:
    """Whether prediction and target are both one whole number for an example."""
    dataset = split_of(state.workload, keeper.settings)
    _, values = next(predicted(state.evaluator, dataset, [0], split=keeper.settings.split))
    return all(_is_whole(values.get(name)) for name in (PREDICTION, TARGET))


def _is_whole(values: Any) -> bool:
    if not isinstance(values, Tensor) or values.ndim != 1:
        return False
    return values.dtype == torch.bool or not values.is_floating_point()


def _class_counts(state: TrialState, step: int) -> ClassCounts | None:
    """The correct predictions by class over the split whose examples are looked at; None where classes are too many."""
    keeper = state.predictions
    assert keeper is not None
    dataset = split_of(state.workload, keeper.settings)
    total, correct, predictions = Counter[int](), Counter[int](), Counter[int]()
    size = len(dataset)  # type: ignore[arg-type]
    for _, values in predicted(state.evaluator, dataset, range(size), split=keeper.settings.split):
        targets, guesses = (torch.as_tensor(values[name]).tolist() for name in (TARGET, PREDICTION))
        total.update(targets)
        predictions.update(guesses)
        correct.update(target for target, guess in zip(targets, guesses, strict=True) if target == guess)
        if len(total) > MOST_CLASSES or len(predictions) > MOST_CLASSES:
            state.notes[_NOT_COUNTED] = f"there are more than {MOST_CLASSES} of them"
            return None
    classes = sorted({*total, *predictions})
    return ClassCounts(
        step,
        keeper.settings.split,
        tuple(classes),
        total=tuple(total[item] for item in classes),
        correct=tuple(correct[item] for item in classes),
        predicted=tuple(predictions[item] for item in classes),
    )
