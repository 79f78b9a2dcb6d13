"""What is wrong with the stages of a study, and what is doubtful: lengths, and a schedule that has ended."""

from __future__ import annotations

import math

from tunectl.core.errors import Problem
from tunectl.core.own_code_request import variable_of
from tunectl.core.wording import counted
from tunectl.language.configuration import DECAY_FACTOR
from tunectl.language.document import Document
from tunectl.language.name_meaning import is_of_schedule
from tunectl.language.review_context import Context
from tunectl.language.review_own_code import program_texts, reads_of_trial
from tunectl.language.review_training import FEWEST_EVALUATIONS
from tunectl.language.sections import Sections
from tunectl.language.stage_lengths import LENGTH, PROMOTE
from tunectl.language.study_spec import StudySpec
from tunectl.space.conditions import Combination
from tunectl.space.hyperparameters import Hyperparameter

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
    """Warnings where a stage is rarely evaluated, or its added steps would be trained at a tiny learning rate."""
    spec = context.spec
    if not spec.search.promote:
        return []
    if spec.own_code:
        return _own_schedule(context)
    return [*_rarely_evaluated(spec), *_at_a_tiny_rate(context)]


def _rarely_evaluated(spec: StudySpec) -> list[Problem]:
    """Stages whose own eval_every gives too few evaluations for retrospective selection and for the findings."""
    found = []
    for place, stage in enumerate(spec.search.promote):
        evaluations = math.ceil(stage.max_train_steps / (stage.eval_every or 1))
        if stage.eval_every is not None and evaluations < FEWEST_EVALUATIONS:
            message = (
                f"eval_every ({stage.eval_every:,}) gives {counted(evaluations, 'evaluation')} in {LENGTH} "
                f"({stage.max_train_steps:,}): too few to select the best step; write a smaller eval_every"
            )
            found.append(spec.problem((*PROMOTE, place, "eval_every"), message))
    return found


def _at_a_tiny_rate(context: Context) -> list[Problem]:
    """A warning where a schedule ends before the first stage does, and is stretched over the steps of a later one."""
    spec = context.spec
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
