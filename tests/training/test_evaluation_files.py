"""The files of evaluations. That a kill is harmless is tested in test_kills.py. Also tests evaluated_trial.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_builders import StopAt, comparable, drawing_workload, make_request, parabola, plain_workload, train_trial
from trial_records import lines_in

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.records import Recovery
from tunectl.training.evaluated_trial import EvaluatedTrial
from tunectl.workloads.workload import Workload


def folders(folder: TrialFolder) -> list[str]:
    return sorted(path.name for path in folder.files.iterdir())


def test_each_evaluation_has_its_folder_and_training_is_the_same_with_it(folder: TrialFolder, tmp_path: Path):
    plain = TrialFolder(tmp_path / "plain")
    plain.path.mkdir()
    request = make_request(max_train_steps=14)
    assert train_trial(request, plain, plain_workload) is not None
    assert train_trial(request, folder, drawing_workload) is not None
    assert folders(folder) == ["step-00000000", "step-00000007", "step-00000014"]
    assert folder.steps.read_bytes() == plain.steps.read_bytes()
    step, _, *names = (folder.files_of(7) / "texts" / "noise.txt").read_text().split(maxsplit=2)
    measured = next(line for line in lines_in(folder.measurements) if line["step"] == 7)["metrics"]
    assert (step, names) == ("7", [str(sorted(measured))])


def test_a_stopped_trial_leaves_the_same_files_and_none_of_an_earlier_attempt(folder: TrialFolder, tmp_path: Path):
    request = make_request(max_train_steps=20)
    undisturbed = TrialFolder(tmp_path / "undisturbed")
    undisturbed.path.mkdir()
    assert train_trial(request, undisturbed, drawing_workload) is not None
    assert train_trial(request, folder, drawing_workload, stop=StopAt(9)) is None
    # As a trial would leave them that was killed after its last resume.pt.
    for left in (folder.files_of(14), folder.unfinished_files(7), folder.files_of(15)):
        left.mkdir()
        (left / "old.txt").write_text("of a killed attempt")
    (folder.files / "mine").mkdir()
    assert train_trial(request, folder, drawing_workload) is not None
    (folder.files / "mine").rmdir()
    assert comparable(folder) == comparable(undisturbed)


def test_a_trial_that_goes_back_has_no_files_of_the_updates_that_it_removed(folder: TrialFolder):
    def factory() -> Workload:
        return replace(parabola(), on_evaluation=lambda trial: (trial.folder / "w.txt").write_text(str(trial.step)))

    request = make_request(
        learning_rate=2.4,
        optimizer="sgd",
        max_train_steps=24,
        eval_every=2,
        recovery=Recovery(0.5, 3),
        objective=Objective("valid/loss", "minimize"),
    )
    assert train_trial(request, folder, factory) is not None
    assert lines_in(folder.recoveries)
    steps = [line["step"] for line in lines_in(folder.measurements)]
    assert folders(folder) == [f"step-{step:08d}" for step in sorted(set(steps))]


def test_an_evaluation_that_writes_nothing_leaves_no_folder(folder: TrialFolder):
    def on_evaluation(trial: EvaluatedTrial) -> None:
        if trial.step == 7:
            trial.save_image("only.png", np.zeros((2, 3), np.uint8))

    request = make_request(max_train_steps=14)
    assert train_trial(request, folder, lambda: replace(plain_workload(), on_evaluation=on_evaluation)) is not None
    assert folders(folder) == ["step-00000007"]


def test_a_function_that_changes_the_model_is_refused(folder: TrialFolder):
    def on_evaluation(trial: EvaluatedTrial) -> None:
        with torch.no_grad():
            next(trial.model.parameters()).add_(1)

    with pytest.raises(WorkloadError, match=r"^on_evaluation\(trial\) changes the model; work on a copy$"):
        train_trial(make_request(), folder, lambda: replace(plain_workload(), on_evaluation=on_evaluation))


@pytest.mark.parametrize(
    ("pixels", "shape", "expected"),
    [
        (torch.tensor([[0.0, 0.5], [1.0, 0.25]]), (2, 2), [0, 128, 255, 64]),
        (torch.tensor([[[True, False]]]), (1, 2), [255, 0]),
        (np.arange(6, dtype=np.uint8).reshape(1, 2, 3), (2, 3), [0, 1, 2, 3, 4, 5]),
        (torch.tensor([[-1.0, 3.0, float("nan")]]), (1, 3), [0, 255, 0]),
    ],
)
def test_a_picture_has_the_shades_of_its_values(tmp_path: Path, pixels: Any, shape: tuple[int, int], expected: Any):
    from PIL import Image

    trial = EvaluatedTrial(0, 0, 0, torch.nn.Identity(), {}, torch.device("cpu"), {}, tmp_path)
    path = trial.save_image("deep/picture", pixels)
    assert path == tmp_path / "deep" / "picture.png"
    with Image.open(path) as image:
        assert image.size == shape[::-1]
        assert np.asarray(image).flatten().tolist() == expected


@pytest.mark.parametrize("pixels", [torch.zeros(4), torch.zeros(2, 3, 3), torch.zeros(3, 0), torch.zeros(2, 2).long()])
def test_what_is_no_picture_is_refused(tmp_path: Path, pixels: Any):
    trial = EvaluatedTrial(0, 0, 0, torch.nn.Identity(), {}, torch.device("cpu"), {}, tmp_path)
    with pytest.raises(ValueError, match=r"^expected an image of"):
        trial.save_image("p", pixels)
