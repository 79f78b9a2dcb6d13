"""Tests drafting/sample_lines.py and sample_objects.py: entries for samples of output, and what a trial reads by them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from each_case import each_case

from tunectl.core.own_code_request import MetricSource
from tunectl.drafting.sample_lines import SampleReading, read_sample
from tunectl.language.study_reader import load_study
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.output_reader import OutputReader

SAMPLES = [
    ("step 100 loss 0.25 val_loss 3.1e-1\n", {"step": "100", "loss": "0.25", "val_loss": "3.1e-1"}),
    ("[INFO] Epoch 3/10: train_loss=0.25, val/acc: 91.2%, lr=1e-3", {"step": "3", "train_loss": "0.25", "val__acc": "91.2", "lr": "1e-3"}),
    ("Epoch [1/10], Step [200/600], Loss: 0.4525", {"step": "200", "Loss": "0.4525"}),
    ("step 250: train loss 4.2, val loss nan", {"step": "250", "train_loss": "4.2", "val_loss": "nan"}),
    ("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.305400", {"step": "1", "Loss": "2.305400"}),
    ("\x1b[32miter\x1b[0m 7 | loss -0.5 | top-1 0.2 |", {"step": "7", "loss": "-0.5", "top_1": "0.2"}),
]  # fmt: skip


def reading_of(text: str, metric: str | None = None) -> SampleReading:
    found = read_sample(text, metric)
    assert found is not None
    return found


def told(path: Path, text: str, metric: str | None = None) -> dict[int, dict[str, float]]:
    """What a trial reads from the sample, by step, when the study holds what is proposed."""
    lines = [line for source in reading_of(text, metric).sources for line in source.in_yaml("a.txt")]
    head = "study: a\nworkload:\n  command: [./train, '{lr}']\n  metrics:\n"
    tail = "objective: {metric: any, direction: minimize}\ntraining: {max_train_steps: 9}\n"
    path.write_text(
        head + "".join(f"    {line}\n" for line in lines) + tail + "hyperparameters: {lr: 1}\nsearch: {trials: 1}\n"
    )
    program = load_study(path).program
    assert program is not None
    return collected(program.sources, text)


def collected(sources: tuple[MetricSource, ...], text: str) -> dict[int, dict[str, float]]:
    reader, collector = OutputReader(sources), Collector(lambda: 0.0)
    for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*m", "", text)):
        for found in reader.read(line):
            collector.add(found.step, found.metrics)
    return {step: dict(known.metrics) for step, known in collector.steps.items()}


@pytest.mark.parametrize(("line", "values"), SAMPLES, ids=range(len(SAMPLES)))
def test_the_expression_reads_what_the_line_says(line: str, values: dict[str, str]) -> None:
    reading = reading_of(f"loading 3 files\n{line}\ndone in 5 s\n")
    (source,) = reading.sources
    assert source.expression is not None
    found = re.search(source.expression, re.sub(r"\x1b\[\d+m", "", line))
    assert found is not None
    assert found.groupdict() == values
    assert source.lines == 1
    assert source.metrics == tuple(name.replace("__", "/") for name in values if name != "step")
    assert reading.unread == ()


HF = """\
{'config': 'big', 'lr': 0.2, 'amp': True, 'hidden': [64, 32]}
{'loss': 0.6931, 'grad_norm': nan, 'epoch': 0.5}
{'loss': 0.5931, 'grad_norm': 1.5, 'epoch': 1.0}
{'eval_loss': 0.5, 'epoch': 1.0}
"""
HF_FRACTION = """\
{'loss': 0.5, 'epoch': 0.4}
{'eval_loss': '0.3', 'epoch': 0.4}
{'loss': 0.25, 'epoch': 0.8}
{'eval_loss': '0.2', 'epoch': 0.8}
"""
KERAS = """\
Epoch 1/2
\r\x1b[1m1/2\x1b[0m \x1b[32m━━\x1b[0m 4ms/step - accuracy: 0.10 - loss: 3.0\r2/2 ━━ 4ms/step - accuracy: 0.50 - loss: 1.5 - val_accuracy: 0.4 - val_loss: 1.92
Epoch 2/2
\r1/2 ━━ 4ms/step - accuracy: 0.55 - loss: 1.4\r2/2 ━━ 4ms/step - accuracy: 0.60 - loss: 1.25 - val_accuracy: 0.7 - val_loss: 1.5
"""
IMAGENET = """\
Epoch: [0][  0/5005]\tTime  0.300 ( 0.500)\tLoss 6.9e+00 (7.0e+00)\tAcc@1   0.39 (  0.20)\tAcc@5   1.00 (  0.20)
Epoch: [0][ 10/5005]\tTime  0.200 ( 0.500)\tLoss 6.5e+00 (7.0e+00)\tAcc@1   0.50 (  0.20)\tAcc@5   2.00 (  0.20)
Test: [ 0/98]\tTime  0.1 ( 0.1)\tLoss 5.0e+00 (5.0e+00)\tAcc@1   9.00 (  9.00)\tAcc@5  20.00 ( 20.00)
Test: [10/98]\tTime  0.1 ( 0.1)\tLoss 4.0e+00 (5.0e+00)\tAcc@1  11.00 (  9.00)\tAcc@5  30.00 ( 20.00)
 *   Acc@1 71.2 Acc@5 90.1
"""
MNIST = """\
Namespace(batch_size=64, lr=1.0, gamma=0.7, label_smoothing_loss=0.1)
Train Epoch: 1 [0/60000 (0%)]\tLoss: 2.305400
Train Epoch: 1 [640/60000 (1%)]\tLoss: 1.7

Test set: Average loss: 0.0559, Accuracy: 9817/10000 (98%)

Train Epoch: 2 [0/60000 (0%)]\tLoss: 0.3
Train Epoch: 2 [640/60000 (1%)]\tLoss: 0.2

Test set: Average loss: 0.0400, Accuracy: 9900/10000 (99%)
"""


def test_lines_of_the_trainer_of_hugging_face(tmp_path: Path) -> None:
    steps = told(tmp_path / "a.yaml", HF)
    assert steps[1] == {"loss": 0.5931, "grad_norm": 1.5, "eval_loss": 0.5}
    (source,) = reading_of(HF).sources
    assert (source.expression, source.step) == (None, "epoch")
    assert source.metrics == ("loss", "grad_norm", "eval_loss")
    assert "a fraction" in source.remark


def test_objects_whose_only_step_is_a_fraction_are_counted_by_kind(tmp_path: Path) -> None:
    assert told(tmp_path / "a.yaml", HF_FRACTION) == {
        1: {"loss": 0.5, "eval_loss": 0.3},
        2: {"loss": 0.25, "eval_loss": 0.2},
    }
    one = "".join(line + "\n" for line in HF_FRACTION.splitlines() if "eval" in line)
    (source,) = reading_of(one).sources
    assert (source.expression, source.every) == (None, 1)
    assert told(tmp_path / "b.yaml", one)[2]["eval_loss"] == 0.2


def test_objects_of_json(tmp_path: Path) -> None:
    text = 'start\n{"global_step": 10, "epoch": 0.5, "val": {"loss": 0.4}}\n{"global_step": 20, "epoch": 1, "val": {"loss": NaN}}\n'
    steps = told(tmp_path / "a.yaml", text)
    assert steps[10] == {"epoch": 0.5, "val/loss": 0.4}
    assert list(steps) == [10, 20]
    assert told(tmp_path / "b.yaml", '{"epoch": 0, "loss": 1}\n{"epoch": 1, "loss": 2}') == {
        1: {"loss": 1},
        2: {"loss": 2},
    }


def test_the_bars_of_keras(tmp_path: Path) -> None:
    assert told(tmp_path / "a.yaml", KERAS) == {
        1: {"accuracy": 0.5, "loss": 1.5, "val_accuracy": 0.4, "val_loss": 1.92},
        2: {"accuracy": 0.6, "loss": 1.25, "val_accuracy": 0.7, "val_loss": 1.5},
    }
    reading = reading_of(KERAS)
    assert "here 2 in 2 epochs" in reading.sources[0].remark
    assert reading.unread == ()


def test_the_lines_of_the_imagenet_example(tmp_path: Path) -> None:
    """Its epochs count from 0, the training's accuracy is not that of the summary, and Time is no metric."""
    assert told(tmp_path / "a.yaml", IMAGENET) == {
        1: {
            "Loss": 6.5, "Acc_1": 0.5, "Acc_5": 2.0,
            "test_Loss": 4.0, "test_Acc_1": 11.0, "test_Acc_5": 30.0,
            "summary_Acc_1": 71.2, "summary_Acc_5": 90.1,
        }
    }  # fmt: skip


def test_the_lines_of_the_mnist_example(tmp_path: Path) -> None:
    assert told(tmp_path / "a.yaml", MNIST) == {
        1: {"Loss": 1.7, "test_loss": 0.0559, "test_Accuracy": 9817},
        2: {"Loss": 0.2, "test_loss": 0.04, "test_Accuracy": 9900},
    }
    renamed = told(tmp_path / "b.yaml", MNIST, "Accuracy")
    assert renamed[2] == {"Loss": 0.2, "test_loss": 0.04, "Accuracy": 9900}
    valid = MNIST.replace("Test set", "Valid set")
    assert told(tmp_path / "c.yaml", valid, "valid/loss")[2] == {
        "Loss": 0.2,
        "valid/loss": 0.04,
        "valid_Accuracy": 9900,
    }


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("step 1,000 val_loss 0.5\nstep 2,000 val_loss 0.25", {1000: {"val_loss": 0.5}, 2000: {"val_loss": 0.25}}),
        ("epoch 0.5 loss 1.5\nepoch 1.0 loss 0.5", {1: {"loss": 1.5}, 2: {"loss": 0.5}}),
        ("step 3 val_loss tensor(0.5, device='cuda:0')", {3: {"val_loss": 0.5}}),
        ("epoch 1 train: loss 0.5 acc 0.9 | val: loss 0.4 acc 0.8", {1: {"train_loss": 0.5, "train_acc": 0.9, "val_loss": 0.4, "val_acc": 0.8}}),
        ("Epoch 1 batch 9 loss 0.5\nEpoch 2 batch 0 loss 0.4", {1: {"loss": 0.5}, 2: {"loss": 0.4}}),
        ("step 1 loss 0.5\nstep 2 loss 0.4\nstep 2 loss 0.4 val_acc 0.9", {1: {"loss": 0.5}, 2: {"loss": 0.4, "val_acc": 0.9}}),
        ("training\nTest loss: 0.3", {1: {"Test_loss": 0.3}}),
        ("step 1 r² 0.5 Step 3", {1: {"r_": 0.5}}),
    ],
)  # fmt: skip
def test_lines_are_read_as_a_person_reads_them(tmp_path: Path, text: str, steps: dict[int, dict[str, float]]) -> None:
    assert told(tmp_path / "a.yaml", text) == steps


def test_a_line_that_seems_to_have_a_metric_and_is_not_read_is_reported() -> None:
    reading = reading_of("loss_weight => 0.1\nstep 1 loss 0.5\nvalid acc => 0.5\nvalid acc => 0.6\ntook => 0.5\n")
    assert reading.unread == (("valid acc => 0.5", 2),)


def test_the_kind_of_line_that_has_the_metric_comes_first_and_the_others_are_read_too() -> None:
    text = "step 1 loss 0.5\nstep 2 loss 0.4\nstep 2 valid/error 0.3 f1 5\n"
    often, wanted = reading_of(text), reading_of(text, "valid/error")
    assert [(source.metrics, source.lines) for source in often.sources] == [
        (("loss",), 2),
        (("valid/error", "f1"), 1),
    ]
    assert wanted.sources == often.sources[::-1]


def test_a_metric_whose_name_no_group_can_have_is_renamed(tmp_path: Path) -> None:
    assert told(tmp_path / "a.yaml", "step 1 top-1 0.5", "top-1") == {1: {"top-1": 0.5}}


@pytest.mark.parametrize(
    "text", ["", "nothing\n", "lr 0.5\n", "step 5\n", "step one loss two", "\x00\xff" * 9, "{'lr': 1}"]
)
def test_a_sample_without_metrics_gives_no_source(text: str) -> None:
    assert read_sample(text) is None


def test_where_no_line_has_the_metric_all_others_are_read_and_named() -> None:
    found = reading_of("step 1 loss 2\n", "accuracy")
    assert not found.has_metric
    assert found.metrics == ("loss",)


PYTORCH_EXAMPLE = """\
Train Epoch: 1 [0/320 (0%)]\tLoss: 1.924821

Test set: Average loss: 0.8358, Accuracy: 7392/10000 (74%)

Train Epoch: 2 [0/320 (0%)]\tLoss: 0.740726

Test set: Average loss: 0.4210, Accuracy: 8636/10000 (86%)
"""


@pytest.mark.parametrize(
    "metric", ["accuracy", "Accuracy", "ACCURACY", "test_accuracy", "test/accuracy", "Test-Accuracy", "test_Accuracy"]
)
def test_a_metric_is_found_whatever_its_case_and_what_separates_its_words(tmp_path: Path, metric: str) -> None:
    read = told(tmp_path / "a.yaml", PYTORCH_EXAMPLE, metric)
    assert [values[metric] for values in read.values()] == [7392, 8636]
    assert [values["Loss"] for values in read.values()] == [1.924821, 0.740726]


def test_of_two_metrics_that_may_be_meant_none_is_chosen() -> None:
    found = reading_of("step 1 train_acc 0.5 test_acc 0.4\n", "Acc")
    assert not found.has_metric
    assert found.metrics == ("train_acc", "test_acc")


@pytest.mark.parametrize(
    ("text", "metric", "line"),
    [
        (PYTORCH_EXAMPLE, "accuracy", "  # names: {Loss: train/loss}    # uncomment if Loss is the training loss"),
        ("step 1 train_loss 0.5 val_loss 0.4\n", "val_loss", "  # names: {train_loss: train/loss}    # uncomment if"),
        ("{'step': 1, 'train': {'loss': 0.5}, 'f1': 0.1}\n", None, None),
        ("step 1 loss 0.5 F1 0.4\n", "f1", "  # names: {F1: f1, loss: train/loss}    # uncomment in place of the line"),
        ("step 1 loss 0.5\n", "loss", None),
        ("step 1 val_loss 0.5\n", None, None),
    ],
)
def test_what_may_be_the_training_loss_is_offered_as_that(text: str, metric: str | None, line: str | None) -> None:
    lines = [line for source in reading_of(text, metric).sources for line in source.in_yaml("a.txt")]
    offered = [item for item in lines if item.startswith("  # names")]
    assert len(offered) == (line is not None)
    assert line is None or offered[0].startswith(line)


@pytest.mark.timeout(20)
def test_a_line_that_says_one_name_many_times_is_passed_over_and_takes_no_time():
    # Hazard: an expression with the name as often would try all ways to distinguish the numbers of another line apart.
    def line(number: int, count: int, end: str) -> str:
        return f"epoch {number} {' '.join(f'iou 0.{number}{place}' for place in range(count))} {end} 0.3"

    lines = [line(number, count, end) for count, end in ((9, "loss"), (40, "miou")) for number in range(3)]
    found = read_sample("\n".join([*lines, "epoch 1 acc 0.5"]))
    assert found is not None
    assert [source.metrics for source in found.sources] == [("acc",)]


def test_a_table_at_the_end_does_not_take_the_place_of_what_the_objects_said(tmp_path: Path) -> None:
    text = "{'eval_loss': 0.23183, 'epoch': 1.0}\n***** eval metrics *****\n  eval_loss               =     0.2318\n"
    assert told(tmp_path / "a.yaml", text, "eval_loss") == {1: {"eval_loss": 0.23183, "summary_eval_loss": 0.2318}}


@each_case(
    "unit",
    [
        "epoch", "Epoch", "iter", "iteration", "iterations", "global_step", "trainer/global_step", "updates", "update",
        "num_updates", "batch", "batches", "samples", "samples_seen", "examples_seen", "tokens", "n_tokens_seen",
        "train/epoch", "it", "ep",
    ],
)  # fmt: skip
@each_case("form", ["json", "dict", "line"])
def test_another_unit_beside_the_step_is_no_metric(unit: str, form: str) -> None:
    rows = [(step, step // 2 + 0.25, 1 / step) for step in range(1, 5)]
    if form == "line":
        lines = [f"step {step} {unit} {other} loss {loss:.4f}" for step, other, loss in rows]
    else:
        objects = [{"step": step, unit: other, "loss": round(loss, 4)} for step, other, loss in rows]
        lines = [json.dumps(item) if form == "json" else repr(item) for item in objects]
    (source,) = reading_of("\n".join(lines)).sources
    assert source.metrics == ("loss",)
    assert source.step == "step"


def test_a_unit_that_the_study_asks_for_is_its_metric() -> None:
    text = "\n".join(json.dumps({"step": step, "epoch": step / 10, "loss": 1 / step}) for step in range(1, 5))
    (source,) = reading_of(text, "epoch").sources
    assert set(source.metrics) == {"epoch", "loss"}
