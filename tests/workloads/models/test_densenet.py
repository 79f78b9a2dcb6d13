"""Densely connected networks: counts of parameters by hand, and a layer with weights set by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from image_models import checked_depth, parameters_of, without_gradient
from torch import nn

from tunectl.workloads.models.densenet import DenseLayer, DenseNet, layers_of_depth
from tunectl.workloads.models.initial_weights import INITS
from tunectl.workloads.models.normalizations import NORMALIZATIONS

_DEFAULTS: dict[str, Any] = {
    "depth": 10,
    "growth": 4,
    "reduction": 0.5,
    "normalization": "batch",
    "ghost_batch_size": 4,
    "dropout": 0.0,
    "init": "lecun_normal",
    "init_scale": 1.0,
}


def _net(**changes) -> DenseNet:
    torch.manual_seed(0)
    return DenseNet(1, 10, **{**_DEFAULTS, **changes})


def _counted(growth: int, groups: tuple[int, ...], classes: int) -> tuple[int, int]:
    """The parameters with batch norm, and those that a network without has instead of its scales and offsets."""
    width = 2 * growth
    weights, scales, biases = 3 * width * 9, 0, width  # the first convolution
    for group, layers in enumerate(groups):
        if group > 0:  # a transition: norm, 1x1 convolution to half
            weights, scales, biases = weights + width * (width // 2), scales + 2 * width, biases + width // 2
            width //= 2
        for _ in range(layers):  # norm, 1x1 to 4 growth, norm, 3x3 to growth
            weights += width * 4 * growth + 4 * growth * growth * 9
            scales += 2 * width + 2 * 4 * growth
            biases += 4 * growth + growth
            width += growth
    scales += 2 * width
    classifier = (width + 1) * classes
    return weights + scales + classifier, weights + biases + classifier


def test_densenet_100_has_the_parameters_that_follow_from_the_paper():
    """DenseNet-BC of arXiv 1608.06993 with L = 100, k = 12 (0.8 million in its table 2), for 10 classes.

    Three groups of 16 layers. The widths are 24 + 12 i; 24 + 192 = 216, halved to 108; 108 + 192 = 300, halved to 150;
    at the end 150 + 192 = 342.
    """
    first, second, third = (16 * start + 12 * (15 * 16 // 2) for start in (24, 108, 150))
    widths = first + second + third  # the sum of the widths of the inputs of the 48 layers
    assert widths == 1_824 + 3_168 + 3_840
    stem = 3 * 24 * 9
    narrow = widths * 48  # 1x1 convolutions to 4 k = 48 channels
    grow = 48 * (48 * 12 * 9)  # 3x3 convolutions from 48 to k = 12 channels, in 48 layers
    transitions = 216 * 108 + 300 * 150
    scales = 2 * (widths + 48 * 48 + 216 + 300 + 342)
    classifier = 342 * 10 + 10
    by_hand = stem + narrow + grow + transitions + scales + classifier
    assert by_hand == 648 + 423_936 + 248_832 + 68_328 + 23_988 + 3_430 == 769_162
    assert _counted(12, (16, 16, 16), 10)[0] == by_hand
    with torch.device("meta"):
        plain = {**_DEFAULTS, "depth": 100, "growth": 12, "init": "xavier"}
        assert parameters_of(DenseNet(3, 10, **plain)) == by_hand
        without = DenseNet(3, 10, **{**plain, "normalization": "none"})
        assert parameters_of(without) == _counted(12, (16, 16, 16), 10)[1]


@pytest.mark.parametrize(
    ("depth", "groups"),
    [(121, (6, 12, 24, 16)), (161, (6, 12, 36, 24)), (169, (6, 12, 32, 32)), (201, (6, 12, 48, 32))],
)
def test_depths_of_four_groups_are_those_of_the_paper_s_table_1(depth, groups):
    assert layers_of_depth(depth) == groups
    assert 2 * sum(groups) + 5 == depth  # the first convolution, three transitions and the classifier
    with torch.device("meta"):
        net = DenseNet(3, 10, **{**_DEFAULTS, "depth": depth, "growth": 32, "init": "xavier"})
    assert parameters_of(net) == _counted(32, groups, 10)[0]


def test_a_layer_with_weights_set_by_hand_gives_what_was_worked_out_by_hand():
    # One channel of one pixel, two examples: x = (-1, 3), so that a batch norm gives (-1, 1), and ReLU (0, 1). The 1x1
    # convolution multiplies by 2, 0, 0, 1 for its four channels; the norms of (0, 2) and of (0, 1) are (-1, 1), those
    # of (0, 0) are 0. After ReLU: (0, 1) in the first and the last channel. The 3x3 one takes 3 times the first and 4
    # times the last: (0, 7).
    layer = DenseLayer(1, 1, norm=lambda channels: nn.BatchNorm2d(channels, eps=1e-12), dropout=0.0)
    with torch.no_grad():
        layer.narrow.conv.weight.copy_(torch.tensor([2.0, 0.0, 0.0, 1.0]).view(4, 1, 1, 1))
        layer.grow.conv.weight.fill_(100.0)  # the other weights meet the padding alone
        layer.grow.conv.weight[0, :, 1, 1] = torch.tensor([3.0, 5.0, 5.0, 4.0])
    y = layer(torch.tensor([-1.0, 3.0]).view(2, 1, 1, 1)).flatten(1)
    torch.testing.assert_close(y, torch.tensor([[-1.0, 0.0], [3.0, 7.0]]), atol=1e-5, rtol=0)


def test_groups_are_halved_in_width_and_size_between():
    net, shapes = _net(depth=16, growth=5, reduction=0.5), []
    for layer in net.layers:
        layer.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:3])))
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    # 10 channels, two layers to 20, halved to 10, 20, 10, 20.
    assert shapes == [(15, 8), (20, 8), (10, 8), (10, 4), (15, 4), (20, 4), (10, 4), (10, 2), (15, 2), (20, 2)]
    assert len(net.blocks) == 6


def test_dropout_acts_in_training_alone():
    net, x = _net(dropout=0.5), torch.randn(2, 1, 8, 8)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("init", INITS)
def test_every_parameter_is_trained(normalization, init):
    assert without_gradient(_net(normalization=normalization, init=init)) == set()


def test_the_depth_is_six_n_plus_four_or_one_of_the_paper_s():
    assert [layers_of_depth(depth) for depth in (10, 16, 100)] == [(1, 1, 1), (2, 2, 2), (16, 16, 16)]
    for depth in (4, 11, 120):
        with pytest.raises(ValueError) as caught:
            layers_of_depth(depth)
        assert str(caught.value) == (
            f"depth: expected 6 n + 4 (10, 16, 22, ..., 100, ...) or one of 121, 161, 169, 201, got {depth}"
        )
    checked_depth(layers_of_depth)


@pytest.mark.parametrize(
    ("keyword", "value", "right"),
    [
        ("growth", 0, "a whole number, at least 1"),
        ("reduction", 0.0, "a number above 0 and at most 1"),
        ("reduction", 1.5, "a number above 0 and at most 1"),
        ("init", "fixup", "one of lecun_normal, he_normal, xavier, orthogonal"),
        ("init_scale", -1.0, "a number above 0"),
        ("dropout", "0.1", "a number, at least 0 and below 1"),
        ("normalization", "instance", "one of none, batch, ghost, layer, group"),
    ],
)
def test_values_outside_their_range_are_refused_with_what_was_expected(keyword, value, right):
    with pytest.raises(ValueError) as caught:
        _net(**{keyword: value})
    assert str(caught.value) == f"{keyword}: expected {right}, got {value!r}"
