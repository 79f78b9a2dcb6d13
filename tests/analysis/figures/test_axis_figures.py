"""Tests figures/axis_figures.py, shown_trials.py, isolation_figures.py (retrains) and trial_axes_figures.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import study

from tunectl.analysis.figures.axis_figures import axis_figures
from tunectl.analysis.figures.budget_figure import budget_figure
from tunectl.analysis.figures.figures import PairsFigure, ParallelFigure
from tunectl.analysis.figures.isolation_figures import isolation_figures
from tunectl.analysis.figures.study_figures import best_step_figure, training_curves
from tunectl.analysis.figures.trial_axes_figures import MOST_AXES, MOST_LINES, MOST_PAIRED, trial_axes_figures
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.isolation import isolations
from tunectl.core.records import PlannedTrial
from tunectl.report.plot_theme import COLOURS
from tunectl.report.plots import vega_lite
from tunectl.space.trial_plan import plan_trials

RATES = (
    "[{role: nuisance, when: {optimizer: sgd}, range: [1e-2, 10], scale: log}, "
    "{role: nuisance, when: {optimizer: nesterov}, range: [1e-3, 1], scale: log}, "
    "{role: nuisance, when: {optimizer: adam}, range: [1e-6, 1e-1], scale: log}]"
)
OPTIMIZERS = {
    "optimizer": "{role: scientific, values: [sgd, nesterov, adam]}",
    "learning_rate": RATES,
    "beta1": "{role: nuisance, when: {optimizer: adam}, range: [0.8, 0.99], scale: one_minus_log}",
}
LAST = 100.0


def loss(plan: PlannedTrial) -> float | None:
    rate = float(plan.hyperparameters["learning_rate"])
    return None if plan.point == 3 else 0.1 * (1 + plan.setting) + 0.01 * abs(math.log10(rate))


def evidence(
    hyperparameters: dict[str, Any], trials: int, value: Callable[[PlannedTrial], float | None] = loss
) -> StudyEvidence:
    spec = study(hyperparameters, search=f"{{trials: {trials}}}")
    runs = []
    for plan in plan_trials(spec):
        found = value(plan)
        state: Any = "completed" if found is not None else "infeasible"
        curves: Any = {spec.objective.metric: (np.array([0.0, LAST]), np.array([1.0, found or 1.0]))}
        runs.append(Run(plan, state, best_value=found, best_step=100, curves=curves))
    return StudyEvidence(spec, spec.objective, tuple(runs))


def colour_of(figure: Any, series: str) -> str:
    """The colour in which a series is drawn."""
    for part in vega_lite(figure)["layer"]:
        channel = part["encoding"].get("color", {})
        if channel.get("field") == "series" and series in channel["scale"]["domain"]:
            return str(channel["scale"]["range"][channel["scale"]["domain"].index(series)])
    raise AssertionError(f"{series} has no colour")


def test_the_learning_rates_of_all_optimizers_are_on_one_axis_and_on_their_own_ones():
    figures = {figure.name: figure for figure in axis_figures(evidence(OPTIMIZERS, 6))}
    together = figures["axis-learning_rate"]
    assert (together.x.scale, together.x.searched) == ("log", (1e-6, 10.0))
    assert len(together.points) == 18
    assert sum(len(figure.points) for name, figure in figures.items() if "optimizer-" in name) == 18
    assert "axis-beta1" in figures
    assert len([name for name in figures if "beta1" in name]) == 1, "a name with one alternative has one plot"


def test_alternatives_on_different_scales_have_no_axis_in_common():
    hyperparameters = {
        "optimizer": "{role: scientific, values: [sgd, adam]}",
        "learning_rate": "[{role: nuisance, when: {optimizer: sgd}, range: [0.1, 0.2]}, "
        "{role: nuisance, when: {optimizer: adam}, range: [1e-6, 1e-1], scale: log}]",
    }
    names = [figure.name for figure in axis_figures(evidence(hyperparameters, 4))]
    assert "axis-learning_rate" not in names
    assert len([name for name in names if "learning_rate" in name]) == 2


def test_a_setting_has_one_colour_in_every_plot():
    found = evidence(OPTIMIZERS, 8)
    axes = {figure.name: figure for figure in axis_figures(found)}
    alone = next(figure for name, figure in axes.items() if "adam" in name)
    (curves,) = training_curves(found)
    name = next(series for series in curves.colours if "optimizer=adam" in series)
    isolation = isolation_figures(found, isolations(found))[0]
    drawn = [
        *(colour_of(figure, "optimizer=adam") for figure in (axes["axis-learning_rate"], alone, isolation)),
        *(colour_of(figure, "optimizer=adam") for figure in (budget_figure(found), best_step_figure(found))),
        colour_of(curves, name),
    ]
    assert set(drawn) == {COLOURS[2]}


def test_infeasible_trials_of_a_setting_are_crosses_in_its_colour():
    figure = next(figure for figure in axis_figures(evidence(OPTIMIZERS, 6)) if figure.name == "axis-learning_rate")
    crosses = [part for part in vega_lite(figure)["layer"] if part["mark"].get("shape") == "cross"]
    (shown,) = [part for part in crosses if part["data"]["values"]]
    assert len(shown["data"]["values"]) == 3
    assert shown["encoding"]["color"]["field"] == "series"


def test_retrains_of_the_best_trial_of_a_value_are_a_bar_beside_it():
    found = evidence(OPTIMIZERS, 4)
    best = found.ranked(found.by_setting[1])[0]
    again = [
        Run(replace(best.plan, trial=100 + repeat, repeat=repeat, trial_kind="retrain"), "completed", best_value=value)
        for repeat, value in ((1, 0.30), (2, 0.32), (3, 0.34))
    ]
    found = replace(found, runs=(*found.runs, *again))
    (figure,) = isolation_figures(found, isolations(found))
    (bar,) = figure.whiskers
    assert (bar.x, bar.series) == ("nesterov", "optimizer=nesterov")
    assert [bar.low, bar.middle, bar.high] == pytest.approx([0.30, 0.32, 0.34])
    assert "retrains" in " ".join(vega_lite(figure)["title"]["subtitle"])
    lost = Run(replace(again[0].plan, trial=104, repeat=4), "infeasible", best_value=0.3)
    found = replace(found, runs=(*found.runs, lost))
    (figure,) = isolation_figures(found, isolations(found))
    assert figure.whiskers == [], "a mean without the infeasible retrain would be too good"


def test_parallel_coordinates_have_an_axis_for_each_name_and_lines_pass_below_what_is_not_active():
    found = evidence(OPTIMIZERS, 8)
    parallel, pairs = trial_axes_figures(found)
    assert isinstance(parallel, ParallelFigure)
    assert [axis.title for axis in parallel.axes[:-1]] == ["optimizer", "learning_rate", "beta1"]
    assert len(parallel.trials) == 24
    inactive = [trial for trial in parallel.trials if trial.values[2] is None]
    assert len(inactive) == 16
    values = [trial.value for trial in parallel.trials if trial.value is not None]
    assert values == sorted(values, reverse=True), "the best are drawn last"
    definition = vega_lite(parallel)
    lines = [part for part in definition["layer"] if part["mark"]["type"] == "line"]
    grey, coloured = (part["data"]["values"] for part in lines)
    assert {row["trial"] for row in grey} == {run.plan.trial for run in found.searched if not run.feasible}
    assert {row["y"] < 0 for row in coloured if row["shown_y"] == "not active"} == {True}
    assert all(0 <= row["y"] <= 1 for row in coloured if row["shown_y"] != "not active")
    assert isinstance(pairs, PairsFigure)


def test_pairs_show_each_trial_in_the_plot_of_each_pair_that_it_has():
    _, pairs = trial_axes_figures(evidence(OPTIMIZERS, 8))
    definition = vega_lite(pairs)
    rows = [row for part in definition["layer"] for row in part["data"]["values"] if "trial" in row]
    # Two axes for all 24 trials; a third, in two more pairs, for the 8 of adam.
    assert len(rows) == 24 + 2 * 8
    assert {row["trial"] for row in rows} == set(range(24))


def test_many_trials_and_many_hyperparameters_are_thinned_and_it_is_said():
    names = {f"h{place}": "{role: nuisance, range: [0, 1]}" for place in range(MOST_AXES + 2)}
    rate = "{role: nuisance, range: [1e-3, 1], scale: log}"
    spec_of = {"learning_rate": rate, **names}
    found = evidence(spec_of, MOST_LINES + 40, lambda plan: float(plan.hyperparameters["h0"]))
    parallel, pairs = trial_axes_figures(found)
    assert (len(parallel.trials), len(parallel.axes), len(pairs.axes)) == (MOST_LINES, MOST_AXES + 1, MOST_PAIRED)
    assert f"{MOST_LINES} of {MOST_LINES + 40} trials" in " ".join(parallel.notes)
    assert "3 others are left out" in " ".join(parallel.notes)
    assert pairs.axes[0].title == "h0", "the one that explains most comes first"
    best = min(found.searched, key=lambda run: run.best_value or 9)
    assert best.plan.trial in {trial.trial for trial in parallel.trials}


def test_one_hyperparameter_or_no_value_has_no_figure_of_all():
    rate = {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}
    assert trial_axes_figures(evidence(rate, 6)) == []
    assert trial_axes_figures(evidence(OPTIMIZERS, 3, lambda _: None)) == []
