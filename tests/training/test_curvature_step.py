"""Measuring curvature in a trial changes nothing else, and survives stops. Tests curvature_step.py, curvature_meter.py,
eigenvalue_searches.py and optimizer_measures.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
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
from user_optimizers import fields

from tunectl.core.curvature_settings import CurvatureMeasure, CurvatureSettings
from tunectl.core.folders import TrialFolder
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.objective import Objective
from tunectl.core.records import Recovery
from tunectl.language.optimizer_traits import OPTIMIZERS
from tunectl.training.curvature import hessian_products
from tunectl.workloads.workload import Workload

# How many products it takes until a search has converged is no matter of most of these tests.
EVERYTHING = CurvatureSettings(every=9, measures=get_args(CurvatureMeasure), eigenvalues=3, max_products=20)
# The second search begins where the first ended.
EXACT = replace(EVERYTHING, every=None, at=(15, 30), tolerance=1e-6, max_products=400)


def other(folder: TrialFolder, name: str = "other") -> TrialFolder:
    path = folder.path.with_name(name)
    path.mkdir()
    return TrialFolder(path)


def curvature_lines(folder: TrialFolder) -> dict[int, dict[str, float]]:
    """The values by step, by their names without the kind."""
    lines = [line for line in lines_in(folder.measurements) if line["kind"] == "curvature"]
    assert len({line["step"] for line in lines}) == len(lines)
    assert {name for line in lines for name in line["metrics"]} <= {CURVATURE.column(m.name) for m in CURVATURE.metrics}
    return {
        line["step"]: {name.removeprefix("curvature/"): value for name, value in line["metrics"].items()}
        for line in lines
    }


def without_curvature(found: dict[str, Any]) -> dict[str, Any]:
    """What a trial leaves, but for what the measurements of curvature add to it."""
    left = {**found, "measurements": [line for line in found["measurements"] if line["kind"] != "curvature"]}
    for parts in (value for name, value in left.items() if name.endswith(".pt")):
        parts.pop("curvature", None)
        parts.get("progress", {}).pop("curvature_step", None)
    return left


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data_workers": 2},
        {"optimizer": "adamw", "weight_decay": 0.01, "polyak_decay": 0.9},
        {"optimizer": "lamb", "grad_clip_norm": 0.1, "accumulate_steps": 2},
        {"precision": "bfloat16", "optimizer": "nadam", "weight_decay": 0.01},
        {"precision": "float16", "optimizer": "rmsprop_playbook"},
        {"curvature": replace(EVERYTHING, mode="eval")},
        fields("SavedCount", learning_rate=0.05),
        fields("ScheduleFree", learning_rate=0.05),
    ],
    ids=lambda changes: str(changes.get("optimizer", changes)),
)
def test_a_trial_that_measures_curvature_trains_evaluates_and_keeps_the_same_bit_for_bit(
    folder: TrialFolder, changes: dict[str, Any]
) -> None:
    request = make_request(**{"schedule": "cosine", "warmup_steps": 4, "curvature": EVERYTHING, **changes})
    assert train_trial(request, folder, stochastic_workload) is not None
    plain = other(folder)
    assert train_trial(replace(request, curvature=None), plain, stochastic_workload) is not None
    assert without_curvature(comparable(folder)) == without_curvature(comparable(plain))
    assert list(curvature_lines(folder)) == list(range(0, 35, 9))
    assert not curvature_lines(plain)


@pytest.mark.parametrize("stops", [[1], [9], [10, 1, 3], [30]])
def test_a_trial_that_was_stopped_measures_what_it_would_have_measured(folder: TrialFolder, stops: list[int]) -> None:
    request = make_request(optimizer="adam", weight_decay=0.01, curvature=EVERYTHING)
    for stop in stops:
        assert train_trial(request, folder, stochastic_workload, stop=StopAt(stop), save_every_seconds=1e9) is None
    assert train_trial(request, folder, stochastic_workload) is not None
    assert comparable(folder) == left_undisturbed(request, stochastic_workload)


def test_curvature_may_be_asked_for_and_left_out_while_a_trial_is_half_trained(folder: TrialFolder) -> None:
    plain = make_request()
    measuring = replace(plain, curvature=CurvatureSettings(at=(10, 11, 12, 25)))
    assert train_trial(plain, folder, stop=StopAt(10)) is None
    assert train_trial(measuring, folder, stop=StopAt(2)) is None
    assert train_trial(replace(plain, curvature=CurvatureSettings(at=(12, 13))), folder, stop=StopAt(8)) is None
    assert train_trial(plain, folder) is not None
    undisturbed = other(folder)
    assert train_trial(plain, undisturbed) is not None
    assert without_curvature(comparable(folder)) == without_curvature(comparable(undisturbed))
    assert list(curvature_lines(folder)) == [10, 11, 12, 13]


def test_a_trial_that_recovers_has_one_line_a_step_and_those_of_the_smaller_rate(folder: TrialFolder) -> None:
    from training_builders import parabola

    request = make_request(
        optimizer="sgd",
        learning_rate=1.6,
        max_train_steps=120,
        eval_every=100,
        objective=Objective("valid/loss", "minimize"),
        recovery=Recovery(0.5, 3),
        curvature=CurvatureSettings(every=10),
    )
    assert train_trial(request, folder, parabola) is not None
    smaller = other(folder)
    slow = replace(request, recovery=None, configuration={**request.configuration, "learning_rate": 0.8})
    assert train_trial(slow, smaller, parabola) is not None
    assert comparable(folder)["measurements"] == comparable(smaller)["measurements"]


def dense_hessian(workload: Workload, weights: Mapping[str, Tensor]) -> Tensor:
    """The Hessian of the mean loss over `train`, shape [n, n], in float64, by torch.func."""
    inputs, labels = (tensor.double() if tensor.is_floating_point() else tensor for tensor in workload.data["train"][:])
    names = [name for name, _ in workload.model.named_parameters()]
    shapes = [weights[name].shape for name in names]

    def loss(flat: Tensor) -> Tensor:
        pieces = torch.split(flat, [shape.numel() for shape in shapes])
        parameters = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return nn.functional.cross_entropy(functional_call(workload.model, parameters, (inputs,)), labels)

    flat = torch.cat([weights[name].double().reshape(-1) for name in names])
    found: Tensor = torch.autograd.functional.hessian(loss, flat)
    return found


def smooth_workload() -> Workload:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    plain = plain_workload()
    return replace(plain, model=model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_value_is_that_of_the_dense_hessian_at_the_weights_of_its_step(
    folder: TrialFolder, optimizer: str, decay: float
) -> None:
    request = make_request(
        optimizer=optimizer,
        learning_rate=0.01,
        momentum=0.8,
        weight_decay=decay,
        weight_decay_scope="matrices",
        eval_every=30,
        curvature=EXACT,
    )
    workload = smooth_workload()
    assert train_trial(request, folder, lambda: workload) is not None
    found = curvature_lines(folder)[30]
    kept = torch.load(folder.resume, weights_only=True)
    hessian = dense_hessian(workload, kept["model"])
    eigenvalues = torch.linalg.eigvalsh(hessian).flip(0)
    assert [found[f"lambda_{rank}"] for rank in (1, 2, 3)] == pytest.approx(eigenvalues[:3].tolist(), rel=1e-4)
    assert found["lambda_min"] == pytest.approx(float(eigenvalues[-1]), rel=1e-4)
    assert found["converged"] == found["lambda_min_converged"] == 1
    diagonal = torch.cat([torch.full((p.numel(),), decay if p.ndim == 2 else 0.0) for p in workload.model.parameters()])
    preconditioner = divisor(kept["optimizer"], optimizer, steps=30)
    if preconditioner is not None:
        root = preconditioner.double().rsqrt()
        scaled = float(torch.linalg.eigvalsh(root[:, None] * hessian * root)[-1])
        assert found["preconditioned_lambda_1"] == pytest.approx(scaled, rel=1e-4)
    with_l2 = decay > 0 and optimizer not in ("adamw", "lamb", "lion", "muon")
    assert ("lambda_1_with_decay" in found) == with_l2
    if with_l2:
        shifted = hessian + diagonal.diag().double()
        root = torch.ones(len(shifted)) if preconditioner is None else preconditioner.rsqrt()
        largest = float(torch.linalg.eigvalsh(root.double()[:, None] * shifted * root.double())[-1])
        assert found["lambda_1_with_decay"] == pytest.approx(largest, rel=1e-4)
    bounded = optimizer not in ("lamb", "lion", "muon") and not (optimizer == "adamw" and decay > 0)
    assert ("ratio" in found) == bounded
    if optimizer == "momentum":
        assert found["bound"] == pytest.approx(2 * 1.8 / 0.01)
        assert found["ratio"] == pytest.approx(found["lambda_1_with_decay" if with_l2 else "lambda_1"] * 0.01 / 3.6)
        assert found["paper_ratio"] == pytest.approx(found["lambda_1"] * 0.01 / 2)
    assert found["learning_rate"] == 0.01
    assert (found["examples"], found["chunks"], found["random_state"]) == (50, 1, 0)


def divisor(state: dict[str, Any], optimizer: str, steps: int) -> Tensor | None:
    """D by the rules of the optimizers, from what a checkpoint holds."""
    # Numbered by group: the matrices of the layers, then their vectors.
    states = [state["state"][number] for number in (0, 2, 1, 3) if number in state["state"]]
    if not states or not {"exp_avg_sq", "square_avg"} & states[0].keys():
        return None
    squares = torch.cat([s.get("exp_avg_sq", s.get("square_avg")).reshape(-1) for s in states]).double()
    corrected = 1 - 0.999**steps
    match optimizer:
        case "rmsprop":
            return squares.sqrt() + 1e-8
        case "rmsprop_playbook":
            return (squares + 1e-8).sqrt()
        case "adam_playbook" | "nadam_playbook":
            return (squares.sqrt() + 1e-8) / math.sqrt(corrected)
        case _:
            return (squares / corrected).sqrt() + 1e-8


def test_a_warmup_s_first_rate_is_zero_and_every_eigenvalue_is_below_its_bound(folder: TrialFolder) -> None:
    request = make_request(optimizer="sgd", warmup_steps=10, curvature=CurvatureSettings(at=(0, 5)))
    assert train_trial(request, folder) is not None
    first, later = curvature_lines(folder).values()
    assert (first["learning_rate"], first["ratio"]) == (0, 0)
    assert "bound" not in first
    assert first["critical_learning_rate"] > 0
    assert later["bound"] == pytest.approx(2 / later["learning_rate"])


def test_weights_that_are_not_finite_have_a_line_without_eigenvalues_and_end_the_trial_as_they_do_without(
    folder: TrialFolder,
) -> None:
    def rising(model: nn.Module, batch: Any) -> Tensor:
        return (model(batch[0]).square().sum(dim=1)) ** 4

    def factory() -> Workload:
        return replace(plain_workload(), loss=rising, baseline_loss=None)

    request = make_request(
        optimizer="sgd", learning_rate=10.0, eval_every=30, curvature=CurvatureSettings(every=1, max_products=5)
    )
    result = ended(train_trial(request, folder, factory))
    plain = other(folder)
    same = ended(train_trial(replace(request, curvature=None), plain, factory))
    assert (result.state, result.reason, result.message) == (same.state, same.reason, same.message)
    assert result.infeasible_step == same.infeasible_step
    assert folder.steps.read_bytes() == plain.steps.read_bytes()
    lines = curvature_lines(folder)
    assert "lambda_1" in lines[0]
    last = lines[max(lines)]
    assert not {"lambda_1", "residual", "products", "ratio", "critical_learning_rate"} & last.keys()


def test_memory_that_does_not_suffice_for_the_measurement_is_a_note_and_the_trial_goes_on(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_args: Any, **_options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(hessian_products, "gradient_with_graph", too_much)
    result = ended(train_trial(make_request(curvature=CurvatureSettings(at=(3,))), folder, stochastic_workload))
    assert result.state == "completed"
    assert "curvature was not measured at every step (step 3: " in result.message
    assert set(curvature_lines(folder)[3]) == {"seconds"}
