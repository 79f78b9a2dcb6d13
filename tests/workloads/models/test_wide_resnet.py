"""Wide residual networks: counts of parameters by hand, and blocks with weights set by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from image_models import checked_depth, pairs, parameters_of, trained_losses, without_gradient
from torch import nn

from tunectl.workloads.models.initial_weights import RESIDUAL_INITS
from tunectl.workloads.models.normalizations import NORMALIZATIONS, image_normalization
from tunectl.workloads.models.residual_branches import NORM_PLACEMENTS
from tunectl.workloads.models.wide_resnet import WideBlock, WideResNet, WideStyle, blocks_of_depth

_DEFAULTS: dict[str, Any] = {
    "depth": 10,
    "widen": 1,
    "normalization": "batch",
    "norm_placement": "pre",
    "ghost_batch_size": 4,
    "dropout": 0.0,
    "init": "lecun_normal",
    "init_scale": 1.0,
    "stride_of_first_block": 2,
}


def _net(**changes) -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(1, 10, **{**_DEFAULTS, **changes})


def test_wrn_28_10_has_the_parameters_that_follow_from_the_paper():
    """Table 1 of arXiv 1605.07146 with N = 4 blocks a group, k = 10, for images of 3 channels and 10 classes."""
    stem = 3 * 16 * 9
    convolutions = 0
    for inputs, width in ((16, 160), (160, 320), (320, 640)):
        convolutions += inputs * width * 9 + width * width * 9  # the first block, whose input is narrower
        convolutions += inputs * width  # its projection
        convolutions += 3 * (2 * width * width * 9)  # three more blocks of two 3x3 convolutions
    # A scale and an offset for each channel: before both convolutions of each block, and at the end.
    scales = 2 * ((16 + 160) + 3 * (2 * 160) + (160 + 320) + 3 * (2 * 320) + (320 + 640) + 3 * (2 * 640) + 640)
    classifier = 640 * 10 + 10
    by_hand = stem + convolutions + scales + classifier
    assert by_hand == 432 + 36_454_400 + 17_952 + 6_410 == 36_479_194
    with torch.device("meta"):
        plain = {**_DEFAULTS, "depth": 28, "widen": 10, "init": "xavier"}  # torch draws this one fastest
        assert parameters_of(WideResNet(3, 10, **plain)) == by_hand
        for name in ("ghost", "layer", "group"):
            assert parameters_of(WideResNet(3, 10, **{**plain, "normalization": name})) == by_hand
        # Without: a scalar a block. Around a branch: on its end, of the block's width, in place of its start.
        assert parameters_of(WideResNet(3, 10, **{**plain, "normalization": "none"})) == by_hand - scales + 12
        end = {**plain, "norm_placement": "branch_end"}
        assert parameters_of(WideResNet(3, 10, **end)) == by_hand + 2 * (160 - 16 + 320 - 160 + 640 - 320)


# One channel of one pixel, two examples: x = (-1, 3). A batch norm of two numbers gives (-1, 1), in their order, before
# its scale and offset. conv1 multiplies by 2, conv2 by 3. Scale and offset: enter -1, 0; within 1, 1; leave 5, 1/2;
# after 2, -1. The scalar is 1/2.
_BY_HAND = {
    # N(x) = (1, -1), ReLU (1, 0), conv1 (2, 0), N (2, 0), conv2 (6, 0)
    "pre": [-1 + 6, 3 + 0],
    # ReLU (0, 3), conv1 (0, 6), N (0, 2), conv2 (0, 6), N (-4.5, 5.5)
    "branch_end": [-1 - 4.5, 3 + 5.5],
    # f = (0, 6) as above, the sum (-1, 9), N (-3, 1)
    "post": [-3, 1],
    # f = (6, 0) as in pre, N (5.5, -4.5)
    "sandwich": [-1 + 5.5, 3 - 4.5],
    # f = (0, 6), times the scalar (0, 3)
    "none": [-1, 3 + 3],
}


def _block_by_hand(placement: str, normalization: str = "batch") -> WideBlock:
    block = WideBlock(1, 1, 1, WideStyle(image_normalization(normalization, 64), placement, 0.0, "lecun_normal"))
    with torch.no_grad():
        for conv, centre in ((block.conv1, 2.0), (block.conv2, 3.0)):
            conv.weight.fill_(100.0)  # the other weights meet the padding alone
            conv.weight[0, 0, 1, 1] = centre
        residual = block.residual
        for layer, scale, offset in (
            (residual.enter, -1.0, 0.0),
            (block.norm, 1.0, 1.0),
            (residual.leave, 5.0, 0.5),
            (residual.after, 2.0, -1.0),
        ):
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = 1e-12
                layer.weight.fill_(scale)
                layer.bias.fill_(offset)
        for parameter in residual.scalar.parameters():
            parameter.fill_(0.5)
    return block


@pytest.mark.parametrize("placement", NORM_PLACEMENTS)
def test_a_block_with_weights_set_by_hand_gives_what_was_worked_out_by_hand(placement):
    x = torch.tensor([-1.0, 3.0]).view(2, 1, 1, 1)
    assert _block_by_hand(placement)(x).flatten().tolist() == pytest.approx(_BY_HAND[placement], abs=1e-5)


@pytest.mark.parametrize("placement", NORM_PLACEMENTS)
def test_without_normalization_all_placements_are_the_sum_with_a_scalar(placement):
    x = torch.tensor([-1.0, 3.0]).view(2, 1, 1, 1)
    # ReLU (0, 3), conv1 (0, 6), conv2 (0, 18), times 1/2
    assert _block_by_hand(placement, "none")(x).flatten().tolist() == [-1, 3 + 9]


@pytest.mark.parametrize("placement", NORM_PLACEMENTS)
def test_a_projection_takes_the_activated_input(placement):
    block = WideBlock(1, 2, 1, WideStyle(image_normalization("batch", 64), placement, 0.0, "lecun_normal"))
    x = torch.tensor([-1.0, 3.0]).view(2, 1, 1, 1)
    with torch.no_grad():
        block.conv2.weight.zero_()
        assert block.projection is not None
        block.projection.weight.copy_(torch.tensor([7.0, -2.0]).view(2, 1, 1, 1))
    active = 1.0 if placement in ("pre", "sandwich") else 3.0  # N(x) = (-1, 1)
    expected = torch.tensor([[0.0, 0.0], [7 * active, -2 * active]])
    if placement == "post":
        expected = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
    torch.testing.assert_close(block(x).flatten(1), expected, atol=1e-4, rtol=0)


def test_the_image_is_halved_in_two_blocks_and_figure_4_s_change_leaves_one_of_them():
    for stride, sides in ((2, [32, 32, 16, 16, 8, 8]), (1, [32, 32, 32, 32, 16, 16])):
        net = _net(depth=16, stride_of_first_block=stride)
        found: list[int] = []
        for block in net.blocks:
            block.register_forward_hook(lambda _module, _inputs, output, found=found: found.append(output.shape[-1]))
        assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
        assert found == sides


@pytest.mark.parametrize("placement", NORM_PLACEMENTS)
def test_there_is_a_last_normalization_where_the_trunk_has_none(placement):
    open_trunk = placement in ("pre", "branch_end", "sandwich")
    assert isinstance(_net(norm_placement=placement).norm, nn.BatchNorm2d) == open_trunk
    assert isinstance(_net(norm_placement=placement, normalization="none").norm, nn.Identity)


def test_dropout_is_between_the_convolutions_and_in_training_alone():
    net, x = _net(dropout=0.5), torch.randn(4, 1, 8, 8)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    block = net.blocks[1]
    assert isinstance(block, WideBlock)
    seen: list[torch.Tensor] = []
    block.conv2.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    block.train()
    block(torch.rand(64, 16, 8, 8) + 1)
    assert 0.6 < (seen[0] == 0).float().mean() < 0.9  # half of the half that ReLU leaves


@pytest.mark.parametrize("init", ["fixup", "rezero"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("placement", NORM_PLACEMENTS)
def test_under_fixup_and_rezero_the_trunk_is_the_identity_at_the_start(init, normalization, placement):
    net = _net(depth=16, init=init, normalization=normalization, norm_placement=placement)
    for block in net.blocks:
        assert isinstance(block, WideBlock)
        x = torch.randn(5, block.conv1.in_channels, 4, 4)
        trunk = x
        if block.projection is not None:
            trunk = block.projection(torch.relu(block.residual.enter(x)))
        assert torch.equal(block(x), block.residual.after(trunk))


# At a depth of 52 without a normalization, weights of he_normal, which Fixup makes smaller, double the variance in each
# of 24 blocks. On the digits at 8x8, at a batch of 64 and a momentum of 0.9, the loss begins at 134; at a
# learning rate of 0.01 to 0.1 it is not a number after 3 updates, and at 1e-5 to 1e-3 that of a constant after 60.
@pytest.mark.parametrize("init", ["fixup", "rezero"])
def test_without_a_normalization_a_deep_network_trains_under_fixup_and_rezero_alone(init):
    deep = {"depth": 52, "normalization": "none"}
    small: Any = {"learning_rate": 0.1, "batch_size": 32, "side": 4}
    plain = trained_losses(_net(**deep, init="he_normal"), updates=4, **small)
    assert plain[0] > 10
    assert not plain[-1] < 10  # grown, or not a number
    losses = trained_losses(_net(**deep, init=init), updates=25, **small)
    assert losses[0] == pytest.approx(math.log(10), abs=0.1)
    assert sum(losses[-4:]) / 4 < 0.85 * math.log(10)


@pytest.mark.parametrize(("normalization", "init", "placement"), pairs(NORMALIZATIONS, RESIDUAL_INITS, NORM_PLACEMENTS))
def test_every_parameter_is_trained(normalization, init, placement):
    net = _net(normalization=normalization, init=init, norm_placement=placement)
    assert without_gradient(net) == set()


def test_the_depth_is_six_n_plus_four():
    assert [blocks_of_depth(depth) for depth in (10, 16, 28, 40, 52)] == [1, 2, 4, 6, 8]
    for depth in (4, 11, 12, 50):
        with pytest.raises(ValueError) as caught:
            blocks_of_depth(depth)
        assert str(caught.value) == f"depth: expected 6 n + 4 (10, 16, 22, 28, ...), got {depth}"
    checked_depth(blocks_of_depth)


@pytest.mark.parametrize(
    ("keyword", "value", "right"),
    [
        ("widen", 0, "a whole number, at least 1"),
        ("norm_placement", "middle", "one of pre, branch_end, post, sandwich, none"),
        ("normalization", "instance", "one of none, batch, ghost, layer, group"),
        ("ghost_batch_size", 1, "a whole number, at least 2"),
        ("dropout", 1.0, "a number, at least 0 and below 1"),
        ("init", "kaiming", "one of lecun_normal, he_normal, xavier, orthogonal, fixup, rezero"),
        ("init_scale", 0, "a number above 0"),
        ("stride_of_first_block", 3, "1 or 2"),
        ("stride_of_first_block", True, "a whole number, at least 1"),
    ],
)
def test_values_outside_their_range_are_refused_with_what_was_expected(keyword, value, right):
    with pytest.raises(ValueError) as caught:
        _net(**{keyword: value})
    assert str(caught.value) == f"{keyword}: expected {right}, got {value!r}"
