"""Image classification: wide residual networks, densely connected networks and residual networks.

`data` is what `image_splits` reads: "digits", "mnist", or a path. The first module of every model standardises the
pixels. The keywords of the factories are those of the models, of the data and of the loss.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from tunectl.workloads.classification import image_classification
from tunectl.workloads.data.image_data import image_splits
from tunectl.workloads.data.image_splits import ImageSplits
from tunectl.workloads.models.densenet import DenseNet
from tunectl.workloads.models.resnet import ResNet
from tunectl.workloads.models.standardization import Standardize
from tunectl.workloads.models.wide_resnet import WideResNet
from tunectl.workloads.workload import Workload


def wide_resnet(
    *,
    depth: int = 28,
    widen: int = 10,
    normalization: str = "batch",
    norm_placement: str = "pre",
    ghost_batch_size: int = 64,
    dropout: float = 0.0,
    init: str = "lecun_normal",
    init_scale: float = 1.0,
    stride_of_first_block: int = 2,
    data: str = "digits",
    image_size: int | None = None,
    augmentation: str = "none",
    mixup: float = 0.0,
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Workload:
    """A wide residual network.

    The keywords are those of `WideResNet`, `image_splits` and `image_classification`.
    """
    splits = image_splits(data, augmentation=augmentation, image_size=image_size)
    network = WideResNet(
        splits.channels,
        splits.classes,
        depth=depth,
        widen=widen,
        normalization=normalization,
        norm_placement=norm_placement,
        ghost_batch_size=ghost_batch_size,
        dropout=dropout,
        init=init,
        init_scale=init_scale,
        stride_of_first_block=stride_of_first_block,
    )
    return _classification(
        network, splits, augmentation=augmentation, mixup=mixup, loss=loss, label_smoothing=label_smoothing
    )


def densenet(
    *,
    depth: int = 100,
    growth: int = 12,
    reduction: float = 0.5,
    normalization: str = "batch",
    ghost_batch_size: int = 64,
    dropout: float = 0.0,
    init: str = "lecun_normal",
    init_scale: float = 1.0,
    data: str = "digits",
    image_size: int | None = None,
    augmentation: str = "none",
    mixup: float = 0.0,
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Workload:
    """A densely connected network.

    The keywords are those of `DenseNet`, `image_splits` and `image_classification`.
    """
    splits = image_splits(data, augmentation=augmentation, image_size=image_size)
    network = DenseNet(
        splits.channels,
        splits.classes,
        depth=depth,
        growth=growth,
        reduction=reduction,
        normalization=normalization,
        ghost_batch_size=ghost_batch_size,
        dropout=dropout,
        init=init,
        init_scale=init_scale,
    )
    return _classification(
        network, splits, augmentation=augmentation, mixup=mixup, loss=loss, label_smoothing=label_smoothing
    )


def resnet(
    *,
    depth: int = 50,
    width: int = 64,
    block: str = "post",
    stem: str = "imagenet",
    normalization: str = "batch",
    ghost_batch_size: int = 64,
    dropout: float = 0.0,
    init: str = "lecun_normal",
    init_scale: float = 1.0,
    stride_of_first_block: int = 2,
    data: str = "digits",
    image_size: int | None = None,
    augmentation: str = "none",
    mixup: float = 0.0,
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Workload:
    """A residual network.

    The keywords are those of `ResNet`, `image_splits` and `image_classification`.
    """
    splits = image_splits(data, augmentation=augmentation, image_size=image_size)
    network = ResNet(
        splits.channels,
        splits.classes,
        depth=depth,
        width=width,
        block=block,
        stem=stem,
        normalization=normalization,
        ghost_batch_size=ghost_batch_size,
        dropout=dropout,
        init=init,
        init_scale=init_scale,
        stride_of_first_block=stride_of_first_block,
    )
    return _classification(
        network, splits, augmentation=augmentation, mixup=mixup, loss=loss, label_smoothing=label_smoothing
    )


def preload(*, data: str = "digits", image_size: int | None = None) -> None:
    """Read the images once, for all trials of the process and of its forks."""
    image_splits(data, image_size=image_size)


def standardized(network: nn.Module, splits: ImageSplits) -> nn.Sequential:
    """The network with a first module that standardises the pixels of these images."""
    return nn.Sequential(Standardize(splits.mean, splits.deviation), network)


def _classification(
    network: WideResNet | DenseNet | ResNet,
    splits: ImageSplits,
    *,
    augmentation: str,
    mixup: float,
    loss: str,
    label_smoothing: float,
) -> Workload:
    workload = image_classification(
        standardized(network, splits),
        splits,
        augmentation=augmentation,
        mixup=mixup,
        loss=loss,
        label_smoothing=label_smoothing,
    )
    return replace(workload, blocks=tuple(network.blocks))
