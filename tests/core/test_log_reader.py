"""Reading the lines of a growing file, whatever a program prints into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunectl.core.log_reader import Tail, last_lines, plain


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def add(path: Path, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)


def test_a_file_that_is_not_there_yet_has_no_lines(log: Path) -> None:
    tail = Tail(log)
    assert tail.read() == []
    add(log, b"one\n")
    assert tail.read() == ["one"]
    assert tail.read() == []


def test_earlier_content_is_not_read(log: Path) -> None:
    add(log, b"an earlier attempt\n")
    tail = Tail(log, log.stat().st_size)
    add(log, b"this one\n")
    assert tail.read() == ["this one"]


def test_a_line_is_read_once_it_is_complete(log: Path) -> None:
    tail, read = Tail(log), []
    for byte in "step 1: ü 0.5\nstep 2".encode():
        add(log, bytes([byte]))
        read += tail.read()
    assert read == ["step 1: ü 0.5"]
    assert tail.read(to_the_end=True) == ["step 2"]
    assert tail.read(to_the_end=True) == []


def test_each_state_of_a_progress_bar_is_a_line(log: Path) -> None:
    add(log, b"10%|#   | loss 3.0\r20%|##  | loss 2.0\r\n30%\r")
    assert Tail(log).read() == ["10%|#   | loss 3.0", "20%|##  | loss 2.0", "30%"]


def test_colours_titles_and_cursor_movements_are_left_out() -> None:
    link = "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\"
    text = f"\x1b[1;31mloss\x1b[0m \x1b]0;a title\x07= \x1b[2K\x1b[1A0.25{link} \x1b[38;5;196m!"
    assert plain(text) == "loss = 0.25link !"
    assert plain("no escapes [0m") == "no escapes [0m"


def test_bytes_that_are_not_text_are_replaced(log: Path) -> None:
    add(log, b"\x00\xff\xfe loss 0.5 \x80\n" + bytes(range(256)) + b"\nend\n")
    lines = Tail(log).read()
    assert "loss 0.5" in lines[0]
    assert lines[-1] == "end"


def test_a_line_that_never_ends_is_given_in_pieces(log: Path) -> None:
    add(log, b"x" * 3_000_000)
    tail, lengths = Tail(log), []
    while lines := tail.read():
        lengths += [len(line) for line in lines]
    assert sum(lengths) + len(tail._incomplete) == 3_000_000
    assert len(tail._incomplete) <= 65_536


def test_empty_lines_do_not_end_the_reading(log: Path) -> None:
    add(log, b"first\n" + b"\n" * 1_000_000 + b"last\n")
    tail, read = Tail(log), []
    while lines := tail.read():
        read += lines
    assert read == ["first", "last"]


@pytest.mark.parametrize("how", ["cut short", "written anew"])
def test_a_file_that_is_replaced_is_read_again(log: Path, how: str) -> None:
    add(log, b"one\ntwo\n")
    tail = Tail(log)
    tail.read()
    if how == "cut short":
        log.write_bytes(b"new\n")
    else:
        other = log.with_name("other")
        other.write_bytes(b"new, and longer than before\n")
        other.replace(log)
    assert tail.read()[0].startswith("new")


def test_the_last_lines_of_an_attempt(log: Path) -> None:
    add(log, b"earlier\n")
    offset = log.stat().st_size
    assert last_lines(log, offset, 3) == []
    add(log, b"1\n\n2\n\x1b[31m3\x1b[0m\n4")
    assert last_lines(log, offset, 3) == ["2", "3", "4"]
    assert last_lines(log.with_name("none"), 0, 3) == []
