"""Whether a command is given every hyperparameter, and every placeholder of its has a value."""

from __future__ import annotations

from typing import Protocol

from tunectl.core.errors import Problem
from tunectl.core.programs import Optional, Program
from tunectl.spec.conditions import Conditions
from tunectl.spec.document import PathKey
from tunectl.spec.model import Hyperparameter
from tunectl.spec.placeholders import FILE, OWN, RESUME, names_in, placeholders
from tunectl.spec.wording import nearest

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
                if name not in study.names:
                    message = f"a condition waits for a hyperparameter, {name} is none{nearest(name, study.names)}"
                    problems.append(study.problem((*where, index), message))
            used |= argument.when.keys()
    for name, text in texts:
        for inner in names_in(text):
            if inner not in known:
                message = f"{{{inner}}} stands for nothing{nearest(inner, known)}"
                problems.append(study.problem((*_WHERE, "environment", name), message))
    problems += _without_place(study, used)
    return sorted(problems + (_without_value(study, program) if unbroken else []))


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
