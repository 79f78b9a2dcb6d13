"""Conditions: `when` to any depth, circles, overlaps, impossible values, and what makes a setting.

Tests space/conditions.py, space/hyperparameters.py, language/condition_checks.py.
"""

from __future__ import annotations

import itertools

import pytest
from builders import NUISANCE_RATE, problems_of, study
from hypothesis import given, settings
from hypothesis import strategies as st

from tunectl.space.conditions import MOST_DEPTH, OTHER, Combination, Conditions, Other, TooManyCombinationsError
from tunectl.space.domains import FixedValue, Range, ValueSet, same
from tunectl.space.hyperparameters import Hyperparameter

SEARCH = "{trials: 4}"
BOTH = "{role: scientific, values: [nesterov, adam]}"


def refusals(hyperparameters):
    return problems_of({"learning_rate": NUISANCE_RATE, **hyperparameters}, search=SEARCH)


def accepted(hyperparameters):
    return study({"learning_rate": NUISANCE_RATE, **hyperparameters}, search=SEARCH)


def switch(name="a"):
    return {name: "{role: nuisance, values: [1, 2, 3]}"}


def nuisance(when):
    return f"{{role: nuisance, values: [1, 2], when: {when}}}"


def test_alternatives_of_a_name_are_known_by_their_conditions():
    spec = accepted(
        {
            "optimizer": BOTH,
            "bias": "true",
            "momentum": "{role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.99]}",
            "learning_rate": "[{role: nuisance, when: {optimizer: nesterov}, range: [1, 2]}, "
            "{role: nuisance, when: {optimizer: adam, bias: true}, range: [3, 4]}]",
        }
    )
    keys = [item.key for item in spec.hyperparameters]
    assert "momentum" in keys
    assert "learning_rate[optimizer=nesterov]" in keys
    assert "learning_rate[optimizer=adam,bias=true]" in keys


def test_long_values_do_not_make_two_alternatives_look_alike():
    long = "x" * 80
    spec = accepted(
        {
            "arch": f"{{role: scientific, values: [{long}a, {long}b]}}",
            "width": f"[{nuisance(f'{{arch: {long}a}}')}, {nuisance(f'{{arch: {long}b}}')}]",
        }
    )
    assert len({item.key for item in spec.hyperparameters}) == len(spec.hyperparameters)


def test_a_condition_may_come_before_its_parent_and_to_any_depth():
    chain = {f"c{depth}": nuisance(f"{{c{depth - 1}: 1}}") for depth in range(12, 0, -1)}
    spec = accepted({**chain, "c0": "{role: nuisance, values: [1, 2]}"})
    conditions = Conditions(spec.hyperparameters)
    assert conditions.depths()["c12"] == 12
    assert conditions.ancestors(["c3"]) == ["c0", "c1", "c2", "c3"]
    combinations = list(conditions.combinations(["c12"]))
    assert sorted(len(combination.active) for combination in combinations) == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_conditions_deeper_than_can_be_followed_are_refused_in_either_order(order):
    chain = [(f"c{depth}", nuisance(f"{{c{depth - 1}: 1}}")) for depth in range(1, 1_100)][::order]
    found = refusals({"c0": "{role: nuisance, values: [1, 2]}", **dict(chain)})
    assert found == [
        f"hyperparameters.c{MOST_DEPTH + 1}: expected at most {MOST_DEPTH} conditions above each other, got more"
    ]
    assert accepted({"c0": "{role: nuisance, values: [1, 2]}", **dict(chain[::order][:MOST_DEPTH])})


@pytest.mark.parametrize(
    ("hyperparameters", "circle"),
    [
        ({"a": nuisance("{a: 1}")}, "a → a"),
        ({"a": nuisance("{b: 1}"), "b": nuisance("{a: 1}")}, "a → b → a"),
        ({"x": nuisance("{a: 1}"), "a": nuisance("{b: 1}"), "b": nuisance("{c: 1}"), "c": nuisance("{a: 1}")}, "a → b → c → a"),
        ({"a": f"[{nuisance('{b: 1}')}, {nuisance('{b: 2}')}]", "b": f"[{nuisance('{a: 1}')}]"}, "a → b → a"),
        ({"optimizer": "{role: scientific, values: [adam, sgd], when: {learning_rate: 1}}", "learning_rate": "{role: nuisance, values: [1, 2], when: {optimizer: adam}}"}, "→"),
    ],
)  # fmt: skip
def test_a_circle_is_refused_and_shown(hyperparameters, circle):
    found = refusals(hyperparameters)
    assert len(found) == 1
    assert "these conditions form a circle" in found[0]
    assert circle in found[0]


@pytest.mark.parametrize(
    ("hyperparameters", "problem"),
    [
        ({"a": nuisance("{optimiser: sgd}")}, "a.when.optimiser: expected the name of a hyperparameter, got optimiser; did you mean optimizer?"),
        ({"a": nuisance("{max_train_steps: 1}")}, "expected the name of a hyperparameter, got max_train_steps"),
        ({"a": nuisance("{optimizer: adam}")}, "a.when.optimizer: expected a value of optimizer ('sgd'), got 'adam'"),
        ({**switch(), "b": nuisance("{a: 4}")}, "b.when.a: expected a value of a (1, 2, 3), got 4"),
        ({**switch(), "b": nuisance("{a: [1, 5]}")}, "got 5"),
        ({**switch(), "b": nuisance("{a: true}")}, "got true"),
        ({**switch(), "b": nuisance("{a: '1'}")}, "got '1'"),
        ({"a": "{role: nuisance, values: [true, false]}", "b": nuisance("{a: 1}")}, "b.when.a: expected a value of a (true, false), got 1"),
        ({"a": "{role: nuisance, range: [1, 8], type: int}", "b": nuisance("{a: 9}")}, "b.when.a: expected a value of a (1 to 8), got 9"),
        ({"a": "{role: nuisance, range: [1, 8], type: int}", "b": nuisance("{a: 2.5}")}, "got 2.5"),
        ({"a": "{role: nuisance, range: [1, 8]}", "b": nuisance("{a: 2}")}, "b.when.a: a condition needs single values, and a is a range of floats; make it `values` or type: int"),
        ({**switch(), "b": nuisance("{}")}, "b.when: expected {name: value} or {name: [values]}, got an empty mapping"),
        ({**switch(), "b": nuisance("")}, "b.when: expected {name: value} or {name: [values]}, got nothing"),
        ({**switch(), "b": nuisance("a")}, "b.when: expected {name: value} or {name: [values]}, got 'a'"),
        ({**switch(), "b": nuisance("[a]")}, "b.when: expected {name: value} or {name: [values]}, got a list"),
        ({**switch(), "b": nuisance("{a: }")}, "b.when.a: expected a value, got nothing"),
        ({**switch(), "b": nuisance("{a: []}")}, "b.when.a: expected at least one value, got an empty list"),
        ({**switch(), "b": nuisance("{a: {c: 1}}")}, "b.when.a: expected a number, text, true or false, got a mapping"),
        ({**switch(), "b": nuisance("{a: [[1]]}")}, "b.when.a[0]: expected a number, text, true or false, got a list"),
        ({**switch(), "b": nuisance("{a: .nan}")}, "b.when.a: expected a finite number, got nan"),
    ],
)  # fmt: skip
def test_a_condition_that_is_wrong_is_refused_by_name(hyperparameters, problem):
    found = refusals(hyperparameters)
    assert any(line.startswith("hyperparameters.") and problem in line for line in found), found


@pytest.mark.parametrize(
    ("parent", "place"),
    [
        ("{role: nuisance, values: [1, 2, 2]}", "hyperparameters.a.values[2]"),
        ("[{role: nuisance, values: [1, 3], when: {optimizer: sgd}}, {values: [2, 4]}]", "hyperparameters.a[1].role"),
        ("{role: nuisance}", "hyperparameters.a"),
    ],
)
def test_a_parent_with_a_problem_of_its_own_makes_no_others(parent, place):
    found = refusals({"a": parent, "b": nuisance("{a: 2}"), "c": f"[{nuisance('{a: 1}')}, {nuisance('{a: 2}')}]"})
    assert [line.split(": ")[0] for line in found] == [place]


def test_a_condition_may_wait_for_a_whole_number_of_an_int_range_also_written_as_a_float():
    found = accepted({"a": "{role: nuisance, range: [1, 8], type: int}", "b": nuisance("{a: [1, 8.0]}")})
    assert {"a", "b"} <= {*found.names}


@pytest.mark.parametrize(
    "alternatives",
    [
        # the same value, a common value of two lists, no condition at all
        ["{a: 1}", "{a: 1}"],
        ["{a: [1, 2]}", "{a: [2, 3]}"],
        ["{a: 1}", "{a: 1.0}"],
        ["{a: 1}", None],
        [None, None],
        # across names: a is 1 and b is 1 at once
        ["{a: 1}", "{b: 1}"],
        ["{a: 1, b: 1}", "{a: 1}"],
        ["{a: 1, b: [1, 2]}", "{b: 2, c: 3}"],
        # through parents: `deep` is active under a: 1 only
        ["{deep: 1}", "{a: 1}"],
        ["{deep: 1}", "{deeper: 2}"],
    ],
)
def test_alternatives_that_can_hold_at_once_are_refused(alternatives):
    entries = ", ".join(nuisance(when) if when else "{role: nuisance, values: [1, 2]}" for when in alternatives)
    found = refusals(
        {
            **switch("a"),
            **switch("b"),
            **switch("c"),
            "deep": nuisance("{a: 1}"),
            "deeper": nuisance("{deep: [1, 2]}"),
            "x": f"[{entries}]",
        }
    )
    assert len(found) == 1
    assert "this alternative can be active at the same time" in found[0]
    assert found[0].startswith("hyperparameters.x[1]")


@pytest.mark.parametrize(
    "alternatives",
    [
        ["{a: 1}", "{a: [2, 3]}"],
        ["{a: 1, b: 1}", "{a: 1, b: 2}", "{a: 2}"],
        ["{a: 1, b: 1}", "{b: 2, c: 3}", "{b: 3}"],
        # through parents: `deep` is active under a: 1 only, `other` under a: 2 only
        ["{deep: 1}", "{a: 2}"],
        ["{deep: [1, 2]}", "{other: [1, 2]}", "{a: 3}"],
        ["{deeper: 1}", "{other: 1}"],
        ["{deeper: 1}", "{deep: 2}"],
    ],
)
def test_alternatives_that_never_hold_at_once_are_accepted(alternatives):
    found = accepted(
        {
            "x": f"[{', '.join(nuisance(when) for when in alternatives)}]",
            "deeper": nuisance("{deep: 1}"),
            "deep": nuisance("{a: 1}"),
            "other": nuisance("{a: 2}"),
            **switch("a"),
            **switch("b"),
            **switch("c"),
        }
    )
    assert "x" in found.names


@pytest.mark.parametrize("when", ["{deep: 1, a: 2}", "{deep: 1, other: 1}", "{fixed: 1, a: 1}"])
def test_a_condition_that_no_trial_can_meet_is_refused(when):
    found = refusals(
        {
            **switch("a"),
            "deep": nuisance("{a: 1}"),
            "other": nuisance("{a: 2}"),
            "fixed": "{value: 1, when: {a: 2}}",
            "x": nuisance(when),
        }
    )
    assert len(found) == 1
    assert found[0].startswith("hyperparameters.x.when: the condition never holds")


def test_settings_wait_for_scientific_and_fixed_values_only():
    accepted(
        {
            "a": "{role: scientific, values: [1, 2]}",
            "on": "true",
            "b": "{role: scientific, values: [1, 2], when: {a: 1, on: true}}",
        }
    )
    for parent in ("{role: nuisance, values: [1, 2]}", "{role: scientific, values: [1, 2], sampled: true}"):
        found = refusals({"a": parent, "b": "{role: scientific, values: [1, 2], when: {a: 1}}"})
        assert "scientific values make the settings of the study and cannot depend on a" in found[0]
        accepted({"a": parent, "b": "{role: scientific, values: [1, 2], sampled: true, when: {a: 1}}"})
    grandparent = {
        "a": "{role: nuisance, values: [1, 2]}",
        "m": "{value: 1, when: {a: 1}}",
        "b": "{role: scientific, values: [1, 2], when: {m: 1}}",
    }
    assert "cannot depend on a" in refusals(grandparent)[0]


def test_more_combinations_than_can_be_looked_through_are_a_problem_and_no_traceback():
    switches = {f"s{i}": "{role: scientific, values: [0, 1], sampled: true}" for i in range(18)}
    ladder = ["{role: nuisance, range: [1e-3, 1], when: {" + ", ".join(f"s{i}: 1" for i in range(18)) + "}}"]
    ladder += [f"{{value: 1, when: {{s{i}: 0{''.join(f', s{j}: 1' for j in range(i))}}}}}" for i in range(18)]
    found = refusals({**switches, "learning_rate": f"[{', '.join(ladder)}]"})
    assert found == [
        "hyperparameters: the conditions allow more than 20,000 combinations; use fewer conditional hyperparameters"
    ]
    with pytest.raises(TooManyCombinationsError):
        list(
            Conditions([_item("a", range(50)), _item("b", range(50), a=(0, 1))]).combinations(
                ["b"], most=50, choose=_all
            )
        )


# Against brute force: every assignment of values to all names, kept when it is one that a trial could have.


def _item(name, values, index=0, **when):
    return Hyperparameter(name, f"{name}{index}", "nuisance", ValueSet(tuple(values)), when, path=(name, index))


def _all(item):
    return [item.domain.value] if isinstance(item.domain, FixedValue) else item.domain.values


@st.composite
def conditional_studies(draw):
    """Up to five names in order, each with one or two alternatives that wait for earlier names."""
    items = []
    for position in range(draw(st.integers(2, 5))):
        earlier = [f"n{index}" for index in range(position)]
        for index in range(draw(st.integers(1, 2))):
            parents = draw(st.lists(st.sampled_from(earlier), max_size=2, unique=True)) if earlier else []
            when = {p: tuple(draw(st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True))) for p in parents}
            items.append(_item(f"n{position}", range(draw(st.integers(1, 3))), index, **when))
    return items


def brute_force(items):
    """Every combination as the set of active items: all choices of at most one alternative and one value for each name."""
    names = list(dict.fromkeys(item.name for item in items))
    options = [
        [None, *((item, value) for item in items if item.name == name for value in _all(item))] for name in names
    ]
    for choice in itertools.product(*options):
        values = {item.name: value for item, value in filter(None, choice)}
        chosen = {item.key for item, _ in filter(None, choice)}
        holding = {
            item.key
            for item in items
            if all(
                any(parent in values and same(values[parent], v) for v in wanted)
                for parent, wanted in item.when.items()
            )
        }
        if chosen <= holding and {key[:-1] for key in holding} == {key[:-1] for key in chosen}:
            yield chosen, holding, values


@settings(max_examples=120, deadline=None)
@given(conditional_studies())
def test_who_can_be_active_together_agrees_with_brute_force(items):
    conditions = Conditions(items)
    combinations = list(brute_force(items))
    for left, right in itertools.combinations(items, 2):
        together = any({left.key, right.key} <= holding for _, holding, _ in combinations)
        assert conditions.together(left, right) == together, (left, right)
    for item in items:
        assert conditions.together(item) == any(item.key in holding for _, holding, _ in combinations)
        for value in _all(items[0]):
            active = any(item.key in holding and values.get("n0") == value for _, holding, values in combinations)
            assert conditions.together(item, given={"n0": value}) == active


@settings(max_examples=60, deadline=None)
@given(conditional_studies())
def test_the_combinations_are_those_of_brute_force(items):
    conditions = Conditions(items)
    names = list(conditions.by_name)
    every = {tuple(sorted(values.items())) for _, _, values in brute_force(items)}
    assert {
        tuple(sorted(combination.values.items())) for combination in conditions.combinations(names, choose=_all)
    } == every
    # The combinations cover the same sets of active hyperparameters.
    short = {
        frozenset(item.key for item in combination.active.values()) for combination in conditions.combinations(names)
    }
    assert short == {frozenset(chosen) for chosen, _, _ in brute_force(items)}


def test_values_that_no_condition_names_are_in_one_combination():
    conditions = Conditions([_item("a", range(100)), _item("b", range(3), a=(7,))])
    combinations = [combination.values for combination in conditions.combinations(["b"])]
    assert combinations == [{"a": 7, "b": Other((0, 1, 2))}, {"a": OTHER}]
    assert Combination({}, {"a": OTHER, "b": True}).in_words() == "a is another value, b is true"


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        (ValueSet(("adam", "nesterov")), "a is nesterov"),
        (ValueSet(("adam", 3, "3,4")), "a is 3 or '3,4'"),
        (ValueSet(("adam", 1, 2, 3)), "a is 1 or 2 or 3"),
        (ValueSet(("adam", 1, 2, 3, 4)), "a is another value"),
        (Range(1, 3, integer=True), "a is 1 or 2 or 3"),
        (Range(1, 4, integer=True), "a is another value"),
        (Range(1, 16, "log", True, points=3), "a is 1 or 4 or 16"),
        (Range(0.0, 1.0), "a is another value"),
    ],
)
def test_the_values_that_no_condition_mentions_are_named_where_they_are_few(domain, words):
    items = [Hyperparameter("a", "a", "nuisance", domain), _item("b", range(2), a=("adam",))]
    combinations = Conditions(items).combinations(["a"])
    assert [combination.in_words() for combination in combinations if combination.values["a"] != "adam"] == [words]


def test_one_remaining_value_is_itself_and_not_another_value():
    rate = "[{role: nuisance, range: [1e-3, 1], scale: log, when: {optimizer: adam}}]"
    found = refusals({"optimizer": BOTH, "learning_rate": rate})
    assert found == [
        "hyperparameters.learning_rate: every trial needs one, and there is none where optimizer is nesterov; add an "
        "alternative for it"
    ]


def test_under_a_grid_an_int_range_takes_its_grid_values_alone():
    grid = {"a": "{role: nuisance, range: [1, 16], type: int, scale: log, points: 3}"}
    search = "{sampler: grid}"
    assert study({**grid, "b": nuisance("{a: 4.0}")}, search=search)
    found = problems_of({**grid, "b": nuisance("{a: 5}")}, search=search)
    assert found == ["hyperparameters.b.when.a: expected a value of a (1, 4, 16), got 5"]


def test_in_keys_text_differs_from_the_value_that_it_looks_like():
    when = ["true", "'true'", "'a|b'", "[a, b]", '"it\'s"']
    spec = accepted(
        {
            "sw": "{role: scientific, values: [true, 'true', 'a|b', a, b, \"it's\"]}",
            "x": f"[{', '.join(nuisance(f'{{sw: {value}}}') for value in when)}]",
        }
    )
    assert [item.key for item in spec.alternatives("x")] == [
        "x[sw=true]",
        "x[sw='true']",
        "x[sw='a|b']",
        "x[sw=a|b]",
        "x[sw='it''s']",
    ]
