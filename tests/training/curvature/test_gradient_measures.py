from __future__ import annotations

import pytest
import torch
from measured_builders import dense, measured_workload, products_of, relu_net, tanh_net
from torch import Tensor

from tunectl.training.curvature.gradient_measures import directional_sharpness, gradient_quotient


@pytest.mark.parametrize("net", [tanh_net, relu_net])
def test_both_agree_with_the_dense_hessian(net):
    workload = measured_workload(net())
    _, gradient, hessian = dense(workload)
    with products_of(workload) as (products, _):
        sharpness = directional_sharpness(products.gradient, products.gradient_product)
        quotient = gradient_quotient(products.gradient, products.gradient_product)
    assert sharpness == pytest.approx(float(gradient @ hessian @ gradient / gradient.square().sum()), rel=1e-9)
    assert sharpness <= torch.linalg.eigvalsh(hessian)[-1]
    sign = 2.0 * (gradient >= 0) - 1
    # As in the paper: the 1-norm of (g - Hg) / (g + ε s) - 1, over the number of parameters.
    written_out = sum(
        abs(float(g - h) / float(g + 1e-5 * s) - 1) for g, h, s in zip(gradient, hessian @ gradient, sign, strict=True)
    ) / len(gradient)
    assert quotient == pytest.approx(written_out, rel=1e-6)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_curvature_along_a_gradient_of_zero_is_not_known():
    assert directional_sharpness(vector(0, 0), vector(0, 0)) is None


@pytest.mark.parametrize("scale", [1e-250, 1e-170, 1.0, 1e200])
def test_the_curvature_along_a_tiny_or_huge_gradient_does_not_vanish_or_overflow(scale: float):
    gradient = vector(3.0, 4.0) * scale
    assert directional_sharpness(gradient, gradient * vector(2.0, 5.0)) == pytest.approx((2 * 9 + 5 * 16) / 25)


def test_the_gradient_quotient_is_near_0_without_curvature_and_near_1_where_a_step_ends_at_the_minimum():
    gradient = vector(3.0, -4.0)
    assert gradient_quotient(gradient, gradient * 0) == pytest.approx(0.0, abs=1e-5)
    assert gradient_quotient(gradient, gradient) == pytest.approx(1.0)
    assert gradient_quotient(vector(0.0), vector(0.0)) == 1.0


def test_values_that_are_not_finite_stay_so():
    assert gradient_quotient(vector(1.0, torch.nan), vector(1.0, 1.0)) != 0
    assert directional_sharpness(vector(1.0), vector(torch.inf)) == torch.inf
    assert directional_sharpness(vector(torch.nan, 1.0), vector(1.0, 1.0)) is None
