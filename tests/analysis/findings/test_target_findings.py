"""Studies whose trials count the steps to a target: what is said of it, and that never reaching it is not infeasible.

Tests findings/target_findings.py, and the findings, orders and plots of other modules under a target.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from simulated_studies import Response, Shape, evidence_of, findings_of, with_target

from tunectl.analysis.comparison.not_distinguishable import by_point, retrain_deviation, settings_findings
from tunectl.analysis.comparison.setting_axes import setting_axes
from tunectl.analysis.figures.axis_figures import axis_figures
from tunectl.analysis.figures.budget_figure import budget_figure
from tunectl.analysis.figures.study_figures import best_step_figure, training_curves
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.analysis.results.runs import Run
from tunectl.core.jsontext import encode
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial
from tunectl.report.plots import vega_lite

OBJECTIVE = Objective("valid/accuracy", "maximize", steps_to=0.85)


def run(trial, values, state="completed", *, setting=0, kind="search"):
    """A trial that is evaluated every 10 steps; its steps to the target by hand where it has any."""
    plan = PlannedTrial(trial, setting, trial, int(kind == "retrain"), (), {}, trial, kind)
    steps = 10.0 * np.arange(len(values), dtype=np.float64)
    reached = next((int(step) for step, value in zip(steps, values, strict=True) if step and value >= 0.85), None)
    return Run(
        plan,
        state,
        best_value=None if reached is None else float(reached),
        best_step=reached,
        curves={OBJECTIVE.metric: (steps, np.array(values, dtype=np.float64))},
    )


def by_hand(*runs):
    """The trials in a study that is evaluated every 10 steps."""
    shape = Shape(names=(), trials=1, direction="maximize", eval_every=10, max_train_steps=40)
    evidence = evidence_of(0, shape, Response({}, {}))
    return replace(evidence, objective=OBJECTIVE, runs=tuple(runs), folder="runs/s")


FAST = run(0, [0.1, 0.5, 0.86, 0.9, 0.9])
SLOW = run(1, [0.1, 0.2, 0.3, 0.5, 0.85])
FAR = run(2, [0.9, 0.2, 0.3, 0.31, 0.4])
NEAR = run(3, [0.1, 0.2, 0.84, 0.5, 0.5])
LOST = run(4, [0.1, 0.9, math.nan], "infeasible")


def test_trials_that_never_reached_it_come_after_all_that_did_and_before_infeasible_ones():
    evidence = by_hand(FAR, LOST, SLOW, NEAR, FAST)
    order = dict(zip([2, 4, 1, 3, 0], evidence.ordered_costs(evidence.searched).tolist(), strict=True))
    assert order[0] == 20.0
    assert order[1] == 40.0
    assert order[2] == order[3] == 41.0
    assert order[4] == math.inf
    assert evidence.costs([FAST, FAR, LOST]).tolist() == [20.0, math.inf, math.inf]
    assert evidence.ranked(evidence.searched) == [FAST, SLOW]
    assert evidence.closest_first(evidence.searched) == [FAST, SLOW, NEAR, FAR], "then by their best value after step 0"
    assert evidence.missed == (FAR, NEAR)
    assert NEAR.closest(OBJECTIVE) == (20.0, 0.84)


def test_without_a_target_the_order_is_that_of_the_costs():
    evidence = replace(by_hand(FAR, LOST), objective=OBJECTIVE.by_metric)
    assert evidence.ordered_costs([FAR, LOST]).tolist() == evidence.costs([FAR, LOST]).tolist()
    assert evidence.closest_first([FAR, LOST]) == evidence.ranked([FAR, LOST])
    assert evidence.missed == ()


def test_who_reached_it_after_the_end_of_a_shorter_trial_is_not_known_to_be_faster_than_that():
    # A warmup that is prepended makes trials longer.
    late = run(5, [0.1] * 6 + [0.9])
    evidence = by_hand(FAR, SLOW, late)
    assert evidence.ordered_costs([FAR, SLOW, late]).tolist() == [61.0, 40.0, 61.0]
    assert evidence.ranked(evidence.searched) == [SLOW, late], "what was measured is listed as it was"
    shorter = [run(2 * point, [0.1, 0.2, 0.3, 0.4, 0.5], setting=0) for point in range(12)]
    longer = [run(2 * point + 1, [0.1] * 6 + [0.9], setting=1) for point in range(12)]
    pairs = [replace(item, plan=replace(item.plan, point=item.plan.trial // 2)) for item in (*shorter, *longer)]
    (found,) = settings_findings(by_hand(*pairs))
    assert found.settings == (1, 0)


def test_how_many_never_reached_it_is_a_note_and_that_none_did_a_warning_that_names_the_closest():
    (some,) = findings_of(by_hand(FAST, SLOW, FAR, NEAR, LOST), "target-not-reached")
    assert (some.level, tuple(some.trials)) == ("note", (2, 3))
    assert some.sentence.startswith("2 of 4 completed trials never reached valid/accuracy ≥ 0.85 within 40 steps")
    (none,) = findings_of(by_hand(FAR, NEAR, LOST), "target-not-reached")
    assert none.level == "warning"
    assert "(trial 3 came closest, with 0.84 at step 20)" in none.sentence
    assert none.command == "tunectl report runs/s --steps-to=0.84"
    assert findings_of(by_hand(FAST, SLOW, LOST), "target-not-reached") == []


def test_that_the_target_was_reached_at_one_of_the_first_evaluations_is_a_note_with_the_resolution():
    (note,) = findings_of(by_hand(FAST, SLOW, replace(FAST, plan=replace(FAST.plan, trial=7))), "coarse-target")
    assert "at its evaluation number 2, as did 1 other trial: its 20 steps are only known to within 10" in note.sentence
    assert [(change.path, change.value) for change in note.changes] == [(("training", "eval_every"), 2)]
    every_step = replace(
        FAST, best_step=2, best_value=2.0, curves={OBJECTIVE.metric: (np.arange(3.0), np.arange(3.0) / 2)}
    )
    assert findings_of(by_hand(every_step), "coarse-target") == []
    late = run(0, [0.1] * 6 + [0.9])
    assert findings_of(by_hand(late), "coarse-target") == []
    assert findings_of(by_hand(FAR), "coarse-target") == []


def test_a_target_that_holds_before_training_is_a_warning():
    there, alike = run(0, [0.9, 0.86, 0.9]), run(1, [0.85, 0.3, 0.9])
    (warning,) = findings_of(by_hand(there, alike, NEAR), "coarse-target")
    assert warning.level == "warning"
    assert "valid/accuracy ≥ 0.85 were there at step 0, before they were trained" in warning.sentence
    assert "objective.direction (maximize)" in warning.action
    assert warning.trials == (0, 1)
    (note,) = findings_of(by_hand(there, SLOW), "coarse-target")
    assert note.level == "note"
    unknown = replace(there, curves={OBJECTIVE.metric: (np.array([10.0, 20.0]), np.array([0.9, 0.9]))})
    assert [found.level for found in findings_of(by_hand(unknown), "coarse-target")] == ["note"]


def study(target, **changes):
    """Trials of two settings that need the more steps the further they are from the best learning rate."""
    shape = Shape(names=("learning_rate",), settings=2, trials=16, eval_every=20)
    response = {"optima": {"learning_rate": 0.5}, "strengths": {"learning_rate": 2.0}, "offsets": (0.0, 0.1)}
    return with_target(evidence_of(3, shape, Response(**{**response, **changes})), target)


def ids(evidence):
    return {finding.id for finding in study_findings(evidence)}


@pytest.mark.parametrize("target", [0.2, 0.01])
def test_trials_far_from_the_target_are_no_sign_of_infeasibility(target):
    evidence = study(target)
    missed = len(evidence.missed)
    assert missed == 32 if target == 0.01 else 4 <= missed < 28
    assert not ids(evidence) & {"infeasible-fraction", "stability-edge", "diverging"}
    for finding in study_findings(evidence):
        encode(finding.to_json())
        assert "infeasible" not in f"{finding.sentence} {finding.action}"


def test_a_setting_that_never_reached_it_is_compared_with_the_best_one_and_none_is_where_none_did():
    evidence = study(0.12, offsets=(0.0, 3.0))
    assert {run.plan.setting for run in evidence.missed} == {0, 1}
    assert all(run.never_reached(evidence.objective) for run in evidence.by_setting[1])
    costs = by_point(evidence, 1)
    assert len(set(costs.values())) == 1
    assert settings_findings(study(0.01)) == []
    few = replace(evidence, runs=tuple(run for run in evidence.runs if run.plan.point in (0, 1, 2, 3, 4, 5)))
    sentences = [finding.sentence for finding in settings_findings(few)]
    assert len(sentences) == 1
    assert "(not in 2,000 steps)" in sentences[0]


def test_the_notes_on_the_number_of_trials_count_steps_and_those_that_never_reached_it():
    evidence = study(0.2)
    first, _ = findings_of(evidence, "sampled-enough")
    best = min(run.best_value for run in evidence.by_setting[0] if run.best_value is not None)
    missed = sum(run.best_value is None for run in evidence.by_setting[0])
    assert f"The best of 16 trials of optimizer=nesterov took {best:.0f} steps" in first.sentence
    assert f"({missed} never reached valid/error_rate ≤ 0.2)" in first.sentence
    assert (first.numbers["not_reached"], first.numbers["feasible"]) == (missed, 16)
    assert "reached valid/error_rate ≤ 0.01" in findings_of(study(0.01), "sampled-enough")[0].sentence


def test_where_trials_reached_it_longer_training_is_not_proposed_and_where_none_did_it_is():
    falling = Shape(names=(), settings=1, trials=8, max_train_steps=2000, eval_every=20)
    evidence = evidence_of(0, falling, Response({}, {}, floor=0.1))

    def straight(run: Run) -> Run:
        steps, _ = run.curve("valid/error_rate")
        return replace(run, curves={**run.curves, "valid/error_rate": (steps, 0.9 - 0.7 * steps / 2000)})

    evidence = replace(evidence, runs=tuple(straight(run) for run in evidence.runs))
    asked = ("still-improving", "best-step-late")
    assert {finding.id for finding in findings_of(with_target(evidence, 0.1), *asked)} == set(asked)
    assert findings_of(with_target(evidence, 0.5), *asked) == []


def test_a_crowd_at_an_end_is_found_among_the_steps_and_not_where_too_few_reached_it():
    at_end = study(0.25, optima={"learning_rate": 1.1}, strengths={"learning_rate": 1.0}, offsets=(0.0, 0.0))
    (found,) = [item for item in findings_of(at_end, "search-boundary") if item.numbers["end"] == "high"]
    reached = {run.plan.trial for run in at_end.searched if run.best_value is not None}
    assert set(found.trials) <= reached
    assert all(axis.feasible.all() for axis in setting_axes(at_end))
    assert findings_of(study(0.03, optima={"learning_rate": 1.1}), "search-boundary") == []


def test_a_deviation_of_retrains_leaves_out_trials_that_did_not_always_reach_it():
    plans = [replace(FAST.plan, trial=10 + repeat, repeat=repeat, trial_kind="retrain") for repeat in (1, 2)]
    again = [replace(FAST, plan=plan) for plan in plans]
    again[1] = replace(again[1], best_value=30.0, best_step=30, curves={OBJECTIVE.metric: (np.arange(3.0), np.ones(3))})
    assert retrain_deviation(by_hand(FAST, *again)) == pytest.approx(math.sqrt(50.0))
    missed = replace(FAR, plan=replace(FAST.plan, trial=12, repeat=3, trial_kind="retrain"))
    assert retrain_deviation(by_hand(FAST, *again, missed)) is None


def test_the_plots_show_steps_the_target_and_triangles_for_trials_that_never_reached_it():
    evidence = study(0.2)
    (figure, *_) = [item for item in axis_figures(evidence) if "learning_rate" in item.name]
    assert figure.y.title == "steps to valid/error_rate ≤ 0.2"
    of_missed = [point for point in figure.points if point.y is None]
    assert of_missed
    assert {point.above for point in of_missed} == {2000.0}
    text = str(encode(vega_lite(figure)))
    assert "triangle-up" in text
    assert "> 2000" in text
    assert "never reached the target" in text
    assert '"infeasible"' not in text
    (curves, *_) = training_curves(evidence)
    assert [(mark.value, mark.axis) for mark in curves.marks] == [(0.2, "y")]
    assert best_step_figure(evidence) is None
    assert budget_figure(evidence) is not None
    assert training_curves(study(0.01))[0].legend == "best trials", "those that came closest are in front"
