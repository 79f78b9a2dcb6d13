"""The normalizations of image models: ghost batch norm beside torch's on each virtual batch."""

from __future__ import annotations

import copy

import pytest
import torch
from narrowing import present
from torch import Tensor, nn

from tunectl.workloads.models.normalizations import (
    NORMALIZATIONS,
    GhostBatchNorm,
    image_normalization,
    virtual_batches,
)


def _pair(channels: int, size: int, **changes) -> tuple[GhostBatchNorm, nn.BatchNorm2d]:
    """A ghost and a plain batch norm with the same random factors, in double precision."""
    torch.manual_seed(0)
    ghost = GhostBatchNorm(channels, ghost_batch_size=size, **changes).double()
    plain = nn.BatchNorm2d(channels, **changes).double()
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = torch.rand(channels, dtype=torch.float64) + 0.5
        getattr(ghost, name).data.copy_(value)
        getattr(plain, name).data.copy_(value)
    return ghost, plain


def _parts(x: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    assert sum(sizes) == len(x)
    return x.split(sizes)


# What the batch is divided into: as near to the size as whole virtual batches can be, the larger ones first.
_DIVISIONS = [
    (12, 4, [4, 4, 4]),
    (4, 4, [4]),
    (3, 4, [3]),
    (1, 4, [1]),
    (5, 4, [5]),
    (6, 4, [3, 3]),
    (7, 4, [4, 3]),
    (9, 4, [5, 4]),
    (11, 4, [4, 4, 3]),
    (3, 2, [3]),
    (5, 2, [3, 2]),
    (7, 2, [3, 2, 2]),
    (10, 64, [10]),
]


@pytest.mark.parametrize(("examples", "size", "sizes"), _DIVISIONS)
def test_each_virtual_batch_is_normalised_as_torch_would_normalise_it_alone(examples, size, sizes):
    ghost, plain = _pair(3, size)
    x = torch.randn(examples, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    ours = ghost(x)
    expected = torch.cat([plain(part) for part in _parts(twin, sizes)])
    torch.testing.assert_close(ours, expected)
    # The gradients of inputs, factors and offsets.
    direction = torch.randn_like(ours)
    ours.backward(direction)
    expected.backward(direction)
    for one, other in [(x, twin), (ghost.weight, plain.weight), (ghost.bias, plain.bias)]:
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(("examples", "size", "sizes"), _DIVISIONS)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_take_one_step_towards_the_weighted_mean_of_the_virtual_batches(
    examples, size, sizes, momentum
):
    ghost, _ = _pair(3, size, momentum=momentum)
    means, variances = present(ghost.running_mean).clone(), present(ghost.running_var).clone()
    for update in (1, 2):
        x = torch.randn(examples, 3, 4, 2, dtype=torch.float64)
        ghost(x)
        share = momentum or 1 / update
        parts = [(len(part) / examples, part.transpose(0, 1).flatten(1)) for part in _parts(x, sizes)]
        means += share * (torch.stack([weight * part.mean(1) for weight, part in parts]).sum(0) - means)
        variances += share * (torch.stack([weight * part.var(1) for weight, part in parts]).sum(0) - variances)
        torch.testing.assert_close(ghost.running_mean, means)
        torch.testing.assert_close(ghost.running_var, variances)
    assert present(ghost.num_batches_tracked).item() == 2


def test_in_evaluation_it_is_plain_batch_normalization_with_the_running_statistics():
    ghost, plain = _pair(3, 2)
    x = torch.randn(7, 3, 4, 2, dtype=torch.float64)
    assert torch.equal(ghost.eval()(x), plain.eval()(x))
    before = copy.deepcopy(ghost.state_dict())
    ghost(x)
    assert all(torch.equal(value, before[name]) for name, value in ghost.state_dict().items())


@pytest.mark.parametrize("size", [2, 3, 7, 64])
def test_no_virtual_batch_has_one_example_and_all_are_near_the_size(size):
    for examples in range(1, 300):
        batches = virtual_batches(examples, size)
        smallest, largest = examples // batches, -(-examples // batches)
        assert smallest >= 2 or batches == 1
        assert smallest >= 2 * size // 3 or batches == 1
        assert largest <= max(1.5 * size, 3)
        if examples % size == 0:
            assert smallest == largest == size


def test_statistics_of_other_virtual_batches_do_not_matter():
    ghost, _ = _pair(2, 4)
    x = torch.randn(8, 2, 3, 3, dtype=torch.float64)
    other = x.clone()
    other[4:] *= 100
    torch.testing.assert_close(ghost(x)[:4], ghost(other)[:4])


def test_it_takes_vectors_and_sequences_as_well_as_images():
    ghost, _ = _pair(3, 2)
    for shape in [(6, 3), (6, 3, 5), (6, 3, 2, 2, 2)]:
        x = torch.randn(shape, dtype=torch.float64)
        flat = torch.cat([part.transpose(0, 1).flatten(1) for part in x.split(2)], dim=0)
        expected = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, correction=0, keepdim=True) + ghost.eps).sqrt()
        ours = (ghost(x) - ghost.bias.view(-1, *[1] * (x.dim() - 2))) / ghost.weight.view(-1, *[1] * (x.dim() - 2))
        ours = torch.cat([part.transpose(0, 1).flatten(1) for part in ours.split(2)], dim=0)
        torch.testing.assert_close(ours, expected)
    with pytest.raises(ValueError, match="shape"):
        ghost(torch.zeros(4, dtype=torch.float64))


def test_inputs_of_half_precision_keep_it_and_the_statistics_have_the_precision_of_the_layer():
    ghost = GhostBatchNorm(3, ghost_batch_size=2)
    assert ghost(torch.randn(5, 3, 2, 2).to(torch.bfloat16)).dtype is torch.bfloat16
    assert present(ghost.running_var).dtype is torch.float32


def test_second_derivatives_are_exact():
    ghost, _ = _pair(2, 3)
    x = torch.randn(7, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, w, b: nn.functional.relu(_with(ghost, w, b, x)) ** 2, (
        x, ghost.weight.detach().requires_grad_(), ghost.bias.detach().requires_grad_()
    ))  # fmt: skip


def _with(layer: GhostBatchNorm, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    result = torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))
    assert isinstance(result, Tensor)
    return result


@pytest.mark.parametrize(("name", "groups"), [("layer", 1), ("group", 32)])
def test_layer_and_group_normalization_are_torch_s(name, groups):
    layer = present(image_normalization(name, 64))(160)
    assert isinstance(layer, nn.GroupNorm)
    assert (layer.num_groups, layer.num_channels) == (groups, 160)


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(64, 32), (160, 32), (640, 32), (16, 8), (24, 12), (36, 18), (42, 21), (7, 1), (3, 1), (1, 1)],
)
def test_groups_are_equal_at_most_32_and_of_two_channels_or_more(channels, groups):
    layer = present(image_normalization("group", 64))(channels)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == groups


def test_every_name_has_its_layer():
    kinds = {name: image_normalization(name, 8) for name in NORMALIZATIONS}
    assert kinds["none"] is None
    assert type(present(kinds["batch"])(4)) is nn.BatchNorm2d
    ghost = present(kinds["ghost"])(4)
    assert isinstance(ghost, GhostBatchNorm)
    assert ghost.ghost_batch_size == 8
    assert "ghost_batch_size=8" in repr(ghost)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("instance", 64, "normalization: expected one of none, batch, ghost, layer, group, got 'instance'"),
        ("ghost", 1, "ghost_batch_size: expected a whole number, at least 2, got 1"),
        ("ghost", 64.0, "ghost_batch_size: expected a whole number, at least 2, got 64.0"),
        ("batch", True, "ghost_batch_size: expected a whole number, at least 2, got True"),
    ],
)
def test_wrong_values_are_refused(name, size, message):
    with pytest.raises(ValueError) as caught:
        image_normalization(name, size)
    assert str(caught.value) == message
