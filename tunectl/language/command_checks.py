"""Checks that a command gets every hyperparameter, and that each of its placeholders has a value."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from tunectl.core.errors import PathKey, Problem
from tunectl.core.own_code_request import RESUME, Argument, Optional, Program, variable_of
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, nearest
from tunectl.language.consumed_names import unused_operand
from tunectl.language.declared_study import DeclaredStudy
from tunectl.language.hyperparameter_names import TRIAL_VARIABLES
from tunectl.language.placeholders import FILE, OWN, names_in, placeholders
from tunectl.space.conditions import Combination, Conditions
from tunectl.space.domains import Derived, Domain, ValueSet
from tunectl.space.hyperparameters import holds, names_used

_WHERE: PathKey = ("workload",)


def check_program(study: DeclaredStudy, program: Program, *, all_hyperparameters_read: bool = True) -> list[Problem]:
    """The problems between a study and its command: a placeholder without a hyperparameter, a hyperparameter without a
    placeholder, and one without a value where the command needs it.
    """
    where = (*_WHERE, "command")
    problems = []
    known = (*study.names, *OWN)
    texts = [*program.environment.items()]
    used = {*placeholders(program.arguments), *(name for _, text in texts for name in names_in(text))}
    for index, argument in enumerate(program.arguments):
        for name in placeholders([argument]):
            if name not in known:
                message = f"{{{name}}} is not a hyperparameter{nearest(name, known)}"
                problems.append(study.problem((*where, index), message))
        if isinstance(argument, Optional):
            for name in argument.when:
                if name not in study.names and name != RESUME:
                    near = nearest(name, (*study.names, RESUME))
                    message = f"expected the name of a hyperparameter, or {RESUME}, got {name}{near}"
                    problems.append(study.problem((*where, index), message))
            used |= argument.when.keys()
    for name, text in texts:
        for inner in names_in(text):
            if inner not in known:
                message = f"{{{inner}}} is not a hyperparameter{nearest(inner, known)}"
                problems.append(study.problem((*_WHERE, "environment", name), message))
    problems += [*_without_place(study, used), *_without_variable(study)]
    if all_hyperparameters_read and not problems:
        problems += [*_without_value(study, program), *_never_taken(study, program), *_unreached(study, program, used)]
    return sorted(problems)


def _without_place(study: DeclaredStudy, used: set[str]) -> list[Problem]:
    """Hyperparameters that the command does not get; a command with the file of all gets them all."""
    if FILE in used:
        return []
    switches = names_used(study.hyperparameters)
    return [
        study.problem(
            ("hyperparameters", name),
            f"the command does not get {name}: write {{{name}}} where the program takes it, or pass the file with all "
            f"of them, {{{FILE}}}",
            at_key=True,
        )
        for name in study.names
        if name not in used and name not in switches
    ]


def _without_variable(study: DeclaredStudy) -> list[Problem]:
    """Hyperparameters that would have the same environment variable as another value."""
    owners = dict(TRIAL_VARIABLES)
    problems = []
    for name in study.names:
        owner = owners.setdefault(variable_of(name), name)
        if owner != name:
            message = f"its environment variable, {variable_of(name)}, is also that of {owner}; give it another name"
            problems.append(study.problem(("hyperparameters", name), message, at_key=True))
    return problems


def _without_value(study: DeclaredStudy, program: Program) -> list[Problem]:
    conditions = Conditions(study.hyperparameters)
    problems = []
    for index, argument in enumerate(program.arguments):
        if isinstance(argument, Optional):
            continue
        for name in names_in(argument):
            if name == RESUME:
                problems.append(study.problem((*_WHERE, "command", index), _only_sometimes(RESUME, "a trial starts")))
            if name not in conditions.by_name:
                continue
            for combination in conditions.combinations([name]):
                if name not in combination.active:
                    message = _only_sometimes(name, combination.in_words())
                    problems.append(study.problem((*_WHERE, "command", index), message))
                    break
    return problems


def _only_sometimes(name: str, where: str) -> str:
    return (
        f"{{{name}}} has no value where {where}; put it and its option into a list, which is left out there: "
        f'[--option, "{{{name}}}"]'
    )


def _never_taken(study: DeclaredStudy, program: Program) -> list[Problem]:
    """Conditions of arguments that never hold: `nesterov: "true"` is text, and the hyperparameter is true or false."""
    problems = []
    for index, argument in enumerate(program.arguments):
        for name, values in argument.when.items() if isinstance(argument, Optional) else ():
            domains: list[Domain] = [item.domain for item in study.hyperparameters if item.name == name]
            domains += [ValueSet((False, True))] if name == RESUME else []
            for value in values:
                if not any(_can_be(domain, value) for domain in domains):
                    message = f"{name} is never {as_text(value)}{' (text)' if isinstance(value, str) else ''}"
                    path = (*_WHERE, "command", index, "when", name)
                    problems.append(study.problem(path, f"{message}; write one of its values"))
    return problems


def _can_be(domain: Domain, value: Scalar) -> bool:
    if domain.varies or isinstance(domain, Derived):
        return domain.contains(value)
    # A flag that is fixed at false may be changed to true; a text may not.
    return any(_type(value) is _type(fixed) for fixed in domain.grid())


def _type(value: Scalar) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _unreached(study: DeclaredStudy, program: Program, used: set[str]) -> list[Problem]:
    """Hyperparameters whose arguments are left out in some setting where they are active."""
    if FILE in used:
        return []
    conditions = Conditions(study.hyperparameters)
    problems = []
    for name in study.names:
        holding = [item for item in program.arguments if name in placeholders([item])]
        texts = [text for text in program.environment.values() if name in names_in(text)]
        if not holding and not texts:  # other arguments, or formulas, depend on it
            problems += [
                study.problem(item.path, message, at_key=True)
                for item in conditions.by_name.get(name, ())
                if name not in conditions.mentioned and (message := unused_operand(conditions, item))
            ]
            continue
        needed = {name, *placeholders(holding), *(inner for text in texts for inner in names_in(text))}
        needed |= {parent for item in holding if isinstance(item, Optional) for parent in item.when}
        # A trial starts, and may be resumed later.
        combinations = product(conditions.combinations(sorted(needed & conditions.by_name.keys())), (False, True))
        for combination, resumes in combinations:
            if name in combination.active and not any(
                _is_kept(item, combination, resumes) for item in (*holding, *texts)
            ):
                where = combination.in_words() if not _depends_on_resume(holding) else _in_words(combination, resumes)
                message = f"the command does not get {name} where {where}: its argument is left out there"
                path = ("hyperparameters", name)
                problems.append(study.problem(path, f"{message}; put it into a list by itself", at_key=True))
                break
    return problems


def _depends_on_resume(arguments: Iterable[Argument]) -> bool:
    return any(
        RESUME in placeholders([item]) or (isinstance(item, Optional) and RESUME in item.when) for item in arguments
    )


def _in_words(combination: Combination, resumes: bool) -> str:
    others = combination.in_words()
    return f"a trial {'is resumed' if resumes else 'starts'}" + (f" and {others}" if others else "")


def _is_kept(item: Argument, combination: Combination, resumes: bool) -> bool:
    """Whether an argument, or the text of a variable, is kept in a combination where a trial is resumed, or starts."""
    names = names_in(item) if isinstance(item, str) else placeholders([item])
    if any(name not in combination.active and name not in OWN for name in names) or (RESUME in names and not resumes):
        return False
    when = item.when if isinstance(item, Optional) else {}
    return holds(when, {**combination.values, RESUME: resumes})
