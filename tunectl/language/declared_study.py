"""What the checks of a command and of a factory need of a study: as much of it as could be read."""

from __future__ import annotations

from typing import Protocol

from tunectl.core.errors import PathKey, Problem
from tunectl.space.hyperparameters import Hyperparameter


class DeclaredStudy(Protocol):
    """A study, or the part of it that could be read; `names` are all names under hyperparameters."""

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """Its hyperparameters, in the order of the file."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, each once."""
        ...

    def problem(self, path: PathKey, message: str, *, at_key: bool = False) -> Problem:
        """A problem with what is at `path` in the file."""
        ...
