"""The searches for eigenvalues during a trial: each begins where the last one of the same name ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tunectl.core.curvature_settings import COLD_EVERY, CurvatureSettings
from tunectl.core.measurement_kinds import search_metric
from tunectl.training.curvature.hessian_products import HessianProducts
from tunectl.training.curvature.lanczos import Product, largest_eigenvalues
from tunectl.training.seeds import Purpose, sequence

_MOST_BASIS_BYTES = 2**31
"""The memory that the vectors of one search may take. A constant, and not a part of what is free at the moment, so that
a trial that was killed and resumed measures the same.
"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The largest eigenvalue as far as it was found, and those after it, in descending order.

    `residual` is the largest |Hv - value v| of all of them. `vector` is that of the largest, shape [n]. `is_cold`: the
    search began at a random vector.
    """

    value: float
    residual: float
    products: int
    converged: bool
    is_cold: bool
    vector: Tensor
    further: tuple[float, ...] = ()

    def metrics(self, name: str) -> dict[str, float]:
        """Value, residual, products and convergence, which are never given apart; `name` is the value's."""
        return {
            name: self.value,
            search_metric(name, "residual"): self.residual,
            search_metric(name, "products"): float(self.products),
            search_metric(name, "converged"): float(self.converged),
        }

    def opposite(self) -> Estimate:
        """The estimate for the matrix with the opposite sign: of its smallest eigenvalue."""
        return replace(self, value=-self.value, further=tuple(-value for value in self.further))


class EigenvalueSearches:
    """Searches for the largest eigenvalues of matrices that change little between two measurements."""

    def __init__(self, settings: CurvatureSettings, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._starts: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def state(self) -> dict[str, Any]:
        """The vectors at which the next searches begin, by name, on the CPU, and how many searches there were."""
        return {"starts": {name: start.cpu() for name, start in self._starts.items()}, "counts": dict(self._counts)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""
        self._starts, self._counts = dict(state["starts"]), dict(state["counts"])

    def run(
        self, name: str, product: Product, products: HessianProducts, step: int, *, count: int = 1
    ) -> Estimate | None:
        """The `count` largest eigenvalues of the matrix of this name, by its products with vectors, at this step.

        Gives None where a product is not finite.
        """
        searches = self._counts.get(name, 0)
        start = self._starts.get(name) if searches % COLD_EVERY else None
        if start is not None and start.shape[-1] != products.size:
            start = None  # the trial goes on with another set of trained weights
        # Another random part at every step: what one misses, the next one may find.
        words = sequence(self._seed, Purpose.CURVATURE, step, *name.encode()).generate_state(2)
        found = largest_eigenvalues(
            product,
            products.size,
            start=start,
            generator=torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1])),
            count=count,
            tolerance=self._settings.tolerance,
            max_products=self._settings.max_products,
            gradient_norm=float(torch.linalg.vector_norm(products.gradient)),
            max_vectors=max(count + 3, _MOST_BASIS_BYTES // (8 * max(products.size, 1))),
            device=products.gradient.device,
        )
        if not found.values:
            return None
        # In float32: half of the memory, and of the state that is saved.
        self._starts[name], self._counts[name] = found.vectors.to(torch.float32), searches + 1
        return Estimate(
            value=found.values[0],
            residual=max(found.residuals),
            products=found.products,
            converged=found.converged,
            is_cold=start is None,
            vector=found.vectors[0],
            further=found.values[1:],
        )
