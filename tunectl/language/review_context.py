"""What the checks of a study's design use: the study, its conditions, its settings, and the trials of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunectl.core.errors import Problem
from tunectl.core.records import Scalar
from tunectl.core.wording import quoted
from tunectl.language.code_arguments import code_of
from tunectl.language.optimizer_traits import OPTIMIZERS
from tunectl.language.study_spec import StudySpec
from tunectl.space.conditions import Combination, Conditions, Other
from tunectl.space.hyperparameters import Hyperparameter

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Context:
    """A study with its conditions; for each setting `settings` has the scientific values, `trials` how many it gets."""

    spec: StudySpec
    conditions: Conditions
    settings: tuple[Mapping[str, Scalar], ...]
    trials: tuple[int, ...]

    def active(self, setting: Mapping[str, Scalar], names: list[str]) -> list[Combination]:
        """The combinations over some names that a setting allows."""

        def choose(item: Hyperparameter) -> list[Scalar | Other]:
            if item.name in setting:
                return [setting[item.name]] if item.domain.can_meet(setting[item.name]) else []
            return self.conditions.distinct_values(
                item, (*OPTIMIZERS, *code_of(self.spec.code, "optimizer")) if item.name == "optimizer" else ()
            )

        return list(self.conditions.combinations([*names, *setting], choose=choose))

    def warn(self, item: Hyperparameter, message: str) -> Problem:
        """A warning at the name of a hyperparameter."""
        return self.spec.problem(item.path, message, at_key=True)

    def dimensions(self, setting: Mapping[str, Scalar]) -> int:
        """The number of nuisance dimensions of a setting: hyperparameters that are never active together count once."""
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
        """A setting in words, with at most a few of its values."""
        named = [f"{name} is {quoted(value)}" for name, value in setting.items()]
        listed = ", ".join([*named[:_MOST_NAMED], *(["…"] if len(named) > _MOST_NAMED else [])])
        return f" where {listed}" if listed else ""


def scientific(spec: StudySpec) -> list[Hyperparameter]:
    """The hyperparameters that the study asks about."""
    return [item for item in spec.hyperparameters if item.role == "scientific"]


def is_tuned(spec: StudySpec, item: Hyperparameter) -> bool:
    """Whether it is a nuisance, or computed from one that varies."""
    names = list(item.formula.names) if item.formula is not None else []
    for name in names:  # grows while it is walked
        for other in spec.alternatives(name):
            names += [inner for inner in (other.formula.names if other.formula else ()) if inner not in names]
    return item.role == "nuisance" or any(
        other.role == "nuisance" and other.varies for name in names for other in spec.alternatives(name)
    )


def can_differ(item: Hyperparameter) -> bool:
    """Whether two trials can differ in it: a set of one value is a fixed value in other words."""
    return item.domain.listed is None or len(item.domain.listed) > 1


def numbers(item: Hyperparameter) -> list[float]:
    """The numbers among its values: the ends of a range, the values of a set."""
    return list(item.domain.numbers)


def taken(combination: Combination, name: str) -> list[float]:
    """The numbers that a name may take in a combination, none where it is not active."""
    value = combination.values.get(name)
    if isinstance(value, (int, float)):
        return [value]
    return numbers(combination.active[name]) if name in combination.active else []
