"""Which hyperparameters go to code of the study's own: an optimizer by the names of its parameters, or a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunectl.core.records import ANY_KEYWORD, FactorySignature, Scalar
from tunectl.core.user_code import FoundCode, UsedCode
from tunectl.language.configuration import FIELDS, OF_OPTIMIZERS

RATE, STUDY_RATE = "lr", "learning_rate"
"""The parameter by which optimizers get their learning rate, and its name in a study."""

_RENAMED = {STUDY_RATE: RATE, "epsilon": "eps"}
"""The names in a study whose parameters have other names in torch's optimizers and in most others."""

BETAS, _STUDY_BETAS = "betas", ("beta1", "beta2", "beta3")

STEP, TOTAL_STEPS = "step", "total_steps"
"""What a schedule gets besides hyperparameters: its first parameter, and one that it may have."""


def takers(code: Mapping[str, FoundCode], name: str) -> dict[str, tuple[str, ...]]:
    """The code that takes a hyperparameter, by the field that names it: {"optimizer": ("./mine.py:Lion",)}."""
    takes = {"optimizer": optimizer_takes, "schedule": schedule_takes}
    found = {
        field: tuple(
            text for text, item in code.items() if item.reference.workload_kind == field and test(item.signature, name)
        )
        for field, test in takes.items()
    }
    return {field: texts for field, texts in found.items() if texts}


def code_of(code: Mapping[str, FoundCode], field: str) -> tuple[str, ...]:
    """The texts of the code that a field of the training configuration names."""
    return tuple(text for text, item in code.items() if item.reference.workload_kind == field)


def no_gradinit(optimizer: str) -> str:
    """Why gradinit cannot be used with an optimizer of the study's own."""
    return f"gradinit needs to know whether the optimizer is adaptive, which is not known of {optimizer}"


def parameter_of(name: str, parameters: tuple[str, ...]) -> str | None:
    """The parameter of an optimizer that a hyperparameter sets; None where it sets none.

    An optimizer that has a parameter of the study's own name, such as `beta1`, gets it by that name. Of the fields of
    the training configuration only those of optimizers are passed: `warmup_steps` stays the warmup of the schedule.
    """
    if name in FIELDS and name not in OF_OPTIMIZERS:
        return None
    if name in _RENAMED.values() and name in parameters:
        return None  # one hyperparameter, one name: that of the study
    if name in parameters:
        return name
    if name in _STUDY_BETAS and BETAS in parameters:
        return BETAS
    renamed = _RENAMED.get(name)
    return renamed if renamed in parameters else None


def study_names(parameter: str) -> tuple[str, ...]:
    """The hyperparameters that set a parameter of an optimizer, all of which it needs where it has no default."""
    if parameter == BETAS:
        return _STUDY_BETAS[:2]
    return (next((name for name, other in _RENAMED.items() if other == parameter), parameter),)


def optimizer_takes(signature: FactorySignature, name: str) -> bool:
    """Whether an optimizer takes a hyperparameter; also where its signature does not show it."""
    if parameter_of(name, signature.parameters) is not None:
        return True
    return signature.open and (name not in FIELDS or name in OF_OPTIMIZERS) and name not in _RENAMED.values()


def takes_any(signature: FactorySignature) -> bool:
    """Whether code is known to take any keyword."""
    return signature.open and signature.reason.startswith(ANY_KEYWORD)


def schedule_takes(signature: FactorySignature, name: str) -> bool:
    """Whether a schedule takes a hyperparameter by its name; one that takes any keyword gets those it names."""
    return name in signature.parameters and name != TOTAL_STEPS


def optimizer_arguments(used: UsedCode, signature: FactorySignature, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords with which an optimizer is made; `defaults` are those of its parameters.

    Of betas that the study does not give, its defaults are kept. Raises ValueError where there are none, and where the
    optimizer does not take a hyperparameter.
    """
    found: dict[str, Any] = {}
    maybe = {
        name: value
        for name, value in used.if_taken.items()
        if parameter_of(name, signature.parameters) or (signature.open and name in OF_OPTIMIZERS)
    }
    arguments = {**used.arguments, **maybe}
    for name, value in arguments.items():
        parameter = parameter_of(name, signature.parameters)
        if parameter is None and signature.open and name not in _STUDY_BETAS:
            parameter = _RENAMED.get(name, name)
        if parameter is None:
            taken = ", ".join(signature.parameters) or "none"
            raise ValueError(f"it does not take {name}; its parameters are {taken}")
        found[parameter] = value
    given = {name: value for name, value in arguments.items() if parameter_of(name, signature.parameters) == BETAS}
    if given:
        found[BETAS] = _betas(given, defaults.get(BETAS))
    return found


def _betas(given: Mapping[str, Scalar], default: object) -> tuple[Any, ...]:
    """The betas: those that are given, and the defaults of the others."""
    known = tuple(default) if isinstance(default, (tuple, list)) else ()
    places = {_STUDY_BETAS.index(name): value for name, value in given.items()}
    count = len(known) or max(places) + 1
    if max(places) >= count:
        raise ValueError(f"its {BETAS} are {count}, got {' and '.join(given)}")
    missing = [_STUDY_BETAS[place] for place in range(count) if place not in places and not known]
    if missing:
        raise ValueError(f"it needs {missing[0]}, whose default is not known, beside {' and '.join(given)}")
    return tuple(places.get(place, known[place] if known else None) for place in range(count))
