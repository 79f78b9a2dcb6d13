"""A hyperparameter: its role, its domain, and the condition under which it is active."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tunectl.core.errors import PathKey
from tunectl.core.records import Scalar
from tunectl.space.domains import Domain, is_among

Role = Literal["scientific", "nuisance", "fixed"]

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
        return self.varies and not self.makes_settings


def active(alternatives: Iterable[Hyperparameter], values: Mapping[str, Scalar]) -> Hyperparameter | None:
    """The alternative of a name that is active where the hyperparameters have these values; None where none is."""
    return next((item for item in alternatives if holds(item.when, values)), None)
