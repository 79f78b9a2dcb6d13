"""How long the training of a study takes: a few seconds of it are timed in some of its settings."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunectl.core.folders import StudyFolder
from tunectl.core.measurement_kinds import THROUGHPUT
from tunectl.core.records import PlannedTrial
from tunectl.execution.backends.backend import Backend, ProcessEnded
from tunectl.execution.slots import Slot
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_study import CheckedStudy
from tunectl.session.trial_requests import total_steps, trial_request
from tunectl.store.trial_files import read_trial, write_request

SECONDS_IN_ALL = 30.0
"""No further setting is timed after this time; one takes about 3 seconds where steps are fast."""

SECONDS_OF_A_SETTING = 60.0
"""The most time for one setting: where not even three steps have ended by then, nothing is known of it."""

_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """The time of the updates of all trials, one after another: `seconds`, None where no setting could be timed.

    `settings` is the number of settings that were timed, on `device`, and `step_seconds` the shortest and the longest
    time of one of their steps; the trials of a setting that was not timed are counted as the mean of the others for
    each example. `train_examples` is the number of training examples, None where it is not known. Evaluations, the
    curvature, an initialisation and the start of processes are not in it.
    """

    seconds: float | None
    settings: int
    step_seconds: tuple[float, float]
    train_examples: int | None
    device: str


def training_time(
    backend: Backend, checked: CheckedStudy, trials: Sequence[PlannedTrial], slot: Slot, *, now: Callable[[], float]
) -> TrainingTime:
    """Time the first trial of each setting, as `batch-size` does, until SECONDS_IN_ALL have passed.

    The backend has loaded the workload. A setting that is infeasible, or too slow to be timed, is passed over.
    """
    began = now()
    first = {trial.setting: trial for trial in reversed(trials)}
    per_example: dict[int, float] = {}
    steps: list[float] = []
    examples = None
    for setting in sorted(first):
        if now() - began >= SECONDS_IN_ALL:
            break
        measured = _timed(backend, checked, first[setting], slot, now=now)
        if measured:
            steps.append(statistics.median(item[THROUGHPUT.column("seconds_per_step")] for item in measured))
            per_example[setting] = steps[-1] / _batch_size(first[setting])
            examples = int(measured[0][THROUGHPUT.column("train_examples")])
    seconds = _in_all(checked.spec, trials, per_example) if per_example else None
    span = (min(steps), max(steps)) if steps else (0.0, 0.0)
    return TrainingTime(seconds, len(per_example), span, examples, slot.device.label)


def _in_all(spec: StudySpec, trials: Iterable[PlannedTrial], per_example: Mapping[int, float]) -> float:
    others = statistics.fmean(per_example.values())
    return sum(
        per_example.get(trial.setting, others) * _batch_size(trial) * total_steps(spec, trial) for trial in trials
    )


def _batch_size(trial: PlannedTrial) -> int:
    return TrainingConfiguration.from_hyperparameters(trial.hyperparameters).batch_size


def _timed(
    backend: Backend, checked: CheckedStudy, trial: PlannedTrial, slot: Slot, *, now: Callable[[], float]
) -> list[Mapping[str, float]]:
    """What was measured in blocks of updates of one trial, [] where nothing was."""
    timed = replace(trial, trial_kind="throughput", training={})
    with tempfile.TemporaryDirectory(prefix="tunectl-") as place:
        folder = StudyFolder(Path(place)).trial(timed.trial)
        write_request(folder, trial_request(checked.spec, checked.reference, checked.signature, timed))
        backend.launch(timed.trial, folder.path, slot, 1)
        until = now() + SECONDS_OF_A_SETTING
        killed = False
        while not any(isinstance(event, ProcessEnded) for event in backend.poll(_POLL_SECONDS)):
            if now() >= until and not killed:
                backend.kill(timed.trial)
                killed = True
        found = read_trial(folder).measurements
        return [item.metrics for item in found if item.measurement_kind == THROUGHPUT.name]
