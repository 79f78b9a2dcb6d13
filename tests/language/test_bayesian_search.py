"""`search: {sampler: bayesian, after: DIR}` in a study file."""

from __future__ import annotations

import pytest
from builders import NUISANCE_RATE, problems_of, study

SEARCH = "{sampler: bayesian, after: runs/explore, trials: 12}"
SCIENTIFIC = {"optimizer": "{role: scientific, values: [sgd, adam]}", "learning_rate": NUISANCE_RATE}
CONDITIONAL = {
    "optimizer": "{role: nuisance, values: [momentum, adam]}",
    "learning_rate": NUISANCE_RATE,
    "momentum": "{role: nuisance, when: {optimizer: momentum}, range: [0.8, 0.99]}",
}
ALTERNATIVES = {
    "optimizer": "{role: nuisance, values: [sgd, adam]}",
    "learning_rate": "[{role: nuisance, when: {optimizer: sgd}, range: [1e-2, 1]}, "
    "{role: nuisance, when: {optimizer: adam}, range: [1e-4, 1e-1]}]",
}


def test_it_names_the_folder_of_an_earlier_study() -> None:
    search = study({"learning_rate": NUISANCE_RATE}, search=SEARCH).search
    assert (search.sampler, search.after, search.trials, search.seed) == ("bayesian", "runs/explore", 12, 0)


@pytest.mark.parametrize(
    ("hyperparameters", "search", "expected"),
    [
        (
            {"learning_rate": NUISANCE_RATE},
            "{sampler: bayesian, trials: 9}",
            "search.after: the key is missing; write the",
        ),
        ({"learning_rate": NUISANCE_RATE}, "{sampler: bayesian, after: x}", "search.trials: the key is missing"),
        (
            {"learning_rate": NUISANCE_RATE},
            SEARCH.replace("12", "1001"),
            "search.trials: expected at most 1,000 trials",
        ),
        ({"learning_rate": NUISANCE_RATE}, "{after: x, trials: 9}", "search.after: only sampler: bayesian begins from"),
        ({}, SEARCH, "search.sampler: sampler: bayesian proposes values, and no hyperparameter has"),
        (SCIENTIFIC, SEARCH, "hyperparameters.optimizer: sampler: bayesian searches one setting; write the value"),
        (CONDITIONAL, SEARCH, "hyperparameters.momentum: sampler: bayesian models trials that all have the same"),
        (ALTERNATIVES, SEARCH, "hyperparameters.learning_rate[0]: sampler: bayesian models trials that all have the"),
    ],
    ids=["no-after", "no-trials", "too-many", "halton", "nothing-varies", "scientific", "conditional", "alternatives"],
)
def test_what_a_model_of_one_space_cannot_have_is_refused(
    hyperparameters: dict[str, str], search: str, expected: str
) -> None:
    assert problems_of(hyperparameters, search=search)[0][: len(expected)] == expected


def test_a_condition_on_a_fixed_value_is_none() -> None:
    """A study of several optimizers becomes one of a single optimizer by giving it one value."""
    found = study({**CONDITIONAL, "optimizer": "momentum"}, search=SEARCH)
    assert [item.key for item in found.hyperparameters if item.has_coordinate] == ["learning_rate", "momentum"]
