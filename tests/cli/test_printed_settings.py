"""Tests cli/printed_settings.py: the settings of a study fit into a terminal of 80 columns."""

from __future__ import annotations

import io
import re
import sys

import pytest

from tunectl.cli.printed_settings import say_settings

HEADER = [
    *("setting", "optimizer", "schedule", "trials", "completed", "infeasible", "failed"),
    *("best_trial", "best_value", "best_step", "seconds_to_best"),
]
ROWS = [
    ["0", "nesterov", "constant", "12", "9", "3", "0", "24", "0.02", "240", "0.6566"],
    ["1", "nesterov", "linear", "12", "10", "2", "0", "37", "0.01333", "220", "0.5667"],
]


def printed(columns: int, monkeypatch: pytest.MonkeyPatch, left_out: int = 0) -> list[str]:
    """The lines below the title, on a terminal with this many columns, without the last columns of the table."""
    shown, last = io.StringIO(), len(HEADER) - left_out
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    say_settings(HEADER[:last], [row[:last] for row in ROWS], "two: settings")
    title, *lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).splitlines()
    assert title == "two: settings"
    return lines


def test_a_narrow_terminal_has_a_row_for_each_setting_with_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(80, monkeypatch)
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines[-2:]] == [
        ["0", "nesterov", "constant", "12", "3", "0", "24", "0.02", "240"],
        ["1", "nesterov", "linear", "12", "2", "0", "37", "0.01333", "220"],
    ]


def test_a_wide_terminal_has_all_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line.split() for line in printed(200, monkeypatch)[-2:]] == ROWS


def test_a_table_need_not_have_all_columns_that_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(80, monkeypatch, left_out=1)
    assert [line.split()[-2:] for line in lines[-2:]] == [["0.02", "240"], ["0.01333", "220"]]
