from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pandas as pd
import pytest
from narrowing import as_number

from tunectl.analysis.results.selection import Selection, select
from tunectl.core.measurement_kinds import CURVATURE, THROUGHPUT
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective

METRIC = "valid/error_rate"
BEST = Objective(METRIC, "minimize")
FINAL = Objective(METRIC, "minimize", checkpoint="final")


def measurements(*values, start=0, measurement_kind="evaluation"):
    return [
        Measurement(
            10 * (start + place),
            {METRIC: value, "train/loss": 1.0 + place},
            measurement_kind,
            checkpoint=f"{10 * place}.pt",
        )
        for place, value in enumerate(values)
    ]


def test_metrics_of_the_end_alone_count_whichever_step_is_the_best():
    *earlier, last = measurements(0.5, 0.2, 0.3, 0.4)
    told = last._replace(metrics={**last.metrics, "test/bleu": 30.0})
    twice = earlier[2]._replace(metrics={**earlier[2].metrics, "test/bleu": 20.0})
    for objective in (BEST, replace(BEST, steps_to=0.1)):
        assert select([*earlier, told], objective).metrics_at_best.get("test/bleu") == 30.0
        assert "test/bleu" not in select([*earlier[:2], twice, told], objective).metrics_at_best
    assert select([*earlier, told], BEST).best_step == 10
    assert select([*earlier, told], BEST).metrics_at_best["train/loss"] == 2.0
    later = [Measurement(31, {"test/bleu": 30.0}), Measurement(32, {"test/accuracy": 0.5, "test/bleu": 31.0})]
    found = select([*earlier, last, *later], BEST).metrics_at_best
    assert (found.get("test/bleu"), found.get("test/accuracy")) == (31.0, 0.5)
    # One evaluation after the start says nothing about what comes at the end.
    lost = [earlier[0], last._replace(metrics={METRIC: math.nan, "train/minibatch_loss": 1.0})]
    assert select(lost, BEST).metrics_at_best == {}


def oracle(items, objective):
    """By pandas, from the words of the design."""
    frame = pd.DataFrame(
        [
            {"step": item.step, "value": item.metrics.get(METRIC)}
            for item in items
            if item.measurement_kind == "evaluation"
        ]
    )
    if frame.empty:
        return None, None
    frame = frame.sort_values("step")
    frame = frame[frame["step"] > 0]
    if objective.checkpoint == "final":
        frame = frame.tail(1)
    frame = frame[frame["value"].map(lambda value: value is not None and math.isfinite(value))]
    if frame.empty:
        return None, None
    value = frame["value"].min() if objective.direction == "minimize" else frame["value"].max()
    row = frame[frame["value"] == value].iloc[0]
    return int(row["step"]), float(row["value"])


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("checkpoint", ["best", "final"])
def test_selection_agrees_with_a_data_frame_on_every_short_series(direction, checkpoint):
    objective = Objective(METRIC, direction, checkpoint)
    pool = [0.0, 0.5, math.nan, math.inf, -math.inf]
    for length in range(4):
        for values in itertools.product(pool, repeat=length):
            items = measurements(*values)
            found = select(items, objective)
            assert (found.best_step, found.best_value) == oracle(items, objective)


def test_selection_agrees_with_a_data_frame_in_any_order_with_other_kinds_and_missing_values():
    generator = random.Random(0)
    for _ in range(150):
        items = measurements(*[generator.choice([0.1, 0.2, 0.3, math.nan]) for _ in range(generator.randrange(12))])
        items += measurements(0.0, start=generator.randrange(9), measurement_kind="test")
        items += [Measurement(1000, {"other/metric": 0.0})] * generator.randrange(2)
        generator.shuffle(items)
        for objective in (BEST, FINAL, Objective(METRIC, "maximize")):
            found = select(items, objective)
            assert (found.best_step, found.best_value) == oracle(items, objective)


def test_without_evaluations_nothing_is_selected():
    assert select([], BEST) == Selection()
    assert select(measurements(0.5, measurement_kind="test"), BEST) == Selection()


def test_the_start_is_never_the_best_but_is_the_last_where_it_is_alone():
    assert select(measurements(0.1), BEST) == Selection(final_step=0, final_value=0.1)
    assert select(measurements(0.1), FINAL) == Selection(final_step=0, final_value=0.1)
    assert select(measurements(0.1, 0.9), BEST).best_step == 10


def test_a_tie_goes_to_the_earlier_step():
    for objective in (BEST, Objective(METRIC, "maximize")):
        assert select(measurements(0.9, 0.5, 0.5, 0.5)[::-1], objective).best_step == 10


def test_the_final_value_is_what_it_is_and_the_best_is_finite():
    found = select(measurements(0.9, 0.4, math.nan), BEST)
    assert (found.best_step, found.best_value, found.final_step) == (10, 0.4, 20)
    assert math.isnan(as_number(found.final_value))
    assert select(measurements(0.9, 0.4, -math.inf), BEST).final_value == -math.inf
    found = select(measurements(0.9, 0.4, math.nan), FINAL)
    assert (found.best_step, found.best_value, found.final_step) == (None, None, 20)


def test_the_metrics_at_the_best_step_come_along():
    found = select(measurements(0.9, 0.4, 0.6), BEST)
    assert found.metrics_at_best == {METRIC: 0.4, "train/loss": 2.0}
    assert select(measurements(0.9, 0.4, 0.6), FINAL).metrics_at_best == {METRIC: 0.6, "train/loss": 3.0}


def test_curvature_at_the_best_step_is_the_last_one_measured_until_then():
    def curved(step, value):
        return CURVATURE.measurement(step, {"lambda_1": value}, 0.0)

    items = measurements(0.9, 0.4, 0.6)
    beside = {METRIC: 0.4, "train/loss": 2.0}
    assert select([*items, curved(11, 3.0)], BEST).metrics_at_best == beside, "none until then"
    for lines, found in (
        ([curved(0, 1.0), curved(11, 3.0)], (1.0, 0)),
        ([curved(7, 2.0), curved(0, 1.0)], (2.0, 7)),
        ([curved(7, 2.0), curved(10, 2.5), curved(15, 3.0)], (2.5, 10)),
    ):
        expected = {**beside, "curvature/lambda_1": found[0], "curvature/step": found[1]}
        assert select([*lines, *items], BEST).metrics_at_best == expected
    # A metric that the last measurement could not find is absent, not that of an earlier one.
    two = CURVATURE.measurement(0, {"lambda_1": 1.0, "directional": 0.5}, 0.0)
    assert "curvature/directional" not in select([two, curved(7, 2.0), *items], BEST).metrics_at_best


def test_throughput_counts_at_its_own_step_alone():
    for step, found in ((10, {"throughput/seconds_per_step": 0.5}), (9, {}), (11, {})):
        line = THROUGHPUT.measurement(step, {"seconds_per_step": 0.5}, 0.0)
        at_best = select([*measurements(0.9, 0.4, 0.6), line], BEST).metrics_at_best
        assert at_best == {METRIC: 0.4, "train/loss": 2.0, **found}


def test_a_checkpoint_is_named_only_while_it_is_there():
    items = measurements(0.9, 0.4, 0.6)
    assert select(items, BEST, {"10.pt", "20.pt"}).best_checkpoint == "10.pt"
    assert select(items, BEST, {"20.pt"}).best_checkpoint is None
    assert select([Measurement(10, {METRIC: 0.4})], BEST, {"10.pt"}).best_checkpoint is None


def test_the_metric_s_name_may_hold_slashes_and_any_letters():
    objective = Objective("valid/é/top 5", "maximize")
    assert select([Measurement(3, {"valid/é/top 5": 0.25})], objective).best_value == 0.25


def test_with_a_target_the_first_evaluation_that_reaches_it_counts_by_its_step():
    objective = Objective(METRIC, "minimize", steps_to=0.2)
    items = measurements(0.1, 0.5, math.nan, 0.2, 0.4, 0.05)
    found = select(items, objective, {"30.pt", "50.pt"})
    assert (found.best_step, found.best_value, found.best_checkpoint) == (30, 30.0, "30.pt")
    assert found.metrics_at_best[METRIC] == 0.2
    assert (found.final_step, found.final_value) == (50, 0.05), "that of the metric"
    assert select(items, objective).best_checkpoint is None


def test_a_trial_that_never_reaches_the_target_has_no_best_value_and_keeps_its_last_one():
    items = measurements(0.1, 0.5, 0.3)
    items += measurements(0.1, start=7, measurement_kind=THROUGHPUT)
    found = select(items, Objective(METRIC, "minimize", steps_to=0.2))
    assert found == Selection(final_step=20, final_value=0.3)
