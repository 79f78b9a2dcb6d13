"""Where residual branches are normalised, and their scalars."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunectl.workloads.models.residual_branches import (
    NORM_PLACEMENTS,
    LearntBias,
    LearntScalar,
    ResidualSum,
    branch_scalar,
    fixup_bias,
)

_X = torch.tensor([[-1.0, 3.0]])
_F = torch.tensor([[4.0, 0.0]])


# Layer norms of two numbers give -1 and 1, in the order of the numbers; _X is (-1, 3), the branch gives (4, 0).
@pytest.mark.parametrize(
    ("placement", "entered", "joined"),
    [
        ("pre", [-1, 1], [3, 3]),
        ("branch_end", [-1, 3], [-1 + 1, 3 - 1]),
        ("sandwich", [-1, 1], [-1 + 1, 3 - 1]),
        ("none", [-1, 3], [3, 3]),
    ],
)
def test_the_normalization_is_where_the_placement_says(placement, entered, joined):
    residual = ResidualSum(placement, 2, 2, norm=lambda width: nn.LayerNorm(width, eps=0), init="lecun_normal")
    assert residual.enter(_X).tolist() == [entered]
    assert residual.join(_X, _F).tolist() == [joined]


def test_post_normalises_the_sum():
    residual = ResidualSum("post", 2, 2, norm=lambda width: nn.LayerNorm(width, eps=0), init="lecun_normal")
    assert residual.enter(_X).tolist() == _X.tolist()
    assert residual.join(_X, 2 * _F).tolist() == [[1, -1]]  # of the sum (7, 3)


@pytest.mark.parametrize("placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("normalized", [True, False])
def test_a_branch_ends_in_a_scalar_of_one_where_no_normalization_is_at_it(placement, normalized):
    residual = ResidualSum(placement, 2, 2, norm=nn.LayerNorm if normalized else None, init="he_normal")
    names = {name for name, _ in residual.named_parameters()}
    if normalized and placement != "none":
        assert "scalar.scalar" not in names
    else:
        assert names == {"scalar.scalar"}
        assert residual.scalar(_F).tolist() == _F.tolist()


@pytest.mark.parametrize("placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("norm", [nn.LayerNorm, None])
def test_under_rezero_every_branch_begins_at_zero(placement, norm):
    residual = ResidualSum(placement, 2, 2, norm=norm, init="rezero")
    expected = residual.after(_X)
    assert torch.equal(residual.join(_X, 1e6 * _F), expected)


def test_the_widths_of_trunk_and_branch_may_differ():
    residual = ResidualSum("sandwich", 2, 3, norm=nn.LayerNorm, init="xavier")
    assert residual.enter(_X).shape == (1, 2)
    assert residual.join(torch.ones(1, 3), torch.ones(1, 3)).shape == (1, 3)


def test_fixup_has_biases_and_its_own_multiplier_and_other_inits_have_none():
    assert isinstance(fixup_bias("fixup"), LearntBias)
    assert isinstance(branch_scalar("fixup", normalized=True), LearntScalar)
    for init in ("lecun_normal", "he_normal", "xavier", "orthogonal", "rezero"):
        assert isinstance(fixup_bias(init), nn.Identity)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_numbers_with_a_rate_move_under_sgd_as_if_their_learning_rate_were_that_part_of_it(momentum):
    found = []
    for layers, rate in (
        ((LearntScalar(2.0), LearntBias()), 0.003),
        ((LearntScalar(2.0, rate=0.1), LearntBias(rate=0.1)), 0.03),
    ):
        optimizer = torch.optim.SGD([p for layer in layers for p in layer.parameters()], rate, momentum=momentum)
        for _ in range(5):
            optimizer.zero_grad()
            # The gradients depend on the values.
            (layers[0](_X).square().sum() + layers[1](_X).pow(3).sum()).backward()
            optimizer.step()
        found.append([layer(_X) for layer in layers])
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0][0], 2 * _X, rtol=0.05)
    assert not torch.allclose(found[0][1], _X, rtol=0.05)
