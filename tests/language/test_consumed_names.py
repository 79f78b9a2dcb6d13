"""Every hyperparameter is used, and no default of the factory is used silently.

Tests language/consumed_names.py, language/declared_study.py.
"""

from __future__ import annotations

import pytest
from builders import NUISANCE_RATE, study

from tunectl.core.records import FactorySignature
from tunectl.language.consumed_names import check_consumption, factory_arguments

FACTORY = FactorySignature(("num_layers", "width", "dropout", "seed"), (), file="w.py", line=3)
OPEN = FactorySignature(("width",), (), open=True, reason="it takes **kwargs")
INITIALISATIONS = "{role: scientific, values: [none, metainit, gradinit]}"
BOTH = "{role: scientific, values: [nesterov, adam]}"


def problems(hyperparameters, signature=FACTORY):
    spec = study({"learning_rate": NUISANCE_RATE, **hyperparameters}, search="{trials: 4}")
    return [f"{problem.path}: {problem.message}" for problem in check_consumption(spec, signature)]


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"width": "64", "batch_size": "32", "weight_decay": "0.1"},
        {"optimizer": "momentum", "momentum": "{role: nuisance, range: [0.8, 0.99]}"},
        {"optimizer": BOTH, "momentum": "{role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.99]}"},
        # a fixed one is read in some setting, that will do
        {"optimizer": BOTH, "momentum": "0.9", "beta1": "0.9"},
        {"optimizer": "{role: nuisance, values: [nesterov, momentum]}", "momentum": "{role: nuisance, range: [0.8, 0.9]}"},
        {"schedule": "cosine", "decay_steps": "{role: nuisance, range: [10, 100], type: int}"},
        {"schedule": "{role: scientific, values: [constant, linear]}", "decay_steps": "100"},
        {"initialisation": INITIALISATIONS, "initialisation_steps": "100"},
        {"initialisation": INITIALISATIONS, "initialisation_learning_rate": "{role: nuisance, when: {initialisation: metainit}, range: [0.01, 0.1]}"},
        # a switch is read by the conditions
        {"decay": "{role: scientific, values: [false, true]}", "weight_decay": "[{value: 0, when: {decay: false}}, {role: scientific, range: [1e-5, 1], when: {decay: true}, scale: log}]"},
        # both readers: a field of the training configuration, and the factory
        {"dropout": "{role: nuisance, range: [0, 0.5]}"},
    ],
)  # fmt: skip
def test_a_hyperparameter_that_is_used_wherever_it_is_active_is_right(hyperparameters):
    assert problems(hyperparameters) == []


@pytest.mark.parametrize(
    ("hyperparameters", "problem"),
    [
        ({"optimizer": "adam", "momentum": "{role: nuisance, range: [0.8, 0.9]}"}, "momentum: momentum is not used in any setting: optimizer is adam; leave it out"),
        ({"optimizer": BOTH, "momentum": "{role: nuisance, range: [0.8, 0.9]}"}, "momentum: momentum is not used where optimizer is adam, only where it is nesterov: add when: {optimizer: [nesterov]}"),
        ({"optimizer": BOTH, "beta1": "{role: nuisance, range: [0.8, 0.9], when: {optimizer: nesterov}}"}, "beta1: beta1 is not used where optimizer is nesterov"),
        ({"optimizer": "{role: nuisance, values: [nesterov, sgd]}", "momentum": "{role: nuisance, range: [0.8, 0.9]}"}, "momentum: momentum is not used where optimizer is "),
        ({"optimizer": "adam", "momentum": "0.9"}, "momentum: momentum is not used in any setting"),
        ({"optimizer": BOTH, "beta2": "{value: 0.99, when: {optimizer: nesterov}}"}, "beta2: beta2 has no effect where it is active: it has an effect only where optimizer is one of adam"),
        ({"decay_steps": "50"}, "decay_steps: decay_steps is not used in any setting"),
        ({"decay_steps": "{role: nuisance, range: [10, 100], type: int}"}, "decay_steps: decay_steps is not used in any setting: schedule is constant; leave it out, or add schedule: cosine"),
        ({"schedule": "{role: scientific, values: [constant, cosine]}", "decay_steps": "{role: nuisance, range: [10, 100], type: int}"}, "decay_steps: decay_steps is not used where schedule is constant, only where it is cosine"),
        ({"initialisation_steps": "50"}, "initialisation_steps: initialisation_steps is not used in any setting: initialisation is none; leave it out, or add initialisation: gradinit"),
        ({"initialisation": "none", "initialisation_momentum": "0.5"}, "initialisation_momentum: initialisation_momentum is not used in any setting: initialisation is none; leave it out"),
        ({"initialisation": INITIALISATIONS, "initialisation_steps": "{role: nuisance, range: [10, 100], type: int}"}, "initialisation_steps is not used where initialisation is none, only where it is metainit, gradinit: add when: {initialisation: [metainit, gradinit]}"),
        ({"widht": "64"}, "widht: widht is not used: it is not a keyword of the factory or a training field; did you mean width?"),
        ({"compile": "true"}, "compile: compile is not used: it is not a keyword of the factory or a training field; it belongs under training"),
        ({"weight_deacy": "0.1"}, "did you mean weight_decay?"),
    ],
)  # fmt: skip
def test_an_unused_hyperparameter_is_refused(hyperparameters, problem):
    (line,) = problems(hyperparameters)
    assert line.startswith(f"hyperparameters.{problem}") or problem in line, line


def test_an_otherwise_unused_field_may_be_a_keyword_of_the_factory():
    reads_momentum = FactorySignature(("momentum",))
    assert problems({"optimizer": "adam", "momentum": "{role: nuisance, range: [0.8, 0.9]}"}, reads_momentum) == []


@pytest.mark.parametrize(
    ("hyperparameters", "signature"),
    [
        # varies in one setting, is absent in the other
        ({"norm": "{role: scientific, values: [a, b]}", "dropout": "{role: nuisance, when: {norm: a}, range: [0, 0.5]}"}, FACTORY),
        # two values in two settings, none in the third
        ({"norm": "{role: scientific, values: [a, b, c]}", "dropout": "[{value: 0.1, when: {norm: a}}, {value: 0.2, when: {norm: b}}]"}, FACTORY),
        # absent where the parent is sampled within the setting
        ({"norm": "{role: nuisance, values: [a, b]}", "dropout": "{role: nuisance, when: {norm: a}, range: [0, 0.5]}"}, FACTORY),
        # a keyword without a default that some settings lack, though it is fixed
        ({"norm": "{role: scientific, values: [a, b]}", "dropout": "{value: 0.1, when: {norm: a}}"}, FactorySignature(("dropout",), ("dropout",))),
        # the same for a name that the training configuration reads too
        ({"optimizer": BOTH, "momentum": "{role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.99]}"}, FactorySignature(("momentum",), ("momentum",))),
        ({"optimizer": BOTH, "momentum": "{role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.99]}"}, FactorySignature(("momentum",))),
    ],
)  # fmt: skip
def test_a_keyword_of_the_factory_that_varies_and_is_absent_elsewhere_is_refused(hyperparameters, signature):
    lines = problems(hyperparameters, signature)
    assert len(lines) == 1, lines
    assert "has no value where" in lines[0]
    assert "its default would be used silently" in lines[0]


def test_a_keyword_with_a_value_in_every_setting_is_right():
    entries = "[{role: nuisance, when: {norm: a}, range: [0, 0.5]}, {value: 0, when: {norm: b}}]"
    assert problems({"norm": "{role: scientific, values: [a, b]}", "dropout": entries}) == []


def test_a_keyword_without_a_default_must_be_given():
    needs = FactorySignature(("width", "seed"), ("width", "seed"), file="/w.py", line=3)
    assert problems({}, needs) == [
        "hyperparameters.width: the key is missing: the factory (line 3 of /w.py) needs it and has no default; write its value"
    ]
    assert problems({"width": "3"}, needs) == []


def test_behind_an_open_signature_only_what_is_certain_is_refused():
    assert problems({"anything": "{role: nuisance, range: [0, 1]}", "width": "3"}, OPEN) == []
    assert len(problems({"optimizer": "adam", "momentum": "0.9"}, OPEN)) == 1
    assert len(problems({"optimizer": "adam", "momentum": "{role: nuisance, range: [0.8, 0.9]}"}, OPEN)) == 1


def test_the_factory_gets_what_it_names_and_through_kwargs_what_no_field_is_called():
    values = {"width": 3, "momentum": 0.9, "other": 1, "learning_rate": 0.1}
    assert factory_arguments(FactorySignature(("width", "momentum")), values) == {"width": 3, "momentum": 0.9}
    assert factory_arguments(OPEN, values) == {"width": 3, "other": 1}


def test_every_problem_of_a_study_is_reported_at_its_own_place():
    spec = study(
        {"optimizer": "adam", "momentum": "{role: nuisance, values: [0.8, 0.9]}", "widht": "3", "learning_rate": "0.1"},
        search="{trials: 2}",
    )
    found = check_consumption(spec, FACTORY)
    assert [(problem.line, problem.column, problem.path) for problem in found] == [
        (7, 3, "hyperparameters.momentum"),
        (8, 3, "hyperparameters.widht"),
    ]


def test_a_field_that_does_nothing_without_another_is_refused():
    for name, value, needed in (
        ("warmup", "within", "warmup_steps"),
        ("weight_decay_scope", "matrices", "weight_decay"),
    ):
        alone = {"optimizer": "sgd", "learning_rate": "0.1", name: value}
        (told,) = check_consumption(study(alone), FACTORY)
        assert f"{name} is not used without {needed}" in told.message
        assert check_consumption(study({**alone, needed: "1"}), FACTORY) == []


def test_a_fixed_keyword_that_is_active_in_one_setting_only_is_refused():
    spec = study(
        {
            "optimizer": "sgd",
            "learning_rate": "0.1",
            "norm": "{role: scientific, values: [a, b]}",
            "width": "{value: 5, when: {norm: a}}",
        },
        search="{trials: 1}",
    )
    (told,) = check_consumption(spec, FACTORY)
    assert "the factory uses width, which has no value where norm is" in told.message


def test_a_factory_with_a_required_keyword_that_no_hyperparameter_can_be_called_has_to_rename_it():
    signature = FactorySignature(parameters=("device", "width"), required=("device",))
    (told,) = check_consumption(study({"optimizer": "sgd", "learning_rate": "0.1", "width": "3"}), signature)
    assert told.path == "workload"
    assert "rename the parameter" in told.message


EFFECTIVE = "{role: nuisance, range: [0.1, 10], scale: log}"
FORMULA = "{formula: effective_rate * (1 - momentum)}"


def test_a_name_in_a_formula_is_used():
    momentum = "{role: nuisance, range: [0.8, 0.99]}"
    derived = {"effective_rate": EFFECTIVE, "momentum": momentum, "learning_rate": FORMULA}
    assert problems({**derived, "optimizer": "nesterov"}) == []
    # Adam has no momentum, and the formula uses it.
    assert problems({**derived, "optimizer": "adam"}) == []


def test_a_name_in_a_formula_is_used_only_where_the_formula_is_active():
    rates = f"[{{when: {{optimizer: nesterov}}, {FORMULA[1:]}, {{when: {{optimizer: adam}}, {NUISANCE_RATE[1:]}]"
    momentum = "{role: nuisance, range: [0.8, 0.99]}"
    both = {"optimizer": BOTH, "learning_rate": rates, "momentum": momentum, "effective_rate": EFFECTIVE}
    found = problems(both)
    assert [message.split(":")[0] for message in found] == [
        "hyperparameters.momentum",
        "hyperparameters.effective_rate",
    ]
    assert "momentum is not used where optimizer is adam, only where it is nesterov" in found[0]
    assert (
        "is not used where optimizer is adam: only the formula of learning_rate uses it; give it the same" in found[1]
    )
    only = "when: {optimizer: nesterov}, "
    right = {name: text.replace("{role", "{" + only + "role") for name, text in both.items() if "range" in text}
    assert problems({**both, "momentum": right["momentum"], "effective_rate": right["effective_rate"]}) == []


def test_what_a_formula_computes_is_used_like_other_values():
    assert problems({"width": "{formula: 2 ** 5, type: int}"}) == []
    (found,) = problems({"widht": "{formula: 2 ** 5, type: int}"})
    assert found.startswith("hyperparameters.widht: widht is not used")
    (found,) = problems({"momentum": "{formula: 0.5 + 0.4}"})
    assert "momentum is not used in any setting: optimizer is sgd" in found
