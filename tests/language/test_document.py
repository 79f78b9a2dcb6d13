"""YAML text to values with places; what is no study's YAML is refused with its place."""

from __future__ import annotations

import pytest

from tunectl.core.errors import StudyError, dotted
from tunectl.language.document import parse_document, read_document


def refused(text):
    with pytest.raises(StudyError) as caught:
        parse_document(text, "s.yaml")
    return [str(problem) for problem in caught.value.problems]


def problems(text):
    return [str(problem) for problem in parse_document(text, "s.yaml").problems]


def test_every_value_and_every_key_has_its_line_and_column():
    document = parse_document("a: 1\nb:\n  c: [x, {d: 2}]\n  'e f' :   3\n", "s.yaml")
    assert document.content == {"a": 1, "b": {"c": ["x", {"d": 2}], "e f": 3}}
    assert document.places == {
        (): (1, 1),
        ("a",): (1, 4),
        ("b",): (3, 3),
        ("b", "c"): (3, 6),
        ("b", "c", 0): (3, 7),
        ("b", "c", 1): (3, 10),
        ("b", "c", 1, "d"): (3, 14),
        ("b", "e f"): (4, 13),
    }
    assert document.key_places[("b", "c", 1, "d")] == (3, 11)
    assert document.key_places[("b", "e f")] == (4, 3)


def test_columns_count_characters_and_not_bytes():
    assert parse_document("größe: [µ, 1]\n", "s.yaml").places[("größe", 1)] == (1, 12)


def test_a_problem_with_a_value_that_is_not_in_the_file_is_at_its_nearest_parent():
    document = parse_document("a:\n  b: 1\n", "s.yaml")
    assert str(document.problem(("a", "z", 3, "y"), "m")) == "s.yaml:2:3: a.z[3].y: m"
    assert str(document.problem(("a", "z"), "m", at_key=True)) == "s.yaml:1:1: a.z: m"


def test_a_path_is_shown_as_people_write_it():
    assert dotted(("hyperparameters", "learning_rate", 0, "range", 1)) == "hyperparameters.learning_rate[0].range[1]"
    assert dotted(()) == ""


def test_a_key_that_does_not_print_stays_on_its_line_and_can_be_encoded():
    lines = problems('"a\\nb": {"\\uD800": 1, "\\uD800": 2}\n')
    assert lines == ["s.yaml:1:23: a\\nb.\\ud800: duplicate key, first in line 1; keep one"]
    assert lines[0].encode()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: 2\na: 3\n", "s.yaml:3:1: a: duplicate key, first in line 1"),
        ("a: {b: 1, b: 1}\n", "s.yaml:1:11: a.b: duplicate key, first in line 1"),
        ("a:\n  - {b: 1}\n  - {b: 1, c: 2, c: 3}\n", "s.yaml:3:18: a[1].c: duplicate key, first in line 3"),
        ("a: 1\n'a': 2\n", "s.yaml:2:1: a: duplicate key"),
        ("1: a\n1: b\n", "s.yaml:2:1: 1: duplicate key"),
        ("[a, b]: 1\n", "s.yaml:1:1: expected a plain word as a key"),
        ("? {a: 1}\n: 1\n", "s.yaml:1:3: expected a plain word as a key"),
        (
            "a: !!python/name:os.system ''\n",
            "s.yaml:1:4: a: expected a value without a tag, got !!python/name:os.system",
        ),
        ("a: !!float 3\n", "s.yaml:1:4: a: expected a value without a tag, got !!float"),
        ("a: !mine [1]\n", "s.yaml:1:4: a: expected a value without a tag, got !mine"),
        ("a: !!set {b}\n", "s.yaml:1:4: a: expected a value without a tag, got !!set"),
    ],
)
def test_what_is_wrong_with_a_readable_document_is_noted_at_its_place(text, place):
    assert [line for line in problems(text) if line.startswith(place)], problems(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "s.yaml:1:1: the file is empty"),
        ("# only a comment\n", "s.yaml:1:1: the file is empty"),
        ("a:\n\tb: 1\n", "s.yaml:2:1: expected spaces, got a tab"),
        ("a:\n  b: 1\n\tc: 2\n", "s.yaml:3:1: expected spaces, got a tab"),
        ("a: [1, 2\n", "s.yaml:2:1: not YAML"),
        ("a: 'x\n", "s.yaml:2:1: not YAML"),
        ("a: b: c\n", "s.yaml:1:5: not YAML"),
        ("a: 1\n b: 2\n", "s.yaml:2:3: not YAML"),
        ("a: *b\n", "s.yaml:1:4: not YAML: found undefined alias"),
        ("a: &x 1\n---\nb: 2\n", "s.yaml:2:1: expected one YAML document"),
        ("a: @b\n", "s.yaml:1:4: not YAML"),
        ("a: %b\n", "s.yaml:1:4: not YAML"),
        ("a: \x00\n", "s.yaml:1:4: expected printable text, got the character 0x0"),
        ("b: 1\na: x\x07\n", "s.yaml:2:5: expected printable text, got the character 0x7"),
        ('a: "\\x"\n', "s.yaml:1:7: not YAML"),
        ('a: "\\UFFFFFFFF"\n', "s.yaml:1:1: not YAML"),
        ("a: &x [*x]\n", "s.yaml:1:4: a[0]: the alias contains itself"),
        ("[" * 1_500, "s.yaml:1:1: the file is nested too deeply"),
        ("a: " + "{a: " * 1_500 + "}" * 1_500, "s.yaml:1:1: the file is nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_place(text, line):
    found = refused(text)
    assert len(found) == 1
    assert found[0].startswith(line), found


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory():
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert "the aliases expand to more than 100,000 values" in refused(text)[0]


def test_an_alias_is_replaced_by_its_value_and_a_merge_key_is_a_plain_name():
    assert parse_document("a: &x {b: 1}\nc: *x\n<<: *x\n", "s.yaml").content == {
        "a": {"b": 1},
        "c": {"b": 1},
        "<<": {"b": 1},
    }


@pytest.mark.parametrize(
    "text", ["a: 1\r\nb: 2\r\n", "a: 1\rb: 2\r", "\ufeffa: 1\nb: 2", "%YAML 1.2\n---\na: 1\nb: 2\n"]
)
def test_line_ends_byte_order_mark_and_version_line_of_other_editors_are_read(tmp_path, text):
    path = tmp_path / "s.yaml"
    path.write_bytes(text.encode())
    assert read_document(path).content == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"a: 1\nb: \xff\n", ":2:4: expected UTF-8 text"),
        ("größe: 1\n".encode("latin-1"), ":1:3: expected UTF-8 text"),
        ("a: 1\n".encode("utf-16"), ":1:1: expected UTF-8 text"),
        (b"", ":1:1: the file is empty"),
    ],
)
def test_a_file_of_other_bytes_is_refused_at_the_first_of_them(tmp_path, raw, line):
    path = tmp_path / "s.yaml"
    path.write_bytes(raw)
    with pytest.raises(StudyError) as caught:
        read_document(path)
    assert str(caught.value).startswith(f"{path}{line}")


def test_a_folder_a_missing_file_and_an_odd_name_are_refused(tmp_path):
    for path, message in [
        (tmp_path, "got a folder"),
        (tmp_path / "none.yaml", "file not found"),
        (tmp_path / "a.yaml" / "b.yaml", "file not found"),
        (tmp_path / ("x" * 5_000), "cannot be read: "),
        (tmp_path / "a\0b", "cannot be read: "),
    ]:
        with pytest.raises(StudyError) as caught:
            read_document(path)
        assert str(caught.value).startswith(f"{path}:1:1: ")
        assert message in str(caught.value)
