"""Whether a worker's host has the code of the run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tunectl.core.errors import UsageError
from tunectl.core.own_code_request import Program
from tunectl.core.records import WorkloadReference
from tunectl.execution import run_code
from tunectl.execution.run_code import check_same_code, with_program
from tunectl.store.run_state import WorkerNeeds

HERE = {"tunectl": "1.4", "torch": "2.9.1+cpu", "numpy": "2.1.0", "scipy": None}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_code, "installed_versions", lambda: HERE)


def checked(
    *, own_code: bool = False, files: dict[str, str] | None = None, versions: dict[str, str] | None = None
) -> list[str]:
    said: list[str] = []
    reference = WorkloadReference("mine.py:make", "make")
    check_same_code(WorkerNeeds(reference, own_code=own_code, files=files or {}, versions=versions or {}), said.append)
    return said


def test_the_same_versions_are_accepted_whatever_their_build() -> None:
    assert checked(versions={"tunectl": "1.4", "torch": "2.9.1+cu128", "numpy": "2.1.0", "scipy": "1.16"}) == []
    assert checked() == [], "a run of an earlier version does not say its versions"


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"tunectl": "1.5"}, "tunectl 1.4 is installed here, and the run has 1.5"),
        ({"torch": "2.8.0"}, r"torch 2.9.1\+cpu is installed here, and the run has 2.8.0"),
    ],
)
def test_another_version_of_what_trains_is_refused(versions: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        checked(versions=versions)


def test_another_version_of_a_library_beside_it_is_a_warning() -> None:
    warning = "warning: numpy 2.1.0 is installed here, and the run has 1.26: results may differ"
    assert checked(versions={"numpy": "1.26"}) == [warning]
    assert checked(own_code=True, versions={"torch": "2.8.0"}) == [
        "warning: torch 2.9.1+cpu is installed here, and the run has 2.8.0: results may differ"
    ]


def test_another_file_of_the_user_s_code_is_refused_and_one_that_is_not_here_is_left_to_the_loading(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.py"
    known = {str(file): hashlib.sha256(b"a = 1").hexdigest()}
    assert checked(files=known) == []
    file.write_text("a = 1")
    assert checked(files=known) == []
    file.write_text("a = 2")
    with pytest.raises(UsageError, match=r"mine\.py is another file here.*then call the command of the run again"):
        checked(files=known)


def needs_of(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None, files: dict[str, str] | None = None
) -> WorkerNeeds:
    needs = WorkerNeeds(WorkloadReference("", workload_kind="command"), own_code=True, files=files or {})
    return with_program(needs, Program(arguments, str(folder), environment=environment or {}))


def test_a_host_without_the_program_of_a_command_trains_none_of_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("here", "there"):
        program = tmp_path / place / "mytrain"
        program.parent.mkdir()
        program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "here"))
    needs, said = (
        needs_of(tmp_path, "mytrain", files={str(tmp_path / "train.py"): hashlib.sha256(b"").hexdigest()}),
        list[str](),
    )
    with pytest.raises(UsageError, match=r"there is no file .*/train\.py here\. Let the hosts have the same$"):
        check_same_code(needs, said.append)
    (tmp_path / "train.py").touch()
    check_same_code(needs, said.append)
    assert said == []
    monkeypatch.setenv("PATH", str(tmp_path / "there"))
    check_same_code(needs, said.append)
    here, there = (tmp_path / place / "mytrain" for place in ("here", "there"))
    assert said == [f"warning: mytrain is {there} here, and the run has {here}: results may differ"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=f"there is no program 'mytrain' here, neither on the PATH nor in {tmp_path}"):
        check_same_code(needs, said.append)
    with pytest.raises(UsageError, match=f"there is no folder {tmp_path}/gone here"):
        check_same_code(needs_of(tmp_path / "gone", "mytrain"), said.append)


def test_a_program_that_depends_on_the_trial_or_on_the_study_s_own_path_is_not_looked_for(tmp_path: Path) -> None:
    found = [
        needs_of(tmp_path, "{way}"),
        needs_of(tmp_path, "mytrain", environment={"PATH": "/opt/mine"}),
        with_program(WorkerNeeds(WorkloadReference("", "")), None),
    ]
    assert [(needs.program, needs.program_path) for needs in found] == [("", "")] * 3
    for needs in found:
        check_same_code(needs, pytest.fail)
