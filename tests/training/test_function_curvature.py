"""Curvature that a user's function measures by `trial.curvature`. Tests function_curvature.py and given_batch.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from function_calls import Functions
from torch import Tensor, nn

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import WorkloadError
from tunectl.store.trial_files import read_trial
from tunectl.training.curvature.given_batch import GivenBatch
from tunectl.training.function_trial import Trial

EXACT = CurvatureSettings(tolerance=1e-6, max_products=200, measures=("lambda_1", "lambda_min"))
BATCH = (
    torch.randn(12, 5, generator=torch.Generator().manual_seed(1)),
    torch.randn(12, 2, generator=torch.Generator().manual_seed(2)),
)


@pytest.fixture
def functions(tmp_path: Path) -> Functions:
    return Functions(tmp_path)


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2)).double()


def squares(model: nn.Module, batch: Any) -> Tensor:
    losses: Tensor = (model(batch[0].double()) - batch[1].double()).square().sum(dim=1)
    return losses


def mean_of_squares(model: nn.Module, batch: Any) -> Tensor:
    return squares(model, batch).mean()


def largest_and_smallest(model: nn.Sequential) -> tuple[float, float]:
    """The ends of the dense Hessian's spectrum in evaluation mode."""
    names = [name for name, _ in model.named_parameters()]
    values = [parameter.detach() for parameter in model.parameters()]

    def loss(*parameters: Tensor) -> Tensor:
        out = torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (BATCH[0].double(),))
        return (out - BATCH[1].double()).square().sum(dim=1).mean()

    model.eval()
    rows = torch.autograd.functional.hessian(loss, tuple(values))
    model.train()
    sizes = [value.numel() for value in values]
    blocks = [torch.cat([part.reshape(size, -1) for part in row], dim=1) for size, row in zip(sizes, rows, strict=True)]
    spectrum = torch.linalg.eigvalsh(torch.cat(blocks))
    return float(spectrum[-1]), float(spectrum[0])


def weighted(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """The same mean as that of `squares`: the parts of an example, [B, 2], each twice at half weight."""
    parts = (model(batch[0].double()) - batch[1].double()).square()
    return torch.stack([parts * 2] * 2, dim=2), torch.full((len(parts), 2, 2), 0.5)


@pytest.mark.parametrize("loss", [squares, mean_of_squares, weighted])
def test_the_values_are_those_of_the_dense_hessian_and_are_recorded_at_the_last_step(
    functions: Functions, loss: Callable[..., Tensor]
) -> None:
    model, given = network(), []

    def train(trial: Trial, **_values: Any) -> None:
        trial.record(10, {"valid/loss": 0.5})
        before = torch.get_rng_state()
        given.append(trial.curvature(model, loss, BATCH))
        assert torch.equal(before, torch.get_rng_state())
        assert model[2].training
        trial.record(20, {"valid/loss": 0.25})

    assert functions.run(train, curvature=EXACT) is not None
    largest, smallest = largest_and_smallest(model)
    assert given[0]["lambda_1"] == pytest.approx(largest, rel=1e-5)
    assert given[0]["lambda_min"] == pytest.approx(smallest, rel=1e-5)
    assert given[0]["converged"] == 1
    assert given[0]["examples"] == 12, "also where the loss is the mean of the batch"
    lines = [item for item in read_trial(functions.folder).measurements if item.measurement_kind == "curvature"]
    assert [item.step for item in lines] == [10]
    assert lines[0].metrics == {f"curvature/{name}": value for name, value in given[0].items()}


def test_a_second_call_at_a_step_gives_what_the_first_one_measured(functions: Functions) -> None:
    model, given, calls = network(), [], []

    def counted(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        return squares(model, batch)

    def train(trial: Trial, **_values: Any) -> None:
        given.append(trial.curvature(model, counted, BATCH))
        first = len(calls)
        given.append(trial.curvature(model, counted, BATCH))
        assert len(calls) == first > 0
        trial.record(20, {"valid/loss": 0.25})
        given.append(trial.curvature(model, counted, BATCH))
        given.append(trial.curvature(model, counted, BATCH, step=20))

    assert functions.run(train) is not None
    assert given[0] == given[1]
    assert given[2] == given[3] != given[0]
    kinds = [(item.step, item.measurement_kind) for item in read_trial(functions.folder).measurements]
    assert sorted(kinds) == [(0, "curvature"), (20, "curvature"), (20, "evaluation")]


@pytest.mark.parametrize("records", [0, 1])
def test_weights_that_have_changed_since_the_last_record_need_a_step(functions: Functions, records: int) -> None:
    model = network()

    def train(trial: Trial, **_values: Any) -> None:
        trial.curvature(model, squares, BATCH)
        for step in range(records):
            trial.record(step, {"valid/loss": 0.5})
        with torch.no_grad():
            model.get_parameter("0.weight").mul_(2)
        assert trial.curvature(model, squares, BATCH, step=7)
        trial.curvature(model, squares, BATCH)

    with pytest.raises(WorkloadError, match=r"the weights have changed since step 0, .* or give step="):
        functions.run(train)


def test_the_study_says_at_which_steps_it_is_measured(functions: Functions) -> None:
    model = network()

    def train(trial: Trial, **_values: Any) -> None:
        for step in range(1, 21):
            trial.record(step, {"valid/loss": 1 / step})
            assert bool(trial.curvature(model, squares, BATCH)) == (step % 8 == 0)

    assert functions.run(train, curvature=CurvatureSettings(every=8)) is not None
    lines = read_trial(functions.folder).measurements
    assert [item.step for item in lines if item.measurement_kind == "curvature"] == [8, 16]
    assert len(lines) == 22


def test_after_a_stop_the_lines_up_to_the_saved_step_stay_and_are_not_measured_again(functions: Functions) -> None:
    model = network()

    def train(trial: Trial, **_values: Any) -> None:
        begin = (trial.resume() or {"step": 0})["step"]
        for step in range(begin + 5, 25, 5):
            trial.record(step, {"valid/loss": 1 / step})
            trial.curvature(model, squares, BATCH)
            if step == 10:
                trial.save(step, {"step": step})
            if step == 15 and begin == 0:
                functions.stopped = True
                return

    assert functions.run(train) is None
    functions.stopped = False
    first = {
        item.step: item for item in read_trial(functions.folder).measurements if item.measurement_kind != "evaluation"
    }
    assert list(first) == [5, 10, 15]
    assert functions.run(train) is not None
    after = [item for item in read_trial(functions.folder).measurements if item.measurement_kind != "evaluation"]
    assert [item.step for item in after] == [5, 10, 15, 20]
    assert after[:2] == [first[5], first[10]]


def test_a_model_that_cannot_be_measured_is_an_error_with_the_reason(functions: Functions) -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, inputs: Tensor) -> Tensor:
            return inputs * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * 2

    def loss(model: nn.Module, batch: Any) -> Tensor:
        doubled: Tensor = Once.apply(model(batch[0].double()))
        return doubled.square().sum(dim=1)

    model = network()

    def train(trial: Trial, **_values: Any) -> None:
        trial.curvature(model, loss, BATCH)

    with pytest.raises(WorkloadError, match="cannot be measured"):
        functions.run(train)


def test_something_that_is_no_model_is_an_error(functions: Functions) -> None:
    def train(trial: Trial, **_values: Any) -> None:
        trial.curvature(lambda inputs: inputs, squares, BATCH)  # type: ignore[arg-type]

    with pytest.raises(WorkloadError, match=r"expected a torch\.nn\.Module"):
        functions.run(train)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda model, batch: 3.0, "loss(model, batch): expected a tensor of shape [B]"),
        (
            lambda model, batch: (squares(model, batch), 1),
            "or a tuple (values, weights) of two such tensors, got a tuple of Tensor, int",
        ),
        (lambda model, batch: squares(model, (batch[0][:0], batch[1][:0])), "is the batch empty?"),
    ],
)
def test_a_loss_without_values_is_an_error_that_says_what_was_expected(
    functions: Functions, loss: Callable[..., Any], message: str
) -> None:
    def train(trial: Trial, **_values: Any) -> None:
        with pytest.raises(WorkloadError) as error:
            trial.curvature(network(), loss, BATCH)
        assert message in str(error.value)
        trial.record(1, {"valid/loss": 1.0})

    functions.run(train)


def test_a_batch_is_divided_only_where_each_tensor_in_it_has_an_entry_for_each_example() -> None:
    device = torch.device("cpu")
    inputs, labels = torch.arange(10.0).reshape(5, 2), torch.arange(5)
    batch = GivenBatch({"inputs": inputs, "labels": (labels,)}, 5, device)
    assert batch.is_divisible
    assert batch.divide(3)
    assert (batch.chunks, batch.sizes()) == (3, [1, 2, 2])
    assert torch.cat([batch.batch(chunk)["inputs"] for chunk in range(3)]).equal(inputs)
    assert torch.cat([batch.batch(chunk)["labels"][0] for chunk in range(3)]).equal(labels)
    assert not GivenBatch([inputs, torch.ones(2)], 5, device).is_divisible
    assert not GivenBatch([inputs, torch.tensor(1.0)], 1, device).is_divisible
    changed = batch.batch(0)
    changed["inputs"].zero_()
    assert not inputs[1:].eq(0).all()
    assert batch.batch(0)["inputs"].equal(inputs[:1])
