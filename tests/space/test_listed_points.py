"""Grids and points by hand."""

from __future__ import annotations

import itertools

import pytest
from builders import NUISANCE_RATE, study
from hypothesis import given, settings
from hypothesis import strategies as st

from tunectl.core.errors import StudyError
from tunectl.space.trial_plan import plan_trials

VARIES = {"learning_rate": NUISANCE_RATE}
TWO = {
    "optimizer": "{role: scientific, values: [nesterov, adam]}",
    "learning_rate": "[{role: nuisance, when: {optimizer: nesterov}, range: [1e-3, 3], scale: log}, "
    "{role: nuisance, when: {optimizer: adam}, range: [1e-5, 1e-1], scale: log}]",
    "momentum": "{role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.999]}",
}


def grid(hyperparameters):
    return plan_trials(study(hyperparameters, search="{sampler: grid}"))


def test_a_grid_is_every_combination_the_first_name_slowest():
    trials = grid(
        {
            "learning_rate": "{role: nuisance, range: [1e-2, 1], scale: log, points: 3}",
            "width": "{role: nuisance, values: [8, 16]}",
        }
    )
    assert [(t.hyperparameters["learning_rate"], t.hyperparameters["width"]) for t in trials] == [
        (pytest.approx(rate), width) for rate in (0.01, 0.1, 1.0) for width in (8, 16)
    ]
    assert {trial.coordinates for trial in trials} == {()}
    assert [trial.point for trial in trials] == list(range(6))


def test_settings_of_a_grid_take_turns_until_each_has_all_of_its_own():
    trials = grid(
        {
            "num_layers": "{role: scientific, values: [1, 2]}",
            "learning_rate": "0.1",
            "dropout": "{role: nuisance, values: [0.1, 0.2, 0.3], when: {num_layers: 2}}",
        }
    )
    assert [(trial.trial, trial.setting, trial.point) for trial in trials] == [
        (0, 0, 0),
        (1, 1, 0),
        (2, 1, 1),
        (3, 1, 2),
    ]
    assert "dropout" not in trials[0].hyperparameters


@st.composite
def conditional_grids(draw):
    """(name, values, parent, wanted): each may wait for a value of an earlier one."""
    names = [f"n{index}" for index in range(draw(st.integers(1, 5)))]
    rows: list[tuple[str, list[int], str | None, list[int]]] = []
    for position, name in enumerate(names):
        values = list(range(draw(st.integers(2, 3))))
        parent = draw(st.sampled_from(rows)) if rows and draw(st.booleans()) else None
        wanted = draw(st.lists(st.sampled_from(parent[1]), min_size=1, unique=True)) if parent else []
        rows.append((name, values, parent[0] if parent else None, wanted))
        assert position < 5
    return rows


@settings(max_examples=60, deadline=None)
@given(conditional_grids(), st.randoms(use_true_random=False))
def test_a_conditional_grid_agrees_with_brute_force(rows, shuffle):
    expected = set()
    for values in itertools.product(*(values for _, values, _, _ in rows)):
        point: dict[str, int] = {}
        for (name, _, parent, wanted), value in zip(rows, values, strict=True):
            if parent is None or point.get(parent) in wanted:
                point[name] = value
        expected.add(frozenset(point.items()))
    shuffled = shuffle.sample(rows, len(rows))  # the order of the file is any order
    entries = {
        name: f"{{role: nuisance, values: {values}{f', when: {{{parent}: {wanted}}}' if parent else ''}}}"
        for name, values, parent, wanted in shuffled
    }
    trials = grid(entries)
    found = [frozenset((k, v) for k, v in t.hyperparameters.items() if k.startswith("n")) for t in trials]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_a_grid_is_counted_before_it_is_made():
    wide = {f"n{index}": "{role: nuisance, range: [0, 1], points: 10}" for index in range(12)}
    with pytest.raises(StudyError, match="got 1,000,000,000,000; use fewer points"):
        grid(wide)
    behind = {
        "a": "{role: nuisance, values: [1, 2]}",
        "b": "{role: nuisance, range: [0, 1], points: 9999, when: {a: 1}}",
        "c": "{role: nuisance, range: [0, 1], points: 101, when: {a: 1}}",
    }
    with pytest.raises(StudyError, match="got 1,009,900;"):
        grid(behind)
    assert len(grid({**behind, "b": "{role: nuisance, range: [0, 1], points: 7, when: {a: 1}}"})) == 7 * 101 + 1


def by_hand(points, hyperparameters=None):
    return plan_trials(study(hyperparameters or TWO, search=f"{{points: {points}}}"))


def problems(points, hyperparameters=None):
    with pytest.raises(StudyError) as caught:
        by_hand(points, hyperparameters)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_points_by_hand_are_trials_in_their_order():
    trials = by_hand("[{optimizer: adam, learning_rate: 1e-3}, {optimizer: nesterov, learning_rate: 1, momentum: 0.9}]")
    assert [dict(trial.hyperparameters) for trial in trials] == [
        {"optimizer": "nesterov", "learning_rate": 1.0, "momentum": 0.9},
        {"optimizer": "adam", "learning_rate": 1e-3},
    ]
    assert [(trial.setting, trial.point, trial.coordinates) for trial in trials] == [(0, 1, ()), (1, 0, ())]


def test_a_point_without_a_scientific_value_is_in_every_setting():
    trials = by_hand("[{learning_rate: 0.01, momentum: 0.9}, {learning_rate: 0.02, momentum: 0.8}]")
    assert [(t.setting, t.point, t.hyperparameters["learning_rate"]) for t in trials] == [
        (0, 0, 0.01), (1, 0, 0.01), (0, 1, 0.02), (1, 1, 0.02),
    ]  # fmt: skip
    assert "momentum" not in trials[1].hyperparameters


def test_fixed_values_may_be_left_out_or_repeated():
    fixed = {**VARIES, "width": "64"}
    left_out, repeated = by_hand("[{learning_rate: 0.1}, {learning_rate: 0.1, width: 64}]", fixed)
    assert left_out.hyperparameters == repeated.hyperparameters


def test_a_value_gets_the_type_of_its_declaration():
    declared = {
        **VARIES,
        "width": "{role: nuisance, values: [8, 16]}",
        "depth": "{role: nuisance, range: [1, 4], type: int}",
    }
    (trial,) = by_hand("[{learning_rate: 1, width: 8.0, depth: 2e0}]", declared)
    assert [repr(trial.hyperparameters[name]) for name in ("learning_rate", "width", "depth")] == ["1.0", "8", "2"]


@pytest.mark.parametrize(
    ("point", "problem"),
    [
        ("{}", "search.points[0]: expected a value for learning_rate[optimizer=nesterov], which is active here, got none"),
        ("{optimizer: adam}", "search.points[0]: expected a value for learning_rate[optimizer=adam]"),
        ("{optimizer: adam, learnin_rate: 0.1}", "search.points[0].learnin_rate: the study has no such hyperparameter; did you mean learning_rate?"),
        ("{optimizer: sgd, learning_rate: 0.1}", "search.points[0].optimizer: expected a value in the study's domain of optimizer, got 'sgd'"),
        ("{optimizer: adam, learning_rate: 5}", "search.points[0].learning_rate: expected a value in the study's domain"),
        ("{optimizer: adam, learning_rate: 1}", "search.points[0].learning_rate: learning_rate cannot be 1 in this configuration"),
        ("{optimizer: adam, learning_rate: '0.1'}", "search.points[0].learning_rate: expected a number, got '0.1' (text); write 0.1 without quotes"),
        ("{optimizer: adam, learning_rate: true}", "search.points[0].learning_rate: expected a value in the study's domain"),
        ("{optimizer: adam, learning_rate: .nan}", "search.points[0].learning_rate: expected a value in the study's domain"),
        ("{optimizer: adam, learning_rate: 0.1, momentum: 0.9}", "search.points[0].momentum: momentum is not active in this configuration; leave it out"),
    ],
)  # fmt: skip
def test_a_point_that_does_not_fit_is_refused(point, problem):
    found = problems(f"[{point}, {{optimizer: adam, learning_rate: 0.1}}]")
    assert any(line.startswith(problem) for line in found), found


def test_a_fixed_value_cannot_be_changed_by_a_point():
    fixed = {**TWO, "width": "[{value: 8, when: {optimizer: adam}}, {value: 16, when: {optimizer: nesterov}}]"}
    found = problems("[{optimizer: adam, learning_rate: 0.1, width: 16}]", fixed)
    assert found == ["search.points[0].width: width cannot be 16 in this configuration, because of its `when`"]
    assert by_hand("[{optimizer: adam, learning_rate: 0.1, width: 8}]", fixed)[0].hyperparameters["width"] == 8
    assert (
        "expected a value in the study's domain of width, got 32"
        in problems("[{learning_rate: 0.1, width: 32}]", {**VARIES, "width": "64"})[0]
    )


def test_the_problems_of_all_points_come_at_once():
    found = problems("[{optimizer: adam}, {optimizer: sgd}, {optimizer: adam, learning_rate: 7}]")
    assert [line.split(":")[0] for line in found] == [
        "search.points[0]",
        "search.points[1].optimizer",
        "search.points[2].learning_rate",
    ]
