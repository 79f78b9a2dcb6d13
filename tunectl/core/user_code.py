"""A class or a function that a study names for a part of training, such as its optimizer: `module:Name`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType, TypeGuard

from tunectl.core.records import FactorySignature, Scalar, WorkloadReference

CodeName = NewType("CodeName", str)
"""The text by which a study names code: `torch.optim:Muon`, `./mine.py:Lion`."""


def is_code(value: object) -> TypeGuard[CodeName]:
    """Whether a value is such a text and not one of tunectl's own names, none of which has a colon."""
    return isinstance(value, str) and ":" in value


@dataclass(frozen=True, slots=True)
class FoundCode:
    """The code that a study names: where it is, and what it takes besides its first parameter."""

    reference: WorkloadReference
    signature: FactorySignature


@dataclass(frozen=True, slots=True)
class UsedCode:
    """The code that a trial uses, and the hyperparameters that are passed to it, by the study's names.

    `if_taken` are passed only where it takes them: its source does not show that, and other parts use them, too.
    """

    reference: WorkloadReference
    arguments: Mapping[str, Scalar]
    if_taken: Mapping[str, Scalar] = field(default_factory=dict)
