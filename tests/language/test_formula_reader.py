"""Hyperparameters with a formula in a study file: what is read, and what is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest
from builders import NUISANCE_RATE, problems_in, problems_of, study, study_text

from tunectl.core.errors import StudyError
from tunectl.language.identity import differences
from tunectl.space.trial_plan import plan_trials

EFFECTIVE = "{role: nuisance, range: [0.1, 10], scale: log}"
MOMENTUM = "{role: nuisance, range: [0.8, 0.99], scale: one_minus_log}"
DERIVED = {
    "optimizer": "nesterov",
    "learning_rate": "{formula: effective_rate * (1 - momentum)}",
    "effective_rate": EFFECTIVE,
    "momentum": MOMENTUM,
}
SEARCH = "{trials: 5}"


def test_a_derived_value_is_in_the_plan_and_has_no_coordinate():
    trials = plan_trials(study(DERIVED, search=SEARCH))
    assert len(trials) == 5
    for trial in trials:
        values: dict[str, Any] = dict(trial.hyperparameters)
        assert list(values) == list(DERIVED)
        assert values["learning_rate"] == values["effective_rate"] * (1 - values["momentum"])
        assert len(trial.coordinates) == 2


def test_the_points_are_those_of_the_study_without_the_formula():
    plain = study({**DERIVED, "learning_rate": "0.1"}, search=SEARCH)
    derived = study(DERIVED, search=SEARCH)
    assert [trial.coordinates for trial in plan_trials(plain)] == [trial.coordinates for trial in plan_trials(derived)]


def test_a_derived_hyperparameter_knows_its_ends_and_whether_it_varies():
    (rate,) = study(DERIVED, search=SEARCH).alternatives("learning_rate")
    assert rate.role == "derived"
    assert rate.domain.numbers == pytest.approx((0.001, 2.0))
    assert rate.varies
    assert not rate.has_coordinate
    (fixed,) = study({**DERIVED, "effective_rate": 2, "momentum": 0.5}).alternatives("learning_rate")
    assert fixed.domain.listed == (1.0,)
    assert not fixed.varies


def test_an_alternative_may_be_a_range_and_another_a_formula_over_a_formula():
    spec = study(
        {
            "optimizer": "{role: scientific, values: [nesterov, adam]}",
            "effective_rate": f"{{when: {{optimizer: nesterov}}, {EFFECTIVE[1:]}",
            "momentum": f"{{when: {{optimizer: nesterov}}, {MOMENTUM[1:]}",
            "learning_rate": f"[{{when: {{optimizer: nesterov}}, formula: effective_rate * rest}}, "
            f"{{when: {{optimizer: adam}}, {NUISANCE_RATE[1:]}]",
            "rest": "{formula: 1 - momentum, when: {optimizer: nesterov}}",
        },
        search=SEARCH,
    )
    for trial in plan_trials(spec):
        values: dict[str, Any] = dict(trial.hyperparameters)
        if values["optimizer"] == "adam":
            assert values.keys() == {"optimizer", "learning_rate"}
        else:
            assert values["learning_rate"] == values["effective_rate"] * (1 - values["momentum"])
    assert spec.alternatives("learning_rate")[0].key == "learning_rate[optimizer=nesterov]"


def test_a_whole_number_is_rounded_where_the_type_says_so():
    spec = study({"batch_size": "{formula: 100 / 3, type: int}", "num_layers": "{formula: 2 + 0.5, type: int}"})
    (trial,) = plan_trials(spec)
    assert trial.hyperparameters["batch_size"] == 33
    assert isinstance(trial.hyperparameters["batch_size"], int)
    assert trial.hyperparameters["num_layers"] == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": "{formula: rate * 2}"}, "learning_rate.formula: the study has no hyperparameter 'rate'"),
        ({"learning_rate": "{formula: 2 *}"}, "learning_rate.formula: expected a number, a name or ("),
        ({"learning_rate": "{formula: [1]}"}, "learning_rate.formula: expected a formula, such as"),
        ({"learning_rate": "{formula: .inf}"}, "learning_rate.formula: expected a formula, such as"),
        ({"learning_rate": "{formula: max(0.1, momentum)}"}, "put the formula in quotes"),
        ({"learning_rate": "{formula: 1, role: nuisance}"}, "learning_rate.role: what a formula computes has no role"),
        ({"learning_rate": "{formula: 1, range: [1, 2]}"}, "got range and formula"),
        ({"learning_rate": "{formula: 1, scale: log}"}, "learning_rate.scale: no such key beside a formula"),
        ({"learning_rate": "{formula: 1, type: float16}"}, "learning_rate.type: expected float or int"),
        ({"learning_rate": "{formula: optimizer * 2}"}, "whose values are numbers, got optimizer: 'nesterov'"),
        ({"learning_rate": "{formula: momentum * learning_rate}"}, "form a circle: learning_rate → learning_rate"),
        ({"effective_rate": "{formula: learning_rate / 2}"}, "learning_rate → effective_rate → learning_rate"),
        ({"optimizer": "{formula: 1}"}, "which a formula cannot compute; write values"),
        ({"batch_size": "{formula: 2 * 16}"}, "add type: int, which rounds its value"),
        (
            {"dropout": "{role: nuisance, when: {learning_rate: 0.1}, range: [0, 0.5]}"},
            "dropout.when.learning_rate: a condition needs single values, and learning_rate is computed",
        ),
    ],
)
def test_an_entry_with_a_wrong_formula_is_refused_with_its_place(changes, said):
    assert any(said in problem for problem in problems_of({**DERIVED, **changes}, search=SEARCH))


def test_a_name_that_is_not_active_where_the_formula_is_has_its_place_and_the_case():
    hyperparameters = {**DERIVED, "optimizer": "{role: scientific, values: [nesterov, adam]}"}
    hyperparameters["momentum"] = f"{{when: {{optimizer: nesterov}}, {MOMENTUM[1:]}"
    (problem,) = problems_in(study_text(hyperparameters, search=SEARCH))
    assert problem.path == "hyperparameters.learning_rate.formula"
    assert "momentum has no value where optimizer is adam" in problem.message
    line = study_text(hyperparameters, search=SEARCH).splitlines()[problem.line - 1]
    assert line[problem.column - 1 :].startswith("effective_rate * (1 - momentum)")


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("effective_rate / (1 - 1)", "no valid value in 5 planned trials: division by 0 where effective_rate is"),
        ("effective_rate - 10", "no valid value in 5 planned trials: expected a number above 0, got -"),
        ("exp(1000 * effective_rate)", "too large for a float"),
    ],
)
def test_a_planned_trial_in_which_a_formula_has_no_value_is_an_error_with_its_place(formula, said):
    spec = study({**DERIVED, "momentum": 0.9, "learning_rate": f"{{formula: {formula}}}"}, search=SEARCH)
    with pytest.raises(StudyError) as caught:
        plan_trials(spec)
    (problem,) = caught.value.problems
    assert problem.path == "hyperparameters.learning_rate.formula"
    assert (problem.line, problem.column) == (6, 28)
    assert said in problem.message


def test_all_formulas_without_a_value_are_reported_at_once_also_in_a_grid():
    changes = {
        "effective_rate": "{role: nuisance, range: [0, 10], points: 3}",
        "momentum": "{role: nuisance, range: [0.8, 0.9], points: 2}",
        "weight_decay": "{formula: effective_rate - 1}",
    }
    with pytest.raises(StudyError) as caught:
        plan_trials(study({**DERIVED, **changes}, search="{sampler: grid}"))
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["hyperparameters.learning_rate.formula", "hyperparameters.weight_decay.formula"]
    spec = study({**DERIVED, **changes, "learning_rate": "0.1"}, search="{sampler: grid}")
    with pytest.raises(
        StudyError, match=r"no valid value in 2 planned trials: expected a number of at least 0, got -1"
    ):
        plan_trials(spec)


def test_a_hand_written_point_leaves_a_derived_value_out_or_has_the_computed_one():
    point = "{effective_rate: 1, momentum: 0.9"
    spec = study(DERIVED, search=f"{{points: [{point}}}, {point}, learning_rate: 0.1}}]}}")
    assert [trial.hyperparameters["learning_rate"] for trial in plan_trials(spec)] == [1 - 0.9] * 2
    wrong = study(DERIVED, search=f"{{points: [{point}, learning_rate: 0.2}}, {{effective_rate: 1}}]}}")
    with pytest.raises(StudyError) as caught:
        plan_trials(wrong)
    first, second = caught.value.problems
    assert first.path == "search.points[0].learning_rate"
    assert "which is effective_rate * (1 - momentum), got 0.2; leave it out" in first.message
    assert "expected a value for momentum" in second.message


def test_another_formula_is_another_study_and_other_blanks_are_not():
    text = DERIVED["learning_rate"]
    spaced = study({**DERIVED, "learning_rate": text.replace(" * ", "*").replace("(1", "( 1")}, search=SEARCH)
    other = study({**DERIVED, "learning_rate": text.replace("1 -", "2 -")}, search=SEARCH)
    spec = study(DERIVED, search=SEARCH)
    assert differences(spec, spaced).results == ()
    (line,) = differences(spec, other).results
    assert line.startswith("hyperparameters.learning_rate.formula: was effective_rate * (1 - momentum), is ")


def test_a_long_chain_of_formulas_is_read_and_one_that_is_too_long_refused():
    def chain(length: int) -> dict[str, str]:
        steps = {f"step{n}": f"{{formula: step{n - 1} + step{max(n - 2, 0)}}}" for n in range(1, length)}
        return {"step0": "1", **steps, "learning_rate": f"{{formula: step{length - 1} / 1e40}}"}

    (trial,) = plan_trials(study(chain(90)))
    assert trial.hyperparameters["step3"] == 5.0
    assert any("expected at most 100 formulas inside each other" in problem for problem in problems_of(chain(300)))
