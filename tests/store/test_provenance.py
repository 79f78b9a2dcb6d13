from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest
from git_repositories import committed, git

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.store import git_repository as repository_module
from tunectl.store.provenance import (
    append_provenance,
    describe_run,
    read_provenance,
    workload_hash_changed,
)

NOW = datetime(2025, 3, 1, 12, 30, 15, 999, tzinfo=UTC)


@pytest.fixture
def repository(tmp_path):
    return committed(tmp_path / "repo é", {"workload.py": b"one = 1\n"})


@pytest.fixture
def describe(tmp_path):
    def run(workload=None, study=None, folder=tmp_path / "runs" / "s"):
        return describe_run(
            ["tunectl", "run", "a b.yaml"], workload_file=workload, study_file=study, study_folder=folder, now=NOW
        )

    return run


def test_a_clean_repository_is_described(repository, describe):
    file = repository / "workload.py"
    run = describe(file)
    assert run.entry["git"] == {
        "repository": str(repository),
        "commit": git(repository, "rev-parse", "HEAD"),
        "branch": "main",
        "dirty": False,
    }
    assert run.uncommitted == b""
    assert run.entry["uncommitted_sha256"] is None
    assert run.entry["workload_file"] == {"path": str(file), "sha256": hashlib.sha256(b"one = 1\n").hexdigest()}
    assert run.entry["study_file"] is None
    assert run.entry["time"] == "2025-03-01T12:30:15+00:00"
    assert run.entry["command"] == ["tunectl", "run", "a b.yaml"]
    assert run.entry["versions"]["torch"]
    assert json.loads(json.dumps(run.entry)) == run.entry


def test_uncommitted_changes_are_a_patch_that_applies_and_a_list_of_untracked_files(repository, describe, tmp_path):
    (repository / "workload.py").write_text("one = 2\n")
    (repository / "new é.py").write_text("secret")
    run = describe(None, repository / "workload.py")
    assert run.entry["git"]["dirty"] is True
    assert "\n# untracked: new é.py\n".encode() in run.uncommitted
    assert b"+one = 2" in run.uncommitted
    assert b"secret" not in run.uncommitted
    assert run.entry["uncommitted_sha256"] == hashlib.sha256(run.uncommitted).hexdigest()
    git(repository, "checkout", "--", "workload.py")
    (tmp_path / "patch").write_bytes(run.uncommitted)
    git(repository, "apply", str(tmp_path / "patch"))
    assert (repository / "workload.py").read_text() == "one = 2\n"


def test_staged_changes_count_too(repository, describe):
    (repository / "other.py").write_text("two = 2\n")
    git(repository, "add", "other.py")
    run = describe(repository / "workload.py")
    assert run.entry["git"]["dirty"] is True
    assert b"+two = 2" in run.uncommitted


def test_the_study_s_own_folder_is_no_change(repository, describe):
    folder = repository / "runs" / "[s]*"
    folder.mkdir(parents=True)
    (folder / "plan.jsonl").write_text("x")
    assert describe(repository / "workload.py", folder=folder).entry["git"]["dirty"] is False
    (repository / "runs" / "other").write_text("x")
    assert describe(repository / "workload.py", folder=folder).entry["git"]["dirty"] is True


def test_describing_changes_nothing_in_the_repository(repository, describe):
    (repository / "workload.py").touch()
    index = (repository / ".git" / "index").read_bytes()
    describe(repository / "workload.py")
    assert (repository / ".git" / "index").read_bytes() == index


def test_a_detached_head_has_no_branch_and_a_fresh_repository_no_commit(repository, describe, tmp_path):
    git(repository, "checkout", "--detach")
    found = describe(repository / "workload.py").entry["git"]
    assert found["branch"] is None
    assert found["commit"]
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    git(fresh, "init")
    (fresh / "w.py").write_text("x = 1\n")
    git(fresh, "add", "w.py")
    run = describe(fresh / "w.py")
    assert (run.entry["git"]["commit"], run.entry["git"]["branch"], run.entry["git"]["dirty"]) == (None, "main", True)
    assert b"+x = 1" in run.uncommitted


def test_a_hook_s_environment_does_not_point_elsewhere(repository, describe, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "none"))
    assert describe(repository / "workload.py").entry["git"]["dirty"] is False


def test_no_program_set_for_diffs_is_run(repository, describe, tmp_path):
    git(repository, "config", "diff.external", f"touch {tmp_path / 'ran'}")
    git(repository, "config", "core.pager", f"touch {tmp_path / 'ran'}")
    (repository / "workload.py").write_text("one = 2\n")
    assert b"+one = 2" in describe(repository / "workload.py").uncommitted
    assert not (tmp_path / "ran").exists()


UNKNOWN = {"repository": None, "commit": None, "branch": None, "dirty": None}


def test_without_a_repository_the_git_facts_are_unknown(tmp_path, describe, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "w.py").write_text("")
    assert describe(tmp_path / "w.py").entry["git"] == UNKNOWN
    assert describe().entry["git"] == UNKNOWN
    gone = describe(tmp_path / "gone" / "w.py").entry
    assert gone["git"] == UNKNOWN
    assert gone["workload_file"]["sha256"] is None


def test_without_git_the_git_facts_are_unknown(repository, describe, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe(repository / "workload.py").entry["git"] == UNKNOWN


def test_a_git_that_hangs_is_given_up(repository, describe, monkeypatch, tmp_path):
    script = tmp_path / "bin" / "git"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\nexec /bin/cat < /dev/zero > /dev/null\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setattr(repository_module, "GIT_TIMEOUT_SECONDS", 0.1)
    assert describe(repository / "workload.py").entry["git"] == UNKNOWN


def test_runs_are_kept_in_their_order(repository, describe, tmp_path):
    folder = StudyFolder(tmp_path)
    append_provenance(folder, describe(repository / "workload.py"))
    assert folder.uncommitted.read_bytes() == b""
    (repository / "workload.py").write_text("one = 2\n")
    second = describe(repository / "workload.py")
    append_provenance(folder, second)
    content = json.loads(folder.provenance.read_text())
    assert content["format"] == 1
    assert [entry["git"]["dirty"] for entry in content["runs"]] == [False, True]
    assert read_provenance(folder) == content["runs"]
    assert folder.uncommitted.read_bytes() == second.uncommitted


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"runs": [1]}', b'{"runs": 3}', b"\xff\0", b"[" * 100_000])
def test_a_damaged_provenance_is_put_aside(describe, tmp_path, content):
    folder = StudyFolder(tmp_path)
    folder.provenance.write_bytes(content)
    assert read_provenance(folder) == []
    assert append_provenance(folder, describe()) == tmp_path / "provenance.json.damaged"
    assert len(read_provenance(folder)) == 1
    assert (tmp_path / "provenance.json.damaged").read_bytes() == content


def test_every_damaged_provenance_is_kept_under_a_name_of_its_own(describe, tmp_path):
    folder, names = (
        StudyFolder(tmp_path),
        ["provenance.json.damaged", *(f"provenance.json.damaged.{n}" for n in (2, 3))],
    )
    for number, name in enumerate(names):
        folder.provenance.write_text(f"damaged {number}")
        assert append_provenance(folder, describe()) == tmp_path / name
    assert [(tmp_path / name).read_text() for name in names] == ["damaged 0", "damaged 1", "damaged 2"]
    assert append_provenance(folder, describe()) is None
    assert len(read_provenance(folder)) == 2


def test_a_provenance_that_cannot_be_written_is_a_clear_error(describe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"provenance\.json: cannot be written"):
        append_provenance(StudyFolder(tmp_path / "file"), describe())
    (tmp_path / "provenance.json").mkdir()
    assert read_provenance(StudyFolder(tmp_path)) == []


def test_a_changed_workload_is_noticed_by_its_hash(describe, tmp_path):
    folder, file = StudyFolder(tmp_path), tmp_path / "w.py"
    file.write_text("a")
    assert not workload_hash_changed(folder, file)
    append_provenance(folder, describe(file))
    append_provenance(folder, describe(None))
    assert not workload_hash_changed(folder, file)
    assert not workload_hash_changed(folder, None)
    file.write_text("b")
    assert workload_hash_changed(folder, file)
    append_provenance(folder, describe(file))
    assert not workload_hash_changed(folder, file)
    file.unlink()
    assert not workload_hash_changed(folder, file)
