"""What is known of each optimizer, as the fields and the warnings about comparisons use it.

Tests language/optimizer_traits.py and, with every optimizer, language/review_optimizers.py.
"""

from __future__ import annotations

import re
from itertools import combinations

import pytest
from builders import study
from each_case import each_case
from torch import nn

from tunectl.language.configuration import FIELDS, TrainingConfiguration
from tunectl.language.optimizer_traits import OPTIMIZERS, OptimizerName, is_optimizer, optimizers_with, traits
from tunectl.language.review import review
from tunectl.space.search_space import search_space
from tunectl.training.optimizers import make_optimizer

MANY = 1000


def warnings(optimizers: tuple[OptimizerName, ...]) -> list[str]:
    rates = ", ".join(
        f"{{role: nuisance, when: {{optimizer: {name}}}, range: [1e-4, 1], scale: log}}" for name in optimizers
    )
    spec = study(
        {"optimizer": f"{{role: scientific, values: [{', '.join(optimizers)}]}}", "learning_rate": f"[{rates}]"},
        goal="Which is better after these steps?",
        search=f"{{trials: {MANY}}}",
    )
    settings = tuple(setting.values for setting in search_space(spec).settings)
    return [problem.message for problem in review(spec, settings, (MANY,) * len(settings))]


@each_case("pair", combinations(OPTIMIZERS, 2))
def test_any_two_optimizers_are_to_be_tuned_alike(pair: tuple[OptimizerName, OptimizerName]) -> None:
    """With enough trials, all that either has of its own is asked for."""
    found = [line for line in warnings(pair) if "a comparison is fair only when" in line]
    own = {name for optimizer in pair for name in traits(optimizer).tuned_from}
    assert len(found) == bool(own)
    for name in own:
        assert re.search(rf"\b{name}\b", found[0])
    for optimizer in pair:
        assert (f"for {optimizer}" in found[0] or f"and {optimizer}" in found[0]) == bool(traits(optimizer).tuned_from)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_has_of_its_own_is_what_its_rule_reads(name: OptimizerName) -> None:
    """A value that is changed changes what torch is given exactly where the traits have it."""

    def settings(**changed: float) -> str:
        configuration = TrainingConfiguration.from_hyperparameters({"optimizer": name, "learning_rate": 0.1, **changed})
        group = make_optimizer(nn.Linear(1, 1), configuration).param_groups[0]
        return repr({key: value for key, value in group.items() if key != "params"})

    for field, other in {"momentum": 0.7, "rho": 0.6, "beta1": 0.5, "beta2": 0.4, "epsilon": 0.3}.items():
        assert (settings() != settings(**{field: other})) == (field in traits(name).reads), field
        read_when = FIELDS[field].read_when
        assert read_when is not None
        assert (name in read_when["optimizer"]) == (field in traits(name).reads)


def test_values_that_are_not_optimizers_have_no_traits() -> None:
    assert not any(is_optimizer(value) for value in ("Adam", 1, None, "", True))
    assert optimizers_with("rho") == ("rmsprop", "rmsprop_playbook")
