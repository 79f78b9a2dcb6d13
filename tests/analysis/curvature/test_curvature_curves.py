"""Tests curvature/curvature_curves.py: which lines are read, and which of their values are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from planted_curvature import measured_run

from tunectl.analysis.curvature.curvature_curves import (
    bounded_eigenvalue_curve,
    has_curvature,
    learning_rates,
    ratio_curve,
    sharpness_curve,
)


def with_metrics(run, **metrics):
    """The run with other curves of curvature, each as (steps, values); None leaves one out."""
    curves = {**run.curves, **{f"curvature/{name}": curve for name, curve in metrics.items()}}
    read = {
        name: (np.array(curve[0], dtype=float), np.array(curve[1], dtype=float))
        for name, curve in curves.items()
        if curve is not None
    }
    return replace(run, curves=read)


def test_the_ratio_has_the_eigenvalue_that_the_bound_is_about():
    run = measured_run([0, 10], [0.5, 1.5], rate=0.1)
    assert ratio_curve(run).values.tolist() == [0.5, 1.5]
    assert bounded_eigenvalue_curve(run).values.tolist() == [10.0, 30.0]
    assert sharpness_curve(run).values.tolist() == [10.0, 30.0]


def test_without_a_known_bound_there_is_no_ratio_but_lambda_1_is_there():
    run = with_metrics(measured_run([0, 10], [0.5, 1.5]), ratio=None, bound=None)
    assert len(ratio_curve(run)) == 0
    assert len(sharpness_curve(run)) == 2
    assert has_curvature(run)
    assert not has_curvature(replace(run, curves={}))


def test_a_line_without_a_metric_is_left_out_and_the_others_keep_their_steps():
    run = with_metrics(measured_run([0, 10, 20], [0.5, 1.0, 1.5]), ratio=([0, 20], [0.5, 1.5]))
    assert ratio_curve(run).steps.tolist() == [0, 20]
    assert bounded_eigenvalue_curve(run).values.tolist() == [10.0, 30.0]


def test_values_that_are_not_finite_are_left_out():
    steps, values = [0, 10, 20, 30], [0.5, np.nan, np.inf, 1.5]
    run = with_metrics(measured_run(steps, np.ones(4)), ratio=(steps, values), lambda_1=(steps, values))
    assert ratio_curve(run).steps.tolist() == [0, 30]
    assert sharpness_curve(run).steps.tolist() == [0, 30]


def test_at_a_rate_of_zero_the_ratio_is_zero_and_the_bound_infinite():
    run = with_metrics(
        measured_run([0, 10], [0.0, 1.5]), bound=([0, 10], [np.inf, 20.0]), lambda_1=([0, 10], [4.0, 30.0])
    )
    assert ratio_curve(run).values.tolist() == [0.0, 1.5]
    assert ratio_curve(run).known.tolist() == [True, True]
    assert bounded_eigenvalue_curve(run).steps.tolist() == [10]


def test_a_bound_that_is_not_positive_and_an_eigenvalue_below_zero_have_no_eigenvalue_curve():
    run = with_metrics(measured_run([0, 10], [-0.5, 1.5]), bound=([0, 10], [20.0, -1.0]))
    assert ratio_curve(run).values.tolist() == [-0.5]
    assert len(bounded_eigenvalue_curve(run)) == 0


def test_a_value_that_did_not_converge_is_a_lower_bound():
    curve = ratio_curve(measured_run([0, 10, 20], [0.5, 0.5, 1.5], known=[True, False, False]))
    assert curve.known.tolist() == [True, False, False]
    assert curve.decided(1.0).steps.tolist() == [0, 20]


def test_a_value_with_a_small_residual_is_known_and_one_without_a_residual_is_not():
    run = measured_run([0, 10], [0.5, 0.5], known=[False, False])
    near = with_metrics(run, residual=([0, 10], [0.01, 5.0]))
    assert ratio_curve(near).known.tolist() == [True, False]
    assert ratio_curve(with_metrics(run, residual=None, converged=None)).known.tolist() == [False, False]


def test_a_preconditioned_ratio_has_the_convergence_of_the_preconditioned_eigenvalue():
    run = with_metrics(
        measured_run([0, 10], [0.5, 0.5], rate=0.1),
        lambda_1=([0, 10], [3.0, 3.0]),
        converged=([0, 10], [0.0, 1.0]),
        residual=([0, 10], [1.0, 0.0]),
        preconditioned_lambda_1=([0, 10], [10.0, 10.0]),
        preconditioned_lambda_1_converged=([0, 10], [1.0, 0.0]),
        preconditioned_lambda_1_residual=([0, 10], [0.0, 4.0]),
    )
    assert ratio_curve(run).known.tolist() == [True, False]
    # With the decay term it is neither of the two: both must have converged.
    decayed = with_metrics(run, ratio=([0, 10], [0.6, 0.6]))
    assert ratio_curve(decayed).known.tolist() == [False, False]


def test_learning_rates_come_from_the_lines_and_else_from_the_updates():
    run = with_metrics(measured_run([0, 2, 9], [0.5, 0.5, 0.5], loss=np.ones(5)), learning_rate=([0], [0.7]))
    assert learning_rates(run, np.array([0.0, 2.0, 9.0])).tolist() == [0.7, 0.1, 0.1]
    unknown = with_metrics(measured_run([0, 2], [0.5, 0.5]), learning_rate=None)
    assert np.isnan(learning_rates(unknown, np.array([0.0, 2.0]))).all()
