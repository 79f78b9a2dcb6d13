"""Reading the metrics that programs print or write.

Tests programs/output_reader.py and programs/metric_files.py.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from tunectl.core.own_code_request import OUTPUT, MetricSource
from tunectl.programs.metric_files import file_source
from tunectl.programs.output_reader import OutputReader, StepMetrics


def metrics_in(source: MetricSource, *lines: str) -> list[StepMetrics]:
    reader = OutputReader([source])
    return [item for line in lines for item in reader.read(line)]


LINE = MetricSource(
    "regex", r"step (?P<step>\d+): loss (?P<train__loss>\S+), acc (?P<acc>\S+)", names={"acc": "valid/acc"}
)


def test_an_expression_finds_step_and_metrics_by_the_names_of_its_groups() -> None:
    found = metrics_in(LINE, "nothing", "epoch 1 step 30: loss 0.25, acc 91.5%", "step 31: loss nan, acc -inf.")
    assert found[0] == StepMetrics(30, {"train/loss": 0.25, "valid/acc": 91.5})
    assert found[1].step == 31
    assert math.isnan(found[1].metrics["train/loss"])
    assert found[1].metrics["valid/acc"] == -math.inf


def test_a_value_that_is_not_a_number_is_not_a_metric() -> None:
    assert metrics_in(LINE, "step 30: loss none, acc 0.5") == [StepMetrics(30, {"valid/acc": 0.5})]
    assert metrics_in(LINE, "step 30: loss none, acc none") == []


def test_an_expression_may_match_several_times_in_a_line_and_without_an_optional_group() -> None:
    source = MetricSource("regex", r"(?P<step>\d+)=(?P<a>[\d.]+)(?:/(?P<b>[\d.]+))?")
    assert metrics_in(source, "1=0.5 2=0.25/3") == [StepMetrics(1, {"a": 0.5}), StepMetrics(2, {"a": 0.25, "b": 3.0})]


def test_json_lines_on_stdout_are_flattened_and_other_lines_skipped() -> None:
    source = MetricSource("json_lines", OUTPUT, step="global_step", names={"eval/loss": "valid/loss"})
    lines = [
        "INFO {not json}",
        '{"global_step": 10, "eval": {"loss": 0.5, "name": "x"}, "ok": true, "none": null}',
        '  {"eval": {"loss": NaN}, "lr": 1e-3}  ',
        "{broken",
        '{"global_step": 1.5, "a": "a step is a whole number, and this line is dropped", "b": 1}',
        "[1, 2]",
    ]
    first, second = metrics_in(source, *lines)
    assert first == StepMetrics(10, {"valid/loss": 0.5})
    assert second.step is None
    assert second.metrics["lr"] == 0.001
    assert math.isnan(second.metrics["valid/loss"])


def test_dicts_as_python_prints_them_are_read_like_json() -> None:
    source = MetricSource("json_lines", OUTPUT)
    lines = [
        "{'loss': 0.5, 'step': 10, 'name': 'a b'}",
        "{'loss': nan, 'eval': {'loss': -inf}}",
        "{'a': __import__('os')}",
    ]
    first, second = metrics_in(source, *lines)
    assert first == StepMetrics(10, {"loss": 0.5})
    assert math.isnan(second.metrics["loss"])
    assert second.metrics["eval/loss"] == -math.inf


def rows(path: Path, names: list[str], content: list[dict[str, object]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(content)


def test_a_csv_file_is_read_as_it_grows_and_again_when_its_columns_change(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    source = file_source(MetricSource("csv", ""), str(path))
    assert list(source.read(to_the_end=False)) == []
    rows(path, ["step", "train_loss"], [{"step": 1, "train_loss": 0.5}])
    assert list(source.read(to_the_end=False)) == [StepMetrics(1, {"train_loss": 0.5})]
    with open(path, "a") as file:
        file.write("2,0.25\r\n3,")
    assert list(source.read(to_the_end=False)) == [StepMetrics(2, {"train_loss": 0.25})]
    rows(path, ["step", "train_loss", "val_loss"], [{"step": 1, "train_loss": 0.5}, {"step": 2, "val_loss": 0.125}])
    found = list(source.read(to_the_end=True))
    assert found == [StepMetrics(1, {"train_loss": 0.5}), StepMetrics(2, {"val_loss": 0.125})]


def test_a_csv_file_is_found_by_a_pattern_although_it_is_created_late(tmp_path: Path) -> None:
    source = file_source(MetricSource("csv", ""), str(tmp_path / "**" / "metrics.csv"))
    assert list(source.read(to_the_end=False)) == []
    home = tmp_path / "logs" / "version_0"
    home.mkdir(parents=True)
    rows(home / "metrics.csv", ["step", "loss"], [{"step": 5, "loss": 1.5}])
    assert list(source.read(to_the_end=False)) == [StepMetrics(5, {"loss": 1.5})]


def test_json_lines_in_a_file_are_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    source = file_source(MetricSource("json_lines", ""), str(path))
    path.write_text(json.dumps({"step": 1, "loss": 0.5}) + '\n{"step": 2, "lo')
    assert list(source.read(to_the_end=False)) == [StepMetrics(1, {"loss": 0.5})]
    with open(path, "a") as file:
        file.write('ss": 0.25}')
    assert list(source.read(to_the_end=False)) == []
    assert list(source.read(to_the_end=True)) == [StepMetrics(2, {"loss": 0.25})]


def test_steps_from_0_get_an_offset_and_metrics_without_steps_are_counted() -> None:
    shifted = MetricSource("regex", r"(?P<step>\d+) (?P<loss>\S+)", offset=1)
    assert metrics_in(shifted, "19 0.5", "39 0.25") == [StepMetrics(20, {"loss": 0.5}), StepMetrics(40, {"loss": 0.25})]
    counted = MetricSource("regex", r"loss (?P<loss>\S+)", every=50)
    assert metrics_in(counted, "loss 3", "nothing", "loss 2") == [
        StepMetrics(50, {"loss": 3.0}),
        StepMetrics(100, {"loss": 2.0}),
    ]


def test_a_file_that_is_replaced_is_counted_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    source = file_source(MetricSource("csv", "", every=10), str(path))
    rows(path, ["a"], [{"a": 1}, {"a": 2}])
    assert [item.step for item in source.read(to_the_end=True)] == [10, 20]
    rows(path, ["a", "b"], [{"a": 1}, {"a": 2}, {"a": 3}])
    assert [item.step for item in source.read(to_the_end=True)] == [10, 20, 30]


def test_metrics_with_an_unread_step_are_not_of_the_step_before() -> None:
    source = MetricSource("regex", r"step (?P<step>\S+): (?P<loss>\S+)")
    found = metrics_in(source, "step 999: 0.2", "step 1,000: 0.8", "step 1.5: 0.7", "step ?: 0.6")
    assert found == [StepMetrics(999, {"loss": 0.2}), StepMetrics(1000, {"loss": 0.8})]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv_files_with_other_separators_a_byte_order_mark_and_a_broken_row(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "m.csv"
    row = f'30{mark}"' + "x" * 200_000
    path.write_text(f"\ufeffstep{mark}loss\n10{mark}0.5\n{row}\n20{mark}0.25\n", encoding="utf-8")
    source = file_source(MetricSource("csv", ""), str(path))
    found = [item for item in source.read(to_the_end=True) if item.step != 30]
    assert found == [StepMetrics(10, {"loss": 0.5}), StepMetrics(20, {"loss": 0.25})]


def test_a_counted_csv_file_that_appears_after_resuming_is_counted_from_there(tmp_path: Path) -> None:
    source = file_source(MetricSource("csv", "", every=10), str(tmp_path / "*" / "m.csv"))
    source.go_on_from(30)
    (tmp_path / "v1").mkdir()
    for rows in ("loss\n4\n", "loss,acc\n4,1\n5,2\n"):
        (tmp_path / "v1" / "m.csv").write_text(rows)
        found = list(source.read(to_the_end=False))
    assert [(item.step, item.metrics["loss"]) for item in found] == [(40, 4.0), (50, 5.0)]


def test_a_csv_file_that_is_replaced_is_counted_from_the_start(tmp_path: Path) -> None:
    path, other = tmp_path / "m.csv", tmp_path / "other"
    source = file_source(MetricSource("csv", "", every=10), str(path))
    for count in (1, 2, 3):
        other.write_text("a\n" + "".join(f"{row}\n" for row in range(count)))
        other.replace(path)
        found = [item.step for item in source.read(to_the_end=True)]
    assert found == [10, 20, 30]
