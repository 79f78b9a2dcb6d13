"""Warnings about the training of a trial: evaluations, warmup, batches."""

from __future__ import annotations

import math

from tunectl.core.errors import Problem
from tunectl.core.wording import counted
from tunectl.language.configuration import BATCH_SIZE, EVAL_BATCH_SIZE
from tunectl.language.review_context import Context, numbers, taken
from tunectl.language.study_spec import StudySpec
from tunectl.space.hyperparameters import Hyperparameter

FEWEST_EVALUATIONS = 10
_GOOD_EVALUATIONS = 20
_SHORT_WARMUP, _LONG_WARMUP = 0.05, 0.1


def small_evaluation_batches(context: Context) -> list[Problem]:
    """A warning for evaluation batches that are smaller than training batches."""
    for combination in context.conditions.combinations(["eval_batch_size", "batch_size"]):
        evaluation = combination.active.get("eval_batch_size")
        if evaluation is None:
            continue
        largest = max(taken(combination, "batch_size"), default=BATCH_SIZE)
        if min(taken(combination, "eval_batch_size")) >= largest:
            continue
        message = (
            f"evaluation batches smaller than training batches ({largest:,.10g}): evaluating needs no gradients, so "
            "larger ones fit and cost less; "
            f"leave eval_batch_size out (the larger of batch_size and {EVAL_BATCH_SIZE})"
        )
        return [context.warn(evaluation, message)]
    return []


def gradient_accumulation(context: Context) -> list[Problem]:
    """A warning for accumulate_steps."""
    # "Determining the feasible batch sizes and estimating training throughput": to be avoided in applied work.
    reason = (
        "gradient accumulation: it imitates a batch that does not fit into memory, but makes training no faster; leave "
        "accumulate_steps out and use the batch_size that fits, unless you repeat a trial from a larger machine"
    )
    found = context.spec.alternatives("accumulate_steps")
    return [context.warn(item, reason) for item in found if max(numbers(item), default=0) > 1]


def small_shares(context: Context) -> list[Problem]:
    """A warning for batches of which a device of a trial has one example, or none."""
    devices = context.spec.resources.devices_per_trial
    if devices == 1:
        return []
    for combination in context.conditions.combinations(["batch_size", "accumulate_steps"]):
        smallest = int(min(taken(combination, "batch_size"), default=BATCH_SIZE))
        parts = int(max(taken(combination, "accumulate_steps"), default=1))
        size = -(-smallest // max(1, min(parts, smallest)))
        if size >= 2 * devices:
            continue
        what = "a batch" if parts == 1 else "a micro-batch"
        least = "no example" if size < devices else "one example"
        message = (
            f"{what} of {counted(size, 'example')} leaves {least} to some of the {devices} devices of a trial: they "
            "gain nothing by it, and batch normalisation of one example fails unless training.sync_batch_norm is true; "
            "use larger batches, or fewer devices"
        )
        return [context.spec.problem(("resources", "devices_per_trial"), message)]
    return []


def rare_evaluations(context: Context) -> list[Problem]:
    """Curves with too few evaluations for retrospective selection and for the findings."""
    training = context.spec.training
    total = longest_trial(context.spec)
    evaluations = math.ceil(total / training.eval_every)
    if evaluations >= FEWEST_EVALUATIONS:
        return []
    length = f"max_train_steps ({training.max_train_steps:,})"
    if training.eval_every > total:
        found = f"is more than {length}: only the last step would be evaluated, so no curve shows how training went"
    elif evaluations == 1:
        found = f"is the length of a trial, {length}: only its start and its end are evaluated, so no curve shows what "
        found += "happens between"
    else:
        found = f"gives {evaluations} evaluations in {length}: too few to select the best step, or to see overfitting"
        found += " and instability"
    message = (
        f"eval_every ({training.eval_every:,}) {found}; write a smaller eval_every, such as "
        f"{max(1, training.max_train_steps // _GOOD_EVALUATIONS):,}"
    )
    return [context.spec.problem(("training", "eval_every"), message)] if training.eval_every > 1 else []


def long_warmup(context: Context) -> list[Problem]:
    """Playbook, "Learning rate warmup": at most 10 % of max_train_steps; above 5 % these may have to grow."""
    steps = context.spec.training.max_train_steps
    longest = max(context.spec.alternatives("warmup_steps"), key=_most, default=None)
    if longest is None or _most(longest) <= _SHORT_WARMUP * steps:
        return []
    share = f"warmup_steps up to {_most(longest):,.10g} are {_most(longest) / steps:.0%} of max_train_steps"
    if _most(longest) > _LONG_WARMUP * steps:
        message = (
            f"{share}: a warmup of more than a tenth, {steps // 10:,}, is not worth trying; shorten it, or raise "
            "max_train_steps"
        )
    else:
        message = (
            f"{share}: if stable training needs a warmup of more than 5 %, max_train_steps may have to be raised to "
            "compensate for it"
        )
    return [context.warn(longest, message)]


def longest_trial(spec: StudySpec) -> int:
    """The most updates of a trial: max_train_steps, and the longest warmup where it is prepended."""
    steps = spec.training.max_train_steps
    if spec.own_code:
        return steps
    warmup = spec.alternatives("warmup")
    if warmup and all(item.domain.listed == ("within",) for item in warmup):
        return steps
    return steps + int(max(map(_most, spec.alternatives("warmup_steps")), default=0))


def _most(item: Hyperparameter) -> float:
    return max(numbers(item), default=0)
