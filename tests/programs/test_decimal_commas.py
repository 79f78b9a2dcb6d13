"""Printed numbers with a comma are read if they have only one meaning, else left out with a note.

Tests core/printed_numbers.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from printed_trials import CSV, LINES, Case, read_of

from tunectl.core.own_code_request import MetricSource


def lines(expression: str) -> tuple[MetricSource, ...]:
    return (MetricSource("regex", expression),)


DIGITS = lines(r"step (?P<step>\d+): loss (?P<valid_loss>[\d.]+)")
CASES = [
    Case("as the issue has it", "step 3: loss 0,333\n", {3: 0.333}, sources=LINES),
    Case("a comma follows, too", "step 3: loss 0,333, acc 0,5\n", {3: 0.333}, sources=LINES),
    Case("negative", "step 3: loss -0,25\n", {3: -0.25}, sources=LINES),
    Case("a percentage", "step 3: loss 12,5%\n", {3: 12.5}, sources=LINES),
    Case("with an exponent", "step 3: loss 1,5e-3\n", {3: 0.0015}, sources=LINES),
    Case("full stops for thousands", "step 3: loss 1.234,5\n", {3: 1234.5}, sources=LINES),
    Case("commas for thousands", "step 3: loss 1,234.5\n", {3: 1234.5}, sources=LINES),
    Case("two commas", "step 3: loss 1,234,567\n", {3: 1234567.0}, sources=LINES),
    Case("one or the other", "step 3: loss 1,234\n", says="1,234", ends="failed", sources=LINES),
    Case("one or the other among others", "step 1: loss 0,9\nstep 2: loss 1,234\n", {1: 0.9}, "1,234", sources=LINES),
    Case("four digits behind it", "step 3: loss 0,3330\n", {3: 0.333}, sources=LINES),
    Case("many digits behind it", "step 3: loss 3,14159\n", {3: 3.14159}, sources=LINES),
    Case("zero before three digits, negative", "step 3: loss -0,333\n", {3: -0.333}, sources=LINES),
    Case(
        "a step with commas for thousands",
        "step 1,000: loss 0,5\n",
        {1000: 0.5},
        sources=lines(r"step (?P<step>\S+): loss (?P<valid_loss>\S+)"),
    ),
    Case(
        "a step that the expression cuts",
        "step 999: loss 0.5\nstep 1,000 loss 0.25\n",
        {999: 0.5},
        "1,000",
        sources=lines(r"step (?P<step>\d+).*? ?loss (?P<valid_loss>\S+)"),
    ),
    Case("the expression cuts the number", "step 3: loss 0,333\n", says="0,333", ends="failed", sources=DIGITS),
    Case(
        "the expression cuts it, and goes on",
        "step 3: loss 0,333 acc 0,5\n",
        says="0,333",
        ends="failed",
        sources=lines(r"step (?P<step>\d+): loss (?P<valid_loss>\d+\.?\d*).*acc (?P<acc>\S+)"),
    ),
    Case("the expression cuts an exponent", "step 3: loss 1.5e-05\n", says="1.5e-05", ends="failed", sources=DIGITS),
    Case("the expression leaves a full stop", "step 3: loss 0.333.\n", {3: 0.333}, sources=DIGITS),
    Case("text in JSON", '{"step": 3, "valid_loss": "0,333"}\n', {3: 0.333}),
    Case("bare in JSON", '{"step": 3, "valid_loss": 0,333, "acc": 1}\n', {3: 0.333}),
    Case("text in a dict of Python", "{'step': 3, 'valid_loss': '0,333'}\n", {3: 0.333}),
    Case("CSV with semicolons", "step;valid_loss\n3;0,333\n", {3: 0.333}, sources=CSV, file="m.csv"),
    Case("CSV, in quotes", 'step,valid_loss\n3,"0,333"\n', {3: 0.333}, sources=CSV, file="m.csv"),
    Case(
        "CSV with commas for both",
        "step,valid_loss\n3,0,333\n",
        says="0,333|more fields",
        ends="failed",
        sources=CSV,
        file="m.csv",
    ),
    Case("a byte at a time, no end of line", "step 3: loss 0,333", {3: 0.333}, sources=LINES, bytewise=True),
    Case("carriage returns", "step 3: loss 0,5\rstep 4: loss 0,25\r", {3: 0.5, 4: 0.25}, sources=LINES),
    Case("to stderr", "", {3: 0.333}, sources=LINES, streams=((2, "step 3: loss 0,333\n"),)),
    Case("Latin-1 before it", b"\xe9poque 1 step 3: loss 0,333\n", {3: 0.333}, sources=LINES),
    Case("coloured", "step 3: loss \x1b[32m0,333\x1b[0m\n", {3: 0.333}, sources=LINES),
    Case("narrow spaces for thousands", "step 3: loss 1\u202f234,5\n", says="234,5", ends="failed", sources=LINES),
    Case("an apostrophe for thousands", "step 3: loss 1'234.5\n", says="1'234", ends="failed", sources=LINES),
    Case("a semicolon follows", "step 3: loss 0,333; acc\n", {3: 0.333}, sources=LINES),
    Case(
        "two numbers of a tuple",
        "step 3: loss (0.5,0.6)\n",
        {3: 0.5},
        sources=lines(r"step (?P<step>\d+): loss \((?P<valid_loss>[\d.]+),(?P<other>[\d.]+)\)"),
    ),
    Case("columns of whole numbers", "3,25,9\n", {3: 25.0}, sources=lines(r"^(?P<step>\d+),(?P<valid_loss>\d+)")),
    Case("a typographer's minus", "step 3: loss \u22120,25\n", {3: -0.25}, sources=LINES),
    Case("two columns", "10,0.25\n", {10: 0.25}, sources=lines(r"(?P<step>\d+),(?P<valid_loss>[\d.]+)")),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_number_with_a_comma_is_read_or_left_out_with_a_note(case: Case, tmp_path: Path) -> None:
    read = read_of(case, tmp_path)
    assert read.values == case.want
    assert read.state == case.ends, read.words
    assert not case.says or any(part in read.words for part in case.says.split("|")), read.words
