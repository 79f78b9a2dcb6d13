"""What may go of a study folder, and what must stay. Tests removable_files.py, and naming_folders.py for campaigns."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from builders import study
from made_up_folders import made_up_folder

from tunectl.commands.clean import clean_folder, plan_cleaning
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial, TrialResult
from tunectl.execution.runner_lock import acquire
from tunectl.session.removable_files import CleaningRequest
from tunectl.store.trial_files import record_end, write_result

TWO = {
    "optimizer": "{role: scientific, values: [momentum, adam]}",
    "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
}
VALUES = {0: 0.5, 1: 0.4, 2: 0.3, 3: 0.6, 4: None, 5: 0.2}
"""By trial: 0, 2 and 4 are of one setting, 1, 3 and 5 of the other; 4 is infeasible."""


def value(trial: PlannedTrial) -> float | None:
    return VALUES[trial.trial]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.chdir(tmp_path)
    text = study(TWO, search="{trials: 3}").text
    return made_up_folder(tmp_path / "runs" / "a", text, value, file=tmp_path / "a.yaml")


def removable(folder: StudyFolder, request: CleaningRequest | None = None) -> set[str]:
    found = plan_cleaning(folder.path, request or CleaningRequest(), lambda _line: None)
    return {str(item.path.relative_to(folder.trials)) for item in found.cleaning.items}


def clean(folder: StudyFolder, request: CleaningRequest | None = None) -> None:
    clean_folder(folder.path, request or CleaningRequest(), lambda _line: None)


def checkpoints(folder: StudyFolder, trial: int) -> list[str]:
    return sorted(path.name for path in folder.trial(trial).checkpoints.iterdir())


def test_of_each_trial_the_best_checkpoint_stays(folder: StudyFolder) -> None:
    # Each trial is best at step 50, and infeasible trials are results, too.
    assert removable(folder) == {f"{trial:05d}/checkpoints/step-00000100.pt" for trial in range(6)}
    assert removable(folder, CleaningRequest(keep=2)) == set()
    clean(folder)
    assert [checkpoints(folder, trial) for trial in range(6)] == [["step-00000050.pt"]] * 6
    assert removable(folder) == set(), "the second call has nothing to do"


def test_a_plan_removes_nothing_and_says_what_it_frees(folder: StudyFolder) -> None:
    before = sorted(path for path in folder.path.rglob("*"))
    found = plan_cleaning(folder.path, CleaningRequest(), lambda _line: None)
    assert found.table == [("checkpoints that are not the best of their trial", 6, 6 * len(b"a checkpoint"))]
    assert sorted(path for path in folder.path.rglob("*")) == before


def test_a_trial_that_can_go_on_keeps_everything(folder: StudyFolder) -> None:
    for trial in (0, 1):
        folder.trial(trial).result.unlink()
        folder.trial(trial).resume.write_bytes(b"where it goes on")
    record_end(folder.trial(0), "stopped", final=True)
    folder.trial(1).request.write_text(json.dumps({"attempt": 1}))
    folder.index.unlink()
    found = removable(folder)
    assert not any(path.startswith(("00000", "00001")) for path in found)
    assert "00002/checkpoints/step-00000100.pt" in found


def test_a_trial_that_was_stopped_early_has_ended_and_keeps_its_best_checkpoint(folder: StudyFolder) -> None:
    result = TrialResult(3, "stopped", "stopped_early", "at step 50 it is worse", final_step=100, attempt=1)
    write_result(folder.trial(3), result)
    folder.index.unlink()
    found = plan_cleaning(folder.path, CleaningRequest(), lambda _line: None).cleaning
    assert folder.trial(3).checkpoint(100) in [item.path for item in found.items]
    assert found.notes == ()
    clean(folder, CleaningRequest(best=1))
    assert checkpoints(folder, 3) == []


def test_resume_files_go_only_where_a_trial_has_its_result(folder: StudyFolder) -> None:
    for name in ("resume.pt", "resume.previous.pt", "resume.pt.kept-1", "resume.pt.mine"):
        (folder.trial(3).path / name).write_bytes(b"x")
    found = {path for path in removable(folder) if "resume" in path}
    assert found == {"00003/resume.pt", "00003/resume.previous.pt", "00003/resume.pt.kept-1"}


def test_with_best_only_the_best_trials_of_each_setting_keep_checkpoints(folder: StudyFolder) -> None:
    clean(folder, CleaningRequest(best=1))
    kept = {trial: checkpoints(folder, trial) for trial in range(6)}
    assert {trial for trial, names in kept.items() if names} == {2, 5}
    assert kept[2] == kept[5] == ["step-00000050.pt"]


def test_what_a_campaign_launched_and_its_baseline_stay(folder: StudyFolder, tmp_path: Path) -> None:
    entry = "{study: runs/a, trial: 3, because: it was good}"
    (tmp_path / "campaign.yaml").write_text(f"goal: x\nbaseline: runs/a/0\nlaunched: [{entry}]\n")
    clean(folder, CleaningRequest(best=1))
    assert {trial for trial in range(6) if checkpoints(folder, trial)} == {0, 2, 3, 5}


def test_with_a_campaign_that_cannot_be_read_nothing_is_judged_by_the_best(folder: StudyFolder, tmp_path: Path) -> None:
    (tmp_path / "campaign.yaml").write_text("goal: [x\n")
    with pytest.raises(FolderError, match="which trials were launched is not known"):
        removable(folder, CleaningRequest(best=1))


def test_while_the_curvature_at_its_checkpoints_is_measured_they_stay(folder: StudyFolder, tmp_path: Path) -> None:
    other = StudyFolder(tmp_path / "runs" / "a.curvature")
    shutil.copytree(folder.path, other.path)
    other.procedure.write_text(json.dumps({"options": {"checkpoints_of": str(folder.path.resolve())}}))
    with pytest.raises(FolderError, match=r"a\.curvature is not finished"):
        removable(folder)
    other.conclusion.write_text("{}")
    assert removable(folder)


def test_no_link_is_followed(folder: StudyFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "step-00000100.pt").write_bytes(b"of someone else")
    linked = folder.trial(0).checkpoints
    shutil.rmtree(linked)
    linked.symlink_to(outside)
    of_file = folder.trial(1).checkpoint(100)
    of_file.unlink()
    of_file.symlink_to(outside / "step-00000100.pt")
    found = removable(folder)
    assert not any(path.startswith(("00000", "00001")) for path in found)
    clean(folder)
    assert (outside / "step-00000100.pt").exists()


def test_a_checkpoint_of_a_program_goes_with_its_link(folder: StudyFolder) -> None:
    home = folder.trial(0)
    home.files.mkdir()
    for step in (50, 100):
        (home.files / f"model-{step}").mkdir()
        (home.files / f"model-{step}" / "weights").write_bytes(b"12345")
        home.checkpoint(step).unlink()
        home.checkpoint(step).symlink_to(os.path.relpath(home.files / f"model-{step}", home.checkpoints))
    found = plan_cleaning(folder.path, CleaningRequest(), lambda _line: None).cleaning.items
    own = {str(item.path.relative_to(home.path)): item.size for item in found if item.path.is_relative_to(home.path)}
    assert own == {"files/model-100": 5, "checkpoints/step-00000100.pt": 0}
    clean(folder)
    assert (home.files / "model-50" / "weights").exists()
    assert not (home.files / "model-100").exists()


def test_a_trial_with_damaged_files_keeps_everything(folder: StudyFolder) -> None:
    folder.trial(2).measurements.write_text("{}\n")
    folder.index.unlink()
    assert not any(path.startswith("00002") for path in removable(folder))


def test_earlier_states_go_only_when_asked(folder: StudyFolder) -> None:
    (folder.earlier / "1").mkdir(parents=True)
    (folder.earlier / "1" / "study.yaml").write_text("x")
    found = plan_cleaning(folder.path, CleaningRequest(), lambda _line: None).cleaning
    assert any("--earlier removes them" in note for note in found.notes)
    clean(folder)
    assert folder.earlier.exists()
    clean(folder, CleaningRequest(earlier=True))
    assert not folder.earlier.exists()


def test_temporary_files_go_when_a_day_old(folder: StudyFolder) -> None:
    old, new = (folder.path / f".study.db.{digits}.tmp" for digits in ("00000000", "11111111"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1.0, 1.0))
    clean(folder)
    assert (old.exists(), new.exists()) == (False, True)


def test_while_a_run_is_at_work_nothing_is_removed(folder: StudyFolder) -> None:
    locked = acquire(folder.lock)
    try:
        with pytest.raises(FolderError, match="works in it; clean it when it has ended"):
            clean(folder)
    finally:
        locked.release()
    assert checkpoints(folder, 0) == ["step-00000050.pt", "step-00000100.pt"]
