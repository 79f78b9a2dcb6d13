"""Warnings about a comparison of optimizers that would not be fair."""

from __future__ import annotations

from collections.abc import Mapping

from tunectl.core.errors import PathKey, Problem
from tunectl.core.records import Scalar
from tunectl.core.user_code import CodeName, is_code
from tunectl.core.wording import counted, listed
from tunectl.language.name_meaning import is_of_optimizer, is_off
from tunectl.language.optimizer_traits import OptimizerName, is_optimizer, optimizers_with, traits
from tunectl.language.review_context import Context, can_differ, scientific
from tunectl.space.conditions import Other
from tunectl.space.hyperparameters import Hyperparameter

_RANGES = frozenset(("learning_rate", "lr", "weight_decay"))


def untuned_optimizer(context: Context) -> list[Problem]:
    """Where a study compares optimizers, the hyperparameters of each are nuisances as far as the trials allow."""
    named = context.spec.alternatives("optimizer")
    if len(compared_optimizers(context)) < 2:
        return []
    by_setting = [_optimizers_in(context, setting) for setting in context.settings]
    untuned: dict[tuple[str, str], tuple[Hyperparameter | None, int]] = {}
    for setting, trials, optimizers in zip(context.settings, context.trials, by_setting, strict=True):
        share = trials // max(len(optimizers), 1)  # those sampled within a setting share its trials
        for optimizer in optimizers:
            for name, least in traits(optimizer).tuned_from.items():
                if share < least or (name, optimizer) in untuned:
                    continue
                tuned, item = _tuned(context, setting, optimizer, name)
                if not tuned:
                    untuned[name, optimizer] = (item, share)
    chosen = next((item for item in named if item.role == "scientific"), named[0])
    subject = "the optimizer is scientific" if chosen.role == "scientific" else "the settings compare optimizers"
    return _say_untuned(context, untuned, chosen, subject)


def _tuned(
    context: Context, setting: Mapping[str, Scalar], optimizer: str, name: str
) -> tuple[bool, Hyperparameter | None]:
    """Whether a name varies with an optimizer in a setting, and if not, which entry fixes it."""
    # Its condition may name the optimizer although the optimizer is sampled within the setting.
    combinations = [
        combination
        for combination in context.active(setting, ["optimizer", name])
        if combination.values.get("optimizer") == optimizer
    ]
    active = [combination.active[name] for combination in combinations if name in combination.active]
    return any(can_differ(item) for item in active), next(iter(active), None)


def _say_untuned(
    context: Context,
    untuned: Mapping[tuple[str, str], tuple[Hyperparameter | None, int]],
    optimizer: Hyperparameter,
    subject: str,
) -> list[Problem]:
    """One warning for each entry that fixes something, and one for all names that are left out."""
    entries: dict[PathKey, list[tuple[str, str, Hyperparameter | None, int]]] = {}
    for (name, under), (item, trials) in untuned.items():
        entries.setdefault(item.path if item else (), []).append((name, under, item, trials))
    problems = []
    for found in entries.values():
        unders: dict[str, list[str]] = {}
        for name, under, _, _ in found:
            unders.setdefault(name, []).append(under)
        item, trials = found[0][2], min(trials for *_, trials in found)
        parts = [f"for {listed(names)}" for names in unders.values()]
        pronoun = "it" if len(unders) == 1 else "them"
        what = f"it {parts[0]}" if len(parts) == 1 else ", ".join(map(" ".join, zip(unders, parts, strict=True)))
        message = (
            f"{listed(list(unders))} {'is' if len(unders) == 1 else 'are'} {'fixed' if item else 'left out'} while "
            f"{subject}: {counted(trials, 'trial')} {'is' if trials == 1 else 'are'} enough to tune {what}, and a "
            f"comparison is fair only when each optimizer is tuned as well as the other; make {pronoun} "
            f"{'a nuisance' if len(unders) == 1 else 'nuisances'}"
        )
        problems.append(context.warn(item or optimizer, message))
    return problems


def compared_optimizers(context: Context) -> list[str]:
    """The optimizers that the settings of a study compare, each once; [] where the optimizer is no question of it."""
    if not _is_asked(context):
        return []
    found = (optimizer for setting in context.settings for optimizer in _optimizers_in(context, setting))
    return list(dict.fromkeys(found))


def _is_asked(context: Context) -> bool:
    """Whether the optimizer, or what it depends on, is scientific."""
    names = context.conditions.ancestors(["optimizer"])
    return any(item.role == "scientific" for name in names for item in context.conditions.by_name[name])


def _optimizers_in(context: Context, setting: Mapping[str, Scalar]) -> list[OptimizerName | CodeName]:
    values = dict.fromkeys(
        combination.values.get("optimizer") for combination in context.active(setting, ["optimizer"])
    )
    return [value for value in values if is_optimizer(value) or is_code(value)]


def shared_ranges(context: Context) -> list[Problem]:
    """Where optimizers are compared, each needs its own range of the learning rate and of its other hyperparameters."""
    if not any(item.name == "optimizer" for item in scientific(context.spec)):
        return []

    def choose(item: Hyperparameter) -> list[Scalar | Other]:
        listed = item.domain.listed if item.name == "optimizer" else None
        return list(listed or context.conditions.distinct_values(item))

    problems = []
    for name in context.spec.names:
        if name not in _RANGES and not is_of_optimizer(name):
            continue
        families: dict[PathKey, dict[str, str]] = {}
        for combination in context.conditions.combinations(["optimizer", name], choose=choose):
            item, optimizer = combination.active.get(name), combination.values.get("optimizer")
            if item is not None and can_differ(item) and not _is_switch(item) and isinstance(optimizer, str):
                families.setdefault(item.path, {}).setdefault(_family(name, optimizer), optimizer)
        for item in context.spec.alternatives(name):
            shared = families.get(item.path, {})
            if len(shared) > 1:
                problems.append(context.warn(item, _shared(name, list(shared.values()))))
    return problems


def _family(name: str, optimizer: str) -> str:
    if not is_optimizer(optimizer):
        return optimizer
    known = traits(optimizer)
    return optimizer if name == "weight_decay" and known.decoupled_weight_decay else known.family


def _is_switch(item: Hyperparameter) -> bool:
    """Whether its values are off and one strength."""
    values = item.domain.listed or ()
    return len(values) == 2 and any(map(is_off, values))


def _shared(name: str, optimizers: list[str]) -> str:
    code = [optimizer for optimizer in optimizers if is_code(optimizer)]
    effect = (
        f"may have another effect with each ({listed(code)}: not known)" if code else "has another effect with each"
    )
    return (
        f"one range of {name} for {listed(optimizers)}: the same value {effect}, so a range that is right for one "
        f"favours it; write an alternative for each, with when: {{optimizer: {optimizers[0]}}}"
    )


def _moving_optimizers() -> list[OptimizerName]:
    """The optimizers with momentum unless it is set to 0."""
    return [optimizer for optimizer in optimizers_with("momentum") if traits(optimizer).momentum > 0]


def fixed_momentum(context: Context) -> list[Problem]:
    """Where batch sizes are compared, momentum is tuned: its best value changes with the batch size."""
    varying = [
        item for item in context.spec.alternatives("batch_size") if item.role == "scientific" and can_differ(item)
    ]
    if not varying:
        return []
    for combination in context.conditions.combinations(["optimizer", "momentum"]):
        item, optimizer = combination.active.get("momentum"), combination.values.get("optimizer")
        used = item is not None if context.spec.own_code else optimizer in _moving_optimizers()
        if used and (item is None or not can_differ(item)):
            message = (
                f"momentum is {'fixed' if item else 'left out'} while batch_size varies: the best momentum and "
                "learning rate change with the batch size, so the comparison favours the sizes for which this value is "
                "right; make it a nuisance"
            )
            return [context.warn(item or varying[0], message)]
    return []
