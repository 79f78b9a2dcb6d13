"""Another name for a study, another place for its folder, and what names it. Tests commands/move.py."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from builders import study
from made_up_folders import made_up_folder

from tunectl.commands import move
from tunectl.commands.move import move_study, rename_study
from tunectl.core.errors import FolderError, StudyError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.execution.runner_lock import acquire
from tunectl.language.campaign import read_campaign
from tunectl.session.campaign_folder import rounds_of
from tunectl.session.open_study import study_in
from tunectl.session.snapshot import study_snapshot

RANGE = {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}
CAMPAIGN = """\
goal: x  # mine
baseline: runs/a/1
rounds: [a.yaml]
launched:
  - study: runs/a
    trial: 0
    because: good
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.chdir(tmp_path)
    text = study(RANGE, search="{trials: 2}").text.replace("study: s\n", "study: a\n")
    made = made_up_folder(tmp_path / "runs" / "a", text, lambda _: 0.5, file=tmp_path / "a.yaml")
    assert study_in(made).name == "a"
    (tmp_path / "campaign.yaml").write_text(CAMPAIGN)
    return StudyFolder(Path("runs/a"))


def damage(place: Path) -> list[str]:
    with study_snapshot(place) as found:
        assert [item.state for item in found.outcomes] == ["completed", "completed"]
        return list(found.damage)


def named() -> tuple[Any, list[Path | None], str]:
    campaign = read_campaign(Path())
    return campaign.baseline, [item.folder for item in rounds_of(campaign)], campaign.launched[0].place


def test_a_renamed_study_is_whole_under_its_new_name_and_place(folder: StudyFolder) -> None:
    moved = rename_study(folder.path, "b")
    assert (moved.new, moved.study) == (Path("runs/b"), "b")
    assert not folder.path.exists()
    assert study_in(StudyFolder(moved.new)).name == "b"
    assert damage(moved.new) == []
    assert named() == ("runs/b/1", [Path("runs/b")], "runs/b/0")
    assert "# mine" in Path("campaign.yaml").read_text()
    assert "write study: b in a.yaml: with another name it is another study" in moved.lines


def test_renaming_goes_on_after_a_kill_before_the_folder_is_moved(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(_old: Path, _new: Path) -> None:
        raise KilledError

    with monkeypatch.context() as here:
        here.setattr(move, "_move", killed)
        here.setattr(contextlib.ExitStack, "callback", lambda *_words: None)  # a kill undoes nothing
        with pytest.raises(KilledError):
            rename_study(folder.path, "b")
    assert study_in(folder).name == "b"
    assert rename_study(folder.path, "b").new == Path("runs/b")
    assert named() == ("runs/b/1", [Path("runs/b")], "runs/b/0")
    assert damage(Path("runs/b")) == []


def test_where_the_folder_cannot_be_moved_the_campaign_is_as_before(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_old: Path, _new: Path) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(move, "_rename", refused)
    with pytest.raises(FolderError, match=r"elsewhere: cannot be created: Permission denied"):
        move_study(folder.path, Path("elsewhere"))
    assert Path("campaign.yaml").read_text() == CAMPAIGN
    assert damage(folder.path) == []


@pytest.mark.parametrize("name", ["a b", "-a", "a/b", "..", ""])
def test_a_name_that_a_study_cannot_have_is_refused(folder: StudyFolder, name: str) -> None:
    before = folder.study.read_bytes()
    with pytest.raises((StudyError, FolderError)):
        rename_study(folder.path, name)
    assert folder.study.read_bytes() == before
    assert Path("campaign.yaml").read_text() == CAMPAIGN


def test_a_place_that_is_taken_is_refused(folder: StudyFolder) -> None:
    for place in (Path("runs/b"), Path("there/a")):
        place.mkdir(parents=True)
    with pytest.raises(FolderError, match="runs/b: is there already"):
        rename_study(folder.path, "b")
    with pytest.raises(FolderError, match="there/a: is there already"):
        move_study(folder.path, Path("there"))
    with pytest.raises(FolderError, match=r"no/where: there is no such folder"):
        move_study(folder.path, Path("no/where/b"))
    with pytest.raises(FolderError, match="inside the folder that is to be moved"):
        move_study(folder.path, folder.path / "b")


def test_a_folder_is_moved_into_a_folder_that_is_there(folder: StudyFolder) -> None:
    Path("archive").mkdir()
    moved = move_study(folder.path, Path("archive"))
    assert moved.new == Path("archive/a")
    assert damage(moved.new) == []
    assert named() == ("archive/a/1", [Path("archive/a")], "archive/a/0")
    assert "`tunectl run a.yaml --dir archive/a` continues it" in moved.lines


def test_on_another_file_system_it_is_copied_and_then_removed(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, tried = move._rename, []

    def across(old: Path, new: Path) -> None:
        tried.append(old)
        if len(tried) == 1:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(old, new)

    monkeypatch.setattr(move, "_rename", across)
    (folder.trial(0).path / "link").symlink_to("nothing")
    move_study(folder.path, Path("b"))
    assert damage(Path("b")) == []
    assert (StudyFolder(Path("b")).trial(0).path / "link").is_symlink()
    assert sorted(path.name for path in Path().iterdir()) == ["a.yaml", "b", "campaign.yaml", "runs"]
    assert not folder.path.exists()


def test_while_a_run_is_at_work_and_through_a_link_nothing_is_moved(folder: StudyFolder) -> None:
    locked = acquire(folder.lock)
    try:
        with pytest.raises(FolderError, match="works in it; move it when it has ended"):
            move_study(folder.path, Path("b"))
    finally:
        locked.release()
    Path("link").symlink_to(folder.path)
    with pytest.raises(FolderError, match="link: is a link; name the folder itself"):
        move_study(Path("link"), Path("b"))


def test_the_folder_of_a_procedure_has_its_name_from_its_study(folder: StudyFolder) -> None:
    folder.procedure.write_text("{}")
    with pytest.raises(UsageError, match="got that of a procedure"):
        rename_study(folder.path, "b")


def test_a_study_that_starts_from_its_trials_is_named(folder: StudyFolder) -> None:
    text = study(RANGE, search="{sampler: bayesian, after: runs/a, trials: 2}").text
    made_up_folder(Path("runs/next"), text, lambda _: 0.5, file=Path("next.yaml")).plan.touch()
    (line,) = (line for line in move_study(folder.path, Path("b")).lines if "next" in line)
    assert line == "warning: runs/next names its old place (search.after: runs/a): write b in its study file"
