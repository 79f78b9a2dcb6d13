"""Checks of planned trials whose values come from formulas: what the study file alone cannot show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tunectl.core.errors import PathKey, Problem
from tunectl.core.records import PlannedTrial
from tunectl.core.wording import counted
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.study_spec import StudySpec
from tunectl.space.hyperparameters import Hyperparameter, active

_CHECKED = ("warmup_steps", "post_warmup_steps", "accumulate_steps")


def check_planned(spec: StudySpec, trials: Sequence[PlannedTrial]) -> list[Problem]:
    """The problems of trials in which a formula computes a warmup or a batch that does not fit."""
    concerned = {item.name for item in spec.hyperparameters if item.formula is not None}
    if spec.own_code or not concerned & {*_CHECKED, "batch_size", "warmup"}:
        return []
    found: dict[tuple[PathKey, str], str] = {}
    counts = Counter[tuple[PathKey, str]]()
    for trial in trials:
        for name, message in _wrong(spec, TrainingConfiguration.from_hyperparameters(trial.hyperparameters)):
            item = _item(spec, name, trial)
            if item is not None:
                found.setdefault((item.path, name), message)
                counts[item.path, name] += 1
    return [
        spec.problem(path, f"{message}, in {counted(counts[path, name], 'planned trial')}")
        for (path, name), message in found.items()
    ]


def _item(spec: StudySpec, name: str, trial: PlannedTrial) -> Hyperparameter | None:
    return active(spec.alternatives(name), trial.hyperparameters)


def _wrong(spec: StudySpec, configuration: TrainingConfiguration) -> Iterator[tuple[str, str]]:
    steps, most = configuration.warmup_steps, spec.training.max_train_steps
    within = steps if configuration.warmup == "within" else 0
    if within > most:
        yield "warmup_steps", f"expected at most max_train_steps ({most}) for a warmup within them, got {within}"
    elif configuration.post_warmup_steps > most - within:
        left = f"the {most - within} steps after the warmup"
        yield "post_warmup_steps", f"expected at most {left}, got {configuration.post_warmup_steps}"
    if configuration.accumulate_steps > configuration.batch_size:
        message = f"expected at most {configuration.batch_size}, the examples of a batch"
        yield "accumulate_steps", f"{message}, got {configuration.accumulate_steps}"
