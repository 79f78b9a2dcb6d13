"""Formulas: their values are those of Python's own arithmetic, and what is none is refused with its place."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunectl.space.formulas import FUNCTIONS, MOST_NESTED, FormulaError, parsed_formula

NAMES = ("rate", "momentum", "lambda", "größe")
NUMBERS = st.floats(-4, 4).map(lambda number: round(number, 3))


def with_operators(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
        inner.map("+ {}".format),
        st.tuples(st.sampled_from(["sqrt", "log", "exp"]), inner).map("{0[0]}({0[1]})".format),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map("{0[0]}({0[1]}, {0[2]})".format),
    )


TEXTS = st.recursive(st.one_of(st.floats(0, 9).map(repr), st.sampled_from(NAMES)), with_operators, max_leaves=8)


def by_python(text: str, values: dict[str, float]) -> Any:
    """The value that Python's own arithmetic gives; an exception's type where it gives none."""
    # `lambda` is a word of Python's own, and a name like any other here.
    known = {name: getattr(math, name) for name in ("sqrt", "log", "exp")} | {"min": min, "max": max}
    renamed = {f"own_{name}": value for name, value in values.items()}
    for name in values:
        text = text.replace(name, f"own_{name}")
    try:
        return eval(text, {"__builtins__": {}}, known | renamed)
    except (ArithmeticError, ValueError, TypeError) as error:
        return type(error)


def by_formula(text: str, values: dict[str, float]) -> tuple[float, str]:
    """The value, and why there is none."""
    try:
        return parsed_formula(text).value(values), ""
    except FormulaError as error:
        return math.nan, str(error)


@given(TEXTS, st.tuples(*[NUMBERS] * len(NAMES)))
@settings(max_examples=150, deadline=None)
def test_a_formula_has_the_value_of_pythons_arithmetic_or_none_where_python_has_none(text, numbers):
    values = dict(zip(NAMES, numbers, strict=True))
    expected = by_python(text, values)
    found, refused = by_formula(text, values)
    if refused:
        has_none = isinstance(expected, (type, complex)) or not math.isfinite(expected)
        assert has_none or "too large" in refused
    else:
        assert found == expected


@given(TEXTS)
@settings(max_examples=50, deadline=None)
def test_the_text_of_a_formula_is_the_same_however_it_was_written(text):
    formula = parsed_formula(text)
    assert parsed_formula(formula.text) == formula
    assert parsed_formula(text.replace(" ", "  ")) == formula


@given(st.text(alphabet="ab1.e+-*/(),^ %_=<>'\"[]{}:\\", max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_formula_or_is_refused(text):
    _, refused = by_formula(text, {"a": 2.0, "b": 3.0})
    assert refused == refused.strip()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-2 ** 2", -4.0),
        ("2 ** 3 ** 2", 512.0),
        ("2 ** -1", 0.5),
        ("1 - 2 - 3", -4.0),
        ("8 / 4 / 2", 1.0),
        ("2 * (3 + 4)", 14.0),
        ("- - 2", 2.0),
        (".5 + 1.", 1.5),
        ("1e-3", 0.001),
        ("min(3, 1, 2) + max(1, 2)", 3.0),
        ("sqrt(9) + log(exp(2))", 5.0),
    ],
)
def test_operators_bind_as_in_python(text, value):
    assert parsed_formula(text).value({}) == value


def test_a_name_may_be_a_word_of_python_or_that_of_a_function():
    formula = parsed_formula("lambda * log(log)")
    assert formula.names == ("lambda", "log")
    assert formula.value({"lambda": 2.0, "log": 1}) == 0.0
    assert math.copysign(1, parsed_formula("-0").value({})) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a number, a name or (, got the end of the formula"),
        ("rate *", "expected a number, a name or (, got the end of the formula"),
        ("(rate", "expected an operator or ), got the end of the formula"),
        ("rate)", "expected an operator or the end, got ')' at character 5"),
        ("2 rate", "expected an operator or the end, got 'rate' at character 3"),
        ("2rate", "got 'rate' at character 2"),
        ("rate ^ 2", "'^' at character 6 does not belong to a formula; a power is **"),
        ("rate // 2", "expected a number, a name or (, got '/' at character 7"),
        ("rate.real", "'.' at character 5 does not belong to a formula"),
        ("rate[0]", "'[' at character 5"),
        ("'a'", "at character 1 does not belong to a formula"),
        ("sin(1)", "there is no function sin"),
        ("maximum(1, 2)", "there is no function maximum; there are min, max, sqrt, log, exp"),
        ("eval(1)", "there is no function eval"),
        ("sqrt(1, 2)", "expected 1 value in sqrt(…), got 2"),
        ("min(1)", "expected at least 2 values in min(…), got 1"),
        ("exp()", "expected a number, a name or (, got ')'"),
        ("1e999", "expected a number that a float can hold"),
    ],
)
def test_what_is_no_formula_is_refused_with_its_place(text, said):
    with pytest.raises(FormulaError) as caught:
        parsed_formula(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / rate", "division by 0"),
        ("rate ** -1", "division by 0"),
        ("(rate - 8) ** 0.5", "-8 ** 0.5 is not a real number"),
        ("sqrt(rate - 1)", "the square root of -1 is not a real number"),
        ("log(rate)", "the logarithm of 0 is not a real number"),
        ("exp(1000)", "too large"),
        ("1e300 * 1e300", "too large"),
        ("1e300 * 1e300 * 0", "too large"),
        ("9 ** 9 ** 9", "too large"),
        ("flag + 1", "expected a number for flag, got true"),
        ("word + 1", "expected a number for word, got 'a'"),
        ("absent + 1", "absent has no value"),
    ],
)
def test_a_formula_without_a_finite_real_value_says_why(text, said):
    with pytest.raises(FormulaError) as caught:
        parsed_formula(text).value({"rate": 0, "flag": True, "word": "a"})
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["(" * 10_000 + "1", "-" * 900 + "1", "2**" * 300 + "2", "min(1," * 160 + "1"])
def test_a_formula_that_is_long_or_deep_is_refused_at_once(text):
    begin = time.process_time()
    with pytest.raises(FormulaError, match=r"expected at most"):
        parsed_formula(text)
    assert time.process_time() - begin < 1


def test_a_formula_may_be_as_deep_as_the_limit_says():
    text = "(" * MOST_NESTED + "1" + ")" * MOST_NESTED
    assert parsed_formula(text).value({}) == 1.0
    assert set(FUNCTIONS) == {"min", "max", "sqrt", "log", "exp"}
