"""Tests end_measurements.py, sample_errors.py and evaluated_splits.py: whole splits, samples, and counts by class."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset
from torch_parts import tensors_of
from training_builders import (
    comparable,
    cross_entropy,
    error_rate,
    labelled,
    make_request,
    plain_workload,
    predicting_workload,
    train_trial,
)
from trial_records import ended, lines_in

from tunectl.core.errors import WorkloadError
from tunectl.core.example_predictions import PredictionSettings
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.training.evaluated_splits import evaluated_splits, sample
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.sample_errors import ExampleMoments, whole_metrics
from tunectl.workloads.workload import Workload

SAMPLED = {"valid": 8}
CPU = torch.device("cpu")


def whole_lines(folder: TrialFolder) -> dict[int, dict[str, float]]:
    return {line["step"]: line["metrics"] for line in lines_in(folder.measurements) if line["kind"] == "whole"}


def evaluations(folder: TrialFolder) -> dict[int, dict[str, float]]:
    return {line["step"]: line["metrics"] for line in lines_in(folder.measurements) if line["kind"] == "evaluation"}


def test_a_sample_is_evaluated_on_the_way_and_the_whole_split_at_the_kept_checkpoints_and_the_last_step(folder):
    request = make_request(split_examples=SAMPLED, polyak_decay=0.5, keep_checkpoints=2)
    assert ended(train_trial(request, folder)).state == "completed"
    kept = {int(path.stem.removeprefix("step-")) for path in folder.checkpoints.iterdir()}
    found = whole_lines(folder)
    assert len(kept) == 2
    assert set(found) == kept | {30}
    assert list(found) == sorted(found)
    workload = plain_workload()
    features, labels = tensors_of(workload.data["valid"])
    part, part_labels = tensors_of(sample(workload.data["valid"], 8))
    for step in kept:
        workload.model.load_state_dict(torch.load(folder.checkpoint(step), weights_only=True)["model"])
        with torch.no_grad():
            losses = nn.functional.cross_entropy(workload.model(features), labels, reduction="none").double().numpy()
            own = nn.functional.cross_entropy(workload.model(part), part_labels, reduction="none").double().mean()
        assert evaluations(folder)[step]["valid/loss"] == pytest.approx(own.item(), rel=1e-6)
        assert found[step]["valid_whole/loss"] == pytest.approx(losses.mean(), rel=1e-6)
        error = losses.std(ddof=1) / math.sqrt(8) * math.sqrt(1 - 8 / 20)
        assert found[step]["valid_sample_error/loss"] == pytest.approx(error, rel=1e-5)


def test_the_training_of_a_trial_and_its_metrics_of_train_do_not_depend_on_the_sample(folder, tmp_path):
    without = TrialFolder(tmp_path / "trials" / "00004")
    without.path.mkdir()
    final = Objective("valid/loss", "minimize", "final")
    train_trial(make_request(split_examples=SAMPLED, train_examples=20, objective=final), folder)
    train_trial(make_request(objective=final), without)
    assert folder.steps.read_bytes() == without.steps.read_bytes()
    found, plain = comparable(folder), comparable(without)
    assert found["step-00000030.pt"]["model"] == plain["step-00000030.pt"]["model"]
    train = [{n: v for n, v in item.items() if n.startswith("train/")} for item in evaluations(folder).values()]
    assert train == [
        {n: v for n, v in item.items() if n.startswith("train/")} for item in evaluations(without).values()
    ]


def test_a_split_that_is_no_larger_than_its_sample_is_evaluated_whole_and_once(folder):
    train_trial(make_request(split_examples={"valid": 20}), folder)
    assert whole_lines(folder) == {}


def test_a_procedure_evaluates_no_whole_split(folder):
    train_trial(make_request(split_examples=SAMPLED, whole_at_end=False), folder)
    assert whole_lines(folder) == {}


def test_a_checkpoint_that_is_lost_before_the_end_is_left_out_with_a_note(folder):
    request = make_request(split_examples=SAMPLED, objective=Objective("valid/loss", "minimize"), keep_checkpoints=3)
    removed: list[int] = []

    def stop() -> bool:
        # At the end, where whole splits are evaluated, `stop` is asked before each checkpoint.
        if 30 in evaluations(folder) and not removed:
            removed.append(min(int(path.stem.removeprefix("step-")) for path in folder.checkpoints.iterdir()))
            folder.checkpoint(removed[0]).unlink()
        return False

    result = ended(train_trial(request, folder, stop=stop))
    assert result.state == "completed"
    assert removed[0] not in whole_lines(folder)
    assert "the whole split was not evaluated at every kept checkpoint" in result.notes


def test_a_trial_stopped_while_it_evaluates_whole_splits_ends_as_if_undisturbed(folder, tmp_path):
    undisturbed = TrialFolder(tmp_path / "trials" / "00004")
    undisturbed.path.mkdir()
    request = make_request(split_examples=SAMPLED, predictions=PredictionSettings(examples=2))
    train_trial(request, undisturbed, predicting_workload)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 30 in evaluations(folder)
        return asked == 3

    assert train_trial(request, folder, predicting_workload, stop=stop) is None
    ended(train_trial(request, folder, predicting_workload))
    assert comparable(folder) == comparable(undisturbed)


def test_correct_predictions_are_counted_by_class_over_the_whole_split_at_the_selected_checkpoint(folder):
    request = make_request(predictions=PredictionSettings(examples=2), split_examples=SAMPLED)
    train_trial(request, folder, predicting_workload)
    last = lines_in(folder.predictions)[-1]
    step = min(evaluations(folder).items(), key=lambda item: (item[0] == 0, item[1]["valid/error_rate"], item[0]))[0]
    workload = plain_workload()
    workload.model.load_state_dict(torch.load(folder.checkpoint(step), weights_only=True)["model"])
    features, labels = tensors_of(workload.data["valid"])
    guesses = workload.model(features).argmax(dim=1)
    assert (last["step"], last["split"], last["classes"]) == (step, "valid", [0, 1, 2])
    assert last["total"] == torch.bincount(labels, minlength=3).tolist()
    assert last["predicted"] == torch.bincount(guesses, minlength=3).tolist()
    assert last["correct"] == torch.bincount(labels[guesses == labels], minlength=3).tolist()


@pytest.mark.parametrize(
    "values",
    [
        {"prediction": torch.zeros(2)},
        {"prediction": torch.zeros(2), "target": torch.zeros(2)},
        {"prediction": ["a", "b"], "target": ["a", "b"]},
        {"prediction": torch.zeros(2, 3, dtype=torch.int64), "target": torch.zeros(2, dtype=torch.int64)},
    ],
)
def test_predictions_that_are_no_classes_are_not_counted(folder, values):
    def predict(model: nn.Module, batch: Any) -> dict[str, Any]:
        return {name: value[: len(batch[0])] for name, value in values.items()}

    request = make_request(predictions=PredictionSettings(examples=2))
    train_trial(request, folder, lambda: replace(plain_workload(), predict=predict))
    assert all("examples" in line for line in lines_in(folder.predictions))


def test_the_errors_of_weighted_values_are_those_of_repeated_samples():
    rng = np.random.default_rng(1)
    values, weights = rng.normal(3, 1, (400, 5)), (rng.random((400, 5)) < rng.random((400, 1))).astype(float)
    values += rng.normal(0, 2, (400, 1))  # the parts of an example are alike
    moments = ExampleMoments()
    for first in range(0, 400, 64):
        part = slice(first, first + 64)
        moments.add("v", torch.tensor(values[part]), torch.tensor(weights[part]))
        moments.add("shifted", torch.tensor(1e9 + values[part, 0]))
    error = moments.sample_errors(60)["v"]
    means = []
    for _ in range(4000):
        chosen = rng.permutation(400)[:60]
        means.append((values[chosen] * weights[chosen]).sum() / weights[chosen].sum())
    assert error == pytest.approx(np.std(means), rel=0.05)
    assert moments.means()["v"] == pytest.approx((values * weights).sum() / weights.sum(), rel=1e-12)
    plain = values[:, 0].std(ddof=1) / math.sqrt(60) * math.sqrt(1 - 60 / 400)
    assert moments.sample_errors(60)["shifted"] == pytest.approx(plain, rel=1e-4)


def test_a_derived_metric_has_the_error_of_what_it_is_derived_from():
    workload = replace(plain_workload(), finalize=lambda means: {"perplexity": math.exp(means["loss"])})
    splits = evaluated_splits(workload, None, SAMPLED)
    found = whole_metrics(Evaluator(workload, splits, 16, 0, CPU), SAMPLED)
    error = found["valid_sample_error/loss"]
    assert found["valid_sample_error/perplexity"] == pytest.approx(
        math.exp(found["valid_whole/loss"]) * math.sinh(error), rel=1e-9
    )


def test_samples_of_several_splits_and_of_other_data_sets():
    data = {"train": labelled(50), "valid": labelled(20, seed=1), "hard": Subset(labelled(30, seed=3), list(range(30)))}
    workload = Workload(plain_workload().model, data, cross_entropy, error_rate)
    found = evaluated_splits(workload, None, {"valid": 6, "hard": 7})
    assert {name: len(dataset) for name, dataset in found.items()} == {"train": 6, "valid": 6, "hard": 7}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("splits", "asked", "message"),
    [
        (("train", "valid", "test"), {"vlid": 3}, "expected splits among valid, got 'vlid'; did you mean 'valid'"),
        (("train", "valid", "valid_whole"), {"valid": 3}, "has a split 'valid_whole', the name of what is measured"),
    ],
)
def test_a_split_that_cannot_be_sampled_is_an_error(splits, asked, message):
    data = {name: TensorDataset(torch.zeros(9, 6), torch.zeros(9, dtype=torch.int64)) for name in splits}
    workload = Workload(plain_workload().model, data, cross_entropy, error_rate)
    with pytest.raises(WorkloadError, match=f"training.split_examples: .*{message}"):
        evaluated_splits(workload, None, asked)
