"""Why trials have no ratio, in sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import study

from tunectl.analysis.curvature.unknown_bounds import unknown_bounds
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.records import PlannedTrial

SPEC = study()
LINE = np.zeros(1), np.ones(1)


def evidence(*trials):
    """Trials of these hyperparameters, each with or without a ratio."""
    runs = []
    for number, (values, has_ratio) in enumerate(trials):
        curves = {"curvature/lambda_1": LINE} | ({"curvature/ratio": LINE} if has_ratio else {})
        values = {name: value for name, value in {"learning_rate": 0.1, **values}.items() if value is not None}
        plan = PlannedTrial(number, 0, number, 0, (), values, 0)
        runs.append(Run(plan, "completed", best_value=0.1, curves=curves))
    return StudyEvidence(SPEC, SPEC.objective, tuple(runs))


def test_nothing_is_said_where_all_have_a_ratio_or_none_has_curvature():
    assert unknown_bounds(evidence(({"optimizer": "sgd"}, True))) == []
    without = replace(evidence(), runs=(Run(PlannedTrial(0, 0, 0, 0, (), {}, 0), "completed"),))
    assert unknown_bounds(without) == []


def test_the_reason_of_the_optimizer_is_given_with_the_number_of_trials():
    (sentence,) = unknown_bounds(evidence(({"optimizer": "lamb"}, False), ({"optimizer": "sgd"}, True)))
    assert sentence.startswith("No stability bound is known for lamb")
    assert sentence.endswith("so 1 of 2 trials has no ratio.")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimizer": "adamw", "weight_decay": 0.1, "weight_decay_scope": "matrices"}, "scope: matrices"),
        ({"optimizer": "adamw", "weight_decay": 30.0}, "No eigenvalue is stable"),
        ({"optimizer": "adam"}, "was not measured"),
        ({"optimizer": "./mine.py:Lion"}, "No stability bound is known for ./mine.py:Lion"),
        ({"optimizer": "./mine.py:Lion", "learning_rate": None}, "No stability bound is known for ./mine.py:Lion"),
    ],
)
def test_other_reasons(values, words):
    (sentence,) = unknown_bounds(evidence((values, False)))
    assert words in sentence
    assert sentence.endswith("so there is no ratio.")


def test_own_code_has_an_optimizer_of_its_own():
    spec = study({"optimizer": None}, workload="{function: './train.py:main'}", training="{max_train_steps: 5}")
    (sentence,) = unknown_bounds(replace(evidence(({}, False)), spec=spec))
    assert sentence == (
        "No stability bound is known: the study's own code has its own optimizer, so there is no ratio."
    )
