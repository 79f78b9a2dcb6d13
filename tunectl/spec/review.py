"""Warnings about a study's design, each with its reason, from the Deep Learning Tuning Playbook
("Identifying scientific, nuisance, and fixed hyperparameters" and its FAQ).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tunectl.core.errors import Problem
from tunectl.core.records import Scalar
from tunectl.spec.conditions import Conditions, Other, World, can_take
from tunectl.spec.configuration import BATCH_SIZE, EVAL_BATCH_SIZE, FIELDS
from tunectl.spec.document import PathKey
from tunectl.spec.model import FixedValue, Hyperparameter, Range, StudySpec, ValueSet
from tunectl.spec.regularisation import is_off, regularises
from tunectl.spec.review_own_code import review_own_code
from tunectl.spec.wording import counted, quoted

# "How should Adam's hyperparameters be tuned?" (FAQ): below 10 trials only the learning rate, 10 to 25 also beta1, from
# 25 also epsilon, with "substantially more than 25" also beta2, which we read as 50. We extend the ladder by doubling
# for every further dimension.
_BUDGETS = (10, 25, 50)
_TUNED_FROM = {
    "adam": {"beta1": 10, "epsilon": 25, "beta2": 50},
    "adamw": {"beta1": 10, "epsilon": 25, "beta2": 50},
    "momentum": {"momentum": 10},
    "nesterov": {"momentum": 10},
    "sgd": {},
}
_MOST_NAMED = 3
_SIZES = frozenset((
    "batch_size", "width", "num_layers", "depth", "hidden_size", "hidden_dim", "model_dim", "d_model", "num_heads",
    "num_blocks", "num_units", "channels", "num_channels", "model_size"
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Budget:
    """What a study costs: settings × trials × steps; `trials` and `steps` are those of the whole study."""

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
        _too_many_dimensions,
        _wants_log_scale,
        _fixed_learning_rate,
        _fixed_regularisation,
        _unequal_dimensions,
        _nothing_sampled,
    )
    if spec.own_code:
        return sorted([*(problem for rule in rules for problem in rule(context)), *review_own_code(spec)])
    # What own code does with an optimizer's name, or between evaluations, is its own.
    rules += (_untuned_optimizer, _small_evaluation_batches, _gradient_accumulation, _rare_evaluations)
    return sorted(problem for rule in rules for problem in rule(context))


@dataclass(frozen=True, slots=True)
class _Context:
    spec: StudySpec
    conditions: Conditions
    settings: tuple[Mapping[str, Scalar], ...]
    trials: tuple[int, ...]

    def active(self, setting: Mapping[str, Scalar], names: list[str]) -> list[World]:
        """The worlds over some names that a setting allows."""

        def choose(item: Hyperparameter) -> list[Scalar | Other]:
            if item.name in setting:
                return [setting[item.name]] if can_take(item, setting[item.name]) else []
            return self.conditions.telling_values(item, _TUNED_FROM if item.name == "optimizer" else ())

        return list(self.conditions.worlds([*names, *setting], choose=choose))

    def warn(self, item: Hyperparameter, message: str) -> Problem:
        return self.spec.problem(item.path, message, at_key=True)

    def dimensions(self, setting: Mapping[str, Scalar]) -> int:
        """How many nuisance dimensions a setting has: hyperparameters that are never active side by side are one."""
        columns: list[list[Hyperparameter]] = []
        for item in self.spec.hyperparameters:
            if item.role != "nuisance" or not self.conditions.together(item, given=setting):
                continue
            for column in columns:
                if not any(self.conditions.together(item, other, given=setting) for other in column):
                    column.append(item)
                    break
            else:
                columns.append([item])
        return len(columns)

    def describe(self, setting: Mapping[str, Scalar]) -> str:
        named = [f"{name} is {quoted(value)}" for name, value in setting.items()]
        listed = ", ".join([*named[:_MOST_NAMED], *(["…"] if len(named) > _MOST_NAMED else [])])
        return f" where {listed}" if listed else ""


def _scientific(spec: StudySpec) -> list[Hyperparameter]:
    return [item for item in spec.hyperparameters if item.role == "scientific"]


def _batch_size_as_nuisance(context: _Context) -> list[Problem]:
    reason = (
        "batch_size as nuisance: it changes the cost of a trial and the best learning rate, momentum and "
        "regularisation with it; "
        "fix it to what the hardware trains fastest, or make it scientific"
    )
    return [context.warn(item, reason) for item in context.spec.alternatives("batch_size") if item.role == "nuisance"]


def _learning_rate_as_scientific(context: _Context) -> list[Problem]:
    reason = (
        "learning_rate as scientific: its best value depends on nearly everything else, so it is almost always a "
        "nuisance; mark it role: nuisance"
    )
    return [
        context.warn(item, reason) for item in context.spec.alternatives("learning_rate") if item.role == "scientific"
    ]


def _untuned_optimizer(context: _Context) -> list[Problem]:
    """Where a study compares optimizers, each one's own hyperparameters are nuisances as far as the budget allows."""
    named = context.spec.alternatives("optimizer")
    above = [
        item
        for name in context.conditions.ancestors(["optimizer"])
        for item in context.conditions.by_name[name]
        if item.role == "scientific"
    ]
    by_setting = [_optimizers_in(context, setting) for setting in context.settings]
    if not above or len({optimizer for optimizers in by_setting for optimizer in optimizers}) < 2:
        return []
    untuned: dict[tuple[str, str], tuple[Hyperparameter | None, int]] = {}
    for setting, trials, optimizers in zip(context.settings, context.trials, by_setting, strict=True):
        share = trials // max(len(optimizers), 1)  # those sampled within a setting divide its trials
        for optimizer in optimizers:
            for name, least in _TUNED_FROM[optimizer].items():
                if share < least or (name, optimizer) in untuned:
                    continue
                tuned, item = _tuned(context, setting, optimizer, name)
                if not tuned:
                    untuned[name, optimizer] = (item, share)
    chosen = next((item for item in named if item.role == "scientific"), named[0])
    subject = "the optimizer is scientific" if chosen.role == "scientific" else "the settings compare optimizers"
    return _say_untuned(context, untuned, chosen, subject)


def _tuned(
    context: _Context, setting: Mapping[str, Scalar], optimizer: str, name: str
) -> tuple[bool, Hyperparameter | None]:
    """Whether a name varies under an optimizer in a setting, and if not what fixes it."""
    # Its condition may name the optimizer although the optimizer is sampled within the setting.
    worlds = [
        world for world in context.active(setting, ["optimizer", name]) if world.values.get("optimizer") == optimizer
    ]
    active = [world.active[name] for world in worlds if name in world.active]
    return any(_can_differ(item) for item in active), next(iter(active), None)


def _say_untuned(
    context: _Context,
    untuned: Mapping[tuple[str, str], tuple[Hyperparameter | None, int]],
    optimizer: Hyperparameter,
    subject: str,
) -> list[Problem]:
    """One warning for each entry that fixes something, and one for all that is left out."""
    entries: dict[PathKey, list[tuple[str, str, Hyperparameter | None, int]]] = {}
    for (name, under), (item, trials) in untuned.items():
        entries.setdefault(item.path if item else (), []).append((name, under, item, trials))
    problems = []
    for found in entries.values():
        unders: dict[str, list[str]] = {}
        for name, under, _, _ in found:
            unders.setdefault(name, []).append(under)
        item, trials = found[0][2], min(trials for *_, trials in found)
        parts = [f"be tuned under {' and '.join(names)}" for names in unders.values()]
        what = f"it {parts[0]}" if len(parts) == 1 else ", ".join(map(" ".join, zip(unders, parts, strict=True)))
        message = (
            f"{' and '.join(unders)} {'is' if len(unders) == 1 else 'are'} {'fixed' if item else 'left out'} while "
            f"{subject}: {counted(trials, 'trial')} {'lets' if trials == 1 else 'let'} {what}, and a comparison is "
            "fair only when each optimizer is tuned as well as the other; make "
            f"{'it a nuisance' if len(unders) == 1 else 'them nuisances'}"
        )
        problems.append(context.warn(item or optimizer, message))
    return problems


def _optimizers_in(context: _Context, setting: Mapping[str, Scalar]) -> list[str]:
    values = dict.fromkeys(world.values.get("optimizer") for world in context.active(setting, ["optimizer"]))
    return [value for value in values if isinstance(value, str) and value in _TUNED_FROM]


def affordable_dimensions(trials: int) -> int:
    """How many nuisance hyperparameters so many trials tune: 1 below 10, 2 below 25, 3 below 50, 4 below 100, ..."""
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
        dimensions = context.dimensions(setting)
        most = affordable_dimensions(trials)
        if dimensions > most and (worst is None or dimensions > worst[0]):
            message = (
                f"{counted(dimensions, 'nuisance hyperparameter')}{context.describe(setting)} on "
                f"{counted(trials, 'trial')}: so few cover about {most} "
                "(below 10 trials the learning rate only, 10 to 24 also beta1 or momentum, 25 and more also epsilon, "
                "well above that beta2); "
                "raise trials, or fix the least sensitive ones"
            )
            worst = (dimensions, context.spec.problem(("search", "trials"), message))
    return [worst[1]] if worst else []


def _can_differ(item: Hyperparameter) -> bool:
    """Whether two trials can differ in it: a set of one value is a fixed value in other words."""
    return item.varies and not (isinstance(item.domain, ValueSet) and len(item.domain.values) == 1)


def _wants_log_scale(context: _Context) -> list[Problem]:
    return [
        context.warn(
            item,
            f"{item.name} on a linear scale: what counts is its order of magnitude, and half of the trials go to the "
            "upper half of the range; write scale: log"
            + (" from above 0, and make none at all a scientific switch" if item.domain.low == 0 else ""),
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
    fixed = [item for item in rates if not _can_differ(item)]
    if not scientific or not fixed:
        return []
    names = ", ".join(dict.fromkeys(item.name for item in scientific))
    message = (
        f"learning_rate is fixed while {names} is scientific: its best value depends on nearly everything, so the "
        "comparison favours whatever suits this one; "
        "make it a nuisance"
    )
    return [context.warn(fixed[0], message)]


def _fixed_regularisation(context: _Context) -> list[Problem]:
    sizes = [item.name for item in _scientific(context.spec) if item.name in _SIZES]
    if not sizes:
        return []
    message = (
        f"{{}} is fixed while {', '.join(dict.fromkeys(sizes))} is scientific: the best strength of regularisation "
        "changes with batch and model size; "
        "make it a nuisance"
    )
    return [
        context.warn(item, message.format(item.name))
        for item in context.spec.hyperparameters
        if regularises(item.name) and isinstance(item.domain, FixedValue) and not is_off(item.domain.value)
    ]


def _unequal_dimensions(context: _Context) -> list[Problem]:
    if len(set(context.trials)) != 1 or len(context.settings) < 2:
        return []
    counts = [context.dimensions(setting) for setting in context.settings]
    if len(set(counts)) == 1:
        return []
    most, least = counts.index(max(counts)), counts.index(min(counts))
    message = (
        "settings with unequal numbers of nuisance hyperparameters on equal trials: "
        f"{max(counts)}{context.describe(context.settings[most])}, "
        f"{min(counts)}{context.describe(context.settings[least])}; the one with more is tuned less well, so give "
        "all the same number or raise trials"
    )
    return [context.spec.problem(("search", "trials"), message)]


def _small_evaluation_batches(context: _Context) -> list[Problem]:
    for world in context.conditions.worlds(["eval_batch_size", "batch_size"]):
        evaluation = world.active.get("eval_batch_size")
        if evaluation is None:
            continue
        largest = max(_taken(world, "batch_size"), default=BATCH_SIZE)
        if min(_taken(world, "eval_batch_size")) >= largest:
            continue
        message = (
            f"evaluation batches smaller than training batches ({largest:,.10g}): evaluating needs no gradients, so "
            "larger ones fit and cost less; "
            f"leave eval_batch_size out (the larger of batch_size and {EVAL_BATCH_SIZE})"
        )
        return [context.warn(evaluation, message)]
    return []


def _gradient_accumulation(context: _Context) -> list[Problem]:
    # "Determining the feasible batch sizes and estimating training throughput": to be avoided in applied work.
    reason = (
        "gradient accumulation: it imitates a batch that does not fit into memory and trains no faster for it; leave "
        "accumulate_steps out and take the batch_size that fits, unless a larger trial is to be repeated as it was"
    )
    found = context.spec.alternatives("accumulate_steps")
    return [context.warn(item, reason) for item in found if max(_numbers(item), default=0) > 1]


def _taken(world: World, name: str) -> list[float]:
    """The numbers that a name may take in a world, none where it is not active."""
    value = world.values.get(name)
    if isinstance(value, (int, float)):
        return [value]
    return _numbers(world.active[name]) if name in world.active else []


def _nothing_sampled(context: _Context) -> list[Problem]:
    trials = context.spec.search.trials or 1
    if (
        trials == 1
        or context.spec.search.sampler not in ("halton", "random")
        or any(item.has_coordinate and _can_differ(item) for item in context.spec.hyperparameters)
    ):
        return []
    message = (
        f"nothing is sampled, so the {trials:,} trials of a setting differ by their seed alone; leave trials out, or "
        "mark something as nuisance"
    )
    return [context.spec.problem(("search", "trials"), message)]


def _rare_evaluations(context: _Context) -> list[Problem]:
    training = context.spec.training
    # A prepended warmup makes a trial longer.
    warmup = max((number for item in context.spec.alternatives("warmup_steps") for number in _numbers(item)), default=0)
    if training.eval_every <= training.max_train_steps + warmup:
        return []
    message = (
        f"eval_every ({training.eval_every:,}) is more than max_train_steps ({training.max_train_steps:,}): only the "
        "last step would be evaluated, so no curve shows how the training went; write a smaller eval_every"
    )
    return [context.spec.problem(("training", "eval_every"), message)]


def _numbers(item: Hyperparameter) -> list[float]:
    if isinstance(item.domain, Range):
        return [item.domain.low, item.domain.high]
    values = item.domain.values if isinstance(item.domain, ValueSet) else (item.domain.value,)
    return [float(value) for value in values if isinstance(value, (int, float))]
