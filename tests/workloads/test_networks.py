"""The networks of the built-in workloads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from each_case import each_case
from torch import nn

from tunectl.workloads.networks import ACTIVATIONS, NORMALIZATIONS, convolutional_network, multilayer_perceptron

_DEFAULTS: dict[str, Any] = {
    "num_layers": 2,
    "width": 8,
    "activation": "relu",
    "dropout": 0.0,
    "normalization": "none",
    "init": "he_normal",
    "init_scale": 1.0,
    "init_scale_scope": "hidden",
}


def _mlp(**changes) -> nn.Sequential:
    return multilayer_perceptron(64, 10, **{**_DEFAULTS, **changes})


def _cnn(**changes) -> nn.Sequential:
    return convolutional_network(8, 10, **{**_DEFAULTS, **changes})


def _count(network: nn.Module, kind: type) -> int:
    return sum(isinstance(layer, kind) for layer in network.modules())


@pytest.mark.parametrize("num_layers", [0, 1, 2, 6])
def test_num_layers_counts_hidden_layers(num_layers):
    network = _mlp(num_layers=num_layers)
    assert _count(network, nn.Linear) == num_layers + 1
    assert _count(network, nn.ReLU) == num_layers
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


@pytest.mark.parametrize(("num_layers", "features"), [(1, 16), (2, 4), (3, 4), (4, 4), (7, 4)])
def test_num_layers_counts_convolutions_and_the_image_is_pooled_in_the_middle_and_at_the_end(num_layers, features):
    network = _cnn(num_layers=num_layers, width=5)
    assert _count(network, nn.Conv2d) == num_layers
    assert network[-1].in_features == 5 * features
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


@pytest.mark.parametrize(
    ("num_layers", "expected"), [(1, "CP"), (2, "CPCP"), (3, "CCPCP"), (4, "CCPCCP"), (5, "CCCPCCP")]
)
def test_an_image_is_pooled_after_the_middle_convolution_and_after_the_last(num_layers, expected):
    letters = {nn.Conv2d: "C", nn.MaxPool2d: "P"}
    assert "".join(letters.get(type(layer), "") for layer in _cnn(num_layers=num_layers).modules()) == expected


@pytest.mark.parametrize("make", [_mlp, _cnn])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_choice_gives_finite_scores_and_gradients(make, activation, normalization):
    torch.manual_seed(0)
    network = make(activation=activation, normalization=normalization, dropout=0.5)
    scores = network(torch.randn(4, 1, 8, 8))
    scores.square().sum().backward()
    assert scores.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("make", [_mlp, _cnn])
def test_weights_are_those_of_he_times_the_scale_but_for_the_output_s_and_biases_are_zero(make):
    torch.manual_seed(0)
    network = make(width=256, init_scale=3.0, normalization="batch")
    for layer in network.modules():
        scale = 1.0 if layer is network[-1] else 3.0
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            reference = torch.empty_like(layer.weight)
            nn.init.kaiming_normal_(reference, mode="fan_in", nonlinearity="relu")
            weight = layer.weight.detach()
            assert (weight.std() / reference.std()).item() == pytest.approx(scale, rel=0.1)
            assert abs(weight.mean()) < 0.05 * weight.std()
            assert layer.bias is not None
            assert torch.all(layer.bias == 0)


def _drawn(make, **changes) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: value.detach() for name, value in make(width=256, **changes).named_parameters()}


@pytest.mark.parametrize("make", [_mlp, _cnn])
@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_a_scale_of_all_multiplies_every_variable_the_network_would_have_begun_with(make, normalization):
    plain = _drawn(make, normalization=normalization)
    scaled = _drawn(make, normalization=normalization, init_scale=0.25, init_scale_scope="all")
    assert plain.keys() == scaled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(scaled[name], 0.25 * value)


@pytest.mark.parametrize("make", [_mlp, _cnn])
def test_a_scale_of_hidden_layers_leaves_the_output_and_the_normalizations_alone(make):
    plain = _drawn(make, normalization="batch")
    scaled = _drawn(make, normalization="batch", init_scale=0.25)
    changed = {name for name, value in plain.items() if not torch.equal(scaled[name], value)}
    hidden = [name for name, value in plain.items() if value.ndim > 1][:-1]
    assert changed == set(hidden)


@pytest.mark.parametrize("make", [_mlp, _cnn])
def test_weights_of_lecun_have_half_the_variance_of_he_s(make):
    he, lecun = _drawn(make), _drawn(make, init="lecun_normal")
    for name, value in he.items():
        torch.testing.assert_close(lecun[name], value / math.sqrt(2))
    for name in (name for name, value in lecun.items() if value.ndim > 1):
        assert (lecun[name].std() * math.sqrt(lecun[name][0].numel())).item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("make", [_mlp, _cnn])
def test_weights_of_xavier_are_uniform_and_those_of_orthogonal_have_orthonormal_rows_times_the_scale(make):
    for name, value in _drawn(make, init="xavier", init_scale=3.0, init_scale_scope="all").items():
        if value.ndim > 1:
            fan_in, fan_out = value[0].numel(), value[:, 0].numel()
            assert value.abs().max().item() == pytest.approx(3 * math.sqrt(6 / (fan_in + fan_out)), rel=0.02), name
    for value in _drawn(make, init="orthogonal", init_scale=3.0, init_scale_scope="all").values():
        if value.ndim > 1:
            matrix = value.flatten(1) if len(value) <= value[0].numel() else value.flatten(1).T
            torch.testing.assert_close(matrix @ matrix.T, 9 * torch.eye(len(matrix)), rtol=0, atol=1e-4)


def test_he_weights_keep_the_signal_through_a_deep_network():
    torch.manual_seed(0)
    network = multilayer_perceptron(256, 256, **{**_DEFAULTS, "num_layers": 20, "width": 256})
    assert 0.2 < network(torch.randn(64, 256)).std() / math.sqrt(2) < 5


@pytest.mark.parametrize("make", [_mlp, _cnn])
def test_the_weights_follow_the_seed(make):
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(make()[-1].weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("make", [_mlp, _cnn])
def test_dropout_acts_in_training_alone(make):
    torch.manual_seed(0)
    network, x = make(dropout=0.5, width=64), torch.randn(2, 1, 8, 8)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
    assert _count(make(), nn.Dropout) == 0


@each_case("make", [_mlp, _cnn])
@each_case(
    ("keyword", "value", "right"),
    [
        ("activation", "rellu", "relu, leaky_relu, gelu, silu, tanh"),
        ("normalization", "instance", "none, batch, layer"),
        ("normalization", None, "none, batch, layer"),
        ("width", 0, "at least 1"),
        ("width", 8.0, "a whole number"),
        ("num_layers", -1, "at least"),
        ("num_layers", True, "a whole number"),
        ("dropout", 1.0, "below 1"),
        ("dropout", -0.1, "at least 0"),
        ("dropout", "0.1", "a number"),
        ("dropout", math.nan, "a number"),
        ("init_scale", 0.0, "above 0"),
        ("init_scale", math.inf, "above 0"),
        ("init_scale", math.nan, "above 0"),
        ("init", "glorot", "lecun_normal, he_normal, xavier, orthogonal"),
        ("init_scale_scope", True, "hidden, all"),
    ],
)
def test_values_outside_their_range_are_refused_with_what_was_expected(make, keyword, value, right):
    with pytest.raises(ValueError) as caught:
        make(**{keyword: value})
    message = str(caught.value)
    assert message.startswith(f"{keyword}: expected ")
    assert message.endswith(f", got {value!r}")
    assert right in message


def test_a_network_of_no_convolution_is_refused():
    with pytest.raises(ValueError, match="num_layers: expected a whole number, at least 1, got 0"):
        _cnn(num_layers=0)
