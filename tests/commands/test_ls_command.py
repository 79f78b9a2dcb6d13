"""`ls`: the tracking table of the studies below a folder.

Tests commands/ls.py.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder

from tunectl.commands.ls import tracked_studies, tracking_table
from tunectl.core.errors import FolderError
from tunectl.report.table import csv_bytes
from tunectl.store.study_folder import open_folder

RATE = {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}


def text(name: str, **sections: str) -> str:
    return study_text(RATE, study=name, search="{trials: 3}", **sections)


def test_a_study_is_listed_with_its_goal_its_best_trial_and_how_to_reproduce_it(tmp_path):
    made_up_folder(
        tmp_path / "runs" / "first",
        text("first", goal="how good?", notes="an idea"),
        lambda plan: 0.5 - plan.trial / 10,
    )
    (found,) = tracked_studies(tmp_path)
    assert (found.study, found.study_kind, found.goal, found.notes) == ("first", "study", "how good?", "an idea")
    assert (found.planned, found.run, found.completed, found.infeasible, found.failed) == (3, 3, 3, 0, 0)
    assert (found.metric, found.best_trial, found.best_step) == ("valid/error_rate", 2, 50)
    assert found.best_value == pytest.approx(0.3)
    assert found.best_checkpoint == str(tmp_path / "runs/first/trials/00002/checkpoints/step-00000050.pt")
    assert Path(found.best_checkpoint).is_file()
    assert found.command == f"cd {Path.cwd()} && tunectl run study_file.yaml"
    assert found.study_file == str(tmp_path / "runs" / "study_file.yaml")
    assert found.date == "2026-03-01T12:00:00+00:00"


def test_studies_are_found_at_any_depth_and_never_inside_another_study(tmp_path):
    for place in ("b", "a/deep/er/one", "with space/two"):
        made_up_folder(tmp_path / place, text("s"), lambda _: 0.5)
    inner = tmp_path / "b" / "trials" / "00000" / "inner"
    made_up_folder(inner, text("s"), lambda _: 0.5)
    (tmp_path / ".hidden").mkdir()
    made_up_folder(tmp_path / ".hidden" / "three", text("s"), lambda _: 0.5)
    assert [str(Path(item.folder).relative_to(tmp_path)) for item in tracked_studies(tmp_path)] == [
        "a/deep/er/one",
        "b",
        "with space/two",
    ]
    assert [item.folder for item in tracked_studies(tmp_path / "b")] == [str(tmp_path / "b")]


def test_a_study_that_cannot_be_read_is_listed_with_what_is_wrong(tmp_path):
    made_up_folder(tmp_path / "good", text("good"), lambda _: 0.5)
    broken = made_up_folder(tmp_path / "broken", text("broken"), lambda _: 0.5)
    broken.study.write_text("nonsense: [")
    problems = {Path(item.folder).name: item.problem for item in tracked_studies(tmp_path)}
    assert problems["good"] == ""
    assert "study.yaml" in problems["broken"]


def test_a_procedures_folder_is_listed_as_what_it_is(tmp_path):
    folder = made_up_folder(tmp_path / "p", text("s"), lambda _: 0.5)
    folder.procedure.write_text('{"procedure": "lr-sweep"}')
    assert [item.study_kind for item in tracked_studies(tmp_path)] == ["lr-sweep"]
    folder.procedure.write_text("[]")
    assert [item.study_kind for item in tracked_studies(tmp_path)] == ["procedure"]


def test_the_table_reads_back_from_csv(tmp_path):
    made_up_folder(tmp_path / "one", text("s", goal='"a, \\"quoted\\" goal"'), lambda plan: None)
    studies = tracked_studies(tmp_path)
    (row,) = csv.DictReader(io.StringIO(csv_bytes(tracking_table(studies)).decode()))
    assert row["goal"] == 'a, "quoted" goal'
    assert (row["infeasible"], row["best_value"]) == ("3", "")
    assert list(row) == list(studies[0].to_json())


def test_a_folder_without_studies_is_empty_and_a_missing_one_is_named(tmp_path):
    assert tracked_studies(tmp_path) == []
    with pytest.raises(FolderError, match="there is no such folder"):
        tracked_studies(tmp_path / "nowhere")


@contextlib.contextmanager
def someone_elses(folder: Path, mode: int) -> Iterator[None]:
    """A folder below the current one as another user's, with these rights left; root is another user for a while."""
    folder.chmod(mode)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which another user may enter, too, by a path that begins here."""
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111], ids=oct)
def test_a_folder_that_cannot_be_read_is_passed_over_and_named(here: Path, mode: int) -> None:
    made_up_folder(here / "good", text("good"), lambda _: 0.5)
    made_up_folder(here / "locked" / "inner", text("inner"), lambda _: 0.5)
    said: list[str] = []
    with someone_elses(here / "locked", mode):
        assert [item.study for item in tracked_studies(here, said.append)] == ["good"]
        assert said == ["locked: cannot be read: Permission denied; it is passed over"]
        for call in (tracked_studies, open_folder):
            with pytest.raises(FolderError, match="locked: cannot be read: Permission denied"):
                call(here / "locked")


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111], ids=oct)
def test_a_study_folder_that_cannot_be_read_is_listed_or_named(here: Path, mode: int) -> None:
    made_up_folder(here / "s", text("s"), lambda _: 0.5)
    said: list[str] = []
    with someone_elses(here / "s", mode):
        problems = [item.problem for item in tracked_studies(here, said.append)]
    assert len(problems) + len(said) == 1
    assert "s: cannot be read: Permission denied" in (problems + said)[0]


def test_a_link_to_nothing_is_passed_over_and_named_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to("nowhere")
    assert tracked_studies(tmp_path) == []
    for place in ("runs", "runs/s"):
        with pytest.raises(FolderError, match=r"runs is a link to nothing \(nowhere is not there\)"):
            tracked_studies(tmp_path / place)
