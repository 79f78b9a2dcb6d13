"""Residual networks: counts of parameters by hand, and blocks with weights set by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from image_models import checked_depth, pairs, parameters_of, without_gradient
from torch import nn

from tunectl.workloads.models.initial_weights import RESIDUAL_INITS
from tunectl.workloads.models.normalizations import NORMALIZATIONS, image_normalization
from tunectl.workloads.models.resnet import BLOCKS, ResidualBlock, ResidualStyle, ResNet, blocks_of_depth

_DEFAULTS: dict[str, Any] = {
    "depth": 10,
    "width": 4,
    "block": "post",
    "stem": "cifar",
    "normalization": "batch",
    "ghost_batch_size": 4,
    "dropout": 0.0,
    "init": "lecun_normal",
    "init_scale": 1.0,
    "stride_of_first_block": 2,
}


def _net(**changes) -> ResNet:
    torch.manual_seed(0)
    return ResNet(1, 10, **{**_DEFAULTS, **changes})


def test_resnet_50_has_the_parameters_that_follow_from_the_paper():
    """Table 1 of arXiv 1512.03385: groups of 3, 4, 6, 3 bottlenecks of width 64 to 512, for 1000 classes."""
    stem = 3 * 64 * 49
    convolutions, projections, pre, post = 0, 0, 0, 0
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for _ in range(blocks):
            convolutions += inputs * width + width * width * 9 + width * 4 * width
            post += 2 * (width + width + 4 * width)  # a scale and an offset for what each convolution gives
            pre += 2 * (inputs + width + width)  # or for what it takes
            if inputs != 4 * width:
                projections += inputs * 4 * width + 2 * 4 * width
            inputs = 4 * width
    classifier = 2048 * 1000 + 1000
    by_hand = stem + 2 * 64 + convolutions + projections + post + classifier
    assert by_hand == 9_408 + 128 + 20_673_536 + 2_782_720 + 42_240 + 2_049_000 == 25_557_032
    with torch.device("meta"):
        full = {**_DEFAULTS, "depth": 50, "width": 64, "stem": "imagenet", "init": "xavier"}
        assert parameters_of(ResNet(3, 1000, **full)) == by_hand
        for block in ("pre", "pre_relu_bn"):
            assert parameters_of(ResNet(3, 1000, **{**full, "block": block})) == by_hand - post + pre
        without = ResNet(3, 1000, **{**full, "normalization": "none"})
        scales_of_projections = 2 * 4 * (64 + 128 + 256 + 512)
        assert parameters_of(without) == by_hand - 128 - post - scales_of_projections + 16  # a scalar a block


def test_resnet_18_has_the_parameters_that_follow_from_the_paper():
    stem, classifier = 3 * 64 * 49 + 128, 512 * 1000 + 1000
    groups = 0
    for inputs, width in ((64, 64), (64, 128), (128, 256), (256, 512)):
        groups += inputs * width * 9 + 3 * width * width * 9 + 4 * 2 * width
        groups += inputs * width + 2 * width if inputs != width else 0
    assert stem + groups + classifier == 11_689_512
    with torch.device("meta"):
        net = ResNet(3, 1000, **{**_DEFAULTS, "depth": 18, "width": 64, "stem": "imagenet", "init": "xavier"})
    assert parameters_of(net) == 11_689_512


# One channel of one pixel, two examples: x = (-1, 3). A batch norm of two numbers gives (-1, 1), in their order, before
# its scale and offset: 1, 1 for the first, -1, 1/2 for the second. The convolutions multiply by 2 and 3.
_BY_HAND = {
    # conv1 (-2, 6), N (0, 2), ReLU, conv2 (0, 6), N (1.5, -0.5); the sum (0.5, 2.5), ReLU
    "post": [0.5, 2.5],
    # N (0, 2), ReLU, conv1 (0, 4), N (1.5, -0.5), ReLU (1.5, 0), conv2 (4.5, 0)
    "pre": [-1 + 4.5, 3.0],
    # ReLU (0, 3), N (0, 2), conv1 (0, 4), ReLU, N (1.5, -0.5), conv2 (4.5, -1.5)
    "pre_relu_bn": [-1 + 4.5, 3 - 1.5],
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_with_weights_set_by_hand_gives_what_was_worked_out_by_hand(block):
    made = ResidualBlock(1, 1, 1, ResidualStyle(block, image_normalization("batch", 64), "xavier"), bottleneck=False)
    norms = [layer for layer in made.branch if isinstance(layer, nn.BatchNorm2d)]
    convolutions = [layer for layer in made.branch if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for norm, scale, offset in zip(norms, (1.0, -1.0), (1.0, 0.5), strict=True):
            norm.eps = 1e-12
            norm.weight.fill_(scale)
            norm.bias.fill_(offset)
        for conv, centre in zip(convolutions, (2.0, 3.0), strict=True):
            conv.weight.fill_(100.0)  # the other weights meet the padding alone
            conv.weight[0, 0, 1, 1] = centre
    y = made(torch.tensor([-1.0, 3.0]).view(2, 1, 1, 1))
    assert y.flatten().tolist() == pytest.approx(_BY_HAND[block], abs=1e-5)


def test_a_projection_takes_the_raw_input_and_is_normalised():
    style = ResidualStyle("pre", image_normalization("batch", 64), "xavier")
    made = ResidualBlock(1, 2, 1, style, bottleneck=False)
    with torch.no_grad():
        made.convolutions[-1].weight.zero_()
    x = torch.tensor([-1.0, 3.0]).view(2, 1, 1, 1)
    projection = made.projection.get_submodule("1")
    assert isinstance(projection, nn.Conv2d)
    weight = projection.weight.flatten()
    expected = torch.stack([-weight.sign(), weight.sign()])
    torch.testing.assert_close(made(x).flatten(1), expected, atol=1e-3, rtol=0)


def test_a_post_activation_block_begins_as_relu_of_its_trunk():
    for init in ("lecun_normal", "he_normal", "xavier", "orthogonal", "fixup", "rezero"):
        for normalization in NORMALIZATIONS:
            block = _net(init=init, normalization=normalization).blocks[0]
            assert isinstance(block, ResidualBlock)
            x = torch.randn(5, 4, 3, 3)
            begins = normalization != "none" or init in ("fixup", "rezero")
            assert torch.equal(block(x), torch.relu(x)) == begins


@pytest.mark.parametrize("init", ["fixup", "rezero"])
@pytest.mark.parametrize("block", ["pre", "pre_relu_bn"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_under_fixup_and_rezero_a_pre_activation_block_begins_as_the_identity(init, block, normalization):
    for depth in (10, 14):
        net = _net(init=init, block=block, normalization=normalization, depth=depth)
        for made in net.blocks:
            assert isinstance(made, ResidualBlock)
            x = torch.randn(3, made.convolutions[0].in_channels, 4, 4)
            assert torch.equal(made(x), made.projection(x))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("stem", "stride", "sides"),
    [("imagenet", 2, [8, 4, 2, 1]), ("cifar", 2, [32, 16, 8, 4]), ("cifar", 1, [32, 32, 16, 8])],
)
def test_the_image_is_halved_by_the_stem_and_by_the_first_block_of_three_groups(block, stem, stride, sides):
    net, found = _net(block=block, stem=stem, stride_of_first_block=stride), []
    for made in net.blocks:
        made.register_forward_hook(lambda _module, _inputs, output: found.append(output.shape[-1]))
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    assert found == sides


def test_there_is_no_relu_after_the_stem():
    for stem in ("imagenet", "cifar"):
        assert not [layer for layer in _net(stem=stem).stem if isinstance(layer, nn.ReLU)]
    assert (_net().stem(torch.randn(4, 1, 8, 8)) < 0).any()


def test_dropout_is_before_the_classifier_and_in_training_alone():
    net, x = _net(dropout=0.5), torch.randn(4, 1, 8, 8)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize(("normalization", "init", "block"), pairs(NORMALIZATIONS, RESIDUAL_INITS, BLOCKS))
def test_every_parameter_is_trained(normalization, init, block):
    net = _net(normalization=normalization, init=init, block=block)
    assert without_gradient(net, side=8) == set()


@pytest.mark.parametrize("block", BLOCKS)
def test_every_parameter_of_a_bottleneck_is_trained(block):
    for init in ("lecun_normal", "fixup", "rezero"):
        assert without_gradient(_net(init=init, block=block, depth=14), side=8) == set()


def test_depths_are_those_of_the_papers_and_three_small_ones():
    for depth in (10, 14, 18, 26, 34, 50, 101, 152, 200):
        layers = 2 if depth in (10, 18, 34) else 3
        assert layers * sum(blocks_of_depth(depth)) + 2 == depth
    for depth in (9, 16, 51):
        with pytest.raises(ValueError) as caught:
            blocks_of_depth(depth)
        assert str(caught.value) == f"depth: expected one of 10, 14, 18, 26, 34, 50, 101, 152, 200, got {depth}"
    checked_depth(blocks_of_depth)


@pytest.mark.parametrize(
    ("keyword", "value", "right"),
    [
        ("width", 0, "a whole number, at least 1"),
        ("block", "bottleneck", "one of post, pre, pre_relu_bn"),
        ("stem", "small", "one of imagenet, cifar"),
        ("init", "kaiming", "one of lecun_normal, he_normal, xavier, orthogonal, fixup, rezero"),
        ("stride_of_first_block", 0, "a whole number, at least 1"),
        ("dropout", -0.1, "a number, at least 0 and below 1"),
    ],
)
def test_values_outside_their_range_are_refused_with_what_was_expected(keyword, value, right):
    with pytest.raises(ValueError) as caught:
        _net(**{keyword: value})
    assert str(caught.value) == f"{keyword}: expected {right}, got {value!r}"
