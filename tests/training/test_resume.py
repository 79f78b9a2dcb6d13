"""A trial that goes on from resume.pt ends as if it had not stopped. Tests saved_trial.py, checkpoints.py, trial.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_builders import (
    StopAt,
    comparable,
    left_undisturbed,
    make_request,
    plain_workload,
    stochastic_workload,
    train_trial,
)
from trial_records import ended, lines_in

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.training import checkpoints
from tunectl.training.checkpoints import UnreadableError, UnusableResume, load_resume


@pytest.mark.parametrize(
    ("workers", "stops"),
    [(0, [1]), (0, [6, 1, 1]), (0, [7]), (0, [8, 12]), (0, [28, 3]), (0, [30]), (2, [5]), (2, [14]), (2, [28])],
)
def test_a_stopped_trial_ends_bit_for_bit_as_if_never_stopped(folder: TrialFolder, workers: int, stops: list[int]):
    request = make_request(
        optimizer="adam", schedule="cosine", warmup_steps=4, grad_clip_norm=1.0, data_workers=workers
    )
    expected = left_undisturbed(make_request(**{**request.configuration}), stochastic_workload)
    for stop in stops:
        train_trial(request, folder, stochastic_workload, stop=StopAt(stop), save_every_seconds=1e9)
    assert train_trial(request, folder, stochastic_workload) is not None
    assert comparable(folder) == expected


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adamw", "lion", "muon"])
def test_every_optimizer_goes_on_where_it_was(folder: TrialFolder, optimizer: str):
    request = make_request(optimizer=optimizer, weight_decay=0.01, weight_decay_scope="matrices")
    expected = left_undisturbed(request, plain_workload)
    assert train_trial(request, folder, stop=StopAt(11)) is None
    assert train_trial(request, folder) is not None
    assert comparable(folder) == expected


def test_a_trial_stopped_at_every_single_update_is_the_same_trial(folder: TrialFolder):
    request = make_request(max_train_steps=16)
    expected = left_undisturbed(request, stochastic_workload)
    attempts = 1
    while train_trial(request, folder, stochastic_workload, stop=StopAt(1), save_every_seconds=1e9) is None:
        attempts += 1
    assert attempts == 17
    assert comparable(folder) == expected


def test_a_stop_before_the_first_update_leaves_something_to_go_on_from(folder: TrialFolder):
    expected = left_undisturbed(make_request(), plain_workload)
    assert train_trial(make_request(), folder, stop=StopAt(0)) is None
    assert train_trial(make_request(), folder) is not None
    assert comparable(folder) == expected


def test_a_finished_trial_that_lost_its_result_gives_it_again_without_training(folder: TrialFolder):
    first = train_trial(make_request(), folder)
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    again = train_trial(make_request(), folder)
    assert first is not None
    assert again is not None
    assert (again.state, again.final_step) == (first.state, first.final_step)
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before


def test_a_nan_that_waits_in_a_stopped_trial_is_found_when_it_goes_on(folder: TrialFolder, tmp_path: Path):
    request = make_request(learning_rate=1e30)
    first = TrialFolder(tmp_path / "undisturbed")
    first.path.mkdir()
    expected = train_trial(request, first)
    assert train_trial(request, folder, stop=StopAt(5)) is None
    found = train_trial(request, folder)
    assert expected is not None
    assert found is not None
    assert found.reason.startswith("nan_")
    assert (found.reason, found.infeasible_step) == (expected.reason, expected.infeasible_step)
    assert comparable(folder) == comparable(first)
    assert not folder.resume.exists()


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_how_often_resume_is_written_changes_nothing(folder: TrialFolder, every: float):
    expected = left_undisturbed(make_request(), stochastic_workload)
    train_trial(make_request(), folder, stochastic_workload, save_every_seconds=every)
    assert comparable(folder) == expected


def test_seconds_are_counted_over_all_attempts(folder: TrialFolder):
    train_trial(make_request(), folder, stop=StopAt(15))
    saved = torch.load(folder.resume, weights_only=True)["progress"]
    result = train_trial(make_request(), folder)
    assert result is not None
    assert 0 < saved["train_seconds"] < result.train_seconds
    assert 0 < saved["eval_seconds"] < result.eval_seconds


def damage_file(path: Path, damage: str) -> None:
    content = path.read_bytes()
    parts = torch.load(path, weights_only=True)
    match damage:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_bytes(b"not a checkpoint\n")
        case "flipped":
            path.write_bytes(content[:5000] + bytes([content[5000] ^ 4]) + content[5001:])
        case "format":
            checkpoints.save(path, {**parts, "format": 2})
        case "parts":
            checkpoints.save(path, {name: part for name, part in parts.items() if name != "random"})
        case _:
            parts["model"]["0.weight"] = torch.zeros(2, 2)
            checkpoints.save(path, parts)


DAMAGES = ["truncated", "empty", "text", "parts", "flipped"]
WHOLE = ["parts", "shape"]


@pytest.mark.parametrize("damage", [*DAMAGES, "shape"])
def test_an_unusable_resume_means_from_the_beginning_with_a_line_that_says_so(
    folder: TrialFolder, damage: str, capsys: pytest.CaptureFixture[str]
):
    expected = left_undisturbed(make_request(), stochastic_workload)
    assert train_trial(make_request(), folder, stochastic_workload, stop=StopAt(20)) is None
    damage_file(folder.resume, damage)
    folder.previous_resume.unlink()
    assert train_trial(make_request(), folder, stochastic_workload) is not None
    assert "trial 3 starts from the beginning" in capsys.readouterr().err
    assert comparable(folder) == expected
    assert folder.path.joinpath("resume.pt.kept-1").exists() == (damage in WHOLE), "what is whole is never deleted"


@pytest.mark.parametrize("of_both", [True, False])
def test_a_resume_that_is_whole_and_cannot_be_read_stops_the_trial_and_stays(folder: TrialFolder, of_both: bool):
    expected = left_undisturbed(make_request(), stochastic_workload)
    assert train_trial(make_request(), folder, stochastic_workload, stop=StopAt(20)) is None
    before = {path.name: path.read_bytes() for path in folder.path.glob("*.pt")}
    damage_file(folder.resume, "format")
    if of_both:
        damage_file(folder.previous_resume, "format")
    there = {path.name: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    for _ in range(2):
        with pytest.raises(UnreadableError, match=r"resume\.pt is whole, but cannot be loaded"):
            train_trial(make_request(), folder, stochastic_workload)
        assert {path.name: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == there
    for name, content in before.items():
        folder.path.joinpath(name).write_bytes(content)
    assert train_trial(make_request(), folder, stochastic_workload) is not None
    assert comparable(folder) == expected


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_resume_means_from_the_one_before_it_with_a_line_that_says_so(
    folder: TrialFolder, damage: str, capsys: pytest.CaptureFixture[str]
):
    expected = left_undisturbed(make_request(), stochastic_workload)
    assert train_trial(make_request(), folder, stochastic_workload, stop=StopAt(20)) is None
    steps = [torch.load(path, weights_only=True)["step"] for path in (folder.resume, folder.previous_resume)]
    assert steps == [20, 14], "14 is the last evaluation before the stop"
    damage_file(folder.resume, damage)
    assert train_trial(make_request(), folder, stochastic_workload, stop=StopAt(0)) is None
    assert "trial 3 goes on from the checkpoint before it" in capsys.readouterr().err
    assert torch.load(folder.resume, weights_only=True)["step"] == 14
    assert train_trial(make_request(), folder, stochastic_workload) is not None
    assert comparable(folder) == expected
    assert not folder.previous_resume.exists()


@pytest.mark.parametrize("of_both", ["truncated", "parts"])  # the two tests before have all of them
def test_two_damaged_resumes_mean_from_the_beginning(folder: TrialFolder, of_both: str):
    expected = left_undisturbed(make_request(), plain_workload)
    assert train_trial(make_request(), folder, stop=StopAt(20)) is None
    for path in (folder.resume, folder.previous_resume):
        damage_file(path, of_both)
    assert train_trial(make_request(), folder) is not None
    assert comparable(folder) == expected


def test_a_kill_between_putting_the_old_resume_aside_and_writing_the_new_one_loses_nothing(folder: TrialFolder):
    expected = left_undisturbed(make_request(), plain_workload)
    assert train_trial(make_request(), folder, stop=StopAt(20)) is None
    folder.resume.unlink()
    assert train_trial(make_request(), folder) is not None
    assert comparable(folder) == expected


@pytest.mark.parametrize("lost", ["measurements", "steps"])
def test_lines_that_a_power_cut_took_mean_from_the_beginning(folder: TrialFolder, lost: str):
    expected = left_undisturbed(make_request(), plain_workload)
    assert train_trial(make_request(), folder, stop=StopAt(20)) is None
    path: Path = getattr(folder, lost)
    path.write_bytes(path.read_bytes()[:5])
    assert train_trial(make_request(), folder) is not None
    assert comparable(folder) == expected


def test_lines_written_after_resume_are_cut_back_with_torn_tails(folder: TrialFolder):
    expected = left_undisturbed(make_request(), plain_workload)
    assert train_trial(make_request(), folder, stop=StopAt(20)) is None
    for path in (folder.measurements, folder.steps):
        with path.open("ab") as file:
            file.write(b'{"step": 21, "kind": "evaluation", "metrics": {}}\n' * 1000 + b'{"step": 28, "ki')
    (folder.checkpoints / "step-00000028.pt").write_bytes(b"half")
    (folder.checkpoints / ".step-00000028.pt.tmp").write_bytes(b"half")
    assert train_trial(make_request(), folder) is not None
    assert comparable(folder) == expected


def test_a_resume_of_another_request_is_not_gone_on_from_but_the_number_of_checkpoints_may_change(folder: TrialFolder):
    said: list[str] = []
    assert train_trial(make_request(), folder, stop=StopAt(20)) is None
    with pytest.raises(UnusableResume, match="another request"):
        load_resume(folder, make_request(learning_rate=0.1), said.append)
    assert load_resume(folder, make_request(keep_checkpoints=1, data_workers=2, attempt=2), said.append) is not None
    request = make_request(keep_checkpoints=1)
    expected = left_undisturbed(request, plain_workload)
    assert train_trial(request, folder) is not None
    assert comparable(folder).keys() == expected.keys()
    assert comparable(folder)["steps"] == expected["steps"]


def test_a_checkpoint_that_was_deleted_does_no_harm(folder: TrialFolder):
    request = make_request(objective=Objective("valid/loss", "maximize"))
    assert train_trial(request, folder, stop=StopAt(20)) is None
    for path in folder.checkpoints.iterdir():
        path.unlink()
    assert train_trial(request, folder) is not None
    assert [line["step"] for line in lines_in(folder.measurements)] == [0, 7, 14, 21, 28, 30]
    assert len(list(folder.checkpoints.iterdir())) == 3


@pytest.mark.parametrize("stops", [[8, 7], [15, 1, 8]])
def test_a_stopped_trial_keeps_the_checkpoint_of_the_first_evaluation_at_its_target(
    folder: TrialFolder, stops: list[int]
):
    plain = make_request(keep_checkpoints=1)
    metrics = [line["metrics"] for line in left_undisturbed(plain, stochastic_workload)["measurements"]]
    losses = [found["valid/loss"] for found in metrics]
    # The second evaluation after step 0 reaches it, and a later one is better.
    target = losses[2]
    assert min(losses[3:]) < target < losses[1]
    objective = Objective("valid/loss", "minimize", steps_to=target)
    request = replace(plain, objective=objective)
    for stop in stops:
        train_trial(request, folder, stochastic_workload, stop=StopAt(stop), save_every_seconds=1e9)
    assert train_trial(request, folder, stochastic_workload) is not None
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000014.pt"]
    assert torch.load(folder.checkpoint(14), weights_only=True)["step"] == 14


def test_a_trial_of_a_study_that_was_renamed_ends_as_if_undisturbed(folder, tmp_path):
    undisturbed = TrialFolder(tmp_path / "00004")
    undisturbed.path.mkdir()
    train_trial(make_request(), undisturbed)
    assert train_trial(make_request(), folder, stop=StopAt(16)) is None
    said: list[str] = []
    assert load_resume(folder, make_request(study="another"), said.append) is not None
    ended(train_trial(make_request(study="another"), folder))
    assert said == []
    steps = [[line["step"] for line in lines_in(home.measurements)] for home in (folder, undisturbed)]
    assert steps[0] == steps[1]
    assert folder.checkpoint(28).read_bytes() == undisturbed.checkpoint(28).read_bytes()


@pytest.mark.parametrize("lost", ["checkpoint", "steps", "removed"])
def test_at_a_worker_what_another_host_wrote_is_waited_for_but_not_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
):
    folder = TrialFolder(tmp_path / "claimed" / "00003.host-1-0a")
    folder.path.mkdir(parents=True)
    expected = left_undisturbed(make_request(), plain_workload)
    assert train_trial(make_request(), folder, stop=StopAt(20)) is None
    path = folder.steps if lost == "steps" else folder.checkpoint(7)
    hidden, now = path.rename(tmp_path / "hidden"), [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if lost != "removed" and now[0] > 50 and hidden.exists():
            hidden.rename(path)

    monkeypatch.setattr(checkpoints, "sleep", sleep)
    monkeypatch.setattr(checkpoints, "monotonic", lambda: now[0])
    assert train_trial(make_request(), folder) is not None
    assert lost == "removed" or comparable(folder) == expected
    assert 60 <= now[0] < 61 if lost == "removed" else 50 < now[0] < 51
