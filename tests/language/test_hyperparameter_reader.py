"""Single entries under `hyperparameters:`: roles, domains, scales, names, and the bounds of the training configuration's fields."""

from __future__ import annotations

import pytest
from builders import problems_of, study

from tunectl.core.table_columns import TABLE_COLUMNS
from tunectl.language.configuration import FIELDS
from tunectl.space.domains import FixedValue, Range, ValueSet, same

SEARCH = "{trials: 4}"


def only(entry, name="x", search=SEARCH):
    spec = study({name: entry}, search=search)
    (item,) = spec.alternatives(name)
    return item


def refusals(entry, name="x", search=SEARCH):
    return problems_of({name: entry}, search=search)


@pytest.mark.parametrize(
    ("entry", "role", "domain"),
    [
        ("64", "fixed", FixedValue(64)),
        ("relu", "fixed", FixedValue("relu")),
        ("'64'", "fixed", FixedValue("64")),
        ("no", "fixed", FixedValue("no")),
        ("true", "fixed", FixedValue(True)),
        ("{value: 2}", "fixed", FixedValue(2)),
        ("{role: fixed, value: 2.5}", "fixed", FixedValue(2.5)),
        ("{role: nuisance, values: [1, 2.5]}", "nuisance", ValueSet((1, 2.5))),
        ("{role: scientific, values: [a, b]}", "scientific", ValueSet(("a", "b"))),
        ("{role: nuisance, values: [1, true]}", "nuisance", ValueSet((1, True))),
        ("{role: nuisance, range: [0, 1]}", "nuisance", Range(0.0, 1.0)),
        ("{role: nuisance, range: [1e-3, 1E1], scale: log}", "nuisance", Range(1e-3, 10.0, "log")),
        ("{role: nuisance, range: [0.8, 0.99], scale: one_minus_log}", "nuisance", Range(0.8, 0.99, "one_minus_log")),
        ("{role: nuisance, range: [-1, 0.5], scale: one_minus_log}", "nuisance", Range(-1.0, 0.5, "one_minus_log")),
        ("{role: nuisance, range: [1, 8], type: int}", "nuisance", Range(1, 8, "linear", True)),
        ("{role: nuisance, range: [1.0, 8e0], type: int, scale: log}", "nuisance", Range(1, 8, "log", True)),
        ("{role: scientific, range: [-3, 3], type: float}", "scientific", Range(-3.0, 3.0)),
    ],
)  # fmt: skip
def test_an_entry_is_read_as_it_says(entry, role, domain):
    item = only(entry)
    assert (item.role, item.domain, item.key) == (role, domain, "x")
    assert repr(item.domain) == repr(domain)  # 1 == 1.0 == true to Python


@pytest.mark.parametrize(
    ("entry", "coordinate", "settings"),
    [
        ("5", False, False),
        ("{role: nuisance, values: [1, 2]}", True, False),
        ("{role: nuisance, range: [1, 2]}", True, False),
        ("{role: scientific, values: [1, 2]}", False, True),
        ("{role: scientific, values: [1, 2], sampled: true}", True, False),
        ("{role: scientific, values: [1, 2], sampled: false}", False, True),
        ("{role: scientific, range: [1, 2]}", True, False),
    ],
)
def test_scientific_values_make_settings_unless_they_are_sampled(entry, coordinate, settings):
    item = only(entry)
    assert (item.has_coordinate, item.makes_settings) == (coordinate, settings)


def test_true_and_one_are_two_values_and_one_and_one_point_zero_are_the_same():
    assert same(1, 1.0)
    assert not same(1, True)
    assert not same(0.0, False)
    assert same(True, True)
    assert not same("1", 1)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("", "x: a value is due, found nothing"),
        ("{}", "x: one of value, values and range is due, found none of them"),
        ("[]", "x: a list of alternatives holds at least one, found none"),
        ("[1, 2]", "for a set of values write {role: …, values: […]}"),
        ("[[1]]", "x[0]: an alternative is a mapping"),
        ("{role: nuisance}", "x: one of value, values and range is due, found none of them"),
        ("{value: 1, values: [1]}", "x: one of value, values and range is due, found value and values"),
        ("{value: 1, range: [1, 2]}", "found value and range"),
        ("{value: }", "x.value: a value is due, found nothing"),
        ("{value: [1]}", "x.value: a number, text, true or false is due, found a list"),
        ("{value: {a: 1}}", "x.value: a number, text, true or false is due, found a mapping"),
        ("{value: .nan}", "x.value: a finite number is due, found nan"),
        (".inf", "x: a finite number is due, found inf"),
        ("-.inf", "x: a finite number is due, found -inf"),
        ("9" * 420, "x: a finite number is due, found inf"),
        ("9007199254740993", "x: a whole number of at most 2^53 in size is due"),
        ("1e999", "x: a finite number is due, found inf"),
        ('"a\\nb"', "x: a value is one line of printable text"),
        ('"\\uD800"', "x: a value is one line of printable text"),
        ("{values: [1, 2]}", "x.role: the role is missing; write scientific (asked about)"),
        ("{range: [1, 2]}", "x.role: the role is missing"),
        ("{role: nusance, values: [1, 2]}", "x.role: a role is scientific, nuisance or fixed, found 'nusance'; did you mean nuisance?"),
        ("{role: 5, values: [1, 2]}", "x.role: a role is scientific, nuisance or fixed, found 5"),
        ("{role: , values: [1, 2]}", "x.role: the role is missing"),
        ("{role: [nuisance], values: [1, 2]}", "x.role: a role is scientific, nuisance or fixed, found a list"),
        ("{role: fixed, values: [1, 2]}", "x.role: a fixed hyperparameter has one `value`, found several"),
        ("{role: fixed, range: [1, 2]}", "x.role: a fixed hyperparameter has one `value`, found several"),
        ("{role: nuisance, value: 1}", "x.role: a nuisance hyperparameter varies, found a single value"),
        ("{role: scientific, value: 1}", "x.role: a scientific hyperparameter varies, found a single value"),
        ("{role: nuisance, values: []}", "x.values: a list of values is due, found an empty list"),
        ("{role: nuisance, values: 5}", "x.values: a list of values is due, found 5"),
        ("{role: nuisance, values: {a: 1}}", "x.values: a list of values is due, found a mapping"),
        ("{role: nuisance, values: [1, 2, 1.0]}", "x.values[2]: every value stands in the set once, found 1.0 again"),
        ("{role: nuisance, values: [a, a]}", "x.values[1]: every value stands in the set once, found 'a' again"),
        ("{role: nuisance, values: [a, null]}", "x.values[1]: a value is due, found nothing"),
        ("{role: nuisance, values: [a, .nan]}", "x.values[1]: a finite number is due, found nan"),
        ("{role: nuisance, values: [a, [b]]}", "x.values[1]: a number, text, true or false is due, found a list"),
        ("{role: nuisance, values: [1, 2], scale: log}", "x.scale: scale goes with range, found with values"),
        ("{value: 1, type: int}", "x.type: type goes with range, found with value"),
        ("{role: nuisance, values: [1, 2], points: 2}", "x.points: points goes with range, found with values"),
        ("{role: nuisance, range: [1]}", "x.range: a range is [low, high], found a list of 1"),
        ("{role: nuisance, range: [1, 2, 3]}", "x.range: a range is [low, high], found a list of 3"),
        ("{role: nuisance, range: 5}", "x.range: a range is [low, high], found 5"),
        ("{role: nuisance, range: }", "x.range: a range is [low, high], found nothing"),
        ("{role: nuisance, range: [a, 2]}", "x.range[0]: a number is due, found 'a'"),
        ("{role: nuisance, range: ['1', 2]}", "x.range[0]: a number is due, found '1' (text); write 1 without quotes"),
        ("{role: nuisance, range: [1, true]}", "x.range[1]: a number is due, found true"),
        ("{role: nuisance, range: [.nan, 2]}", "x.range[0]: a finite number is due, found nan"),
        ("{role: nuisance, range: [0, .inf]}", "x.range[1]: a finite number is due, found inf"),
        ("{role: nuisance, range: [-1e308, 1e308]}", "x.range: a range is no wider than a float can hold"),
        ("{role: nuisance, range: [2, 1]}", "x.range: low stands below high, found [2, 1]"),
        ("{role: nuisance, range: [1, 1]}", "x.range: low stands below high, found [1, 1]; for one value write `value`"),
        ("{role: nuisance, range: [0, 1], scale: log}", "x.range[0]: a log scale begins above zero, found 0"),
        ("{role: nuisance, range: [-1, 1], scale: log}", "x.range[0]: a log scale begins above zero, found -1"),
        ("{role: nuisance, range: [0, 5], scale: log, type: int}", "x.range[0]: a log scale begins above zero, found 0"),
        ("{role: nuisance, range: [0.5, 1], scale: one_minus_log}", "x.range[1]: a one_minus_log scale ends below 1, found 1"),
        ("{role: nuisance, range: [0.5, 0.99999999999999999], scale: one_minus_log}", "ends below 1, found 1.0"),
        ("{role: nuisance, range: [-5, 0], scale: one_minus_log, type: int}", "one_minus_log is for fractions near 1, found type: int"),
        ("{role: nuisance, range: [1, 2], scale: logg}", "x.scale: a scale is linear, log or one_minus_log, found 'logg'; did you mean log?"),
        ("{role: nuisance, range: [1, 2], scale: }", "x.scale: a scale is linear, log or one_minus_log, found nothing"),
        ("{role: nuisance, range: [1, 2], scale: [log]}", "x.scale: a scale is linear, log or one_minus_log, found a list"),
        ("{role: nuisance, range: [1, 2], type: integer}", "x.type: a type is float or int, found 'integer'"),
        ("{role: nuisance, range: [1, 2], type: {}}", "x.type: a type is float or int, found an empty mapping"),
        ("{role: nuisance, range: [1, 2.5], type: int}", "x.range[1]: a whole number is due (type: int), found 2.5"),
        ("{role: nuisance, range: [1, 2], points: 3}", "x.points: points goes with sampler grid"),
        ("{role: nuisance, range: [1, 2], sampled: true}", "x.sampled: only scientific `values` can be marked sampled"),
        ("{role: nuisance, values: [1, 2], sampled: true}", "x.sampled: only scientific `values` can be marked sampled"),
        ("{role: scientific, values: [1, 2], sampled: 1}", "x.sampled: true or false is due, found 1"),
        ("{role: nuisance, values: [1, 2], vales: 3}", "x.vales: no such key; did you mean values?"),
        ("{role: nuisance, values: [32, '64']}", "x.values[1]: the set holds numbers, found '64' (text); write 64 without quotes"),
        ("{role: nuisance, values: ['1e-3', 1, a]}", "x.values[0]: the set holds numbers, found '1e-3' (text)"),
        ("{value: 1, off: [0]}", "x.off: "),
    ],
)  # fmt: skip
def test_an_entry_that_is_wrong_is_refused_by_name(entry, problem):
    found = refusals(entry)
    assert any(line.startswith("hyperparameters.x") and problem in line for line in found), found


@pytest.mark.parametrize(
    ("entry", "places"),
    [
        ("{role: nuisance}", ["hyperparameters.x"]),
        ("{}", ["hyperparameters.x"]),
        ("{rolle: nuisance, values: [1, 2]}", ["hyperparameters.x.rolle"]),
        ("{vales: 3, values: [1, 2]}", ["hyperparameters.x.role", "hyperparameters.x.vales"]),
    ],
)
def test_a_role_is_asked_for_only_where_nothing_else_explains_its_absence(entry, places):
    assert sorted(line.split(": ")[0] for line in refusals(entry)) == places


def test_text_that_reads_as_numbers_may_make_a_set_of_its_own():
    assert only("{role: nuisance, values: ['32', '64']}").domain == ValueSet(("32", "64"))
    assert only("{role: nuisance, values: [true, 'true', '1']}").domain == ValueSet((True, "true", "1"))


def test_a_number_as_a_name_is_not_told_to_lose_its_quotes():
    assert refusals("1", name="3") == ["hyperparameters.3: a hyperparameter's name is a Python identifier, found '3'"]


def test_whole_numbers_beyond_what_a_float_counts_exactly_are_refused_as_bounds():
    assert "2^53" in refusals("{role: nuisance, range: [1, 9007199254740993], type: int}")[0]
    assert "2^53" in refusals("{role: nuisance, range: [1, 1e300], type: int}")[0]


def test_a_grid_wants_points_of_every_range():
    assert only("{role: nuisance, range: [1, 2], points: 3}", search="{sampler: grid}").domain.points == 3
    assert "how many `points`" in refusals("{role: nuisance, range: [1, 2]}", search="{sampler: grid}")[0]
    for bad in ("0", "-1", "2.0", "true", "'3'", "10001", "[3]", ""):
        found = refusals(f"{{role: nuisance, range: [1, 2], points: {bad}}}", search="{sampler: grid}")
        assert found[0].startswith("hyperparameters.x.points: a whole number from 1 to 10,000 is due"), bad


@pytest.mark.parametrize("name", sorted(TABLE_COLUMNS))
def test_a_name_that_is_a_column_of_the_tables_is_refused(name):
    assert "is a column of the trial tables" in refusals("1", name=name)[0]


@pytest.mark.parametrize("name", ["a-b", "1a", "'a b'", "''", "valid/loss", "'é\\n'", "a.b", "~", "'<<'"])
def test_a_name_that_is_no_identifier_is_refused(name):
    assert "a hyperparameter's name is a Python identifier" in refusals("1", name=name)[0]


def test_max_train_steps_is_never_a_hyperparameter():
    assert "max_train_steps is never a hyperparameter" in refusals("5", name="max_train_steps")[0]


# name, values at or inside the bounds, values outside
_BOUNDS = [
    ("batch_size", [1, 10**6], [0, -1, 2.5, "'8'", "true"]),
    ("eval_batch_size", [1], [0, 0.5]),
    ("learning_rate", [1e-30, 1, 100.0], [0, 0.0, -1, "'0.1'", "fast", "false"]),
    ("momentum", [0, 0.9, 0.999999], [1, 1.0, -0.1]),
    ("beta1", [0, 0.999], [1, -1e-9]),
    ("beta2", [0.0, 0.999999], [1, 2]),
    ("epsilon", [0, 1e-8, 1.0], [-1e-8]),
    ("rho", [0, 0.99], [1, -0.1]),
    ("weight_decay", [0, 0.1, 5], [-0.1]),
    ("decay_steps", [1, 500], [0, 1.5]),
    ("decay_factor", [0.1, 1], [0, -1, 1.5]),
    ("end_learning_rate_factor", [0, 0.1, 1], [-0.1, 1.5]),
    ("warmup_steps", [0, 100], [-1, 0.5]),
    ("post_warmup_steps", [0, 100], [-1, 0.5]),
    ("grad_clip_norm", [1e-9, 10], [0, -1]),
    ("accumulate_steps", [1, 64], [0, -1, 1.5]),
    ("precision", ["float32", "bfloat16", "float16"], ["float64", "half", 16]),
    ("polyak_decay", [0, 0.999], [1, -0.1, 1.5]),
    ("activation_checkpointing", ["none", "blocks"], ["all", "true"]),
    ("optimizer", ["sgd", "momentum", "rmsprop", "adam_playbook", "lamb"], ["adamm", "Adam", 5, "true"]),
    ("schedule", ["constant", "linear", "cosine", "inverse_sqrt", "step"], ["cosin", 1]),
    ("warmup", ["prepend", "within"], ["append", "false"]),
    ("weight_decay_scope", ["all", "matrices"], ["none", 2]),
]


def test_the_table_of_bounds_names_every_field():
    assert {name for name, *_ in _BOUNDS} == set(FIELDS)


@pytest.mark.parametrize(("name", "good", "bad"), _BOUNDS)
def test_a_field_is_taken_within_its_bounds_and_refused_beyond(name, good, bad):
    for value in good:
        assert only(str(value), name=name).domain == FixedValue(value)
    for value in bad:
        for entry in (f"{value}", f"{{role: nuisance, values: [{value}, {good[0]}]}}"):
            found = refusals(entry, name=name)
            assert any(line.startswith(f"hyperparameters.{name}") and f"{name} is " in line for line in found), value


@pytest.mark.parametrize(
    ("name", "entry", "problem"),
    [
        ("learning_rate", "{role: nuisance, range: [0, 1]}", "learning_rate.range[0]: learning_rate is a number above 0, found 0"),
        ("momentum", "{role: nuisance, range: [0.5, 1]}", "momentum.range[1]: momentum is a number at least 0 and below 1, found 1"),
        ("batch_size", "{role: nuisance, range: [8, 64]}", "batch_size.range: batch_size is a whole number, found a range of floats; add type: int"),
        ("batch_size", "{role: nuisance, range: [0, 64], type: int}", "batch_size.range[0]: batch_size is a whole number at least 1, found 0"),
        ("optimizer", "{role: nuisance, range: [0, 1]}", "optimizer.range: optimizer is one of sgd, momentum, nesterov, rmsprop, rmsprop_playbook, adam, adam_playbook, nadam, nadam_playbook, adamw, lamb, found a range; write values"),
        ("batch_size", "64.0", "found 64.0; write 64"),
        ("optimizer", "nestrov", "did you mean nesterov?"),
    ],
)  # fmt: skip
def test_a_range_of_a_field_stays_within_its_bounds(name, entry, problem):
    found = refusals(entry, name=name)
    assert any(problem in line for line in found), found


@pytest.mark.parametrize("name", ["optimizer", "learning_rate"])
def test_optimizer_and_learning_rate_are_never_taken_by_default(name):
    assert problems_of({name: None}) == [
        f"hyperparameters.{name}: the key is missing; every trial has one, and none is taken by default"
    ]


def test_a_name_that_only_some_trials_have_may_not_be_the_learning_rate():
    found = problems_of(
        {
            "optimizer": "{role: scientific, values: [adam, sgd]}",
            "learning_rate": "{role: nuisance, when: {optimizer: adam}, range: [1e-3, 1]}",
        },
        search=SEARCH,
    )
    assert found == [
        "hyperparameters.learning_rate: every trial has one, found none where optimizer is sgd; add an alternative for it"
    ]


def test_a_warmup_within_the_steps_is_no_longer_than_they_are_only_where_it_is_within():
    steps = "{max_train_steps: 100, eval_every: 10}"
    assert study({"warmup_steps": "500"}, training=steps)
    assert study({"warmup_steps": "100", "warmup": "within"}, training=steps)
    assert (
        "is no longer than it, found 101" in problems_of({"warmup_steps": "101", "warmup": "within"}, training=steps)[0]
    )
    varied = {"warmup_steps": "{role: nuisance, range: [0, 200], type: int}", "warmup": "within"}
    assert "found 200" in problems_of(varied, training=steps, search=SEARCH)[0]
    apart = {
        "warmup": "{role: scientific, values: [prepend, within]}",
        "warmup_steps": "[{value: 500, when: {warmup: prepend}}, {value: 50, when: {warmup: within}}]",
    }
    assert study(apart, training=steps)
    together = {**apart, "warmup_steps": "{role: nuisance, values: [50, 500]}"}
    assert "found 500" in problems_of(together, training=steps, search=SEARCH)[0]


def test_the_stretch_after_a_warmup_fits_into_what_follows_it():
    steps = "{max_train_steps: 100, eval_every: 10}"
    assert study({"warmup_steps": "500", "post_warmup_steps": "100"}, training=steps)
    assert study({"warmup_steps": "30", "warmup": "within", "post_warmup_steps": "70"}, training=steps)
    (line,) = problems_of({"warmup_steps": "30", "warmup": "within", "post_warmup_steps": "71"}, training=steps)
    assert "the stretch after a warmup lies within the 70 steps that follow the warmup, found 71" in line
    (line,) = problems_of({"warmup_steps": "500", "post_warmup_steps": "101"}, training=steps)
    assert "within the 100 steps that follow the warmup, found 101" in line
    varied = {"warmup_steps": "{role: nuisance, values: [10, 50]}", "warmup": "within", "post_warmup_steps": "60"}
    (line,) = problems_of(varied, training=steps, search=SEARCH)
    assert "within the 50 steps that follow the warmup, found 60" in line


def test_a_fixed_batch_is_divided_into_no_more_steps_than_it_has_examples():
    assert study({"batch_size": "8", "accumulate_steps": "8"})
    (line,) = problems_of({"batch_size": "8", "accumulate_steps": "9"})
    assert line == "hyperparameters.accumulate_steps: a batch of 8 is divided into at most as many steps, found 9"
    assert "a batch of 64" in problems_of({"accumulate_steps": "65"})[0]
    apart = {
        "optimizer": "{role: scientific, values: [sgd, adam]}",
        "batch_size": "[{value: 4, when: {optimizer: sgd}}, {value: 16, when: {optimizer: adam}}]",
        "accumulate_steps": "[{value: 2, when: {optimizer: sgd}}, {value: 16, when: {optimizer: adam}}]",
    }
    assert study(apart)
    (line,) = problems_of({**apart, "accumulate_steps": "5"})
    assert "a batch of 4 " in line
    assert study({"batch_size": "{role: nuisance, values: [2, 8]}", "accumulate_steps": "4"}, search=SEARCH)


def test_an_entry_may_say_at_which_value_it_is_off():
    assert only("{value: 0.1, off: 0}", name="weight_decay").off == 0
    assert only("{role: nuisance, values: [crop, flip], off: none}").off == "none"
    assert only("{value: 0.1}", name="weight_decay").off is None
    assert "weight_decay is a number at least 0" in refusals("{value: 0.1, off: -1}", name="weight_decay")[0]


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ("{role: scientific, values: [1, null], sampled: true}", "values[1]"),
        ("{role: scientific, values: [1, 1], sampled: true}", "values[1]"),
        ("{role: scientific, values: [.nan, 1], sampled: true}", "values[0]"),
        ("{role: scientifc, values: [1, 2], sampled: true}", "role"),
        ("{values: [1, 2], sampled: true}", "role"),
    ],
)
def test_one_mistake_in_a_sampled_set_is_one_problem(entry, where):
    (problem,) = problems_of({"odd": entry})
    assert problem.startswith(f"hyperparameters.odd.{where}: ")
