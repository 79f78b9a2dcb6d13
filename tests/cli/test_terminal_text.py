"""Printed text is safe on a terminal and fits the encoding of the stream. Also tests core/safe_text.py."""

from __future__ import annotations

import json
import unicodedata

import pytest
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st

from tunectl.cli.terminal_text import fits, in_encoding
from tunectl.core.safe_text import LogText, escaped, escaped_json

ANY = st.text(st.characters(codec=None)) | st.text("\x1b[0;31m]8\\\r\n\x07\x9b\u202e\ud800é→ ", max_size=20)
DIRECTIONS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def acts(character: str) -> bool:
    """Whether a terminal may do something else than show it: by Unicode's own properties."""
    control = unicodedata.category(character) in ("Cc", "Zl", "Zp") and character not in "\t\n"
    return control or unicodedata.bidirectional(character) in DIRECTIONS or character in "\u200e\u200f\u061c"


@examples(200)
@given(ANY)
def test_nothing_in_a_printed_text_acts_on_the_terminal(text: str) -> None:
    assert not any(acts(character) for character in escaped(text))
    assert not any(acts(character) for character in escaped_json(json.dumps(text, ensure_ascii=False)))
    assert escaped(text) == text or any(acts(character) for character in text)


@examples(200)
@given(ANY)
def test_printed_json_holds_the_same_values(text: str) -> None:
    assert json.loads(escaped_json(json.dumps([text], ensure_ascii=False))) == [text]


@examples(200)
@given(ANY, st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8", "utf-16", "cp437", "shift_jis"]))
def test_every_text_can_be_written_in_every_encoding(text: str, encoding: str) -> None:
    for exactly in (False, True):
        assert fits(in_encoding(text, encoding, exactly=exactly), encoding)
    assert in_encoding(text, encoding) == text or not fits(text, encoding)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "a -> b x 2... \\xe9 \\u5b66 \\udcff"),
        ("latin-1", "a -> b × 2... é \\u5b66 \\udcff"),
        ("cp1252", "a -> b × 2… é \\u5b66 \\udcff"),
        ("utf-8", "a → b × 2… é 学 \\udcff"),
    ],
)
def test_characters_that_are_not_there_are_plain_marks_or_escapes(encoding: str, shown: str) -> None:
    assert in_encoding("a → b × 2… é 学 \udcff", encoding) == shown


def test_where_the_values_count_two_of_them_never_look_alike() -> None:
    assert in_encoding("→", "ascii", exactly=True) == "\\u2192"
    assert in_encoding("ä", "ascii") != in_encoding("ö", "ascii")


LOG = "\x1b[1;32mINFO\x1b[0m é\r\n 10%|#  |\r100%|###|\n\x1b[Adone\x1b]0;title\x07\x1b\x9b31m\x00\n".encode()
SHOWN = "INFO é\n 10%|#  |\n100%|###|\ndone\\x1b]0;title\\x07\\x1b\\x9b31m\\x00\n"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_a_log_is_read_line_by_line_without_its_colours_wherever_it_is_cut(size: int) -> None:
    log = LogText()
    text = "".join(log.text(LOG[start : start + size]) for start in range(0, len(LOG), size))
    assert text + log.text(b"", final=True) == SHOWN


@examples(200)
@given(st.lists(st.binary(max_size=8) | st.sampled_from([b"\x1b", b"\x1b[", b"3", b"1m", b"\r", b"\n", b"\xc2\x9b"])))
def test_no_piece_of_a_log_acts_on_the_terminal_and_its_cuts_change_nothing(pieces: list[bytes]) -> None:
    log = LogText()
    found = [log.text(piece) for piece in pieces] + [log.text(b"", final=True)]
    assert not any(acts(character) for character in "".join(found))
    assert "".join(found) == LogText().text(b"".join(pieces), final=True)


def test_a_mark_that_never_ends_is_not_waited_for() -> None:
    log = LogText()
    assert log.text(b"\x1b[" + b"1;" * 100) != ""
