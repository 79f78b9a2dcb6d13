"""The first module of the image models."""

from __future__ import annotations

import pytest
import torch

from tunectl.workloads.models.standardization import Standardize


def test_each_channel_has_its_mean_and_deviation():
    module = Standardize((10.0, 100.0), (2.0, 50.0))
    images = torch.tensor([10, 14, 0, 200], dtype=torch.uint8).view(1, 2, 1, 2)
    assert module(images).flatten().tolist() == [0, 2, -2, 2]
    assert module(images).dtype is torch.float32
    assert torch.equal(module(images), module(images.float()))


def test_it_computes_in_the_precision_of_the_model():
    assert Standardize((1.0,), (2.0,)).double()(torch.ones(1, 1, 2, 2)).dtype is torch.float64


def test_what_belongs_to_the_data_is_neither_trained_nor_saved():
    module = Standardize((1.0,), (2.0,))
    assert not list(module.parameters())
    assert not module.state_dict()
    assert {name for name, _ in module.named_buffers()} == {"mean", "deviation"}


@pytest.mark.parametrize(("mean", "deviation"), [((1.0,), (0.0,)), ((1.0, 2.0), (1.0,)), ((1.0,), (float("nan"),))])
def test_data_by_which_one_cannot_divide_are_refused(mean, deviation):
    with pytest.raises(ValueError, match="expected a mean and a deviation above 0 for each channel"):
        Standardize(mean, deviation)
