"""Image files in a folder for each class, below train/ and val/, as ImageNet is kept; decoded when they are needed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tunectl.core.errors import WorkloadError
from tunectl.core.final_training import VALID_FOR_TRAINING
from tunectl.core.installation import install_command
from tunectl.core.path_errors import path_errors
from tunectl.workloads.data import data_notes
from tunectl.workloads.data.image_splits import ImageSplits, Labels, held_out, shares_of

IMAGE_SIZE = 224
"""The side of the squares that images become, unless the study says otherwise: ImageNet's usual one."""

SUFFIXES = (".jpg", ".jpeg", ".png")
VALID_NAMES = ("val", "valid", "validation")

# How images are cropped, and the mean and the deviation of a pixel: those of google/init2winit
# (imagenet_preprocessing.py). The last two are ImageNet's; to know those of other images, all would be decoded.
MIDDLE_SHARE = 224 / 256
AREAS = (0.08, 1.0)
RATIOS = (3 / 4, 4 / 3)
ATTEMPTS = 10
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)

Box = tuple[int, int, int, int]
"""Left, upper, right and lower side of a part of an image."""


def is_image_folder(folders: Sequence[str]) -> bool:
    """Whether a folder with these folders in it looks like one with splits of images."""
    return "train" in folders


def is_split_of_image_folder(name: str, folders: Sequence[str]) -> bool:
    """Whether the folder `name`, among these folders, is a split, and not the folder around it."""
    return is_image_folder(folders) and name in ("train", "test", *VALID_NAMES)


def read_image_folders(folder: Path, folders: Sequence[str]) -> ImageSplits:
    """The splits below a folder: `train`, `valid` (of val/, or a tenth of train/), and `test` where it has classes.

    An image is the middle of its file, in IMAGE_SIZE x IMAGE_SIZE pixels; see `decoded_as` for others. Raises
    WorkloadError where a folder is not as expected, or Pillow is missing.
    """
    _check_pillow(folder)
    classes = _folders(folder / "train")
    if not classes:
        raise WorkloadError(f"{folder / 'train'}: expected a folder for each class, found none")
    files = {"train": _Files.below(folder / "train", classes)}
    valid = next((name for name in VALID_NAMES if name in folders), None)
    if valid is not None:
        files["valid"] = _Files.below(folder / valid, classes)
    else:
        parts = held_out(len(files["train"].labels))
        files = {name: files["train"].part(part) for name, part in parts.items()}
    if "test" in folders:
        if _folders(folder / "test"):
            files["test"] = _Files.below(folder / "test", classes)
        else:
            data_notes.note(
                f"{folder / 'test'} has no folders of classes, so its images have no labels: they are not used"
            )
    return ImageSplits(
        splits={name: ImageFiles(found, IMAGE_SIZE, crops=False) for name, found in files.items()},
        channels=3,
        height=IMAGE_SIZE,
        width=IMAGE_SIZE,
        classes=len(classes),
        mean=MEAN,
        deviation=DEVIATION,
        label_shares=shares_of(files["train"].labels, len(classes)),
    )


def decoded_as(splits: ImageSplits, size: int | None, *, crops: bool) -> ImageSplits:
    """The splits with image files decoded to `size` x `size` pixels (None: as they are); splits of images in memory as
    they are.

    With `crops` a training image is a random part of its file, flipped or not; the other splits are the same, and the
    images of `valid` are also there as training images, under VALID_FOR_TRAINING.
    """
    if not isinstance(splits.splits["train"], ImageFiles):
        return splits
    side = size or splits.height
    sets = {
        name: found.decoded_as(side, crops=crops and name == "train")
        for name, found in splits.splits.items()
        if isinstance(found, ImageFiles)
    }
    if crops:
        sets[VALID_FOR_TRAINING] = sets["valid"].decoded_as(side, crops=True)
    return replace(splits, splits=sets, height=side, width=side, crops_when_read=crops)


@dataclass(frozen=True, slots=True)
class _Files:
    """Image files below a folder: their paths in it, as bytes, shape [N], and their labels, shape [N].

    Arrays, because lists of text would be copied into every process that was forked, by counting references.
    """

    folder: Path
    names: NDArray[np.bytes_]
    labels: Labels

    @classmethod
    def below(cls, folder: Path, classes: Sequence[str]) -> _Files:
        """All image files in the folders of the classes; a label is the place of a class in `classes`."""
        found = _folders(folder)
        if not found:
            raise WorkloadError(
                f"{folder}: expected a folder for each class, found none; ImageNet's validation images come in one "
                "folder, and the script valprep.sh moves each into that of its class"
            )
        unknown = sorted(set(found) - set(classes))
        if unknown:
            raise WorkloadError(f"{folder}: expected the classes of training, got {unknown[0]!r} too")
        places = {name: place for place, name in enumerate(classes)}
        names: list[bytes] = []
        counts = []
        for name in found:
            images = _images(folder / name)
            if not images:
                raise WorkloadError(f"{folder / name}: expected image files ({', '.join(SUFFIXES)}), found none")
            names += [os.fsencode(f"{name}/{image}") for image in images]
            counts.append(len(images))
        return cls(folder, np.array(names), np.repeat([places[name] for name in found], counts).astype(np.int64))

    def part(self, examples: NDArray[np.int64]) -> _Files:
        """These examples of it."""
        return _Files(self.folder, self.names[examples], self.labels[examples])


class ImageFiles(Dataset[Any]):
    """Examples (image, label): uint8, shape [3, size, size], decoded from its file.

    With `crops` the image is a random part of the file, and flipped with probability 1/2; its random numbers are those
    of NumPy's global generator, which a trial seeds for each batch.
    """

    def __init__(self, files: _Files, size: int, *, crops: bool) -> None:
        self._files, self._size, self._crops = files, size, crops

    def decoded_as(self, size: int, *, crops: bool) -> ImageFiles:
        """The same files, decoded to another size, cropped at random or not."""
        return ImageFiles(self._files, size, crops=crops)

    def __len__(self) -> int:
        return len(self._files.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file = self._files.folder / os.fsdecode(bytes(self._files.names[index]))
        return _decoded(file, self._size, crops=self._crops), int(self._files.labels[index])


def _decoded(file: Path, size: int, *, crops: bool) -> Tensor:
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = _as_rgb(opened)
        box = random_box(*image.size) if crops else middle_box(*image.size)
        # Bicubic as in google/init2winit; Pillow also smooths where it shrinks.
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    except OSError as error:
        if error.errno is not None:
            raise  # it names the file
        raise _broken(file, error) from error
    except (ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise _broken(file, error) from error
    if crops and np.random.random() < 0.5:
        pixels = pixels[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _broken(file: Path, error: Exception) -> ValueError:
    # Not a TunectlError: in a loader process it is raised again with the traceback as its text.
    return ValueError(f"{file}: cannot be decoded as an image: {error}; replace the file, or remove it")


def _as_rgb(image: Any) -> Any:
    """The image in three channels of 8 bits: from grey, a palette, CMYK, 16 bits, and without transparency."""
    if image.mode.startswith("I"):
        from PIL import Image

        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def random_box(width: int, height: int) -> Box:
    """A random part of an image of this size: its area is uniform on AREAS of the whole, the logarithm of its ratio of
    width to height on those of RATIOS (Szegedy et al. 2015, "Going deeper with convolutions", section 6).

    Where none of ATTEMPTS parts fits, it is the whole image.
    """
    for _ in range(ATTEMPTS):
        area = width * height * np.random.uniform(*AREAS)
        ratio = math.exp(np.random.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left = int(np.random.randint(width - wide + 1))
            upper = int(np.random.randint(height - high + 1))
            return left, upper, left + wide, upper + high
    return 0, 0, width, height


def middle_box(width: int, height: int) -> Box:
    """The square in the middle of an image of this size, its side MIDDLE_SHARE of the shorter one."""
    side = max(1, int(min(width, height) * MIDDLE_SHARE))
    left, upper = (width - side + 1) // 2, (height - side + 1) // 2
    return left, upper, left + side, upper + side


def _check_pillow(folder: Path) -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise WorkloadError(
            f"{folder}: image files are read by Pillow, which is not installed: {install_command('images')}"
        ) from error


def _folders(folder: Path) -> list[str]:
    with path_errors(folder, "read", WorkloadError), os.scandir(folder) as found:
        return sorted(entry.name for entry in found if not entry.name.startswith(".") and entry.is_dir())


def _images(folder: Path) -> list[str]:
    # Beside the images, macOS leaves files such as ._a.jpg, which are none.
    with path_errors(folder, "read", WorkloadError), os.scandir(folder) as found:
        return sorted(
            entry.name for entry in found if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
        )
