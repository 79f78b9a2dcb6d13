"""The uncommitted changes of a study's repository: what is kept, what is not, and that git applies it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from git_repositories import committed, git

from tunectl.core.records import DiffExtent
from tunectl.store import git_repository as module
from tunectl.store.git_repository import describe_repository

HOSTILE = {
    "color.ui": "always",
    "color.diff": "always",
    "diff.noprefix": "true",
    "diff.mnemonicPrefix": "true",
    "diff.external": "false",
    "diff.renames": "copies",
    "diff.algorithm": "patience",
    "diff.context": "0",
    "diff.interHunkContext": "9",
    "diff.relative": "true",
    "diff.orderFile": "/nowhere",
    "diff.submodule": "diff",
    "diff.ignoreSubmodules": "all",
    "diff.suppressBlankEmpty": "true",
    "diff.colorMoved": "zebra",
    "diff.wsErrorHighlight": "all",
    "diff.shown.textconv": "tr a-z A-Z <",
    "diff.shown.command": "false",
    "core.quotePath": "true",
    "core.pager": "false",
    "core.autocrlf": "true",
    "core.safecrlf": "warn",
    "status.showUntrackedFiles": "no",
    "status.relativePaths": "true",
    "apply.whitespace": "error",
}
ODD = os.fsdecode(b'src/caf\xe9 \t"x\n.txt')
NOISE = random.Random(0).randbytes(3000)
FILES = {
    ".gitattributes": b"*.shown diff=shown\n*.marked -diff\n",
    "src/train.py": b"".join(b"line %d\n" % n for n in range(60)),
    "src/noise.bin": NOISE,
    "src/gone.bin": NOISE[::-1],
    "src/words.shown": b"one\ntwo\n",
    "src/words.marked": b"one\ntwo\n",
    "src/old name.py": b"moved = 1\n" * 20,
    "src/run.sh": b"#!/bin/sh\n",
    "src/windows.txt": b"a\nb\n",
    "src/no_end": b"no newline",
    ODD: b"odd\n",
    "other/model.py": b"one = 1\n",
    "other/.env": b"TOKEN=old\n",
    "src/.env": b"TOKEN=old\n",
}


def change(folder: Path) -> None:
    """Changes of every kind, in the folder src and elsewhere."""
    lines = [b"line %d\n" % n for n in range(60)]
    lines[5], lines[40] = b"changed \n", b"\x1b[31mchanged\r\n"
    (folder / "src/train.py").write_bytes(b"".join(lines))
    (folder / "src/noise.bin").write_bytes(NOISE[:1000] + b"\0new\0" + NOISE[1000:])
    (folder / "src/gone.bin").unlink()
    (folder / "src/words.shown").write_bytes(b"one\nTWO\n")
    (folder / "src/words.marked").write_bytes(b"ONE\ntwo\n")
    git(folder, "mv", "src/old name.py", "src/new name.py")
    (folder / "src/run.sh").chmod(0o755)
    (folder / "src/windows.txt").write_bytes(b"a\r\nb\r\nc\r\n")
    (folder / "src/no_end").unlink()
    (folder / "src/no_end").symlink_to("train.py")
    (folder / ODD).write_bytes(b"odder\n")
    (folder / "src/staged.py").write_bytes(b"two = 2\n")
    git(folder, "add", "src/staged.py")
    (folder / "src/untracked.py").write_bytes(b"three = 3\n")
    (folder / "other/model.py").write_bytes(b"one = 2\n")
    for place in ("src", "other"):
        (folder / place / ".env").write_bytes(b"TOKEN=new\n")


def contents(folder: Path, below: str = "src") -> dict[str, object]:
    return {
        os.fsencode(path.relative_to(folder)).decode("latin-1"): str(path.readlink())
        if path.is_symlink()
        else (path.read_bytes().replace(b"\r\n", b"\n"), path.stat().st_mode & 0o111)
        for path in (folder / below).rglob("*")
        if path.name not in (".env", "untracked.py")
    }


def uncommitted(folders: Sequence[Path], extent: DiffExtent = "folders") -> bytes:
    return describe_repository(folders, folders[0] / "runs" / "s", extent).uncommitted


def comments(diff: bytes) -> list[str]:
    return [line for line in diff.decode(errors="replace").split("diff --git")[0].splitlines() if line[:1] == "#"]


def applied(diff: bytes, folder: Path) -> Path:
    """The repository at its commit, with the changes put in again."""
    clean = folder.with_name("clean")
    shutil.copytree(folder, clean, symlinks=True)
    git(clean, "reset", "--hard")
    git(clean, "clean", "-fd")
    (folder.parent / "uncommitted.diff").write_bytes(diff)
    git(clean, "apply", "--whitespace=nowarn", str(folder.parent / "uncommitted.diff"))
    return clean


@pytest.mark.parametrize("hostile", [False, True])
def test_git_applies_the_changes_of_every_kind_whatever_the_user_s_configuration_is(
    tmp_path: Path, hostile: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = committed(tmp_path / "repo", FILES)
    if hostile:
        for name, value in HOSTILE.items():
            git(folder, "config", name, value)
        for name, value in {"GIT_DIFF_OPTS": "-u0", "GIT_EXTERNAL_DIFF": "false", "GIT_LITERAL_PATHSPECS": "1"}.items():
            monkeypatch.setenv(name, value)
    change(folder)
    diff = uncommitted([folder / "src"])
    for name in ("GIT_DIFF_OPTS", "GIT_EXTERNAL_DIFF", "GIT_LITERAL_PATHSPECS"):
        monkeypatch.delenv(name, raising=False)
    assert contents(applied(diff, folder)) == contents(folder)
    assert "# untracked: src/untracked.py" in comments(diff)


def test_what_is_outside_of_the_folders_and_what_may_be_secret_is_listed_and_not_kept(tmp_path: Path) -> None:
    folder = committed(tmp_path / "repo", FILES)
    change(folder)
    diff = uncommitted([folder / "src"])
    head = comments(diff)
    assert head[0] == f"# changes since commit {git(folder, 'rev-parse', 'HEAD')} to tracked files in: src/"
    assert [line for line in head if "not kept" in line] == [
        "# not kept, elsewhere: other/.env",
        "# not kept, elsewhere: other/model.py",
        "# not kept, may be secret: src/.env",
    ]
    assert b"TOKEN" not in diff
    assert b"one = 2" not in diff
    whole = uncommitted([folder / "src"], "repository")
    assert b"+one = 2" in whole
    assert b"TOKEN" not in whole
    assert comments(whole)[0].endswith("to tracked files in: the whole repository")
    assert contents(applied(whole, folder), "other") == contents(folder, "other")


def test_the_folders_of_study_and_workload_are_kept_and_none_where_the_user_wants_none(tmp_path: Path) -> None:
    folder = committed(tmp_path / "repo", {"a/w.py": b"", "b/s.yaml": b"", "b/c/x": b"", "ab/x": b""})
    for name in ("a/w.py", "b/s.yaml", "b/c/x", "ab/x"):
        (folder / name).write_bytes(b"changed\n")
    diff = uncommitted([folder / "a", folder / "b", folder / "b" / "c", tmp_path])
    assert comments(diff)[0].endswith("to tracked files in: a/, b/")
    assert [line for line in comments(diff) if "not kept" in line] == ["# not kept, elsewhere: ab/x"]
    none = describe_repository([folder / "a"], folder / "runs", "none")
    assert (none.uncommitted, none.entry["dirty"]) == (b"", True)


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.local", "prod.env", ".ENV", ".envrc", ".netrc", ".pypirc", ".git-credentials"),
        *("id_rsa", "tls.key", "server.pem", "credentials.json", "client_secret.json", "secrets.yaml"),
    ],
)
def test_a_name_of_a_secret_is_known(tmp_path: Path, name: str) -> None:
    folder = committed(tmp_path / "repo", {name: b"old\n", "w.py": b"", "secrets.py": b""})
    for each in (name, "w.py", "secrets.py"):
        (folder / each).write_bytes(b"new\n")
    diff = uncommitted([folder])
    assert f"# not kept, may be secret: {name}" in comments(diff)
    assert diff.count(b"diff --git") == 2, "code is kept"


def test_a_large_file_is_listed_and_the_rest_applies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_FILE_BYTES", 2000)
    folder = committed(tmp_path / "repo", {"src/now": b"", "src/before": NOISE, "src/gone": NOISE, "src/w.py": b"1\n"})
    (folder / "src/now").write_bytes(NOISE)
    (folder / "src/before").write_bytes(b"")
    (folder / "src/gone").unlink()
    (folder / "src/w.py").write_bytes(b"2\n")
    diff = uncommitted([folder])
    listed = [line for line in comments(diff) if "larger" in line]
    assert listed == [f"# not kept, larger than 2000 bytes: src/{name}" for name in ("before", "gone", "now")]
    assert (applied(diff, folder) / "src/w.py").read_bytes() == b"2\n"


def test_changes_beyond_the_limit_leave_whole_files_out_so_that_the_rest_applies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = committed(tmp_path / "repo", {"a.py": b"1\n", "b.py": b"1\n", "c.py": b"1\n"})
    for name, count in (("a.py", 3), ("b.py", 400), ("c.py", 4)):
        (folder / name).write_bytes(b"2 two\n" * count)
    monkeypatch.setattr(module, "LARGEST_DIFF_BYTES", 1500)
    diff = uncommitted([folder])
    assert "# not kept, the changes are larger than 1500 bytes: a/b.py b/b.py" in comments(diff)
    clean = applied(diff, folder)
    assert [(clean / name).read_bytes() for name in ("a.py", "b.py", "c.py")] == [
        b"2 two\n" * 3,
        b"1\n",
        b"2 two\n" * 4,
    ]


def test_a_worktree_is_a_repository_of_its_own(tmp_path: Path) -> None:
    folder = committed(tmp_path / "repo", FILES)
    tree = tmp_path / "tree"
    git(folder, "worktree", "add", str(tree))
    change(tree)
    found = describe_repository([tree / "src"], tree / "runs", "folders")
    assert found.entry["repository"] == str(tree)
    git(folder, "clean", "-fd")
    (tmp_path / "uncommitted.diff").write_bytes(found.uncommitted)
    git(folder, "apply", "--whitespace=nowarn", str(tmp_path / "uncommitted.diff"))
    assert contents(folder) == contents(tree)


def test_what_changed_in_submodules_is_listed_and_the_rest_applies(tmp_path: Path) -> None:
    inner = committed(tmp_path / "inner", {"x.py": b"1\n"})
    folder = committed(tmp_path / "repo", {"w.py": b"1\n"})
    for name in ("moved", "dirty", "still"):
        git(folder, "-c", "protocol.file.allow=always", "submodule", "add", str(inner), name)
    git(folder, "commit", "-m", "second")
    before = git(inner, "rev-parse", "HEAD")
    (folder / "moved" / "x.py").write_bytes(b"2\n")
    git(folder / "moved", "commit", "-am", "moved")
    (folder / "dirty" / "x.py").write_bytes(b"2\n")
    (folder / "w.py").write_bytes(b"2\n")
    git(folder, "config", "diff.ignoreSubmodules", "all")
    git(folder, "config", "diff.submodule", "log")
    diff = uncommitted([folder])
    after = git(folder / "moved", "rev-parse", "HEAD")
    assert [line for line in comments(diff) if "submodule" in line] == [
        f"# submodule: dirty (was {before}, now {before}-dirty)",
        f"# submodule: moved (was {before}, now {after})",
    ]
    assert diff.count(b"diff --git") == 1
    assert (applied(diff, folder) / "w.py").read_bytes() == b"2\n"


def test_in_a_repository_without_a_commit_everything_that_was_added_is_a_change(tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init")
    (folder / "w.py").write_bytes(b"1\n")
    git(folder, "add", "w.py")
    (folder / "w.py").write_bytes(b"2\n")
    assert b"+2\n" in uncommitted([folder]), "as it is, not as it was added"


def test_a_file_in_conflict_is_kept_as_it_is(tmp_path: Path) -> None:
    folder = committed(tmp_path / "repo", {"w.py": b"1\n", "x.py": b"1\n"})
    git(folder, "checkout", "-b", "other")
    (folder / "w.py").write_bytes(b"2\n")
    git(folder, "commit", "-am", "theirs")
    git(folder, "checkout", "main")
    (folder / "w.py").write_bytes(b"3\n")
    git(folder, "commit", "-am", "ours")
    with pytest.raises(Exception, match="merge"):
        git(folder, "merge", "other")
    (folder / "x.py").write_bytes(b"4\n")
    clean = applied(uncommitted([folder]), folder)
    assert (clean / "w.py").read_bytes() == (folder / "w.py").read_bytes()
    assert (clean / "x.py").read_bytes() == b"4\n"
