"""Warnings about the roles of hyperparameters: what the study asks about, what is tuned, what is fixed."""

from __future__ import annotations

import re

from tunectl.core.errors import Problem
from tunectl.language.configuration import FIELDS
from tunectl.language.name_meaning import (
    chooses_optimizer,
    is_architecture,
    is_model_size,
    is_of_optimizer,
    is_of_schedule,
    is_off,
    regularises,
)
from tunectl.language.review_context import Context, can_differ, is_tuned, numbers, scientific
from tunectl.space.domains import FixedValue, Range
from tunectl.space.hyperparameters import Hyperparameter

_MOST_QUESTIONS = 2
_LENGTHS = re.compile(
    r"\b(?:steps?|updates?|epochs?|examples?|samples?|tokens?|time|hours?|minutes?|budget)\b", re.IGNORECASE
)


def batch_size_as_nuisance(context: Context) -> list[Problem]:
    """A warning for a nuisance batch_size."""
    reason = (
        "batch_size as nuisance: it changes the cost of a trial and the best learning rate, momentum and "
        "regularisation, but not the best value that can be reached; fix it at the size that the hardware trains "
        "fastest (`tunectl batch-size`, `tunectl batch-scaling`)"
    )
    return [
        context.warn(item, reason) for item in context.spec.alternatives("batch_size") if is_tuned(context.spec, item)
    ]


def learning_rate_as_scientific(context: Context) -> list[Problem]:
    """A warning for a scientific learning_rate."""
    reason = (
        "learning_rate as scientific: its best value depends on nearly everything else, so it is almost always a "
        "nuisance; write role: nuisance"
    )
    return [
        context.warn(item, reason) for item in context.spec.alternatives("learning_rate") if item.role == "scientific"
    ]


_FROM_ZERO = " and start the range above 0; to test 0, add a scientific on/off hyperparameter"


def wants_log_scale(context: Context) -> list[Problem]:
    """A warning for each range that should be searched on a logarithmic scale."""
    return [
        context.warn(
            item,
            f"{item.name} on a linear scale: its order of magnitude matters, and half of the trials would be in the "
            "upper half of the range; write scale: log" + (_FROM_ZERO if item.domain.low == 0 else ""),
        )
        for item in context.spec.hyperparameters
        if isinstance(item.domain, Range) and has_wrong_scale(item)
    ]


def has_wrong_scale(item: Hyperparameter) -> bool:
    """Whether a hyperparameter whose order of magnitude matters has a range on a linear scale."""
    is_linear = isinstance(item.domain, Range) and item.domain.scale == "linear"
    return is_linear and item.name in FIELDS and FIELDS[item.name].wants_log_scale


def fixed_learning_rate(context: Context) -> list[Problem]:
    """A warning for a learning rate that is fixed while something else is compared."""
    asked = [item for item in scientific(context.spec) if item.name != "learning_rate"]
    rates = context.spec.alternatives("learning_rate")
    fixed = [item for item in rates if not can_differ(item)]
    if not asked or not fixed:
        return []
    names = ", ".join(dict.fromkeys(item.name for item in asked))
    message = (
        f"learning_rate is fixed while {names} is scientific: its best value depends on nearly everything, so the "
        "comparison favours what works best at this rate; make it a nuisance"
    )
    return [context.warn(fixed[0], message)]


def fixed_regularisation(context: Context) -> list[Problem]:
    """A warning for regularisation that is fixed while sizes of the model are compared."""
    sizes = [item.name for item in scientific(context.spec) if _is_size(item.name)]
    if not sizes:
        return []
    message = (
        f"{{}} is fixed while {', '.join(dict.fromkeys(sizes))} is scientific: the best strength of regularisation "
        "changes with the sizes of the batch and the model; make it a nuisance"
    )
    return [
        context.warn(item, message.format(item.name))
        for item in context.spec.hyperparameters
        if regularises(item.name) and isinstance(item.domain, FixedValue) and not is_off(item.domain.value)
    ]


def _is_size(name: str) -> bool:
    return name == "batch_size" or is_model_size(name)


def choice_as_nuisance(context: Context) -> list[Problem]:
    """An optimizer or an architecture that is a nuisance."""
    problems = []
    for item in context.spec.hyperparameters:
        if item.role != "nuisance" or not can_differ(item):
            continue
        if chooses_optimizer(item.name):
            reason = (
                "each choice needs other values of its own hyperparameters and gets only a part of the trials, so "
                "that none is tuned; make it scientific, or fix it"
            )
        elif is_architecture(item.name):
            reason = (
                "it changes the cost of a trial and of using the model, so that the best value alone cannot decide; "
                "make it scientific, or fix it"
            )
        else:
            continue
        problems.append(context.warn(item, f"{item.name} as nuisance: {reason}"))
    return problems


def tuned_as_scientific(context: Context) -> list[Problem]:
    """Hyperparameters of the optimizer, and strengths of regularisation, that are scientific."""
    switches = {item.name for item in scientific(context.spec) if item.makes_settings}
    problems = []
    for item in scientific(context.spec):
        if not can_differ(item):
            continue
        if is_of_optimizer(item.name) or is_of_schedule(item.name):
            reason = (
                "its best value changes with nearly everything else, so that the answer is soon out of date; write "
                "role: nuisance"
            )
        elif regularises(item.name) and not switches & set(item.when) and _has_strengths(item):
            reason = (
                "whether to use a regularisation is a question, but how much of it is best depends on everything else; "
                "make a scientific switch for its use, and its strength a nuisance where it is on"
            )
        else:
            continue
        problems.append(context.warn(item, f"{item.name} as scientific: {reason}"))
    return problems


def _has_strengths(item: Hyperparameter) -> bool:
    """Whether it has more than one strength; with off and one strength it is a switch."""
    return item.domain.is_ordered or sum(not is_off(value) for value in item.domain.numbers) > 1


def missing_goal(context: Context) -> list[Problem]:
    """A study that asks about something, without a goal."""
    if context.spec.goal.strip() or not scientific(context.spec):
        return []
    names = ", ".join(dict.fromkeys(item.name for item in scientific(context.spec)))
    message = (
        f"no goal: {names} is scientific, and the study does not say what the question is; write goal: with the "
        "question in one sentence, by which the result can be judged"
    )
    return [context.spec.problem(("hyperparameters",), message, at_key=True)]


def wide_question(context: Context) -> list[Problem]:
    """More scientific hyperparameters than one experiment answers."""
    names = dict.fromkeys(item.name for item in scientific(context.spec) if can_differ(item))
    # A hyperparameter that is active only with a switch belongs to the question of the switch.
    own = [name for name in names if not all(set(item.when) & set(names) for item in context.spec.alternatives(name))]
    if len(own) <= _MOST_QUESTIONS:
        return []
    message = (
        f"{len(own)} scientific hyperparameters ({', '.join(own)}): each combination is a setting to be tuned, and "
        "their effects are hard to separate; ask about one or two, and about the others in other studies"
    )
    return [context.spec.problem(("hyperparameters",), message, at_key=True)]


def batch_sizes_compared(context: Context) -> list[Problem]:
    """Batch sizes that are compared: by steps and by epochs are different comparisons."""
    compared = [
        item for item in context.spec.alternatives("batch_size") if item.role == "scientific" and can_differ(item)
    ]
    sizes = [number for item in compared for number in numbers(item)]
    if not sizes or _LENGTHS.search(context.spec.goal):
        return []
    message = (
        f"batch sizes are compared after the same number of steps, in which a batch of {max(sizes):,.10g} uses "
        f"{max(sizes) / min(sizes):.3g} times the data of a batch of {min(sizes):,.10g}; write in goal whether they "
        "are compared by steps or by epochs (then in studies with different max_train_steps), or compare them by the "
        "steps to a target, `tunectl batch-scaling`; once everything else is tuned, every size should reach the same "
        "value"
    )
    return [context.warn(compared[0], message)]
