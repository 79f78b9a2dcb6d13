"""The values that `record` accepts as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tunectl
from tunectl.core.recorded_metrics import numbers, received_by, whole_step


class Percent:
    def __float__(self) -> float:
        return 0.5


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        "0.5",
        np.float32(0.5),
        np.array(0.5),
        np.array([0.5]),
        np.array([[0.5]], dtype=np.float16),
        torch.tensor(0.5),
        torch.tensor([0.5]),
        torch.tensor([[0.5]], requires_grad=True),
        Percent(),
    ],
)
def test_a_number_and_an_array_of_one_element_are_numbers(value: Any) -> None:
    heard: list[Any] = []
    with received_by(lambda step, told: heard.append((step, told))):
        tunectl.record(3, {"valid/loss": value})
    assert heard == [(3, {"valid/loss": 0.5})]
    assert type(heard[0][1]["valid/loss"]) is float


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        (np.array([1.0, 2.0]), ValueError, r"ndarray of shape \[2\]"),
        (torch.zeros(2, 3), TypeError, r"Tensor of shape \[2, 3\]"),
        (torch.zeros(0), TypeError, r"Tensor of shape \[0\]"),
        ("n/a", ValueError, "'n/a'"),
        (None, TypeError, "None"),
        ([0.5], TypeError, r"\[0.5\]"),
        (1j, TypeError, "1j"),
        (10**400, ValueError, "1000"),
    ],
)
def test_a_value_that_is_not_a_number_is_refused_with_the_metric_s_name(
    value: Any, kind: type[Exception], found: str
) -> None:
    with pytest.raises(
        (TypeError, ValueError), match=f"the metric valid/f1: expected one number, got {found}"
    ) as caught:
        tunectl.record(3, {"valid/loss": 0.5, "valid/f1": value})
    if not isinstance(value, torch.Tensor):
        assert caught.type is kind


def test_metrics_that_are_not_a_dict_are_refused() -> None:
    with pytest.raises(TypeError, match=r"expected a dict of numbers by split/name, got 0\.5"):
        numbers(0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [3, 3.0, np.int64(3), np.array([3]), torch.tensor([3])])
def test_a_step_may_be_an_array_of_one_element_too(step: Any) -> None:
    assert whole_step(step) == 3
