"""Entries under `hyperparameters:`: roles, domains, scales, names, and the bounds of the training configuration.

Tests language/hyperparameter_reader.py, language/hyperparameter_names.py, language/configuration.py.
"""

from __future__ import annotations

import pytest
from builders import problems_of, study
from each_case import each_case

from tunectl.core.table_columns import RESERVED_NAMES
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


@each_case(
    ("entry", "problem"),
    [
        ("", "x: expected a value, got nothing"),
        ("{}", "x: expected one of value, values, range and formula, got none of them"),
        ("[]", "x: expected at least one alternative, got an empty list"),
        ("[1, 2]", "for a set of values write {role: …, values: […]}"),
        ("[[1]]", "x[0]: expected an alternative, a mapping"),
        ("{role: nuisance}", "x: expected one of value, values, range and formula, got none of them"),
        ("{value: 1, values: [1]}", "x: expected one of value, values, range and formula, got value and values"),
        ("{value: 1, range: [1, 2]}", "got value and range"),
        ("{value: }", "x.value: expected a value, got nothing"),
        ("{value: [1]}", "x.value: expected a number, text, true or false, got a list"),
        ("{value: {a: 1}}", "x.value: expected a number, text, true or false, got a mapping"),
        ("{value: .nan}", "x.value: expected a finite number, got nan"),
        (".inf", "x: expected a finite number, got inf"),
        ("-.inf", "x: expected a finite number, got -inf"),
        ("9" * 420, "x: expected a finite number, got inf"),
        ("9007199254740993", "x: expected a whole number of at most 2^53 in size"),
        ("1e999", "x: expected a finite number, got inf"),
        ('"a\\nb"', "x: expected one line of printable text"),
        ('"\\uD800"', "x: expected one line of printable text"),
        ("{values: [1, 2]}", "x.role: the role is missing; write scientific (what the study asks about)"),
        ("{range: [1, 2]}", "x.role: the role is missing"),
        ("{role: nusance, values: [1, 2]}", "x.role: expected scientific, nuisance or fixed, got 'nusance'; did you mean nuisance?"),
        ("{role: 5, values: [1, 2]}", "x.role: expected scientific, nuisance or fixed, got 5"),
        ("{role: , values: [1, 2]}", "x.role: the role is missing"),
        ("{role: [nuisance], values: [1, 2]}", "x.role: expected scientific, nuisance or fixed, got a list"),
        ("{role: fixed, values: [1, 2]}", "x.role: expected one `value` for a fixed hyperparameter, got several"),
        ("{role: fixed, range: [1, 2]}", "x.role: expected one `value` for a fixed hyperparameter, got several"),
        ("{role: nuisance, value: 1}", "x.role: expected values or a range for a nuisance hyperparameter, got a single value"),
        ("{role: scientific, value: 1}", "x.role: expected values or a range for a scientific hyperparameter, got a single value"),
        ("{role: nuisance, values: []}", "x.values: expected a list of values, got an empty list"),
        ("{role: nuisance, values: 5}", "x.values: expected a list of values, got 5"),
        ("{role: nuisance, values: {a: 1}}", "x.values: expected a list of values, got a mapping"),
        ("{role: nuisance, values: [1, 2, 1.0]}", "x.values[2]: expected each value once, got 1.0 again"),
        ("{role: nuisance, values: [a, a]}", "x.values[1]: expected each value once, got 'a' again"),
        ("{role: nuisance, values: [a, null]}", "x.values[1]: expected a value, got nothing"),
        ("{role: nuisance, values: [a, .nan]}", "x.values[1]: expected a finite number, got nan"),
        ("{role: nuisance, values: [a, [b]]}", "x.values[1]: expected a number, text, true or false, got a list"),
        ("{role: nuisance, values: [1, 2], scale: log}", "x.scale: scale belongs to a range, not to values"),
        ("{value: 1, type: int}", "x.type: type belongs to a range, not to value"),
        ("{role: nuisance, values: [1, 2], points: 2}", "x.points: points belongs to a range, not to values"),
        ("{role: nuisance, range: [1]}", "x.range: expected [low, high], got a list of 1"),
        ("{role: nuisance, range: [1, 2, 3]}", "x.range: expected [low, high], got a list of 3"),
        ("{role: nuisance, range: 5}", "x.range: expected [low, high], got 5"),
        ("{role: nuisance, range: }", "x.range: expected [low, high], got nothing"),
        ("{role: nuisance, range: [a, 2]}", "x.range[0]: expected a number, got 'a'"),
        ("{role: nuisance, range: ['1', 2]}", "x.range[0]: expected a number, got '1' (text); write 1 without quotes"),
        ("{role: nuisance, range: [1, true]}", "x.range[1]: expected a number, got true"),
        ("{role: nuisance, range: [.nan, 2]}", "x.range[0]: expected a finite number, got nan"),
        ("{role: nuisance, range: [0, .inf]}", "x.range[1]: expected a finite number, got inf"),
        ("{role: nuisance, range: [-1e308, 1e308]}", "x.range: expected a range whose width a float can hold"),
        ("{role: nuisance, range: [2, 1]}", "x.range: expected low below high, got [2, 1]"),
        ("{role: nuisance, range: [1, 1]}", "x.range: expected low below high, got [1, 1]; for one value write `value`"),
        ("{role: nuisance, range: [0, 1], scale: log}", "x.range[0]: expected more than 0 (scale: log), got 0"),
        ("{role: nuisance, range: [-1, 1], scale: log}", "x.range[0]: expected more than 0 (scale: log), got -1"),
        ("{role: nuisance, range: [0, 5], scale: log, type: int}", "x.range[0]: expected more than 0 (scale: log), got 0"),
        ("{role: nuisance, range: [0.5, 1], scale: one_minus_log}", "x.range[1]: expected less than 1 (scale: one_minus_log), got 1"),
        ("{role: nuisance, range: [0.5, 0.99999999999999999], scale: one_minus_log}", "expected less than 1 (scale: one_minus_log), got 1.0"),
        ("{role: nuisance, range: [-5, 0], scale: one_minus_log, type: int}", "one_minus_log is for fractions near 1, not for type: int"),
        ("{role: nuisance, range: [1, 2], scale: logg}", "x.scale: expected linear, log or one_minus_log, got 'logg'; did you mean log?"),
        ("{role: nuisance, range: [1, 2], scale: }", "x.scale: expected linear, log or one_minus_log, got nothing"),
        ("{role: nuisance, range: [1, 2], scale: [log]}", "x.scale: expected linear, log or one_minus_log, got a list"),
        ("{role: nuisance, range: [1, 2], type: integer}", "x.type: expected float or int, got 'integer'"),
        ("{role: nuisance, range: [1, 2], type: {}}", "x.type: expected float or int, got an empty mapping"),
        ("{role: nuisance, range: [1, 2.5], type: int}", "x.range[1]: expected a whole number (type: int), got 2.5"),
        ("{role: nuisance, range: [1, 2], points: 3}", "x.points: points belongs to a grid"),
        ("{role: nuisance, range: [1, 2], sampled: true}", "x.sampled: only scientific `values` can be sampled: true"),
        ("{role: nuisance, values: [1, 2], sampled: true}", "x.sampled: only scientific `values` can be sampled: true"),
        ("{role: scientific, values: [1, 2], sampled: 1}", "x.sampled: expected true or false, got 1"),
        ("{role: nuisance, values: [1, 2], vales: 3}", "x.vales: no such key; did you mean values?"),
        ("{role: nuisance, values: [32, '64']}", "x.values[1]: expected a number like the others, got '64' (text); write 64 without quotes"),
        ("{role: nuisance, values: ['1e-3', 1, a]}", "x.values[0]: expected a number like the others, got '1e-3' (text)"),
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


def test_a_number_as_a_name_gets_no_hint_to_remove_its_quotes():
    assert refusals("1", name="3") == ["hyperparameters.3: expected a Python identifier as a name, got '3'"]


def test_whole_numbers_beyond_what_a_float_counts_exactly_are_refused_as_bounds():
    assert "2^53" in refusals("{role: nuisance, range: [1, 9007199254740993], type: int}")[0]
    assert "2^53" in refusals("{role: nuisance, range: [1, 1e300], type: int}")[0]


def test_a_grid_wants_points_of_every_range():
    assert only("{role: nuisance, range: [1, 2], points: 3}", search="{sampler: grid}").domain.points == 3
    assert (
        "a range in a grid needs its number of points"
        in refusals("{role: nuisance, range: [1, 2]}", search="{sampler: grid}")[0]
    )
    for bad in ("0", "-1", "2.0", "true", "'3'", "10001", "[3]", ""):
        found = refusals(f"{{role: nuisance, range: [1, 2], points: {bad}}}", search="{sampler: grid}")
        assert found[0].startswith("hyperparameters.x.points: expected a whole number from 1 to 10,000"), bad


@each_case("name", sorted(RESERVED_NAMES))
def test_a_name_that_is_a_column_of_the_tables_is_refused(name):
    assert "is a column of the trial tables" in refusals("1", name=name)[0]


@pytest.mark.parametrize("name", ["stage", "seconds_per_step", "seconds_to_best", "examples_to_best"])
def test_a_column_that_earlier_versions_did_not_have_is_a_name_as_any_other(name):
    assert only("1", name=name).domain == FixedValue(1)


@pytest.mark.parametrize("name", ["a-b", "1a", "'a b'", "''", "valid/loss", "'é\\n'", "a.b", "~", "'<<'"])
def test_a_name_that_is_no_identifier_is_refused(name):
    assert "expected a Python identifier as a name" in refusals("1", name=name)[0]


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
    ("schedule", ["constant", "linear", "cosine", "inverse_sqrt", "step", "wsd"], ["cosin", 1]),
    ("cooldown_share", [1e-3, 0.2, 1], [0, 1.5]),
    ("cooldown_shape", ["linear", "one_minus_sqrt"], ["sqrt", 1]),
    (
        "piecewise_points",
        ["50%:.1", "3000:0.1", "0%:1"],
        ["0.5", "'50%: 0.1, 3000: 0'", "'0.5: 0.1'", "'9: 1, 8: 1'", "''"],
    ),
    ("piecewise_shape", ["constant", "linear"], ["step"]),
    ("adamw_learning_rate", [1e-30, 1], [0, -1]),
    ("muon_scale", ["match_adamw", "original"], ["none"]),
    ("grad_clip", ["none", "adaptive", "update"], ["norm", 1]),
    ("adaptive_clip_factor", [1e-9, 0.01], [0, -1]),
    ("update_clip_rms", [1e-9, 1], [0, -1]),
    ("warmup", ["prepend", "within"], ["append", "false"]),
    ("weight_decay_scope", ["all", "matrices"], ["none", 2]),
    ("initialisation", ["none", "metainit", "gradinit"], ["MetaInit", "fixup", 0]),
    ("initialisation_steps", [1, 500], [0, -1, 1.5]),
    ("initialisation_learning_rate", [1e-9, 0.1], [0, -1]),
    ("initialisation_momentum", [0, 0.9], [1, -0.1]),
]


def test_the_table_of_bounds_names_every_field():
    assert {name for name, *_ in _BOUNDS} == set(FIELDS)


@each_case(("name", "good", "bad"), _BOUNDS)
def test_a_field_is_taken_within_its_bounds_and_refused_beyond(name, good, bad):
    for value in good:
        assert only(str(value), name=name).domain == FixedValue(value)
    for value in bad:
        for entry in (f"{value}", f"{{role: nuisance, values: [{value}, {good[0]}]}}"):
            found = refusals(entry, name=name)
            assert any(line.startswith(f"hyperparameters.{name}") and "expected " in line for line in found), value


@pytest.mark.parametrize(
    ("name", "entry", "problem"),
    [
        ("learning_rate", "{role: nuisance, range: [0, 1]}", "learning_rate.range[0]: expected a number above 0, got 0"),
        ("momentum", "{role: nuisance, range: [0.5, 1]}", "momentum.range[1]: expected a number of at least 0 and below 1, got 1"),
        ("batch_size", "{role: nuisance, range: [8, 64]}", "batch_size.range: expected whole numbers, got a range of floats; add type: int"),
        ("batch_size", "{role: nuisance, range: [0, 64], type: int}", "batch_size.range[0]: expected a whole number of at least 1, got 0"),
        ("optimizer", "{role: nuisance, range: [0, 1]}", "optimizer.range: expected one of sgd, momentum, nesterov, rmsprop, rmsprop_playbook, adam, adam_playbook, nadam, nadam_playbook, adamw, lamb, lion, muon, or module:Name, got a range; write values"),
        ("batch_size", "64.0", "got 64.0; write 64"),
        ("optimizer", "nestrov", "did you mean nesterov?"),
        ("grad_clip", "1.0", "got 1.0; the largest global norm is grad_clip_norm"),
    ],
)  # fmt: skip
def test_a_range_of_a_field_stays_within_its_bounds(name, entry, problem):
    found = refusals(entry, name=name)
    assert any(problem in line for line in found), found


@pytest.mark.parametrize("name", ["optimizer", "learning_rate"])
def test_optimizer_and_learning_rate_are_never_taken_by_default(name):
    assert problems_of({name: None}) == [
        f"hyperparameters.{name}: the key is missing; every trial needs one, and there is no default"
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
        "hyperparameters.learning_rate: every trial needs one, and there is none where optimizer is sgd; add an alternative for it"
    ]


def test_a_warmup_within_the_steps_is_no_longer_than_they_are_only_where_it_is_within():
    steps = "{max_train_steps: 100, eval_every: 10}"
    assert study({"warmup_steps": "500"}, training=steps)
    assert study({"warmup_steps": "100", "warmup": "within"}, training=steps)
    assert (
        "expected at most max_train_steps (100) for a warmup within them, got 101"
        in problems_of({"warmup_steps": "101", "warmup": "within"}, training=steps)[0]
    )
    varied = {"warmup_steps": "{role: nuisance, range: [0, 200], type: int}", "warmup": "within"}
    assert "got 200" in problems_of(varied, training=steps, search=SEARCH)[0]
    apart = {
        "warmup": "{role: scientific, values: [prepend, within]}",
        "warmup_steps": "[{value: 500, when: {warmup: prepend}}, {value: 50, when: {warmup: within}}]",
    }
    assert study(apart, training=steps)
    together = {**apart, "warmup_steps": "{role: nuisance, values: [50, 500]}"}
    assert "got 500" in problems_of(together, training=steps, search=SEARCH)[0]


def test_the_stretch_after_a_warmup_fits_into_what_follows_it():
    steps = "{max_train_steps: 100, eval_every: 10}"
    assert study({"warmup_steps": "500", "post_warmup_steps": "100"}, training=steps)
    assert study({"warmup_steps": "30", "warmup": "within", "post_warmup_steps": "70"}, training=steps)
    (line,) = problems_of({"warmup_steps": "30", "warmup": "within", "post_warmup_steps": "71"}, training=steps)
    assert "expected at most the 70 steps after the warmup, got 71" in line
    (line,) = problems_of({"warmup_steps": "500", "post_warmup_steps": "101"}, training=steps)
    assert "at most the 100 steps after the warmup, got 101" in line
    varied = {"warmup_steps": "{role: nuisance, values: [10, 50]}", "warmup": "within", "post_warmup_steps": "60"}
    (line,) = problems_of(varied, training=steps, search=SEARCH)
    assert "at most the 50 steps after the warmup, got 60" in line


def test_a_fixed_batch_is_divided_into_no_more_steps_than_it_has_examples():
    assert study({"batch_size": "8", "accumulate_steps": "8"})
    (line,) = problems_of({"batch_size": "8", "accumulate_steps": "9"})
    assert line == "hyperparameters.accumulate_steps: expected at most 8, the examples of a batch, got 9"
    assert "at most 64, the examples of a batch" in problems_of({"accumulate_steps": "65"})[0]
    apart = {
        "optimizer": "{role: scientific, values: [sgd, adam]}",
        "batch_size": "[{value: 4, when: {optimizer: sgd}}, {value: 16, when: {optimizer: adam}}]",
        "accumulate_steps": "[{value: 2, when: {optimizer: sgd}}, {value: 16, when: {optimizer: adam}}]",
    }
    assert study(apart)
    (line,) = problems_of({**apart, "accumulate_steps": "5"})
    assert "at most 4, the examples" in line
    assert study({"batch_size": "{role: nuisance, values: [2, 8]}", "accumulate_steps": "4"}, search=SEARCH)


def test_an_entry_may_say_at_which_value_it_is_off():
    assert only("{value: 0.1, off: 0}", name="weight_decay").off == 0
    assert only("{role: nuisance, values: [crop, flip], off: none}").off == "none"
    assert only("{value: 0.1}", name="weight_decay").off is None
    assert "expected a number of at least 0" in refusals("{value: 0.1, off: -1}", name="weight_decay")[0]


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
