"""Checks that each hyperparameter is used: by the workload's factory, the training configuration, or a condition."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from tunectl.core.errors import Problem
from tunectl.core.records import FactorySignature, Scalar
from tunectl.core.table_columns import RESERVED_NAMES
from tunectl.core.user_code import FoundCode, UsedCode, is_code
from tunectl.core.wording import as_text, nearest
from tunectl.language.code_arguments import (
    STUDY_RATE,
    code_of,
    optimizer_takes,
    parameter_of,
    schedule_takes,
    study_names,
    takers,
    takes_any,
)
from tunectl.language.configuration import FIELDS
from tunectl.language.declared_study import DeclaredStudy
from tunectl.language.optimizer_traits import OPTIMIZERS, is_optimizer, traits
from tunectl.language.study_spec import TrainingSection
from tunectl.space.conditions import Combination, Conditions
from tunectl.space.hyperparameters import Hyperparameter, names_used

_SEED = "seed"  # a factory may have this keyword; it is never a hyperparameter

_NOT_HYPERPARAMETERS = frozenset({"max_train_steps", *RESERVED_NAMES})


def _extra(code: StudyCode) -> dict[str, tuple[Scalar, ...]]:
    """Every choice of a field that others depend on is a combination of its own, so that a message can name it."""
    parents = {parent for rule in FIELDS.values() for parent in rule.read_when or {}}
    return {parent: (*FIELDS[parent].choices, *code_of(code, parent)) for parent in parents}


def uses(name: str, code: StudyCode) -> Mapping[str, tuple[str, ...]] | None:
    """With which values of which fields a name is used, any of them; None where it is used with all, {} with none."""
    taken, rule = takers(code, name), FIELDS.get(name)
    if rule is None:
        return taken
    if rule.read_when is not None:
        parent, wanted = next(iter(rule.read_when.items()))
        return taken | {parent: (*wanted, *taken.get(parent, ()))}
    if name == "weight_decay" and code_of(code, "optimizer"):
        return {"optimizer": (*OPTIMIZERS, *taken.get("optimizer", ()))}
    return None


StudyCode = Mapping[str, FoundCode]
"""The code that a study names for parts of training, by its text."""

_NO_CODE: StudyCode = {}


def factory_arguments(
    signature: FactorySignature, values: Mapping[str, Scalar], *, own_code: bool = False, code: StudyCode = _NO_CODE
) -> dict[str, Scalar]:
    """The hyperparameters that the factory, or a function of the user's own code, gets by keyword.

    Those it names; and where it takes any keyword, also those that are not fields of the training configuration, nor
    parameters of an optimizer or a schedule of the study's own.
    """
    parameters = {name for item in code.values() for name in item.signature.parameters}
    return {
        name: value
        for name, value in values.items()
        if name in signature.parameters
        or (signature.open and (own_code or (name not in FIELDS and name not in parameters)))
    }


def used_code(
    text: str, signature: FactorySignature, values: Mapping[str, Scalar], *, code: StudyCode, shared: Collection[str]
) -> UsedCode:
    """The code of this text with the hyperparameters that it gets in a trial with these values.

    `signature` is that of the factory, `shared` are names that other parts of the study use: conditions, formulas and
    other optimizers. An optimizer whose source does not show what it takes gets what no other part uses, and what
    others use only where it takes it.
    """
    found = code[text]
    takes = schedule_takes if found.reference.workload_kind == "schedule" else optimizer_takes
    taken = {name: value for name, value in values.items() if takes(found.signature, name)}
    shown, elsewhere = found.signature.parameters, set[str]()
    if found.signature.open:
        of_factory = {*signature.parameters, *(values if signature.open else ())}
        # One that takes any keyword gets a switch, too: if it is none of its own, that is an error and not silent.
        elsewhere = (of_factory if takes_any(found.signature) else {*shared, *of_factory}) - {STUDY_RATE}
    maybe = {name for name in taken if name in elsewhere and parameter_of(name, shown) is None}
    return UsedCode(
        found.reference,
        {name: value for name, value in taken.items() if name not in maybe},
        {name: value for name, value in taken.items() if name in maybe},
    )


def used_by_others(text: str, optimizers: Collection[Scalar], code: StudyCode) -> set[str]:
    """The names that the other optimizers of a study use, of which these are all."""
    found: set[str] = set()
    for other in optimizers:
        if is_optimizer(other):
            found |= {"weight_decay", *traits(other).reads}
        elif is_code(other) and other != text and other in code:
            found |= {name for item in code[other].signature.parameters for name in study_names(item)}
    return found


def check_names(
    study: DeclaredStudy,
    switches: Collection[str],
    signature: FactorySignature,
    *,
    is_function: bool = False,
    code: StudyCode = _NO_CODE,
) -> list[Problem]:
    """The problems that the names alone show: an unused one, and a keyword without a default that has no value.

    `switches` are the names in conditions and formulas. `is_function`: the workload is a function of the user's own
    code, and there is no training configuration. `code` is what the study names for parts of training.
    """
    fields: Collection[str] = () if is_function else FIELDS
    read = {*signature.parameters, *fields, *switches}
    problems = [] if code is _NO_CODE else _by_another_name(study, read, code)
    unused = [name for name in study.names if name not in read and not uses(name, code)] if not signature.open else []
    for name in unused:
        if any(problem.path == f"hyperparameters.{name}" for problem in problems):
            continue
        taken = [taken for item in code.values() for taken in item.signature.parameters]
        near = nearest(name, [*(item for item in signature.parameters if item != _SEED), *taken, *fields])
        near = "; it belongs under training" if name in TrainingSection.__slots__ else near
        who = "not a parameter of the function" if is_function else "not a keyword of the factory or a training field"
        who += f", and {' and '.join(code)} {'does' if len(code) == 1 else 'do'} not take it" if code else ""
        message = f"{name} is not used: it is {who}{near}"
        problems.append(study.problem(("hyperparameters", name), message, at_key=True))
    where = f" (line {signature.line} of {signature.file})" if signature.line else ""
    called = "function" if is_function else "factory"
    for name in signature.required:
        if name in study.names or (name == _SEED and not is_function) or difflib.get_close_matches(name, unused, n=1):
            continue
        if name in _NOT_HYPERPARAMETERS:
            message = f"the {called}{where} needs {name}, a name that no hyperparameter can have; rename the parameter"
            problems.append(study.problem(("workload",), message))
        else:
            message = f"the key is missing: the {called}{where} needs it and has no default; write its value"
            problems.append(study.problem(("hyperparameters", name), message, at_key=True))
    return problems


def _by_another_name(study: DeclaredStudy, read: Collection[str], code: StudyCode) -> list[Problem]:
    """The problems of names that are parameters of an optimizer, and that a study writes in another way."""
    found = []
    for name in study.names:
        for text, item in code.items():
            if name not in read and name in item.signature.parameters and name not in study_names(name):
                message = f"expected {' and '.join(study_names(name))} for the parameter {name} of {text}"
                found.append(study.problem(("hyperparameters", name), message, at_key=True))
                break
    return found


def check_consumption(
    study: DeclaredStudy, signature: FactorySignature, *, is_function: bool = False, code: StudyCode = _NO_CODE
) -> list[Problem]:
    """The problems between a study and its factory: an unused hyperparameter, a keyword without a value.

    Every varying hyperparameter must be used wherever it is active, itself or in a formula that is active there; a
    fixed one must be used somewhere; a keyword of
    the factory that varies must be active everywhere, as elsewhere its default would be used silently. With an open
    signature only what is certain is reported.
    """
    conditions = Conditions(study.hyperparameters)
    switches = names_used(study.hyperparameters) & conditions.by_name.keys()
    problems = check_names(study, switches, signature, is_function=is_function, code=code)
    for item in study.hyperparameters:
        if item.name in signature.parameters or item.name in conditions.mentioned:
            continue
        is_field = not is_function and (item.name in FIELDS or bool(takers(code, item.name)))
        message = _unused_field(conditions, item, code) if is_field else ""
        if not is_field and not signature.open:
            message = unused_operand(conditions, item)
        if message:
            problems.append(study.problem(item.path, message, at_key=True))
    for alternatives in conditions.by_name.values():
        message = _absent(conditions, alternatives, signature, {*switches, *_taken_by_code(alternatives, code)})
        if message:
            problems.append(study.problem(alternatives[0].path, message, at_key=True))
    return sorted(problems)


def _taken_by_code(alternatives: list[Hyperparameter], code: StudyCode) -> list[str]:
    return [item.name for item in alternatives if takers(code, item.name)]


def _unused_field(conditions: Conditions, item: Hyperparameter, code: StudyCode) -> str:
    """Why a field of the training configuration, or an argument of code, is not used where it is active; "" where it
    is.
    """
    needs = FIELDS[item.name].needs if item.name in FIELDS else None
    formulas, extra = conditions.with_formula_of(item.name), _extra(code)
    if needs is not None and needs not in conditions.by_name and not formulas:
        return f"{item.name} is not used without {needs}; add {needs}, or leave this out"
    used_with = uses(item.name, code)
    if not used_with:
        return ""
    parent, wanted = next(iter(used_with.items()))
    default = _DEFAULTS.get(parent)
    combinations = [
        combination
        for combination in conditions.combinations([item.name, *used_with, *_names(formulas)], extra=extra)
        if combination.active.get(item.name) is item
    ]
    unused = [
        combination
        for combination in combinations
        if all(combination.values.get(name, _DEFAULTS.get(name)) not in used_with[name] for name in used_with)
        and not _is_operand(combination, formulas)
    ]
    if not unused or (not item.varies and len(unused) < len(combinations)):
        return ""
    possible = dict.fromkeys(
        combination.values.get(parent, default) for combination in conditions.combinations([parent], extra=extra)
    )
    names = ", ".join(name for name in wanted if name in possible)
    if not names:
        held = " or ".join(as_text(value) for value in possible if isinstance(value, str))
        add = f" or add {parent}: {wanted[-1]}" if parent not in conditions.by_name else ""
        return f"{item.name} is not used in any setting: {parent} is {held}; leave it out,{add}".rstrip(",")
    if not item.varies:
        return f"{item.name} has no effect where it is active: it has an effect only where {parent} is one of {names}"
    held = as_text(unused[0].values.get(parent, default))
    return (
        f"{item.name} is not used where {parent} is {held}, only where it is {names}: add when: {{{parent}: [{names}]}}"
    )


def unused_operand(conditions: Conditions, item: Hyperparameter) -> str:
    """Why a hyperparameter that only formulas use is not used where it is active; "" where it is."""
    formulas = conditions.with_formula_of(item.name)
    if not formulas or not item.varies:
        return ""
    for combination in conditions.combinations([item.name, *_names(formulas)]):
        if combination.active.get(item.name) is item and not _is_operand(combination, formulas):
            others = {name: value for name, value in combination.values.items() if name in conditions.mentioned}
            where = Combination(values=others).in_words()
            named = ", ".join(_names(formulas))
            return (
                f"{item.name} is not used where {where}: only the formula of {named} uses it; give it the same `when`"
            )
    return ""


def _is_operand(combination: Combination, formulas: Collection[Hyperparameter]) -> bool:
    return any(combination.active.get(formula.name) is formula for formula in formulas)


def _names(items: Collection[Hyperparameter]) -> list[str]:
    return list(dict.fromkeys(item.name for item in items))


def _absent(
    conditions: Conditions, alternatives: list[Hyperparameter], signature: FactorySignature, switches: Collection[str]
) -> str:
    """Where a keyword of the factory has no value, so that its default would be used silently; "" where nowhere."""
    name = alternatives[0].name
    of_factory = name in signature.parameters or (signature.open and name not in FIELDS and name not in switches)
    differs = name in signature.required or any(item.varies or item.when for item in alternatives)
    if not of_factory or not differs:
        return ""
    for combination in conditions.combinations([name]):
        if name not in combination.active:
            return (
                f"the factory uses {name}, which has no value where {combination.in_words()}: its default would be "
                "used silently; write an alternative for it"
            )
    return ""


_DEFAULTS = {"schedule": "constant", "initialisation": "none", "grad_clip": "none"}
