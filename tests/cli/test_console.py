"""What becomes of output that nobody reads, or that has no room."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from tunectl.cli.console import note, say, say_table
from tunectl.core.errors import FolderError


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """A stream into a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as stream:
        yield stream


@pytest.fixture
def full() -> Iterator[TextIO]:
    """A stream into a file on a full disk."""
    with open("/dev/full", "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_has_gone_ends_no_command(unread: TextIO, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, name, unread)
    for _ in range(2):
        say("a result")
        note("a message")
        say_table(["trial", "value"], [[1, 0.5]], title="a table")
    unread.flush()  # as Python does at exit


def test_messages_that_find_no_room_end_no_command(full: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", full)
    note("a message")
    note("another one")


def test_results_that_find_no_room_are_an_error(full: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(FolderError, match="the output cannot be written: No space left on device"):
        say("a result")


def test_a_stream_without_the_characters_gets_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(told, encoding="ascii"))
    say("ein Süßes")
    assert told.getvalue() == b"ein S??es\n"
