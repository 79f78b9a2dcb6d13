"""The models of timm; those that need it are run by `make frameworks`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
import torch
from other_tools import library
from torch import nn
from torch.utils.data import default_collate

from tunectl.core.errors import WorkloadError
from tunectl.workloads import timm
from tunectl.workloads.models.standardization import Standardize


@pytest.mark.parametrize("call", [lambda: timm.model(name="resnet18"), timm.preload])
def test_without_timm_the_error_says_what_to_install(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(WorkloadError, match=r"needs timm, which cannot be imported: .*; pip install .*\[timm\]"):
        call()


@pytest.fixture(scope="module")
def timm_there() -> Iterator[None]:
    """The library timm, also where torchvision was compiled for another build of torch.

    Its operators cannot be loaded then, and importing it asks for some, which the models do not use.
    """
    operators = torch.library.Library("torchvision", "FRAGMENT")
    while True:
        try:
            library("timm")
            break
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            operators.define(f"{missing[1]}(Tensor boxes) -> Tensor")
            for name in [each for each in sys.modules if each.partition(".")[0] in ("timm", "torchvision")]:
                del sys.modules[name]
    yield
    operators._destroy()


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("timm_there")
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"])
def test_a_model_is_made_for_the_images_of_the_study(name):
    torch.manual_seed(0)
    workload = timm.model(name=name, data="mnist")
    assert isinstance(workload.model, nn.Sequential)
    assert isinstance(workload.model[0], Standardize)
    batch = default_collate([workload.data["train"][index] for index in range(4)])
    losses = workload.loss(workload.model, batch)
    assert losses.shape == (4,)
    losses.mean().backward()
    assert workload.model.training


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("timm_there")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnett18", r"name: expected a model of timm .*, got 'resnett18'; nearest: resnet18"),
        ("mixer_s32_224", "name: expected a model for images of 28 x 28 pixels with 1 channels, got 'mixer_s32_224'"),
        ("vit_tiny_patch16_224", "name: expected a model whose patches cover images of 28 x 28 pixels"),
    ],
)
def test_a_model_that_does_not_exist_or_does_not_fit_the_images_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        timm.model(name=name, data="mnist")
