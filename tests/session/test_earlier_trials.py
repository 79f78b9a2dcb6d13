"""The trials of an earlier study from which the sampler bayesian starts."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder, write_trial

from tunectl.core.errors import StudyError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.earlier_trials import earlier_trials
from tunectl.session.promoted_trials import promoted
from tunectl.session.snapshot import study_snapshot
from tunectl.session.stored_study import stored_draft
from tunectl.store.earlier_trials_file import keep_trials, kept_trials
from tunectl.store.plan_file import append_plan, read_plan
from tunectl.store.study_folder import create

TRAINING = "{max_train_steps: 100, eval_every: 50}"
RATE = "{role: nuisance, range: [1e-3, 1], scale: log}"
EXPLORED = {"optimizer": "{role: scientific, values: [sgd, momentum]}", "learning_rate": RATE, "width": "64"}
ONE = {"optimizer": "momentum", "learning_rate": RATE, "width": "64"}


def value(trial: PlannedTrial) -> float | None:
    """Best at a rate of 0.03, infeasible above 0.3."""
    rate = float(trial.hyperparameters["learning_rate"])
    return None if rate > 0.3 else 0.1 + 0.05 * math.log10(rate / 0.03) ** 2


def explored(tmp_path: Path, hyperparameters: dict[str, str] = EXPLORED, trials: int = 24, **sections: str) -> None:
    sections = {"training": TRAINING, "search": f"{{trials: {trials}}}", **sections}
    made_up_folder(tmp_path / "runs" / "explore", study_text(hyperparameters, **sections), value)


def new(tmp_path: Path, hyperparameters: dict[str, str] = ONE, **sections: str) -> StudySpec:
    search = "{sampler: bayesian, after: runs/explore, trials: 5}"
    text = study_text(hyperparameters, **{"training": TRAINING, "search": search, **sections})
    return parse_study(text, tmp_path / "studies" / "bayes.yaml")


def refusal(tmp_path: Path, hyperparameters: dict[str, str] = ONE, **sections: str) -> str:
    with pytest.raises(StudyError) as caught:
        earlier_trials(new(tmp_path, hyperparameters, **sections), tmp_path)
    (problem,) = caught.value.problems
    assert problem.path == "search.after"
    return problem.message


def test_they_are_the_finished_trials_of_the_setting_that_the_fixed_values_choose(tmp_path: Path) -> None:
    explored(tmp_path)
    found = earlier_trials(new(tmp_path), tmp_path)
    assert len(found.trials) == 24
    assert {item.hyperparameters["optimizer"] for item in found.trials} == {"momentum"}
    infeasible = [item for item in found.trials if item.state == "infeasible"]
    assert all(float(item.hyperparameters["learning_rate"]) > 0.3 for item in infeasible)
    assert found.in_words() == (
        f"points are proposed from 24 trials ({len(infeasible)} infeasible) of optimizer=momentum in runs/explore"
    )


def test_a_folder_beside_the_study_file_comes_before_one_in_the_current_folder(tmp_path: Path) -> None:
    explored(tmp_path)
    explored(tmp_path / "studies", trials=30)
    assert len(earlier_trials(new(tmp_path), tmp_path).trials) == 30


def test_trials_outside_the_new_ranges_are_left_out_and_counted(tmp_path: Path) -> None:
    explored(tmp_path)
    found = earlier_trials(new(tmp_path, {**ONE, "learning_rate": RATE.replace("[1e-3, 1]", "[1e-2, 1]")}), tmp_path)
    assert all(float(item.hyperparameters["learning_rate"]) >= 1e-2 for item in found.trials)
    ((reason, number),) = found.left_out.items()
    assert reason == "learning_rate is outside its range here"
    assert number == 24 - len(found.trials) > 0


@pytest.mark.parametrize(
    ("hyperparameters", "sections", "expected"),
    [
        ({**ONE, "optimizer": "adam"}, {}, "no setting of runs/explore has this study's values; its settings are: "
         "optimizer=sgd; optimizer=momentum"),
        ({**ONE, "optimizer": "{role: nuisance, values: [sgd, momentum]}"}, {}, "several settings of runs/explore fit "
         "(optimizer=sgd and optimizer=momentum): give optimizer one value"),
        ({**ONE, "width": "32"}, {}, "0 of the 24 trials in runs/explore are inside this study's space (left out: 24 "
         "where width is 32 here)"),
        ({**ONE, "learning_rate": RATE.replace("[1e-3, 1]", "[0.2, 1]")}, {}, "expected at least 10: take its values"),
        (ONE, {"training": "{max_train_steps: 200, eval_every: 50}"}, "were trained in another way (training."
         "max_train_steps: was 100, is 200): they are no data"),
        (ONE, {"workload": "tunectl.workloads.mnist1d:mlp"}, "were trained in another way (workload: was"),
        (ONE, {"objective": "{metric: valid/accuracy, direction: maximize}"}, "no trial measured it"),
        (ONE, {"search": "{sampler: bayesian, after: runs/other, trials: 5}"}, "there is no study folder "),
    ],
    ids=["no-setting", "two-settings", "other-value", "few-inside", "steps", "workload", "metric", "no-folder"],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_would(
    tmp_path: Path, hyperparameters: dict[str, str], sections: dict[str, str], expected: str
) -> None:
    explored(tmp_path)
    assert expected in refusal(tmp_path, hyperparameters, **sections)


def test_fewer_than_twenty_finished_trials_are_no_exploration(tmp_path: Path) -> None:
    explored(tmp_path, trials=19)
    message = refusal(tmp_path)
    assert "19 trials of optimizer=momentum in runs/explore have ended; expected at least 20" in message
    assert "raise its search.trials" in message


def test_to_raise_the_trials_the_user_s_file_is_named_and_not_its_copy(tmp_path: Path) -> None:
    explored(tmp_path, trials=19)
    runs = tmp_path / "runs"
    assert f"`tunectl run {runs / 'study_file.yaml'} --dir {runs / 'explore'}`" in refusal(tmp_path)


def test_an_open_boundary_about_what_is_searched_is_to_be_explored_first(tmp_path: Path) -> None:
    """The best rate of 0.03 is above the end of this range: the best trials crowd it."""
    narrow = {**EXPLORED, "learning_rate": RATE.replace("[1e-3, 1]", "[1e-3, 2e-2]")}
    explored(tmp_path, narrow)
    message = refusal(tmp_path, {**ONE, "learning_rate": narrow["learning_rate"]})
    assert "open finding search-boundary about learning_rate" in message
    assert "tunectl next" in message


def test_the_few_long_trials_of_a_later_stage_do_not_hide_an_open_boundary_of_the_search(tmp_path: Path) -> None:
    narrow = {**ONE, "learning_rate": RATE.replace("[1e-3, 1]", "[1e-3, 2e-2]")}
    search = "{trials: 24, promote: [{keep: 2, max_train_steps: 400, despite_boundary: true}]}"
    explored(tmp_path, narrow, search=search)
    folder = StudyFolder(tmp_path / "runs" / "explore")
    spec = parse_study(folder.study.read_text(), tmp_path / "explore.yaml")
    best = sorted(read_plan(folder.plan), key=lambda trial: value(trial) or math.inf)[:2]
    long = [promoted(spec, trial, 24 + place) for place, trial in enumerate(best)]
    append_plan(folder.plan, long)
    for trial in long:
        write_trial(folder, trial, spec.objective.metric, 0.05)
    assert "open finding search-boundary about learning_rate" in refusal(tmp_path, narrow)


def test_another_objective_is_read_from_the_measurements(tmp_path: Path) -> None:
    explored(tmp_path)
    train = earlier_trials(new(tmp_path, objective="{metric: train/loss, direction: minimize}"), tmp_path)
    valid = earlier_trials(new(tmp_path), tmp_path)
    pairs = [(one.value, other.value) for one, other in zip(train.trials, valid.trials, strict=True)]
    assert all(one == pytest.approx((other or 0) / 2) for one, other in pairs)


def test_the_copy_of_a_study_in_its_folder_starts_from_what_that_folder_has_kept(tmp_path: Path) -> None:
    explored(tmp_path)
    spec = new(tmp_path)
    found = earlier_trials(spec, tmp_path)
    folder = create(tmp_path / "runs" / spec.name, spec.text)
    append_plan(folder.plan, [])
    folder.plan.touch()
    keep_trials(folder, found)
    shutil.rmtree(tmp_path / "runs" / "explore")
    draft = stored_draft(folder.study)
    assert draft is not None
    assert draft.spec is not None
    assert (draft.spec.name, draft.spec.label) == (spec.name, str(folder.study))
    assert earlier_trials(draft.spec, Path("/"), tmp_path / "another") == found


def test_they_are_kept_in_the_folder_of_the_study_and_need_the_earlier_one_no_more(tmp_path: Path) -> None:
    explored(tmp_path)
    spec, folder = new(tmp_path), StudyFolder(tmp_path / "bayes")
    found = earlier_trials(spec, tmp_path)
    create(folder.path, spec.text)
    keep_trials(folder, found)
    assert kept_trials(folder) == found
    shutil.rmtree(tmp_path / "runs")
    assert earlier_trials(spec, tmp_path, folder.path) == found
    other = new(tmp_path, {**ONE, "learning_rate": RATE.replace("[1e-3, 1]", "[1e-2, 1]")})
    with pytest.raises(StudyError, match="there is no study folder"):  # a changed study reads them again
        earlier_trials(other, tmp_path, folder.path)
    content = folder.earlier_trials.read_bytes()
    folder.earlier_trials.write_bytes(content.replace(b'"trial": 1', b'"trial": 7'))
    assert kept_trials(folder) is None


def test_a_damaged_copy_of_the_earlier_trials_is_said_by_every_command_that_reads_the_folder(tmp_path):
    folder = made_up_folder(tmp_path / "s", study_text(), lambda _: 0.5)
    said: list[str] = []
    with study_snapshot(folder.path, said.append):
        pass
    folder.earlier_trials.write_text('{"trials": [[1]]}')
    with study_snapshot(folder.path, said.append) as study:
        assert study.damage == tuple(line.removeprefix("warning: ") for line in said)
    assert said == [
        f"warning: {folder.earlier_trials}: is damaged, so that what was best before this study is not known"
    ]
