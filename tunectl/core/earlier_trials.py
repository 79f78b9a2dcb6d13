"""The trials of an earlier study from which the points of a study are proposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tunectl.core.objective import Objective
from tunectl.core.records import Scalar, State
from tunectl.core.wording import counted


@dataclass(frozen=True, slots=True)
class EarlierTrial:
    """A trial of an earlier study that has ended: completed or infeasible.

    `value` is its best value under the objective of the new study, `step` its last one.
    """

    folder: str
    trial: int
    hyperparameters: Mapping[str, Scalar]
    state: State
    value: float | None
    step: int | None


@dataclass(frozen=True, slots=True)
class EarlierTrials:
    """The trials from which a study starts, all inside its space.

    `setting` names the one of the earlier study in words, "" where it has one. `left_out` are the numbers of its other
    trials, by the reason.
    """

    folder: str
    setting: str
    trials: tuple[EarlierTrial, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def best(self, objective: Objective) -> EarlierTrial | None:
        """The completed one with the best value, of equal ones the first; None without any value."""
        completed = [item for item in self.trials if item.state == "completed" and item.value is not None]
        return min(completed, key=lambda item: objective.cost(item.value), default=None)

    def in_words(self) -> str:
        """What the study starts from, in a line."""
        lost = sum(item.state == "infeasible" for item in self.trials)
        infeasible = f" ({lost} infeasible)" if lost else ""
        of = f" of {self.setting}" if self.setting else ""
        out = ", ".join(f"{number} where {reason}" for reason, number in self.left_out.items())
        left = f"; left out: {out}" if out else ""
        return f"points are proposed from {counted(len(self.trials), 'trial')}{infeasible}{of} in {self.folder}{left}"
