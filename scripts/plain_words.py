"""Words that the project does without, looked for in its strings, docstrings, comments and documents.

    python scripts/plain_words.py [--count]

The words, and the few places where one is right, are in plain_words.toml beside it. Exit code 1 where one is found.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_suffix(".toml")
CODE = ("tunectl", "scripts", "studies", "tests")
DOCUMENTS = ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml")


@dataclass(frozen=True)
class Found:
    """A word, the file and line where it is, and that line."""

    word: str
    file: str
    line: int
    text: str


def words_in(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, int]]:
    """Each forbidden word of a text and how many lines come before it."""
    for match in pattern.finditer(text):
        yield " ".join(match[0].lower().split()), text.count("\n", 0, match.start())


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """What is written for people in a file: (first line, text). Of code: strings, comments, names of tests."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, text
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")


def files() -> Iterator[Path]:
    """The files that are looked through."""
    for folder in CODE:
        for path in sorted((HOME / folder).rglob("*")):
            if path.suffix in (".py", ".yaml", ".html", ".css") or (
                path.suffix == ".js" and path.stat().st_size < 100_000
            ):
                yield path
    yield from (HOME / name for name in DOCUMENTS)


def main() -> int:
    """Print what is found; 1 where anything is."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", action="store_true", help="print how often each word is found, and no lines")
    arguments.add_argument("paths", nargs="*", help="look through these files and folders alone")
    given = arguments.parse_args()
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    words = sorted(listed["words"], key=len, reverse=True)
    patterns = [r"\b" + r"\s+".join(map(re.escape, word.split())) + r"\b" for word in words]
    pattern = re.compile("|".join(patterns) + r"|\bdue\b(?!\s+to\b)", re.IGNORECASE)
    allowed = {(entry["file"], entry["text"]) for entry in listed.get("allowed", ())}
    chosen = [Path(path).resolve() for path in given.paths]
    used: set[tuple[str, str]] = set()
    found: list[Found] = []
    for path in files():
        if chosen and not any(path == place or path.is_relative_to(place) for place in chosen):
            continue
        name = str(path.relative_to(HOME))
        for first, text in prose(path):
            for word, below in words_in(text, pattern):
                line = text.split("\n")[below].strip()
                reasons = {entry for entry in allowed if entry[0] == name and entry[1] in line}
                used |= reasons
                if not reasons:
                    found.append(Found(word, name, first + below, line))
    if given.count:
        for word, times in Counter(item.word for item in found).most_common():
            print(f"{times:5} {word}")
    else:
        for item in sorted(found, key=lambda item: (item.file, item.line)):
            print(f"{item.file}:{item.line}: {item.word}: {item.text[:100]}")
    unused = set() if chosen else allowed - used
    for file, text in sorted(unused):
        print(f"{LIST.name}: nothing in {file} needs the exception for {text!r} any more")
    return 1 if found or unused else 0


if __name__ == "__main__":
    sys.exit(main())
