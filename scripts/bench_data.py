"""How long training waits for its data: the share of the time by what the data are, with the seconds of an update
beside those of the same model trained on one batch that is there already; and what augmenting a batch takes.

The data are made here, in the formats of the releases: CIFAR-10 in records (5,000 images), and JPEG files of 160x128
pixels, decoded to 64x64. The share counts what `tunectl batch-size` counts: the time between two updates in which the
next batch is not there. With loader processes it says whether they keep up, on this many cores.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tunectl.core.folders import TrialFolder
from tunectl.core.measurement_kinds import THROUGHPUT
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest, WorkloadReference
from tunectl.language.configuration import TrainingConfiguration
from tunectl.store.trial_files import read_trial
from tunectl.training.throughput import Extent, run_throughput
from tunectl.workloads.classification import image_classification
from tunectl.workloads.data.augmentation import FlipCrop
from tunectl.workloads.data.image_data import image_splits
from tunectl.workloads.data.image_splits import ImageSplits
from tunectl.workloads.data.mixup import Mixup
from tunectl.workloads.workload import Workload

BATCH_SIZE = 128
AUGMENTED = 1024
BLOCKS = 7
# Long enough that examples of tensors are gathered at least once, which is done for up to 256 updates together.
EXTENT = Extent(warmup_seconds=0.3, slow_warmup_seconds=2.0, block_seconds=0.2, seconds=6.0, least_blocks=4)


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained on, the augmentation, and the number of loader processes."""

    name: str
    data: str
    augmentation: str = "none"
    mixup: float = 0.0
    workers: int = 0


class Network(nn.Module):
    """Standardises the pixels, then two convolutions and a linear layer."""

    def __init__(self, splits: ImageSplits) -> None:
        super().__init__()
        for name, values in (("mean", splits.mean), ("deviation", splits.deviation)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(splits.channels, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, splits.classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.body((images.float() - self.mean) / self.deviation)
        return scores


def workload(case: Case) -> Workload:
    torch.manual_seed(0)
    # Only image files have a size that can be chosen.
    size = 64 if Path(case.data, "train").is_dir() else None
    splits = image_splits(case.data, augmentation=case.augmentation, image_size=size)
    return image_classification(Network(splits), splits, augmentation=case.augmentation, mixup=case.mixup)


def of_trial(case: Case) -> tuple[float, float]:
    """The seconds of an update (median over the blocks of a throughput trial) and the share of waiting (mean)."""
    configuration = TrainingConfiguration(optimizer="sgd", learning_rate=0.1, batch_size=BATCH_SIZE)
    request = TrialRequest(
        study="bench-data",
        trial=0,
        seed=0,
        workload=WorkloadReference("bench_data:workload", "workload", module="bench_data"),
        arguments={},
        configuration={name: getattr(configuration, name) for name in TrainingConfiguration.__dataclass_fields__},
        objective=Objective("valid/loss", "minimize"),
        max_train_steps=10_000,
        eval_every=10_000,
        keep_checkpoints=0,
        data_workers=case.workers,
    )
    with tempfile.TemporaryDirectory() as place:
        folder = TrialFolder(Path(place))
        run_throughput(
            request,
            folder,
            lambda: workload(case),
            device="cpu",
            stop=lambda: False,
            seconds=TrialSeconds(),
            extent=EXTENT,
        )
        blocks = [measurement.metrics for measurement in read_trial(folder).measurements]
    seconds = statistics.median(block[THROUGHPUT.column("seconds_per_step")] for block in blocks)
    # Examples of tensors are gathered for many updates at once, so that most blocks have no wait.
    return seconds, statistics.fmean(block[THROUGHPUT.column("data_wait_fraction")] for block in blocks)


def of_one_batch(case: Case) -> float:
    """The seconds of an update by a plain loop on a batch that is there already."""
    made = workload(case)
    data: Any = made.data["train"]
    batch = [
        torch.stack(column)
        for column in zip(
            *((image, torch.as_tensor(label)) for image, label in (data[n] for n in range(BATCH_SIZE))), strict=True
        )
    ]
    optimizer = torch.optim.SGD(made.model.parameters(), lr=0.0, fused=True)

    def update() -> None:
        optimizer.zero_grad()
        made.loss(made.model, batch).mean().backward()
        optimizer.step()

    return seconds_of(update, time.perf_counter)


def seconds_of(call: Callable[[], object], now: Callable[[], float]) -> float:
    """The time of a call: the median of blocks as long as those of a throughput trial."""
    call()
    blocks: list[float] = []
    while len(blocks) < BLOCKS:
        calls, began = 0, now()
        while now() - began < EXTENT.block_seconds:
            call()
            calls += 1
        blocks.append((now() - began) / calls)
    return statistics.median(blocks)


def write_cifar(folder: Path) -> str:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        records = generator.integers(0, 256, (1000, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
    return str(folder)


def write_files(folder: Path) -> str:
    generator = np.random.default_rng(0)
    for split, count in (("train", 64), ("val", 4)):
        for label in range(4):
            (folder / split / f"class{label}").mkdir(parents=True)
            for number in range(count):
                # Smooth, as photographs are: noise takes several times as long to decode.
                small = generator.integers(0, 256, (16, 20, 3), dtype=np.uint8)
                image = Image.fromarray(small).resize((160, 128), Image.Resampling.BICUBIC)
                image.save(folder / split / f"class{label}" / f"{number}.jpg", quality=90)
    return str(folder)


def print_waits(cases: list[Case]) -> None:
    print(f"batches of {BATCH_SIZE}, {os.cpu_count()} cores, one thread; ms of an update")
    print(f"{'data':44}{'trial':>9}{'one batch':>11}{'ratio':>8}{'waiting':>9}")
    for case in cases:
        seconds, waits = of_trial(case)
        plain = of_one_batch(case)
        ratio = f"{seconds / plain:8.2f}"
        print(f"{case.name:44}{1000 * seconds:9.2f}{1000 * plain:11.2f}{ratio}{100 * waits:7.1f} %")


def print_augmentation() -> None:
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (AUGMENTED, 3, 32, 32), dtype=np.uint8))
    labels = torch.from_numpy(generator.integers(0, 10, AUGMENTED))
    crop, mix = FlipCrop((125.3, 123.0, 113.9), 4), Mixup(0.2, 10)
    calls: dict[str, Callable[[], object]] = {
        "a copy of the batch, as floats": lambda: images.float(),
        "flip_crop": lambda: crop(images, generator),
        "mixup": lambda: mix(images, labels, generator),
        "flip_crop, then mixup": lambda: mix(crop(images, generator), labels, generator),
        "flip_crop, image by image": lambda: [crop(images[n : n + 1], generator) for n in range(AUGMENTED)],
    }
    print(f"\naugmenting a batch of {AUGMENTED} images of 32x32, ms of the processor")
    for name, call in calls.items():
        print(f"{name:44}{1000 * seconds_of(call, time.process_time):9.2f}")


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        cifar, files = write_cifar(Path(place, "cifar")), write_files(Path(place, "files"))
        cases = [
            Case("digits", "digits"),
            Case("CIFAR-10, binary", cifar),
            Case("CIFAR-10, binary, flip_crop", cifar, "flip_crop"),
            Case("CIFAR-10, binary, flip_crop and mixup", cifar, "flip_crop", 0.2),
            Case("JPEG files, no loader processes", files),
            Case("JPEG files, 2 loader processes", files, workers=2),
            Case("JPEG files, flip_crop, 2 loader processes", files, "flip_crop", workers=2),
        ]
        print_waits(cases)
    print_augmentation()


if __name__ == "__main__":
    main()
