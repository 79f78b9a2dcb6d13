"""A study that keeps predictions and evaluates a sample, by the commands: tables, page, damage, cost."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from study_calls import Called

Call = Callable[..., Called]

TEXT = """
study: looking
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/error_rate, direction: minimize}
training:
  max_train_steps: 40
  eval_every: 20
  predictions: {examples: PLACES}
  split_examples: {valid: 100}
hyperparameters:
  optimizer: momentum
  momentum: 0.9
  batch_size: 32
  num_layers: 1
  width: {role: scientific, values: [4, 8]}
  learning_rate: 0.05
search: {sampler: grid}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    file = tmp_path / "looking.yaml"
    file.write_text(TEXT.replace("PLACES", "[3, 250]"))
    return file


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_shows_predictions_whole_splits_and_classes_and_says_what_is_damaged(
    tunectl: Call, study: Path, tmp_path: Path
) -> None:
    done = tunectl("run", study)
    assert done.code == 0, done.err
    folder = tmp_path / "runs" / "looking"
    # The whole split's value is beside the sample's in every table with best values.
    for name in ("settings", "best_trials", "trials"):
        for row in rows(folder / "tables" / f"{name}.csv"):
            assert 0 <= float(row["valid_whole/error_rate"]) <= 1
            assert 0 < float(row["valid_sample_error/error_rate"]) < 0.1
    assert "valid_whole/error_rate" in done.out
    classes = rows(folder / "tables" / "classes.csv")
    assert [row["class"] for row in classes if row["setting"] == "0"] == [str(label) for label in range(10)]
    for row in rows(folder / "tables" / "settings.csv"):
        own = [row_ for row_ in classes if row_["setting"] == row["setting"]]
        correct = sum(int(item["correct"]) for item in own) / 300
        assert 1 - correct == pytest.approx(float(row["valid_whole/error_rate"]))
    html = (folder / "report.html").read_text()
    data = json.loads(re.findall(r'id="data">(.*?)</script>', html)[0])
    assert {item["trial"] for item in data["predictions"]} == {0, 1}
    assert [step["step"] for step in data["predictions"][0]["steps"]] == [0, 20, 40]
    assert data["predictions"][0]["examples"] == [3, 250]
    assert [name for name, _ in data["constant"][0]] == ["input", "target"]

    refused = tunectl("report", folder, "--objective", "valid_whole/loss", "--direction", "minimize")
    assert refused.code == 2
    assert "give --objective valid/loss" in re.sub(r"\s+", " ", refused.err)

    file = folder / "trials" / "00001" / "predictions.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"step": 20', b'"step": 21'))
    assert "predictions.jsonl: 1 damaged line left out (line 2)" in re.sub(r"\s+", " ", tunectl("status", folder).err)
    file.unlink()
    assert "trials/00001/predictions.jsonl: is missing" in re.sub(r"\s+", " ", tunectl("report", folder).err)


def test_check_says_what_is_evaluated_and_an_example_that_is_not_there_has_its_place(
    tunectl: Call, study: Path
) -> None:
    printed = re.sub(r"\s+", " ", tunectl("check", study).out)
    assert "samples: 100 examples of valid at each evaluation; the whole split up to 4 times at the end" in printed
    assert "predictions: of 2 examples of valid at each evaluation" in printed
    found = tunectl("check", study, "--json").json()
    assert found["split_examples"] == {"valid": 100}
    assert found["predictions"] == {"split": "valid", "examples": [3, 250]}
    study.write_text(TEXT.replace("PLACES", "[3, 300]"))
    refused = tunectl("check", study, "--probe")
    assert refused.code == 2
    assert re.search(
        r"looking.yaml:8:27: training.predictions.examples: expected places from 0 to 299, as the split 'valid' has 300"
        r" examples, got 300",
        re.sub(r"\s+", " ", refused.err),
    )
