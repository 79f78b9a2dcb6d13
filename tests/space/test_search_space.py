"""The search space: settings, and which coordinate each sampled hyperparameter gets."""

from __future__ import annotations

import itertools

import pytest
from builders import NUISANCE_RATE, study
from hypothesis import given, settings
from hypothesis import strategies as st

from tunectl.core.errors import StudyError
from tunectl.space.conditions import Combination, Conditions
from tunectl.space.search_space import MOST_SETTINGS, search_space
from tunectl.space.trial_plan import plan_trials

SEARCH = "{trials: 4}"
EXAMPLE = {
    "optimizer": "{role: scientific, values: [nesterov, adam]}",
    "learning_rate": "[{role: nuisance, when: {optimizer: nesterov}, range: [1e-3, 3], scale: log}, "
    "{role: nuisance, when: {optimizer: adam}, range: [1e-5, 1e-1], scale: log}]",
    "momentum": "{role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.999], scale: one_minus_log}",
    "beta1": "{role: nuisance, when: {optimizer: adam}, range: [0.8, 0.99], scale: one_minus_log}",
}


def space(hyperparameters, search=SEARCH):
    return search_space(study({"learning_rate": NUISANCE_RATE, **hyperparameters}, search=search))


def columns(found):
    items = [item for alternatives in found.conditions.by_name.values() for item in alternatives]
    return {item.key: found.coordinates[item.path] for item in items if item.path in found.coordinates}


def test_alternatives_behind_values_that_look_alike_draw_on_their_own():
    choices = ", ".join(f"{{role: nuisance, range: [0, 1], when: {{sw: {value}}}}}" for value in ("true", "'true'"))
    trials = plan_trials(
        study(
            {
                "sw": "{role: scientific, values: [true, 'true']}",
                "init_scale": "{role: nuisance, range: [0, 1], when: {sw: true}}",
                "dropout": f"[{choices}]",
            },
            search="{trials: 8}",
        )
    )
    both = [trial.hyperparameters for trial in trials if "init_scale" in trial.hyperparameters]
    assert len(both) == 8
    assert all(values["init_scale"] != values["dropout"] for values in both)


def test_the_alternatives_of_a_name_share_a_coordinate_and_so_do_a_momentum_and_a_beta1():
    found = space(EXAMPLE)
    assert columns(found) == {
        "learning_rate[optimizer=nesterov]": 0,
        "learning_rate[optimizer=adam]": 0,
        "momentum": 1,
        "beta1": 1,
    }
    assert found.dimensions == 2


def test_settings_share_their_points_so_that_none_wins_by_luckier_ones():
    trials = plan_trials(study(EXAMPLE, search="{trials: 8}"))
    for left, right in zip(trials[::2], trials[1::2], strict=True):
        assert (left.setting, right.setting) == (0, 1)
        assert left.point == right.point
        assert left.coordinates == right.coordinates


def test_scientific_values_own_no_coordinate():
    assert space({"num_layers": "{role: scientific, values: [1, 2, 3]}"}).coordinates == {
        ("hyperparameters", "learning_rate"): 0
    }


def test_categorical_and_scientific_ones_get_the_smallest_primes_then_the_order_of_the_study():
    found = space(
        {
            "first": "{role: nuisance, range: [0, 1]}",
            "activation": "{role: nuisance, values: [relu, tanh]}",
            "dropout": "{role: scientific, range: [0, 0.5]}",
            "width": "{role: scientific, values: [1, 2], sampled: true}",
            "last": "{role: nuisance, range: [1, 4], type: int}",
        }
    )
    assert columns(found) == {
        "activation": 0, "dropout": 1, "width": 2, "learning_rate": 3, "first": 4, "last": 5,
    }  # fmt: skip


def test_a_study_without_anything_sampled_has_no_dimension():
    found = search_space(study({"num_layers": "{role: scientific, values: [1, 2]}"}))
    assert (found.coordinates, found.dimensions) == ({}, 0)
    assert [trial.coordinates for trial in plan_trials(study())] == [()]


@st.composite
def conditional_spaces(draw):
    """Hyperparameters of several alternatives that wait for switches, themselves conditional or not."""
    switches = {"s0": "{role: scientific, values: [1, 2, 3]}"}
    for index in range(1, draw(st.integers(1, 3))):
        when = f", when: {{s{index - 1}: {draw(st.sampled_from(['1', '[1, 2]']))}}}" if draw(st.booleans()) else ""
        switches[f"s{index}"] = (
            f"{{role: {draw(st.sampled_from(['nuisance', 'scientific']))}, values: [1, 2, 3], sampled: false{when}}}"
        )
    entries = {}
    for index in range(draw(st.integers(1, 5))):
        switch = draw(st.sampled_from(sorted(switches)))
        values = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True))
        entries[f"h{index}"] = "[" + ", ".join(
            f"{{role: nuisance, range: [0, {value}], when: {{{switch}: {value}}}}}" for value in values
        ) + "]"  # fmt: skip
    return {**switches, **entries}


@settings(max_examples=50, deadline=None)
@given(conditional_spaces())
def test_coordinates_of_those_that_are_ever_active_together_are_never_the_same(hyperparameters):
    try:
        spec = study({"learning_rate": "0.1", **hyperparameters}, search="{trials: 3}")
    except StudyError:  # scientific values behind a sampled switch
        return
    found = search_space(spec)
    conditions = Conditions(spec.hyperparameters)
    names = [name for name in spec.names if name.startswith("s")]
    order = conditions.ancestors(spec.names)
    most = 0
    for values in itertools.product([None, 1, 2, 3], repeat=len(names)):
        # A combination by brute force: a switch has its value exactly where its condition holds.
        combination = Combination()
        chosen = dict(zip(names, values, strict=True))
        right, active = True, []
        for name in order:
            holding = [item for item in conditions.by_name[name] if combination.holds(item)]
            if name in chosen:
                value = chosen[name]
                right = right and (value is not None) == bool(holding)
                if value is not None:
                    combination.values[name] = value
            active += [item for item in holding if item.has_coordinate]
        if right:
            columns = [found.coordinates[item.path] for item in active]
            assert len(columns) == len(set(columns))
            most = max(most, len(columns))
    assert found.dimensions >= most
    assert set(found.coordinates.values()) == set(range(found.dimensions))


def settings_of(hyperparameters):
    return [dict(setting.values) for setting in space(hyperparameters).settings]


def test_every_combination_of_scientific_values_is_a_setting_the_first_name_slowest():
    found = settings_of(
        {"width": "{role: scientific, values: [2, 1]}", "activation": "{role: scientific, values: [relu, tanh]}"}
    )
    assert found == [
        {"width": 2, "activation": "relu"},
        {"width": 2, "activation": "tanh"},
        {"width": 1, "activation": "relu"},
        {"width": 1, "activation": "tanh"},
    ]


def test_a_study_that_asks_about_nothing_has_one_setting():
    assert settings_of({}) == [{}]
    assert settings_of({"width": "{role: scientific, range: [1, 2]}"}) == [{}]
    assert settings_of({"width": "{role: scientific, values: [1, 2], sampled: true}"}) == [{}]


def test_conditional_scientific_values_make_settings_where_they_are_active_only():
    found = settings_of(
        {
            "kind_of_norm": "{role: scientific, when: {norm: true}, values: [batch, layer]}",
            "norm": "{role: scientific, values: [false, true]}",
        }
    )
    assert found == [
        {"norm": False},
        {"kind_of_norm": "batch", "norm": True},
        {"kind_of_norm": "layer", "norm": True},
    ]


def test_alternatives_of_one_name_may_make_settings_or_be_sampled():
    found = settings_of(
        {
            "norm": "{role: scientific, values: [a, b, c]}",
            "width": "[{role: scientific, when: {norm: a}, values: [1, 2]}, {role: nuisance, when: {norm: b}, values: [3, 4]}, "
            "{value: 5, when: {norm: c}}]",
        }
    )
    assert found == [{"norm": "a", "width": 1}, {"norm": "a", "width": 2}, {"norm": "b"}, {"norm": "c"}]


def test_one_and_true_make_two_settings_in_their_order():
    found = settings_of({"x": "{role: scientific, values: [true, 1]}", "y": "{role: scientific, values: [0, false]}"})
    assert [list(map(repr, setting.values())) for setting in found] == [
        ["True", "0"],
        ["True", "False"],
        ["1", "0"],
        ["1", "False"],
    ]


def test_settings_have_a_limit():
    many = {"width": f"{{role: scientific, values: [{', '.join(str(index) for index in range(MOST_SETTINGS))}]}}"}
    assert len(settings_of(many)) == MOST_SETTINGS
    with pytest.raises(StudyError, match="more than 1,000 settings"):
        space({**many, "y": "{role: scientific, values: [1, 2]}"})


def test_the_values_of_a_setting_are_those_of_its_trials():
    spec = study(
        {"learning_rate": NUISANCE_RATE, "x": "{role: scientific, values: [1, 2.5, yes, true]}"}, search=SEARCH
    )
    by_setting = {setting.index: setting.values for setting in search_space(spec).settings}
    for trial in plan_trials(spec):
        assert repr(trial.hyperparameters["x"]) == repr(by_setting[trial.setting]["x"])
