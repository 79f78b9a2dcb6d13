"""The measures of curvature that depend on the optimizer: its eigenvalue against its bound, and its critical rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.stability_bounds import Bound, stability_bound
from tunectl.training.curvature.eigenvalue_searches import EigenvalueSearches, Estimate
from tunectl.training.curvature.hessian_products import HessianProducts
from tunectl.training.curvature.lanczos import Product
from tunectl.training.curvature.preconditioners import l2_terms, preconditioner
from tunectl.training.given_groups import has_own_options

PRECONDITIONED = "preconditioned_lambda_1"
WITH_DECAY = "lambda_1_with_decay"


@dataclass(frozen=True, slots=True)
class NextStep:
    """The update that follows a measurement: how many were made before it, its learning rate, and the optimizer before
    it.
    """

    optimizer: torch.optim.Optimizer
    configuration: TrainingConfiguration
    learning_rate: float
    step: int


@dataclass(frozen=True, slots=True)
class OptimizerMeasures:
    """Measures against the optimizer of the next step; `plain` is the estimate of the Hessian's largest eigenvalue."""

    following: NextStep
    products: HessianProducts
    parameters: list[torch.nn.Parameter]
    searches: EigenvalueSearches
    tolerance: float
    plain: Estimate | None
    with_preconditioner: bool

    def metrics(self) -> dict[str, float]:
        """The preconditioned eigenvalue, the bound, and the ratios, as far as each is known.

        None is where groups of parameters have options of their own: one rate and one rule are bounded.
        """
        following = self.following
        if has_own_options(following.optimizer):
            return {}
        bound = stability_bound(following.configuration, following.learning_rate, following.step)
        found: dict[str, float] = {}
        estimate, root = self.plain, None
        if self.with_preconditioner:
            known = preconditioner(following.optimizer, self.parameters, following.configuration)
            scaled = None
            if known is not None:
                root = known.inverse_root
                scaled = self._search(PRECONDITIONED, _scaled(self.products.product, root))
                if scaled is not None:
                    found |= scaled.metrics(PRECONDITIONED)
                    if known.first_moment_correction:
                        found[f"{PRECONDITIONED}_early"] = scaled.value / known.first_moment_correction
            if bound.eigenvalue == PRECONDITIONED:
                estimate = scaled
        elif bound.eigenvalue == PRECONDITIONED:
            estimate = None
        return found | self._against(bound, estimate, root)

    def _against(self, bound: Bound, estimate: Estimate | None, root: Tensor | None) -> dict[str, float]:
        """The bound, and the eigenvalue that it is about as a multiple of it and of the paper's line."""
        if estimate is None or bound.eigenvalue is None:
            return {}
        found: dict[str, float] = {}
        paper_ratio = bound.paper_ratio(estimate.value)
        if paper_ratio is not None:
            found["paper_ratio"] = paper_ratio
        if bound.with_decay:
            decayed = self._with_decay(estimate, root if bound.eigenvalue == PRECONDITIONED else None)
            if decayed is None:
                return found
            found |= decayed.metrics(WITH_DECAY)
            estimate = decayed
        ratio = bound.ratio(estimate.value)
        if ratio is not None and bound.value is not None:
            found["ratio"] = ratio
            # At rate 0 every eigenvalue is below the bound.
            found |= {"bound": bound.value} if math.isfinite(bound.value) else {}
        return found

    def _with_decay(self, plain: Estimate, root: Tensor | None) -> Estimate | None:
        """The largest eigenvalue of the Hessian with the optimizer's L2 term, preconditioned where `root` is given."""
        following = self.following
        diagonal = l2_terms(following.optimizer, self.parameters, following.configuration)
        if diagonal is None:
            return plain
        if root is not None:
            diagonal = diagonal * root * root
        least, most = float(diagonal.min()), float(diagonal.max())
        if least == most:
            # A multiple of the identity: the vectors are the same.
            return replace(plain, value=plain.value + most, products=0)
        if most <= self.tolerance / 2 * abs(plain.value) and plain.converged:
            # By Weyl's inequality the largest eigenvalue grows by at most `most`, and by v'Dv of its vector v at least.
            grown = float(plain.vector @ (diagonal * plain.vector))
            return replace(plain, value=plain.value + grown, residual=plain.residual + most, products=0)
        scaled = self.products.product if root is None else _scaled(self.products.product, root)
        return self._search(WITH_DECAY, lambda vector: scaled(vector) + diagonal * vector)

    def _search(self, name: str, product: Product) -> Estimate | None:
        return self.searches.run(name, product, self.products, self.following.step)


def _scaled(product: Product, root: Tensor) -> Product:
    """D^-1/2 H D^-1/2, where `root` [n] is the diagonal of D^-1/2."""
    return lambda vector: root * product(root * vector)
