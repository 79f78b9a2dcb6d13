"""Studies that count the steps to a target, from the study file to every command that shows a trial's number.

Tests session/study_evidence.py, session/written_report.py, commands/compare.py, commands/sweep.py and cli/ under
`objective.steps_to`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder
from watchers import Silent

from tunectl.cli.compare import compare
from tunectl.cli.ls import ls
from tunectl.cli.report import _print
from tunectl.cli.status import status
from tunectl.commands.compare import compare_studies
from tunectl.commands.ls import tracked_studies
from tunectl.commands.report import report_study
from tunectl.commands.retrain import RetrainRequest, retrain_study
from tunectl.commands.status import study_status
from tunectl.commands.sweep import _run, _say_judge
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial
from tunectl.execution.backends.local import LocalBackend
from tunectl.language.study_reader import parse_study
from tunectl.procedures.lr_options import LrSweepOptions
from tunectl.procedures.lr_sweep import LR_SWEEP
from tunectl.procedures.range_test import RANGE_TEST
from tunectl.session.open_study import open_study
from tunectl.session.procedure_request import ProcedureRequest, sweep_spec
from tunectl.session.snapshot import study_snapshot
from tunectl.session.study_evidence import ObjectiveChoice
from tunectl.session.training_trials import RunOptions
from tunectl.space.trial_plan import plan_trials

TEXT = study_text(
    {
        "optimizer": "{role: scientific, values: [sgd, adam]}",
        "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
    },
    objective="{metric: valid/error_rate, direction: minimize, steps_to: 0.3}",
    training="{max_train_steps: 100, eval_every: 50}",
    search="{trials: 4}",
)
PLAIN = TEXT.replace(", steps_to: 0.3", "")


def error(plan: PlannedTrial) -> float | None:
    """The error at step 50, a tenth more at step 100: 0.5, 0.45, ... to 0.2 of trial 6; trial 7 is infeasible."""
    return None if plan.trial == 7 else 0.5 - plan.trial / 20


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return made_up_folder(tmp_path / "runs" / "study", TEXT, error)


def trials_in(path: Path) -> dict[str, dict[str, str]]:
    return {row["trial"]: row for row in csv.DictReader(path.read_text().splitlines())}


def test_the_tables_have_the_steps_the_checkpoint_of_that_step_and_nothing_where_it_was_never_reached(folder):
    found = report_study(folder.path, ObjectiveChoice(), draw=False)
    rows = trials_in(folder.tables / "trials.csv")
    reached = {trial for trial, row in rows.items() if row["best_value"]}
    assert reached == {"4", "5", "6"}, "0.3, 0.25 and 0.2"
    assert (rows["4"]["best_value"], rows["4"]["best_step"]) == ("50.0", "50")
    assert rows["4"]["best_checkpoint"] == "trials/00004/checkpoints/step-00000050.pt"
    assert float(rows["4"]["valid/error_rate"]) == pytest.approx(0.3)
    assert float(rows["4"]["final_value"]) == pytest.approx(0.33)
    assert (rows["0"]["state"], rows["0"]["best_step"], rows["0"]["best_checkpoint"]) == ("completed", "", "")
    assert rows["7"]["state"] == "infeasible"
    assert [item.best_value for item in found.settings] == [50.0, 50.0]
    listed = json.loads((folder.path / "findings.json").read_text())
    assert listed["objective"]["steps_to"] == 0.3
    page = found.page.read_text()
    assert "steps to valid/error_rate ≤ 0.3, fewer is better (evaluated every 50 steps)" in page
    assert "reached by 3 of 7 completed trials" in page


def test_every_command_says_that_its_number_is_one_of_steps(folder, capsys):
    def printed(show: Callable[[], object]) -> str:
        show()
        return str(capsys.readouterr().out)

    runs = folder.path.parent
    assert "best so far: 50 steps to valid/error_rate ≤ 0.3 (trial 4, step 50)" in printed(lambda: status(folder.path))
    assert "50 steps to valid/error_rate ≤ 0.3 (trial 4, step 50)" in printed(lambda: ls(runs, long=True))
    assert "steps to valid/error_rate ≤ 0.3" in printed(lambda: ls(runs))
    found = report_study(folder.path, ObjectiveChoice(), draw=False)
    title = "settings by steps to valid/error_rate ≤ 0.3, fewer is better (evaluated every 50 steps)"
    assert title in printed(lambda: _print(found))
    assert study_status(folder.path).to_json()["objective"]["steps_to"] == 0.3
    (row,) = tracked_studies(runs)
    assert (row.metric, row.direction, row.steps_to, row.best_value) == ("valid/error_rate", "minimize", 0.3, 50.0)


def test_a_report_asks_for_a_target_later_in_files_of_its_own(tmp_path):
    folder = made_up_folder(tmp_path / "study", PLAIN, error)
    own = report_study(folder.path, ObjectiveChoice(), draw=False)
    found = report_study(folder.path, ObjectiveChoice(steps_to=0.25), draw=False)
    assert found.objective == Objective("valid/error_rate", "minimize", "best", 0.25)
    assert found.page.name == "report.valid-error_rate.steps-to-0.25.html"
    assert not {*own.paths} & {*found.paths}
    rows = trials_in(folder.tables / "trials.valid-error_rate.steps-to-0.25.csv")
    assert {trial for trial, row in rows.items() if row["best_value"]} == {"5", "6"}
    loss = report_study(folder.path, ObjectiveChoice("train/loss", "maximize", steps_to=0.27), draw=False)
    # train/loss is half of the error: 0.25, 0.225, ... at step 50, and 0.275, 0.2475, ... at step 100.
    assert [item.best_value for item in loss.settings] == [100.0, None]
    with pytest.raises(UsageError, match="cannot be combined with --checkpoint final"):
        report_study(folder.path, ObjectiveChoice(checkpoint="final", steps_to=0.25), draw=False)
    with pytest.raises(UsageError, match="--steps-to nan: expected a finite number"):
        report_study(folder.path, ObjectiveChoice(steps_to=float("nan")), draw=False)


def test_a_target_goes_with_its_metric_and_a_checkpoint_asks_for_values_of_it(folder):
    def objective(choice: ObjectiveChoice) -> Objective:
        return report_study(folder.path, choice, draw=False).objective

    assert objective(ObjectiveChoice()).steps_to == 0.3
    assert objective(ObjectiveChoice(steps_to=0.2)).steps_to == 0.2
    assert objective(ObjectiveChoice("train/loss", "minimize")) == Objective("train/loss", "minimize")
    assert objective(ObjectiveChoice(checkpoint="best")) == Objective("valid/error_rate", "minimize")
    assert objective(ObjectiveChoice(checkpoint="final")) == Objective("valid/error_rate", "minimize", "final")


def test_a_study_that_counts_by_its_last_evaluation_may_be_asked_for_a_target(tmp_path):
    text = PLAIN.replace("minimize}", "minimize, checkpoint: final}")
    folder = made_up_folder(tmp_path / "study", text, error)
    found = report_study(folder.path, ObjectiveChoice(steps_to=0.25), draw=False)
    assert found.objective == Objective("valid/error_rate", "minimize", "best", 0.25)


def with_retrains(place: Path, text: str, again: dict[int, list[float]]) -> StudyFolder:
    """A study with retrains of some trials that have these errors at step 50."""
    plans = plan_trials(parse_study(text, Path("study.yaml")))
    more = tuple(
        replace(plans[trial], trial=100 * trial + repeat, repeat=repeat, trial_kind="retrain", seed=repeat)
        for trial, values in again.items()
        for repeat in range(1, len(values) + 1)
    )
    more = tuple(replace(plan, trial=len(plans) + at) for at, plan in enumerate(more))
    known = dict(zip([plan.trial for plan in more], [v for own in again.values() for v in own], strict=True))
    return made_up_folder(place, text, lambda plan: known.get(plan.trial, error(plan)), more=more)


def test_retrains_that_never_reached_it_are_counted_and_the_verdict_is_by_ranks(tmp_path, capsys):
    folder = with_retrains(tmp_path / "s", TEXT, {4: [0.35, 0.36, 0.4], 5: [0.2, 0.25, 0.3]})
    found = compare_studies(str(folder.path), None)
    # All three of the new one reached it at step 50, none of the old one did: 1 of 20 arrangements.
    assert (found.old.trial, found.new.trial, found.comparison.verdict) == (4, 5, "adopt")
    assert found.comparison.p_better == pytest.approx(1 / 20)
    assert found.comparison.improvement is None
    assert found.to_json()["old"]["retrains"] == [None, None, None]
    assert found.to_json()["old"]["not_reached"] == 3
    compare(str(folder.path))
    text = " ".join(capsys.readouterr().out.split())
    assert "steps to valid/error_rate ≤ 0.3, fewer is better" in text
    assert "3 of 3 retrains of s (optimizer=sgd) did not reach valid/error_rate ≤ 0.3 within 100 steps" in text
    report_study(folder.path, ObjectiveChoice(), draw=False)
    rows = trials_in(folder.tables / "retrains.csv")
    assert (rows["4"]["not_reached"], rows["4"]["mean"], rows["4"]["lost"]) == ("3", "", "0")
    assert (rows["5"]["not_reached"], rows["5"]["mean"]) == ("0", "50.0")


def test_studies_with_other_targets_are_not_compared_and_other_resolutions_are_said(tmp_path):
    again = {4: [0.2, 0.25, 0.3]}
    first = with_retrains(tmp_path / "first", TEXT, again)
    other = with_retrains(tmp_path / "other", TEXT.replace("0.3}", "0.25}"), again)
    with pytest.raises(UsageError, match=r"steps to valid/error_rate ≤ 0\.3 \(minimize\), .* ≤ 0\.25 \(minimize\)"):
        compare_studies(f"{first.path}:0", f"{other.path}:0")
    finer = with_retrains(tmp_path / "finer", TEXT.replace("eval_every: 50", "eval_every: 25"), again)
    (note,) = compare_studies(f"{first.path}:0", f"{finer.path}:0").notes
    assert "is evaluated every 50 steps, finer (optimizer=sgd) every 25" in note


def test_where_no_trial_reached_it_nothing_is_the_best_and_nothing_is_retrained(tmp_path, capsys):
    folder = made_up_folder(tmp_path / "none", TEXT.replace("0.3}", "0.01}"), error)
    status(folder.path)
    assert "best so far: no completed trial reached valid/error_rate ≤ 0.01" in capsys.readouterr().out
    report = report_study(folder.path, ObjectiveChoice(), draw=False)
    assert [item.best_trial for item in report.settings] == [None, None]
    (warning,) = [item for item in report.findings if item.id == "target-not-reached"]
    assert warning.level == "warning"
    with pytest.raises(UsageError, match=r"no completed trial reached valid/error_rate ≤ 0\.01"):
        compare_studies(str(folder.path), None)
    with pytest.raises(UsageError, match="no completed trial reached"):
        retrain_study(folder.path, RetrainRequest(1, 1), None, RunOptions(), Silent(), LocalBackend())


def test_a_run_keeps_the_checkpoint_of_the_evaluation_that_reached_it(write_study, tunectl, tmp_path):
    text = write_study(trials=1).read_text().replace("direction: minimize", "direction: minimize, steps_to: 2.2")
    study = tmp_path / "target.yaml"
    study.write_text(text.replace("keep_checkpoints: 2", "keep_checkpoints: 1"))
    called = tunectl("run", study, "--dir", tmp_path / "run")
    assert called.code == 0, called.err
    (row,) = trials_in(tmp_path / "run" / "tables" / "trials.csv").values()
    lines = (tmp_path / "run" / "trials" / "00000" / "measurements.jsonl").read_text().splitlines()
    measured = {line["step"]: line["metrics"]["valid/distance"] for line in map(json.loads, lines)}
    reached = min(step for step, value in measured.items() if step > 0 and value <= 2.2)
    assert reached < max(measured), "better evaluations follow"
    assert float(row["best_value"]) == reached
    (kept,) = (tmp_path / "run" / "trials" / "00000" / "checkpoints").glob("step-*.pt")
    assert kept == tmp_path / "run" / row["best_checkpoint"]
    assert f"valid/distance ≤ 2.2 at step {reached}" in called.messages


def test_sweeps_judge_by_the_metric_since_steps_to_a_target_have_no_mean_where_seeds_miss_it(folder):
    with study_snapshot(folder.path) as study:
        spec, outcomes = study.spec, study.outcomes
    runs = [_run(folder.trial(item.plan.trial), item, spec) for item in outcomes]
    assert [(run.best_value, run.best_step) for run in runs[:5:4]] == [(0.5, 50), (0.3, 50)]
    sweep = sweep_spec(LR_SWEEP, spec, ProcedureRequest(LrSweepOptions(), {"optimizer": "sgd"}))
    assert (sweep.objective, sweep.target) == (spec.objective.by_metric, 0.3)
    watcher = Silent()
    _say_judge(LR_SWEEP, spec, watcher)
    _say_judge(RANGE_TEST, spec, watcher)
    (said,) = watcher.messages
    assert said == "lr-sweep: judges by the best valid/error_rate, not by the steps to valid/error_rate ≤ 0.3"


def test_a_target_that_is_added_to_a_finished_study_is_refused_with_the_command_that_asks_for_it(tmp_path):
    folder = made_up_folder(tmp_path / "study", PLAIN, error, file=tmp_path / "study.yaml")
    spec = parse_study(TEXT, tmp_path / "study.yaml")
    with (
        pytest.raises(FolderError, match=r"steps_to: was not there, is 0\.3\n(.|\n)*with --objective or --steps-to"),
        open_study(spec, folder.path, Silent()),
    ):
        pass
