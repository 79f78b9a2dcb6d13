from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from tunectl.training.curvature.lanczos import Eigenvalues, largest_eigenvalues

Spectrum = NDArray[np.float64]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(spectrum: Any, seed: int = 0) -> Tensor:
    """A matrix of these eigenvalues, with random eigenvectors."""
    values = torch.as_tensor(np.asarray(spectrum, dtype=np.float64))
    vectors, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=seeded(seed)))
    return (vectors * values) @ vectors.T


def of(matrix: Tensor, *, seed: int = 1, start: Tensor | None = None, **settings: Any) -> Eigenvalues:
    """The eigenvalues of a matrix, or of a diagonal one by its entries; what always holds is checked."""
    products: list[Tensor] = []

    def product(vector: Tensor) -> Tensor:
        assert vector.dtype == torch.float64
        assert vector.shape == (len(matrix),)
        products.append(matrix @ vector if matrix.ndim == 2 else matrix * vector)
        return products[-1]

    found = largest_eigenvalues(product, len(matrix), start=start, generator=seeded(seed), **settings)
    assert found.products == len(products) <= settings.get("max_products", 40)
    assert len(found.values) == len(found.residuals) == len(found.vectors)
    assert list(found.values) == sorted(found.values, reverse=True)
    residuals_are_true(matrix, found)
    return found


def residuals_are_true(matrix: Tensor, found: Eigenvalues) -> None:
    """Vectors are orthonormal, and the residuals are those of the vectors."""
    vectors, values = found.vectors, torch.tensor(found.values, dtype=torch.float64)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(len(vectors), dtype=torch.float64), rtol=0, atol=1e-9)
    images = vectors @ matrix if matrix.ndim == 2 else vectors * matrix
    residuals = torch.linalg.vector_norm(images - values[:, None] * vectors, dim=1)
    rounding = 1e-11 * max(map(abs, found.values), default=0.0) + 1e-12 * float(matrix.abs().max())
    torch.testing.assert_close(torch.tensor(found.residuals, dtype=torch.float64), residuals, rtol=1e-5, atol=rounding)


def largest(matrix: Tensor, count: int) -> list[float]:
    """The oracle: numpy's dense eigenvalues."""
    entries = matrix.numpy()
    values: Spectrum = np.linalg.eigvalsh(entries) if entries.ndim == 2 else np.sort(entries)
    return [float(value) for value in values[::-1][:count]]


# Against dense matrices


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("sign", [1, -1], ids=["largest", "smallest"])
def test_eigenvalues_of_a_dense_matrix_are_those_of_numpy(count: int, sign: int) -> None:
    matrix = sign * dense(np.random.default_rng(0).standard_normal(120))
    found = of(matrix, count=count, tolerance=1e-8, max_products=600)
    assert found.converged
    assert found.values == pytest.approx(largest(matrix, count), rel=1e-6)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize(("count", "sign"), [(1, 1), (4, 1), (1, -1)], ids=["largest", "four largest", "smallest"])
def test_eigenvalues_of_the_hessian_of_a_small_net_are_those_of_the_dense_one(
    activation: Callable[[], nn.Module], count: int, sign: int
) -> None:
    hessian = sign * net_hessian(activation)
    found = of(hessian, count=count, tolerance=1e-8, max_products=500)
    assert found.converged
    assert found.values == pytest.approx(largest(hessian, count), rel=1e-6)


def net_hessian(activation: Callable[[], nn.Module]) -> Tensor:
    """The dense Hessian [n, n] of a small net's loss, by torch's own function."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(5, 6), activation(), nn.Linear(6, 6), activation(), nn.Linear(6, 3)).double()
        examples, labels = torch.randn(40, 5, dtype=torch.float64), torch.randint(3, (40,))
    names, parameters = zip(*net.named_parameters(), strict=True)
    sizes = [parameter.numel() for parameter in parameters]

    def loss(flat: Tensor) -> Tensor:
        parts = [part.reshape(old.shape) for part, old in zip(flat.split(sizes), parameters, strict=True)]
        outputs = functional_call(net, dict(zip(names, parts, strict=True)), (examples,))
        return nn.functional.cross_entropy(outputs, labels)

    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    hessian: Tensor = torch.autograd.functional.hessian(loss, flat)
    return hessian


def test_a_large_negative_eigenvalue_does_not_hide_the_largest() -> None:
    matrix = dense([-100, *np.linspace(-1, 0.5, 100), 2])
    assert of(matrix, tolerance=1e-8, max_products=100).values == pytest.approx([2], rel=1e-6)


def test_the_tolerance_is_a_part_of_the_largest_eigenvalue_in_size() -> None:
    matrix = dense([-1000, *np.linspace(-1, 0.9, 100), 1])
    found = of(matrix)
    assert found.converged
    assert found.residuals[0] > 1e-3 * found.values[0]
    assert found.values == pytest.approx([1], abs=1e-3 * 1000)


def test_the_largest_of_negative_eigenvalues_is_the_one_nearest_to_zero() -> None:
    matrix = dense(-np.linspace(0.5, 3, 60))
    found = of(matrix, tolerance=1e-8, max_products=60)
    assert found.converged
    assert found.values == pytest.approx([-0.5], rel=1e-6)


# Small dimensions, repeated eigenvalues, zero


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_matrices_are_exact(size: int, count: int) -> None:
    matrix = dense(np.random.default_rng(size).standard_normal(size))
    found = of(matrix, count=count, tolerance=1e-10)
    assert found.converged
    assert found.values == pytest.approx(largest(matrix, count), rel=1e-9)
    assert len(found.values) == min(size, count)


def test_a_basis_that_reaches_the_dimension_is_exact_however_tight_the_tolerance() -> None:
    matrix = dense(np.linspace(-1, 1, 30))
    found = of(matrix, tolerance=0.0)
    assert (found.products, found.converged) == (30, True)
    assert found.values == pytest.approx([1], rel=1e-12)


def test_a_matrix_of_dimension_zero_has_no_eigenvalues() -> None:
    found = largest_eigenvalues(lambda vector: vector, 0, start=None, generator=seeded())
    assert (found.values, found.products, found.converged) == ((), 0, False)


def test_repeated_eigenvalues_are_found_as_often_as_they_are_there() -> None:
    matrix = dense([2, 2, 2, 1, 1, 1, 0, 0, 0, -5])
    assert of(matrix, count=5).values == pytest.approx([2, 2, 2, 1, 1], abs=1e-12)


def test_repeated_eigenvalues_above_a_bulk_are_found_as_often_as_they_are_there() -> None:
    matrix = dense([3, 3, 2.9, 2.9, *np.random.default_rng(0).uniform(-1, 1, 200)])
    for tolerance in (1e-3, 1e-8):
        found = of(matrix, count=5, tolerance=tolerance, max_products=400)
        assert found.converged
        assert found.values == pytest.approx(largest(matrix, 5), abs=3 * tolerance)


def test_the_identity_needs_one_product() -> None:
    found = of(torch.eye(50, dtype=torch.float64))
    assert found.values == pytest.approx([1])
    assert (found.products, found.converged) == (1, True)


def test_a_start_in_an_invariant_subspace_is_left() -> None:
    matrix = torch.tensor([1.0] * 5 + [2.0] * 5, dtype=torch.float64)
    start = torch.eye(10)[0]
    assert of(matrix, start=start).values == pytest.approx([2])
    assert of(matrix, start=start, count=7).values == pytest.approx([2] * 5 + [1] * 2)


@pytest.mark.parametrize("count", [1, 3])
def test_the_zero_matrix_is_converged_at_zero(count: int) -> None:
    found = of(torch.zeros(20, dtype=torch.float64), count=count)
    assert (found.values, found.converged) == ((0.0,) * count, True)


@pytest.mark.parametrize("count", [1, 3])
def test_a_matrix_that_is_zero_but_for_rounding_errors_is_converged(count: int) -> None:
    matrix = dense(1e-17 * np.random.default_rng(0).standard_normal(300))
    found = of(matrix, count=count, gradient_norm=1.0)
    assert found.converged
    assert found.products <= count + 1
    assert found.values == pytest.approx([0] * count, abs=1e-15)
    assert not of(matrix, count=count, gradient_norm=1e-6, max_products=5).converged


# Clusters


def test_a_top_of_many_close_eigenvalues_is_not_converged_after_40_products() -> None:
    top, bulk = 1 - 5e-4 * np.arange(200), np.random.default_rng(0).uniform(0, 0.8, 2000)
    found = of(torch.as_tensor(np.concatenate([top, bulk])))
    assert (found.products, found.converged) == (40, False)
    assert 1e-3 < found.residuals[0] < 1e-2
    assert found.values == pytest.approx([1], abs=5e-3)


def test_two_close_eigenvalues_alone_are_converged() -> None:
    matrix = torch.as_tensor(np.concatenate([[1, 0.9995], np.random.default_rng(0).uniform(-0.3, 0.3, 2000)]))
    for seed in range(20):
        found = of(matrix, seed=seed)
        assert found.converged
        assert found.values == pytest.approx([1], abs=1e-3)
    both = of(matrix, count=2, tolerance=1e-6, max_products=100)
    assert both.values == pytest.approx([1, 0.9995], rel=1e-6)


# No estimate called converged is wrong


def families(rng: np.random.Generator, size: int, tolerance: float) -> dict[str, Spectrum]:
    """Spectra of many forms; `pair` and `hidden` have one next to the largest that is not within the tolerance."""
    few = min(size // 2, 10)
    signs = rng.choice([-1, 1], size, p=[0.3, 0.7])
    return {
        "uniform": rng.uniform(-1, 1, size),
        "semicircle": 2 * rng.beta(1.5, 1.5, size) - 1,
        "exponential": np.exp(-rng.uniform(0.01, 1) * np.arange(size)),
        "power": (1.0 + np.arange(size)) ** -rng.uniform(0.2, 2) * signs,
        "outliers": np.append(rng.uniform(-0.2, 0.2, size - few), rng.uniform(0.2, 3, few)),
        "net": np.append(0.05 * rng.standard_gamma(0.1, size - few) * signs[few:], rng.uniform(0.2, 3, few)),
        "pair": np.append(rng.uniform(-0.2, rng.uniform(0.1, 0.9), size), [1, 1 - tolerance * rng.uniform(1, 30)]),
        "hidden": np.append(rng.uniform(-0.1, 0.1, size), [1, 1 + tolerance * rng.uniform(1.01, 5)]),
        "repeated": rng.choice(rng.standard_normal(4), size),
        "negative": np.append(rng.uniform(-1, 1, size), -(10 ** rng.uniform(0, 2))),
        "all negative": -(rng.uniform(0, 1, size) ** 2) - 0.01,
        "low rank": np.append(rng.standard_normal(few), 1e-8 * rng.standard_normal(size - few)),
    }


def test_of_500_random_spectra_no_estimate_called_converged_is_off_by_more_than_its_tolerance() -> None:
    converged = spectra = 0
    for seed in range(42):
        rng = np.random.default_rng(seed)
        size, tolerance = int(10 ** rng.uniform(0.5, 2.8)), 10 ** rng.uniform(-4, -1.5)
        for index, spectrum in enumerate(families(rng, size, tolerance).values()):
            values = torch.as_tensor(np.sort(spectrum)[::-1].copy())
            start = random_start(rng, len(values))
            count = int(rng.choice([1, 1, 1, 2, 3]))
            vectors = None if rng.random() < 0.6 else count + 3 + int(rng.integers(8))
            found = of(
                values, seed=seed * 100 + index, start=start, count=count, tolerance=tolerance, max_vectors=vectors
            )
            spectra += 1
            converged += found.converged
            if found.converged:
                allowed = tolerance * float(values.abs().max()) * (1 + 1e-9)
                assert found.values == pytest.approx(largest(values, count), abs=allowed)
                assert max(found.residuals) <= allowed
    assert spectra >= 500
    assert converged >= 0.5 * spectra


def random_start(rng: np.random.Generator, size: int) -> Tensor | None:
    """None, or the eigenvector of the second or of any eigenvalue, exactly or nearly so."""
    second = min(1, size - 1)
    rank = [0, second, second, int(rng.integers(size))][int(rng.integers(4))]
    exact = torch.eye(size, dtype=torch.float64)[rank]
    noise = torch.as_tensor(rng.standard_normal(size)) / math.sqrt(size)
    starts = [None, exact, exact + 1e-3 * noise, exact + 0.3 * noise]
    return starts[int(rng.integers(4))]


def test_an_exact_old_eigenvector_does_not_hide_a_larger_eigenvalue() -> None:
    bulk = np.random.default_rng(0).uniform(-0.1, 0.3, 500)
    for seed in range(100):
        matrix = torch.as_tensor(np.concatenate([[1.05, 1], bulk]))
        found = of(matrix, seed=seed, start=torch.eye(len(matrix))[1])
        assert found.converged
        assert found.values == pytest.approx([1.05], abs=1.1e-3)


# Warm starts


def test_a_warm_start_is_near_the_value_sooner_than_a_cold_one() -> None:
    rng = np.random.default_rng(0)
    bulk = 0.5 * rng.standard_gamma(0.1, 800)
    matrix = torch.as_tensor(np.concatenate([[4, 3.6, 3.2, 3, 2.5, 2], bulk]))
    start = torch.eye(len(matrix))[0] + 0.1 * torch.eye(len(matrix))[1]
    warm = [products_to_value(matrix, seed, start) for seed in range(20)]
    cold = [products_to_value(matrix, seed, None) for seed in range(20)]
    assert np.median(warm) < np.median(cold)
    assert np.median(warm) <= 8
    assert np.median(cold) <= 30


def products_to_value(matrix: Tensor, seed: int, start: Tensor | None) -> int:
    """The number of products after which the value is within 1e-3 of the true one."""
    true = float(matrix.max())
    numbers = range(1, 60)
    return next(n for n in numbers if of(matrix, seed=seed, start=start, max_products=n).values[0] >= true * (1 - 1e-3))


def test_several_old_vectors_in_float32_are_a_start() -> None:
    matrix = dense([*np.linspace(-1, 1, 200), 4, 3])
    before = of(matrix, count=2, max_products=100)
    again = of(matrix, seed=2, count=2, max_products=100, start=before.vectors.float())
    assert again.converged
    assert again.values == pytest.approx([4, 3], abs=4e-3)
    warm = of(matrix, seed=2, count=2, max_products=6, start=before.vectors.float())
    cold = of(matrix, seed=2, count=2, max_products=6)
    assert sum(warm.values) > sum(cold.values)


@pytest.mark.parametrize("start", [torch.zeros(40), torch.full((40,), math.nan)], ids=["zero", "not finite"])
def test_a_start_that_says_nothing_counts_as_none(start: Tensor) -> None:
    matrix = dense(np.linspace(-1, 1, 40))
    assert of(matrix, start=start).values == of(matrix).values


def test_a_start_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"start: expected vectors of size 40, got shape \[41\]"):
        of(dense(np.linspace(-1, 1, 40)), start=torch.ones(41))


# Memory


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-8])
def test_a_basis_of_few_vectors_gives_the_same_values(count: int, tolerance: float) -> None:
    rng = np.random.default_rng(1)
    matrix = torch.as_tensor(np.concatenate([[3, 2.95, 2.8, 2.5], rng.uniform(-1, 1, 500)]))
    full = of(matrix, count=count, tolerance=tolerance, max_products=500)
    assert full.converged
    for max_vectors in (count + 3, count + 6, count + 12):
        few = of(matrix, count=count, tolerance=tolerance, max_products=500, max_vectors=max_vectors)
        assert few.converged
        assert few.values == pytest.approx(full.values, abs=3 * tolerance)


def test_a_basis_that_is_restarted_in_blocks_of_columns_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = dense([3, 2.9, *np.linspace(-1, 1, 100)])
    whole = of(matrix, count=2, max_products=100, max_vectors=6)
    monkeypatch.setattr("tunectl.training.curvature.lanczos._BLOCK", 7)
    assert of(matrix, count=2, max_products=100, max_vectors=6).values == pytest.approx(whole.values, rel=1e-9)


def test_too_few_vectors_are_an_error() -> None:
    with pytest.raises(ValueError, match="max_vectors: expected at least 5 for 2 eigenvalues, got 4"):
        of(dense(np.linspace(-1, 1, 40)), count=2, max_vectors=4)


# Products and random numbers


@pytest.mark.parametrize("limit", [0, 1, 2, 7])
def test_no_more_products_are_used_than_allowed(limit: int) -> None:
    found = of(dense(np.linspace(-1, 1, 100)), count=3, max_products=limit)
    assert (found.products, found.converged, len(found.values)) == (limit, False, min(limit, 3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [1, 4])
def test_a_product_that_is_not_finite_leaves_no_value(bad: float, at: int) -> None:
    matrix, calls = dense(np.linspace(-1, 1, 50)), itertools.count(1)

    def product(vector: Tensor) -> Tensor:
        image = matrix @ vector
        image[7] = bad if next(calls) == at else image[7]
        return image

    found = largest_eigenvalues(product, 50, start=None, generator=seeded(), count=2)
    assert (found.values, found.residuals, found.products, found.converged) == ((), (), at, False)
    assert found.vectors.shape == (0, 50)


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone() -> None:
    matrix = dense(np.linspace(-1, 1, 100))
    before = torch.random.get_rng_state()
    first, again, other = of(matrix, count=2), of(matrix, count=2), of(matrix, count=2, seed=2)
    assert (first.values, first.residuals, first.products) == (again.values, again.residuals, again.products)
    assert torch.equal(first.vectors, again.vectors)
    assert other.residuals != first.residuals
    assert torch.equal(torch.random.get_rng_state(), before)


def test_products_may_be_the_vector_itself_in_float32_and_part_of_a_graph() -> None:
    scale = torch.ones((), requires_grad=True)
    assert largest_eigenvalues(lambda v: v, 9, start=None, generator=seeded()).values == pytest.approx([1])
    found = largest_eigenvalues(lambda v: v.float() * scale * 2, 9, start=None, generator=seeded(), count=2)
    assert found.values == pytest.approx([2, 2])
    assert not found.vectors.requires_grad


def test_products_with_the_rounding_errors_of_float32_give_the_value() -> None:
    spectrum = np.concatenate([[5, 4, 3], np.random.default_rng(0).standard_gamma(0.05, 300)])
    matrix = dense(spectrum).float()
    found = largest_eigenvalues(lambda v: (matrix @ v.float()).double(), 303, start=None, generator=seeded())
    assert found.converged
    assert found.values == pytest.approx([5], rel=1e-4)
