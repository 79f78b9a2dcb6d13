"""Tests training/final_trial.py and training/final_model.py: what is trained last is what a study would train."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disks import fill_disk_under
from torch import nn
from torch.utils.data import TensorDataset
from training_builders import (
    StopAt,
    comparable,
    cross_entropy,
    error_rate,
    labelled,
    make_request,
    never,
    parabola,
    train_trial,
)
from trial_records import ended, lines_in

from tunectl.core.errors import FolderError, WorkloadError
from tunectl.core.final_training import FoldedData
from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import BatchNormStatistics, Recovery, TrialRequest, TrialResult, WorkloadReference
from tunectl.core.typed_fields import sealed_object, typed
from tunectl.training.final_model import load_final
from tunectl.training.final_trial import run_final
from tunectl.training.training_state import Clock
from tunectl.workloads.workload import Workload

OBJECTIVE = Objective("train/error_rate", "minimize", checkpoint="final")


def normalised() -> Workload:
    """With batch normalisation and dropout, whose state a model must keep."""
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3))
    data = {"train": labelled(50), "valid": labelled(20, seed=1), "test": labelled(20, seed=2)}
    return Workload(model, data, cross_entropy, error_rate, baseline_loss=1.0986)


def of_all_data() -> Workload:
    """The same workload, as someone who folds by hand would write it."""
    workload = normalised()
    train: Any = [workload.data[name] for name in ("train", "valid")]
    columns = zip(*(part.tensors for part in train), strict=True)
    return replace(workload, data={**workload.data, "train": TensorDataset(*map(torch.cat, columns))})


def final_request(**changes: Any) -> TrialRequest:
    return make_request(
        **{"objective": OBJECTIVE, "keep_checkpoints": 1, "train_examples": 20, "workload_kind": "final", **changes}
    )


def run(
    request: TrialRequest,
    folder: StudyFolder,
    factory: Callable[..., Workload] = normalised,
    stop: Callable[[], bool] = never,
) -> TrialResult | None:
    home = folder.trial(request.trial)
    home.path.mkdir(parents=True, exist_ok=True)
    clock, seconds = Clock(save_every_seconds=0.0), TrialSeconds()
    return run_final(request, home, factory, device="cpu", stop=stop, seconds=seconds, clock=clock)


GRADINIT = {
    "initialisation": "gradinit",
    "initialisation_steps": 3,
    "initialisation_learning_rate": 3e-3,
    "initialisation_momentum": 0.9,
}
CASES: list[dict[str, Any]] = [
    {},
    {"polyak_decay": 0.9, "schedule": "cosine", "warmup_steps": 4},
    {"batch_norm_statistics": BatchNormStatistics(3), **GRADINIT},
]
"""Plain; averaged weights; gathered statistics, after a procedure that rescales the weights."""


@pytest.mark.parametrize("changes", CASES)
def test_it_is_the_training_of_a_study_whose_train_has_both_splits(tmp_path: Path, changes: dict[str, Any]) -> None:
    request = final_request(stop_after=21, **changes)
    folder, by_hand = StudyFolder(tmp_path / "final"), StudyFolder(tmp_path / "study").trial(0)
    result = ended(run(request, folder))
    by_hand.path.mkdir(parents=True)
    ended(train_trial(replace(request, workload_kind="workload"), by_hand, of_all_data))
    assert (result.state, result.final_step, result.train_examples) == (
        "completed",
        21 + request.configuration.get("warmup_steps", 0),
        70,
    )
    home, step = folder.trial(request.trial), result.final_step
    assert step is not None
    assert [path.name for path in home.checkpoints.iterdir()] == [home.checkpoint(step).name]
    model, oracle = torch.load(folder.model), torch.load(by_hand.checkpoint(step))["model"]
    assert [*model] == [*oracle]
    assert all(torch.equal(model[name], oracle[name]) for name in oracle)
    # On the way only train is measured: valid is trained on, and test must not be seen.
    measured = {name.partition("/")[0] for line in lines_in(home.measurements) for name in line["metrics"]}
    assert measured <= {"train", "initialisation"}


@pytest.mark.parametrize("changes", CASES)
def test_the_loaded_model_gives_the_recorded_metrics_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = StudyFolder(tmp_path / "final")
    request = final_request(trial=1, **changes)
    ended(run(request, folder))
    tested = replace(request, trial=2, workload_kind="test")
    assert ended(run(tested, folder)).state == "completed"
    (line,) = lines_in(folder.trial(2).measurements)
    assert (line["step"], [*line["metrics"]]) == (30 + changes.get("warmup_steps", 0), ["test/loss", "test/error_rate"])

    (tmp_path / "my_workload.py").write_text("from test_final_trial import normalised as made\n")
    reference = WorkloadReference("my_workload:made", "made", module="my_workload", search_path=(str(tmp_path),))
    content = {"request": replace(tested, workload=reference).to_json()}
    folder.configuration.write_text(json.dumps(content))
    path = [*sys.path]
    try:
        loaded = load_final(folder.path)
        assert not loaded.model.training
        assert loaded.evaluate("test") == line["metrics"]
        with pytest.raises(WorkloadError, match=r"expected a split of the workload \(train, valid, test\), got 'tset'"):
            loaded.evaluate("tset")
    finally:
        sys.path[:] = path
        sys.modules.pop("my_workload", None)


def test_a_training_that_was_stopped_ends_with_the_same_model(tmp_path: Path) -> None:
    request = final_request(polyak_decay=0.9)
    whole, parts = StudyFolder(tmp_path / "whole"), StudyFolder(tmp_path / "parts")
    ended(run(request, whole))
    assert run(request, parts, stop=StopAt(11)) is None
    assert not parts.model.exists()
    ended(run(request, parts))
    assert parts.model.read_bytes() == whole.model.read_bytes()
    assert comparable(parts.trial(3)) == comparable(whole.trial(3))
    # Killed between the last step and the model: the same call writes it.
    parts.model.unlink()
    ended(run(request, parts))
    assert parts.model.read_bytes() == whole.model.read_bytes()


def test_on_a_full_disk_there_is_no_model_and_the_same_call_goes_on(tmp_path: Path, monkeypatch: Any) -> None:
    request, folder = final_request(), StudyFolder(tmp_path)
    with monkeypatch.context() as full:
        fill_disk_under(full, "model.pt")
        with pytest.raises(OSError, match="No space left"):  # not the RuntimeError that torch makes of it
            run(request, folder)
    assert not folder.model.exists()
    assert ended(run(request, folder)).state == "completed"
    assert folder.model.exists()


def test_the_first_trial_writes_what_splits_there_are(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert ended(run(final_request(trial=0, workload_kind="data"), folder)).state == "completed"
    found = typed(FoldedData, sealed_object(folder.trial(0).data.read_bytes()))
    assert (found.splits, found.fold, found.has_test) == ({"train": 50, "valid": 20, "test": 20}, "alike", True)


def test_there_is_no_model_of_a_training_that_cannot_work(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    result = ended(run(final_request(learning_rate=1e30), folder))
    assert result.state == "infeasible"
    assert not folder.model.exists()


def test_a_training_that_recovered_has_a_model_and_a_study_leaves_it_out(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    rates = {"optimizer": "sgd", "learning_rate": 1.6, "recovery": Recovery(0.5, 3)}
    loss = replace(OBJECTIVE, metric="train/loss")
    result = ended(run(final_request(objective=loss, max_train_steps=120, eval_every=100, **rates), folder, parabola))
    assert (result.state, result.reason, result.final_step) == ("infeasible", "recovered", 120)
    assert abs(float(torch.load(folder.model)["w"])) < 1e-6


def test_weights_that_are_damaged_or_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    request = final_request(trial=1)
    ended(run(request, folder))
    tested = replace(request, trial=2, workload_kind="test")

    def wider() -> Workload:
        return replace(normalised(), model=nn.Linear(6, 3))

    with pytest.raises(WorkloadError, match=r"model\.pt: does not fit the model of the workload m:f"):
        run(tested, folder, wider)
    folder.model.write_bytes(folder.model.read_bytes()[:-900])
    with pytest.raises(WorkloadError, match=r"model\.pt: does not fit"):
        run(tested, folder)
    with pytest.raises(FolderError, match=r"configuration\.json: cannot be read"):
        load_final(folder.path)
    folder.configuration.write_text("{}")
    with pytest.raises(FolderError, match=r"configuration\.json: is damaged"):
        load_final(folder.path)
