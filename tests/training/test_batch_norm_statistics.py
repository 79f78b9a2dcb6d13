"""Statistics of batch normalisation that are gathered again before evaluations. Tests batch_norm_statistics.py, and
evaluation_step.py, saved_trial.py and checkpoint_trial.py for trials with them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torch_parts import numpy_state, tensors_of
from training_builders import (
    Augmented,
    StopAt,
    comparable,
    cross_entropy,
    frozen,
    labelled,
    make_request,
    train_trial,
)
from trial_records import lines_in

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.probe_errors import NO_BATCH_NORM
from tunectl.core.records import BatchNormStatistics, TrialRequest
from tunectl.core.trial_checkpoints import TrialCheckpoints
from tunectl.training.batch_norm_statistics import BatchNormGatherer
from tunectl.training.checkpoint_trial import run_checkpoints
from tunectl.training.data_order import DataOrder
from tunectl.training.probe import probe
from tunectl.training.running_statistics import running_statistics
from tunectl.training.seeds import Purpose
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")
BATCHES = 4


def request(**changes: Any) -> TrialRequest:
    base = {"objective": Objective("valid/loss", "minimize"), "batch_norm_statistics": BatchNormStatistics(BATCHES)}
    return make_request(**{**base, **changes})


def normalised_workload() -> Workload:
    """Batch normalisation, dropout before it, and examples that are drawn anew each time."""
    layers = [nn.Linear(6, 12), nn.Dropout(0.4), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3)]
    data = {"train": Augmented(labelled(50)), "valid": labelled(20, seed=1)}
    return Workload(nn.Sequential(*layers), data, cross_entropy, baseline_loss=1.0986)


def tensor_workload(normalization: Callable[[int], nn.Module] = nn.BatchNorm1d) -> Workload:
    """The same with two normalizations, of examples in tensors."""
    first = [nn.Linear(6, 12), normalization(12), nn.ReLU(), nn.Dropout(0.4)]
    model = nn.Sequential(*first, nn.Linear(12, 8), normalization(8), nn.ReLU(), nn.Linear(8, 3))
    return Workload(model, {"train": labelled(50), "valid": labelled(20, seed=1)}, cross_entropy, baseline_loss=1.0986)


def gatherer(workload: Workload, asked: TrialRequest) -> BatchNormGatherer:
    found = BatchNormGatherer.of_request(asked, workload, CPU)
    assert found is not None
    return found


def place(path: Any) -> TrialFolder:
    path.mkdir(parents=True)
    return TrialFolder(path)


def layers_of(workload: Workload) -> Any:
    """Its model, a sequence of layers."""
    return workload.model


def without_statistics(found: dict[str, Any]) -> dict[str, Any]:
    """What a trial leaves, without what is evaluated with the statistics."""
    return {"steps": found["steps"], **{name: found["resume.pt"][name] for name in ("model", "optimizer", "random")}}


@pytest.mark.parametrize("batch_size", [8, 20])
def test_the_statistics_are_the_averages_of_those_of_the_batches_in_evaluation_of_all_other_layers(batch_size):
    torch.manual_seed(0)
    workload, asked = tensor_workload(), request(batch_size=batch_size)
    oracle = copy.deepcopy(layers_of(workload)).double().eval()
    inputs, _ = tensors_of(workload.data["train"])
    order = DataOrder(asked.seed, len(inputs), batch_size, Purpose.STATISTICS)
    means: dict[int, list[Tensor]] = {1: [], 5: []}
    variances: dict[int, list[Tensor]] = {1: [], 5: []}
    for number in range(BATCHES):
        values = inputs[order.examples(number)].double()
        for index, layer in enumerate(oracle):
            if index not in means:
                values = layer(values)
                continue
            mean, variance = values.mean(dim=0), values.var(dim=0)
            means[index].append(mean.detach())
            variances[index].append(variance.detach())
            biased = values.var(dim=0, correction=0)
            values = (values - mean) / (biased + layer.eps).sqrt() * layer.weight + layer.bias
    with gatherer(workload, asked).gathered():
        for index in means:
            layer = layers_of(workload)[index]
            assert torch.allclose(layer.running_mean.double(), torch.stack(means[index]).mean(dim=0), atol=1e-6)
            assert torch.allclose(layer.running_var.double(), torch.stack(variances[index]).mean(dim=0), rtol=1e-5)
            assert layer.num_batches_tracked == BATCHES
            assert layer.momentum == 0.1


@pytest.mark.parametrize("factory", [tensor_workload, normalised_workload])
def test_they_depend_on_neither_the_statistics_in_training_nor_the_generators_and_leave_both(factory):
    torch.manual_seed(0)
    workload, found = factory(), []
    for _ in range(2):
        workload.model.train()
        workload.loss(workload.model, [torch.randn(9, 6), torch.zeros(9, dtype=torch.int64)])
        before = frozen([workload.model.state_dict(), torch.get_rng_state(), numpy_state()])
        with gatherer(workload, request()).gathered() as trained:
            found.append(frozen(workload.model.state_dict()))
            assert frozen(trained) == {name: before[0][name] for name in trained}
            assert found[-1] != before[0]
        assert frozen([workload.model.state_dict(), torch.get_rng_state(), numpy_state()]) == before
        assert all(module.training for module in workload.model.modules())
    assert found[0] == found[1]


def test_loader_processes_and_micro_batches_see_the_same_batches():
    torch.manual_seed(0)
    workload = normalised_workload()
    with gatherer(workload, request()).gathered():
        plain = frozen(workload.model.state_dict())
    with gatherer(workload, request(data_workers=2)).gathered():
        assert frozen(workload.model.state_dict()) == plain
    # Means of micro-batches of 3, 3 and 2 examples, each by its size, are those of the whole batch in a first layer.
    workload = tensor_workload()
    means = []
    for steps in (1, 3):
        with gatherer(workload, request(accumulate_steps=steps)).gathered():
            means.append(layers_of(workload)[1].running_mean.clone())
    assert torch.allclose(means[0], means[1], atol=1e-6)


class Twice(nn.Module):
    """One normalization for two inputs, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.unused, self.out = nn.BatchNorm1d(3), nn.BatchNorm1d(2), nn.Linear(3, 3)

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.shared(features[:, :3]) + self.shared(features[:, 3:]))


def test_a_layer_that_is_used_twice_averages_over_all_its_inputs_and_one_that_is_not_keeps_its_own():
    workload, asked = replace(tensor_workload(), model=Twice()), request()
    workload.model.unused.running_mean.fill_(7)  # type: ignore[union-attr,operator]
    inputs, _ = tensors_of(workload.data["train"])
    order = DataOrder(asked.seed, len(inputs), 8, Purpose.STATISTICS)
    halves = [inputs[order.examples(number)][:, part] for number in range(BATCHES) for part in (slice(3), slice(3, 6))]
    with gatherer(workload, asked).gathered():
        expected = torch.stack([half.var(dim=0) for half in halves]).mean(dim=0)
        assert torch.allclose(workload.model.shared.running_var, expected, rtol=1e-5)  # type: ignore[union-attr,arg-type]
        assert (workload.model.unused.running_mean == 7).all()  # type: ignore[union-attr]


class Frozen(nn.BatchNorm1d):
    """Stays in evaluation mode, as in fine-tuning."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


def test_a_frozen_layer_keeps_its_statistics():
    workload = tensor_workload(Frozen)
    layers_of(workload)[4] = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8))
    workload.model.train()
    before = layers_of(workload)[1].running_mean.clone().fill_(0)
    with gatherer(workload, request()).gathered() as trained:
        assert set(trained) == {"4.1.running_mean", "4.1.running_var", "4.1.num_batches_tracked"}
        assert torch.equal(layers_of(workload)[1].running_mean, before)
    with pytest.raises(WorkloadError, match="no layer of torch's batch normalisation"):
        probe(request(), lambda: tensor_workload(Frozen), device="cpu")


def test_statistics_that_are_nan_in_training_have_no_part_in_the_gathered_ones():
    workload = tensor_workload(lambda channels: nn.SyncBatchNorm(channels, momentum=None))
    layers_of(workload)[1].running_mean.fill_(torch.nan)
    with gatherer(workload, request()).gathered():
        assert layers_of(workload)[1].running_mean.isfinite().all()
        assert layers_of(workload)[1].momentum != 0
    assert layers_of(workload)[1].running_mean.isnan().all()
    assert layers_of(workload)[1].momentum is None


@pytest.mark.parametrize("polyak", [None, 0.9])
def test_training_is_the_same_with_and_without_and_evaluations_are_those_of_the_checkpoint(folder, tmp_path, polyak):
    common = {"max_train_steps": 21, "polyak_decay": polyak}
    plain = place(tmp_path / "plain")
    train_trial(request(**common, batch_norm_statistics=None), plain, normalised_workload)
    train_trial(request(**common), folder, normalised_workload)
    with_statistics, without = comparable(folder), comparable(plain)
    assert without_statistics(with_statistics) == without_statistics(without)
    lines = lines_in(folder.measurements)
    assert all(
        line["metrics"]["valid/loss"] != other["metrics"]["valid/loss"]
        and line["metrics"].get("train/minibatch_loss") == other["metrics"].get("train/minibatch_loss")
        for line, other in zip(lines, lines_in(plain.measurements), strict=True)
    )
    for line in lines[1:]:
        # The checkpoint has what was evaluated, by itself: its loss is that of the line.
        parts = torch.load(folder.checkpoints / line["checkpoint"], weights_only=True)
        workload = normalised_workload()
        workload.model.load_state_dict(parts["model"])
        workload.model.eval()
        with torch.no_grad():
            loss = cross_entropy(workload.model, tensors_of(workload.data["valid"])).mean().item()
        assert loss == pytest.approx(line["metrics"]["valid/loss"], rel=1e-5)
        # And they are the statistics of these very weights.
        workload.model.train()
        with gatherer(workload, request(**common)).gathered():
            assert frozen(workload.model.state_dict()) == frozen(parts["model"])


def test_a_trial_that_is_stopped_ends_as_one_that_was_not_and_resume_has_the_statistics_in_training(folder, tmp_path):
    asked = request(polyak_decay=0.9, objective=Objective("valid/loss", "minimize", "final"))
    whole = place(tmp_path / "whole")
    train_trial(asked, whole, normalised_workload)
    for update in (7, 18):
        assert train_trial(asked, folder, normalised_workload, stop=StopAt(update), save_every_seconds=1e9) is None
    train_trial(asked, folder, normalised_workload)
    assert comparable(folder) == comparable(whole)
    resumed = torch.load(whole.resume, weights_only=True)
    kept = torch.load(max(whole.checkpoints.glob("*")), weights_only=True)
    assert kept["step"] == resumed["progress"]["step"] == 30
    name = "2.running_mean"
    assert frozen(resumed["model"][name]) == frozen(kept["trained_statistics"][name]) != frozen(kept["model"][name])


def test_a_state_of_before_this_field_goes_on(folder, tmp_path):
    asked = request(batch_norm_statistics=None)
    assert train_trial(asked, folder, normalised_workload, stop=StopAt(11)) is None
    assert "batch_norm_statistics" not in torch.load(folder.resume, weights_only=True)["request"]
    assert "batch_norm_statistics" in asked.to_json()
    train_trial(request(), place(tmp_path / "other"), normalised_workload)
    assert "batch_norm_statistics" in torch.load(tmp_path / "other" / "resume.pt", weights_only=True)["request"]


def test_the_curvature_at_a_checkpoint_is_that_of_the_model_in_training(tmp_path):
    study = tmp_path / "study"
    trained = place(study / "trials" / "00003")
    settings = CurvatureSettings(at=(14,), mode="eval", measures=("lambda_1",))
    asked = request(curvature=settings, max_train_steps=14)
    train_trial(asked, trained, normalised_workload)
    during = next(line for line in lines_in(trained.measurements) if line["kind"] == "curvature")
    measured = place(study / "trials" / "00004")
    files = [item.name for item in trained.checkpoints.glob("*14.pt")]
    again = replace(
        asked, checkpoints=TrialCheckpoints(str(study), 3, dict.fromkeys(files, "")), workload_kind="curvature"
    )
    run_checkpoints(again, measured, normalised_workload, device="cpu", stop=lambda: False, seconds=TrialSeconds())
    (line,) = lines_in(measured.measurements)
    for name in ("curvature/lambda_1", "curvature/loss"):
        assert line["metrics"][name] == pytest.approx(during["metrics"][name], rel=1e-6)
    evaluated = [line for line in lines_in(trained.measurements) if line["kind"] == "evaluation"][-1]
    assert evaluated["metrics"]["train/loss"] != pytest.approx(during["metrics"]["curvature/loss"], rel=1e-3)


class OwnNorm(nn.Module):
    """Running means of its own, which a forward in training mode changes where it `moves`."""

    running_mean: Tensor

    def __init__(self, moves: bool) -> None:
        super().__init__()
        self.moves = moves
        self.register_buffer("running_mean", torch.zeros(6))

    def forward(self, features: Tensor) -> Tensor:
        if self.training and self.moves:
            self.running_mean.lerp_(features.detach().mean(dim=0), 0.1)
        return features - self.running_mean


def test_a_model_without_such_layers_is_an_error_of_the_probe_and_so_are_statistics_of_another_kind():
    def with_own(moves: bool) -> Workload:
        plain = tensor_workload()
        return replace(plain, model=nn.Sequential(OwnNorm(moves), *layers_of(plain)))

    probe(request(), tensor_workload, device="cpu")
    probe(request(), lambda: with_own(False), device="cpu")
    with pytest.raises(WorkloadError, match=r"the layer 0 \(OwnNorm\) has running statistics of its own kind"):
        probe(request(), lambda: with_own(True), device="cpu")
    probe(request(batch_norm_statistics=None), lambda: with_own(True), device="cpu")
    with pytest.raises(WorkloadError) as error:
        probe(request(), lambda: tensor_workload(lambda channels: nn.LayerNorm(channels)), device="cpu")
    assert str(error.value) == NO_BATCH_NORM


def test_a_trial_without_such_layers_trains_as_without_the_section(folder, tmp_path):
    plain = place(tmp_path / "plain")
    train_trial(request(batch_norm_statistics=None), plain, lambda: tensor_workload(nn.LayerNorm))
    train_trial(request(), folder, lambda: tensor_workload(nn.LayerNorm))
    assert comparable(folder) == comparable(plain)


def test_gathered_statistics_never_lag_behind():
    model = tensor_workload().model
    assert running_statistics(model, 20) == "lagging"
    assert running_statistics(model, 20, gathered=True) == "none"
    assert running_statistics(nn.Sequential(model, OwnNorm(True)), 20, gathered=True) == "lagging"


def test_the_first_evaluation_has_statistics_so_that_a_network_that_did_not_learn_is_found(folder, tmp_path):
    def shifted() -> Workload:
        plain = tensor_workload()
        data = {
            name: TensorDataset(tensors_of(split)[0] * 30 + 50, tensors_of(split)[1])
            for name, split in plain.data.items()
        }
        return replace(plain, data=data, baseline_loss=None)

    asked = request(learning_rate=1e-12, max_train_steps=30, optimizer="sgd")
    judged = train_trial(asked, folder, shifted)
    lagging = train_trial(replace(asked, batch_norm_statistics=None), place(tmp_path / "plain"), shifted)
    assert judged is not None
    assert lagging is not None
    losses = [line["metrics"]["train/loss"] for line in lines_in(folder.measurements)]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-4)
    assert judged.reason == "no_progress"
    assert lagging.state == "completed"
