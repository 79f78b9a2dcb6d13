"""Conditions inferred from trials."""

from __future__ import annotations

from tunectl.exchange.inferred_conditions import conditions
from tunectl.space.domains import FixedValue, Range, SampledDomain, ValueSet

DOMAINS: dict[str, SampledDomain] = {
    "optimizer": ValueSet(("sgd", "adam", "lamb")),
    "layers": Range(1, 3, integer=True),
    "rate": Range(0.0, 1.0),
    "momentum": Range(0.0, 1.0),
}


def trials(*lines):
    return [dict(line) for line in lines]


def test_the_values_under_which_a_parameter_is_there_are_found():
    found, unexplained = conditions(
        trials(
            {"optimizer": "sgd", "layers": 1, "rate": 0.1, "momentum": 0.5},
            {"optimizer": "adam", "layers": 1, "rate": 0.2},
            {"optimizer": "sgd", "layers": 2, "rate": 0.3, "momentum": 0.6},
            {"optimizer": "lamb", "layers": 2, "rate": 0.3, "momentum": 0.6},
        ),
        DOMAINS,
    )
    assert (found, unexplained) == ({"momentum": {"optimizer": ("lamb", "sgd")}}, [])


def test_a_short_whole_number_range_can_be_a_switch_and_a_float_cannot():
    lines = [
        {"optimizer": "sgd", "layers": n, "rate": n / 10} | ({"momentum": 0.5} if n > 1 else {}) for n in (1, 2, 3)
    ]
    assert conditions(lines, DOMAINS) == ({"momentum": {"layers": (2, 3)}}, [])
    without = [{name: value for name, value in line.items() if name != "layers"} for line in lines]
    domains = {name: domain for name, domain in DOMAINS.items() if name != "layers"}
    assert conditions(without, domains) == ({}, ["momentum"])


def test_two_switches_are_needed_where_neither_explains_it_alone_and_no_third_is_named():
    domains: dict[str, SampledDomain] = {**DOMAINS, "nesterov": ValueSet((True, False)), "width": FixedValue(3)}
    lines = []
    for optimizer in ("sgd", "adam"):
        for nesterov in (True, False):
            line = {"optimizer": optimizer, "nesterov": nesterov, "layers": 1, "rate": 0.1, "width": 3}
            lines.append(line | ({"momentum": 0.9} if optimizer == "sgd" and nesterov else {}))
    found, unexplained = conditions(lines, domains)
    assert found == {"momentum": {"optimizer": ("sgd",), "nesterov": (True,)}}
    assert unexplained == []


def test_a_switch_that_is_conditional_itself_explains_and_no_circle_is_made():
    domains: dict[str, SampledDomain] = {
        "optimizer": ValueSet(("sgd", "adam")),
        "schedule": ValueSet(("step", "cosine")),
        "factor": ValueSet((1, 2)),
    }
    lines = trials(
        {"optimizer": "sgd", "schedule": "step", "factor": 1},
        {"optimizer": "sgd", "schedule": "step", "factor": 2},
        {"optimizer": "sgd", "schedule": "cosine"},
        {"optimizer": "adam"},
    )
    found, unexplained = conditions(lines, domains)
    assert found == {"schedule": {"optimizer": ("sgd",)}, "factor": {"schedule": ("step",)}}
    assert unexplained == []
    twins = trials({"optimizer": "sgd", "schedule": "step", "factor": 1}, {"optimizer": "adam"})
    found, _ = conditions(twins, domains)
    assert found == {"schedule": {"optimizer": ("sgd",)}, "factor": {"optimizer": ("sgd",)}}


def test_a_trial_that_was_stopped_counts_where_it_has_a_parameter_and_not_where_it_lacks_it():
    lines = trials(
        {"optimizer": "sgd", "layers": 1, "momentum": 0.5},
        {"optimizer": "sgd", "layers": 1},
        {"optimizer": "adam", "layers": 1},
        {"optimizer": "lamb", "layers": 1},
    )
    domains = {name: DOMAINS[name] for name in ("optimizer", "layers", "momentum")}
    explained = {"momentum": {"optimizer": ("sgd",)}}
    assert conditions(lines, domains, [False, False, True, True]) == (explained, [])
    assert conditions(lines, domains, [True, True, True, True]) == ({}, ["momentum"])
    assert conditions(lines, domains, [False, False, False, False]) == ({}, ["momentum"])
    assert conditions(lines, domains, [False, False, False, True]) == (explained, [])


def test_what_is_there_by_chance_is_explained_by_nothing():
    lines = trials({"optimizer": "sgd", "momentum": 0.1}, {"optimizer": "sgd"}, {"optimizer": "adam"})
    assert conditions(lines, DOMAINS)[1][-1] == "momentum"


def test_true_and_1_are_two_values_of_a_switch():
    lines = trials({"flag": True, "width": 64}, {"flag": 1}, {"flag": True, "width": 64})
    domains: dict[str, SampledDomain] = {"flag": ValueSet((True, 1)), "width": FixedValue(64)}
    found, unexplained = conditions(lines, domains)
    assert (repr(found), unexplained) == ("{'width': {'flag': (True,)}}", [])
    both = [*lines, {"flag": 1, "width": 64}, {"flag": 2}]
    found, _ = conditions(both[:1] + both[3:], {**domains, "flag": ValueSet((True, 1, 2))})
    assert repr(found) == "{'width': {'flag': (True, 1)}}"
