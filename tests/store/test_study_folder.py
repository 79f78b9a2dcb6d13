from __future__ import annotations

import os

import pytest
from store_samples import hashes, planned

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.store.plan_file import append_plan, write_plan
from tunectl.store.study_folder import (
    check_place,
    check_writable,
    create,
    is_study_folder,
    open_folder,
    read_study_text,
    study_path,
)


def test_a_folder_is_made_and_opened_again(tmp_path):
    path = tmp_path / "runs" / "my study é"
    assert not check_place(path)
    folder = create(path, "study: é\n")
    assert not is_study_folder(path)
    append_plan(folder.plan, [planned(0)])
    assert is_study_folder(path)
    assert check_place(path)
    assert open_folder(path) == StudyFolder(path)
    assert read_study_text(folder) == "study: é\n"
    with pytest.raises(FolderError, match="is a study folder already"):
        create(path, "study: other\n")
    assert read_study_text(folder) == "study: é\n"


def test_checking_a_place_creates_nothing(tmp_path):
    assert not check_place(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_and_one_that_holds_the_lock_alone_are_taken(tmp_path):
    assert not check_place(tmp_path)
    (tmp_path / "lock").write_text("")
    create(tmp_path, "x: 1\n")


@pytest.mark.parametrize(
    "written",
    [[], ["study.yaml"], [".study.yaml.tmp"], ["lock", "study.yaml"], ["lock", "study.yaml", ".writable.tmp"]],
)
def test_a_folder_whose_making_was_killed_is_made_again(tmp_path, written):
    (tmp_path / "trials").mkdir()
    for name in written:
        (tmp_path / name).write_text("half")
    folder = create(tmp_path, "x: 1\n")
    assert read_study_text(folder) == "x: 1\n"


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    for names in (["study.yaml"], ["model.py"], ["trials.csv"], ["study.yaml", "lock"], ["plan.jsonl"]):
        path = tmp_path / "-".join(names)
        path.mkdir()
        for name in names:
            (path / name).write_text("mine")
        before = hashes(path)
        for act in (check_place, open_folder, lambda path: create(path, "")):
            with pytest.raises(FolderError, match="is not empty and is not a study folder"):
                act(path)
        assert hashes(path) == before


def test_an_empty_trials_folder_beside_foreign_files_makes_no_place_of_ours(tmp_path):
    (tmp_path / "trials").mkdir()
    (tmp_path / "model.py").write_text("mine")
    with pytest.raises(FolderError, match="is not empty and is not a study folder"):
        check_place(tmp_path)


def test_a_study_folder_without_its_plan_is_refused(tmp_path):
    folder = create(tmp_path / "a", "x: 1\n")
    folder.trial(0).path.mkdir()
    with pytest.raises(FolderError, match=r"its plan\.jsonl is missing"):
        check_place(folder.path)


def test_a_file_a_dangling_link_and_a_file_on_the_way_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FolderError, match="is a file, not a folder"):
        check_place(tmp_path / "file")
    for place in (tmp_path / "link", tmp_path / "link" / "study"):
        with pytest.raises(FolderError, match=r"link is a link to nothing \(.*/nowhere is not there\)"):
            check_place(place)
    with pytest.raises(FolderError, match="is a file, not a folder"):
        create(tmp_path / "file" / "below", "")
    with pytest.raises(FolderError, match="File name too long"):
        create(tmp_path / ("x" * 300), "")


def test_a_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    create(tmp_path / "link", "x: 1\n")
    assert (tmp_path / "real" / "study.yaml").is_file()


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    folder = create(tmp_path / "a", "x: 1\n")
    check_writable(folder)
    assert sorted(path.name for path in folder.path.iterdir()) == ["study.yaml", "trials"]
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(FolderError, match="cannot be created: Read-only file system"):
        create(tmp_path / "b", "x: 1\n")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FolderError, match="cannot be written"):
        check_writable(folder)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../up", "a\0b"])
def test_a_name_cannot_leave_its_folder(tmp_path, name):
    with pytest.raises(FolderError, match="cannot be the name of a study folder"):
        study_path(tmp_path, name)


def test_the_folder_of_a_plain_name_is_in_its_parent(tmp_path):
    assert study_path(tmp_path, "a.lr-sweep") == tmp_path / "a.lr-sweep"


def test_a_study_text_that_is_damaged_or_gone_is_a_clear_error(tmp_path):
    folder = create(tmp_path / "a", "x: 1\n")
    folder.study.write_bytes(b"\xff\xfe")
    with pytest.raises(FolderError, match="is not UTF-8 text"):
        read_study_text(folder)
    folder.study.unlink()
    with pytest.raises(FolderError, match=r"study\.yaml: cannot be read"):
        read_study_text(folder)


def test_files_get_the_user_s_umask(tmp_path):
    before = os.umask(0o027)
    try:
        folder = create(tmp_path / "a", "x: 1\n")
        append_plan(folder.plan, [planned(0)])
    finally:
        os.umask(before)
    assert folder.plan.stat().st_mode & 0o777 == 0o640
    assert folder.study.stat().st_mode & 0o777 == 0o640
    assert folder.trials.stat().st_mode & 0o777 == 0o750


def test_where_another_path_is_given_the_study_folder_that_may_be_meant_is_named(tmp_path):
    study = tmp_path / "runs" / "toy"
    create(study, "study: toy\n")
    write_plan(StudyFolder(study).plan, ())
    (tmp_path / "toy.yaml").touch()
    with pytest.raises(FolderError, match="is a file, not a folder; expected its study folder: runs/NAME"):
        open_folder(tmp_path / "toy.yaml")
    with pytest.raises(FolderError, match=f"expected one of the study folders in it: {study}"):
        open_folder(tmp_path / "runs")
    with pytest.raises(FolderError, match=r"is not empty and is not a study folder$"):
        open_folder(tmp_path)
