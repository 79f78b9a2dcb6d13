"""Image classification with the models of timm, by their names; needs the extra `timm`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tunectl.core.errors import WorkloadError
from tunectl.core.exception_text import exception_line
from tunectl.core.installation import install_command
from tunectl.workloads.classification import image_classification
from tunectl.workloads.data.image_data import image_splits
from tunectl.workloads.data.image_splits import ImageSplits
from tunectl.workloads.images import standardized
from tunectl.workloads.keyword_checks import check_share
from tunectl.workloads.module_sources import nearest
from tunectl.workloads.workload import Workload


def model(
    *,
    name: str,
    dropout: float = 0.0,
    data: str = "digits",
    image_size: int | None = None,
    augmentation: str = "none",
    mixup: float = 0.0,
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Workload:
    """The model that timm has by this name, with its own initialisation and without trained weights.

    It is made for the channels, the size and the classes of the images. `dropout` is timm's `drop_rate`. Other keywords
    are those of `image_splits` and `image_classification`. Raises WorkloadError where timm is not installed, and
    ValueError where it has no such model.
    """
    check_share("dropout", dropout)
    timm = _timm()
    if not isinstance(name, str) or not timm.is_model(name):
        raise ValueError(
            f"name: expected a model of timm {timm.__version__} (timm.list_models() has their names), got {name!r}"
            f"{nearest(str(name), timm.list_models())}"
        )
    splits = image_splits(data, augmentation=augmentation, image_size=image_size)
    network = standardized(_made(timm, name, splits, dropout), splits)
    return image_classification(
        network, splits, augmentation=augmentation, mixup=mixup, loss=loss, label_smoothing=label_smoothing
    )


def preload(*, data: str = "digits", image_size: int | None = None) -> None:
    """Import timm and read the images once, for all trials of the process and of its forks."""
    _timm()
    image_splits(data, image_size=image_size)


def _timm() -> Any:
    try:
        import timm
    except Exception as error:  # torchvision, which it imports, raises RuntimeError where it does not fit torch
        raise WorkloadError(
            f"tunectl.workloads.timm needs timm, which cannot be imported: {exception_line(error)}; "
            f"{install_command('timm')}"
        ) from error
    return timm


def _made(timm: Any, name: str, splits: ImageSplits, dropout: float) -> nn.Module:
    """The model, after a test that it can take images of this size."""
    arguments: dict[str, Any] = {"num_classes": splits.classes, "in_chans": splits.channels, "drop_rate": dropout}
    height, width = splits.height, splits.width
    # Models that divide an image into patches must know its size; the others have no such argument.
    settings = timm.models.get_pretrained_cfg(name)
    if settings is not None and settings.fixed_input_size:
        arguments["img_size"] = (height, width)
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, **arguments)
        with torch.no_grad():
            network.eval()(torch.zeros(2, splits.channels, height, width))
    except Exception as error:
        raise ValueError(
            f"name: expected a model for images of {height} x {width} pixels with {splits.channels} channels, got "
            f"{name!r}: {exception_line(error)}"
        ) from error
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if patch is not None and (height % patch[0] or width % patch[1]):
        raise ValueError(
            f"name: expected a model whose patches cover images of {height} x {width} pixels, got {name!r} with "
            f"patches of {patch[0]} x {patch[1]}"
        )
    return network.train()
