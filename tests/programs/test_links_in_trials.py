"""Links in a trial's folder, from its program or from the author of the study, never lead out of it.

Tests programs/checkpoint_files.py with core/real_folders.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from program_calls import Programs
from test_kept_checkpoints import VALUES, kept, write

from tunectl.core.errors import FolderError
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.log_reader import Tail
from tunectl.core.real_folders import NotRegularError
from tunectl.programs import checkpoint_files
from tunectl.programs.unread_output import Beginning, note_beginning

OWN = b"export A=1\n"


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    made = TrialFolder(tmp_path / "study" / "trials" / "00007")
    (made.path / "files").mkdir(parents=True)
    return made


@pytest.fixture
def own(tmp_path: Path) -> Path:
    made = tmp_path / "own"
    made.mkdir()
    return made


def test_checkpoints_behind_a_link_of_the_program_are_kept_with_a_note(folder: TrialFolder, own: Path) -> None:
    for step in VALUES:
        (own / f"model-{step}.pt").write_text(str(step))
    (folder.files / "run").symlink_to(own)
    looked_after = kept(folder, "{trial.dir}/**/model-{step}.pt", keep=1)
    names = looked_after.tidy(VALUES.get, 40, ended=True)
    assert {path.name for path in own.iterdir()} == {f"model-{step}.pt" for step in VALUES}
    assert (folder.checkpoints / names[20]).read_text() == "20", "the best is known all the same"
    assert looked_after.keeps_what_is_outside


def test_a_link_that_stays_in_the_trial_s_folder_changes_nothing(folder: TrialFolder) -> None:
    (folder.files / "version_3").mkdir()
    (folder.files / "latest").symlink_to("version_3")
    for step in VALUES:
        (folder.files / "version_3" / f"model-{step}.pt").write_text(str(step))
    kept(folder, "{trial.dir}/latest/model-{step}.pt", keep=1).tidy(VALUES.get, 40, ended=True)
    assert {path.name for path in (folder.files / "version_3").iterdir()} == {"model-20.pt", "model-40.pt"}


@pytest.mark.parametrize("inside", [True, False])
def test_only_the_link_is_removed_of_a_checkpoint_that_is_or_has_a_link(
    folder: TrialFolder, own: Path, inside: bool
) -> None:
    (own / "weights").write_bytes(OWN)
    for step in VALUES:
        home = folder.files / f"checkpoint-{step}"
        if inside:
            home.mkdir()
            (home / "data").symlink_to(own)
        else:
            home.symlink_to(own)
    kept(folder, "{trial.dir}/checkpoint-{step}", keep=1).tidy(VALUES.get, 40, ended=True)
    assert {path.name for path in folder.files.iterdir()} == {"checkpoint-20", "checkpoint-40"}
    assert (own / "weights").read_bytes() == OWN


def test_nothing_is_removed_below_a_trial_folder_that_is_a_link(tmp_path: Path, own: Path) -> None:
    (tmp_path / "study" / "trials").mkdir(parents=True)
    folder = TrialFolder(tmp_path / "study" / "trials" / "00007")
    (own / "files").mkdir()
    folder.path.symlink_to(own)
    write(folder, *VALUES)
    looked_after = kept(folder, keep=1)
    with pytest.raises(NotRegularError, match="00007 is a link"):
        looked_after.tidy(VALUES.get, 40, ended=True)
    assert len(list((own / "files").iterdir())) == len(VALUES)


@pytest.mark.parametrize("linked", ["files", "checkpoints", "."])
def test_a_program_does_not_run_if_a_folder_of_its_trial_is_a_link(tmp_path: Path, own: Path, linked: str) -> None:
    programs = Programs(tmp_path)
    for name in ("files", "checkpoints"):
        (own / name).mkdir()
        (own / name / "thesis.pt").write_bytes(OWN)
    place = programs.folder.path if linked == "." else programs.folder.path / linked
    target = own if linked == "." else own / linked
    if linked == ".":
        programs.folder.path.rmdir()
    place.symlink_to(target)
    with pytest.raises(NotRegularError, match="is a link"):
        programs.run(programs.request("print('step 1 loss 1')"))
    assert (own / "files" / "thesis.pt").read_bytes() == (own / "checkpoints" / "thesis.pt").read_bytes() == OWN
    assert {path.name for path in own.iterdir()} <= {"files", "checkpoints", "log.txt"}


WRITERS: dict[str, Callable[[Programs], object]] = {
    "hyperparameters.yaml": lambda programs: programs.run(programs.request("print('step 1 loss 1')")),
    "measurements.jsonl": lambda programs: LineFile(programs.folder.measurements),
    "began": lambda programs: note_beginning(programs.folder, Beginning(None, 0)),
}


@pytest.mark.parametrize("kind", ["a link", "a named pipe"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_the_trial_is_not_written_through_a_link_or_into_a_pipe(
    tmp_path: Path, own: Path, name: str, kind: str
) -> None:
    programs = Programs(tmp_path)
    (own / "bashrc").write_bytes(OWN)
    if kind == "a link":
        (programs.folder.path / name).symlink_to(own / "bashrc")
    else:
        os.mkfifo(programs.folder.path / name)
    with pytest.raises((NotRegularError, FolderError), match=f"is {kind}"):
        WRITERS[name](programs)
    assert (own / "bashrc").read_bytes() == OWN


def test_a_program_may_link_its_own_metrics(tmp_path: Path, own: Path) -> None:
    (own / "metrics.csv").write_text("a line\n")
    (tmp_path / "metrics.csv").symlink_to(own / "metrics.csv")
    assert Tail(tmp_path / "metrics.csv", follows=True).read() == ["a line"]
    assert Tail(tmp_path / "metrics.csv").read() == [], "the log of a trial is none"


@pytest.mark.parametrize("source", ["/dev/zero", "pipe"])
def test_a_checkpoint_that_never_ends_is_not_copied(folder: TrialFolder, source: str) -> None:
    path = folder.files / "last.pt"
    if source == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(source)
    assert not checkpoint_files.copy(path, folder.checkpoints / "1-copy.tmp", folder)
    assert list(folder.checkpoints.iterdir()) == []
