"""Trials that are added to a study in its folder. Tests added_trials.py, and added_file.py of the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import study
from made_up_folders import made_up_folder
from watchers import Silent

from tunectl.core.errors import FolderError, StudyError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.language.study_reader import load_study
from tunectl.session.added_trials import (
    Addition,
    ChangedMeanwhileError,
    add_trials,
    added_words,
    check_may_add,
    with_added_trials,
)
from tunectl.session.open_study import open_study, study_in
from tunectl.space.trial_plan import plan_trials
from tunectl.store.plan_file import read_plan

RANGE = {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}
TWO = {"optimizer": "{role: scientific, values: [momentum, adam]}", **RANGE}


def made(tmp_path: Path, hyperparameters: dict[str, str] = TWO, search: str = "{trials: 3}  # mine") -> StudyFolder:
    text = study(hyperparameters, search=search).text
    return made_up_folder(tmp_path / "runs" / "a", text, lambda _: 0.5, file=tmp_path / "a.yaml")


def add(folder: StudyFolder, before: int, to: int, token: str = "") -> list[int]:
    _, added = add_trials(folder, study_in(folder), read_plan(folder.plan), Addition(before, to, token), None)
    return [trial.trial for trial in added]


def test_added_trials_are_those_of_a_study_that_had_them_from_the_start(tmp_path: Path) -> None:
    folder = made(tmp_path)
    assert add(folder, 3, 5) == [6, 7, 8, 9]
    whole = plan_trials(load_study(tmp_path / "a.yaml"))
    longer = study(TWO, search="{trials: 5}  # mine")
    assert read_plan(folder.plan)[:6] == whole
    assert [trial.hyperparameters for trial in read_plan(folder.plan)] == [
        trial.hyperparameters for trial in plan_trials(longer)
    ]
    assert "search: {trials: 5}  # mine" in folder.study.read_text()
    assert "search: {trials: 3}  # mine" in (tmp_path / "a.yaml").read_text(), "the user's file stays as it is"


def test_the_users_file_is_run_with_what_was_added(tmp_path: Path) -> None:
    folder = made(tmp_path)
    given = load_study(tmp_path / "a.yaml")
    assert with_added_trials(given, folder) is given
    add(folder, 3, 5)
    assert with_added_trials(given, folder).search.trials == 5
    (tmp_path / "a.yaml").write_text(given.text.replace("trials: 3", "trials: 9"))
    assert with_added_trials(load_study(tmp_path / "a.yaml"), folder).search.trials == 9


def test_two_commands_at_once_both_add_theirs(tmp_path: Path) -> None:
    folder = made(tmp_path)
    add(folder, 3, 5, "one")
    with pytest.raises(ChangedMeanwhileError, match="was 3 and is 5 now"):
        add(folder, 3, 5, "other")
    assert check_may_add(folder, study_in(folder)) == 5
    assert add(folder, 5, 7, "other") == [10, 11, 12, 13]


def test_the_same_wish_again_adds_nothing(tmp_path: Path) -> None:
    folder = made(tmp_path)
    add(folder, 3, 5, "one")
    assert add(folder, 3, 5, "one") == []
    assert len(read_plan(folder.plan)) == 10


def test_after_a_kill_beyond_the_first_file_the_trials_are_added(tmp_path: Path) -> None:
    folder = made(tmp_path)
    before = folder.study.read_bytes(), folder.plan.read_bytes()
    add(folder, 3, 5, "killed")
    folder.study.write_bytes(before[0])
    folder.plan.write_bytes(before[1])
    assert with_added_trials(load_study(tmp_path / "a.yaml"), folder).search.trials == 5, "the next run plans them"
    assert check_may_add(folder, study_in(folder)) == 5


@pytest.mark.parametrize(
    ("hyperparameters", "search", "why"),
    [
        ({"learning_rate": "{role: nuisance, values: [0.1, 1]}"}, "{sampler: grid}", "a grid has as many trials"),
        ({"learning_rate": "{role: nuisance, values: [0.1, 1]}"}, "{points: [{learning_rate: 1.0}]}", "by hand"),
    ],
)
def test_a_study_without_a_number_of_trials_gets_none(
    tmp_path: Path, hyperparameters: dict[str, str], search: str, why: str
) -> None:
    folder = made(tmp_path, hyperparameters, search)
    with pytest.raises(UsageError, match=why):
        check_may_add(folder, study_in(folder))


def test_more_trials_than_a_study_may_have_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    folder = made(tmp_path)
    before = folder.study.read_bytes(), folder.plan.read_bytes()
    with pytest.raises(StudyError, match="1000000"):
        add(folder, 3, 2_000_000)
    assert (folder.study.read_bytes(), folder.plan.read_bytes(), folder.added.exists()) == (*before, False)


def test_a_damaged_number_says_what_to_do(tmp_path: Path) -> None:
    folder = made(tmp_path)
    folder.added.write_text("{")
    with pytest.raises(FolderError, match=r"added\.json: is damaged .* remove it, and write search\.trials"):
        with_added_trials(load_study(tmp_path / "a.yaml"), folder)


def test_what_was_added_is_said_by_setting(tmp_path: Path) -> None:
    folder = made(tmp_path)
    _, added = add_trials(folder, study_in(folder), read_plan(folder.plan), Addition(3, 4), None)
    assert added_words(Addition(3, 4), added) == (
        "1 more trial for each of 2 settings, 2 in all (search.trials: 3, now 4)"
    )
    assert "are proposed when" in added_words(Addition(3, 13), [])


def test_a_study_that_begins_anew_has_the_trials_of_its_file(tmp_path: Path) -> None:
    folder = made(tmp_path)
    add(folder, 3, 5)
    for trial in range(6):
        folder.trial(trial).result.unlink()
    changed = load_study(tmp_path / "a.yaml").text.replace("1e-3", "1e-2")
    (tmp_path / "a.yaml").write_text(changed)
    with open_study(load_study(tmp_path / "a.yaml"), folder.path, Silent()) as opened:
        assert (opened.spec.search.trials, len(opened.trials)) == (3, 6)
    before = StudyFolder(folder.earlier / "1")
    assert (len(read_plan(before.plan)), before.added.is_file(), folder.added.exists()) == (10, True, False)
