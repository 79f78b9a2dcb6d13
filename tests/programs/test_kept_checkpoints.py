"""The checkpoints that a program writes by itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import CheckpointRule, Objective
from tunectl.core.own_code_request import Checkpoints
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.kept_checkpoints import CheckpointPattern, KeptCheckpoints
from tunectl.store.checkpoint_names import ExistingCheckpoints


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    made = TrialFolder(tmp_path / "trial [1] *")
    (made.path / "files").mkdir(parents=True)
    return made


def kept(
    folder: TrialFolder, text: str = "{trial.dir}/model-{step}.pt", keep: int = 2, rule: CheckpointRule = "best"
) -> KeptCheckpoints:
    pattern = CheckpointPattern.of(Checkpoints(text), {"trial.dir": str(folder.path / "files")})
    return KeptCheckpoints(pattern, folder, Objective("loss", "minimize", rule), keep)


def write(folder: TrialFolder, *steps: int) -> None:
    for step in steps:
        (folder.path / "files" / f"model-{step}.pt").write_text(str(step))


def there(folder: TrialFolder) -> set[str]:
    return {path.name for path in (folder.path / "files").iterdir()}


VALUES = {10: 0.5, 20: 0.1, 30: 0.3, 40: 0.4}


def test_the_best_and_the_last_stay(folder: TrialFolder) -> None:
    write(folder, *VALUES)
    names = kept(folder, keep=1).tidy(VALUES.get, 40, ended=True)
    assert there(folder) == {"model-20.pt", "model-40.pt"}
    assert names == {20: "step-00000020.pt", 40: "step-00000040.pt"}
    assert {path.name: path.read_text() for path in folder.checkpoints.iterdir()} == {
        "step-00000020.pt": "20",
        "step-00000040.pt": "40",
    }


def test_while_the_program_runs_what_may_still_be_written_or_evaluated_is_left_alone(folder: TrialFolder) -> None:
    write(folder, 10, 20, 30, 40)
    kept(folder, keep=1).tidy({10: 0.5, 20: 0.1}.get, 30, ended=False)
    assert there(folder) == {"model-20.pt", "model-30.pt", "model-40.pt"}


def test_a_checkpoint_that_is_pushed_out_takes_its_link_with_it(folder: TrialFolder) -> None:
    looked_after = kept(folder, keep=1)
    write(folder, 10)
    looked_after.tidy(VALUES.get, 10, ended=False)
    write(folder, 20, 30)
    assert looked_after.tidy(VALUES.get, 30, ended=True) == {20: "step-00000020.pt", 30: "step-00000030.pt"}
    assert {path.name for path in folder.checkpoints.iterdir()} == {"step-00000020.pt", "step-00000030.pt"}


@pytest.mark.parametrize("keep", [0, 1])
def test_a_link_to_a_checkpoint_that_a_kill_left_behind_is_removed_and_no_other_link(
    folder: TrialFolder, keep: int
) -> None:
    write(folder, 10, 20)
    kept(folder).tidy(VALUES.get, 20, ended=False)
    (folder.path / "files" / "model-10.pt").unlink()  # and the process was killed here
    (folder.checkpoints / "of-the-user.pt").symlink_to("nothing")
    (folder.checkpoints / "step-00000030.pt").write_text("a file")
    kept(folder, keep=keep).tidy(VALUES.get, 20, ended=True)
    assert {path.name for path in folder.checkpoints.iterdir()} == {
        *("of-the-user.pt", "step-00000020.pt", "step-00000030.pt")
    }


def test_folders_are_checkpoints_too(folder: TrialFolder) -> None:
    for step in (500, 1000, 1500):
        home = folder.path / "files" / f"checkpoint-{step}"
        home.mkdir()
        (home / "model.safetensors").write_text("x")
    names = kept(folder, "{trial.dir}/checkpoint-{step}", keep=1).tidy(
        {500: 0.1, 1000: 0.2, 1500: 0.3}.get, 1500, ended=True
    )
    assert there(folder) == {"checkpoint-500", "checkpoint-1500"}
    assert names == {500: "step-00000500", 1500: "step-00001500"}
    assert (folder.checkpoints / "step-00000500" / "model.safetensors").exists()


def test_other_files_are_never_touched(folder: TrialFolder) -> None:
    write(folder, 10, 20, 30)
    for name in ("model-x.pt", "model-10.pt.tmp", "other-10.pt", "model-.pt"):
        (folder.path / "files" / name).write_text("mine")
    kept(folder, keep=1).tidy(VALUES.get, 30, ended=True)
    assert {"model-x.pt", "model-10.pt.tmp", "other-10.pt", "model-.pt"} <= there(folder)


def test_a_pattern_may_hold_stars_and_the_step_twice(folder: TrialFolder) -> None:
    home = folder.path / "files" / "version_0" / "checkpoints"
    home.mkdir(parents=True)
    (home / "epoch=3-step=70.ckpt").write_text("x")
    (home / "last.ckpt").write_text("x")
    found = CheckpointPattern.of(
        Checkpoints("{trial.dir}/**/epoch=*-step={step}.ckpt"), {"trial.dir": str(folder.path / "files")}
    ).found()
    assert list(found) == [70]
    (home / "7-7").write_text("x")
    (home / "7-8").write_text("x")
    twice = CheckpointPattern.of(
        Checkpoints("{trial.dir}/*/*/{step}-{step}"), {"trial.dir": str(folder.path / "files")}
    ).found()
    assert [path.name for path in twice.values()] == ["7-7"]


def test_where_the_last_counts_the_last_are_kept(folder: TrialFolder) -> None:
    write(folder, *VALUES)
    kept(folder, keep=2, rule="final").tidy(VALUES.get, 40, ended=True)
    assert there(folder) == {"model-30.pt", "model-40.pt"}


def test_no_checkpoint_is_no_trouble(folder: TrialFolder) -> None:
    assert kept(folder).tidy(VALUES.get, 40, ended=True) == {}


def test_where_no_checkpoint_was_ever_evaluated_none_is_removed(folder: TrialFolder) -> None:
    """They count epochs, and the metrics updates."""
    write(folder, 1, 2, 3, 4)
    assert set(kept(folder, keep=1).tidy({100: 0.1, 400: 0.2}.get, 400, ended=True)) == {1, 2, 3, 4}


def test_a_checkpoint_s_number_may_count_otherwise_than_the_metrics(folder: TrialFolder) -> None:
    write(folder, 0, 1, 2, 3)
    pattern = CheckpointPattern.of(
        Checkpoints("{trial.dir}/model-{step}.pt", every=100, offset=100), {"trial.dir": str(folder.path / "files")}
    )
    looked_after = KeptCheckpoints(pattern, folder, Objective("loss", "minimize"), 1)
    names = looked_after.tidy({100: 0.3, 200: 0.1, 300: 0.2, 400: 0.4}.get, 400, ended=True)
    assert names == {200: "step-00000200.pt", 400: "step-00000400.pt"}
    assert there(folder) == {"model-1.pt", "model-3.pt"}


def refused(number: int) -> Callable[..., None]:
    def link(*_arguments: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    return link


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_symbolic_links_gets_hard_ones(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "symlink", refused(number))
    looked_after = kept(folder, keep=1)
    write(folder, 10, 20)
    assert looked_after.tidy(VALUES.get, 20, ended=False) == {20: "step-00000020.pt"}
    assert (folder.checkpoints / "step-00000020.pt").samefile(folder.files / "model-20.pt")
    # Written again under the same name, as after a resume: another file.
    (folder.files / "model-20.pt").unlink()
    (folder.files / "model-20.pt").write_text("again")
    write(folder, 30)
    assert looked_after.tidy({**VALUES, 30: 0.05}.get, 30, ended=False) == {30: "step-00000030.pt"}
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000030.pt"], "the room is given back"


def test_where_there_are_no_links_at_all_a_checkpoint_is_known_by_its_path(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "symlink", refused(errno.EPERM))
    monkeypatch.setattr(os, "link", refused(errno.EPERM))
    write(folder, 10, 20)
    names = kept(folder, keep=2).tidy(VALUES.get, 20, ended=True)
    assert names == {10: "../files/model-10.pt", 20: "../files/model-20.pt"}
    assert all(name in ExistingCheckpoints(folder) for name in names.values())


def test_a_checkpoint_outside_the_trial_s_folder_that_no_link_can_name_is_noted(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "symlink", refused(errno.EPERM))
    monkeypatch.setattr(os, "link", refused(errno.EXDEV))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model-10.pt").touch()
    pattern = CheckpointPattern.of(Checkpoints(f"{tmp_path}/out/model-{{step}}.pt"), {})
    looked_after = KeptCheckpoints(pattern, folder, Objective("loss", "minimize"), 1)
    collector = Collector(lambda: 0.0)
    collector.add(10, {"loss": 0.5})
    (name,) = looked_after.update(collector, ended=True).values()
    assert name not in ExistingCheckpoints(folder)
    assert "cannot be named in the tables" in looked_after.note


def test_a_disk_that_fails_at_a_link_is_no_file_system_without_links(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "symlink", refused(errno.ENOSPC))
    write(folder, 10)
    with pytest.raises(OSError, match="No space left"):
        kept(folder).tidy(VALUES.get, 10, ended=True)


def test_a_link_of_an_earlier_attempt_that_a_file_server_shows_late_is_replaced(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, 10)
    make, hidden = os.symlink, [folder.checkpoints / "step-00000010.pt"]

    def late(target: str, link: Path, target_is_directory: bool = False) -> None:
        while hidden:
            make("../files/of-an-earlier-attempt.pt", hidden.pop())
        make(target, link, target_is_directory)

    monkeypatch.setattr(os, "symlink", late)
    assert kept(folder).tidy(VALUES.get, 10, ended=True) == {10: "step-00000010.pt"}
    assert (folder.checkpoints / "step-00000010.pt").read_text() == "10"


def test_with_a_target_the_checkpoint_that_reached_it_first_stays_beside_the_last(folder: TrialFolder) -> None:
    values = {10: 0.5, 20: 0.3, 30: 0.1, 40: 0.4}
    write(folder, *values)
    looked_after = kept(folder, keep=1)
    looked_after.objective = Objective("loss", "minimize", steps_to=0.3)
    assert looked_after.tidy(values.get, 40, ended=True) == {20: "step-00000020.pt", 40: "step-00000040.pt"}
    assert there(folder) == {"model-20.pt", "model-40.pt"}


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ([10, 20, 40], ""),
        ([10, 40], "its best evaluation is at step 20, where it saved nothing; the nearest that is kept is of step 10"),
        ([], "nothing has a name like "),
    ],
    ids=["it is there", "another one is there", "none is there"],
)
@pytest.mark.parametrize("keep", [0, 9])
def test_a_best_evaluation_without_a_checkpoint_is_noted_where_some_are_kept(
    folder: TrialFolder, keep: int, saved: list[int], said: str
) -> None:
    write(folder, *saved)
    collector = Collector(lambda: 0.0)
    for step, value in VALUES.items():
        collector.add(step, {"loss": value})
    looked_after = kept(folder, keep=keep)
    looked_after.update(collector, ended=False)
    assert looked_after.note == ""
    looked_after.update(collector, ended=True)
    assert looked_after.note.startswith(said if keep else "")
    assert bool(looked_after.note) == bool(said and keep)
