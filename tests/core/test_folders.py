"""The paths of the files in study folders and trial folders, which later versions must still find."""

from __future__ import annotations

from pathlib import Path

from tunectl.core.folders import StudyFolder, TrialFolder

RUNS = Path("runs/s")


def test_a_trial_s_folder_is_named_by_five_digits_and_knows_its_study() -> None:
    folder = StudyFolder(RUNS).trial(7)
    assert folder == TrialFolder(RUNS / "trials/00007")
    assert folder.study == RUNS
    assert folder.checkpoint(100) == RUNS / "trials/00007/checkpoints/step-00000100.pt"
    assert StudyFolder(RUNS).trial(123_456).path.name == "123456"


def test_the_files_of_a_study_keep_their_names() -> None:
    study = StudyFolder(RUNS)
    names = [
        "study",
        "plan",
        "index",
        "provenance",
        "uncommitted",
        "lock",
        "tables",
        "plots",
        "procedure",
        "conclusion",
        "looks",
        "model",
        "configuration",
        "loader",
        "card",
    ]
    assert [getattr(study, name).name for name in names] == [
        *("study.yaml", "plan.jsonl", "study.db", "provenance.json", "uncommitted.diff", "lock", "tables", "plots"),
        *("procedure.json", "conclusion.json", "test_looks.jsonl", "model.pt", "configuration.json", "load_model.py"),
        "MODEL_CARD.md",
    ]
    assert {getattr(study, name).parent for name in names} == {RUNS}


def test_the_files_of_a_trial_keep_their_names() -> None:
    trial = StudyFolder(RUNS).trial(0)
    names = ["request", "measurements", "steps", "log", "checkpoints", "files", "resume", "result", "attempts", "data"]
    assert [getattr(trial, name).name for name in names] == [
        *("request.json", "measurements.jsonl", "steps.jsonl", "log.txt", "checkpoints", "files", "resume.pt"),
        *("result.json", "attempts.jsonl", "data.json"),
    ]
    assert {getattr(trial, name).parent for name in names} == {trial.path}


def test_what_a_trial_says_of_its_folder_at_a_worker_names_where_it_will_be() -> None:
    claimed = TrialFolder(RUNS / "claimed" / "00007.vm-5-0a1b")
    text = f"nothing has a name like {claimed.files}/*.pt, or /other/{claimed.path}.txt"
    assert (
        claimed.at_home(text)
        == "nothing has a name like runs/s/trials/00007/files/*.pt, or /other/runs/s/trials/00007.txt"
    )
    home = TrialFolder(RUNS / "trials" / "00007")
    assert home.at_home(text) == text
