"""The expression for a program's lines, judged by what it reads from them."""

from __future__ import annotations

import re

import pytest

from tunectl.spec.sample_lines import read_sample

SAMPLES = [
    ("step 100 loss 0.25 val_loss 3.1e-1\n", {"step": "100", "loss": "0.25", "val_loss": "3.1e-1"}),
    ("[INFO] Epoch 3/10: train_loss=0.25, val/acc: 91.2%, lr=1e-3", {"step": "3", "train_loss": "0.25", "val__acc": "91.2", "lr": "1e-3"}),
    ("Epoch [1/10], Step [200/600], Loss: 0.4525", {"Epoch": "1", "step": "200", "Loss": "0.4525"}),
    ("step 250: train loss 4.2, val loss nan", {"step": "250", "train_loss": "4.2", "val_loss": "nan"}),
    ("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.305400", {"step": "1", "Loss": "2.305400"}),
    ("\x1b[32miter\x1b[0m 7 | loss -0.5 | top-1 0.2 |", {"step": "7", "loss": "-0.5", "top_1": "0.2"}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "values"), SAMPLES, ids=range(len(SAMPLES)))
def test_the_expression_reads_what_the_line_says(line: str, values: dict[str, str]) -> None:
    reading = read_sample(f"loading 3 files\n{line}\ndone in 5 s\n")
    assert reading is not None
    found = re.search(reading.expression, re.sub(r"\x1b\[\d+m", "", line))
    assert found is not None
    assert found.groupdict() == values
    assert reading.lines == 1
    assert reading.metrics == tuple(name.replace("__", "/") for name in values if name != "step")


def test_the_kind_of_line_that_comes_most_often_or_has_the_metric_is_read() -> None:
    text = "step 1 loss 0.5\nstep 2 loss 0.4\nstep 2 valid/error 0.3 seconds 5\n"
    often, wanted = read_sample(text), read_sample(text, "valid/error")
    assert often is not None
    assert wanted is not None
    assert (often.metrics, often.lines) == (("loss",), 2)
    assert (wanted.metrics, wanted.lines) == (("valid/error", "seconds"), 1)


@pytest.mark.parametrize("text", ["", "nothing\n", "loss 0.5\n", "step 5\n", "step one loss two", "\x00\xff" * 9])
def test_a_sample_without_steps_and_metrics_gives_no_expression(text: str) -> None:
    assert read_sample(text) is None


def test_a_metric_that_no_line_has_gives_no_expression() -> None:
    assert read_sample("step 1 loss 2\n", "accuracy") is None
