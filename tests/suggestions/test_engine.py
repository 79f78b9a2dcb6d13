"""The engine's own part: where points are moved, and which objective the model gets; and one run of the whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from itertools import product

import pytest

from tunectl.space.halton import halton_points
from tunectl.suggestions.engine import nearest_untried, objective_values
from tunectl.suggestions.engine_files import EngineDimension, EngineRequest, FinishedPoint, read_answer
from tunectl.suggestions.engine_process import ENGINE

LAYERS, ACTIVATION = EngineDimension("layers", "whole", 1, 4), EngineDimension("activation", "choice", 0, 2)
RATE = EngineDimension("learning_rate", "real")


def test_a_point_that_was_not_tried_stays_where_it_is() -> None:
    assert nearest_untried((2, 0), (LAYERS, ACTIVATION), {(1, 0)}) == (2, 0)


def test_a_point_that_was_tried_is_moved_to_its_nearest_neighbour() -> None:
    found = [
        nearest_untried((2, 0), (LAYERS, ACTIVATION), {(2, 0), (3, 0), (1, 0), (2, 1)}),
        nearest_untried((0.0, 2), (RATE, LAYERS), {(0.0, 2)}),
    ]
    assert found == [(2, 2), (1 / 64, 2)]  # another choice is one step away


def test_a_space_of_which_every_point_was_tried_has_no_further_one() -> None:
    everything: set[tuple[float, ...]] = {(layers, activation) for layers, activation in product(range(1, 5), range(3))}
    assert nearest_untried((2, 0), (LAYERS, ACTIVATION), {*everything}) is None
    assert nearest_untried((2, 0), (LAYERS, ACTIVATION), everything - {(4, 2)}) == (4, 2)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
        ([0.1, None, 0.2, 0.3], [0.1, 0.3, 0.2, 0.3]),
        ([1.0, 1.0, 1.0, 9.0, None], [1.0, 1.0, 1.0, 9.0, 9.0]),
    ],
)
def test_an_infeasible_trial_counts_as_a_bad_one(costs: Sequence[float | None], expected: list[float]) -> None:
    assert objective_values(costs) == pytest.approx(expected)


def test_a_cost_that_is_far_worse_than_all_others_is_only_a_bad_one() -> None:
    found = objective_values([0.1, 0.2, 0.3, 1e6])
    assert found[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert found[3] == pytest.approx(0.5)  # as far above the median, 0.3, as the best is below it


def test_the_engine_proposes_the_same_feasible_untried_points_for_the_same_request() -> None:
    """Results improve up to an edge at 0.7 beyond which trials are infeasible; the pending point is the best one."""
    points = [(rate, 1 + int(4 * depth)) for rate, depth in halton_points(0, 2, 0, 24).tolist()]
    finished = tuple(FinishedPoint(point, None if point[0] > 0.7 else (0.75 - point[0]) ** 2) for point in points)
    request = EngineRequest(1, 2, (RATE, LAYERS), finished, pending=((0.69, 2),))
    runs = [
        subprocess.Popen(
            [*ENGINE, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for run in runs:  # both begin before one is waited for
        assert run.stdin is not None
        run.stdin.write(request.encoded())
        run.stdin.close()
        run.stdin = None
    answers = [run.communicate()[0] for run in runs]
    assert answers[0] == answers[1]
    answer = read_answer(answers[0])
    assert answer.engine.startswith("optuna 5")
    assert len(answer.points) == len({*answer.points}) == 2
    assert all(0.5 < rate < 0.75 and layers in range(1, 5) for rate, layers in answer.points)
    assert not {*answer.points} & {*points, *request.pending}
