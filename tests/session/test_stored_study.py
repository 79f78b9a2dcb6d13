"""Where the paths in the copy of a study start: where the user's file was."""

from __future__ import annotations

import shutil
from pathlib import Path

from builders import study_text
from made_up_folders import made_up_folder

from tunectl.core.folders import StudyFolder
from tunectl.session.stored_study import home_of, stored_draft, stored_in

COMMAND = '{command: ["true", "{learning_rate}"], metrics: [{regex: "step (?P<step>.) (?P<loss>.)"}]}'


def made_up(tmp_path: Path) -> StudyFolder:
    text = study_text(
        {"optimizer": None}, workload=COMMAND, objective="{metric: loss, direction: minimize}",
        training="{max_train_steps: 9}",
    )  # fmt: skip
    return made_up_folder(tmp_path / "p" / "runs" / "s", text, lambda _: 1.0, file=tmp_path / "p" / "sub" / "mine.yaml")


def test_they_start_in_the_folder_of_the_users_file_which_may_be_gone_and_else_where_runs_is(tmp_path):
    folder = made_up(tmp_path)
    file = tmp_path / "p" / "sub" / "mine.yaml"
    assert home_of(folder) == file
    file.unlink()
    assert home_of(folder) == file
    shutil.rmtree(file.parent)
    assert home_of(folder) == tmp_path / "p" / "mine.yaml"
    shutil.move(tmp_path / "p", tmp_path / "moved")
    assert home_of(StudyFolder(tmp_path / "moved" / "runs" / "s")) == tmp_path / "moved" / "mine.yaml"


def test_the_copy_is_called_like_the_users_file_and_its_program_runs_beside_that(tmp_path):
    folder = made_up(tmp_path)
    draft = stored_draft(folder.study)
    assert draft is not None
    assert draft.spec is not None
    assert draft.spec.name == "mine"
    assert draft.spec.program is not None
    assert draft.spec.program.folder == str(tmp_path / "p" / "sub")
    # Its errors name the copy.
    assert draft.spec.label == str(folder.study)


def test_a_file_of_the_user_is_no_copy_whatever_its_name(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(study_text())
    assert stored_in(file) is None
    assert stored_draft(file) is None
