"""Metrics of whole splits: what `evaluate` gives, and where it is called. Also tests probed_data.metrics_of_some."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Subset, default_collate
from training_builders import (
    cohen_kappa,
    drawing_workload,
    labelled,
    make_request,
    parabola,
    plain_workload,
    train_trial,
)
from trial_records import lines_in

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.training.checkpoints import load
from tunectl.training.probe import probe
from tunectl.workloads.workload import Workload

REQUEST = make_request(objective=Objective("valid/kappa", "maximize"), max_train_steps=14, polyak_decay=0.5)


def kappa_of(model: nn.Module, dataset: Any) -> float:
    features, labels = default_collate([dataset[index] for index in range(len(dataset))])
    model.eval()
    with torch.no_grad():
        return cohen_kappa(model(features).argmax(dim=1), labels)


def test_a_whole_split_metric_is_measured_with_the_evaluated_weights_and_is_what_trials_are_judged_by(
    folder: TrialFolder,
):
    assert train_trial(REQUEST, folder, drawing_workload) is not None
    lines = [line for line in lines_in(folder.measurements) if line["checkpoint"]]
    assert len(lines) == 2
    for line in lines:
        parts = load(folder.checkpoints / line["checkpoint"])
        workload = drawing_workload()
        workload.model.load_state_dict(parts["model"])
        assert line["metrics"]["valid/kappa"] == kappa_of(workload.model, workload.data["valid"])
        assert parts["metrics"]["valid/kappa"] == line["metrics"]["valid/kappa"]
    assert all("train/kappa" in line["metrics"] for line in lines)


def test_finalize_gets_it_and_whole_splits_have_it_without_an_error_of_the_sample(folder: TrialFolder):
    def factory() -> Workload:
        def finalize(metrics: Mapping[str, float]) -> Mapping[str, float]:
            return {"twice": 2 * metrics["kappa"], "perplexity": math.exp(metrics["loss"])}

        return replace(drawing_workload(), finalize=finalize)

    request = replace(REQUEST, split_examples={"valid": 8})
    assert train_trial(request, folder, factory) is not None
    whole = [line for line in lines_in(folder.measurements) if line["kind"] == "whole"]
    for line in whole:
        assert line["metrics"]["valid_whole/twice"] == 2 * line["metrics"]["valid_whole/kappa"]
        assert "valid_sample_error/error_rate" in line["metrics"]
        assert line["metrics"]["valid_sample_error/perplexity"] > 0
        # Nothing is known of how much a sample's value differs, nor of what is derived from it.
        assert not {"valid_sample_error/kappa", "valid_sample_error/twice"} & line["metrics"].keys()


def test_training_is_the_same_with_it_however_it_draws_and_sets_modes(folder: TrialFolder, tmp_path: Any):
    def evaluate(model: nn.Module, dataset: Any, device: Any) -> Mapping[str, Any]:
        model.train()
        return {"noise": torch.rand(1).item() + float(next(model.parameters()).requires_grad)}

    plain = TrialFolder(tmp_path / "plain")
    plain.path.mkdir()
    request = make_request(max_train_steps=14)
    assert train_trial(request, plain, plain_workload) is not None
    assert train_trial(request, folder, lambda: replace(plain_workload(), evaluate=evaluate)) is not None
    assert folder.steps.read_bytes() == plain.steps.read_bytes()


def test_a_ruined_model_has_the_metric_as_nan_and_ends_infeasible(folder: TrialFolder):
    def evaluate(model: Any, dataset: Any, device: Any) -> Mapping[str, Any]:
        if not math.isfinite(float(model.w.detach()) ** 2):
            raise ValueError("Input contains NaN")
        return {"score": 1.0}

    request = make_request(
        objective=Objective("valid/score", "maximize"), optimizer="sgd", learning_rate=1e20, eval_every=1
    )
    result = train_trial(request, folder, lambda: replace(parabola(), evaluate=evaluate))
    assert result is not None
    assert (result.state, result.reason) == ("infeasible", "nan_loss")


def given(**changes: Any) -> Any:
    return lambda: replace(plain_workload(), **changes)


def writing(model: nn.Module, dataset: Any, device: Any) -> Mapping[str, Any]:
    with torch.no_grad():
        next(model.parameters()).mul_(1.0)
    return {"auc": 0.5}


@pytest.mark.parametrize(
    ("evaluate", "expected"),
    [
        (lambda m, d, v: 0.5, r"^evaluate\(model, dataset, device\): expected a dict of numbers, got float"),
        (lambda m, d, v: {"a/b": 1.0}, "expected names as text without a slash, got 'a/b'"),
        (lambda m, d, v: {"auc": "high"}, "expected a dict of numbers, got 'auc': 'high'"),
        (lambda m, d, v: {"auc": torch.zeros(3)}, "expected a dict of numbers, got 'auc'"),
        (lambda m, d, v: {"loss": 1.0}, "gives 'loss', which is measured already"),
        (lambda m, d, v: {"error_rate": 1.0}, "gives 'error_rate', which is measured already"),
        (lambda m, d, v: {"minibatch_loss": 1.0}, "the name of a measured series"),
        (lambda m, d, v: {"auc": d.labels}, r"failed on 16 examples of 'train': AttributeError.*test_split_metrics"),
        (writing, r"^evaluate\(model, dataset, device\) changes the model; work on a copy"),
        (3, "evaluate: expected a function, got a int"),
    ],
)
def test_what_cannot_work_is_named_by_the_probe(evaluate: Any, expected: str):
    with pytest.raises(WorkloadError, match=expected):
        probe(make_request(), given(evaluate=evaluate), device="cpu")


def test_the_probe_knows_its_names_and_excuses_what_may_come_from_few_examples():
    request = make_request(objective=Objective("valid/auc", "maximize"))
    assert probe(request, given(evaluate=lambda m, d, v: {"auc": 0.5}), device="cpu").checkpoint_bytes > 0
    with pytest.raises(WorkloadError, match=r"objective\.metric: expected one of .*valid/roc.*, got 'valid/auc'"):
        probe(request, given(evaluate=lambda m, d, v: {"roc": 0.5}), device="cpu")

    def of_many(model: Any, dataset: Any, device: Any) -> Mapping[str, Any]:
        assert isinstance(dataset, Subset)
        raise ValueError("Only one class present in y_true")

    assert probe(request, given(evaluate=of_many), device="cpu").checkpoint_bytes > 0


def test_it_is_called_with_the_split_itself_where_all_of_it_is_evaluated(folder: TrialFolder):
    seen = []

    def evaluate(model: Any, dataset: Any, device: torch.device) -> Mapping[str, Any]:
        seen.append((dataset, device, model.training, torch.is_grad_enabled()))
        return {}

    valid = labelled(20, seed=1)

    def factory() -> Workload:
        own = plain_workload()
        return replace(own, evaluate=evaluate, data={**own.data, "valid": valid})

    assert train_trial(make_request(max_train_steps=1, eval_every=1), folder, factory) is not None
    assert [len(item[0]) for item in seen] == [20, 20, 20, 20]
    assert seen[1][0] is seen[3][0] is valid
    assert {item[1:] for item in seen} == {(torch.device("cpu"), False, False)}
