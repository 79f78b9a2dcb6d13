"""Whether a command is given every hyperparameter, and every placeholder of its has a value."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Protocol

from tunectl.core.errors import PathKey, Problem
from tunectl.core.own_code_request import RESUME, Argument, Optional, Program, variable_of
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, nearest
from tunectl.language.hyperparameter_names import TRIAL_VARIABLES
from tunectl.language.placeholders import FILE, OWN, names_in, placeholders
from tunectl.space.conditions import Conditions, Other, World
from tunectl.space.domains import Domain, FixedValue, ValueSet, same
from tunectl.space.hyperparameters import Hyperparameter

_WHERE: PathKey = ("workload",)


class Declared(Protocol):
    """A study, or as much of one as could be read; `names` are all that stand under hyperparameters."""

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def problem(self, path: PathKey, message: str, *, at_key: bool = False) -> Problem: ...


def check_program(study: Declared, program: Program, *, unbroken: bool = True) -> list[Problem]:
    """What is wrong between a study and its command: a placeholder without a hyperparameter, a hyperparameter without
    a placeholder, and one that has no value where the command needs it. `unbroken`: all hyperparameters could be read.
    """
    where = (*_WHERE, "command")
    problems = []
    known = (*study.names, *OWN)
    texts = [*program.environment.items()]
    used = {*placeholders(program.arguments), *(name for _, text in texts for name in names_in(text))}
    for index, argument in enumerate(program.arguments):
        for name in placeholders([argument]):
            if name not in known:
                message = f"{{{name}}} stands for nothing: no hyperparameter is called so{nearest(name, known)}"
                problems.append(study.problem((*where, index), message))
        if isinstance(argument, Optional):
            for name in argument.when:
                if name not in study.names and name != RESUME:
                    near = nearest(name, (*study.names, RESUME))
                    message = f"a condition waits for a hyperparameter, or for {RESUME}; {name} is none{near}"
                    problems.append(study.problem((*where, index), message))
            used |= argument.when.keys()
    for name, text in texts:
        for inner in names_in(text):
            if inner not in known:
                message = f"{{{inner}}} stands for nothing{nearest(inner, known)}"
                problems.append(study.problem((*_WHERE, "environment", name), message))
    problems += [*_without_place(study, used), *_without_variable(study)]
    if unbroken and not problems:
        problems += [*_without_value(study, program), *_never_taken(study, program), *_unreached(study, program, used)]
    return sorted(problems)


def _without_place(study: Declared, used: set[str]) -> list[Problem]:
    """Hyperparameters that the program is not given; one that reads the file of all is given them all."""
    if FILE in used:
        return []
    switches = {parent for item in study.hyperparameters for parent in item.when}
    return [
        study.problem(
            ("hyperparameters", name),
            f"the command is not given {name}: write {{{name}}} where the program takes it, or give it the file of "
            f"all, {{{FILE}}}",
            at_key=True,
        )
        for name in study.names
        if name not in used and name not in switches
    ]


def _without_variable(study: Declared) -> list[Problem]:
    """Hyperparameters whose environment variable is another value's already, so that the program would read that."""
    owners = dict(TRIAL_VARIABLES)
    problems = []
    for name in study.names:
        owner = owners.setdefault(variable_of(name), name)
        if owner != name:
            message = f"its environment variable, {variable_of(name)}, is also that of {owner}; give it another name"
            problems.append(study.problem(("hyperparameters", name), message, at_key=True))
    return problems


def _without_value(study: Declared, program: Program) -> list[Problem]:
    conditions = Conditions(study.hyperparameters)
    problems = []
    for index, argument in enumerate(program.arguments):
        if isinstance(argument, Optional):
            continue
        for name in names_in(argument):
            if name == RESUME:
                problems.append(study.problem((*_WHERE, "command", index), _only_sometimes(RESUME, "a trial begins")))
            if name not in conditions.by_name:
                continue
            for world in conditions.worlds([name]):
                if name not in world.active:
                    message = _only_sometimes(name, world.in_words())
                    problems.append(study.problem((*_WHERE, "command", index), message))
                    break
    return problems


def _only_sometimes(name: str, where: str) -> str:
    return (
        f"{{{name}}} has no value where {where}; put it, with its option, into a list of their own, which is left out "
        f'there: [--option, "{{{name}}}"]'
    )


def _never_taken(study: Declared, program: Program) -> list[Problem]:
    """Conditions of arguments that nothing can meet: `nesterov: "true"` is text, the hyperparameter true or false."""
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
    if not isinstance(domain, FixedValue):
        return domain.contains(value)
    # A flag that is fixed at false today may be true tomorrow; one that is text never will.
    return _kind(value) is _kind(domain.value)


def _kind(value: Scalar) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _unreached(study: Declared, program: Program, used: set[str]) -> list[Problem]:
    """Hyperparameters that are active somewhere and whose arguments are left out there."""
    if FILE in used:
        return []
    conditions = Conditions(study.hyperparameters)
    problems = []
    for name in study.names:
        holding = [item for item in program.arguments if name in placeholders([item])]
        texts = [text for text in program.environment.values() if name in names_in(text)]
        if not holding and not texts:
            continue  # a switch, which only decides what else is there
        needed = {name, *placeholders(holding), *(inner for text in texts for inner in names_in(text))}
        needed |= {parent for item in holding if isinstance(item, Optional) for parent in item.when}
        # A trial begins, and may go on later.
        worlds = product(conditions.worlds(sorted(needed & conditions.by_name.keys())), (False, True))
        for world, resumes in worlds:
            if name in world.active and not any(_is_kept(item, world, resumes) for item in (*holding, *texts)):
                where = world.in_words() if not _depends_on_resume(holding) else _in_words(world, resumes)
                message = f"{name} does not reach the command where {where}: what holds it is left out there"
                path = ("hyperparameters", name)
                problems.append(study.problem(path, f"{message}; give it a list of its own", at_key=True))
                break
    return problems


def _depends_on_resume(arguments: Iterable[Argument]) -> bool:
    return any(
        RESUME in placeholders([item]) or (isinstance(item, Optional) and RESUME in item.when) for item in arguments
    )


def _in_words(world: World, resumes: bool) -> str:
    others = world.in_words()
    return f"a trial {'goes on' if resumes else 'begins'}" + (f" and {others}" if others else "")


def _is_kept(item: Argument, world: World, resumes: bool) -> bool:
    """Whether an argument, or a variable's text, is there in a world, where a trial goes on or begins."""
    names = names_in(item) if isinstance(item, str) else placeholders([item])
    if any(name not in world.active and name not in OWN for name in names) or (RESUME in names and not resumes):
        return False
    when = item.when if isinstance(item, Optional) else {}
    return all(
        resumes in values
        if parent == RESUME
        else parent in world.active and any(_is(world.values.get(parent), value) for value in values)
        for parent, values in when.items()
    )


def _is(held: Scalar | Other | None, value: Scalar) -> bool:
    return held is not None and not isinstance(held, Other) and same(held, value)
