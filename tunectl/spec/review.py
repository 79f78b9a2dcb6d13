"""Warnings about a study's design, each with its reason, from the Deep Learning Tuning Playbook
("Identifying scientific, nuisance, and fixed hyperparameters" and its FAQ).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tunectl.core.errors import Problem
from tunectl.core.records import Scalar
from tunectl.spec.conditions import OTHER, Conditions, World
from tunectl.spec.configuration import EVAL_BATCH_SIZE, FIELDS
from tunectl.spec.hyperparameters import same
from tunectl.spec.model import FixedValue, Hyperparameter, Range, StudySpec, ValueSet

# "What are the best hyperparameters to tune for a given optimizer" (FAQ): below 10 trials only the learning rate, 10 to 25 also beta1, from 25 also epsilon,
# with "substantially more than 25" also beta2, which we read as 50. We extend the ladder by doubling for every further dimension.
_BUDGETS = (10, 25, 50)
_TUNED_FROM = {
    "adam": {"learning_rate": 1, "beta1": 10, "epsilon": 25, "beta2": 50},
    "adamw": {"learning_rate": 1, "beta1": 10, "epsilon": 25, "beta2": 50},
    "momentum": {"learning_rate": 1, "momentum": 10},
    "nesterov": {"learning_rate": 1, "momentum": 10},
    "sgd": {"learning_rate": 1},
}
_SIZES = frozenset(
    ["batch_size", "width", "num_layers", "depth", "hidden_size", "hidden_dim", "model_dim", "d_model", "num_heads", "num_blocks", "num_units", "channels", "num_channels", "model_size"]
)
_REGULARISATION = frozenset(
    ["weight_decay", "dropout", "dropout_rate", "label_smoothing", "l1", "l2", "l1_penalty", "l2_penalty", "mixup", "mixup_alpha", "cutmix", "cutmix_alpha", "drop_path", "stochastic_depth"]
)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a study costs: settings × trials × steps. `trials` counts all trials, `steps` those of all trials together."""

    settings: int
    trials: int
    steps: int


def review(
    spec: StudySpec, settings: tuple[Mapping[str, Scalar], ...], trials_per_setting: tuple[int, ...]
) -> list[Problem]:
    """Warnings about the design of a checked study, in the order of the file.

    `settings` are the scientific values of each setting, `trials_per_setting` how many trials each gets.
    """
    conditions = Conditions(spec.hyperparameters)
    context = _Context(spec, conditions, settings, trials_per_setting)
    rules: tuple[Callable[[_Context], list[Problem]], ...] = (
        _batch_size_as_nuisance,
        _learning_rate_as_scientific,
        _untuned_optimizer,
        _too_many_dimensions,
        _wants_log_scale,
        _fixed_learning_rate,
        _fixed_regularisation,
        _unequal_dimensions,
        _small_evaluation_batches,
        _nothing_sampled,
    )
    return sorted(problem for rule in rules for problem in rule(context))


@dataclass(frozen=True, slots=True)
class _Context:
    spec: StudySpec
    conditions: Conditions
    settings: tuple[Mapping[str, Scalar], ...]
    trials: tuple[int, ...]

    def active(self, setting: Mapping[str, Scalar], names: list[str]) -> list[World]:
        """The worlds over some names that a setting allows."""
        worlds = self.conditions.worlds([*names, *setting], extra={name: [value] for name, value in setting.items()})
        return [world for world in worlds if all(_matches(world, name, value) for name, value in setting.items())]

    def warn(self, item: Hyperparameter, message: str) -> Problem:
        return self.spec.problem(item.path, message)

    def nuisances(self, setting: Mapping[str, Scalar]) -> set[str]:
        """The keys of the nuisance hyperparameters that can be active in a setting."""
        keys = set()
        for item in self.spec.hyperparameters:
            if item.role == "nuisance" and any(
                world.active.get(item.name) is item for world in self.active(setting, [item.name])
            ):
                keys.add(item.key)
        return keys

    def describe(self, setting: Mapping[str, Scalar]) -> str:
        return " where " + ", ".join(f"{name} is {value}" for name, value in setting.items()) if setting else ""


def _matches(world: World, name: str, value: Scalar) -> bool:
    held = world.values.get(name)
    return held is not None and held is not OTHER and same(held, value)  # type: ignore[arg-type]


def _scientific(spec: StudySpec) -> list[Hyperparameter]:
    return [item for item in spec.hyperparameters if item.role == "scientific"]


def _batch_size_as_nuisance(context: _Context) -> list[Problem]:
    reason = (
        "batch_size as nuisance: it changes the cost of a trial and the best learning rate, momentum and regularisation with it; "
        "fix it to what the hardware trains fastest, or make it scientific"
    )
    return [context.warn(item, reason) for item in context.spec.alternatives("batch_size") if item.role == "nuisance"]


def _learning_rate_as_scientific(context: _Context) -> list[Problem]:
    reason = "learning_rate as scientific: its best value depends on nearly everything else, so it is almost always a nuisance; mark it role: nuisance"
    return [
        context.warn(item, reason) for item in context.spec.alternatives("learning_rate") if item.role == "scientific"
    ]


def _untuned_optimizer(context: _Context) -> list[Problem]:
    """With a scientific optimizer, each one's own hyperparameters are nuisances as far as the budget lets them be tuned."""
    optimizers = [item for item in context.spec.alternatives("optimizer") if item.role == "scientific"]
    if not optimizers:
        return []
    found: dict[str, Problem] = {}
    for setting, trials in zip(context.settings, context.trials, strict=True):
        for optimizer in _optimizers_in(context, setting):
            for name, least in _TUNED_FROM[optimizer].items():
                if (
                    trials < least
                    or f"{optimizer}/{name}" in found
                    or (name == "learning_rate" and _fixed_everywhere(context, name))
                ):
                    continue
                # Its condition may name the optimizer although the optimizer is sampled within the setting.
                worlds = [
                    world
                    for world in context.active(setting, ["optimizer", name])
                    if world.values.get("optimizer") == optimizer
                ]
                if any(name in world.active and world.active[name].varies for world in worlds):
                    continue
                item = next((world.active[name] for world in worlds if name in world.active), None)
                how = "fixed" if item is not None else "left out"
                message = (
                    f"{name} is {how} while the optimizer is scientific: {trials} trials let it be tuned under {optimizer}, and a comparison is fair "
                    "only when each optimizer is tuned as well as the other; make it a nuisance"
                )
                found[f"{optimizer}/{name}"] = context.warn(item or optimizers[0], message)
    return list(found.values())


def _optimizers_in(context: _Context, setting: Mapping[str, Scalar]) -> list[str]:
    values: dict[str, None] = {}
    extra = {name: [value] for name, value in setting.items()} | {"optimizer": list(_TUNED_FROM)}
    for world in context.conditions.worlds(["optimizer", *setting], extra=extra):
        if all(_matches(world, name, value) for name, value in setting.items()) and isinstance(
            world.values.get("optimizer"), str
        ):
            values[str(world.values["optimizer"])] = None
    return [value for value in values if value in _TUNED_FROM]


def _fixed_everywhere(context: _Context, name: str) -> bool:
    return all(not item.varies for item in context.spec.alternatives(name))


def affordable_dimensions(trials: int) -> int:
    """How many nuisance hyperparameters a budget of trials can tune: 1 below 10, 2 below 25, 3 below 50, one more for each doubling after."""
    dimensions, bound = 1, 0
    for bound in _BUDGETS:
        if trials < bound:
            return dimensions
        dimensions += 1
    while trials >= 2 * bound:
        bound *= 2
        dimensions += 1
    return dimensions


def _too_many_dimensions(context: _Context) -> list[Problem]:
    if context.spec.search.sampler in ("grid", "points"):
        return []
    worst: tuple[int, Problem] | None = None
    for setting, trials in zip(context.settings, context.trials, strict=True):
        keys = context.nuisances(setting)
        shared = len({_coordinate(context, key, keys) for key in keys})
        most = affordable_dimensions(trials)
        if shared > most and (worst is None or shared > worst[0]):
            message = (
                f"{shared} nuisance hyperparameters{context.describe(setting)} on {trials} trials: so few cover about {most} "
                "(below 10 trials the learning rate only, 10 to 24 also beta1 or momentum, 25 and more also epsilon, well above that beta2); "
                "raise trials, or fix the least sensitive ones"
            )
            worst = (shared, context.spec.problem(("search", "trials"), message))
    return [worst[1]] if worst else []


def _coordinate(context: _Context, key: str, keys: set[str]) -> str:
    """The first of those that can never be active beside this one: together they are one dimension."""
    by_key = {item.key: item for item in context.spec.hyperparameters}
    return min(
        [
            key,
            *(other for other in keys if other != key and not context.conditions.together(by_key[key], by_key[other])),
        ]
    )


def _wants_log_scale(context: _Context) -> list[Problem]:
    return [
        context.warn(
            item,
            f"{item.name} on a linear scale: what counts is its order of magnitude, and half of the trials go to the upper half of the range; write scale: log",
        )
        for item in context.spec.hyperparameters
        if isinstance(item.domain, Range)
        and item.domain.scale == "linear"
        and item.name in FIELDS
        and FIELDS[item.name].wants_log_scale
    ]


def _fixed_learning_rate(context: _Context) -> list[Problem]:
    scientific = [item for item in _scientific(context.spec) if item.name != "learning_rate"]
    rates = context.spec.alternatives("learning_rate")
    if not scientific or any(item.varies for item in rates):
        return []
    names = ", ".join(dict.fromkeys(item.name for item in scientific))
    message = (
        f"learning_rate is fixed while {names} is scientific: its best value depends on nearly everything, so the comparison favours whatever suits this one; "
        "make it a nuisance"
    )
    return [context.warn(rates[0], message)]


def _fixed_regularisation(context: _Context) -> list[Problem]:
    sizes = [item.name for item in _scientific(context.spec) if item.name in _SIZES]
    if not sizes:
        return []
    message = (
        f"{{}} is fixed while {', '.join(dict.fromkeys(sizes))} is scientific: the best strength of regularisation changes with batch and model size; "
        "make it a nuisance"
    )
    return [
        context.warn(item, message.format(item.name))
        for item in context.spec.hyperparameters
        if item.name in _REGULARISATION
        and isinstance(item.domain, FixedValue)
        and item.domain.value not in (0, "none")
        and not item.when
    ]


def _unequal_dimensions(context: _Context) -> list[Problem]:
    if len(set(context.trials)) != 1 or len(context.settings) < 2:
        return []
    counts = [len(context.nuisances(setting)) for setting in context.settings]
    if len(set(counts)) == 1:
        return []
    most, least = counts.index(max(counts)), counts.index(min(counts))
    message = (
        f"settings with unequal numbers of nuisance hyperparameters on equal trials: {max(counts)}{context.describe(context.settings[most])}, "
        f"{min(counts)}{context.describe(context.settings[least])}; the one with more is tuned less well, so give all the same number or raise trials"
    )
    return [context.spec.problem(("search", "trials"), message)]


def _small_evaluation_batches(context: _Context) -> list[Problem]:
    evaluation = context.spec.alternatives("eval_batch_size")
    batches = context.spec.alternatives("batch_size")
    largest = max((_largest(item) for item in batches), default=64.0)
    if not evaluation or min(_smallest(item) for item in evaluation) >= largest:
        return []
    message = (
        f"evaluation batches smaller than training batches ({largest:g}): evaluating needs no gradients, so larger ones fit and cost less; "
        f"leave eval_batch_size out (the larger of batch_size and {EVAL_BATCH_SIZE})"
    )
    return [context.warn(evaluation[0], message)]


def _nothing_sampled(context: _Context) -> list[Problem]:
    trials = context.spec.search.trials or 1
    if (
        trials == 1
        or context.spec.search.sampler not in ("halton", "random")
        or any(item.has_coordinate for item in context.spec.hyperparameters)
    ):
        return []
    message = f"nothing is sampled, so the {trials} trials of a setting differ by their seed alone; leave trials out, or mark something as nuisance"
    return [context.spec.problem(("search", "trials"), message)]


def _numbers(item: Hyperparameter) -> list[float]:
    if isinstance(item.domain, Range):
        return [item.domain.low, item.domain.high]
    values = item.domain.values if isinstance(item.domain, ValueSet) else (item.domain.value,)
    return [float(value) for value in values if isinstance(value, (int, float))]


def _largest(item: Hyperparameter) -> float:
    return max(_numbers(item))


def _smallest(item: Hyperparameter) -> float:
    return min(_numbers(item))
