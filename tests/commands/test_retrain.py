"""`retrain` and `compare` on a real small study: fresh seeds, counted once, kept apart from the search.

Tests commands/retrain.py and commands/compare.py.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from builders import NUISANCE_RATE, study_text
from campaigns import OTHER_SEEDS, STAGES, promote_best, round_of
from made_up_folders import made_up_folder
from watchers import Silent

from tunectl.commands.compare import compare_studies
from tunectl.commands.retrain import RetrainRequest, chosen_trials, missing_retrains, retrain_study
from tunectl.core.errors import UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial
from tunectl.execution.backends.local import LocalBackend
from tunectl.language.study_reader import parse_study
from tunectl.session.open_study import open_study
from tunectl.session.training_trials import RunOptions
from tunectl.space.trial_plan import plan_trials
from tunectl.store.plan_file import read_plan

SETTINGS = study_text(
    {
        "optimizer": "{role: scientific, values: [sgd, adam]}",
        "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
    },
    search="{trials: 4}",
)


def searched(tmp_path: Path, study: Path) -> StudyFolder:
    """A study whose search was run, trial 1 being its best."""
    return made_up_folder(
        tmp_path / "runs" / "small", study.read_text(), lambda plan: 0.5 - plan.trial / 10, file=study
    )


def test_retrains_are_new_trials_of_the_study_with_fresh_seeds_and_are_not_run_twice(write_study, tunectl, tmp_path):
    folder = searched(tmp_path, write_study(trials=2)).path
    called = tunectl("retrain", folder, "--best", 1, "--repeats", 2, "--json")
    assert called.code == 0, called.err
    (found,) = called.json()["retrained"]
    assert (found["trial"], found["lost"], len(found["values"])) == (1, 0, 2)
    trials = read_plan(folder / "plan.jsonl")
    search, again = trials[:2], trials[2:]
    assert [(trial.trial_kind, trial.repeat) for trial in again] == [("retrain", 1), ("retrain", 2)]
    assert all(trial.hyperparameters == search[1].hyperparameters and trial.point == 1 for trial in again)
    assert len({trial.seed for trial in trials}) == 4
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    end = events[-1]
    assert (end["event"], end["command"], end["states"], end["findings"]) == (
        "run_ended",
        "retrain",
        {"completed": 4},
        None,
    )
    rows = list(csv.DictReader((folder / "tables" / "trials.csv").read_text().splitlines()))
    assert [float(row["best_value"]) for row in rows[2:]] == found["values"]
    plan = (folder / "plan.jsonl").read_bytes()
    assert tunectl("retrain", folder, "--best", 1, "--repeats", 2, "--json").json()["retrained"] == [found]
    assert (folder / "plan.jsonl").read_bytes() == plan
    # What they cost is known for the trial that was retrained, too.
    cost = tunectl("compare", folder, folder, "--json").json()["new"]["cost"]
    assert cost["seconds_per_step"] > 0
    assert cost["seconds_to_best"] == pytest.approx(cost["seconds_per_step"] * cost["steps_to_best"])
    assert cost["examples_to_best"] == 16 * cost["steps_to_best"]
    assert "seconds_to_best" in tunectl("compare", folder, folder).out


def test_a_search_that_has_not_ended_is_not_retrained_also_by_the_copy_of_a_file_that_is_gone(tmp_path, write_study):
    study = write_study(trials=3)
    folder = searched(tmp_path, study)
    (folder.trial(1).path / "result.json").unlink()

    def retrain() -> None:
        # Neither is asked for anything where nothing can be trained.
        retrain_study(folder.path, RetrainRequest(1, 1), None, RunOptions(), Silent(), LocalBackend())

    with pytest.raises(UsageError, match="1 trials of the search have not ended"):
        retrain()
    study.unlink()
    with pytest.raises(UsageError, match="1 trials of the search have not ended"):
        retrain()


def test_a_trial_is_named_for_retraining_also_before_the_search_has_ended(tmp_path):
    file, more = tmp_path / "study.yaml", retrains({5: [0.4]})
    folder = made_up_folder(
        tmp_path / "study", SETTINGS, lambda plan: None if plan.trial == 2 else 0.5, more=more, file=file
    )
    (folder.trial(7).path / "result.json").unlink()
    spec = parse_study(SETTINGS, file)
    with open_study(spec, folder.path, Silent(), lambda _: []) as study:
        for trial in (4, 2):  # an infeasible one, too
            (chosen,) = chosen_trials(study, RetrainRequest(1, 3, trial=trial))
            assert chosen.plan.trial == trial
            assert [plan.hyperparameters for plan in missing_retrains(study, [chosen], 3)] == [
                chosen.plan.hyperparameters
            ] * 3
        for trial, message in ((8, "is a retrain of trial 5"), (7, "got one that is"), (9, "expected one from 0 to 8")):
            with pytest.raises(UsageError, match=message):
                chosen_trials(study, RetrainRequest(1, 3, trial=trial))


def retrains(values: dict[int, list[float | None]]) -> tuple[PlannedTrial, ...]:
    plans = plan_trials(parse_study(SETTINGS, Path("study.yaml")))
    found: list[PlannedTrial] = []
    for trial, own in values.items():
        for repeat in range(1, len(own) + 1):
            plan = plans[trial]
            found.append(
                PlannedTrial(
                    len(plans) + len(found), plan.setting, plan.point, repeat, (), plan.hyperparameters, 99, "retrain"
                )
            )
    return tuple(found)


@pytest.fixture
def compared(tmp_path):
    """A study of two settings, whose best trials are 6 and 7, with these retrains."""

    def make(again: dict[int, list[float | None]], name: str = "study"):
        more = retrains(again)
        flat = iter([value for own in again.values() for value in own])
        known = {plan.trial: next(flat) for plan in more}
        return made_up_folder(
            tmp_path / name, SETTINGS, lambda plan: known.get(plan.trial, 0.5 - plan.trial / 20), more=more
        )

    return make


def test_the_selected_trial_itself_is_no_evidence(compared):
    report = compare_studies(str(compared({}).path), None)
    assert (report.old.trial, report.new.trial) == (6, 7)
    assert report.comparison.verdict == "not enough evidence"
    assert "variance is unknown" in report.comparison.reason
    assert report.new.candidate.costs == ()
    assert report.new.retrain_command.endswith("--each-setting")


def test_settings_are_named_by_number_or_by_their_values(compared):
    folder = compared({6: [0.3, 0.31, 0.32], 7: [0.2, 0.21, 0.22]}).path
    by_number = compare_studies(f"{folder}:0", f"{folder}:1")
    assert by_number.comparison.verdict == "adopt"
    assert compare_studies(f"{folder}:optimizer=sgd", f"{folder}:optimizer=adam") == by_number
    assert compare_studies(str(folder), None) == by_number
    assert compare_studies(f"{folder}:1", f"{folder}:0").comparison.verdict == "do not adopt"
    listed = r"setting 2 not found; the settings are\n  0: optimizer=sgd\n  1: optimizer=adam"
    with pytest.raises(UsageError, match=listed):
        compare_studies(f"{folder}:2", f"{folder}:1")


def test_two_studies_are_compared_by_the_best_setting_of_each(compared):
    old, new = compared({7: [0.3, 0.31, 0.32]}, "old").path, compared({7: [0.2, None, 0.22]}, "new").path
    report = compare_studies(str(old), str(new))
    assert (report.old.trial, report.new.trial) == (7, 7)
    assert report.new.candidate.costs[1] == float("inf")
    assert report.comparison.improvement is None
    assert json.loads(json.dumps(report.to_json()["new"]["name"])) == "new (optimizer=adam)"


def test_objectives_that_differ_are_not_compared(compared, tmp_path):
    other = SETTINGS.replace("valid/error_rate, direction: minimize", "valid/accuracy, direction: maximize")
    folder = made_up_folder(tmp_path / "other", other, lambda _: 0.5)
    with pytest.raises(UsageError, match="cannot be compared"):
        compare_studies(str(compared({}).path), str(folder.path))


def test_trials_are_named_by_their_folder_and_their_retrains_are_those_of_that_trial(compared):
    folder = compared({6: [0.3, 0.31, 0.32], 5: [0.2, 0.21, 0.22]}).path
    report = compare_studies(f"{folder}/6", f"{folder}/trials/00005")
    assert (report.old.trial, report.new.trial) == (6, 5)
    assert (report.old.candidate.name, report.comparison.verdict) == ("study/6", "adopt")
    assert report.old.retrain_command.endswith("study/6")
    with pytest.raises(UsageError, match="is a retrain of trial 6; name that one"):
        compare_studies(f"{folder}/8", f"{folder}/5")
    with pytest.raises(UsageError, match="no trial 99 in this study"):
        compare_studies(f"{folder}/99", f"{folder}/5")


def test_what_two_retrains_of_each_cannot_show_is_said(compared):
    folder = compared({6: [0.3, 0.31], 7: [0.2, 0.21]}).path
    report = compare_studies(str(folder), None)
    assert report.comparison.verdict == "not enough evidence"
    assert report.limits is not None
    assert not report.limits.can_decide
    assert any("2 and 2 retrains can never decide" in note for note in report.notes)
    assert any("is not known: the number of its examples was not recorded" in note for note in report.notes)
    assert report.to_json()["retrain_limits"]["smallest_p"] == pytest.approx(1 / 6)


def with_examples(folder: StudyFolder, examples: int) -> None:
    """As a worker of this version leaves it: each result has the number of examples of each split."""
    for path in folder.trials.glob("*/result.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "evaluated_examples": {"valid": examples}}))
    folder.index.unlink()


def test_a_difference_of_few_validation_examples_is_not_adopted(compared):
    few = compared({6: [0.3, 0.31, 0.32], 7: [0.27, 0.28, 0.28]}, "few")
    with_examples(few, 100)
    report = compare_studies(str(few.path), None)
    assert report.comparison.verdict == "not enough evidence"
    assert "only by 3.3 of 100 validation examples" in report.comparison.reason
    assert report.retrains_decide
    many = compared({6: [0.3, 0.31, 0.32], 7: [0.2, 0.21, 0.22]}, "many")
    with_examples(many, 100)
    report = compare_studies(str(many.path), None)
    assert report.comparison.verdict == "adopt"
    assert report.validation is not None
    assert report.validation.better == pytest.approx(10)


def test_the_best_of_a_setting_in_another_search_is_retrained_where_it_is_not_the_best_of_all(tmp_path):
    settings = {"optimizer": "{role: scientific, values: [sgd, momentum]}", "learning_rate": NUISANCE_RATE}
    for name, search in (("both", "{trials: 4}"), ("both.search-1", "{trials: 4, seed: 1}")):
        training = f"{{max_train_steps: 2000, eval_every: 100, seed: {len(name)}}}"
        text = study_text(settings, study=name, search=search, training=training)
        made_up_folder(
            tmp_path / "runs" / name, text, lambda trial: 0.4 + 0.1 * trial.setting, file=tmp_path / f"{name}.yaml"
        )
    place = tmp_path / "runs" / "both"
    notes = compare_studies(f"{place}:1", f"{place}:1").notes
    assert any(f"(`tunectl retrain {place}.search-1 --each-setting`)" in note for note in notes)


def test_another_search_is_weighed_by_its_trials_of_the_same_length(tmp_path):
    round_of(tmp_path, "old", 0.5, [0.5, 0.51, 0.52])
    new = round_of(tmp_path, "new", 0.4, (), {"search": f"{{trials: 4, {STAGES}}}"})
    promote_best(new, 0.3, [0.3, 0.31, 0.32])
    seeds = {**OTHER_SEEDS, "search": f"{{trials: 4, seed: 1, {STAGES}}}"}
    other = round_of(tmp_path, "new.search-1", 0.9, [0.9, 0.91, 0.92], seeds)
    report = compare_studies(str(tmp_path / "runs" / "old"), str(new.path))
    assert report.comparison.verdict == "adopt"
    assert any(f"{other.path} is not weighed" in note for note in report.notes)
    promote_best(other, 0.6, [0.6, 0.61, 0.62])
    report = compare_studies(str(tmp_path / "runs" / "old"), str(new.path))
    assert report.searches is not None
    assert (report.searches.old, report.searches.new) == (1, 2)


def test_the_luck_of_a_search_is_weighed_where_there_is_another_one(tmp_path):
    round_of(tmp_path, "old", 0.5, [0.5, 0.51, 0.52])
    round_of(tmp_path, "new", 0.4, [0.4, 0.41, 0.42])
    old, new = str(tmp_path / "runs" / "old"), str(tmp_path / "runs" / "new")
    assert compare_studies(old, new).comparison.verdict == "adopt"
    other = round_of(tmp_path, "new.search-1", 0.6, (), OTHER_SEEDS)
    report = compare_studies(old, new)
    assert report.comparison.verdict == "adopt"
    assert any(f"{other.path} is not weighed: its best trial has no retrains" in note for note in report.notes)
    assert any(note.endswith(f"(`tunectl retrain {other.path}`)") for note in report.notes)
    round_of(tmp_path / "again", "new.search-1", 0.6, [0.6, 0.61, 0.62], OTHER_SEEDS).path.rename(tmp_path / "kept")
    shutil.rmtree(other.path)
    (tmp_path / "kept").rename(other.path)
    report = compare_studies(old, new)
    assert report.searches is not None
    assert (report.searches.old, report.searches.new) == (1, 2)
    assert report.comparison.verdict == "not enough evidence"
    assert report.new.search_command == f"tunectl repeat-search {tmp_path / 'new.yaml'} --search-seed 2"
