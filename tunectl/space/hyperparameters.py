"""A hyperparameter: its role, its domain, and the condition under which it is active."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tunectl.core.errors import PathKey
from tunectl.core.records import Scalar
from tunectl.space.domains import Derived, Domain, SampledDomain, is_among
from tunectl.space.formulas import Formula

Role = Literal["scientific", "nuisance", "fixed", "derived"]
"""A study file gives the first three; a hyperparameter with a formula is derived."""

Condition = Mapping[str, tuple[Scalar, ...]]
"""`when`: for each parent's name the values under which the hyperparameter is active; all names must hold. {} is
always.
"""


def holds(when: Condition, values: Mapping[str, object]) -> bool:
    """Whether a condition holds where the active hyperparameters have these values: 1 and 1.0 are the same, true and 1
    are not.
    """
    return all(parent in values and is_among(values[parent], wanted) for parent, wanted in when.items())


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One alternative of a name: a role, a domain, and the condition under which it is active.

    `key` names it in findings and axes: `momentum`, or `learning_rate[optimizer=adam]` where the name has alternatives.
    `path` is where it is in the study file. `sampled`: a scientific set sampled within each setting. `off`: the
    value at which regularisation or augmentation is off, None where the study does not say.
    """

    name: str
    key: str
    role: Role
    domain: Domain
    when: Condition = field(default_factory=dict)
    sampled: bool = False
    path: PathKey = ()
    off: Scalar | None = None

    @property
    def varies(self) -> bool:
        """Whether it has more than one fixed value."""
        return self.domain.varies

    @property
    def makes_settings(self) -> bool:
        """Whether its values make the settings of the study (and it has no coordinate)."""
        return self.role == "scientific" and self.varies and not self.domain.is_ordered and not self.sampled

    @property
    def has_coordinate(self) -> bool:
        """Whether its value is sampled within each setting."""
        return self.varies and not self.makes_settings and self.formula is None

    @property
    def sampled_domain(self) -> SampledDomain:
        """The domain of one that has no formula: with places on a scale, or in a list."""
        assert not isinstance(self.domain, Derived), "a formula is computed, not sampled"
        return self.domain

    @property
    def formula(self) -> Formula | None:
        """The formula from which its value is computed, None where it has none."""
        return self.domain.formula if isinstance(self.domain, Derived) else None


def active(alternatives: Iterable[Hyperparameter], values: Mapping[str, Scalar]) -> Hyperparameter | None:
    """The alternative of a name that is active where the hyperparameters have these values; None where none is."""
    return next((item for item in alternatives if holds(item.when, values)), None)


def names_used(hyperparameters: Iterable[Hyperparameter]) -> frozenset[str]:
    """The names in conditions and in formulas: the study itself uses them, whatever its code does."""
    found: set[str] = set()
    for item in hyperparameters:
        found.update(item.when, item.formula.names if item.formula is not None else ())
    return frozenset(found)


def derived_among(items: Iterable[tuple[str, Hyperparameter]]) -> dict[str, tuple[PathKey, Derived]]:
    """The paths and domains of those hyperparameters, given by name, that are derived."""
    return {name: (item.path, item.domain) for name, item in items if isinstance(item.domain, Derived)}
