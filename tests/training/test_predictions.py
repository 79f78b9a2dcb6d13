"""Tests predictions.py: which examples, with which weights, and that nothing else of a trial changes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_parts import tensors_of
from training_builders import (
    StopAt,
    comparable,
    make_request,
    parabola,
    plain_workload,
    predicting_workload,
    stochastic_workload,
    train_trial,
)
from trial_records import ended, lines_in

from tunectl.core.errors import WorkloadError
from tunectl.core.example_predictions import PredictionSettings
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.records import BatchNormStatistics, Recovery
from tunectl.training.predictions import chosen_examples
from tunectl.workloads.workload import Workload

KEPT = PredictionSettings(examples=4)


def other(tmp_path: Any, name: str) -> TrialFolder:
    folder = TrialFolder(tmp_path / "trials" / name)
    folder.path.mkdir(parents=True)
    return folder


def of_steps(folder: TrialFolder) -> dict[int, dict[int, dict[str, Any]]]:
    """The values by step and example."""
    lines = [line for line in lines_in(folder.predictions) if "examples" in line]
    return {line["step"]: {item["example"]: item["values"] for item in line["examples"]} for line in lines}


def predicting(workload: Workload) -> Workload:
    return replace(workload, predict=lambda model, batch: {"scores": model(batch[0])})


def test_there_is_a_line_for_every_evaluation_and_what_does_not_change_is_kept_once(folder):
    train_trial(make_request(predictions=KEPT), folder, predicting_workload)
    found = of_steps(folder)
    assert list(found) == [0, 7, 14, 21, 28, 30]
    assert {name for values in found[0].values() for name in values} == {
        *("input", "target", "prediction", "score", "words")
    }
    assert {name for values in found[7].values() for name in values} == {"prediction", "score", "words"}
    features, labels = tensors_of(plain_workload().data["valid"])
    for example, values in found[0].items():
        assert values["target"] == labels[example]
        assert values["input"]["values"] == pytest.approx(features[example].tolist(), rel=1e-6)


def test_a_trial_is_the_same_but_for_its_predictions(folder, tmp_path):
    without = other(tmp_path, "00004")
    train_trial(make_request(predictions=KEPT), folder, lambda: predicting(stochastic_workload()))
    train_trial(make_request(), without, stochastic_workload)
    found = comparable(folder)
    assert found.pop("predictions")
    found["resume.pt"] = {name: part for name, part in found["resume.pt"].items() if name != "predictions_offset"}
    assert found == comparable(without)


@pytest.mark.parametrize("extra", [{}, {"polyak_decay": 0.7}, {"batch_norm_statistics": BatchNormStatistics(2)}])
def test_predictions_are_those_of_the_weights_and_statistics_that_are_evaluated(folder, extra):
    train_trial(
        make_request(predictions=KEPT, objective=Objective("valid/loss", "minimize", "final"), **extra),
        folder,
        lambda: predicting(stochastic_workload()),
    )
    # The checkpoint has what was evaluated.
    workload = stochastic_workload()
    workload.model.load_state_dict(torch.load(folder.checkpoint(30), weights_only=True)["model"])
    workload.model.eval()
    inputs = [line["examples"] for line in lines_in(folder.measurements) if "examples" in line]
    assert not inputs
    found = of_steps(folder)[30]
    assert len(found) == 4
    for example, values in found.items():
        # The features without their noise, which differs by at most a few tenths: the scores are near.
        features = tensors_of(workload.data["valid"].inner)[0][example]  # type: ignore[attr-defined]
        with torch.no_grad():
            scores = workload.model(features[None])[0]
        assert values["scores"]["array"] == [3]
        assert np.corrcoef(values["scores"]["values"], scores.numpy())[0, 1] > 0.8


def test_predictions_of_plain_data_equal_those_of_the_checkpoint(folder):
    train_trial(make_request(predictions=KEPT, polyak_decay=0.7, keep_checkpoints=9), folder, predicting_workload)
    workload = plain_workload()
    features, _ = tensors_of(workload.data["valid"])
    compared = {step: found for step, found in of_steps(folder).items() if folder.checkpoint(step).exists()}
    assert len(compared) > 2
    for step, found in compared.items():
        workload.model.load_state_dict(torch.load(folder.checkpoint(step), weights_only=True)["model"])
        for example, values in found.items():
            scores = workload.model(features[example])
            assert values["prediction"] == scores.argmax()
            assert values["score"] == pytest.approx(scores.max().item(), rel=1e-5)
            assert values["words"] == f"{scores[0].item():.1f}"


def test_an_interrupted_trial_keeps_the_same_predictions(folder, tmp_path):
    request = make_request(predictions=KEPT, split_examples={"valid": 8})
    undisturbed = other(tmp_path, "00004")
    train_trial(request, undisturbed, predicting_workload)
    for update in (3, 8, 16, 30):
        assert train_trial(request, folder, predicting_workload, stop=StopAt(update)) is None or update == 30
    ended(train_trial(request, folder, predicting_workload))
    assert folder.predictions.read_bytes() == undisturbed.predictions.read_bytes()


def test_a_trial_that_goes_back_has_no_predictions_of_the_updates_that_it_removed(folder):
    request = make_request(
        optimizer="sgd",
        learning_rate=1.6,
        objective=Objective("valid/loss", "minimize"),
        recovery=Recovery(0.5, 3),
        max_train_steps=120,
        eval_every=20,
        predictions=KEPT,
    )

    def factory() -> Workload:
        return replace(parabola(), predict=lambda model, batch: {"out": (batch[0] @ model.w).squeeze(1)})

    assert ended(train_trial(request, folder, factory)).reason == "recovered"
    evaluated = [line["step"] for line in lines_in(folder.measurements) if line["kind"] == "evaluation"]
    assert list(of_steps(folder)) == evaluated
    assert all(abs(values["out"]) < 4 for found in of_steps(folder).values() for values in found.values())


def test_the_choice_is_the_same_for_every_trial_and_a_list_keeps_its_order():
    data = plain_workload().data["valid"]
    first = chosen_examples(data, PredictionSettings(examples=6))
    assert first == sorted(set(first)) == chosen_examples(data, PredictionSettings(examples=6))
    assert len(first) == 6
    assert chosen_examples(data, PredictionSettings(examples=200)) == list(range(20))
    assert chosen_examples(data, PredictionSettings(examples=(5, 2, 19))) == [5, 2, 19]
    with pytest.raises(WorkloadError, match=r"training.predictions.examples: expected places from 0 to 19, .* got 20"):
        chosen_examples(data, PredictionSettings(examples=(5, 20)))


@pytest.mark.parametrize(
    ("factory", "settings", "message"),
    [
        (plain_workload, KEPT, "training.predictions: the workload has no predict"),
        (
            predicting_workload,
            PredictionSettings("vlid"),
            "training.predictions.split: expected one of train, valid, got 'vlid'; did you mean 'valid'",
        ),
    ],
)
def test_what_cannot_be_predicted_is_an_error(folder, factory, settings, message):
    with pytest.raises(WorkloadError, match=message):
        train_trial(make_request(predictions=settings), folder, factory)


def test_predictions_that_are_too_large_to_be_kept_are_an_error(folder):
    def factory() -> Workload:
        images = {f"image{n}": torch.rand(4, 3, 128, 128) for n in range(20)}
        return replace(plain_workload(), predict=lambda model, batch: images)

    with pytest.raises(WorkloadError, match=r"gives .* MB for the chosen examples, of at most 4 MB at an evaluation"):
        train_trial(make_request(predictions=KEPT), folder, factory)


def test_a_model_that_is_called_in_training_mode_by_predict_trains_as_before(folder, tmp_path):
    """`predict` that changes the mode, draws random numbers and writes into its batch has no effect on training."""

    def rude(model: nn.Module, batch: Any) -> dict[str, Any]:
        torch.rand(3)
        np.random.random()
        batch[0].zero_()
        return {"out": torch.ones(len(batch[0]))}

    without = other(tmp_path, "00004")
    train_trial(make_request(predictions=KEPT), folder, lambda: replace(plain_workload(), predict=rude))
    train_trial(make_request(), without)
    assert folder.steps.read_bytes() == without.steps.read_bytes()
    assert json.dumps(comparable(folder)["measurements"]) == json.dumps(comparable(without)["measurements"])


def test_without_a_checkpoint_classes_are_not_counted_and_predictions_are_the_same(folder, tmp_path):
    kept = other(tmp_path, "00004")
    request = make_request(predictions=KEPT, polyak_decay=0.7)
    train_trial(request, kept, predicting_workload)
    ended(train_trial(replace(request, keep_checkpoints=0), folder, predicting_workload))
    assert of_steps(folder) == of_steps(kept)
    assert len(lines_in(kept.predictions)) == len(lines_in(folder.predictions)) + 1
    assert list(folder.checkpoints.iterdir()) == []
