"""What training costs: the time and the examples until a trial's best step, and the device-seconds of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tunectl.core.records import TrialOutcome
from tunectl.core.wording import counted
from tunectl.language.configuration import BATCH_SIZE

_MOST_DEVICES = 2


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """What a configuration costs: `seconds_per_step` of its updates, without evaluations, and the best step.

    The time is that of all trials of the configuration, as retrains take the same time for a step; `trials` of them
    are known. `batch_size` is the number of examples of an update, None for own code, whose batches are not known.
    `devices` are those on which they were trained.
    """

    seconds_per_step: float | None
    steps_to_best: int | None
    batch_size: int | None
    devices: tuple[str, ...]
    trials: int

    @property
    def seconds_to_best(self) -> float | None:
        """The time until the best step; None where it is not known."""
        known = self.seconds_per_step is not None and self.steps_to_best is not None
        return self.seconds_per_step * self.steps_to_best if known else None  # type: ignore[operator]

    @property
    def examples_to_best(self) -> int | None:
        """The examples that were trained on until the best step, each as often as it was used."""
        known = self.batch_size is not None and self.steps_to_best is not None
        return self.batch_size * self.steps_to_best if known else None  # type: ignore[operator]

    @property
    def where(self) -> str:
        """The devices in words, "" where they are not known."""
        if len(self.devices) > _MOST_DEVICES:
            return counted(len(self.devices), "device")
        return ", ".join(self.devices)


def training_cost(best: TrialOutcome, others: Iterable[TrialOutcome], *, own_code: bool) -> TrainingCost:
    """The cost of the trial `best`; `others` are trials of the same configuration, its retrains.

    Trials without a time, and those that trained no step, are left out of the time for a step.
    """
    timed = [item for item in (best, *others) if item.train_seconds is not None and item.final_step]
    steps = sum(item.final_step or 0 for item in timed)
    seconds = sum(item.train_seconds or 0.0 for item in timed)
    return TrainingCost(
        seconds_per_step=seconds / steps if steps and seconds > 0 else None,
        steps_to_best=best.best_step,
        batch_size=batch_size(best, own_code=own_code),
        devices=tuple(dict.fromkeys(item.device for item in timed if item.device)),
        trials=len(timed),
    )


def batch_size(item: TrialOutcome, *, own_code: bool) -> int | None:
    """The examples of an update of a trial, of all its micro-batches together; None where that is not known."""
    value = item.plan.hyperparameters.get("batch_size", BATCH_SIZE)
    return None if own_code or isinstance(value, bool) or not isinstance(value, int) else value


@dataclass(frozen=True, slots=True)
class StudyCost:
    """What a study has used up to now.

    `device_seconds` are training, evaluation and start-up of all its trials, on all their devices; `examples` those
    that were trained on, None where batches are not known. `untimed` trials began, and their time is not known, so that
    the numbers are too small.
    """

    trials: int = 0
    device_seconds: float = 0.0
    examples: int | None = 0
    untimed: int = 0

    def __add__(self, other: StudyCost) -> StudyCost:
        examples = None if self.examples is None or other.examples is None else self.examples + other.examples
        seconds = self.device_seconds + other.device_seconds
        return StudyCost(self.trials + other.trials, seconds, examples, self.untimed + other.untimed)


def study_cost(
    outcomes: Sequence[TrialOutcome], *, own_code: bool, devices: Callable[[int], int] = lambda _trial: 1
) -> StudyCost:
    """The cost of the trials of a study that have begun, retrains too. `devices` gives the number that a trial had."""
    begun = [item for item in outcomes if item.attempts or item.train_seconds is not None]
    seconds = [
        sum(part or 0.0 for part in (item.train_seconds, item.eval_seconds, item.startup_seconds))
        * devices(item.plan.trial)
        for item in begun
    ]
    sizes = [batch_size(item, own_code=own_code) for item in begun]
    examples = None
    if None not in sizes:
        examples = sum((size or 0) * (item.final_step or 0) for size, item in zip(sizes, begun, strict=True))
    untimed = sum(item.train_seconds is None for item in begun)
    return StudyCost(len(begun), sum(seconds), examples, untimed)
