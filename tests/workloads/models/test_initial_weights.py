"""The weights that networks begin with."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tunectl.workloads.models.initial_weights import INITS, draw_weight, initialize


def _drawn(shape: tuple[int, ...], init: str, scale: float = 1.0) -> torch.Tensor:
    torch.manual_seed(0)
    weight = torch.empty(shape)
    draw_weight(weight, init, scale)
    return weight


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        ("lecun_normal", 1 / (64 * 9)),
        ("he_normal", 2 / (64 * 9)),
        ("xavier", 2 / (64 * 9 + 128 * 9)),
        ("orthogonal", 1 / (64 * 9)),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_variance_of_a_convolution_s_weights_is_that_of_its_source(init, variance, scale):
    weight = _drawn((128, 64, 3, 3), init, scale)
    assert weight.mean().abs() < 0.05 * weight.std()
    assert weight.var().item() == pytest.approx(scale**2 * variance, rel=0.02)


def test_normal_weights_are_normal_and_those_of_xavier_uniform():
    assert _drawn((300, 200), "xavier").abs().max() <= math.sqrt(6 / 500)
    for init in ("lecun_normal", "he_normal"):
        weight = _drawn((300, 200), init)
        kurtosis = ((weight / weight.std()) ** 4).mean().item()
        assert kurtosis == pytest.approx(3, abs=0.1)  # a uniform distribution has 1.8


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (8, 4, 3, 3)])
def test_orthogonal_weights_have_orthonormal_rows_or_columns(shape):
    matrix = _drawn(shape, "orthogonal").flatten(1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)


class _Net(nn.Module):
    """Three branches of three layers each, a layer before them and a classifier."""

    def __init__(self, init: str, init_scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 64, 3, bias=True)
        self.norm = nn.BatchNorm2d(64)
        self.alone = nn.Parameter(torch.tensor(5.0))
        self.branches = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 1), nn.Linear(64, 64)]) for _ in range(3)
        )
        self.classifier = nn.Linear(64, 10)
        branches = [list(branch) for branch in self.branches if isinstance(branch, nn.ModuleList)]
        initialize(self, init, init_scale, branches=branches, classifier=self.classifier)


def test_fixup_sets_the_ends_to_zero_and_makes_the_branches_smaller_by_their_number_and_depth():
    net, he = _Net("fixup"), _Net("he_normal")
    zero = {"branches.0.2.weight", "branches.1.2.weight", "branches.2.2.weight", "classifier.weight"}
    assert {name for name, value in net.named_parameters() if not value.any() and "bias" not in name} == zero
    # L = 3 branches, m = 3 layers: L^(-1 / (2 m - 2)) = 3^(-1/4).
    for name, value in net.named_parameters():
        if "weight" in name and name not in zero and "norm" not in name:
            factor = 3**-0.25 if "branches" in name else 1.0
            fan_in = value[0].numel()
            assert value.std().item() == pytest.approx(factor * math.sqrt(2 / fan_in), rel=0.05)
    torch.testing.assert_close(net.stem.weight, he.stem.weight)


@pytest.mark.parametrize("init", [*INITS, "rezero"])
def test_other_inits_draw_every_layer_alike(init):
    net = _Net(init)
    for name, value in net.named_parameters():
        assert value.any() == ("bias" not in name), name
    if init == "rezero":
        assert torch.equal(net.stem.weight, _Net("lecun_normal").stem.weight)


@pytest.mark.parametrize("init", [*INITS, "fixup", "rezero"])
def test_the_scale_multiplies_every_variable(init):
    plain, scaled = (dict(_Net(init, scale).named_parameters()) for scale in (1.0, 1.5))
    assert plain.keys() == scaled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(scaled[name], 1.5 * value)
    assert scaled["norm.weight"].eq(1.5).all()
    assert scaled["alone"].item() == 7.5
