"""Which plots the measured curvature of trials has, and what is in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from builders import NUISANCE_RATE, study
from planted_curvature import PLANTED, evidence_of_runs, run_of

from tunectl.analysis.figures.curvature_figures import HIGHEST_BOUND, curvature_figures, drawn_trials
from tunectl.analysis.figures.figures import Curve, CurvesFigure
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.records import PlannedTrial

NAN = math.nan
STEPS = (0, 10, 20, 30)


def run(trial: int = 0, /, state: str = "completed", **metrics: Sequence[float]) -> Run:
    """A trial with these metrics at STEPS; NaN where one was not measured."""
    curves = {}
    for name, values in metrics.items():
        points = [(step, value) for step, value in zip(STEPS, values, strict=False) if not math.isnan(value)]
        if points:
            steps, known = zip(*points, strict=True)
            curves[f"curvature/{name}"] = (np.array(steps, dtype=float), np.array(known, dtype=float))
    plan = PlannedTrial(trial, 0, trial, 0, (), {"optimizer": "sgd", "learning_rate": 0.1}, 0)
    reason = "" if state == "completed" else "nan_loss"
    return Run(plan, state, reason, best_value=0.1 + trial, curves=curves)  # type: ignore[arg-type]


def figures_of(*runs: Run) -> Mapping[str, CurvesFigure]:
    return {figure.name.removeprefix("curvature-"): figure for figure in curvature_figures(evidence_of_runs(runs))}


def points(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.x, curve.y, strict=True))


SGD = run(
    lambda_1=[4.0, 10.0, 22.0, 18.0],
    residual=[1e-3, 0.5, 1e-3, 1e-3],
    products=[12.0, 40.0, 5.0, 6.0],
    converged=[1.0, 0.0, 1.0, 1.0],
    bound=[NAN, 40.0, 20.0, 20.0],
    ratio=[0.0, 0.25, 1.1, 0.9],
    paper_ratio=[0.0, 0.25, 1.1, 0.9],
    learning_rate=[0.0, 0.05, 0.1, 0.1],
    loss=[2.0, 1.0, 0.5, 0.4],
    gradient_norm=[3.0, 2.0, 1.0, 0.5],
    critical_learning_rate=[0.4, 0.2, 0.1, 0.1],
    critical_limit=[0.0, 0.0, 1.0, 0.0],
)


def test_the_eigenvalue_is_solid_and_its_bound_dashed_in_the_same_colour():
    figure = figures_of(SGD)["lambda-1"]
    eigenvalue, bound = figure.curves
    assert points(eigenvalue) == [(0, 4.0), (10, 10.0), (20, 22.0), (30, 18.0)]
    assert points(bound) == [(10, 40.0), (20, 20.0), (30, 20.0)], "at rate 0 the bound is infinite, and not drawn"
    assert (eigenvalue.dashed, bound.dashed) == (False, True)
    assert eigenvalue.series == bound.series == "trial 0"
    assert eigenvalue.trial == bound.trial == 0


def test_a_value_has_residual_products_and_convergence_beside_it_and_is_hollow_where_it_did_not_converge():
    figure = figures_of(SGD)["lambda-1"]
    curve = figure.curves[0]
    assert figure.more[:3] == ("residual", "Hessian-vector products", "converged")
    assert list(curve.hollow) == [False, True, False, False]
    assert [list(column) for column in curve.more[:3]] == [
        [1e-3, 0.5, 1e-3, 1e-3],
        [12.0, 40.0, 5.0, 6.0],
        ["yes", "no", "yes", "yes"],
    ]
    assert any("(1 of 4)" in note for note in figure.notes)


def test_the_ratio_has_a_logarithmic_axis_a_line_at_one_and_its_crossings():
    figure = figures_of(SGD)["ratio"]
    assert figure.y.scale == "log"
    assert [(mark.value, mark.axis) for mark in figure.marks] == [(1.0, "y")]
    (curve,) = figure.curves
    assert points(curve)[1:] == [(10, 0.25), (20, 1.1), (30, 0.9)]
    assert math.isnan(curve.y[0]), "a ratio of 0 has no place on the axis"
    assert [event.kind for event in figure.events] == ["rise", "fall"]


def test_the_line_of_the_paper_is_drawn_where_it_is_another_one():
    momentum = run(lambda_1=[8.0, 9.0], bound=[38.0, 38.0], ratio=[8 / 38, 9 / 38], paper_ratio=[0.4, 0.45])
    plain, by_paper = figures_of(momentum)["ratio"].curves
    assert (plain.dashed, by_paper.dashed) == (False, True)
    assert list(by_paper.y) == [0.4, 0.45]


def test_an_adaptive_optimizer_has_its_bound_with_the_preconditioned_eigenvalue():
    adam = run(
        lambda_1=[4.0, 5.0, 6.0],
        preconditioned_lambda_1=[NAN, 900.0, 950.0],
        preconditioned_lambda_1_converged=[NAN, 0.0, 1.0],
        bound=[NAN, 3800.0, 3800.0],
        ratio=[NAN, 0.24, 0.25],
    )
    figures = figures_of(adam, SGD)
    assert [(curve.trial, curve.dashed) for curve in figures["lambda-1"].curves].count((0, True)) == 1
    eigenvalue, bound = figures["preconditioned"].curves
    assert points(eigenvalue) == [(10, 900.0), (20, 950.0)]
    assert points(bound) == [(10, 3800.0), (20, 3800.0)]
    assert list(eigenvalue.hollow) == [True, False]


def test_the_eigenvalue_with_the_weight_decay_is_drawn_where_the_bound_is_about_it():
    decayed = run(
        lambda_1=[4.0, 5.0],
        converged=[1.0, 1.0],
        lambda_1_with_decay=[4.5, 5.5],
        lambda_1_with_decay_converged=[1.0, 0.0],
        bound=[20.0, 20.0],
        ratio=[4.5 / 20, 5.5 / 20],
    )
    figure = figures_of(decayed)["lambda-1"]
    assert list(figure.curves[0].y) == [4.5, 5.5]
    assert list(figure.curves[0].hollow) == [False, True]
    place = list(figure.more).index("without weight decay")
    assert list(figure.curves[0].more[place]) == [4.0, 5.0]
    assert any("weight decay" in note for note in figure.notes)


def test_loss_gradient_norm_and_critical_rate_are_over_the_same_steps_in_the_same_colours():
    figures = figures_of(SGD, run(1, lambda_1=[1.0], loss=[3.0]))
    axis = figures["lambda-1"].x
    assert all(figure.x == axis for figure in figures.values())
    assert list(axis.searched or ()) == [0, 30]
    assert all(set(figure.colours) == {"trial 0", "trial 1"} for figure in figures.values())
    critical, rate = figures["critical-learning-rate"].curves
    assert (critical.dashed, rate.dashed) == (False, True)
    assert list(critical.hollow) == [False, False, True, False]
    assert critical.more[1][2] == "it is higher"
    assert [curve.trial for curve in figures["loss"].curves] == [0, 1]


def test_a_bound_far_above_all_eigenvalues_takes_no_room():
    decay = run(lambda_1=[4.0, 4.0, 4.0], bound=[20.0, 5 * HIGHEST_BOUND, math.inf], ratio=[0.2, 0.03, 0.0])
    figure = figures_of(decay)["lambda-1"]
    bound = figure.curves[1]
    assert points(bound)[0] == (0, 20.0)
    assert all(math.isnan(value) for value in bound.y[1:])
    assert any("a bound above" in note for note in figure.notes)


def test_an_eigenvalue_that_is_not_positive_interrupts_the_curve_and_is_counted():
    figure = figures_of(run(lambda_1=[40.0, -0.1, 2.0, 3.0]))["lambda-1"]
    assert figure.y.scale == "log"
    assert "1 value of 0 or below is not drawn" in figure.notes


@pytest.mark.parametrize(
    ("values", "bound", "scale"),
    [
        ([4.0, 4.2, 4.5], [NAN] * 3, "linear"),
        ([4.0, 4.2, 4.5], [40.0] * 3, "log"),
        ([-1.0, -4.0, 2.0], [NAN] * 3, "linear"),
        ([1.0, 100.0, 20.0], [NAN] * 3, "log"),
    ],
)
def test_the_axis_is_logarithmic_where_values_and_bounds_differ_by_a_factor(values, bound, scale):
    figure = figures_of(run(lambda_1=values, bound=bound, ratio=[0.5] * 3))["lambda-1"]
    assert figure.y.scale == scale


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"lambda_1": [3.0]}, {"lambda-1"}),
        ({"lambda_1": [3.0, 2.0], "loss": [1.0, 0.5]}, {"lambda-1", "loss"}),
        ({"ratio": [0.0], "lambda_1": [3.0]}, {"lambda-1", "ratio"}),
        ({"ratio": [0.5]}, {"ratio"}),
        ({"loss": [1.0]}, set()),
        ({"lambda_1": [3.0], "critical_learning_rate": [0.1]}, {"lambda-1", "critical-learning-rate"}),
        ({"lambda_1": [math.inf, 1e300]}, {"lambda-1"}),
        ({"lambda_1": [3.0], "directional": [2.0], "gradient_quotient": [0.1]},
         {"lambda-1", "directional", "gradient-quotient"}),
        ({"lambda_1": [3.0], "lambda_2": [2.0], "lambda_min": [-1.0]}, {"lambda-1", "eigenvalues"}),
    ],
)  # fmt: skip
def test_only_what_was_measured_has_a_plot(metrics, expected):
    assert set(figures_of(run(**metrics))) == expected


def test_a_study_without_curvature_has_no_plot():
    assert figures_of(run()) == {}


def test_of_many_trials_the_best_are_in_front_and_the_others_dimmed_and_fewer():
    found = drawn_trials(evidence_of_runs([run(trial, lambda_1=[1.0, 2.0]) for trial in range(200)]))
    assert [item.run.plan.trial for item in found if not item.dimmed] == [0, 1, 2, 3]
    assert 40 <= sum(item.dimmed for item in found) <= 60
    figure = figures_of(*(run(trial, lambda_1=[1.0], bound=[2.0], ratio=[0.5]) for trial in range(9)))["lambda-1"]
    assert sum(curve.dimmed for curve in figure.curves) == 5
    assert not any(curve.dimmed for curve in figure.curves if curve.dashed), "the bounds of dimmed trials are left out"


def test_trials_that_diverged_are_in_front_where_there_is_room():
    lost = run(5, "infeasible", lambda_1=[1.0, 20.0])
    found = drawn_trials(evidence_of_runs([run(0, lambda_1=[1.0]), lost, run(2)]))
    assert [item.series for item in found] == ["trial 0", "trial 5"], "trial 2 measured no curvature"


def test_the_best_trial_of_each_setting_is_in_front():
    spec = study(
        {"optimizer": "{role: scientific, values: [sgd, nesterov]}", "learning_rate": NUISANCE_RATE},
        search="{trials: 2}",
    )
    runs = []
    for trial in range(4):
        optimizer = ("sgd", "nesterov")[trial % 2]
        plan = PlannedTrial(trial, trial % 2, trial // 2, 0, (), {"optimizer": optimizer, "learning_rate": 0.1}, 0)
        curves = run(lambda_1=[1.0, 2.0]).curves
        runs.append(Run(plan, "completed", best_value=0.5 - 0.1 * trial, curves=curves))
    found = drawn_trials(StudyEvidence(spec, spec.objective, tuple(runs)))
    names = [item.series for item in found if not item.dimmed]
    assert names == ["trial 3 (optimizer=nesterov)", "trial 2 (optimizer=sgd)"]


def test_very_long_curves_are_shortened_with_what_belongs_to_their_points():
    steps = np.arange(50_000.0)
    values = 1 + np.sin(steps)
    values[31_415] = 99.0
    converged = np.ones(50_000)
    converged[31_415] = 0.0
    curves = {f"curvature/{name}": (steps, array) for name, array in (("lambda_1", values), ("converged", converged))}
    long = Run(SGD.plan, "completed", best_value=0.1, curves=curves)
    (curve,) = figures_of(long)["lambda-1"].curves
    assert len(curve.y) == len(curve.x) == len(curve.hollow) == len(curve.more[2]) < 25_000
    assert [(x, y) for x, y, hollow in zip(curve.x, curve.y, curve.hollow, strict=True) if hollow] == [(31_415, 99.0)]


@pytest.mark.parametrize("kind", sorted(PLANTED))
def test_simulated_trials_of_every_kind_have_their_plots(kind):
    runs = [run_of(PLANTED[kind][1](np.random.default_rng(seed)), seed) for seed in range(3)]
    figures = figures_of(*runs)
    assert {"lambda-1", "ratio"} <= set(figures)
    kinds = {event.kind for event in figures["ratio"].events}
    assert ("catapult" in kinds) == (kind == "catapult")
    assert ("divergence" in kinds) == (kind in ("leaves", "above until lost"))
