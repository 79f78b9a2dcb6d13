"""What `lr-sweep` is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunectl.core.errors import UsageError
from tunectl.core.records import Scalar
from tunectl.core.scalars import scalar
from tunectl.procedures.procedure import ProcedureOptions, SweepSpec


@dataclass(frozen=True)
class LrSweepOptions(ProcedureOptions):
    """The options of `lr-sweep`.

    `low`, `high` and `points` replace the ends of the grid and the number of its rates, `steps` the study's
    max_train_steps. `constant` trains at constant rates. `follow_up` also trains above the best rate and under fresh
    seeds. `find_max_train_steps` also looks for the number of steps in which the training set is fitted perfectly: by
    `fit_metric` at `fit_threshold`, with the hyperparameters of `off` at these values.
    """

    low: float | None = None
    high: float | None = None
    points: int | None = None
    constant: bool = False
    steps: int | None = None
    follow_up: bool = True
    find_max_train_steps: bool = False
    fit_metric: str | None = None
    fit_threshold: float | None = None
    off: Mapping[str, Scalar] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The options as procedure.json keeps them; without `off` where it is empty, as earlier versions wrote them."""
        content = super().to_json()
        if not self.off:
            del content["off"]
        return content


LrSweep = SweepSpec[LrSweepOptions]


def fit_of(text: str | None) -> tuple[str | None, float | None]:
    """The metric and the threshold of `--fit METRIC=VALUE`; raises UsageError where the text is not of this form."""
    if text is None:
        return None, None
    metric, _, value = text.partition("=")
    threshold = scalar(value)
    if "/" not in metric or isinstance(threshold, (bool, str)) or threshold is None:
        raise UsageError(f"--fit {text}: expected METRIC=VALUE, such as train/loss=0.01")
    return metric, float(threshold)
