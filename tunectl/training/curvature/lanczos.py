"""The largest eigenvalues of a symmetric matrix that is known by its products with vectors: Lanczos' method.

A small residual |Hv - θv| proves that some eigenvalue is near θ, but not that it is the largest: a start with almost no
part in the direction of the largest eigenvalue first finds a smaller one. So a second condition has to hold before an
estimate is called converged. After m products, the next Lanczos vector is q = p(H) s / |p(H) s|: s is the start, of
norm 1, p has its zeros at the Ritz values, and |p(H) s| is the product of all off-diagonal entries β. An eigenvector u
of an eigenvalue λ has the part u's in the start, and the part u'q = p(λ) / |p(H) s| · u's in q, which is at most 1. As
the start has a random normal part, |u's| is below a small δ only with a small probability; where p(t) / |p(H) s| ≥ 1/δ
there is, but for that probability, no eigenvalue at t or above. This needs no further products. Van Dorsselaer,
Hochstenbach and van der Vorst, "Computing probabilistic bounds for extreme eigenvalues of symmetric matrices with the
Lanczos method", SIAM J. Matrix Anal. Appl. 22 (2000).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""The product of a symmetric matrix with a vector: float64 [n] to float64 [n]; its argument is not to be changed."""

_CHANCE = 1e-4
"""The largest probability with which a larger eigenvalue stays hidden from an estimate that is called converged."""
_WARM_WEIGHT = 3.0
"""The norm of the part of the old vector in a warm start, as a multiple of that of the random part."""
_ROUNDING = 1e-13
"""An off-diagonal entry at or below this part of the largest Ritz value in size is a rounding error."""
_ZERO = 1e-12
"""A matrix whose Ritz values are all below this part of the gradient's norm is zero but for rounding errors."""
_BLOCK = 2**20
"""The number of columns that are transformed at once, so that a basis is replaced without a second one in memory."""


@dataclass(frozen=True, slots=True)
class Eigenvalues:
    """The largest eigenvalues of a matrix, as far as they were found.

    `values` are in descending order, `residuals` the |Hv - value v| of each with its vector v, `vectors` [k, n] the
    orthonormal vectors in float64. There are as many as were asked for, or fewer where there were fewer products or
    dimensions. All three are empty where a product was not finite: then nothing is known. `products` is the number of
    calls of the product function. `converged`: all values that were asked for are within the tolerance; otherwise they
    are the best estimates so far, usually too small.
    """

    values: tuple[float, ...]
    residuals: tuple[float, ...]
    products: int
    converged: bool
    vectors: Tensor


def largest_eigenvalues(
    product: Product,
    size: int,
    *,
    start: Tensor | None,
    generator: torch.Generator,
    count: int = 1,
    tolerance: float = 1e-3,
    max_products: int = 40,
    gradient_norm: float = 0.0,
    max_vectors: int | None = None,
    device: torch.device | str = "cpu",
) -> Eigenvalues:
    """The `count` largest (algebraic) eigenvalues of a symmetric matrix of dimension `size`.

    They are converged where every residual is at most `tolerance` times the largest Ritz value in size, and no larger
    eigenvalue, repeated ones included, was missed by more than that; the second holds with a probability of 0.9999.
    A matrix that is zero but for rounding errors (all Ritz values below 1e-12 `gradient_norm`) is converged, too. The
    smallest eigenvalue is minus the largest one of the matrix with the opposite sign.

    Args:
        product: The product of the matrix with a vector [size].
        size: The dimension of the matrix.
        start: Vectors of an earlier, similar matrix, [size] or [k, size], of any real dtype; None starts from a random
            vector. A random part is added, so that a vector that is an eigenvector still does not hide a larger
            eigenvalue. A start that is zero or not finite counts as None.
        generator: The source of all random numbers, on any device. Give it another seed for every matrix that is
            started from the vectors of an earlier one: what the same random part missed then, it misses again.
        count: The number of eigenvalues. Above 1 about twice as many products are needed: a repeated eigenvalue is seen
            only from a second start.
        tolerance: The error that is allowed, as a part of the largest eigenvalue in size.
        max_products: The largest number of products, over all eigenvalues together.
        gradient_norm: The norm of the gradient, which gives the scale of rounding errors.
        max_vectors: The largest number of vectors [size] that are held as a basis; None holds as many as there are
            products. At least `count` + 3.
        device: Where the vectors are.

    Raises:
        ValueError: `max_vectors` is below `count` + 3, or `start` is not of this size.
    """
    if max_vectors is not None and max_vectors < count + 3:
        raise ValueError(f"max_vectors: expected at least {count + 3} for {count} eigenvalues, got {max_vectors}")
    if start is not None and start.shape[-1:] != (size,):
        raise ValueError(f"start: expected vectors of size {size}, got shape {list(start.shape)}")
    wanted = min(count, size)
    room = min(size, max_products + wanted, max_vectors or size)
    basis = _Basis(torch.empty(room, size, dtype=torch.float64, device=device), generator, gradient_norm)
    search = _Search(basis, wanted, tolerance)
    if size:
        basis.begin(start)
    for _ in range(max_products if size else 0):
        if not basis.extend(product):
            return Eigenvalues((), (), basis.products, False, basis.rows[:0].clone())
        if search.is_complete():
            return search.result(converged=True)
        if search.is_run_over():
            search.lock()
            basis.begin(None)
    return search.result(converged=False)


@dataclass(frozen=True, slots=True)
class _RitzPairs:
    """Eigenvalues of the projected matrix, in descending order.

    `values` [m], `residuals` [m], and `weights` [m, m], whose column i has Ritz vector i's coordinates in the basis.
    """

    values: Tensor
    residuals: Tensor
    weights: Tensor


class _Basis:
    """Lanczos' basis: first the locked vectors, which are found, then the run in their orthogonal complement.

    `rows` [room, n] holds both, on the device; all else is small and on the CPU: `projected` [m, m] is Q'HQ for the
    run's basis Q (tridiagonal, with an arrow after a restart), `coupling` [locked, m] is Y'HQ for the locked vectors Y,
    and `link` [m] is Q'Hq for the next vector q. `hidden` is the δ of this module's first lines for the run's start.
    """

    def __init__(self, rows: Tensor, generator: torch.Generator, gradient_norm: float) -> None:
        self.rows = rows
        self.products = 0
        self.scale = 0.0  # the largest Ritz value in size, so far
        self.locked_values: list[float] = []
        self.locked_residuals: list[float] = []
        self._generator = generator
        self._zero = _ZERO * gradient_norm
        self.hidden = 0.0
        self._next = rows.new_empty(0)
        self._clear()

    def _clear(self) -> None:
        locked = len(self.locked_values)
        self.projected = torch.zeros(0, 0, dtype=torch.float64)
        self.coupling = torch.zeros(locked, 0, dtype=torch.float64)
        self.link = torch.zeros(0, dtype=torch.float64)
        self.ritz = _RitzPairs(self.link, self.link, self.projected)
        self.is_zero = False  # but for rounding errors
        self.is_invariant = False  # nothing of H Q is outside of the locked vectors and the basis
        self._discarded: list[float] = []  # zeros of the polynomial p that are Ritz values no more
        self._log_norm = 0.0  # of |p(H) s|

    @property
    def size(self) -> int:
        """The number of vectors in the run."""
        return len(self.projected)

    @property
    def is_exhausted(self) -> bool:
        """Whether locked vectors and run together have the dimension of the matrix."""
        return len(self.locked_values) + self.size == self.rows.shape[1]

    def begin(self, start: Tensor | None) -> None:
        """Begin a run from a random vector, orthogonal to the locked ones, with the old vectors `start` in it."""
        n, locked = self.rows.shape[1], len(self.locked_values)
        self._clear()
        noise = torch.randn(n, dtype=torch.float64, generator=self._generator, device=self._generator.device)
        vector = noise.to(self.rows.device)
        if start is not None:
            old = start.detach().to(vector).reshape(-1, n).sum(0)
            norm = float(torch.linalg.vector_norm(old))
            if 0 < norm < math.inf:
                vector = vector + old * (_WARM_WEIGHT * float(torch.linalg.vector_norm(vector)) / norm)
        vector, _ = _orthogonalised(vector, self.rows[:locked])
        norm = float(torch.linalg.vector_norm(vector))
        # u's of an eigenvector u is (normal + constant) / norm: its size is below this with a probability of _CHANCE
        # at most, as the density of a normal number is at most 1 / sqrt(2 π).
        self.hidden = _CHANCE * math.sqrt(math.pi / 2) / norm
        self._next = vector / norm

    def extend(self, product: Product) -> bool:
        """Add the next vector to the basis, with one product; False where the product is not finite."""
        locked = len(self.locked_values)
        if locked + self.size == len(self.rows):
            self._restart()
        m, end = self.size, locked + self.size + 1
        self.rows[end - 1] = self._next
        image = product(self.rows[end - 1]).detach().to(self.rows)
        self.products += 1
        rest, coordinates = _orthogonalised(image, self.rows[:end])  # [n], [locked + m + 1]
        numbers = torch.cat([coordinates, torch.linalg.vector_norm(rest).reshape(1)]).cpu()  # one transfer a product
        if not torch.isfinite(numbers).all():
            return False
        # The projected matrix grows by a row and a column: the links to the next vector, and its Rayleigh quotient.
        grown = torch.zeros(m + 1, m + 1, dtype=torch.float64)
        grown[:m, :m] = self.projected
        grown[m, :m] = grown[:m, m] = self.link
        grown[m, m] = numbers[-2]
        self.projected = grown
        self.coupling = torch.cat([self.coupling, numbers[:locked].reshape(-1, 1)], dim=1)
        self._finish(rest, float(numbers[-1]))
        return True

    def _finish(self, rest: Tensor, beta: float) -> None:
        """Work out the Ritz pairs, and the next vector from `rest` [n] of norm `beta`."""
        values, weights = torch.linalg.eigh(self.projected)
        values, weights = values.flip(0), weights.flip(1)
        self.scale = max(self.scale, float(values.abs().max()))
        self.is_zero = max(self.scale, beta) <= self._zero
        self.is_invariant = beta <= _ROUNDING * self.scale or self.is_zero or self.is_exhausted
        self.ritz = _RitzPairs(values, beta * weights[-1].abs(), weights)
        if not self.is_invariant:
            self._next = rest / beta
            self._log_norm += math.log(beta)
            self.link = torch.zeros(self.size, dtype=torch.float64)
            self.link[-1] = beta

    def _restart(self) -> None:
        """Replace the basis of the run by its largest Ritz vectors (thick restart; Wu and Simon, 2000)."""
        locked, room = len(self.locked_values), len(self.rows) - len(self.locked_values)
        kept = max(1, min(room - 2, (2 * room) // 3))
        weights = self.ritz.weights[:, :kept]
        self._transform(locked, self.size, weights)
        self._discarded += self.ritz.values[kept:].tolist()
        self.projected = torch.diag(self.ritz.values[:kept])
        self.coupling = self.coupling @ weights
        self.link = weights.T @ self.link

    def _transform(self, first: int, size: int, weights: Tensor) -> None:
        """Replace rows from `first` on by weights' [k, size] times the `size` rows from there, in place."""
        weights = weights.T.to(self.rows)
        for begin in range(0, self.rows.shape[1], _BLOCK):
            columns = self.rows[first : first + size, begin : begin + _BLOCK]
            columns[: len(weights)] = weights @ columns

    def excludes(self, value: float) -> bool:
        """Whether the run has no eigenvalue at `value` or above, but for a probability of _CHANCE."""
        zeros = [*self.ritz.values.tolist(), *self._discarded]
        if self.is_invariant:
            return self.is_zero or value >= max(zeros)
        if value <= max(zeros):
            return False
        growth = sum(math.log(value - zero) for zero in zeros) - self._log_norm
        return growth >= -math.log(self.hidden)

    def best(self, count: int, found: int) -> tuple[list[float], list[float], Tensor]:
        """The largest among the locked vectors and the first `found` Ritz vectors of the run.

        Returns values and residuals, and coordinates [locked + m, k] in all rows, in descending order of the values.
        """
        locked = len(self.locked_values)
        weights = self.ritz.weights[:, :found]
        # Hv - θv of a Ritz vector has a part in the locked vectors, and one outside of everything.
        residuals = torch.hypot(self.ritz.residuals[:found], torch.linalg.vector_norm(self.coupling @ weights, dim=0))
        values = torch.cat([torch.tensor(self.locked_values, dtype=torch.float64), self.ritz.values[:found]])
        residuals = torch.cat([torch.tensor(self.locked_residuals, dtype=torch.float64), residuals])
        coordinates = torch.zeros(locked + self.size, locked + found, dtype=torch.float64)
        coordinates[:locked, :locked] = torch.eye(locked)
        coordinates[locked:, locked:] = weights
        order = values.argsort(descending=True, stable=True)[:count]
        return values[order].tolist(), residuals[order].tolist(), coordinates[:, order]

    def lock(self, count: int, found: int) -> None:
        """Lock the `count` largest among the locked vectors and the first `found` of the run, and end the run."""
        values, residuals, coordinates = self.best(count, found)
        self._transform(0, len(coordinates), coordinates)
        self.locked_values, self.locked_residuals = values, residuals
        self._clear()


class _Search:
    """When a run is over, and when all is found.

    One eigenvalue is found by one run. Several are found by a first run, which sees each repeated eigenvalue once;
    they are locked, and more runs in their complement find what is missing, until one proves that nothing is.
    """

    def __init__(self, basis: _Basis, wanted: int, tolerance: float) -> None:
        self._basis = basis
        self._wanted = wanted
        self._tolerance = tolerance

    def is_complete(self) -> bool:
        """Whether all wanted eigenvalues are within the tolerance."""
        basis, error = self._basis, self._tolerance * self._basis.scale
        if basis.is_exhausted or (basis.is_invariant and self._wanted == 1):
            return True
        if self._wanted == 1:
            largest, residual = float(basis.ritz.values[0]), float(basis.ritz.residuals[0])
            return residual <= error and basis.excludes(largest + error)
        # Half of the error is for what the complement may still have, half for the residuals of the locked vectors.
        return self._missing == 0 and basis.excludes(basis.locked_values[-1] + error / 2)

    def is_run_over(self) -> bool:
        """Whether the run, which does not complete the search, has found what is to be locked."""
        basis, error = self._basis, self._tolerance * self._basis.scale
        if self._wanted == 1 or basis.is_invariant:
            return self._wanted > 1
        if self._missing == 0 and float(basis.ritz.values[0]) <= basis.locked_values[-1] + error / 4:
            return False
        # Locked vectors with residuals r change an eigenvalue by at most sqrt(2 Σ r²): together, half of the error.
        needed, limit = max(self._missing, 1), error / math.sqrt(8 * self._wanted)
        return basis.size >= needed and float(basis.ritz.residuals[:needed].max()) <= limit

    def lock(self) -> None:
        """Lock what the run found."""
        found = self._basis.size if self._basis.is_invariant else max(self._missing, 1)
        self._basis.lock(self._wanted, found)

    def result(self, *, converged: bool) -> Eigenvalues:
        """The eigenvalues as far as they were found."""
        basis = self._basis
        only_locked = converged and self._missing == 0 and not basis.is_exhausted
        values, residuals, coordinates = basis.best(self._wanted, 0 if only_locked else basis.size)
        vectors = coordinates.T.to(basis.rows) @ basis.rows[: len(coordinates)]
        return Eigenvalues(tuple(values), tuple(residuals), basis.products, converged, vectors)

    @property
    def _missing(self) -> int:
        return self._wanted - len(self._basis.locked_values)


def _orthogonalised(vector: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The part of `vector` [n] that is orthogonal to the rows [m, n], and the coordinates [m] of the other part."""
    first = rows @ vector
    rest = vector - rows.T @ first
    second = rows @ rest  # twice is enough (Kahan; Parlett, "The symmetric eigenvalue problem", 6.9)
    return rest - rows.T @ second, first + second
