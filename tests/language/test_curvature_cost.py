"""The expected cost of measuring curvature, against sums written out by hand."""

from __future__ import annotations

import pytest
from builders import study

from tunectl.language.curvature_cost import CurvatureCost, curvature_cost


def cost(curvature: str, hyperparameters: dict[str, str] | None = None, steps: int = 100) -> CurvatureCost:
    training = f"{{max_train_steps: {steps}, eval_every: 10, curvature: {curvature}}}"
    found = curvature_cost(study(hyperparameters, training=training))
    assert found is not None
    return found


def test_nothing_is_expected_where_nothing_is_measured_or_own_code_trains() -> None:
    assert curvature_cost(study()) is None
    own = study({"optimizer": None}, workload="{function: ./a.py:f}", training="{max_train_steps: 9, curvature: {}}")
    assert curvature_cost(own) is None


@pytest.mark.parametrize(
    ("measure", "gradients"),
    [
        ("directional", 2.5 + 2),
        ("gradient_quotient", 2.5 + 2),
        ("critical_learning_rate", 2.5 + 8 / 3),
        ("lambda_1", 2.5 + 2 * 20),
        ("lambda_min", 2.5 + 2 * 20),
        ("preconditioned", 2.5),
    ],
)
def test_one_measurement_costs_its_gradients_of_the_measured_examples(measure: str, gradients: float) -> None:
    # 100 updates of 64 examples; sgd has no preconditioner
    found = cost(f"{{at: [0], examples: 640, measures: [{measure}]}}")
    assert found.measurements == 1
    assert found.share == pytest.approx((gradients / 10, gradients / 10))


def test_every_tenth_measurement_is_a_cold_one_and_max_products_bounds_them() -> None:
    found = cost("{every: 5, examples: 64, measures: [lambda_1]}")
    assert found.measurements == 21
    assert found.share[0] == pytest.approx((21 * 2.5 + 2 * (3 * 20 + 18 * 16)) / 100)
    bounded = cost("{every: 5, examples: 64, measures: [lambda_1], max_products: 4}")
    assert bounded.share[0] == pytest.approx(21 * (2.5 + 2 * 4) / 100)


def test_further_eigenvalues_cost_further_products_of_lambda_1_alone() -> None:
    one = cost("{at: [0], examples: 64, measures: [lambda_1, lambda_min]}")
    three = cost("{at: [0], examples: 64, measures: [lambda_1, lambda_min], eigenvalues: 3}")
    assert three.share[0] - one.share[0] == pytest.approx(2 * 8 / 100)


def test_steps_beyond_the_end_cost_nothing() -> None:
    assert cost("{at: [0, 50, 100, 101]}").measurements == 3
    assert cost("{every: 101}").measurements == 1


def test_it_is_a_range_over_batch_sizes_and_optimizers() -> None:
    sizes = cost(
        "{at: [0], examples: 64, measures: [directional]}", {"batch_size": "{role: scientific, values: [16, 64]}"}
    )
    assert sizes.share == pytest.approx((4.5 / 100, 4 * 4.5 / 100))
    optimizers = {"optimizer": "{role: scientific, values: [sgd, adam]}"}
    found = cost("{at: [0], examples: 64, measures: [directional, preconditioned]}", optimizers)
    assert found.share == pytest.approx((4.5 / 100, (4.5 + 40) / 100))
