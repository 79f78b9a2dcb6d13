"""The words of a command line: the program, and the option that each word belongs to."""

from __future__ import annotations

import ast
import contextlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunectl.drafting.options import Help, Option

_LAUNCHERS = re.compile(
    r"python[\d.]*|pypy[\d.]*|torchrun|accelerate|deepspeed|uv|poetry|pipenv|pdm|hatch|conda|srun|env|nice"
)
_INTERPRETER = re.compile(r"python[\d.]*|pypy[\d.]*")
_NAMES_A_MODULE = ("-m", "--module", "-c")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_OVERRIDE = re.compile(r"(\+{0,2}([A-Za-z_][\w./-]*)=)(.*)", re.DOTALL)
_SHELL = re.compile(r"[|&;<>()]+|\d?>&?\d?.*")


@dataclass(frozen=True, slots=True)
class GivenOption:
    """An option in the line: how it is spelled there, and its values; `joined`: in one word, `--lr=0.1`.

    An override for Hydra and others, `optimizer.lr=0.1`, is an option `optimizer.lr` that is spelled `optimizer.lr=`.
    `switched` is whether a flag is on. `once`: the line has it only once.
    """

    option: Option
    spelled: str
    values: tuple[str, ...] = ()
    joined: bool = False
    switched: bool = True
    once: bool = True


@dataclass(frozen=True, slots=True)
class Word:
    """A word that is not an option: it is kept unchanged."""

    text: str


Piece = GivenOption | Word


def shell_words(words: Sequence[str]) -> list[str]:
    """The words that have a meaning only in a shell."""
    return [word for word in words if _SHELL.fullmatch(word)]


def split_command(words: Sequence[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Split a line into the variables set before the program, the words that start it, and its arguments.

    `python -u train.py`, `python -m package.train` and `torchrun --nproc-per-node 2 train.py` start a program.
    """
    count = next((index for index, word in enumerate(words) if not _ASSIGNMENT.fullmatch(word)), len(words))
    environment = dict(word.partition("=")[::2] for word in words[:count])
    rest = list(words[count:])
    begin = _program_words(rest)
    return environment, rest[:begin], rest[begin:]


def _program_words(words: Sequence[str]) -> int:
    if not words or not _LAUNCHERS.fullmatch(Path(words[0]).name):
        return min(len(words), 1)
    for index, word in enumerate(words[1:], start=1):
        if word in _NAMES_A_MODULE:
            return min(index + 2, len(words))
        if word.endswith(".py"):
            return index + 1
    # A program that a launcher starts by name: `uv run train --lr 0.1`.
    plain = [index for index, word in enumerate(words[1:], start=1) if not word.startswith("-")]
    first = [index for index in plain if words[index] not in ("run", "launch")]
    return first[0] + 1 if first and not Path(words[0]).name.startswith(("python", "pypy")) else len(words)


def lacks_script(program: Sequence[str], rest: Sequence[str]) -> bool:
    """Whether the words start an interpreter or a launcher without anything to run.

    `rest` are the words after them: a launcher's program may be among these, after the value of a launcher option.
    """
    if not program or not _LAUNCHERS.fullmatch(Path(program[0]).name) or script_of(program) is not None:
        return False
    if any(word in _NAMES_A_MODULE for word in program):
        return program[-1] in _NAMES_A_MODULE
    is_interpreter = _INTERPRETER.fullmatch(Path(program[0]).name) is not None
    if not is_interpreter and any(not word.startswith("-") and not word.isdigit() for word in rest):
        return False
    plain = [word for word in program[1:] if not word.startswith("-") and word not in ("run", "launch")]
    named = [word for word in plain if not word.isdigit()]
    return not named or _INTERPRETER.fullmatch(Path(named[-1]).name) is not None


def script_of(program: Sequence[str]) -> str | None:
    """The Python file among the words that start a program."""
    return next((word for word in program if word.endswith(".py")), None)


def module_of(program: Sequence[str]) -> str | None:
    """The module among the words that start a program, `package.train` of `python -m package.train`."""
    words = itertools.pairwise(program)
    return next((word for before, word in words if before in ("-m", "--module")), None)


def read_words(words: Sequence[str], text: Help | None) -> tuple[list[Piece], int]:
    """The options and other words, and how many words were read: all, or those before the name of a subcommand.

    `text` is None if the program has no help that can be read. An option that is not in the help takes the next word
    as its value, unless that is an option as well.
    """
    known = text or Help()
    pieces: list[Piece] = []
    index = 0
    while index < len(words):
        word = words[index]
        if word == "--":
            pieces += [Word(item) for item in words[index:]]
            return _with_repeats_marked(pieces), len(words)
        if not _is_option(word):
            if word in known.commands:
                return _with_repeats_marked(pieces), index
            pieces.append(_word(word, known))
            index += 1
            continue
        piece, used = _option(words[index:], known)
        pieces.append(piece)
        index += used
    return _with_repeats_marked(pieces), index


def _word(text: str, known: Help) -> Piece:
    override = _OVERRIDE.fullmatch(text)
    if override is None:
        return Word(text)
    option = known.option(override[2]) or Option((override[2],), 1, shown=override[2])
    return GivenOption(option, override[1], (override[3],), joined=True)


def _is_option(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and not _NUMBER.fullmatch(word)


def _option(words: Sequence[str], known: Help) -> tuple[Piece, int]:
    """The option or word at the beginning, and how many words it takes."""
    spelled, equals, value = words[0].partition("=")
    option = known.option(spelled)
    if option is None and not words[0].startswith("--") and len(words[0]) > 2:
        short = known.option(words[0][:2])
        if short is not None and short.takes == 1:
            return GivenOption(short, words[0][:2], (words[0][2:],), joined=True), 1
    following = 0
    for word in words[1:]:
        if _is_option(word) or (option is None and _OVERRIDE.fullmatch(word)):
            break
        following += 1
    if option is None:
        takes = 1 if equals or following else 0
        option = Option((spelled,), takes, shown=spelled)
    if equals:
        return (_with_value(option, spelled, value) if option.takes <= 1 else Word(words[0])), 1
    if option.takes == 0 and option.joined and following and words[1] in ("True", "False"):
        # Fire reads `--amp False` as `--amp=False`.
        return _with_value(option, spelled, words[1]), 2
    if option.takes == 0 and not option.many:
        return GivenOption(option, spelled, switched=spelled != option.off), 1
    taken = following if option.many else min(option.takes, following)
    if taken < option.takes:
        return Word(words[0]), 1  # a value is missing, or optional: the word is kept unchanged
    return GivenOption(option, spelled, tuple(words[1 : 1 + taken])), 1 + taken


def _with_value(option: Option, spelled: str, value: str) -> GivenOption:
    """An option with its value in one word; also a flag with a value, `--amp=false`."""
    return GivenOption(replace(option, takes=1, off=None), spelled, (value,), joined=True)


def _with_repeats_marked(pieces: list[Piece]) -> list[Piece]:
    names = [piece.option.name for piece in pieces if isinstance(piece, GivenOption)]
    return [
        replace(piece, once=False) if isinstance(piece, GivenOption) and names.count(piece.option.name) > 1 else piece
        for piece in pieces
    ]


def with_source_defaults(text: Help, source: str) -> Help:
    """The options with the defaults in the script's source where the help shows none, and whether they can repeat.

    Read from calls such as `add_argument("--lr", default=0.1)`, if names and values are literals.
    """
    declared, repeated = _declared(source)
    found = []
    for option in text.options:
        default = next((declared[name] for name in option.names if name in declared), None)
        fits = default is not None and option.default is None and (option.takes > 0 or option.off is not None)
        repeats = option.repeats or not repeated.isdisjoint(option.names)
        found.append(replace(option, default=default if fits else option.default, repeats=repeats))
    return replace(text, options=tuple(found))


def _declared(source: str) -> tuple[Mapping[str, str], set[str]]:
    """Defaults by spelling of the option, and the spellings of options that can be given several times."""
    defaults: dict[str, str] = {}
    repeated: set[str] = set()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return defaults, repeated
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in ("add_argument", "option"):
            continue
        names = [item.value for item in node.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        value = next((item.value for item in node.keywords if item.arg == "default"), None)
        if any(_repeats(item) for item in node.keywords):
            repeated.update(names)
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            literal = ast.literal_eval(value) if value is not None else None
            if isinstance(literal, bool):
                defaults |= dict.fromkeys(names, str(literal).lower())
            elif isinstance(literal, str):
                defaults |= dict.fromkeys(names, literal)
            elif literal is not None and value is not None:
                defaults |= dict.fromkeys(names, ast.get_source_segment(source, value) or str(literal))
    return defaults, repeated


def _repeats(keyword: ast.keyword) -> bool:
    """Whether argparse or click accepts the option several times."""
    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
    return (keyword.arg == "action" and value in ("append", "extend")) or (keyword.arg == "multiple" and value is True)
