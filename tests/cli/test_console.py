"""Tests cli/console.py, progress_display.py, session/progress_text.py: output without a reader, or on a full disk."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from tunectl.cli.console import note, say, say_table
from tunectl.cli.main import main
from tunectl.cli.progress_display import Live
from tunectl.core.errors import FolderError
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.session.progress_text import trial_line
from tunectl.session.run_progress import RunProgress


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


@pytest.fixture
def closed_terminal() -> Iterator[TextIO]:
    """A stream to a terminal that was closed: writing gives EIO."""
    ours, theirs = pty.openpty()
    os.close(ours)
    with open(theirs, "w", encoding="utf-8") as stream:
        yield stream


def goes_nowhere(stream: TextIO) -> bool:
    """What a stream's descriptor is by now: the null device."""
    return str(Path(f"/proc/self/fd/{stream.fileno()}").readlink()) == os.devnull


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_terminal_that_was_closed_ends_no_command(
    closed_terminal: TextIO, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, name, closed_terminal)
    say("a result")
    note("a message")
    assert goes_nowhere(closed_terminal)


def test_the_live_table_on_a_terminal_that_is_closed_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Live() as watching:
            assert watching._console.is_terminal
            os.close(ours)
            watching.message("a message")
            watching.progress(RunProgress(2, 1, 0, 0, (), None, None))
            assert goes_nowhere(terminal), "what follows"


def test_streams_that_were_closed_from_the_start_are_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    say("a result")
    note("a message")
    monkeypatch.setattr(sys, "argv", ["tunectl", "ls", "/does/not/exist"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    for stream in (sys.stdout, sys.stderr):
        stream.close()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_has_gone_ends_no_command(unread: TextIO, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, name, unread)
    for _ in range(2):
        say("a result")
        note("a message")
        say_table(["trial", "value"], [[1, 0.5]], title="a table")
    unread.flush()  # as Python does at exit
    assert goes_nowhere(unread)


def test_messages_that_find_no_room_end_no_command(full: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", full)
    note("a message")
    note("another one")
    assert goes_nowhere(full)


def test_results_that_find_no_room_are_an_error(full: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(FolderError, match="stdout: cannot be written: No space left on device"):
        say("a result")


def test_a_stream_without_the_characters_gets_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(told, encoding="ascii"))
    say("ein Süßes")
    assert told.getvalue() == b"ein S\\xfc\\xdfes\n"


def test_the_live_table_s_messages_do_not_act_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    with Live() as watching:
        watching.message("a message\x1b]0;title\x07")
    assert "a message\\x1b]0;title\\x07" in shown.getvalue()
    assert "\x1b]0" not in shown.getvalue()


def test_a_warning_is_wrapped_like_a_finding_and_other_messages_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a-folder/" + "with-a-long-name/" * 8 + "study.yaml:3:1:"
    warning = f"warning: {path} " + "a reason that is explained at length, " * 6
    note(warning.strip())
    note("x " * 200)
    *lines, unwrapped, end = capsys.readouterr().err.split("\n")
    assert len(lines) > 2
    assert " ".join(line.strip() for line in lines) == warning.strip()
    assert all(line.startswith("  ") for line in lines[1:])
    assert all(len(line) <= 100 or path in line for line in lines), "only a long path may be longer"
    assert (unwrapped, end) == ("x " * 200, "")


@pytest.mark.parametrize(
    ("outcome", "target", "line"),
    [
        ({"best_value": 0.25, "best_step": 40}, None, "best 0.25 at step 40"),
        ({}, None, "no finite value"),
        ({"best_value": 40.0, "best_step": 40}, 0.1, "valid/loss ≤ 0.1 at step 40"),
        ({"final_step": 90, "final_value": 0.2}, 0.1, "valid/loss ≤ 0.1 not reached by step 90, where it is 0.2"),
    ],
)
def test_a_finished_trial_is_shown_with_its_value_or_the_step_at_which_it_reached_the_target(
    outcome: dict[str, float], target: float | None, line: str
) -> None:
    ended = TrialOutcome(PlannedTrial(7, 0, 7, 0, (), {}, 7), "completed", **outcome)  # type: ignore[arg-type]
    objective = Objective("valid/loss", "minimize", steps_to=target)
    progress = RunProgress(9, 3, 0, 0, (), None, None, objective)
    assert trial_line(ended, progress) == f"[3/9] trial 7 completed: {line}"


HEADER = ("folder", "trials_run", "best", "goal")
ROWS = [("runs/a-long-name", 24, 0.123456, "which optimizer is better"), ("runs/short", None, 0.5, "")]


def table_at(columns: int, monkeypatch: pytest.MonkeyPatch, optional: tuple[str, ...] = ()) -> str:
    """The table as a terminal with this many columns shows it, without bold type."""
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    say_table(HEADER, ROWS, optional=optional)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())


def test_a_table_that_fits_has_one_line_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = table_at(70, monkeypatch).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["runs/a-long-name", "24", "0.1235", "which", "optimizer", "is", "better"],
        ["runs/short", "–", "0.5", "–"],
    ]


def test_a_narrow_table_wraps_text_between_words_and_breaks_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = table_at(46, monkeypatch).splitlines()
    assert max(map(len, lines)) <= 46
    words = {word for line in lines for word in line.split()}
    assert {"runs/a-long-name", "0.1235", "which", "optimizer", "better"} <= words


def test_a_narrow_table_leaves_out_its_optional_columns_first(monkeypatch: pytest.MonkeyPatch) -> None:
    text = table_at(46, monkeypatch, optional=("goal",))
    assert "goal" not in text
    assert [line.split() for line in text.splitlines()[3:]] == [
        ["runs/a-long-name", "24", "0.1235"],
        ["runs/short", "–", "0.5"],
    ]


def test_rows_that_fit_in_no_table_are_printed_as_lines_without_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert table_at(30, monkeypatch).splitlines() == [
        "folder runs/a-long-name",
        "  trials_run  24",
        "  best        0.1235",
        "  goal        which optimizer",
        "              is better",
        "folder runs/short",
        "  best        0.5",
    ]


def test_a_row_of_several_lines_begins_at_the_top_and_headings_end_at_their_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = table_at(46, monkeypatch).splitlines()
    first = next(line for line in lines if line.startswith("runs/a-long-name"))
    assert "which" in first
    assert "better" not in first
    headings = lines[next(place for place, line in enumerate(lines) if line.startswith("─")) - 1].split()
    assert headings[0] == "folder"
    assert headings[-1] == "goal"
