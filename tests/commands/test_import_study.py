"""`import`: a study folder made of a foreign study, on which the other commands work.

Tests exchange/imported_study.py and foreign_study.py, too.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from narrowing import of_type, present

from tunectl.analysis.results.outcomes import best_outcome
from tunectl.analysis.results.runs import curves_of
from tunectl.cli.main import main
from tunectl.commands import import_study as importing
from tunectl.commands.import_study import import_study
from tunectl.commands.ls import tracked_studies
from tunectl.commands.next_round import next_round
from tunectl.commands.report import report_study
from tunectl.core.errors import FolderError, StudyError, UsageError
from tunectl.core.installation import install_command
from tunectl.exchange.foreign_study import ForeignParameter, ForeignStudy, ForeignTrial
from tunectl.language.study_reader import parse_study
from tunectl.session.checked_study import check_study
from tunectl.session.outcome_index import has_ended
from tunectl.session.snapshot import study_snapshot
from tunectl.session.study_evidence import ObjectiveChoice, read_evidence
from tunectl.space.domains import Range
from tunectl.store.trial_files import read_trial

NOW = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
RATE = ForeignParameter("lr", 1e-4, 1e-1, log=True)
KIND = ForeignParameter("optimizer", choices=("sgd", "adam"))
MOMENTUM = ForeignParameter("momentum", 0.0, 0.99)


def searched(**changes):
    """Twelve trials of five evaluations, the best at the high end of the rate; 3 was pruned, 5 failed."""
    trials = []
    for number in range(12):
        rate = 10 ** (-4 + 3 * (number + 0.5) / 12)
        params = {"lr": rate, "optimizer": ("sgd", "adam")[number % 2]} | (
            {} if number % 2 else {"momentum": number / 20}
        )
        curve = {step: (1.5 - number / 12) / (step + 1) for step in range(5)}
        trials.append(ForeignTrial(number, "complete", params, curve[4], curve, seconds=2.0))
    trials[3] = ForeignTrial(3, "pruned", trials[3].params, 0.001, {0: 1.25, 1: 0.001})
    trials[5] = ForeignTrial(5, "failed", {"lr": 0.01}, message="Boom\nat line 3")
    values: dict[str, Any] = {
        "parameters": [RATE, KIND, MOMENTUM],
        "trials": trials,
        "metric": "",
        "direction": "minimize",
    }
    return ForeignStudy(**({"name": "my study", "source": "theirs.db"} | values | changes))


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Import a foreign study; gives what was made and its folder."""

    def call(study, place="in", command=("tunectl", "import")):
        monkeypatch.setattr(importing, "READERS", {"optuna": lambda _storage, _name: study})
        return import_study("optuna", "theirs.db", None, tmp_path / place, command, NOW)

    return call


def outcomes_in(folder):
    with study_snapshot(folder) as study:
        return study.spec, list(study.outcomes)


def test_numbers_states_and_ids_are_those_of_the_foreign_study(bring):
    study = searched()
    found = bring(study)
    spec, outcomes = outcomes_in(found.folder)
    assert found.states == {"completed": 10, "failed": 2}
    assert spec.objective.checkpoint == "best"
    assert spec.training.max_train_steps == 5
    for item, trial in zip(outcomes, study.trials, strict=True):
        assert (item.plan.trial, item.plan.point) == (trial.number, trial.number)
        assert dict(item.plan.hyperparameters) == dict(trial.params)
        if trial.state == "complete":
            assert (item.best_value, item.best_step, item.train_seconds) == (trial.value, 5, 2.0)
    pruned = outcomes[3]
    assert (pruned.state, pruned.reason, pruned.final_step, pruned.final_value) == ("failed", "pruned", 2, 0.001)
    assert pruned.message == "Optuna pruned trial 3 after step 2"
    assert (outcomes[5].state, outcomes[5].reason, outcomes[5].message) == ("failed", "error", "Boom at line 3")


def test_report_and_next_work_on_it_and_the_next_round_widens_the_crowded_end(bring, tmp_path):
    found = bring(searched())
    report = report_study(found.folder, ObjectiveChoice(), draw=False)
    assert "search-boundary" in {finding.id for finding in report.findings}
    assert report.page.is_file()
    following = present(next_round(found.folder, tmp_path / "second.yaml").path)
    spec = parse_study(following.read_text(), following)
    assert of_type(Range, spec.alternatives("lr")[0].domain).high > present(RATE.high)
    assert spec.alternatives("momentum")[0].when == {"optimizer": ("sgd",)}
    (row,) = tracked_studies(found.folder)
    assert (row.run, row.failed, row.infeasible, row.problem) == (12, 2, 0, "")


@pytest.mark.parametrize("rule", ["best", "final", "apart", "no curves"])
def test_a_pruned_trial_is_never_the_best_nor_asked_by_the_findings_nor_run_again(bring, rule):
    study = searched()
    if rule == "final":
        study = changed(study, 0, curve={0: 0.1, 1: 0.5}, value=0.5)
    if rule == "apart":
        study = changed(study, 0, value=123.0)
    if rule == "no curves":
        for number in range(12):
            study = changed(study, number, curve={})
    folder = bring(study).folder
    with study_snapshot(folder) as there:
        assert not [item for item in there.outcomes if not has_ended(item)]
        curves = {
            item.plan.trial: curves_of(read_trial(there.folder.trial(item.plan.trial)).measurements)
            for item in there.outcomes
        }
        evidence = read_evidence(there.folder, there.spec, there.outcomes, curves, there.spec.objective)
    best = best_outcome(there.outcomes, there.spec.objective)
    assert best is not None
    assert best.plan.trial == 11
    assert {run.plan.trial for run in evidence.runs} - {run.plan.trial for run in evidence.searched} == {3, 5}
    kept = {"apart": {"valid/value_intermediate"}, "no curves": set()}.get(rule, {"valid/value"})
    assert curves[3].keys() == kept
    assert (there.outcomes[3].best_value is None) == (rule in ("apart", "no curves"))


def test_a_retrain_of_it_says_that_the_program_is_not_known(bring, monkeypatch, capsys):
    folder = bring(searched()).folder
    monkeypatch.setattr(sys, "argv", ["tunectl", "retrain", str(folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert (
        "was imported, and has no program that could train its trials again; `tunectl next" in capsys.readouterr().err
    )


def test_a_password_is_kept_nowhere(bring, tmp_path):
    address = "mysql://me:secret@host/db"
    folder = bring(searched(), command=["tunectl", "import", address]).folder
    (run,) = json.loads((folder / "provenance.json").read_text())["runs"]
    assert run["command"] == ["tunectl", "import", "mysql://me:***@host/db"]
    assert not [path for path in folder.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_running_it_is_refused_because_its_program_is_unknown_and_works_once_it_is_named(bring, tmp_path):
    folder = bring(searched()).folder
    with pytest.raises(StudyError, match=r"there is no program '\./name-the-program-that-was-tuned'"):
        check_study(folder / "study.yaml", tmp_path)
    text = (folder / "study.yaml").read_text()
    named = tmp_path / "named.yaml"
    named.write_text(text.replace("[./name-the-program-that-was-tuned", "[true"))
    assert present(check_study(named, tmp_path).spec.program).arguments[0] == "true"


def test_a_folder_is_made_once_and_only_as_a_whole(bring, tmp_path, monkeypatch):
    bring(searched())
    with pytest.raises(FolderError, match="is a study folder already"):
        bring(searched())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FolderError, match="is not empty and is not a study folder"):
        bring(searched(), "mine")
    monkeypatch.setattr(importing, "write_tables", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bring(searched(), "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "mine"]


def changed(study, number, **values):
    trials = list(study.trials)
    old = trials[number]
    fields = {name: getattr(old, name) for name in ForeignTrial.__dataclass_fields__}
    trials[number] = ForeignTrial(**{**fields, **values})
    return ForeignStudy(
        **{**{name: getattr(study, name) for name in ForeignStudy.__dataclass_fields__}, "trials": trials}
    )


def test_an_end_result_that_is_the_last_evaluation_makes_trials_count_by_their_last(bring):
    curve = {0: 0.1, 1: 0.5}
    spec, outcomes = outcomes_in(bring(changed(searched(), 0, curve=curve, value=0.5)).folder)
    assert spec.objective.checkpoint == "final"
    assert (outcomes[0].best_value, outcomes[0].best_step) == (0.5, 2)


def test_an_end_result_of_another_kind_is_a_metric_of_its_own(bring):
    found = bring(changed(searched(), 0, value=123.0))
    _, outcomes = outcomes_in(found.folder)
    assert outcomes[0].best_value == 123.0
    assert outcomes[0].metrics_at_best == {"valid/value": 123.0, "valid/value_intermediate": 0.3}
    assert outcomes[3].best_value is None
    assert any("valid/value_intermediate" in remark for remark in found.remarks)


def test_without_intermediate_values_a_trial_has_one_measurement(bring):
    trials = [ForeignTrial(number, "complete", {"lr": 0.01}, number / 10) for number in range(4)]
    spec, outcomes = outcomes_in(bring(searched(trials=trials, parameters=[RATE])).folder)
    assert spec.training.max_train_steps == 1
    assert [item.best_value for item in outcomes] == [0.0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("values", "state", "reason"),
    [
        ({"infeasible": "constraint"}, "infeasible", "constraint"),
        ({"value": math.inf}, "infeasible", "value_not_finite"),
        ({"state": "pruned", "value": None, "curve": {}}, "failed", "pruned"),
        ({"curve": {0: math.nan}, "state": "pruned", "value": None}, "failed", "pruned"),
        ({"infeasible": "constraint", "state": "pruned", "value": None}, "infeasible", "constraint"),
    ],
)
def test_trials_without_a_usable_value(bring, values, state, reason):
    spec, outcomes = outcomes_in(bring(changed(searched(), 1, **values)).folder)
    assert (outcomes[1].state, outcomes[1].reason) == (state, reason)
    assert spec.objective.checkpoint == "best"


def test_parameters_without_an_explanation_and_odd_names_are_kept_and_remarked(bring):
    odd = ForeignParameter("layer 0/units", 1, 8, integer=True)
    trials = [
        ForeignTrial(
            number, "complete", {"lr": 0.01, "optimizer": "sgd"} | ({"layer 0/units": 4} if number < 2 else {}), 1
        )
        for number in range(4)
    ]
    found = bring(searched(parameters=[RATE, KIND, odd], trials=trials))
    spec, outcomes = outcomes_in(found.folder)
    assert outcomes[0].plan.hyperparameters["layer_0_units"] == 4
    assert "Renamed: layer 0/units is layer_0_units." in found.remarks
    assert any("Only some trials have layer_0_units" in remark for remark in found.remarks)
    assert report_study(found.folder, ObjectiveChoice(), draw=False).page.is_file()
    assert not spec.alternatives("layer_0_units")[0].when


def test_a_parameter_that_only_pruned_trials_have_keeps_its_condition(bring):
    study = searched()
    trials = [
        replace(trial, state="pruned", value=None)
        if "momentum" in trial.params and trial.state == "complete"
        else trial
        for trial in study.trials
    ]
    spec, _ = outcomes_in(bring(searched(trials=trials)).folder)
    assert spec.alternatives("momentum")[0].when == {"optimizer": ("sgd",)}
    assert not spec.alternatives("optimizer")[0].when


def test_what_differs_from_the_other_tool_is_in_the_notes_of_the_study(bring):
    width = ForeignParameter("layer width", 1, 1000, integer=True, step=3)
    rate = ForeignParameter("lr", 1e-4, 1e-1, log=True, joined=True)
    momentum = ForeignParameter("momentum", 0.0, 0.99, uneven=True)
    depth = ForeignParameter("depth", 1, 3, integer=True, step=2)
    trials = [
        ForeignTrial(number, "complete", {"lr": 0.01, "momentum": 0.5, "layer width": 4, "depth": 3}, 1)
        for number in range(4)
    ]
    found = bring(searched(parameters=[rate, momentum, width, depth], trials=trials, metric="top 5"))
    told = {
        "Its objective top 5 is valid/top_5 here.",
        "Its trials had different ranges, which are one range here: lr.",
        "Stepped in Optuna, and any value of the range here: momentum, layer_width.",
    }
    assert told <= set(found.remarks)
    spec, _ = outcomes_in(found.folder)
    assert all(sentence in spec.notes for sentence in told)
    unnamed = bring(searched(), "unnamed")
    assert "Its objective has no name in Optuna: it is valid/value here." in unnamed.remarks
    assert not [remark for remark in unnamed.remarks if "ranges" in remark or "steps between" in remark]
    same = bring(searched(metric="valid/loss"), "same")
    assert not [remark for remark in same.remarks if "objective" in remark]


def test_a_study_without_parameters_is_refused(bring):
    with pytest.raises(UsageError, match="has no parameters"):
        bring(searched(parameters=[]))


def test_the_command_prints_what_it_made_and_that_optuna_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["tunectl", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    monkeypatch.setitem(sys.modules, "optuna", None)
    code, out, err = call("import", "theirs.db", "--from", "optuna")
    assert (code, out, err) == (2, "", f"optuna is not installed; {install_command('optuna')}\n")
    monkeypatch.setattr(importing, "READERS", {"optuna": lambda _storage, _name: searched()})
    code, out, err = call("import", "theirs.db", "--from", "optuna")
    assert (code, out) == (0, "runs/my-study: my-study, 10 completed, 2 failed\n")
    assert "1 trial pruned: failed here, with the reason pruned" in err
