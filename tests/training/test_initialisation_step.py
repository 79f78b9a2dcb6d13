"""Trials with an initialisation. Tests initialisation_step.py and initialisation/initialisation.py too."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from narrowing import of_type
from torch import Tensor, nn
from training_builders import (
    StopAt,
    comparable,
    cross_entropy,
    frozen,
    left_undisturbed,
    make_request,
    plain_workload,
    stochastic_workload,
    train_trial,
)
from trial_records import ended, lines_in

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.folders import TrialFolder
from tunectl.core.measurement_kinds import INITIALISATION
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import Recovery, TrialRequest
from tunectl.language.configuration import INITIALISATION_EXAMPLES as EXAMPLES
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.data_order import DataOrder
from tunectl.training.initialisation.gradinit import SGD_STEP
from tunectl.training.initialisation.initialisation import Initialisation
from tunectl.training.seeds import Purpose, random_state
from tunectl.training.training_state import Clock
from tunectl.training.trial import run_trial
from tunectl.workloads.workload import Workload

METHODS = ("metainit", "gradinit")
CPU = torch.device("cpu")


def request_for(method: str, steps: int = 6, **changes: Any) -> TrialRequest:
    rate = {"metainit": 0.02, "gradinit": 0.02}[method]
    own = {"steps": steps, "learning_rate": rate, "momentum": 0.9}
    fields = {f"initialisation_{name}": value for name, value in own.items()}
    return make_request(**{"initialisation": method, "max_train_steps": 8, "eval_every": 4, **fields, **changes})


def other(folder: TrialFolder, name: str = "other") -> TrialFolder:
    path = folder.path.with_name(name)
    path.mkdir()
    return TrialFolder(path)


def lines_of(folder: TrialFolder, kind: str = "initialisation") -> dict[int, dict[str, float]]:
    """The values by step, by their names without the kind."""
    lines = [line for line in lines_in(folder.measurements) if line["kind"] == kind]
    assert len({line["step"] for line in lines}) == len(lines)
    return {line["step"]: {name.partition("/")[2]: value for name, value in line["metrics"].items()} for line in lines}


def initialisation(workload: Workload, method: str, steps: int = 6, **changes: Any) -> Initialisation:
    configuration = TrainingConfiguration(**request_for(method, steps, **changes).configuration)
    workload.model.train()
    return Initialisation(workload, configuration, seed=7, device=CPU)


def run(workload: Workload, method: str, steps: int = 6, **changes: Any) -> Initialisation:
    found = initialisation(workload, method, steps, **changes)
    for _ in range(steps):
        found.rescale(found.measure())
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stops", [[0, 1, 1, 2], [6, 3]])
def test_a_trial_that_was_stopped_ends_as_if_it_had_not_been(
    folder: TrialFolder, method: str, stops: list[int]
) -> None:
    request = request_for(method, polyak_decay=0.9, optimizer="adam")
    for stop in stops:
        assert train_trial(request, folder, stochastic_workload, stop=StopAt(stop), save_every_seconds=1e9) is None
    assert ended(train_trial(request, folder, stochastic_workload)).state == "completed"
    assert comparable(folder) == left_undisturbed(request, stochastic_workload)
    assert list(lines_of(folder)) == list(range(7))


def test_a_trial_saves_during_its_initialisation_when_the_clock_says_so(folder: TrialFolder) -> None:
    saved: list[int] = []

    class Watched(StopAt):
        def __call__(self) -> bool:
            if folder.resume.exists():
                saved.append(torch.load(folder.resume, weights_only=True)["initialisation"]["iteration"])
            return False

    now = iter(range(10**9))
    clock = Clock(now=lambda: float(next(now)), save_every_seconds=3.0)
    seconds = TrialSeconds()
    request = request_for("metainit", steps=40)
    result = run_trial(request, folder, plain_workload, device="cpu", stop=Watched(0), seconds=seconds, clock=clock)
    assert ended(result).state == "completed"
    assert len(set(saved)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_step_0_is_evaluated_after_it_and_averages_begin_there(folder: TrialFolder, method: str) -> None:
    request = request_for(method, polyak_decay=0.999999, learning_rate=1e-9)
    train_trial(request, folder)
    plain = other(folder)
    train_trial(replace(request, configuration={**request.configuration, "initialisation": "none"}), plain)
    first, without = (lines_of(each, "evaluation")[0]["loss"] for each in (folder, plain))
    assert first != without
    # At a rate of nearly 0 the averages stay where they began.
    assert lines_of(folder, "evaluation")[8]["loss"] == pytest.approx(first, rel=1e-6)
    assert [line["kind"] for line in lines_in(folder.measurements)] == ["initialisation"] * 7 + ["evaluation"] * 3


def test_about_a_hundred_iterations_have_lines_with_the_first_and_the_last() -> None:
    found = initialisation(plain_workload(), "gradinit", 103)
    recorded = []
    for found.iteration in range(104):
        recorded += [found.iteration] if found.is_recorded else []
    assert recorded == [*range(0, 103, 2), 103]


def test_its_lines_have_the_metrics_of_their_kind(folder: TrialFolder) -> None:
    train_trial(request_for("gradinit"), folder)
    found = lines_of(folder)
    assert list(found) == list(range(7))
    assert {name for values in found.values() for name in values} <= {item.name for item in INITIALISATION.metrics}
    assert found[0]["smallest_factor"] == found[0]["largest_factor"] == 1.0
    assert found[6]["smallest_factor"] < 1.0
    lines = [line for line in lines_in(folder.measurements) if line["kind"] == "initialisation"]
    assert all(line["learning_rate"] is line["gradient_norm"] is line["checkpoint"] is None for line in lines)
    seconds = [values["seconds"] for values in found.values()]
    assert seconds == sorted(seconds)
    result = torch.load(folder.resume, weights_only=True)["progress"]
    assert result["initialisation_seconds"] >= seconds[-1] > 0
    evaluation = next(line for line in lines_in(folder.measurements) if line["kind"] == "evaluation")
    assert evaluation["elapsed_seconds"] > seconds[-1]


def scaled(factor: float) -> Workload:
    workload = plain_workload()
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return replace(workload, model=model)


def test_metainit_lowers_the_quotient_of_a_badly_scaled_network() -> None:
    workload = scaled(3.0)
    done = run(workload, "metainit", 60, initialisation_learning_rate=0.05)
    assert done.measure().metrics["gradient_quotient"] < 4
    assert initialisation(scaled(3.0), "metainit").measure().metrics["gradient_quotient"] > 10


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_gradinit_lowers_the_loss_after_the_first_step_of_a_badly_scaled_network(optimizer: str) -> None:
    def loss_after_the_first_step(workload: Workload) -> float:
        model, batch = workload.model, workload.data["train"][:]
        make = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
        step = make(model.parameters(), lr=1e-3 if optimizer == "adam" else SGD_STEP.size)
        cross_entropy(model, batch).mean().backward()
        if optimizer == "sgd":
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        step.step()
        return float(cross_entropy(model, batch).detach().mean())

    workload = scaled(4.0)
    run(workload, "gradinit", 25, optimizer=optimizer, initialisation_learning_rate=0.1)
    assert loss_after_the_first_step(workload) < 1.2 < 10 < loss_after_the_first_step(scaled(4.0))


@pytest.mark.parametrize("method", METHODS)
def test_it_changes_nothing_but_the_weights(method: str) -> None:
    workload = stochastic_workload()
    found = initialisation(workload, method)
    random.seed(3)
    np.random.seed(4)
    torch.manual_seed(5)

    def around() -> Any:
        modes = [module.training for module in workload.model.modules()]
        return frozen([random_state(CPU), dict(workload.model.named_buffers()), modes])

    before, weights = around(), frozen(dict(workload.model.named_parameters()))
    measured = found.measure()
    assert around() == before
    assert frozen(dict(workload.model.named_parameters())) == weights
    assert all(parameter.grad is None for parameter in workload.model.parameters())
    found.rescale(measured)
    assert around() == before
    assert frozen(dict(workload.model.named_parameters())) != weights


def test_dropout_is_off_and_batch_statistics_are_of_the_batch_in_gradinit_alone() -> None:
    seen: list[tuple[str, bool]] = []

    def watched(model: Any, batch: Any) -> Tensor:
        seen.extend((type(module).__name__, module.training) for module in model.modules())
        return cross_entropy(model, batch)

    for method, expected in (("metainit", False), ("gradinit", True)):
        seen.clear()
        initialisation(replace(stochastic_workload(), loss=watched), method).measure()
        assert {("Dropout", False), ("BatchNorm1d", expected)} <= set(seen)
        assert ("Dropout", True) not in seen


def test_the_two_batches_of_gradinit_share_half_of_their_examples_and_the_data_order_is_its_own() -> None:
    batches: list[Tensor] = []

    def watched(model: Any, batch: Any) -> Tensor:
        batches.append(batch[0].clone())
        return cross_entropy(model, batch)

    workload = replace(plain_workload(), loss=watched)
    run(workload, "gradinit", 2, optimizer="adam")
    first, second = batches[:2]
    assert len(first) == len(second) == EXAMPLES
    assert torch.equal(first[: EXAMPLES // 2], second[: EXAMPLES // 2])
    assert not torch.equal(first[EXAMPLES // 2 :], second[EXAMPLES // 2 :])
    assert not torch.equal(first, batches[2])
    order = DataOrder(7, 50, 96, Purpose.INITIALISATION).examples(0)
    assert torch.equal(first, workload.data["train"].tensors[0][order[:EXAMPLES]])  # type: ignore[attr-defined]
    assert list(order) != list(DataOrder(7, 50, 96).examples(0))


def test_frozen_weights_stay_and_a_weight_of_two_modules_is_scaled_once() -> None:
    workload = plain_workload(width=6)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
    first, second = of_type(nn.Linear, model[0]), of_type(nn.Linear, model[2])
    second.weight = first.weight
    output = of_type(nn.Linear, model[3])
    output.requires_grad_(False)
    start = frozen(dict(output.named_parameters()))
    before = first.weight.detach().clone()
    done = run(replace(workload, model=model), "metainit", 1)
    assert frozen(dict(output.named_parameters())) == start
    assert second.weight is first.weight
    change = float(first.weight.detach().norm() - before.norm())
    assert abs(change) == pytest.approx(0.02, rel=1e-4)
    assert done.iteration == 1


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(1, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, values: Tensor) -> Tensor:
        states: Tensor = self.layer(values[..., None])[0]
        return self.head(states[:, -1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "model",
    [
        Recurrent,
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.GELU(), nn.Linear(8, 3)),
        lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.TransformerEncoderLayer(8, 2, 8), nn.Linear(8, 3)),
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.MaxPool1d(2), nn.Flatten(1), nn.Linear(8, 3)
        ),
    ],
    ids=["lstm", "weight norm", "transformer", "convolution"],
)
def test_models_of_many_kinds_are_rescaled(method: str, model: Any) -> None:
    workload = replace(plain_workload(), model=model())
    before = [parameter.detach().clone() for parameter in workload.model.parameters()]
    done = run(workload, method, 2)
    assert done.measure().not_finite() == ""
    after = list(workload.model.parameters())
    assert not all(map(torch.equal, before, after))
    for old, new in zip(before, after, strict=True):
        # Each is the old one times one number.
        factor = float((old * new.detach()).sum() / old.square().sum()) if old.any() else 1.0
        torch.testing.assert_close(new.detach(), old * factor)


def test_recomputed_blocks_give_the_same_iterations() -> None:
    from tunectl.training.recomputation import recompute

    def states(*, again: bool, method: str) -> Mapping[str, Any]:
        torch.manual_seed(0)
        workload = stochastic_workload()
        if again:
            recompute([workload.model])
        return run(workload, method, 3).state()

    for method in METHODS:
        assert states(again=True, method=method) == states(again=False, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_a_number_that_is_not_finite_makes_the_trial_infeasible_before_step_0(folder: TrialFolder, method: str) -> None:
    def ruined() -> Workload:
        return replace(plain_workload(), loss=lambda model, batch: cross_entropy(model, batch) * torch.inf)

    result = ended(train_trial(request_for(method), folder, ruined))
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "nan_initialisation", 0)
    assert f"{method}, iteration 0 of 6: the " in result.message
    assert not folder.resume.exists()
    assert list(lines_of(folder)) == [0]


def test_a_trial_that_recovers_initialises_once(folder: TrialFolder) -> None:
    request = request_for("metainit", learning_rate=200.0, recovery=Recovery(1e-6, 3), max_train_steps=20)
    assert ended(train_trial(request, folder)).reason == "recovered"
    assert list(lines_of(folder)) == list(range(7))


def test_lambda_1_is_measured_at_iterations_too_and_the_last_is_that_of_step_0(folder: TrialFolder) -> None:
    request = request_for("metainit", curvature=CurvatureSettings(every=3, max_products=60, tolerance=1e-8))
    train_trial(request, folder)
    found = lines_of(folder)
    assert [step for step, values in found.items() if "lambda_1" in values] == [0, 3, 6]
    at_0 = lines_of(folder, "curvature")[0]["lambda_1"]
    assert found[6]["lambda_1"] == pytest.approx(at_0, rel=1e-6)
    plain = other(folder)
    train_trial(replace(request, curvature=None), plain)
    assert lines_of(folder, "evaluation") == lines_of(plain, "evaluation")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_precision_of_training_does_not_change_it(precision: str) -> None:
    one, two = plain_workload(), plain_workload()
    two.model.load_state_dict(one.model.state_dict())
    assert run(one, "gradinit").state() == run(two, "gradinit", precision=precision).state()
