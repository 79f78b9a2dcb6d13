"""Tests report/finding_cards.py."""

from __future__ import annotations

import math

import pytest
import yaml
from made_up_page import FINDINGS, NASTY

from tunectl.analysis.findings.findings import Change, Finding
from tunectl.report.finding_cards import card_html, changes_text, count_text, findings_html, number_text


def note(**more):
    return Finding("an-id", "note", "A sentence.", "An action.", **more)


def test_warnings_come_before_notes_and_are_counted():
    html = findings_html([note(), *FINDINGS])
    levels = [part.split('"')[0] for part in html.split('class="finding ')[1:]]
    assert levels == ["warning", "warning", "note", "note"]
    assert "2 warnings, 2 notes" in html
    assert count_text([]) == "none"
    assert "nothing to report" in findings_html([])


def test_a_card_has_the_sentence_numbers_sureness_and_what_to_do():
    html = card_html(FINDINGS[0])
    for part in (FINDINGS[0].sentence, "best inside", "0.9", "p = 0.003", "Move the range up", "tunectl next runs"):
        assert part in html
    assert 'data-trial="3"' in html
    assert "learning_rate[optimizer=adam]" in html
    assert "<dl" not in card_html(note())
    assert "<pre" not in card_html(note())


def test_what_a_user_wrote_is_text_in_a_card():
    for finding in FINDINGS:
        assert "<img" not in card_html(finding)
    changed = note(changes=[Change((NASTY,), NASTY, NASTY)], command=NASTY, sureness=NASTY)
    assert "<img" not in card_html(changed)


def test_changes_read_as_the_study_file_does():
    text = changes_text(
        [
            Change(("hyperparameters", "learning_rate", "range"), [0.001, 1.0], "moved\nup"),
            Change(("hyperparameters", "momentum", "value"), 0.9, ""),
            Change(("search", "trials"), 40, "more"),
            Change(("study",), 'odd: "name"', ""),
        ]
    )
    assert yaml.safe_load(text) == {
        "hyperparameters": {"learning_rate": {"range": [0.001, 1.0]}, "momentum": {"value": 0.9}},
        "search": {"trials": 40},
        "study": 'odd: "name"',
    }
    assert "# moved up" in text


def test_a_value_of_a_change_is_written_as_a_user_would():
    text = changes_text(
        [
            Change(("hyperparameters", "schedule", "value"), "cosine", ""),
            Change(("hyperparameters", "momentum"), {"role": "fixed", "value": 0.9}, "makes no difference"),
            Change(("hyperparameters", "on", "values"), ["no", True, None, "1e3"], ""),
        ]
    )
    assert text.splitlines() == [
        "hyperparameters:",
        "  schedule:",
        "    value: cosine",
        "  momentum: {role: fixed, value: 0.9}  # makes no difference",
        "  on:",
        '    values: [no, true, null, "1e3"]',
    ]


def test_a_change_in_a_list_says_which_entry_it_is_of():
    text = changes_text([Change(("hyperparameters", "learning_rate", 1, "range"), [1, 2], "")])
    assert text.splitlines()[2:] == ["    # entry 2 of the list:", "      range: [1, 2]"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "true"),
        (12345, "12,345"),
        (1 / 3, "0.3333"),
        (math.nan, "nan"),
        ([0.5, "a"], "0.5, a"),
    ],
)
def test_numbers_are_short(value, text):
    assert number_text(value) == text


def test_numbers_that_are_missing_or_tables_are_in_the_file_alone():
    html = card_html(note(numbers={"gone": None, "table": [{"k": 1}], "many": [1] * 99, "map": {}, "kept": [1, 2]}))
    assert html.count("<dt>") == 1
    assert "<dd>1, 2</dd>" in html
