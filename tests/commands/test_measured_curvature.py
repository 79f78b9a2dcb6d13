"""What the commands say about measured curvature: its cost before and after, and where its numbers are.

Tests session/study_evidence.py and analysis/results/curvature_time.py through the commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from builders import study_text
from made_up_folders import made_up_folder
from study_calls import Called

from tunectl.commands.report import report_study
from tunectl.core import jsontext
from tunectl.core.errors import UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.records import TrialResult
from tunectl.language.identity import differences
from tunectl.language.study_reader import parse_study
from tunectl.session.outcome_index import refresh_index
from tunectl.session.study_evidence import ObjectiveChoice, indexed_curvature_time
from tunectl.store.index import Index
from tunectl.store.plan_file import read_plan

Call = Callable[..., Called]

TRAINING = "{max_train_steps: 100, eval_every: 50, curvature: {every: 40}}"
TEXT = study_text(
    {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"},
    study="measured",
    goal="Is it stable?",
    training=TRAINING,
    search="{trials: 6}",
)
TRAIN_SECONDS, SECONDS = 10.0, 0.5


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A finished study: every trial but the last has three measurements of curvature, each of half a second."""
    place = made_up_folder(tmp_path / "out", TEXT, lambda plan: 0.5 - plan.trial / 20, file=tmp_path / "study.yaml")
    for plan in read_plan(place.plan):
        home = place.trial(plan.trial)
        result = TrialResult(plan.trial, "completed", final_step=100, train_seconds=TRAIN_SECONDS)
        home.result.write_text(jsontext.encode(result.to_json()))
        if plan.trial == 5:
            continue
        lines = [
            CURVATURE.measurement(step, {"lambda_1": 10.0 + step, "seconds": SECONDS}, 0.0) for step in (0, 40, 80)
        ]
        with home.measurements.open("a") as file:
            file.write("".join(jsontext.encode(line.to_json()) + "\n" for line in lines))
    return place


def test_run_ends_with_the_time_that_measuring_took(folder: StudyFolder, tunectl: Call, tmp_path: Path) -> None:
    called = tunectl("run", tmp_path / "study.yaml", "--dir", folder.path)
    assert called.code == 0, called.err
    assert "curvature: measuring took 7.5 s, 15% of the 50.0 s of training\n" in called.out
    found = tunectl("run", tmp_path / "study.yaml", "--dir", folder.path, "--json").json()["curvature"]
    assert found == {"seconds": 7.5, "train_seconds": 50.0, "share": 0.15}
    trials = pd.read_csv(folder.tables / "trials.csv")
    assert list(trials["curvature/lambda_1"])[:5] == [50.0] * 5
    assert list(trials["curvature/step"])[:5] == [40.0] * 5, "the best step is 50"
    assert trials["curvature/lambda_1"].isna().tolist() == [False] * 5 + [True]


def test_report_has_the_same_sums_and_a_study_without_curvature_has_none(folder: StudyFolder, tmp_path: Path) -> None:
    found = report_study(folder.path, ObjectiveChoice(), draw=False).to_json()
    assert found["curvature"] == {"seconds": 7.5, "train_seconds": 50.0, "share": 0.15}
    plain = made_up_folder(tmp_path / "plain", TEXT, lambda _plan: 0.5, file=tmp_path / "plain.yaml")
    assert report_study(plain.path, ObjectiveChoice(), draw=False).to_json()["curvature"] is None
    trials = read_plan(plain.plan)
    with Index.open_for_writing(plain.index) as index:
        spec = parse_study(TEXT, tmp_path / "study.yaml")
        outcomes = refresh_index(plain, trials, spec.objective, index, lambda _line: None)
        assert indexed_curvature_time(index, outcomes) is None


def test_trials_are_not_judged_by_it(folder: StudyFolder) -> None:
    choice = ObjectiveChoice("curvature/lambda_1", "minimize")
    with pytest.raises(UsageError, match="curvature/lambda_1: trials are judged by their evaluations, and this is not"):
        report_study(folder.path, choice, draw=False)
    with pytest.raises(UsageError, match=r"the measured metrics are: train/loss, valid/error_rate$"):
        report_study(folder.path, ObjectiveChoice("valid/los", "minimize"), draw=False)


@pytest.mark.parametrize("changed", ["{every: 7, measures: [directional]}", "{at: [3]}", ""])
def test_a_study_whose_curvature_changed_goes_on_with_its_trials(
    changed: str, folder: StudyFolder, tunectl: Call, tmp_path: Path
) -> None:
    text = TEXT.replace("{every: 40}", changed)
    before = {path: path.read_bytes() for path in folder.path.rglob("measurements.jsonl")}
    (tmp_path / "study.yaml").write_text(text)
    assert differences(parse_study(TEXT, tmp_path / "a"), parse_study(text, tmp_path / "a")).results == ()
    status = tunectl("status", folder.path)
    assert "has changed since" not in status.out
    called = tunectl("run", tmp_path / "study.yaml", "--dir", folder.path)
    assert called.code == 0, called.err
    assert "begins anew" not in called.err
    assert {path: path.read_bytes() for path in before} == before


SIZES = "{role: scientific, values: [32, 64]}"
DIRECTIONAL = "{every: 50, examples: 64, measures: [directional]}"


@pytest.mark.parametrize(
    ("batch_size", "curvature", "line"),
    [
        # 3 measurements of 4.5 gradients of 64 examples, beside 100 updates
        ("64", DIRECTIONAL, "3 measurements in a trial, expected to take 14% of"),
        (SIZES, DIRECTIONAL, "3 measurements in a trial, expected to take 14% to 27% of"),
        # 101 measurements, 11 of them cold: 4,043.8 gradients of 1,024 examples
        (SIZES, "{every: 1}", "101 measurements in a trial, expected to take 647 to 1294 times"),
        (
            "64",
            "{at: [0], examples: 1, measures: [directional]}",
            "1 measurement in a trial, expected to take 0.07% of",
        ),
    ],
)
def test_check_says_before_what_measuring_is_expected_to_cost(
    batch_size: str, curvature: str, line: str, tunectl: Call, tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        TEXT.replace("{every: 40}", curvature).replace("optimizer: sgd", f"optimizer: sgd\n  batch_size: {batch_size}")
    )
    called = tunectl("check", file)
    assert called.code == 0, called.err
    printed = re.sub(r"\s+", " ", called.out)
    assert f"curvature: {line} the time of its training" in printed
    found = json.loads(tunectl("check", file, "--json").out)["curvature"]
    assert set(found) == {"measurements", "share"}


def test_check_says_nothing_of_a_cost_where_nothing_is_measured(tunectl: Call, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(TEXT.replace(", curvature: {every: 40}", ""))
    assert "curvature" not in tunectl("check", file).out
    assert tunectl("check", file, "--json").json()["curvature"] is None


def test_plan_and_status_read_a_study_with_curvature(folder: StudyFolder, tunectl: Call, tmp_path: Path) -> None:
    assert tunectl("plan", tmp_path / "study.yaml").code == 0
    assert tunectl("status", folder.path, "--json").json()["states"]["completed"] == 6
