"""A further kind of measurements goes from the trial to index, tables, exports and page by one record."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from builders import study_text
from made_up_folders import made_up_folder

from tunectl.commands.export import export_study
from tunectl.commands.report import report_study
from tunectl.core import jsontext
from tunectl.core.folders import StudyFolder
from tunectl.core.measurement_kinds import MEASUREMENT_KINDS, MeasuredMetric, MeasurementKind, is_no_evaluation
from tunectl.exchange.exported_study import ExportedTrial
from tunectl.language.study_reader import parse_study
from tunectl.session.outcome_index import refresh_index
from tunectl.session.study_evidence import ObjectiveChoice
from tunectl.session.written_tables import write_tables
from tunectl.store.index import Index
from tunectl.store.plan_file import read_plan
from tunectl.store.trial_files import read_trial

BENDING = MeasurementKind(
    "bending",
    (MeasuredMetric("sharpness", "largest bend (1/learning rate)"),),
    heading="Bends",
    text="How the made-up surface bends.",
)
LASTING = MeasurementKind("lasting", (MeasuredMetric("height", "height"),), counts_later=True)
EARLY = MeasurementKind(
    "early", (MeasuredMetric("slope", "slope of the made-up surface"),), heading="Before", before_training=True
)
TEXT = study_text({"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}, search="{trials: 3}")
STEPS = (0, 25, 50, 100)
LASTING_STEPS = (0, 30, 60)
"""None of them but 0 has an evaluation; the best one is at step 50."""
ITERATIONS = (0, 50, 400)
"""No steps of training, though two of them are numbers that evaluations have."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """A finished study whose trials also measured the made-up kinds, at steps with and without an evaluation."""
    monkeypatch.setitem(MEASUREMENT_KINDS, BENDING.name, BENDING)
    monkeypatch.setitem(MEASUREMENT_KINDS, LASTING.name, LASTING)
    monkeypatch.setitem(MEASUREMENT_KINDS, EARLY.name, EARLY)
    place = made_up_folder(tmp_path / "study", TEXT, lambda plan: 0.5 - plan.trial / 20)
    spec = parse_study(TEXT, tmp_path / "study_file.yaml")
    trials = read_plan(place.plan)
    for plan in trials:
        with open(place.trial(plan.trial).measurements, "a") as file:
            lines = [
                *(BENDING.measurement(step, {"sharpness": 1000.0 * plan.trial + step}, step / 10) for step in STEPS),
                *(LASTING.measurement(step, {"height": 10.0 * plan.trial + step}, step / 10) for step in LASTING_STEPS),
                *(EARLY.measurement(step, {"slope": 7.0 + step}, step / 10) for step in ITERATIONS),
            ]
            file.write("".join(jsontext.encode(line.to_json()) + "\n" for line in lines))
    with Index.open_for_writing(place.index) as index:
        refresh_index(place, trials, spec.objective, index, lambda _line: None)
        write_tables(place, spec, list(index.outcomes()), index)
    return place


def test_it_is_in_the_index_and_in_the_tables_at_the_best_step_too(folder: StudyFolder) -> None:
    with Index.open_for_writing(folder.index) as index:
        stored = [item for _, item in index.measurements(1) if item.measurement_kind == "bending"]
    assert [(item.step, item.metrics) for item in stored] == [
        (step, {"bending/sharpness": 1000.0 + step}) for step in STEPS
    ]
    measured = pd.read_parquet(folder.tables / "measurements.parquet").query("kind == 'bending'")
    assert list(measured["bending/sharpness"]) == [1000.0 * trial + step for trial in range(3) for step in STEPS]
    assert measured["valid/error_rate"].isna().all()
    trials = pd.read_csv(folder.tables / "trials.csv")
    assert list(trials["best_step"]) == [50, 50, 50], "evaluations alone choose the step"
    assert list(trials["final_step"]) == [100, 100, 100]
    assert list(trials["bending/sharpness"]) == [50.0, 1050.0, 2050.0]


def test_a_kind_that_counts_for_later_steps_is_in_the_tables_by_its_last_measurement_until_the_best_step(
    folder: StudyFolder,
) -> None:
    trials = pd.read_csv(folder.tables / "trials.csv")
    assert list(trials["lasting/height"]) == [30.0, 40.0, 50.0]
    assert list(trials["lasting/step"]) == [30, 30, 30]
    assert "bending/step" not in trials, "the step of the others is the best step"
    assert list(pd.read_parquet(folder.tables / "trials.parquet")["lasting/height"]) == [30.0, 40.0, 50.0]
    measured = pd.read_parquet(folder.tables / "measurements.parquet").query("kind == 'lasting'")
    assert list(measured["step"]) == list(LASTING_STEPS) * 3
    assert list(measured["lasting/height"]) == [10.0 * trial + step for trial in range(3) for step in LASTING_STEPS]


def test_the_iterations_of_a_kind_before_training_are_never_taken_for_steps(folder: StudyFolder) -> None:
    trials = pd.read_csv(folder.tables / "trials.csv")
    assert list(trials["early/slope"]) == [407.0] * 3, "the last one counts for every step"
    assert list(trials["early/step"]) == [400] * 3
    assert list(trials["best_step"]) == [50] * 3
    assert list(trials["final_step"]) == [100] * 3
    with Index.open_for_writing(folder.index) as index:
        outcome = next(iter(index.outcomes()))
    trial = ExportedTrial(outcome, read_trial(folder.trial(0)).measurements)
    assert {item.measurement_kind for item in trial.curve()} == {"evaluation", "bending", "lasting"}
    assert trial.reached()["best/early/slope"] == 407.0
    page = report_study(folder.path, ObjectiveChoice(), draw=False).page.read_text()
    assert "slope of the made-up surface before training" in page
    assert "iteration before training" in page
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert "early/slope" not in [name for trial in data["trials"] for name, *_ in trial["curves"]]
    assert "valid/error_rate" in [name for trial in data["trials"] for name, *_ in trial["curves"]]


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (EARLY, {0: {"early/a": 2.0, "early/step": 20}, 99: {"early/a": 2.0, "early/step": 20}}),
        (BENDING, {9: {}, 10: {"bending/a": 1.0}, 11: {}, 20: {"bending/a": 2.0}}),
        (
            LASTING,
            {
                9: {},
                10: {"lasting/a": 1.0, "lasting/step": 10},
                19: {"lasting/a": 1.0, "lasting/step": 10},
                99: {"lasting/a": 2.0, "lasting/step": 20},
            },
        ),
    ],
)
def test_what_counts_for_a_step_is_in_the_record_of_the_kind(
    kind: MeasurementKind, found: dict[int, dict[str, float]]
) -> None:
    lines = [kind.measurement(step, {"a": value}, 0.0) for step, value in ((20, 2.0), (10, 1.0))]
    lines += [other.measurement(9, {"b": 0.0}, 0.0) for other in (BENDING, LASTING, EARLY) if other is not kind]
    assert {step: kind.counting_at(step, lines) for step in found} == found


def test_only_names_of_other_kinds_are_no_evaluations() -> None:
    assert is_no_evaluation("curvature/lambda_1")
    assert is_no_evaluation("curvature/step")
    assert is_no_evaluation("throughput/examples_per_second")
    assert is_no_evaluation("initialisation/gradient_quotient")
    for name in ("valid/loss", "throughput/step", "curvature/other", "curvature", "evaluation/step"):
        assert not is_no_evaluation(name)


def test_it_is_in_the_exports(folder: StudyFolder, tmp_path: Path) -> None:
    place = export_study(folder.path, "csv", str(tmp_path / "out")).place
    with open(place / "measurements.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "bending"]
    assert len(rows) == 3 * len(STEPS)
    assert rows[1]["bending/sharpness"] == "25.0"
    with Index.open_for_writing(folder.index) as index:
        outcome = next(item for item in index.outcomes() if item.plan.trial == 2)
    trial = ExportedTrial(outcome, read_trial(folder.trial(2)).measurements)
    points = {
        item.step: item.metrics["bending/sharpness"] for item in trial.curve() if item.measurement_kind == "bending"
    }
    assert points == {step: 2000.0 + step for step in STEPS}, "what TensorBoard, MLflow and W&B get"
    assert trial.reached()["best/bending/sharpness"] == 2050.0
    assert (trial.reached()["best/lasting/height"], trial.reached()["best/lasting/step"]) == (50.0, 30.0)
    assert trial.reached()["best/valid/error_rate"] == outcome.best_value


def test_the_page_draws_it_in_a_section_of_its_own_and_in_the_trials_that_open(folder: StudyFolder) -> None:
    report = report_study(folder.path, ObjectiveChoice(), draw=False)
    page = report.page.read_text()
    assert "Bends</h2>" in page
    assert "How the made-up surface bends." in page
    assert "largest bend (1/learning rate) during training" in page
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    curves = [{name: values for name, _, values in trial["curves"]} for trial in data["trials"]]
    assert sorted(item["bending/sharpness"][0] for item in curves) == [0, 1000, 2000]


def test_a_kind_that_this_version_does_not_know_is_kept_and_not_drawn(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(MEASUREMENT_KINDS, BENDING.name)
    page = report_study(folder.path, ObjectiveChoice(), draw=False).page.read_text()
    assert "Bends" not in page
    assert (pd.read_parquet(folder.tables / "measurements.parquet")["kind"] == "bending").sum() == 3 * len(STEPS)
