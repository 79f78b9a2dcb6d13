"""Look for words that the project does not use: in strings, docstrings, comments, names of tests and documents.

    python scripts/plain_words.py [--count] [--root FOLDER] [PATH ...]

The words, and the few places where one is right, are in plain_words.toml. `make lint` runs this. Exit code 1 if a word
is found, or if an exception in the list is needed no longer.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
LIST = Path("scripts", "plain_words.toml")
CODE = ("tunectl", "scripts", "studies", "tests")
SUFFIXES = (".py", ".yaml", ".html", ".css", ".js", ".c", ".md")
DOCUMENTS = ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", ".ci/run")
LARGEST = 100_000  # in bytes: a larger JavaScript file is a library of others
GAP = r"[\s#*/]+"  # between two words, also of a comment that goes on in the next line


@dataclass(frozen=True)
class Found:
    """A word, the file and line where it is, and that line."""

    word: str
    file: str
    line: int
    text: str


@dataclass(frozen=True)
class Allowed:
    """An exception: a part of a line of a file in which a word is right."""

    file: str
    text: str


def pattern_of(words: Sequence[str], right_before: Mapping[str, str]) -> re.Pattern[str]:
    """The pattern of these words, whole and in any case; those in `right_before` only without their next word."""
    choices = []
    for word in sorted(words, key=len, reverse=True):
        following = rf"(?!{GAP}{re.escape(right_before[word])}\b)" if word in right_before else ""
        choices.append(GAP.join(map(re.escape, word.split())) + rf"\b{following}")
    return re.compile(rf"\b(?:{'|'.join(choices)})", re.IGNORECASE)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """What is written for people in a file: (first line, text). Of code: strings, comments, names of tests."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, text
        return
    yield from comments(text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")


def comments(text: str) -> Iterator[tuple[int, str]]:
    """The comments of a Python file; those in lines that follow each other are one text."""
    first, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if lines and token.start[0] == first + len(lines):
            lines.append(token.string)
            continue
        if lines:
            yield first, "\n".join(lines)
        first, lines = token.start[0], [token.string]
    if lines:
        yield first, "\n".join(lines)


def files(root: Path) -> Iterator[Path]:
    """The files that are searched."""
    for folder in CODE:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES and (path.suffix != ".js" or path.stat().st_size < LARGEST):
                yield path
    yield from (path for name in DOCUMENTS if (path := root / name).is_file())


def search(
    root: Path, paths: Iterator[Path], words: re.Pattern[str], allowed: Collection[Allowed]
) -> tuple[list[Found], set[Allowed]]:
    """The words in these files that no exception allows, and the exceptions that allowed one."""
    found: list[Found] = []
    used: set[Allowed] = set()
    for path in paths:
        name = str(path.relative_to(root))
        for first, text in prose(path):
            for match in words.finditer(text):
                below = text.count("\n", 0, match.start())
                line = text.split("\n")[below].strip()
                reasons = {item for item in allowed if item.file == name and item.text in line}
                used |= reasons
                if not reasons:
                    found.append(Found(re.sub(GAP, " ", match[0].lower()), name, first + below, line))
    return sorted(found, key=lambda item: (item.file, item.line)), used


def main() -> int:
    """Print what is found; 1 if there is anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="print how often each word is found, and no lines")
    parser.add_argument("--root", type=Path, default=HOME, help="the folder of the project [this one]")
    parser.add_argument("paths", nargs="*", type=Path, help="search only these files and folders")
    given = parser.parse_args()
    root, chosen = given.root.resolve(), [path.resolve() for path in given.paths]
    listed = tomllib.loads((root / LIST).read_text(encoding="utf-8"))
    allowed = {Allowed(item["file"], item["text"]) for item in listed.get("allowed", ())}
    paths = (path for path in files(root) if not chosen or any(path.is_relative_to(place) for place in chosen))
    found, used = search(root, paths, pattern_of(listed["words"], listed["right_before"]), allowed)
    if given.count:
        for word, times in Counter(item.word for item in found).most_common():
            print(f"{times:5} {word}")
    else:
        for item in found:
            print(f"{item.file}:{item.line}: {item.word}: {item.text[:100]}")
    unused = set() if chosen else allowed - used
    for entry in sorted(unused, key=lambda entry: (entry.file, entry.text)):
        print(f"{LIST}: nothing in {entry.file} needs the exception for {entry.text!r}")
    without_reason = [item["text"] for item in listed.get("allowed", ()) if not item.get("reason")]
    for text in without_reason:
        print(f"{LIST}: the exception for {text!r} has no reason")
    return 1 if found or unused or without_reason else 0


if __name__ == "__main__":
    sys.exit(main())
