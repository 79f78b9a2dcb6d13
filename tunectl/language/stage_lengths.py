"""The stages of a study, and what a promoted trial trains with.

Deep Learning Tuning Playbook, "Deciding how long to train when training is compute-bound": short trials first, each
with its whole schedule, then a few long ones at the best points. Stage 0 is the search itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunectl.core.errors import PathKey
from tunectl.core.records import Scalar
from tunectl.core.user_code import CodeName
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.piecewise import stretched
from tunectl.language.study_spec import StudySpec, TrainingSection

PROMOTE: PathKey = ("search", "promote")
LENGTH = "max_train_steps"

MOST_BESIDE = 1
"""At most this many times `keep` trials are promoted besides the best `keep`, however much noise there is."""


def last_stage(spec: StudySpec) -> int:
    """The number of the study's last stage, 0 where it has only one."""
    return len(spec.search.promote)


def training_of(spec: StudySpec, stage: int) -> TrainingSection:
    """`training:` as the trials of a stage have it."""
    if not 1 <= stage <= last_stage(spec):
        return spec.training
    asked = spec.search.promote[stage - 1]
    every = asked.eval_every if asked.eval_every is not None else spec.training.eval_every
    return replace(spec.training, max_train_steps=asked.max_train_steps, eval_every=every)


def spec_of(spec: StudySpec, stage: int) -> StudySpec:
    """The study as the trials of a stage have it: with the length of that stage."""
    return replace(spec, training=training_of(spec, stage))


def stage_words(spec: StudySpec, stage: int) -> str:
    """A stage in words: `stage 1 (20,000 steps)`."""
    return f"stage {stage} ({training_of(spec, stage).max_train_steps:,} steps)"


def planned_training(spec: StudySpec, values: Mapping[str, Scalar], stage: int) -> dict[str, Any]:
    """What differs from `training:`, and from the schedule of its hyperparameters, in a trial with these values."""
    asked = training_of(spec, stage)
    found: dict[str, Any] = {LENGTH: asked.max_train_steps}
    if asked.eval_every != spec.training.eval_every:
        found["eval_every"] = asked.eval_every
    if not spec.own_code:
        configuration = TrainingConfiguration.from_hyperparameters(values)
        found |= carried_over(configuration, spec.training.max_train_steps, asked.max_train_steps)
    return found


def carried_over(configuration: TrainingConfiguration, short: int, long: int) -> dict[str, int | str]:
    """The fields of the schedule that change where a trial of `short` steps is trained for `long` ones.

    linear and inverse_sqrt keep the length of their decay, and the steps that are added lengthen the constant rate
    before it: stretched, most of training would have too small a rate. cosine and step keep the base rate and are
    stretched over all steps, also where decay_steps is given: a schedule that ended would train on at its last rate.
    So are the points of piecewise; the cooldown of wsd keeps its share of the steps.
    The warmup keeps its length. Source: Deep Learning Tuning Playbook, as above, "Round 2".
    """
    warmup = configuration.warmup_steps if configuration.warmup == "within" else 0
    left = short - warmup - configuration.post_warmup_steps
    decay = configuration.decay_steps
    match configuration.schedule:
        case "constant" | "range_test" | "wsd":
            return {}
        case "piecewise":
            points = configuration.piecewise_points
            longer = stretched(points, (left + long - short) / left) if left > 0 else points
            return {} if longer == points else {"piecewise_points": longer}
        case "linear":
            constant = configuration.post_warmup_steps + long - short
            return {"post_warmup_steps": constant, "decay_steps": max(left, 1) if decay is None else decay}
        case "inverse_sqrt":
            return {"post_warmup_steps": configuration.post_warmup_steps + long - short}
        case "cosine" | "step":
            if decay is None or left <= 0:
                return {}
            return {"decay_steps": max(1, round(decay * (left + long - short) / left))}
        case _:
            return _of_code(configuration.schedule)


def _of_code(_schedule: CodeName) -> dict[str, int | str]:
    """A function gets the number of all steps, and stretches or keeps its own lengths."""
    return {}
