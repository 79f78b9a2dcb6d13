"""When evaluations depend on the weights, and not on the statistics that layers began with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunectl.training.running_statistics import SHARE_OF_THE_START, running_statistics
from tunectl.workloads.models.standardization import Standardize


@pytest.mark.parametrize(("momentum", "steps"), [(0.1, 176), (0.01, 1834), (None, 176), (1.0, 2)])
def test_they_have_settled_when_next_to_nothing_is_left_of_the_start_after_half_of_the_updates(
    momentum: float | None, steps: int
) -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm1d(3, momentum=momentum)
    model = nn.Sequential(nn.Linear(2, 3), layer)
    assert [running_statistics(model, count) for count in (steps - 1, steps)] == ["lagging", "settled"]
    if momentum is not None:
        for _ in range(steps // 2):
            model(torch.ones(4, 2))
        with torch.no_grad():
            batch = model[0](torch.ones(1, 2))[0]
        assert layer.running_mean is not None
        assert torch.all((layer.running_mean - batch).abs() <= 1.01 * SHARE_OF_THE_START * batch.abs() + 1e-7)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(3),
        nn.GroupNorm(1, 3),
        nn.BatchNorm1d(3, track_running_stats=False),
        nn.Dropout(0.1),
        nn.Linear(3, 3),
        Standardize([1.0], [2.0]),
    ],
)
def test_a_network_that_collects_none_has_none(layer: nn.Module) -> None:
    assert running_statistics(nn.Sequential(layer), 0) == "none"
