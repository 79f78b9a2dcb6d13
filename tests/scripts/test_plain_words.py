"""scripts/plain_words.py: the words of its list are found wherever people read them, and nowhere else."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "plain_words.py"
LIST = tomllib.loads(SCRIPT.with_suffix(".toml").read_text())
WORDS: list[str] = LIST["words"]
DUE, TO = next(iter(LIST["right_before"].items()))
SOME = next(word for word in WORDS if " " not in word and word != DUE)
TWO = next(word for word in WORDS if " " in word)  # two words
FIRST, SECOND = TWO.split()


def project(folder: Path, *, allowed: str = "", **files: str) -> Path:
    """A small project with a list of words, and these files in `scripts`; `_` in a name is `.`."""
    (folder / "scripts").mkdir()
    (folder / "scripts" / "plain_words.toml").write_text(
        f"words = {WORDS!r}\nright_before = {{{DUE} = {TO!r}}}\n{allowed}"
    )
    for name, content in files.items():
        (folder / "scripts" / name.replace("_", ".")).write_text(content)
    return folder


Called = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    """A call of the script on a project: its exit code and what it printed."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    main = importlib.import_module("plain_words").main

    def call(root: Path, *arguments: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--root", str(root), *arguments])
        code = main()
        return code, capsys.readouterr().out.splitlines()

    return call


def places(lines: list[str]) -> list[str]:
    """Where something was found, and which word."""
    return [": ".join(line.split(": ")[:2]) for line in lines]


@pytest.mark.parametrize(
    ("content", "line", "word"),
    [
        (f'x = "it is {SOME}."\n', 1, SOME),
        (f"x = 1  # it is {SOME.upper()}, here\n", 1, SOME),
        (f'def f():\n    """One line.\n\n    Then {SOME} it.\n    """\n', 4, SOME),
        (f'y = 1\nx = f"{{y}} {SOME} {{y}}"\n', 2, SOME),
        (f"x = f\"{{'{SOME}'}}\"\n", 1, SOME),
        (f"def test_it_{SOME}_all():\n    pass\n", 1, SOME),
        (f"async def test_it_{SOME}():\n    pass\n", 1, SOME),
        (f'x = (\n    "there are {FIRST} "\n    "{SECOND} of them"\n)\n', 2, TWO),
        (f'"""There are {FIRST}\n{SECOND} of them."""\n', 1, TWO),
        (f"x = 1\n# there are {FIRST}\n# {SECOND} of them\n", 2, TWO),
        (f'x = "a number is {DUE}"\n', 1, DUE),
        (f'x = "{DUE} today, not {DUE} {TO} rain"\n', 1, DUE),
    ],
    ids=[
        *("string", "comment", "docstring", "f-string", "string-in-f-string", "test-name", "async-test-name"),
        *("joined-strings", "docstring-over-a-line-end", "comment-over-a-line-end", "a-word-before-another", "once"),
    ],
)
def test_a_word_in_code_is_found_with_its_line(
    called: Called, tmp_path: Path, content: str, line: int, word: str
) -> None:
    code, lines = called(project(tmp_path, example_py=content))
    assert (code, places(lines)) == (1, [f"scripts/example.py:{line}: {word}"])


@pytest.mark.parametrize(
    "content",
    [
        f'x = "the delay is {DUE} {TO} rain"\n',
        f'x = "the delay is {DUE}"\n"{DUE}"\n'.replace(DUE, f"{DUE} {TO}"),
        f'"""A delay {DUE}\n{TO} rain."""\n',
        f"# A delay {DUE}\n# {TO} rain.\n",
        f"{SOME} = 1\n",  # a name in code is not prose
        f'x = "{SOME}ish un{SOME}"\n',  # whole words only
        f"x = 1  # {FIRST}\n\ny = 2  # {SECOND}\n",  # not one comment
    ],
    ids=["allowed-before", "allowed-twice", "in-a-docstring", "in-a-comment", "name", "part-of-a-word", "two-comments"],
)
def test_what_is_allowed_in_code_is_not_found(called: Called, tmp_path: Path, content: str) -> None:
    assert called(project(tmp_path, example_py=content)) == (0, [])


@pytest.mark.parametrize("word", WORDS)
def test_each_word_of_the_list_is_found_in_a_document(called: Called, tmp_path: Path, word: str) -> None:
    root = project(tmp_path)
    (root / "README.md").write_text(f"# A title\n\nThis is {word}.\n")
    assert places(called(root)[1]) == [f"README.md:3: {word}"]


def test_an_exception_allows_its_line_alone(called: Called, tmp_path: Path) -> None:
    allowed = f"[[allowed]]\nfile = 'scripts/example.py'\ntext = 'as {SOME}'\nreason = 'a quotation'\n"
    root = project(tmp_path, allowed=allowed, example_py=f"# as {SOME}\nx = 1\n# {SOME}\n")
    assert places(called(root)[1]) == [f"scripts/example.py:3: {SOME}"]


def test_an_exception_that_nothing_needs_is_reported(called: Called, tmp_path: Path) -> None:
    allowed = f"[[allowed]]\nfile = 'scripts/example.py'\ntext = 'as {SOME}'\nreason = 'a quotation'\n"
    code, lines = called(project(tmp_path, allowed=allowed, example_py="x = 1\n"))
    assert code == 1
    assert lines == [f"scripts/plain_words.toml: nothing in scripts/example.py needs the exception for 'as {SOME}'"]


def test_an_exception_without_a_reason_is_reported(called: Called, tmp_path: Path) -> None:
    allowed = f"[[allowed]]\nfile = 'scripts/example.py'\ntext = 'as {SOME}'\n"
    root = project(tmp_path, allowed=allowed, example_py=f"# as {SOME}\n")
    assert called(root) == (1, [f"scripts/plain_words.toml: the exception for 'as {SOME}' has no reason"])


def test_only_the_named_paths_are_searched(called: Called, tmp_path: Path) -> None:
    root = project(tmp_path, one_py=f"# {SOME}\n", two_py=f"# {SOME}\n")
    assert places(called(root, str(root / "scripts" / "two.py"))[1]) == [f"scripts/two.py:1: {SOME}"]


def test_readme_and_changelog_hold_no_word_of_the_list() -> None:
    # Without the script: the text as one line, its words between blanks.
    for name in ("README.md", "CHANGELOG.md"):
        text = f" {' '.join(re.split(r'[^a-z]+', (ROOT / name).read_text().lower()))} ".replace(f" {DUE} {TO} ", " ")
        assert [word for word in WORDS if f" {word} " in text] == [], name


def test_the_list_has_the_words_of_the_style_guide() -> None:
    assert len(set(WORDS)) == 12
    assert all(word == word.lower() for word in WORDS)
