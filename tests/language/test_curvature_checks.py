"""`training: curvature:`: its keys and bounds, what does not fit the rest of a study, and warnings.

Tests language/curvature_checks.py, and of language/sections.py what reads this section.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pytest
from builders import problems_in, problems_of, study, study_text

from tunectl.core.curvature_settings import CurvatureMeasure, CurvatureSettings
from tunectl.core.measurement_kinds import MOST_EIGENVALUES
from tunectl.language.review import review
from tunectl.space.search_space import search_space

FUNCTION = {"workload": "{function: ./mine.py:train}"}
COMMAND = {"workload": '{command: [python, train.py, "{learning_rate}"]}'}
OWN = {"optimizer": None}


def training(curvature: str) -> dict[str, str]:
    return {"training": f"{{max_train_steps: 2000, eval_every: 100, curvature: {curvature}}}"}


def settings_of(curvature: str, **sections: str) -> CurvatureSettings | None:
    return study(OWN if sections else {}, **training(curvature), **sections).training.curvature


def warnings(curvature: str, hyperparameters: Mapping[str, Any] | None = None, **sections: str) -> list[str]:
    spec = study(hyperparameters, goal="Is it stable?", search="{trials: 20}", **training(curvature), **sections)
    settings = tuple(setting.values for setting in search_space(spec).settings)
    found = review(spec, settings, (20,) * len(settings))
    return [f"{item.path}: {item.message}" for item in found if item.path.startswith("training.curvature")]


def test_the_defaults_are_those_of_the_record_and_nothing_is_measured_without_the_key() -> None:
    assert settings_of("{every: 100}") == CurvatureSettings(every=100)
    assert settings_of("") is None
    assert study().training.curvature is None


def test_every_key_reaches_the_settings_and_at_is_put_in_order() -> None:
    text = (
        "{at: [10, 0, 2000], measures: [lambda_min, lambda_1], examples: 64, tolerance: 1e-2, max_products: 9, "
        "mode: eval, eigenvalues: 3}"
    )
    assert settings_of(text) == CurvatureSettings(
        None, (0, 10, 2000), ("lambda_min", "lambda_1"), 64, 0.01, 9, "eval", 3
    )


@pytest.mark.parametrize("measure", get_args(CurvatureMeasure))
def test_every_measure_has_its_name(measure: CurvatureMeasure) -> None:
    found = settings_of(f"{{every: 1, measures: [{measure}]}}")
    assert found is not None
    assert found.measures == (measure,)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("5", "training.curvature: expected a mapping of keys, got 5"),
        ("{}", "training.curvature: expected the key every or at; write every: 100 (updates) or at: [0, 10, 100]"),
        ("{mode: eval}", "training.curvature: expected the key every or at"),
        ("{every: 5, at: [0]}", "training.curvature.at: expected either every or at, got both; leave one of them out"),
        ("{every: 0}", "training.curvature.every: expected at least 1, got 0"),
        ("{every: 2.5}", "training.curvature.every: expected a whole number, got 2.5"),
        ("{every: true}", "training.curvature.every: expected a whole number, got true"),
        ("{every: '5'}", "training.curvature.every: expected a whole number, got '5' (text); write 5 without quotes"),
        ("{at: 5}", "training.curvature.at: expected a list, got 5"),
        ("{at: []}", "training.curvature.at: expected at least one, got an empty list"),
        ("{at: [0, 5, 5]}", "training.curvature.at: expected each one once (5 is there 2 times), got a list"),
        ("{at: [-1]}", "training.curvature.at[0]: expected at least 0, got -1"),
        ("{at: [0, 1.5]}", "training.curvature.at[1]: expected a whole number, got 1.5"),
        ("{every: 1, measures: lambda_1}", "training.curvature.measures: expected a list, got 'lambda_1'"),
        ("{every: 1, measures: []}", "training.curvature.measures: expected at least one, got an empty list"),
        ("{every: 1, measures: [lambda_1, lambda1]}", "training.curvature.measures[1]: expected one of lambda_1, preconditioned, critical_learning_rate, directional, lambda_min, gradient_quotient, got 'lambda1'; did you mean lambda_1?"),
        ("{every: 1, measures: [directional, directional]}", "training.curvature.measures: expected each one once ('directional' is there 2 times)"),
        ("{every: 1, measures: [[lambda_1]]}", "training.curvature.measures[0]: expected one of"),
        ("{every: 1, examples: 0}", "training.curvature.examples: expected at least 1, got 0"),
        ("{every: 1, tolerance: 0}", "training.curvature.tolerance: expected more than 0, got 0"),
        ("{every: 1, tolerance: 0.6}", "training.curvature.tolerance: expected at most 0.5, got 0.6"),
        ("{every: 1, tolerance: nan}", "training.curvature.tolerance: expected a number, got 'nan'"),
        ("{every: 1, max_products: 1}", "training.curvature.max_products: expected at least 2, got 1"),
        ("{every: 1, mode: trian}", "training.curvature.mode: expected one of train, eval, got 'trian'; did you mean train?"),
        ("{every: 1, eigenvalues: 0}", "training.curvature.eigenvalues: expected at least 1, got 0"),
        (f"{{every: 1, eigenvalues: {MOST_EIGENVALUES + 1}}}", f"training.curvature.eigenvalues: expected at most {MOST_EIGENVALUES}, got {MOST_EIGENVALUES + 1}"),
        ("{every: 1, eigenvalues: 5, max_products: 5}", "training.curvature.max_products: expected more than eigenvalues (5)"),
        ("{evry: 1}", "training.curvature.evry: no such key; did you mean every?"),
        ("{every: 1, eval_every: 1}", "training.curvature.eval_every: no such key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_place(content: str, problem: str) -> None:
    found = problems_of(**training(content))
    assert any(line.startswith(problem) for line in found), found
    assert len(found) == 1, "and nothing else"


def test_a_problem_has_the_line_and_column_of_its_value() -> None:
    text = study_text(training="\n  max_train_steps: 10\n  eval_every: 5\n  curvature:\n    at: [0, 5, -3]")
    assert [(item.line, item.column) for item in problems_in(text)] == [(7, 16)]


def test_a_function_measures_where_it_asks_so_that_it_needs_no_steps() -> None:
    found = settings_of("{examples: 32, mode: eval}", **FUNCTION)
    assert found == CurvatureSettings(examples=32, mode="eval")
    assert settings_of("{}", **FUNCTION) == CurvatureSettings()
    both = problems_of(OWN, **training("{every: 5, at: [0]}"), **FUNCTION)
    assert [line.split(": ")[0] for line in both] == ["training.curvature.at"]


def test_a_command_is_refused_with_the_reason() -> None:
    found = problems_of(OWN, **training("{every: 5}"), **COMMAND)
    assert found == [
        "training.curvature: a command trains in a process of its own, whose model and loss tunectl cannot use; leave "
        "curvature out, or train in a function, which may call trial.curvature"
    ]


@pytest.mark.parametrize(
    ("curvature", "sections", "allowed"),
    [
        (None, {}, False),
        ("{every: 5}", {}, False),
        (None, FUNCTION, True),
        ("{}", FUNCTION, False),
        (None, COMMAND, True),
    ],
)
def test_no_trial_is_judged_by_what_curvature_measures(
    curvature: str | None, sections: dict[str, str], allowed: bool
) -> None:
    objective = {"objective": "{metric: curvature/lambda_1, direction: minimize}"}
    chosen = {**objective, **sections, **(training(curvature) if curvature else {})}
    if allowed:
        assert study(OWN, **chosen).objective.metric == "curvature/lambda_1"
        return
    found = problems_of(OWN if sections else {}, **chosen)
    assert len(found) == 1
    assert found[0].startswith("objective.metric: expected a metric ")
    assert "training.curvature measures" in found[0]


def test_steps_beyond_the_end_of_a_trial_are_warned_about() -> None:
    assert warnings("{at: [0, 2000]}") == []
    found = warnings("{at: [0, 2001, 3000]}")
    assert found == [
        "training.curvature.at: a trial has at most 2,000 updates: nothing is measured after 2,001 and 3,000"
    ]
    assert warnings("{at: [1, 2003, 2004, 2005, 2006, 2007]}")[0].endswith("after 2,003, 2,004, 2,005 and 2 more")
    assert warnings("{every: 2000}") == []
    assert "the curvature is measured at its start alone" in warnings("{every: 2001}")[0]


def test_a_prepended_warmup_makes_a_trial_longer_and_one_within_does_not() -> None:
    assert warnings("{at: [0, 2050]}", {"warmup_steps": "50"}) == []
    assert len(warnings("{at: [0, 2050]}", {"warmup_steps": "50", "warmup": "within"})) == 1
    assert len(warnings("{at: [0, 2051]}", {"warmup_steps": "{role: nuisance, range: [0, 50], type: int}"})) == 1


@pytest.mark.parametrize(
    ("optimizer", "measures", "noted"),
    [
        ("sgd", "[lambda_1, preconditioned]", True),
        ("{role: scientific, values: [sgd, nesterov]}", "[lambda_1, preconditioned]", True),
        ("{role: scientific, values: [sgd, adam]}", "[lambda_1, preconditioned]", False),
        ("lamb", "[preconditioned]", False),
        ("rmsprop", "[preconditioned]", False),
        ("sgd", "[lambda_1]", False),
        ("sgd", None, False),
    ],
)
def test_a_preconditioned_eigenvalue_that_no_optimizer_of_the_study_has_is_noted_where_it_is_asked_for(
    optimizer: str, measures: str | None, noted: bool
) -> None:
    asked = "{every: 100}" if measures is None else f"{{every: 100, measures: {measures}}}"
    found = warnings(asked, {"optimizer": optimizer})
    assert ["preconditioned needs an optimizer" in line for line in found] == ([True] if noted else [])


def test_eigenvalues_without_the_measure_that_uses_them_are_noted() -> None:
    found = warnings("{every: 100, measures: [directional], eigenvalues: 4}")
    assert found == ["training.curvature.eigenvalues: eigenvalues has no effect without lambda_1 among the measures"]
    assert warnings("{every: 100, measures: [lambda_1], eigenvalues: 4}") == []


def test_what_is_not_known_of_an_optimizer_of_the_studys_own_is_said_where_it_is_asked_for() -> None:
    own = {"optimizer": '"./mine.py:Lion"'}
    asked = "{every: 100, measures: [preconditioned, critical_learning_rate]}"
    assert [line.partition(": ")[2] for line in warnings(asked, own)] == [
        "preconditioned needs an optimizer that scales each coordinate by its gradients, such as adam or rmsprop, and of "
        "./mine.py:Lion that is not known: it will be left out",
        "the critical learning rate of ./mine.py:Lion is not known: it will be left out there",
    ]
    assert warnings("{every: 100}", own) == []
