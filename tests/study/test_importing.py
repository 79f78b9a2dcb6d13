"""`import`: a study folder made of a foreign study, on which the other commands work."""

from __future__ import annotations

import math
import sys
from datetime import datetime

import pytest

from tunectl.cli.main import main
from tunectl.core.errors import FolderError, StudyError, UsageError
from tunectl.exchange.foreign import ForeignParameter, ForeignStudy, ForeignTrial
from tunectl.spec.reading import parse_study
from tunectl.study import importing
from tunectl.study.checking import check_study
from tunectl.study.importing import import_study
from tunectl.study.looking import looked_at
from tunectl.study.next_round import next_round
from tunectl.study.reporting import Question, report_study
from tunectl.study.tracking import tracked_studies

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
    trials[3] = ForeignTrial(3, "pruned", trials[3].params, None, {0: 1.25, 1: 0.6})
    trials[5] = ForeignTrial(5, "failed", {"lr": 0.01}, message="Boom\nat line 3")
    values = {"parameters": [RATE, KIND, MOMENTUM], "trials": trials, "metric": "", "direction": "minimize"}
    return ForeignStudy(**({"name": "my study", "source": "theirs.db"} | values | changes))


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Import a foreign study; gives what was made and its folder."""

    def call(study, place="in"):
        monkeypatch.setattr(importing, "READERS", {"optuna": lambda _storage, _name: study})
        return import_study("optuna", "theirs.db", None, tmp_path / place, ["tunectl", "import"], NOW)

    return call


def outcomes_in(folder):
    with looked_at(folder) as study:
        return study.spec, list(study.outcomes)


def test_numbers_states_and_ids_are_those_of_the_foreign_study(bring):
    study = searched()
    found = bring(study)
    spec, outcomes = outcomes_in(found.folder)
    assert found.states == {"completed": 11, "failed": 1}
    assert spec.objective.checkpoint == "best"
    assert spec.training.max_train_steps == 5
    for item, trial in zip(outcomes, study.trials, strict=True):
        assert (item.plan.trial, item.plan.point) == (trial.number, trial.number)
        assert dict(item.plan.hyperparameters) == dict(trial.params)
        if trial.state == "complete":
            assert (item.best_value, item.best_step, item.train_seconds) == (trial.value, 5, 2.0)
    assert (outcomes[3].state, outcomes[3].reason, outcomes[3].final_step) == ("completed", "pruned", 2)
    assert (outcomes[5].state, outcomes[5].reason, outcomes[5].message) == ("failed", "error", "Boom at line 3")


def test_report_and_next_work_on_it_and_the_next_round_widens_the_crowded_end(bring, tmp_path):
    found = bring(searched())
    report = report_study(found.folder, Question(), draw=False)
    assert "search-boundary" in {finding.id for finding in report.findings}
    assert report.page.is_file()
    following = next_round(found.folder, tmp_path / "second.yaml")
    spec = parse_study(following.path.read_text(), following.path)
    assert spec.alternatives("lr")[0].domain.high > RATE.high
    assert spec.alternatives("momentum")[0].when == {"optimizer": ("sgd",)}
    (row,) = tracked_studies(found.folder)
    assert (row.run, row.failed, row.problem) == (12, 1, "")


def test_running_it_is_refused_since_nobody_knows_the_program_and_works_once_it_is_named(bring, tmp_path):
    folder = bring(searched()).folder
    with pytest.raises(StudyError, match=r"there is no program '\./name-the-program-that-was-tuned'"):
        check_study(folder / "study.yaml", tmp_path)
    text = (folder / "study.yaml").read_text()
    named = tmp_path / "named.yaml"
    named.write_text(text.replace("[./name-the-program-that-was-tuned", "[true"))
    assert check_study(named, tmp_path).spec.program.arguments[0] == "true"


def test_a_folder_is_made_once_and_only_as_a_whole(bring, tmp_path, monkeypatch):
    bring(searched())
    with pytest.raises(FolderError, match="is a study folder already"):
        bring(searched())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FolderError, match="is not empty and is no study folder"):
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
        ({"state": "pruned", "value": None, "curve": {}}, "infeasible", "pruned"),
        ({"curve": {0: math.nan}, "state": "pruned", "value": None}, "completed", "pruned"),
    ],
)
def test_trials_without_a_usable_value(bring, values, state, reason):
    spec, outcomes = outcomes_in(bring(changed(searched(), 1, **values)).folder)
    assert (outcomes[1].state, outcomes[1].reason) == (state, reason)
    assert spec.objective.checkpoint == "best"


def test_parameters_that_nothing_explains_and_odd_names_are_kept_and_told(bring):
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
    assert report_study(found.folder, Question(), draw=False).page.is_file()
    assert not spec.alternatives("layer_0_units")[0].when


def test_a_study_without_parameters_is_refused(bring):
    with pytest.raises(UsageError, match="has no parameters"):
        bring(searched(parameters=[]))


def test_the_command_tells_what_it_made_and_that_optuna_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["tunectl", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    monkeypatch.setitem(sys.modules, "optuna", None)
    code, out, err = call("import", "theirs.db", "--from", "optuna")
    assert (code, out, err) == (2, "", "optuna is not installed; pip install 'tunectl[optuna]'\n")
    monkeypatch.setattr(importing, "READERS", {"optuna": lambda _storage, _name: searched()})
    code, out, err = call("import", "theirs.db", "--from", "optuna")
    assert (code, out) == (0, "runs/my-study: my-study, 11 completed, 1 failed\n")
    assert "1 trial pruned" in err
