"""Programs that print no step: their metrics are counted, or the failure says what to declare."""

from __future__ import annotations

from pathlib import Path

import pytest
from printed_trials import CSV, Case, read_of

from tunectl.core.own_code_request import OUTPUT, MetricSource

COUNTED = {1: 0.5, 2: 0.25}
TWO = '{"valid_loss": 0.5}\n{"valid_loss": 0.25}\n'
NO_GROUP = MetricSource("regex", r"valid (?P<valid_loss>\S+)")
FILE = (MetricSource("json_lines", "{trial.dir}/m.jsonl"),)
CASES = [
    Case("one object", '{"valid_loss": 0.3}\n', {1: 0.3}),
    Case("one object, no end of line", '{"valid_loss": 0.3}', {1: 0.3}),
    Case("an object an epoch", TWO, COUNTED),
    Case("dicts of Python", "{'valid_loss': 0.5}\n{'valid_loss': 0.25}\n", COUNTED),
    Case("a byte at a time", TWO, COUNTED, bytewise=True),
    Case("carriage returns", TWO.replace("\n", "\r"), COUNTED),
    Case("CRLF", TWO.replace("\n", "\r\n"), COUNTED),
    Case("to stderr", "", COUNTED, streams=((2, TWO),)),
    Case("two streams", "", COUNTED, streams=((1, '{"valid_loss": 0.5}\n'), (2, '{"valid_loss": 0.25}\n'))),
    Case("no step, two kinds", '{"loss": 3}\n{"valid_loss": 0.5}\n{"loss": 2}\n{"valid_loss": 0.25}\n', COUNTED),
    Case("a null step", '{"step": null, "valid_loss": 0.5}\n{"step": null, "valid_loss": 0.25}\n', COUNTED),
    Case("an empty step", '{"step": "", "valid_loss": 0.5}\n{"step": "", "valid_loss": 0.25}\n', COUNTED),
    Case(
        "epochs that are not declared", '{"epoch": 0, "valid_loss": 0.5}\n{"epoch": 1, "valid_loss": 0.25}\n', COUNTED
    ),
    Case(
        "fractions of an epoch, as a Trainer prints",
        "{'loss': 3.0, 'epoch': 0.5}\n{'valid_loss': 0.5, 'epoch': 1.0}\n{'valid_loss': 0.25, 'epoch': 2.0}\n",
        COUNTED,
    ),
    Case(
        "numbers in text",
        '{"valid_loss": "0.5"}\n{"valid_loss": "2.5e-1"}\n',
        COUNTED,
        sources=(MetricSource("json_lines", OUTPUT, names={"valid_loss": "valid_loss"}),),
    ),
    Case("a file of JSON lines", TWO, COUNTED, file="m.jsonl", sources=FILE),
    Case("a CSV file", "valid_loss\n0.5\n0.25\n", COUNTED, sources=CSV, file="m.csv"),
    Case("a CSV file with epochs", "epoch,valid_loss\n0,0.5\n1,0.25\n", COUNTED, sources=CSV, file="m.csv"),
    Case("a CSV file of pandas", ",valid_loss\n0,0.5\n1,0.25\n", COUNTED, sources=CSV, file="m.csv"),
    Case("an expression without a step", "valid 0.5\nvalid 0.25\n", COUNTED, sources=(NO_GROUP,)),
    Case(
        "an expression beside JSON",
        '{"a": 1}\nvalid 0.5\nvalid 0.25\n',
        COUNTED,
        sources=(NO_GROUP, MetricSource("json_lines", OUTPUT)),
    ),
    Case(
        "an expression whose step is left out",
        "valid 0.5\nvalid 0.25\n",
        COUNTED,
        sources=(MetricSource("regex", r"(?:step (?P<step>\d+) )?valid (?P<valid_loss>\S+)"),),
    ),
    Case("a word of the configuration first", '{"lr": 0.1}\n' + TWO, COUNTED),
    Case("the same value again", '{"valid_loss": 0.5}\n{"valid_loss": 0.5}\n', {1: 0.5, 2: 0.5}),
    Case(
        "a step is printed later",
        '{"valid_loss": 9}\n{"step": 5, "valid_loss": 0.5}\n{"valid_loss": 0.25}\n',
        {0: 9.0, 5: 0.25},
    ),
    Case(
        "a step comes from another source",
        'step 7 lr 0.1\n{"valid_loss": 0.5}\n',
        {7: 0.5},
        sources=(MetricSource("json_lines", OUTPUT), MetricSource("regex", r"step (?P<step>\d+) lr (?P<lr>\S+)")),
    ),
    Case("step 0 alone", '{"step": 0, "valid_loss": 0.3}\n', {0: 0.3}, r"step 0", "failed"),
    Case(
        "step 0 again and again",
        '{"step": 0, "valid_loss": 0.3}\n{"step": 0, "valid_loss": 0.2}\n',
        {0: 0.2},
        "every",
        "failed",
    ),
    Case("a step that is a fraction", '{"step": 0.5, "valid_loss": 0.3}\n', {}, "0.5", "failed"),
    Case("NaN", '{"valid_loss": 0.5}\n{"valid_loss": NaN}\n', {1: 0.5, 2: float("nan")}, "nan_metric", "infeasible"),
    Case("counted", TWO, {50: 0.5, 100: 0.25}, sources=(MetricSource("json_lines", OUTPUT, every=50),)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_metrics_without_a_step_are_counted_or_noted(case: Case, tmp_path: Path) -> None:
    read = read_of(case, tmp_path)
    assert str(read.values) == str(case.want), read.words
    assert read.state == case.ends, read.words
    assert case.says in read.words
