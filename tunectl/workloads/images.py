"""Image classification: wide residual networks, densely connected networks and residual networks."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from tunectl.workloads.classification import image_classification
from tunectl.workloads.data.image_data import image_splits
from tunectl.workloads.models.standardization import Standardize
from tunectl.workloads.models.wide_resnet import WideResNet
from tunectl.workloads.workload import Workload


def wide_resnet(
    *,
    data: str = "digits",
    depth: int = 28,
    widen: int = 10,
    normalization: str = "batch",
    norm_placement: str = "pre",
    ghost_batch_size: int = 64,
    dropout: float = 0.0,
    init: str = "lecun_normal",
    init_scale: float = 1.0,
    stride_of_first_block: int = 2,
    augmentation: str = "none",
    mixup: float = 0.0,
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Workload:
    """A wide residual network; its keywords are those of `WideResNet`, and those of the data and the loss."""
    splits = image_splits(data, augmentation=augmentation)
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
    workload = image_classification(
        nn.Sequential(Standardize(splits.mean, splits.deviation), network),
        splits,
        loss=loss,
        label_smoothing=label_smoothing,
        augmentation=augmentation,
        mixup=mixup,
    )
    return replace(workload, blocks=tuple(network.blocks))
