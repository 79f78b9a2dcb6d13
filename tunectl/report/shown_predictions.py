"""Which predictions of which trials the page shows: those of the best trials, at some of their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.example_predictions import (
    PREDICTION,
    TARGET,
    KeptArray,
    KeptImage,
    KeptText,
    KeptValue,
    StepPredictions,
)
from tunectl.core.wording import counted
from tunectl.report.page_model import ShownPredictions, ShownStep
from tunectl.report.shown_steps import fitting

MOST_BYTES = 4_000_000
"""About the most that all predictions take in the page."""

_BYTES_OF_A_NUMBER = 12


@dataclass(frozen=True, slots=True)
class ShownTrials:
    """The predictions that the page shows, by trial, the best first, and the section's text."""

    trials: Sequence[ShownPredictions] = ()
    text: str = ""


def shown_predictions(evidence: StudyEvidence) -> ShownTrials:
    """The predictions of the best trials at some of their steps, at most about MOST_BYTES of them."""
    runs = {run.plan.trial: run for run in evidence.runs}
    known = [(runs[trial], found.steps) for trial, found in evidence.predictions.items() if found.steps]
    shown: list[ShownPredictions] = []
    room, thinned = MOST_BYTES, False
    for place, (run, steps) in enumerate(known):
        chosen = fitting(steps, run.best_step, room // (len(known) - place), _bytes)
        size = sum(map(_bytes, chosen))
        if shown and size > room:
            break
        room -= size
        thinned = thinned or len(chosen) < len(steps)
        shown.append(_of_trial(evidence, run, steps[0], chosen))
    if not shown:
        return ShownTrials()
    settings = evidence.spec.training.predictions
    split = "" if settings is None else f" of {settings.split}"
    text = (
        f"What the model predicted for {counted(len(shown[0].examples), 'example')}{split}, by trial and step, with the"
        " weights that were evaluated."
    )
    completed = sum(run.feasible for run in evidence.searched)
    left_out = []
    if len(shown) < completed:
        left_out.append(f"{len(shown)} of {completed} trials are shown, the best of each setting first")
    if thinned:
        left_out.append(f"{max(len(item.steps) for item in shown)} steps of a trial")
    files = " Each trial's predictions.jsonl has all." if left_out else ""
    return ShownTrials(shown, text + (f" {'; '.join(left_out)}.{files}" if left_out else ""))


def _of_trial(
    evidence: StudyEvidence, run: Run, first: StepPredictions, chosen: Sequence[StepPredictions]
) -> ShownPredictions:
    """A trial's predictions; what only its first evaluation has does not change."""
    examples = [item.example for item in first.examples]
    changing = {name for step in chosen if step.step != first.step for item in step.examples for name in item.values}
    constant: list[Mapping[str, KeptValue]] = [
        {name: value for name, value in item.values.items() if changing and name not in changing}
        for item in first.examples
    ]
    steps = []
    for step in chosen:
        values = {item.example: item.values for item in step.examples}
        kept = [values.get(example, {}) for example in examples]
        of_step = [
            {name: value for name, value in own.items() if name not in same}
            for own, same in zip(kept, constant, strict=True)
        ]
        right = [_is_right({**same, **own}) for own, same in zip(kept, constant, strict=True)]
        steps.append(ShownStep(step.step, of_step, right))
    name = evidence.setting_name(run.plan.setting)
    label = f"trial {run.plan.trial}" + (f" ({name})" if len(evidence.settings) > 1 else "")
    return ShownPredictions(run.plan.trial, label, run.best_step, examples, constant, steps)


def _is_right(values: Mapping[str, KeptValue]) -> bool | None:
    """Whether a class was predicted right; None where prediction and target are no classes, which are whole numbers."""
    prediction, target = values.get(PREDICTION), values.get(TARGET)
    return prediction == target if isinstance(prediction, int) and isinstance(target, int) else None


def _bytes(step: StepPredictions) -> int:
    """About the size of a step's predictions in the page."""
    return sum(_value_bytes(value) for item in step.examples for value in item.values.values())


def _value_bytes(value: KeptValue) -> int:
    match value:
        case str():
            return len(value)
        case KeptText():
            return len(value.text)
        case KeptArray():
            return _BYTES_OF_A_NUMBER * len(value.values)
        case KeptImage():
            return len(value.png)
        case _:
            return _BYTES_OF_A_NUMBER
