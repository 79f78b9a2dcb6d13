"""A study opened from Python: data frames as in the Parquet files, plain objects, plots, models; read alone.

Tests tunectl/api/ without running.py (frames.py and loading.py, too), session/present_report.py,
session/written_tables.py and report/single_plot.py.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pandas as pd
import pytest
from builders import study_text
from made_up_folders import made_up_folder, write_trial

import tunectl
from tunectl.api.results import Answer, Finding, Trial
from tunectl.commands.query import query_study
from tunectl.commands.report import report_study
from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import Measurement
from tunectl.core.records import TrialOutcome
from tunectl.execution.runner_lock import acquire
from tunectl.session.study_evidence import ObjectiveChoice
from tunectl.store.index import Index
from tunectl.store.plan_file import append_plan, read_plan

TWO_SETTINGS = {
    "optimizer": "{role: scientific, values: [sgd, adam]}",
    "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
}
README = (Path(__file__).parents[2] / "README.md").read_text()


def written(folder: StudyFolder) -> None:
    report_study(folder.path, ObjectiveChoice(), draw=False)


def assert_as_the_files(folder: StudyFolder) -> None:
    written(folder)
    study = tunectl.open_study(folder.path)
    for name in ("trials", "settings", "measurements"):
        file = folder.tables / f"{name}.parquet"
        pd.testing.assert_frame_equal(getattr(study, name)(), pd.read_parquet(file), check_exact=True)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Eight trials of two settings: the later, the better; trial 7 is infeasible."""
    text = study_text(TWO_SETTINGS, search="{trials: 4}")
    return made_up_folder(tmp_path / "study", text, lambda plan: None if plan.trial == 7 else 0.5 - plan.trial / 20)


def test_data_frames_are_what_pandas_reads_from_the_parquet_files(folder: StudyFolder, trained: StudyFolder) -> None:
    assert_as_the_files(folder)
    assert_as_the_files(StudyFolder(Path(shutil.copytree(trained.path, folder.path.parent / "trained"))))


def test_types_stay_what_they_are_where_values_are_missing(tmp_path: Path) -> None:
    mixed = {
        "learning_rate": "0.1",
        "width": "{role: scientific, values: [8, 16]}",
        "dropout": "{role: nuisance, when: {width: 8}, range: [0.0, 0.5]}",
        "num_layers": "{role: nuisance, when: {width: 8}, values: [1, 2]}",
        "nesterov": "{role: nuisance, when: {width: 8}, values: [true, false]}",
    }
    text = study_text(mixed, workload="./not_there.py:factory", search="{trials: 2}")
    folder = made_up_folder(tmp_path / "study", text, lambda plan: 0.5)
    trials = tunectl.open_study(folder.path).trials()
    types = {name: str(trials[name].dtype) for name in ("width", "dropout", "num_layers", "nesterov", "reason", "seed")}
    assert types == {
        "width": "Int64",
        "dropout": "float64",
        "num_layers": "Int64",
        "nesterov": "boolean",
        "reason": "string",
        "seed": "Int64",
    }
    assert trials["nesterov"].isna().tolist() == [False, True, False, True]
    assert_as_the_files(folder)


def test_before_any_trial_has_ended_the_frames_have_their_columns_and_there_is_no_best_trial(tmp_path: Path) -> None:
    text = study_text(TWO_SETTINGS, search="{trials: 4}")
    folder = made_up_folder(tmp_path / "study", text, lambda plan: 0.5)
    for trial in range(8):
        shutil.rmtree(folder.trial(trial).path)
    folder.index.unlink()
    study = tunectl.open_study(folder.path)
    trials = study.trials()
    assert trials["state"].tolist() == ["pending"] * 8
    assert (trials["best_value"].isna().all(), str(trials["best_step"].dtype)) == (True, "Int64")
    assert study.measurements().columns.tolist()[:3] == ["trial", "step", "kind"]
    assert (len(study.measurements()), len(study.steps(0))) == (0, 0)
    for asked, which in ((None, ""), (1, "setting 1: ")):
        with pytest.raises(tunectl.TunectlError, match=f"study: {which}no trial completed with a value of valid/error"):
            study.best(asked)
    assert study.settings()["best_trial"].isna().all()
    assert isinstance(study.findings(), tuple)
    with pytest.raises(tunectl.TunectlError, match="no kept checkpoint"):
        study.load(0)
    with pytest.raises(tunectl.TunectlError, match="no trial completed with a value of valid/error_rate"):
        study.load()


def test_the_best_trial_is_that_of_the_study_or_of_a_setting(folder: StudyFolder) -> None:
    study = tunectl.open_study(folder.path)
    best = study.best()
    assert_type(best, Trial)
    assert (best.trial, best.setting, best.value, best.step) == (6, 0, 0.5 - 6 / 20, 50)
    assert best.checkpoint == folder.trial(6).checkpoint(50)
    assert best == study.trial(6)
    for asked in (1, np.int64(1), {"optimizer": "adam"}):
        of_setting = study.best(asked)
        assert (of_setting.trial, of_setting.hyperparameters["optimizer"]) == (5, "adam")
    with pytest.raises(FrozenInstanceError):
        best.value = 0.0  # type: ignore[misc]


@pytest.mark.parametrize("asked", [2, -1, True, "adam", {"optimizer": "lion"}, {"learning_rate": 0.1}])
def test_a_setting_that_there_is_not_is_refused_with_those_that_there_are(folder: StudyFolder, asked: Any) -> None:
    with pytest.raises(tunectl.TunectlError, match=r"the settings are: 0: optimizer=sgd; 1: optimizer=adam$"):
        tunectl.open_study(folder.path).best(asked)


@pytest.mark.parametrize("asked", [8, -1, True, 1.0, "1", None])
def test_a_trial_that_there_is_not_is_refused(folder: StudyFolder, asked: Any) -> None:
    study = tunectl.open_study(folder.path)
    for method in (study.trial, study.steps):
        with pytest.raises(tunectl.TunectlError, match=r"expected a trial from 0 to 7, got"):
            method(asked)


def test_findings_are_those_of_the_report(folder: StudyFolder) -> None:
    written(folder)
    listed = json.loads((folder.path / "findings.json").read_text())["findings"]
    findings = tunectl.open_study(folder.path).findings()
    assert_type(findings, tuple[Finding, ...])
    assert [(item["id"], item["level"], item["sentence"], tuple(item["trials"])) for item in listed] == [
        (item.code, item.severity, item.text, item.trials) for item in findings
    ]
    assert [item["action"] for item in listed] == [item.advice for item in findings]
    changed = next(item for item in listed if item["changes"])
    change = changed["changes"][0]
    path = ".".join(map(str, change["path"]))
    assert next(item for item in findings if item.code == changed["id"]).changes[path] == change["value"]


def test_the_answer_is_that_of_the_report(folder: StudyFolder) -> None:
    written(folder)
    kept = json.loads((folder.path / "findings.json").read_text())["answer"]
    study = tunectl.open_study(folder.path)
    answer = study.answer()
    assert_type(answer, Answer)
    assert [field.name for field in fields(Answer)] == [
        *("sentence", "certainty", "basis", "doubts", "command", "best", "varying")
    ]
    assert {name: kept[name] for name in ("sentence", "certainty", "command")} == {
        "sentence": answer.sentence,
        "certainty": answer.certainty,
        "command": answer.command,
    }
    assert (answer.basis, answer.doubts) == (tuple(kept["basis"]), tuple(kept["doubts"]))
    assert answer.best == study.best()
    assert answer.varying == ("optimizer", "learning_rate")
    with pytest.raises(FrozenInstanceError):
        answer.sentence = ""  # type: ignore[misc]


def test_before_a_trial_has_ended_the_answer_says_so_and_a_procedure_has_a_conclusion(folder: StudyFolder) -> None:
    for trial in range(8):
        shutil.rmtree(folder.trial(trial).path)
    folder.index.unlink()
    study = tunectl.open_study(folder.path)
    said = "So far (0 of 8 trials ended): no trial has ended, so there is no answer yet."
    assert study.answer() == Answer(said, "none", (), (), "", None, ())
    folder.procedure.write_text("{}")
    with pytest.raises(tunectl.TunectlError, match=r"is a procedure's: conclusion\(\) has its verdict"):
        study.answer()


def test_a_study_has_these_names() -> None:
    names = ["answer", "best", "conclusion", "findings", "folder", "goal", "is_running", "load", "measurements", "name"]
    names += ["objective", "plot", "plots", "settings", "steps", "trial", "trials"]
    assert [name for name in dir(tunectl.Study) if not name.startswith("_")] == names


def test_of_stages_the_best_trial_is_one_of_the_judged_stage(tmp_path: Path) -> None:
    text = study_text(TWO_SETTINGS, search="{trials: 2, promote: [{keep: 1, max_train_steps: 4000}]}")
    folder = made_up_folder(tmp_path / "study", text, lambda plan: 0.5 - plan.trial / 20)
    long = [replace(plan, trial=plan.trial + 2, stage=1, training={"max_train_steps": 4000})
            for plan in read_plan(folder.plan)[2:]]  # fmt: skip
    append_plan(folder.plan, long)
    for plan in long:
        write_trial(folder, plan, "valid/error_rate", 0.9 - plan.trial / 20)
    study = tunectl.open_study(folder.path)
    best, of_first = study.best(), study.best(0)
    assert (best.trial, best.stage, of_first.trial, of_first.stage) == (5, 1, 4, 1)
    assert "stage" in study.settings().columns
    assert_as_the_files(folder)


def test_a_study_that_runs_shows_what_its_trials_measured_so_far(folder: StudyFolder) -> None:
    trials = read_plan(folder.plan)
    for number in (5, 6, 7):
        shutil.rmtree(folder.trial(number).path)
    with contextlib.ExitStack() as stack, Index.open_for_writing(folder.index) as index:
        stack.callback(acquire(folder.lock).release)
        for number in (5, 6, 7):
            index.put_outcome(TrialOutcome(trials[number], "pending"))
            index.put_measurements(number, [], replace=True)
        index.set_running(6, slot=0)
        index.put_measurements(6, [Measurement(step, {"valid/error_rate": 1 / (step + 1)}) for step in (0, 50)])
        study = tunectl.open_study(folder.path)
        assert study.is_running
        assert study.trials()["state"].tolist() == ["completed"] * 5 + ["pending", "running", "pending"]
        measured = study.measurements()
        assert measured[measured["trial"] == 6]["step"].tolist() == [0, 50]
        assert (study.best().trial, study.settings()["best_trial"].tolist()) == (4, [4, 3])
        assert study.findings()
        assert query_study(folder.path, "select count(*) from measurements where trial = 6").rows == [(2,)]
    assert not tunectl.open_study(folder.path).is_running


def test_what_a_program_reported_is_there_but_its_updates_and_its_model_are_its_own(tmp_path: Path) -> None:
    command = "{command: [sh, train.sh, '{learning_rate}'], metrics: [{regex: 'step=(?P<step>.) (?P<loss>.)'}]}"
    rate = {"optimizer": None, "learning_rate": "{role: nuisance, range: [1e-3, 1]}"}
    text = study_text(rate, workload=command, objective="{metric: loss, direction: minimize}", search="{trials: 2}")
    folder = made_up_folder(tmp_path / "study", text, lambda plan: 0.5)
    study = tunectl.open_study(folder.path)
    assert len(study.measurements()) == 6
    with pytest.raises(tunectl.TunectlError, match=r"0: is the trial of a command, whose updates are its own"):
        study.steps(0)
    with pytest.raises(tunectl.TunectlError, match=r"only its own code .* checkpoint is .*step-00000050\.pt"):
        study.load()


def test_of_a_procedure_there_is_the_conclusion(tmp_path: Path) -> None:
    text = study_text()
    folder = made_up_folder(tmp_path / "study", text, lambda plan: 0.5)
    assert tunectl.open_study(folder.path).conclusion() is None
    folder.procedure.write_text(json.dumps({"procedure": "lr-sweep", "values": {}}))
    folder.conclusion.write_text(json.dumps({"best_learning_rate": 0.1, "verdict": "It is 0.1."}))
    study = tunectl.open_study(folder.path)
    assert study.conclusion() == {"best_learning_rate": 0.1, "verdict": "It is 0.1."}
    assert len(study.trials()) == 1
    folder.conclusion.write_text("{")
    with (
        pytest.warns(UserWarning, match="conclusion.json: is damaged"),
        pytest.raises(tunectl.TunectlError, match=r"conclusion.json: cannot be read"),
    ):
        study.conclusion()


def test_damage_is_a_python_warning_at_the_line_of_the_caller(folder: StudyFolder) -> None:
    file = folder.trial(1).measurements
    file.write_text(file.read_text().replace("0.45", "0.44"))
    result = folder.trial(2).result
    result.write_text(result.read_text()[:-3])
    with pytest.warns(UserWarning, match="result.json") as caught:
        trials = tunectl.open_study(folder.path).trials()
    assert {Path(item.filename) for item in caught} == {Path(__file__)}
    assert not any(str(item.message).startswith("warning") for item in caught)
    assert "result.json" in trials["message"][2]


def test_a_folder_that_is_none_is_refused_as_by_a_command(tmp_path: Path) -> None:
    with pytest.raises(tunectl.TunectlError, match="is not a study folder"):
        tunectl.open_study(tmp_path)


def test_nothing_is_written_and_the_current_folder_may_change(
    trained: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()}
    monkeypatch.chdir(trained.path.parent)
    study = tunectl.open_study(trained.path.name)
    monkeypatch.chdir(tmp_path)
    for ask in (study.trials, study.settings, study.measurements, study.findings, study.plots, study.conclusion):
        ask()
    study.steps(1)
    study.plot("learning_rate")
    assert study.folder == trained.path
    assert {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()} == before


def test_the_updates_of_a_trial_are_a_frame(trained: StudyFolder) -> None:
    study = tunectl.open_study(trained.path)
    steps = study.steps(3)
    assert steps["update"].tolist() == list(range(20))
    assert {name: str(kind) for name, kind in steps.dtypes.items()} == {
        "update": "Int64",
        **dict.fromkeys(("loss", "gradient_norm", "learning_rate"), "float64"),
        **dict.fromkeys(("clipped", "skipped"), "boolean"),
    }
    line = json.loads(trained.trial(3).steps.read_text().splitlines()[0])
    assert steps["loss"].tolist()[: len(line["loss"])] == line["loss"]
    assert set(steps["learning_rate"]) == {study.trial(3).hyperparameters["learning_rate"]}


def test_the_model_of_a_trial_measures_again_what_the_trial_measured(trained: StudyFolder) -> None:
    study = tunectl.open_study(trained.path)
    best = study.best()
    loaded = study.load()
    assert loaded.evaluate("valid") == {name: best.metrics[name] for name in ("valid/loss", "valid/error_rate")}
    assert not loaded.model.training
    assert loaded.model is loaded.workload.model
    with pytest.raises(tunectl.TunectlError, match="train-final"):
        loaded.evaluate("test")
    with pytest.raises(tunectl.TunectlError, match=r"device 'gpu': "):
        study.load(1, device="gpu")
    other = study.load(1).evaluate("valid")
    assert other["valid/error_rate"] == study.trial(1).value


def test_a_checkpoint_that_is_damaged_or_does_not_fit_is_refused_by_name(trained: StudyFolder, tmp_path: Path) -> None:
    copied = StudyFolder(Path(shutil.copytree(trained.path, tmp_path / "study")))
    checkpoint = tunectl.open_study(copied.path).trial(1).checkpoint
    assert checkpoint is not None
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100] + b"x" * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(tunectl.TunectlError, match=rf"{re.escape(checkpoint.name)} is damaged"):
            tunectl.open_study(copied.path).load(1)


def test_plots_are_asked_for_by_hyperparameter_metric_or_name(trained: StudyFolder, tmp_path: Path) -> None:
    study = tunectl.open_study(trained.path)
    both = study.plot("learning_rate").to_dict()
    assert both["title"]["text"][0].startswith("learning_rate"), "those of all optimizers on one axis"
    assert study.plot("axis-learning_rate-optimizer-adam").to_dict() != both
    assert study.plot("valid/error_rate").to_dict()["title"]["text"][0].startswith("valid/error_rate during training")
    names = study.plots()
    assert {"axis-optimizer", "best-step", "curves-valid-error_rate"} <= {*names}
    assert all(study.plot(name).to_dict()["layer"] for name in names)
    with pytest.raises(tunectl.TunectlError, match="did you mean learning_rate"):
        study.plot("lerning_rate")


def test_a_plot_is_shown_by_a_notebook_and_saved_as_a_picture(trained: StudyFolder, tmp_path: Path) -> None:
    plot = tunectl.open_study(trained.path).plot("optimizer")
    bundle = plot._repr_mimebundle_()
    assert [*bundle] == [
        "application/vnd.vegalite.v6.json",
        "application/vnd.vegalite.v5.json",
        "text/html",
        "text/plain",
    ]
    assert bundle["text/html"].startswith('<img src="data:image/svg+xml;base64,')
    assert [*plot._repr_mimebundle_(include={"text/plain"})] == ["text/plain"]
    for end, begin in ((".svg", b"<svg"), (".png", b"\x89PNG"), (".json", b"{")):
        plot.save(tmp_path / f"plot{end}")
        assert (tmp_path / f"plot{end}").read_bytes().startswith(begin)
    with pytest.raises(tunectl.TunectlError, match=r"expected the end \.svg, \.png or \.json, got '\.pdf'"):
        plot.save(tmp_path / "plot.pdf")


def test_the_ten_lines_of_the_readme_run(
    trained: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = re.compile(r"^```python\n(import tunectl\n\nstudy = tunectl\.open_study.*?)^```", re.MULTILINE | re.DOTALL)
    (lines,) = block.findall(README)
    assert len(lines.strip().splitlines()) <= 12
    shutil.copytree(trained.path, tmp_path / "runs" / "optimizer-comparison")
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    assert (tmp_path / "learning_rate.svg").is_file()
    assert "'valid/error_rate'" in capsys.readouterr().out


def test_import_loads_nothing_and_opening_a_study_neither_torch_nor_pandas(folder: StudyFolder) -> None:
    program = (
        "import sys, tunectl\n"
        "print([name for name in sys.modules if name.startswith('tunectl.')])\n"
        "from tunectl import run\n"
        f"print(tunectl.open_study({str(folder.path)!r}).best().trial)\n"
        "print([name for name in ('torch', 'pandas', 'sklearn') if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["[]", "6", "[]"]
