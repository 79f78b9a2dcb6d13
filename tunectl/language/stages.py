"""The stages of a study: `search.promote` checked, and what a promoted trial trains with.

Deep Learning Tuning Playbook, "Deciding how long to train when training is compute-bound": short trials first, each
with its whole schedule, then a few long ones at the best points. Stage 0 is the search itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from tunectl.core.errors import PathKey, Problem
from tunectl.core.own_code_request import variable_of
from tunectl.core.records import Scalar
from tunectl.language.configuration import DECAY_FACTOR, TrainingConfiguration
from tunectl.language.document import Document
from tunectl.language.name_meaning import is_of_schedule
from tunectl.language.review_context import Context
from tunectl.language.review_own_code import program_texts, reads_of_trial
from tunectl.language.sections import Sections
from tunectl.language.study_spec import StudySpec, TrainingSection
from tunectl.space.conditions import Combination
from tunectl.space.hyperparameters import Hyperparameter

PROMOTE: PathKey = ("search", "promote")
LENGTH = "max_train_steps"

TINY = 0.01
"""A learning rate below this part of the base rate trains next to nothing."""

_WASTED = 0.1
"""A cosine that falls to 0 spends 6 % of its steps below TINY; a larger part of the added steps is worth a warning."""

_SCHEDULE = ("schedule", "decay_steps", "decay_factor", "end_learning_rate_factor")
_OF_WARMUP = ("warmup", "warmup_steps", "post_warmup_steps")


def check_stages(document: Document, sections: Sections) -> None:
    """Each stage is longer than the one before it, and keeps at most as many trials."""
    longest, fewest = sections.training.max_train_steps, sections.search.trials
    before, named = f"training.{LENGTH}", "search.trials"
    for place, stage in enumerate(sections.search.promote):
        at = f"search.promote[{place}]"
        if stage.max_train_steps <= longest:
            document.report(
                (*PROMOTE, place, LENGTH),
                f"expected more than {longest:,} ({before}), got {stage.max_train_steps:,}: each stage trains longer "
                "than the one before it",
            )
        if fewest is not None and stage.keep > fewest:
            message = f"expected at most {fewest:,} ({named}), got {stage.keep:,}: a stage keeps the best of those"
            document.report((*PROMOTE, place, "keep"), message)
        longest, before = stage.max_train_steps, f"{at}.{LENGTH}"
        fewest, named = stage.keep, f"{at}.keep"


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


def carried_over(configuration: TrainingConfiguration, short: int, long: int) -> dict[str, int]:
    """The fields of the schedule that change where a trial of `short` steps is trained for `long` ones.

    linear and inverse_sqrt keep the length of their decay, and the steps that are added lengthen the constant rate
    before it: stretched, most of training would have too small a rate. cosine and step keep the base rate and are
    stretched over all steps, also where decay_steps is given: a schedule that ended would train on at its last rate.
    The warmup keeps its length. Source: Deep Learning Tuning Playbook, as above, "Round 2".
    """
    warmup = configuration.warmup_steps if configuration.warmup == "within" else 0
    left = short - warmup - configuration.post_warmup_steps
    decay = configuration.decay_steps
    match configuration.schedule:
        case "constant" | "range_test":
            return {}
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
            assert_never(configuration.schedule)


def check_own_length(spec: StudySpec, source: str | None) -> list[Problem]:
    """A problem where own code does not take the length of its trials from tunectl, so that no stage is longer.

    `source` is the text of its file, None where that is not known.
    """
    if not spec.search.promote or not spec.own_code:
        return []
    if spec.program is None:
        if source is None or LENGTH in source or reads_of_trial(source, spec.workload, (LENGTH,)):
            return []
        remedy = f"train for trial.{LENGTH} steps, or leave promote out"
    else:
        variable = variable_of(LENGTH)
        named = any(f"{{{LENGTH}}}" in text for text in program_texts(spec.program))
        if named or variable in (source or ""):
            return []
        remedy = f"pass {{{LENGTH}}} to the option for its length, or read {variable} in the program"
    message = (
        f"the {spec.workload_kind} decides by itself how long it trains, so that a promoted trial would be as short as "
        f"the first; {remedy}"
    )
    return [spec.problem(PROMOTE, message, at_key=True)]


def review_stages(context: Context) -> list[Problem]:
    """Warnings where the steps that a stage adds would be trained at a tiny learning rate."""
    spec = context.spec
    if not spec.search.promote:
        return []
    if spec.own_code:
        return _own_schedule(context)
    names = [name for name in (*_SCHEDULE, *_OF_WARMUP) if spec.alternatives(name)]
    for combination in context.conditions.combinations(names):
        wasted = _wasted(combination, spec.training.max_train_steps)
        item = combination.active.get("decay_steps") or combination.active.get("schedule")
        if wasted > _WASTED and item is not None:
            message = (
                f"with these values the schedule has ended before {LENGTH}: {wasted:.0%} of the steps that a later "
                f"stage adds would be trained at less than {TINY:.0%} of the base rate; give it more decay_steps, or "
                "leave them out"
            )
            return [context.warn(item, message)]
    return []


def _wasted(combination: Combination, steps: int) -> float:
    """The part of the steps added by a stage at which the rate is below TINY, for the shortest decay."""

    def least(name: str, otherwise: float) -> float:
        item: Hyperparameter | None = combination.active.get(name)
        value = combination.values.get(name)
        if isinstance(value, (int, float)):
            return float(value)
        return float(min(item.domain.numbers)) if item is not None else otherwise

    within = combination.values.get("warmup") == "within"
    left = steps - (least("warmup_steps", 0) if within else 0) - least("post_warmup_steps", 0)
    decay = least("decay_steps", 0)
    if decay <= 0 or left <= 0:
        return 0.0
    match combination.values.get("schedule"):
        case "cosine" if least("end_learning_rate_factor", 0) < TINY:
            return max(0.0, 1 - decay / left)
        case "step":
            factor = least("decay_factor", DECAY_FACTOR)
            drops = math.floor(math.log(TINY) / math.log(factor)) + 1 if factor < 1 else math.inf
            return max(0.0, 1 - drops * decay / left)
        case _:
            return 0.0


def _own_schedule(context: Context) -> list[Problem]:
    """A warning for own code that gets the length of a decay: it gets the same one in each stage."""
    found = [item for item in context.spec.hyperparameters if is_of_schedule(item.name) and item.domain.numbers]
    if not found:
        return []
    names = ", ".join(dict.fromkeys(item.name for item in found))
    message = (
        f"{names} has the same value in every stage: if it is a number of steps, the steps that a later stage adds may "
        "be trained at a tiny rate; let the program derive its schedule from the length that it gets"
    )
    return [context.warn(found[0], message)]
