"""What prove_gpu.py trains: networks of three sizes on made-up images, and one that takes memory without computing."""

from __future__ import annotations

import functools
import math
import time

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from tunectl import Workload

CLASSES = 10


@functools.cache
def images(count: int, channels: int, side: int, seed: int) -> TensorDataset:
    """Noisy images of ten classes: each is its class's pattern under noise twice as large."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(CLASSES, channels, side, side, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return TensorDataset(patterns[labels] + 2.0 * torch.randn(count, channels, side, side, generator=generator), labels)


class Drawn(Dataset):
    """The same examples one by one, as a data set that no tensors can be cut out of."""

    def __init__(self, inner: TensorDataset) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self.inner[index]


def losses(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """One value per example, shape [B]."""
    return functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def errors(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
    return {"error_rate": model(batch[0]).argmax(1) != batch[1]}


def classifier(model: nn.Module, channels: int, side: int, *, train_examples: int, drawn: bool = False) -> Workload:
    train, valid = images(train_examples, channels, side, 1), images(512, channels, side, 2)
    data = {"train": Drawn(train) if drawn else train, "valid": valid}
    return Workload(model=model, data=data, loss=losses, metrics=errors, baseline_loss=math.log(CLASSES))


def mlp(*, width: int = 128, drawn: bool = False) -> Workload:
    """64-128-10, as small as what people tune on a laptop."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, CLASSES))
    return classifier(model, 1, 8, train_examples=8192, drawn=drawn)


def cnn(*, width: int = 32) -> Workload:
    """Three convolutions on images of 3 x 32 x 32, with dropout."""
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(), nn.Dropout(0.1), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(2 * width, CLASSES),
    )  # fmt: skip
    return classifier(model, 3, 32, train_examples=4096)


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation around a shortcut (He et al. 2016, the basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        changed = stride != 1 or inputs != outputs
        projection = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*(projection if changed else []))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.branch(x) + self.shortcut(x))


def resnet18(*, width: int = 64) -> Workload:
    """ResNet-18 in its form for images of 32 x 32: 11 million parameters at a width of 64."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for stage in range(4):
        for block in range(2):
            outputs = width * 2**stage
            layers.append(Block(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
            inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES)]
    return classifier(nn.Sequential(*layers), 3, 32, train_examples=4096)


class Held(nn.Module):
    """A linear layer that takes a part of the device's memory at its first batch and holds it for a while.

    A part above 1 is more than any device has; on the CPU a part up to 1 is next to nothing.
    """

    def __init__(self, fraction: float, seconds: float) -> None:
        super().__init__()
        self.layer, self.fraction, self.seconds = nn.Linear(64, CLASSES), fraction, seconds
        self.block: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.block is None:
            on_gpu = x.device.type == "cuda"
            total = torch.cuda.get_device_properties(x.device).total_memory if on_gpu else 2**20
            count = int(self.fraction * total) if self.fraction <= 1 or on_gpu else 2**60
            self.block = torch.empty(count, dtype=torch.uint8, device=x.device)
            time.sleep(self.seconds)
        return self.layer(x.flatten(1))


def hungry(*, fraction: float, seconds: float = 0.0) -> Workload:
    return classifier(Held(fraction, seconds), 1, 8, train_examples=1024)


class Wide(nn.Module):
    """Every example is blown up to `size` numbers, which the gradient wants five times: memory runs out before time.

    An update also takes a fixed time, so that a larger batch pays until nothing more fits.
    """

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__()
        self.layer, self.size, self.seconds = nn.Linear(64, CLASSES), size, seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds if self.training else 0.0)
        scores: Tensor = self.layer(x.flatten(1))
        wide = scores.mean(1, keepdim=True).repeat(1, self.size)
        for _ in range(4):
            wide = torch.tanh(wide)
        return scores + wide.mean(1, keepdim=True)


def wide(*, size: int = 2_500_000, seconds: float = 0.1) -> Workload:
    return classifier(Wide(size, seconds), 1, 8, train_examples=65_536)
