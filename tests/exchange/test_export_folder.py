"""Where exports go: an earlier one of the same study is replaced, nothing else is touched."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tunectl.core import real_folders
from tunectl.core.errors import FolderError, TunectlError, UsageError
from tunectl.exchange.export_folder import MARK, Owner, database_file, replaced_folder


def put(place: Path, name: str, study: str = "/runs/s", tool: str = "csv", identity: str = "s") -> None:
    with replaced_folder(place, Owner(study, identity), tool) as folder:
        (folder / name).write_text(name)


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_an_earlier_export_of_the_study_is_replaced_as_a_whole(tmp_path):
    put(tmp_path / "deep" / "out", "first")
    put(tmp_path / "deep" / "out", "second")
    assert names(tmp_path / "deep" / "out") == ["second", MARK]
    assert names(tmp_path / "deep") == ["out"]


def test_an_export_that_fails_leaves_the_earlier_one_and_nothing_else(tmp_path):
    put(tmp_path / "out", "first")
    with (
        pytest.raises(FolderError, match="cannot be written"),
        replaced_folder(tmp_path / "out", Owner("/runs/s", "s"), "csv") as folder,
    ):
        (folder / "no folder" / "half").write_text("half")
    assert names(tmp_path / "out") == ["first", MARK]
    assert names(tmp_path) == ["out"]


def test_what_a_killed_export_left_is_cleared_away(tmp_path):
    (tmp_path / ".out.0123abcd.tmp").mkdir()
    (tmp_path / ".out.0123abcd.tmp" / "half").write_text("half")
    put(tmp_path / "out", "whole")
    assert names(tmp_path) == ["out"]
    assert sorted(names(tmp_path / "out")) == sorted([MARK, "whole"])


@pytest.mark.parametrize("name", [".out.tmp", ".out.old", ".out.new.tmp"])
def test_a_folder_of_the_user_s_that_only_looks_like_a_temporary_one_stays(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("years of work")
    put(tmp_path / "out", "first")
    put(tmp_path / "out", "second")
    assert (tmp_path / name / "thesis.txt").read_text() == "years of work"


def test_two_exports_to_one_place_at_the_same_time_do_not_write_into_each_other_s_folder(tmp_path):
    with replaced_folder(tmp_path / "out", Owner("/runs/s", "s"), "csv") as first:
        (first / "one").write_text("of the first")
        put(tmp_path / "out", "second")
        assert names(first) == ["one"]
    assert names(tmp_path / "out") == ["one", MARK]
    assert names(tmp_path) == ["out"]


def test_an_export_that_cannot_take_its_place_leaves_the_earlier_one(tmp_path, monkeypatch):
    put(tmp_path / "out", "first")
    move = real_folders.move

    def failing(path, to, within):
        if to == tmp_path / "out" and path.name != "out":
            raise OSError(5, "Input/output error")
        move(path, to, within)

    monkeypatch.setattr(real_folders, "move", failing)
    with pytest.raises(FolderError, match="Input/output error"):
        put(tmp_path / "out", "second")
    assert names(tmp_path / "out") == ["first", MARK]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("study", "tool", "message"),
    [("/runs/other", "csv", "holds the export of /runs/s for csv"), ("/runs/s", "parquet", "of /runs/s for csv")],
)
def test_the_export_of_another_study_or_for_another_tool_is_left_alone(tmp_path, study, tool, message):
    put(tmp_path / "out", "first")
    with pytest.raises(FolderError, match=message):
        put(tmp_path / "out", "second", study, tool)
    assert names(tmp_path / "out") == ["first", MARK]


def test_inside_its_study_folder_an_export_is_known_wherever_that_was_moved_to_and_outside_it_is_not(tmp_path):
    home = tmp_path / "moved"
    put(home / "exports" / "csv", "first", "/runs/s")
    put(home / "exports" / "csv", "second", str(home))
    assert names(home / "exports" / "csv") == ["second", MARK]
    put(home / "exports" / "other", "first", "/runs/other", identity="other")
    with pytest.raises(FolderError, match="holds the export of /runs/other for csv"):
        put(home / "exports" / "other", "second", str(home))
    put(tmp_path / "out", "first", "/runs/s")
    with pytest.raises(FolderError, match="holds the export of /runs/s for csv"):
        put(tmp_path / "out", "second", str(home))


def test_folders_with_something_else_in_them_are_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderError, match=r"is not empty and is not an export of tunectl; give another --out"):
        put(tmp_path / "mine", "x")
    put(tmp_path / "out", "first")
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderError, match=r"holds thesis\.txt, which tunectl did not export"):
        put(tmp_path / "out", "x")
    assert names(tmp_path / "out") == ["first", "thesis.txt", MARK]


def test_files_and_dead_links_are_refused_and_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match="expected a folder, got a file"):
        put(tmp_path / "file", "x")
    with pytest.raises(FolderError, match="is a link to nothing"):
        put(tmp_path / "link", "x")
    put(tmp_path / "empty", "x")
    assert names(tmp_path / "empty") == [MARK, "x"]


def test_a_database_is_a_file_that_is_missing_empty_or_the_tools_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    def file(out):
        return database_file(str(out), "sometool", ("studies", "versions"))

    empty, there, other = tmp_path / "empty.db", tmp_path / "there.db", tmp_path / "other.db"
    empty.touch()
    made(there, "studies", "versions", "more")
    made(other, "studies")
    assert [file(place) for place in (empty, there)] == [empty, there]
    assert file(f"sqlite:///{there}") == there
    assert file("~/there.db") == there
    assert file(tmp_path / "new" / "n.db").parent.is_dir()
    (tmp_path / "text.db").write_text("no database")
    (tmp_path / "torn.db").write_bytes(b"SQLite format 3\0 and more")
    before = other.read_bytes()
    cases = {
        "mysql://me:secret@host/db": (
            UsageError,
            r"--out: expected a local SQLite file, .*, got mysql://me:\*\*\*@host/db",
        ),
        str(tmp_path): (FolderError, "expected a file, got a folder"),
        str(tmp_path / "text.db"): (FolderError, "is not a SQLite database"),
        str(tmp_path / "torn.db"): (FolderError, "cannot be read as a SQLite database"),
        str(other): (FolderError, "is a database of another program than sometool; give another --out"),
        "/dev/null": (FolderError, "is not a SQLite database"),
        str(tmp_path / "what?.db"): (UsageError, "cannot contain"),
    }
    for out, (kind, message) in cases.items():
        with pytest.raises(TunectlError, match=message) as caught:
            file(out)
        assert type(caught.value) is kind
    assert other.read_bytes() == before


def made(place: Path, *tables: str) -> None:
    with contextlib.closing(sqlite3.connect(place)) as database:
        for table in tables:
            database.execute(f"CREATE TABLE {table} (x)")
