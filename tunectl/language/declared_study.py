"""What the checks of a command and of a factory need of a study: as much of it as could be read."""

from __future__ import annotations

from typing import Protocol

from tunectl.core.errors import PathKey, Problem
from tunectl.space.hyperparameters import Hyperparameter


class DeclaredStudy(Protocol):
    """A study, or the part of it that could be read; `names` are all names under hyperparameters."""

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def problem(self, path: PathKey, message: str, *, at_key: bool = False) -> Problem: ...
