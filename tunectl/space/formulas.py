"""Formulas: `effective_rate * (1 - momentum)`, read by a parser of their own and computed with floats.

The grammar is that of Python's arithmetic: numbers, names, `+ - * / **`, parentheses, a minus in front, and the
functions of FUNCTIONS. Nothing else can be written, and nothing of Python is run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tunectl.core.records import Scalar
from tunectl.core.wording import shown

MOST_CHARACTERS = 1_000
MOST_NESTED = 50
"""Parentheses, signs and powers inside each other: the parser calls itself for each."""

FUNCTIONS = ("min", "max", "sqrt", "log", "exp")

_TOKEN = re.compile(r"\s*(?:((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|([^\W\d]\w*)|(\*\*|[-+*/(),])|(\S))")
_LOOSE = re.compile(r"(?<=\() | (?=[),])|(?<=\w) (?=\()")
"""The blanks within parentheses, and before those of a function, in the text of a formula."""


_INSTEAD = {
    "^": "; a power is **",
    "×": "; a product is *",
    "·": "; a product is *",
    "÷": "; a quotient is /",
    "−": "; a minus is -",
}


class FormulaError(ValueError):
    """A formula that cannot be read, or has no value; the text says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a formula over a stack: a number or a name's value is put on it, or an operation takes its operands
    from it and puts its result.
    """

    number: float = 0.0
    name: str = ""
    operation: str = ""
    operands: int = 0


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that was read.

    `text` has one blank between its parts, `names` are the hyperparameters in it, each once, and `steps` compute it.
    """

    text: str
    names: tuple[str, ...]
    steps: tuple[Step, ...] = field(repr=False, compare=False)

    def value(self, values: Mapping[str, Scalar]) -> float:
        """The value where the hyperparameters have these values: computed with floats, as Python does.

        Raises FormulaError where a name has no number, and where a result is not a finite real number.
        """
        stack: list[float] = []
        for step in self.steps:
            if step.operation:
                operands = stack[-step.operands :]
                del stack[-step.operands :]
                stack.append(_computed(step.operation, operands))
            else:
                stack.append(_operand(step.name, values) if step.name else step.number)
        return stack[0] + 0.0  # of -0.0 it makes 0.0


def parsed_formula(text: str) -> Formula:
    """The formula in a text. Raises FormulaError, which names the character, where it is not one."""
    if len(text) > MOST_CHARACTERS:
        raise FormulaError(f"expected at most {MOST_CHARACTERS:,} characters, got {len(text):,}")
    parser = _Parser(text)
    parser.sum_of_terms(0)
    if parser.token:
        raise parser.error("expected an operator or the end")
    names = tuple(dict.fromkeys(step.name for step in parser.steps if step.name))
    spaced = " ".join(token for token, _ in parser.tokens)
    return Formula(_LOOSE.sub("", spaced), names, tuple(parser.steps))


class _Parser:
    """Recursive descent over the tokens, each with the number of its first character; `steps` are those so far."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, int]] = []
        self.steps: list[Step] = []
        self.place = 0
        self.end = len(text) + 1
        for found in _TOKEN.finditer(text):
            at = found.start(found.lastindex or 0)
            if found[4]:
                hint = _INSTEAD.get(found[4], "")
                raise FormulaError(f"{shown(found[4])} at character {at + 1} does not belong to a formula{hint}")
            self.tokens.append((found[0].strip(), at + 1))

    @property
    def token(self) -> str:
        return self.tokens[self.place][0] if self.place < len(self.tokens) else ""

    def error(self, expected: str) -> FormulaError:
        if not self.token:
            return FormulaError(f"{expected}, got the end of the formula")
        return FormulaError(f"{expected}, got {shown(self.token)} at character {self.tokens[self.place][1]}")

    def taken(self, *wanted: str) -> str:
        """The next token, if it is one of these; else "" and the parser stays where it is."""
        token = self.token
        if token not in wanted:
            return ""
        self.place += bool(token)
        return token

    def sum_of_terms(self, depth: int) -> None:
        self._chain(self._product, ("+", "-"), depth)

    def _product(self, depth: int) -> None:
        self._chain(self._signed, ("*", "/"), depth)

    def _chain(self, part: Callable[[int], None], operators: tuple[str, ...], depth: int) -> None:
        """Parts with operators between them, computed from the left."""
        part(depth)
        while operator := self.taken(*operators):
            part(depth)
            self.steps.append(Step(operation=operator, operands=2))

    def _signed(self, depth: int) -> None:
        """A power, or a sign and what it belongs to: as in Python, -2 ** 2 is -4."""
        if depth > MOST_NESTED:
            most = f"expected at most {MOST_NESTED} parentheses, signs and powers inside each other"
            raise FormulaError(f"{most}, got more")
        if sign := self.taken("-", "+"):
            self._signed(depth + 1)
            if sign == "-":
                self.steps.append(Step(operation="minus", operands=1))
            return
        self._atom(depth)
        if self.taken("**"):
            self._signed(depth + 1)
            self.steps.append(Step(operation="**", operands=2))

    def _atom(self, depth: int) -> None:
        token = self.token
        if token[:1].isdigit() or token[:1] == ".":
            if math.isinf(float(token)):
                raise self.error("expected a number that a float can hold")
            self.steps.append(Step(number=float(token)))
            self.place += 1
        elif self.taken("("):
            self.sum_of_terms(depth + 1)
            self._close()
        elif token.isidentifier():
            self.place += 1
            if self.taken("("):
                self._call(token, depth + 1)
            else:
                self.steps.append(Step(name=token))
        else:
            raise self.error("expected a number, a name or (")

    def _call(self, name: str, depth: int) -> None:
        if name not in FUNCTIONS:
            raise FormulaError(f"there is no function {name}; there are {', '.join(FUNCTIONS)}")
        count = 1
        self.sum_of_terms(depth)
        while self.taken(","):
            self.sum_of_terms(depth)
            count += 1
        self._close()
        if (count < 2) if name in ("min", "max") else (count != 1):
            least = "at least 2 values" if name in ("min", "max") else "1 value"
            raise FormulaError(f"expected {least} in {name}(…), got {count}")
        self.steps.append(Step(operation=name, operands=count))

    def _close(self) -> None:
        if not self.taken(")"):
            raise self.error("expected an operator or )")


def _operand(name: str, values: Mapping[str, Scalar]) -> float:
    value = values.get(name)
    if value is None:
        raise FormulaError(f"{name} has no value")
    if isinstance(value, (bool, str)):
        raise FormulaError(f"expected a number for {name}, got {shown(value)}")
    return float(value)


def _computed(operation: str, operands: list[float]) -> float:
    try:
        value = _OPERATIONS[operation](*operands)
    except ZeroDivisionError:
        raise FormulaError("division by 0") from None
    except OverflowError:
        value = math.inf
    except ValueError:
        what = {"sqrt": "square root", "log": "logarithm"}[operation]
        raise FormulaError(f"the {what} of {operands[0]:.6g} is not a real number") from None
    if isinstance(value, complex):
        base, exponent = operands
        raise FormulaError(f"{base:.6g} ** {exponent:.6g} is not a real number")
    if not math.isfinite(value):
        raise FormulaError("a number that is too large for a float")
    return value


_OPERATIONS: Mapping[str, Callable[..., float]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "**": lambda left, right: left**right,
    "minus": lambda value: -value,
    "min": min,
    "max": max,
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
}
