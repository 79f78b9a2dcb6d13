"""How far a range is widened at an end, and where it is at its natural bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from narrowing import present

from tunectl.analysis.search.widening import End, wider
from tunectl.space.domains import Range, ValueSet, same
from tunectl.space.hyperparameters import Hyperparameter


def ranged(name, low, high, scale="linear", *, integer=False, off=None):
    return Hyperparameter(name, name, "nuisance", Range(low, high, scale, integer), off=off)


def listed(name, *values):
    return Hyperparameter(name, name, "nuisance", ValueSet(values))


@pytest.mark.parametrize(
    ("item", "low", "high"),
    [
        (ranged("learning_rate", 1e-3, 1e-2, "log"), [1e-4, 1e-2], [1e-3, 0.1]),
        (ranged("learning_rate", 1e-6, 1.0, "log"), [3.2e-8, 1.0], [1e-6, 32.0]),
        (ranged("learning_rate", 0.01, 0.02, "log"), [0.0032, 0.02], [0.01, 0.063]),
        (ranged("momentum", 0.9, 0.99, "one_minus_log"), [0.0, 0.99], [0.9, 0.999]),
        (ranged("momentum", 0.0, 0.9), None, [0.0, 0.99]),
        (ranged("momentum", 0.5, 0.9), [0.1, 0.9], [0.5, 0.99]),
        (ranged("dropout", 0.0, 0.5), None, [0.0, 0.95]),
        (ranged("dropout_rate", 0.1, 0.5), [0.0, 0.5], [0.1, 0.9]),
        (ranged("weight_decay", 0.0, 0.1), None, [0.0, 0.2]),
        (ranged("decay_factor", 0.1, 1.0), [0.01, 1.0], None),
        (ranged("warmup_steps", 0, 500, integer=True), None, [0, 1000]),
        (ranged("batch_size", 16, 256, "log", integer=True), [1, 256], [16, 4096]),
        (ranged("num_layers", 1, 4, integer=True), None, [1, 7]),
        (ranged("num_layers", 3, 5, integer=True), [1, 5], [3, 7]),
        (ranged("init_scale", 0.5, 2.0), [0.05, 2.0], [0.5, 3.5]),
        (ranged("shift", -1.0, 1.0), [-3.0, 1.0], [-1.0, 3.0]),
        (ranged("temperature", 100.0, 101.0), [99.0, 101.0], [100.0, 102.0]),
        (ranged("strength", 0.2, 0.8, off=0.2), None, [0.2, 1.4]),
        (listed("width", 32, 64, 128), [16, 32, 64, 128], [32, 64, 128, 256]),
        (listed("width", 128, 64, 32), [128, 64, 32, 16], [256, 128, 64, 32]),
        (listed("batch_size", 1, 2, 4), None, [1, 2, 4, 8]),
        (listed("dropout", 0.0, 0.1, 0.2), None, [0.0, 0.1, 0.2, 0.3]),
        (listed("num_layers", 1, 2, 3), None, [1, 2, 3, 4]),
    ],
)
def test_a_domain_is_widened_on_its_own_scale_within_its_natural_bounds(item, low, high):
    wanted_at: dict[End, object] = {"low": low, "high": high}
    for end, wanted in wanted_at.items():
        found = wider(item, end)
        if wanted is None:
            assert found is None
        else:
            assert found is not None
            assert found.value == pytest.approx(wanted)
            assert found.key == ("range" if isinstance(item.domain, Range) else "values")


@pytest.mark.parametrize("item", [ranged("batch_size", 16, 256, "log", integer=True), listed("width", 32, 64, 128)])
def test_whole_numbers_stay_whole(item):
    for found in (wider(item, "low"), wider(item, "high")):
        assert all(isinstance(value, int) for value in present(found).value)


def test_the_proposed_domain_contains_the_searched_one():
    item = listed("x", 1, 2, 5)
    assert all(any(same(value, other) for other in present(wider(item, "high")).value) for value in item.domain.values)


_ENDS_OF_RANGES = st.floats(-1e308, 1e308) | st.floats(1e-320, 1e308) | st.floats(0, 1)


@given(low=_ENDS_OF_RANGES, high=_ENDS_OF_RANGES, scale=st.sampled_from(["linear", "log", "one_minus_log"]))
def test_whatever_a_range_is_the_wider_one_is_a_range_too(low, high, scale):
    assume(low < high and math.isfinite(high - low))
    assume((scale != "log" or low > 0) and (scale != "one_minus_log" or high < 1))
    for end in ("low", "high"):
        found = wider(Hyperparameter("odd", "odd", "nuisance", Range(low, high, scale)), end)
        if found is None:
            continue
        new_low, new_high = found.value
        assert new_low <= low < high <= new_high
        assert (new_low, new_high) != (low, high)
        assert math.isfinite(new_high - new_low)
        assert scale != "log" or new_low > 0
        assert scale != "one_minus_log" or new_high < 1
