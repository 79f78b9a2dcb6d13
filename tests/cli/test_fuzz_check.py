"""`tunectl check` on arbitrary bytes in a study file: exit code 0, or 2 with places that exist in the file."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzed_studies import FRAGMENTS, WHOLE, mutated_studies, plausible_studies, random_studies
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st

from tunectl.cli.main import main
from tunectl.core.errors import Problem
from tunectl.core.safe_text import escaped

_FEW = 15
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_FACTORY = "raise RuntimeError('check imports nothing')\n\ndef b(*, a=1, b=1, c=1, d=1, num_layers=2, seed=0): ...\n"
_TAGS = [
    '!!python/object/apply:os.system ["touch ran"]',
    "!!python/object/new:os.system [touch ran]",
    "!!python/object/apply:pathlib.Path.touch [ran]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/tuple [1, 2]",
    "!!binary aGk=",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!timestamp 2001-01-01",
    "!!float 1",
    "!!str 1",
    "!own 1",
    "!<tag:example.com,2000:x> 1",
    "!",
]
_ANCHORS = ["&a 1", "*a", "<<: *a", "<<: {a: 1}", "<<: [*a, *a]", "&a [*a]", "&a {b: *a}", "*nowhere", "&a", "? *a\n"]
_HEADS = ["%YAML 1.1\n---\n", "%TAG ! tag:x,2000:\n---\n", "---\n", "--- |\n", "...\n"]
_OPENERS = ["[", "{a: ", "- ", "? ", "a:\n ", "!!seq [", "&a [", "["]
_BYTES = [
    b"\xff",
    b"\x00",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
    b"\x1b[0m",
    b"\r",
]


def _bomb(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n" + WHOLE


def _inserted(text: str, at: int, word: str) -> str:
    at %= len(text) + 1
    return text[:at] + word + text[at:]


_nested = st.builds(
    lambda opener, depth, before: before + opener * depth,
    st.sampled_from(_OPENERS),
    st.sampled_from([3, 40, 150, 200, 250, 300, 400]),
    st.sampled_from(
        ["", "hyperparameters: ", "hyperparameters: {optimizer: ", "study: ", "search: {points: ", "workload: "]
    ),
)
_values = st.sampled_from([*_TAGS, *_ANCHORS, *FRAGMENTS])
_tagged = st.builds(
    lambda key, value, text: re.sub(rf"(?m)^( *){key}: .*$", lambda found: f"{found[1]}{key}: {value}", text),
    st.sampled_from(
        ["study", "goal", "workload", "objective", "training", "optimizer", "batch_size", "search", "notes"]
    ),
    _values,
    st.just(WHOLE),
)
_hostile = st.one_of(
    _nested,
    _tagged,
    st.builds(_bomb, st.integers(2, 6), st.integers(1, 5)),
    st.builds(_inserted, st.just(WHOLE), st.integers(0, len(WHOLE)), _values),
    st.sampled_from(_HEADS).map(lambda head: head + WHOLE),
)
_texts = st.one_of(mutated_studies(), plausible_studies(), random_studies, _hostile)


@st.composite
def study_bytes(draw: st.DrawFn) -> bytes:
    """A study, most of the time with other line ends, in another encoding, or damaged."""
    text = draw(_texts)
    match draw(st.integers(0, 7)):
        case 0:
            text = text.replace("\n", "\r\n")
        case 1:
            text = text.replace("\n", "\r")
        case 2:
            text = text.replace("  ", "\t")
        case 3:
            text = text.replace("\n", draw(st.sampled_from(["\x85", "\u2028", "\n\n", " \n", "\\\n"])))
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"]))
    content: bytes = text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.integers(0, 2))
        word = draw(st.sampled_from(_BYTES)) if kind < 2 else b""
        content = content[:at] + word + (content[at + 1 :] if kind == 1 else content[at:] if kind == 0 else b"")
    return content


@contextlib.contextmanager
def _arguments(*words: str) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["tunectl", *words]
    try:
        yield
    finally:
        sys.argv = before


def check(folder: Path, *options: str) -> tuple[int, str, str]:
    """Call `tunectl check study.yaml` in this process and folder: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        _arguments("check", "study.yaml", *options),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def assert_places_exist_in(content: bytes, lines: list[str]) -> None:
    """Every line begins with a place that the file has, as an editor counts (a byte order mark is no column)."""
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    lengths = [len(line) for line in _LINE_END.split(text)]
    for line in lines:
        place = re.match(r"study\.yaml:(\d+):(\d+): \S", line)
        assert place is not None, line
        number, column = int(place[1]), int(place[2])
        assert 1 <= number <= len(lengths), line
        assert 1 <= column <= lengths[number - 1] + 1, line


def assert_answered(folder: Path, content: bytes) -> int:
    """Check the file as text and as JSON; gives the exit code of both."""
    (folder / "study.yaml").write_bytes(content)
    before = sorted(folder.rglob("*"))
    code, out, err = check(folder)
    assert code in (0, 2)
    assert "Traceback" not in err
    lines = err.splitlines()
    if code == 2:
        assert out == ""
        assert lines
        assert_places_exist_in(content, lines)
    else:
        assert out
        warnings = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
        assert_places_exist_in(content, warnings)
        assert all(line.startswith(("warning: ", "note: ", "  ")) or "are checked by run" in line for line in lines)
    code_of_json, json_out, json_err = check(folder, "--json")
    found = json.loads(json_out)
    assert (code_of_json, found["exit_code"]) == (code, code)
    if code:
        places = ("file", "line", "column", "path", "message")
        said = [str(Problem(*(item[name] for name in places))) for item in found["problems"]]
        assert escaped("\n".join(said)).splitlines() == lines
    assert json_err == ""
    assert sorted(folder.rglob("*")) == before, "check created something"
    return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studies")
    (path / "a.py").write_text(_FACTORY)
    return path


def test_the_study_that_is_made_hostile_passes(folder: Path) -> None:
    assert assert_answered(folder, WHOLE.encode()) == 0


@examples(_FEW)
@given(content=study_bytes())
def test_any_bytes_are_checked_or_refused_at_a_place(folder: Path, content: bytes) -> None:
    assert_answered(folder, content)


@examples(_FEW)
@given(content=_hostile)
def test_tags_aliases_and_nesting_are_checked_or_refused_at_a_place(folder: Path, content: str) -> None:
    assert_answered(folder, content.encode("utf-8", "surrogatepass"))


FOUND = {
    "an empty list of alternatives that a when waits for": (
        WHOLE.replace("optimizer: {role: scientific, values: [nesterov, adam]}", "optimizer: []"),
        "7:14: hyperparameters.optimizer: expected at least one alternative",
    ),
}
"""What the fuzzing found: each was a traceback."""


@pytest.mark.parametrize(("text", "expected"), FOUND.values(), ids=FOUND.keys())
def test_what_was_found_is_refused_at_its_place(folder: Path, text: str, expected: str) -> None:
    assert assert_answered(folder, text.encode()) == 2
    assert f"study.yaml:{expected}" in check(folder)[2]


@pytest.mark.parametrize("tag", [tag for tag in _TAGS if tag not in ("!", "!!str 1")])
def test_a_tag_is_refused_with_its_place_and_runs_nothing(folder: Path, tag: str) -> None:
    content = WHOLE.replace("goal: Which?", f"goal: {tag}").encode()
    assert assert_answered(folder, content) == 2
    _, _, err = check(folder)
    assert re.match(r"study\.yaml:2:7: .*got (!|tag:)", err), err


@pytest.mark.parametrize(("opener", "depth"), [("[", 900), ("{a: ", 30_000), ("- ", 30_000), ("? ", 30_000)])
def test_what_is_nested_too_deeply_is_refused(folder: Path, opener: str, depth: int) -> None:
    (folder / "study.yaml").write_text("hyperparameters:\n  " + opener * depth)
    code, _, err = check(folder)
    assert code == 2
    assert re.match(r"study\.yaml:\d+:\d+: .*nested too deeply", err), err


def test_aliases_that_expand_to_billions_are_refused_at_once(folder: Path) -> None:
    (folder / "study.yaml").write_text(_bomb(12, 12))
    code, _, err = check(folder)
    assert code == 2
    assert re.match(r"study\.yaml:\d+:\d+: .*the aliases expand to more than", err), err


def test_a_merge_key_is_a_key_like_others(folder: Path) -> None:
    content = WHOLE.replace("goal: Which?", "goal: &a Which?").replace("search: {", "search: {<<: *a, ").encode()
    assert assert_answered(folder, content) == 2
    assert re.match(r"study\.yaml:\d+:\d+: search\.<<: no such key", check(folder)[2])


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_byte_that_is_not_utf_8_is_named_with_its_place(folder: Path, start: bytes) -> None:
    content = start + "study: µ-été\ngoal: ".encode() + b"\xff?\n"
    assert assert_answered(folder, content) == 2
    assert check(folder)[2].startswith("study.yaml:2:7: expected UTF-8 text")


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_other_line_ends_change_nothing(folder: Path, start: bytes, line_end: str) -> None:
    assert assert_answered(folder, start + WHOLE.replace("\n", line_end).encode()) == 0
