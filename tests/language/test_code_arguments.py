"""Which hyperparameters go to an optimizer of the study's own, and by which names. Tests language/code_arguments.py."""

from __future__ import annotations

import pytest

from tunectl.core.records import FactorySignature, WorkloadReference
from tunectl.core.user_code import UsedCode
from tunectl.language.code_arguments import optimizer_arguments, optimizer_takes, parameter_of, study_names

ADAM = FactorySignature(("lr", "betas", "eps", "weight_decay", "amsgrad", "warmup_steps"))
OPEN = FactorySignature(("lr",), open=True, reason="it takes **kwargs")


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("learning_rate", "lr"),
        ("beta1", "betas"),
        ("beta2", "betas"),
        ("epsilon", "eps"),
        ("weight_decay", "weight_decay"),
        ("amsgrad", "amsgrad"),
        ("lr", None),
        ("eps", None),
        ("momentum", None),
        ("width", None),
        # a field of the training configuration keeps its meaning
        ("warmup_steps", None),
    ],
)
def test_a_hyperparameter_sets_the_parameter_that_means_the_same(name: str, parameter: str | None):
    assert parameter_of(name, ADAM.parameters) == parameter
    assert optimizer_takes(ADAM, name) == (parameter is not None)


def test_an_optimizer_that_names_a_parameter_as_studies_do_gets_it_by_that_name():
    assert parameter_of("beta1", ("lr", "beta1", "betas")) == "beta1"
    assert parameter_of("learning_rate", ("lr", "learning_rate")) == "learning_rate"
    assert study_names("betas") == ("beta1", "beta2")
    assert [study_names(name) for name in ("lr", "eps", "gamma")] == [("learning_rate",), ("epsilon",), ("gamma",)]


@pytest.mark.parametrize(("name", "taken"), [("gamma", True), ("momentum", True), ("batch_size", False), ("lr", False)])
def test_where_the_source_does_not_show_it_all_but_the_fields_of_training_may_be_taken(name: str, taken: bool):
    assert optimizer_takes(OPEN, name) is taken


def used(**arguments: bool | float | str) -> UsedCode:
    return UsedCode(WorkloadReference("m:O", "O", module="m"), arguments)


@pytest.mark.parametrize(
    ("arguments", "defaults", "expected"),
    [
        ({"learning_rate": 0.1, "epsilon": 1e-3}, {}, {"lr": 0.1, "eps": 1e-3}),
        ({"beta1": 0.5}, {"betas": (0.9, 0.99)}, {"betas": (0.5, 0.99)}),
        ({"beta2": 0.5}, {"betas": [0.9, 0.99]}, {"betas": (0.9, 0.5)}),
        ({"beta3": 0.5}, {"betas": (0.9, 0.99, 0.999)}, {"betas": (0.9, 0.99, 0.5)}),
        ({"beta1": 0.5}, {"betas": (0.9, 0.99, 0.999, 0.1)}, {"betas": (0.5, 0.99, 0.999, 0.1)}),
        ({"beta1": 0.5, "beta2": 0.6}, {}, {"betas": (0.5, 0.6)}),
    ],
)
def test_betas_that_the_study_does_not_give_keep_their_defaults(arguments, defaults, expected):
    assert optimizer_arguments(used(**arguments), ADAM, defaults) == expected


@pytest.mark.parametrize(
    ("arguments", "defaults", "message"),
    [
        ({"beta2": 0.5}, {}, "it needs beta1, whose default is not known, beside beta2"),
        ({"beta3": 0.5}, {"betas": (0.9, 0.99)}, "its betas are 2, got beta3"),
        ({"momentum": 0.5}, {}, "it does not take momentum; its parameters are lr, betas, eps"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, defaults, message):
    with pytest.raises(ValueError, match="it") as refused:
        optimizer_arguments(used(**arguments), ADAM, defaults)
    assert message in str(refused.value)


def test_a_parameter_beta3_beside_betas_is_its_own():
    signature = FactorySignature(("lr", "betas", "beta3"))
    found = optimizer_arguments(used(beta1=0.5, beta3=0.7), signature, {"betas": (0.9, 0.99), "beta3": None})
    assert found == {"betas": (0.5, 0.99), "beta3": 0.7}


def test_what_other_parts_use_too_is_passed_where_it_is_taken():
    both = UsedCode(WorkloadReference("m:O", "O", module="m"), {"learning_rate": 0.1}, {"amsgrad": True, "width": 3})
    assert optimizer_arguments(both, ADAM, {}) == {"lr": 0.1, "amsgrad": True}
    anything = FactorySignature(("lr",), open=True, reason="it takes **options")
    shared = UsedCode(both.reference, {"learning_rate": 0.1}, {"momentum": 0.9, "width": 3})
    assert optimizer_arguments(shared, anything, {}) == {"lr": 0.1, "momentum": 0.9}
