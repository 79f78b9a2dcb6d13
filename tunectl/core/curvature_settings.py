"""When and how a trial measures the curvature of its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CurvatureMeasure = Literal[
    "lambda_1", "preconditioned", "critical_learning_rate", "directional", "lambda_min", "gradient_quotient"
]
"""What can be measured of a loss's curvature; the metrics of each are in measurement_kinds.CURVATURE."""
CurvatureMode = Literal["train", "eval"]


@dataclass(frozen=True, slots=True)
class CurvatureSettings:
    """`training: curvature:`: when and how a trial measures the curvature of its loss.

    It is measured after 0, `every`, 2 `every`, ... updates, or after those numbers of updates that are in `at`; one of
    the two is given. `examples` of the train split, the same in every trial, are measured. `tolerance` is that of the
    residual of an eigenvalue, as a part of the largest Ritz value in size; `max_products` bounds the Hessian-vector
    products of one measurement of one eigenvalue. `eigenvalues` is how many of the largest are measured. In mode
    `train`, layers of batch normalisation are in training mode and all others in evaluation mode.
    """

    every: int | None = None
    at: tuple[int, ...] = ()
    measures: tuple[CurvatureMeasure, ...] = ("lambda_1", "preconditioned", "critical_learning_rate", "directional")
    examples: int = 1024
    tolerance: float = 1e-3
    max_products: int = 40
    mode: CurvatureMode = "train"
    eigenvalues: int = 1

    def is_at(self, step: int) -> bool:
        """Whether it is measured after `step` updates."""
        return step in self.at or (self.every is not None and step % self.every == 0)


COLD_EVERY = 10
"""Every tenth search for an eigenvalue begins at a random vector, and not at the vectors of the last one."""
