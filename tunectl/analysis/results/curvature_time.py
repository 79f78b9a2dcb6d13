"""How long the curvature was measured in the trials of a study, beside the time of their training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.records import TrialOutcome

SECONDS = CURVATURE.column("seconds")
"""The metric with the duration of each measurement."""


@dataclass(frozen=True, slots=True)
class CurvatureTime:
    """Seconds of measuring and of training, each a sum over the trials that measured and have ended."""

    seconds: float
    train_seconds: float

    @property
    def share(self) -> float:
        """The time of measuring as a part of the time of training; infinite where nothing was trained."""
        return self.seconds / self.train_seconds if self.train_seconds > 0 else math.inf

    def to_json(self) -> dict[str, Any]:
        """The sums as a JSON object."""
        share = self.share if math.isfinite(self.share) else None
        return {"seconds": self.seconds, "train_seconds": self.train_seconds, "share": share}


def curvature_time(measured: Mapping[int, float], outcomes: Sequence[TrialOutcome]) -> CurvatureTime | None:
    """The sums over the trials; None where none measured its curvature.

    `measured` has the seconds of measuring by trial, of those trials that measured.
    """
    ended = [(measured[item.plan.trial], item.train_seconds) for item in outcomes if item.plan.trial in measured]
    known = [(seconds, trained) for seconds, trained in ended if trained is not None]
    if not known:
        return None
    return CurvatureTime(math.fsum(seconds for seconds, _ in known), math.fsum(trained for _, trained in known))
