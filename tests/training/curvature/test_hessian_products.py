from __future__ import annotations

from typing import Any

import pytest
import torch
from measured_builders import (
    apart,
    cross_entropy,
    dense,
    hessian_by_products,
    measured_workload,
    points,
    products_of,
    relu_net,
    tanh_net,
    tokens,
)
from torch import Tensor, nn
from training_builders import Augmented, frozen

from tunectl.training.curvature import hessian_products
from tunectl.training.curvature.double_backward import hessian_product
from tunectl.training.curvature.measured_loss import MeasuredLoss, NotMeasured
from tunectl.training.recomputation import recompute
from tunectl.workloads.workload import Workload

RIGHT = 1e-6


def squared_error(model: Any, batch: Any) -> Tensor:
    return (model(batch[0]) - nn.functional.one_hot(batch[1], 3)).square().mean(dim=1)


class Attention(nn.Module):
    """A transformer's block over embedded tokens, its table shared with the output where asked."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(7, 4)
        self.block = nn.TransformerEncoderLayer(4, 2, 3, dropout=0.3, batch_first=True, activation="gelu")
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.table.weight

    def forward(self, sequences: Tensor) -> Tensor:
        return self.out(self.block(self.table(sequences)))[:, -1, :3]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.table = nn.Embedding(7, 3)
        self.lstm = nn.LSTM(3, 2, num_layers=2, batch_first=True, dropout=0.5)
        self.out = nn.Linear(2, 3)

    def forward(self, sequences: Tensor) -> Tensor:
        return self.out(self.lstm(self.table(sequences))[0][:, -1])


def checked(workload: Workload, *, mode: Any = nn.Module.eval, **how: Any) -> None:
    """Loss, gradient and every product agree with the dense ones, and the products are symmetric."""
    loss, gradient, hessian = dense(workload, mode)
    with products_of(workload, **how) as (products, _):
        found = hessian_by_products(products)
        assert products.size == len(gradient)
        assert abs(products.loss - float(loss)) <= RIGHT * abs(float(loss))
        assert apart(products.gradient, gradient) < RIGHT
        assert apart(products.gradient_product, hessian @ gradient) < RIGHT
    assert apart(found, hessian) < RIGHT
    assert apart(found, found.T) < RIGHT


@pytest.mark.parametrize("net", [tanh_net, relu_net])
@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
@pytest.mark.parametrize("chunks", [1, 5])
def test_products_agree_with_the_dense_hessian_in_chunks_of_any_size(net: Any, loss: Any, chunks: int):
    checked(measured_workload(net(width=4), loss), chunks=chunks)


def test_an_example_can_be_a_chunk():
    checked(measured_workload(tanh_net(width=2)), chunks=24)


def test_products_in_single_precision_agree_with_it_to_their_precision():
    workload = measured_workload(tanh_net())
    _, _, hessian = dense(workload)
    data = workload.data["train"].tensors  # type: ignore[attr-defined]
    single = torch.utils.data.TensorDataset(data[0].float(), data[1])
    workload.model.float()
    with products_of(Workload(workload.model, {"train": single}, cross_entropy)) as (products, _):
        found = hessian_by_products(products)
    assert found.dtype == torch.float64
    assert apart(found, hessian) < 1e-4


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1.0, 1e30, 1e200])
def test_a_product_is_linear_also_for_vectors_that_single_precision_cannot_hold(scale: float):
    workload = measured_workload(tanh_net())
    workload.model.float()
    data = workload.data["train"].tensors  # type: ignore[attr-defined]
    single = torch.utils.data.TensorDataset(data[0].float(), data[1])
    with products_of(Workload(workload.model, {"train": single}, cross_entropy)) as (products, _):
        vector = torch.randn(products.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        assert apart(products.product(vector * scale) / scale, products.product(vector)) < 1e-5
        assert not products.product(vector * 0).any()


def test_all_layers_that_torch_has_kernels_of_their_own_for_are_measured():
    checked(measured_workload(Attention(), data=tokens()), chunks=2)
    checked(measured_workload(Recurrent(), data=tokens()))
    torch.manual_seed(5)
    cnn = nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2, padding=1), nn.GroupNorm(1, 3), nn.ELU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3, 3),
    )  # fmt: skip
    checked(measured_workload(cnn))


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # which is deprecated
@pytest.mark.parametrize("updates", [0, 5])
def test_torchscript_is_measured_rightly_also_when_training_has_optimized_its_graphs(updates: int):
    _, _, hessian = dense(measured_workload(normalised_net()), batch_norm_trains)
    workload = measured_workload(torch.jit.script(normalised_net()))
    for _ in range(updates):
        workload.loss(workload.model, workload.data["train"].tensors).sum().backward()  # type: ignore[attr-defined]
    before = frozen(workload.model.state_dict())
    with products_of(workload) as (products, _):
        assert apart(hessian_by_products(products), hessian) < RIGHT
    assert frozen(workload.model.state_dict()) == before
    assert all(module.training for module in workload.model.modules())


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("normalised", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_weight_normalisation_whose_own_second_derivatives_are_wrong_in_torch_is_measured_rightly(normalised: Any):
    """A dense Hessian by torch would be wrong, too: here it is that of the same function written out."""
    torch.manual_seed(8)
    net = nn.Sequential(normalised(nn.Linear(4, 3)), nn.Tanh(), nn.Linear(3, 3))
    workload = measured_workload(net)
    # Magnitude and direction: their order among the parameters differs between the two.
    names = [name for name, _ in net.named_parameters()]
    inputs, labels = workload.data["train"].tensors  # type: ignore[attr-defined]

    def mean_loss(*parameters: Tensor) -> Tensor:
        by_name = dict(zip(names, parameters, strict=True))
        (g,) = [value for name, value in by_name.items() if name.endswith(("weight_g", "original0"))]
        (v,) = [value for name, value in by_name.items() if name.endswith(("weight_v", "original1"))]
        weight = v * g / v.square().sum(dim=1, keepdim=True).sqrt()
        hidden = torch.tanh(inputs @ weight.T + by_name["0.bias"])
        return nn.functional.cross_entropy(hidden @ by_name["2.weight"].T + by_name["2.bias"], labels)

    parameters = tuple(parameter.detach() for parameter in net.parameters())
    blocks = torch.autograd.functional.hessian(mean_loss, parameters)
    sizes = [parameter.numel() for parameter in parameters]
    rows = [
        torch.cat([block.reshape(size, other) for block, other in zip(row, sizes, strict=True)], dim=1)
        for row, size in zip(blocks, sizes, strict=True)
    ]
    with products_of(workload) as (products, _):
        assert apart(hessian_by_products(products), torch.cat(rows)) < RIGHT


def batch_norm_trains(model: nn.Module) -> None:
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.train()


def normalised_net() -> nn.Sequential:
    torch.manual_seed(6)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))


def test_batch_normalisation_in_training_mode_has_the_hessian_of_that_loss_and_dropout_is_off():
    checked(measured_workload(normalised_net()), mode=batch_norm_trains)


def test_in_evaluation_mode_batch_normalisation_uses_its_running_statistics_and_can_be_divided():
    workload = measured_workload(normalised_net())
    workload.model(workload.data["train"].tensors[0])  # type: ignore[attr-defined]
    _, _, hessian = dense(workload)
    with products_of(workload, mode="eval", chunks=4) as (products, loss):
        assert apart(hessian_by_products(products), hessian) < RIGHT
        assert not loss.is_coupled()


def test_batch_normalisation_that_the_model_keeps_in_evaluation_mode_stays_so():
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self[1].eval()
            return self

    net = Frozen(*normalised_net())
    checked(measured_workload(net), mode=nn.Module.eval)


def test_frozen_unused_linear_and_shared_parameters_are_measured():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = tanh_net()
            self.net[0].weight.requires_grad_(False)
            self.unused = nn.Parameter(torch.ones(3))
            self.linear = nn.Parameter(torch.ones(2))

        def forward(self, inputs: Tensor) -> Tensor:
            return self.net(inputs)

    def loss(model: Any, batch: Any) -> Tensor:
        return cross_entropy(model, batch) + batch[0][:, :2] @ model.linear

    checked(measured_workload(Odd(), loss))
    checked(measured_workload(Odd(), loss), chunks=3)


def test_a_loss_that_is_linear_in_all_weights_has_products_of_zero():
    workload = measured_workload(nn.Linear(4, 1), lambda model, batch: model(batch[0]).squeeze(1))
    with products_of(workload) as (products, _):
        assert products.gradient.any()
        assert not hessian_by_products(products).any()


def test_blocks_that_are_computed_again_have_the_same_products():
    net = relu_net(width=3)
    workload = measured_workload(nn.Sequential(net[:2], net[2:4], net[4]))
    _, _, hessian = dense(workload)
    recompute([workload.model[0], workload.model[1]])  # type: ignore[index]
    with products_of(workload) as (products, _):
        assert apart(hessian_by_products(products), hessian) < RIGHT


def test_a_loss_that_writes_into_its_batch_gets_a_new_one_each_time():
    def loss(model: Any, batch: Any) -> Tensor:
        batch[0].mul_(0.5)
        return cross_entropy(model, batch)

    checked(measured_workload(tanh_net(), loss), chunks=1)
    checked(measured_workload(tanh_net(), loss), chunks=3)


def test_random_numbers_that_a_loss_draws_all_the_same_are_fixed_and_this_is_known():
    def loss(model: Any, batch: Any) -> Tensor:
        return cross_entropy(model, [nn.functional.dropout(batch[0], 0.5, training=True), batch[1]])

    workload = measured_workload(tanh_net(), loss)
    with products_of(workload) as (products, measured):
        assert measured.draws_random_numbers
        found = hessian_by_products(products)
        again = [measured.mean() for _ in range(2)]
        assert again == [products.loss, products.loss]
        assert measured.is_coupled(), "chunks would draw other numbers"
    with products_of(workload) as (products, _):
        assert torch.equal(found, hessian_by_products(products))
    with products_of(measured_workload(tanh_net())) as (_, plain):
        assert not plain.draws_random_numbers


def test_examples_with_random_augmentation_are_the_same_in_every_division():
    torch.manual_seed(7)
    data = Augmented(points())
    workload = Workload(measured_workload(tanh_net()).model, {"train": data}, cross_entropy)
    with products_of(workload) as (whole, _), products_of(workload, chunks=5) as (divided, _):
        assert apart(divided.gradient_product, whole.gradient_product) < RIGHT


class OutOfMemoryAbove:
    """Raises the error of a full GPU where a batch has more than this number of examples."""

    def __init__(self, examples: int, message: str = "CUDA out of memory. Tried to allocate 2 GiB") -> None:
        self.examples, self.message = examples, message

    def __call__(self, model: Any, batch: Any) -> Tensor:
        if len(batch[0]) > self.examples:
            raise RuntimeError(self.message)
        return cross_entropy(model, batch)


def test_where_memory_runs_out_the_examples_are_divided_into_chunks():
    workload = measured_workload(tanh_net())
    _, gradient, hessian = dense(workload)
    with products_of(Workload(workload.model, workload.data, OutOfMemoryAbove(7))) as (products, loss):
        assert (loss.examples.count, loss.examples.chunks) == (24, 4)
        assert apart(products.gradient, gradient) < RIGHT
        assert apart(hessian_by_products(products), hessian) < RIGHT


def test_with_batch_normalisation_the_examples_are_halved_instead():
    workload = measured_workload(normalised_net())
    with products_of(Workload(workload.model, workload.data, OutOfMemoryAbove(7))) as (products, loss):
        assert (loss.examples.count, loss.examples.chunks) == (6, 1)
        batch = loss.examples.batch(0)
        found = hessian_by_products(products)
    _, _, hessian = dense(workload, batch_norm_trains, batch)
    assert apart(found, hessian) < RIGHT


def test_memory_that_runs_out_in_a_later_product_divides_them_then(monkeypatch):
    workload = measured_workload(tanh_net())
    _, _, hessian = dense(workload)
    fails = [True]

    def once(*args: Any, **kwargs: Any) -> Any:
        if fails:
            fails.clear()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hessian_product(*args, **kwargs)

    with products_of(workload) as (products, loss):
        monkeypatch.setattr(hessian_products, "hessian_product", once)
        assert apart(hessian_by_products(products), hessian) < RIGHT
        assert loss.examples.chunks == 2
    fails.append(True)
    with products_of(measured_workload(normalised_net())) as (products, _):
        fails.append(True)
        with pytest.raises(NotMeasured, match="the memory became too small during the measurement"):
            products.product(products.gradient)


def test_a_mean_loss_too_is_divided_where_memory_runs_out():
    workload = measured_workload(tanh_net())
    with products_of(workload) as (products, loss):
        small = Workload(workload.model, workload.data, OutOfMemoryAbove(7))
        assert MeasuredLoss(small, loss.examples, loss._model).mean() == pytest.approx(products.loss, rel=1e-12)
        assert loss.examples.chunks == 4


@pytest.mark.parametrize(("net", "expected"), [(tanh_net, "one example at a time"), (normalised_net, "for 3 examples")])
def test_where_nothing_fits_this_is_said(net: Any, expected: str):
    workload = measured_workload(net())
    workload = Workload(workload.model, workload.data, OutOfMemoryAbove(0))
    with pytest.raises(NotMeasured, match=expected), products_of(workload):
        pass


def test_any_error_of_the_loss_is_a_reason_with_its_place_and_no_error_of_the_trial():
    workload = measured_workload(tanh_net(), OutOfMemoryAbove(3, "a bug"))
    with (
        pytest.raises(NotMeasured, match=r"RuntimeError: a bug \(.*test_hessian_products.py:\d+"),
        products_of(workload),
    ):
        pass
    workload = measured_workload(tanh_net())
    with products_of(workload) as (_, loss):
        short = measured_workload(workload.model, lambda model, batch: cross_entropy(model, batch)[1:])
        with pytest.raises(NotMeasured, match="gave 23 values for a batch of 24 examples"):
            MeasuredLoss(short, loss.examples, loss._model).mean()


def test_sparse_gradients_are_not_measured():
    net = nn.Sequential(nn.Embedding(7, 3, sparse=True), nn.Flatten(), nn.Linear(15, 3))
    with pytest.raises(NotMeasured, match="sparse"), products_of(measured_workload(net, data=tokens())):
        pass


def test_values_that_are_not_finite_stay_so():
    workload = measured_workload(tanh_net(), lambda model, batch: cross_entropy(model, batch) * torch.nan)
    with products_of(workload) as (products, _):
        assert products.loss != products.loss
        assert products.gradient_product.isnan().all()


def weighted_tokens(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """Cross-entropy of three tokens an example, shape [B, 3]; weights from 0 to 2, one example has none."""
    inputs, labels = batch
    shifted = torch.stack([inputs, inputs + 1, inputs * 2], dim=1)
    values = nn.functional.cross_entropy(
        model(shifted).transpose(1, 2), labels[:, None].expand(-1, 3), reduction="none"
    )
    weights = (inputs[:, :3].abs() * 2).round() * (inputs[:, :1] > -1)
    return torch.where(weights == 0, torch.nan, values), weights


def missing_targets(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """Squared errors against three targets an example, some missing: NaN, of weight 0."""
    targets = torch.where(batch[0][:, :3] > 0.5, torch.nan, batch[0][:, 1:])
    return (model(batch[0]) - targets).square(), ~targets.isnan()


def weighted_mean(loss: Any) -> Any:
    """The loss of one value a batch, by torch's own means, for the dense Hessian."""

    def mean(model: Any, batch: Any) -> Tensor:
        values, weights = loss(model, batch)
        kept = weights.nonzero(as_tuple=True)
        return (values[kept] * weights[kept]).sum() / weights.sum()

    return mean


@pytest.mark.parametrize("chunks", [1, 5, 24])
def test_the_curvature_of_weighted_losses_is_that_of_their_mean_in_chunks_of_any_size(chunks):
    model = tanh_net(width=2)
    workload = measured_workload(model, weighted_tokens)
    value, gradient, hessian = dense(measured_workload(model, weighted_mean(weighted_tokens)))
    with products_of(workload, chunks=chunks) as (products, loss):
        assert products.loss == pytest.approx(value.item(), rel=1e-12)
        assert loss.mean() == pytest.approx(value.item(), rel=1e-12)
        assert apart(products.gradient, gradient) < RIGHT
        assert apart(hessian_by_products(products), hessian) < RIGHT
        assert not loss.is_coupled()


@pytest.mark.parametrize("chunks", [1, 3])
def test_missing_targets_have_no_part_in_the_curvature(chunks):
    model = tanh_net()

    def without(model: Any, batch: Any) -> Tensor:
        known = batch[0][:, :3] <= 0.5
        return (model(batch[0]) - batch[0][:, 1:]).square()[known].mean()

    value, gradient, hessian = dense(measured_workload(model, without))
    with products_of(measured_workload(model, missing_targets), chunks=chunks) as (products, _):
        assert products.loss == pytest.approx(value.item(), rel=1e-12)
        assert apart(products.gradient, gradient) < RIGHT
        assert apart(hessian_by_products(products), hessian) < RIGHT


def test_weights_relative_to_their_batch_make_a_loss_that_chunks_would_change():
    def relative(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        losses = cross_entropy(model, batch)
        return losses, batch[0][:, 0].abs() / batch[0][:, 0].abs().sum()

    with products_of(measured_workload(tanh_net(), relative)) as (_, loss):
        assert loss.is_coupled()


def test_measured_examples_without_any_weight_are_not_measured():
    workload = measured_workload(
        tanh_net(), lambda model, batch: (cross_entropy(model, batch), torch.zeros(len(batch[0])))
    )
    with pytest.raises(NotMeasured, match="are 0 for all measured examples"), products_of(workload):
        pass
