"""Tests analysis/figures/sensitivity_figures.py: what the plots of sensitivity show of a simulated study."""

from __future__ import annotations

import math
from dataclasses import replace

from builders import study_text
from made_up_folders import made_up_folder
from narrowing import as_number
from planted_effects import planted_effects
from study_of_losses import study_of_losses

from tunectl.analysis.figures.figures import BarsFigure, MatrixFigure, ShadedFigure
from tunectl.analysis.figures.sensitivity_figures import sensitivity_figures
from tunectl.session.snapshot import study_snapshot
from tunectl.session.study_evidence import ObjectiveChoice, evidence_of


def of_kind(figures, kind):
    return [figure for figure in figures if isinstance(figure, kind)]


def test_a_pair_that_interacts_has_a_bar_a_frame_and_a_plot_of_its_trials():
    figures = sensitivity_figures(planted_effects("valley", 0, 40, 0.2))
    (bars,) = of_kind(figures, BarsFigure)
    assert bars.y.categories[0] == "learning_rate × momentum"
    (matrix,) = of_kind(figures, MatrixFigure)
    assert [{tile.x, tile.y} for tile in matrix.tiles if tile.framed] == [{"learning_rate", "momentum"}]
    assert len(matrix.tiles) == 5 + 10
    (pair,) = of_kind(figures, ShadedFigure)
    assert (pair.x.title, pair.y.title, len(pair.points)) == ("learning_rate", "momentum", 40)


def test_what_decides_feasibility_has_bars_of_its_own_and_pale_ones_are_not_sure():
    figures = sensitivity_figures(planted_effects("below an edge", 0, 60, 0.2))
    assert [figure.name for figure in of_kind(figures, BarsFigure)] == [
        "sensitivity-objective",
        "sensitivity-feasibility",
    ]
    feasibility = of_kind(figures, BarsFigure)[1]
    assert {bar.y for bar in feasibility.bars if not bar.faint} == {"learning_rate"}


def test_settings_are_beside_each_other_and_all_of_them_together_first():
    figures = sensitivity_figures(planted_effects("additive", 0, 20, 0.2, settings=2))
    assert [*dict.fromkeys(bar.series for bar in of_kind(figures, BarsFigure)[0].bars)] == [
        *("all together", "optimizer=nesterov", "optimizer=adam")
    ]


def test_the_darkest_end_of_the_colours_is_the_best_value_in_either_direction():
    evidence = study_of_losses(0, 30, lambda _generator, rate, decay: rate + 0.5 * decay)
    higher = replace(evidence, objective=replace(evidence.objective, direction="maximize"))
    values = [run.best_value or 0.0 for run in evidence.runs]
    (lower_pair,), (higher_pair,) = (of_kind(sensitivity_figures(each), ShadedFigure) for each in (evidence, higher))
    assert lower_pair.colour.searched[0] == min(values)
    assert higher_pair.colour.searched[0] == max(values)


def test_rates_of_two_optimizers_which_share_no_trial_are_not_plotted_against_each_other(tmp_path):
    rates = "\n    - {role: nuisance, when: {optimizer: sgd}, range: [1e-3, 1], scale: log}"
    rates += "\n    - {role: nuisance, when: {optimizer: adam}, range: [1e-5, 1e-2], scale: log}"
    given = {"optimizer": "{role: scientific, values: [sgd, adam]}", "learning_rate": rates}
    text = study_text({**given, "label_smoothing": "{role: nuisance, range: [0.0, 0.2]}"}, search="{trials: 16}")
    folder = made_up_folder(
        tmp_path / "s", text, lambda plan: abs(math.log10(as_number(plan.hyperparameters["learning_rate"])) + 2.5) / 9
    )
    with study_snapshot(folder.path, print) as study:
        evidence, _ = evidence_of(study, ObjectiveChoice())
    (pair,) = of_kind(sensitivity_figures(evidence), ShadedFigure)
    assert "label_smoothing" in (pair.x.title, pair.y.title)
    assert len(pair.points) == 16


def test_few_trials_have_no_plot():
    assert sensitivity_figures(study_of_losses(0, 6, lambda _generator, rate, _decay: rate)) == []
