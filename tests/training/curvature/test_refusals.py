"""What `probe` refuses where curvature is to be measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from measured_builders import CPU, measured_workload, points, tanh_net, tokens
from narrowing import of_type
from probed_workloads import Cube, DetachedCube, SingleCube, made_with, probed, refusal
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from training_builders import (
    cross_entropy,
    frozen,
    labelled,
    make_request,
    parabola,
    plain_workload,
    stochastic_workload,
)

from tunectl.core.errors import Infeasible, WorkloadError
from tunectl.core.objective import Objective
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.refusals import refuse_unmeasurable
from tunectl.training.probe import probe
from tunectl.workloads import digits
from tunectl.workloads.workload import Workload


@pytest.mark.parametrize(
    "factory",
    [
        plain_workload,
        stochastic_workload,
        parabola,
        digits.mlp,
        digits.cnn,
        made_with(torch.tanh),
        made_with(torch.relu),
    ],
)
def test_workloads_with_torchs_own_operations_can_be_measured(factory: Callable[..., Workload]):
    probed(factory, eval_batch_size=16)


def missing_labels() -> Workload:
    """Every other example has no target: NaN, of weight 0."""

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        known = torch.arange(len(batch[1])) % 2 == 0
        targets = torch.where(known, batch[1].float(), torch.nan)
        return (model(batch[0]).sum(dim=1) - targets).square(), known.float()

    return replace(plain_workload(), loss=loss)


def test_a_loss_that_gives_nan_of_weight_0_can_be_measured():
    probed(missing_labels, eval_batch_size=16)


class Last(nn.Module):
    """The last outputs of a recurrent layer over the features, one by one."""

    def __init__(self, layer: Callable[..., nn.RNNBase]) -> None:
        super().__init__()
        self.layer = layer(1, 8, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        return self.layer(values[..., None])[0][:, -1]


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(2, 1, batch_first=True), nn.Linear(6, 8)

    def forward(self, values: Tensor) -> Tensor:
        pairs = values.reshape(-1, 3, 2)
        return self.out(self.attention(pairs, pairs, pairs)[0].flatten(1))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Last(nn.LSTM),
        lambda: Last(nn.GRU),
        Attending,
        lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8, elementwise_affine=False), nn.PReLU()),
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.GELU()),
        lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 2, 2), nn.MaxPool2d(1, 2), nn.Flatten(),
                              nn.Linear(2, 8)),
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 8)), nn.RReLU(), nn.Dropout(0.9)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)),
    ],
)  # fmt: skip
def test_layers_of_torchs_are_not_refused(layer: Callable[[], nn.Module]):
    torch.manual_seed(0)
    probed(lambda: replace(plain_workload(), model=nn.Sequential(layer(), nn.Linear(8, 3))))


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_model_module_method_or_loss_is_refused():
    def compiled(model: nn.Module) -> Callable[[], Workload]:
        return lambda: replace(plain_workload(), model=model, metrics=None)

    net = nn.Sequential(nn.Linear(6, 3))
    whole = of_type(nn.Module, torch.compile(net, backend="eager"))
    assert "the model is compiled (torch.compile)" in refusal(compiled(whole))
    last = of_type(nn.Module, torch.compile(nn.Linear(4, 3), backend="eager"))
    inner = nn.Sequential(nn.Linear(6, 4), last)
    assert "the module 1 is compiled" in refusal(compiled(inner))
    in_place = nn.Sequential(nn.Linear(6, 3))
    in_place[0].compile(backend="eager")
    assert "the module 0 is compiled" in refusal(compiled(in_place))
    loss = torch.compile(cross_entropy, backend="eager")
    assert "the loss is compiled" in refusal(lambda: replace(plain_workload(), loss=loss, metrics=None))
    probed(lambda: replace(plain_workload(), loss=torch.compiler.disable(cross_entropy)))


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_function_that_is_compiled_within_the_loss_is_refused():
    compiled = torch.compile(lambda values: torch.tanh(values) * 2, backend="aot_eager")
    assert "a part of the loss is compiled" in refusal(made_with(compiled))


def test_sparse_gradients_are_refused():
    def factory(table: nn.Module) -> Callable[[], Workload]:
        data = tokens(30)
        return lambda: replace(
            plain_workload(),
            model=nn.Sequential(table, nn.Flatten(), nn.Linear(15, 3)),
            data={"train": data, "valid": data},
            metrics=None,
        )

    message = refusal(factory(nn.Embedding(7, 3, sparse=True)), optimizer="sgd")
    assert "the module 0 has sparse gradients (Embedding with sparse=True)" in message

    frozen_table = nn.Embedding(7, 3, sparse=True).requires_grad_(False)
    probed(factory(frozen_table), optimizer="sgd")

    class Table(nn.Embedding):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return nn.functional.embedding(input, self.weight, sparse=True)

    assert "a gradient is sparse" in refusal(factory(Table(7, 3)), optimizer="sgd")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_refused(dtype: torch.dtype):
    message = refusal(made_with(torch.tanh, dtype=dtype))
    assert f"the parameter first.weight has the type {dtype}" in message
    assert "precision: bfloat16" in message


def test_losses_in_half_precision_are_refused():
    def loss(model: Any, batch: Any) -> Tensor:
        return cross_entropy(model, batch).bfloat16()

    assert "the losses have the type torch.bfloat16" in refusal(lambda: replace(plain_workload(), loss=loss))


def test_complex_weights_are_refused():
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filter = nn.Parameter(torch.ones(6, 3, dtype=torch.complex64))

        def forward(self, inputs: Tensor) -> Tensor:
            return (inputs.to(torch.complex64) @ self.filter).abs()

    message = refusal(lambda: replace(plain_workload(), model=Spectral(), metrics=None))
    assert "the parameter filter is complex (torch.complex64)" in message


def test_an_operation_of_torchs_without_a_second_derivative_is_refused_with_its_name():
    def loss(model: Any, batch: Any) -> Tensor:
        steps = model(batch[0]).reshape(-1, 1, 3).expand(-1, 4, 3).log_softmax(2).transpose(0, 1)
        size = len(batch[0])
        lengths, targets = torch.full((size,), 4), torch.ones(size, 2, dtype=torch.long)
        return nn.functional.ctc_loss(steps, targets, lengths, torch.full((size,), 2), reduction="none")

    assert "ctc_loss" in refusal(lambda: replace(plain_workload(), loss=loss, metrics=None))


def test_a_loss_that_fails_only_in_the_mode_in_which_it_is_measured_is_refused():
    class Modes(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            assert self[1].training == self.training, "modes differ"
            return super().forward(inputs)

    def factory() -> Workload:
        return replace(plain_workload(), model=Modes(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)))

    message = refusal(factory)
    assert "loss(model, batch) failed in the mode in which it is measured: AssertionError: modes differ" in message


def test_a_loss_without_a_gradient_in_the_mode_in_which_it_is_measured_is_refused():
    class OnlyInTraining(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            with torch.set_grad_enabled(self.training):
                return super().forward(inputs)

    model = OnlyInTraining(nn.Linear(6, 3))
    assert "the loss has no gradient" in refusal(lambda: replace(plain_workload(), model=model))


def test_infeasible_hyperparameters_are_no_reason():
    raised = []

    def loss(model: Any, batch: Any) -> Tensor:
        if not model.training and torch.is_grad_enabled():
            raised.append(Infeasible("too wide"))
            raise raised[-1]
        return cross_entropy(model, batch)

    probed(lambda: replace(plain_workload(), loss=loss))
    assert raised


def test_code_that_tries_to_end_the_process_is_refused():
    def loss(model: Any, batch: Any) -> Tensor:
        if not model.training and torch.is_grad_enabled():
            raise SystemExit(3)
        return cross_entropy(model, batch)

    with pytest.raises(WorkloadError, match="the curvature of the loss cannot be measured: SystemExit"):
        probed(lambda: replace(plain_workload(), loss=loss))


def test_nothing_is_checked_where_no_curvature_is_measured_and_precision_is_switched_off():
    probe(make_request(objective=Objective("valid/loss", "minimize")), made_with(DetachedCube.apply), device="cpu")
    probed(plain_workload, precision="bfloat16")


@pytest.mark.parametrize("function", [Cube.apply, DetachedCube.apply, torch.tanh, SingleCube.apply])
def test_the_check_leaves_model_and_generators_as_they_were(function: Any):
    workload = made_with(function)()
    before = frozen(workload.model.state_dict()), frozen(torch.get_rng_state()), torch.get_default_dtype()
    places = [parameter.data_ptr() for parameter in workload.model.parameters()]
    examples = MeasuredExamples(labelled(20), 20, CPU)
    try:
        refuse_unmeasurable(examples, workload, "train")
        refused = False
    except WorkloadError:
        refused = True
    assert refused == (function in (DetachedCube.apply, SingleCube.apply))
    assert (frozen(workload.model.state_dict()), frozen(torch.get_rng_state()), torch.get_default_dtype()) == before
    assert [parameter.data_ptr() for parameter in workload.model.parameters()] == places


def test_too_little_memory_is_no_reason():
    raised = []

    def loss(model: Any, batch: Any) -> Tensor:
        if len(batch[0]) > 0 and torch.is_grad_enabled():
            raised.append(torch.OutOfMemoryError("CUDA out of memory"))
            raise raised[-1]
        return cross_entropy(model, batch)

    refuse_unmeasurable(MeasuredExamples(points(), 8, CPU), measured_workload(tanh_net(), loss), "train")
    assert raised


@pytest.mark.parametrize("seed", range(8))
def test_relu_networks_of_many_units_with_a_right_function_are_not_refused(seed: int):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 3))
    inputs = torch.randn(32, 6)
    data = TensorDataset(inputs, torch.randint(0, 3, (32,)))

    def loss(model: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(Cube.apply(model(batch[0])), batch[1], reduction="none")

    refuse_unmeasurable(MeasuredExamples(data, 32, CPU), Workload(model, {"train": data}, loss), "train")
