"""Writes small data sets of images in the exact formats of their releases."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIXELS = 3 * 32 * 32


def some_images(count: int, seed: int = 0, width: int = PIXELS) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)


def labels_of(count: int, classes: int = 10) -> list[int]:
    return [number % classes for number in range(count)]


def records(*columns: Any) -> bytes:
    return np.column_stack([np.asarray(column, np.uint8) for column in columns]).tobytes()


def write_cifar10_binary(folder: Path, count: int = 4) -> dict[str, NDArray[np.uint8]]:
    """Each file has `count` images, labels 0, 1, ...; gives the pixels by file."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = {}
    for seed, name in enumerate([*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]):
        pixels[name] = some_images(count, seed)
        (folder / name).write_bytes(records(labels_of(count), pixels[name]))
    (folder / "batches.meta.txt").write_text("airplane\n")
    return pixels


def write_cifar100_binary(folder: Path, count: int = 20) -> dict[str, NDArray[np.uint8]]:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = {}
    for seed, name in enumerate(["train.bin", "test.bin"]):
        pixels[name] = some_images(count, seed)
        (folder / name).write_bytes(records(labels_of(count, 20), labels_of(count, 100), pixels[name]))
    return pixels


def write_cifar10_python(folder: Path, count: int = 4) -> dict[str, NDArray[np.uint8]]:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = {}
    for seed, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        pixels[name] = some_images(count, seed)
        (folder / name).write_bytes(cifar_pickle(pixels[name], labels_of(count)))
    (folder / "batches.meta").write_bytes(python2_pickle({"label_names": ["airplane"], "num_vis": PIXELS}))
    return pixels


def cifar_pickle(pixels: NDArray[Any], labels: Any, label_key: str = "labels", **changed: Any) -> bytes:
    """A file of the release for Python, as Python 2 wrote it."""
    names = [f"image_{number}.png" for number in range(len(pixels))]
    content = {"batch_label": "training batch 1 of 5", label_key: labels, "data": pixels, "filenames": names}
    return python2_pickle(content | changed)


def python2_pickle(value: Any) -> bytes:
    """The pickle of protocol 2 that Python 2 writes: its text is bytes, its arrays name numpy.core.multiarray."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    match value:
        case str() | bytes():
            text = value.encode() if isinstance(value, str) else value
            return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text
        case int():
            return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
        case list():
            return b"](" + b"".join(map(_opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_opcodes(key) + _opcodes(item) for key, item in value.items()) + b"u"
        case np.ndarray():
            return _array_opcodes(value)
    raise TypeError(type(value))


def _array_opcodes(array: NDArray[Any]) -> bytes:
    # _reconstruct(ndarray, (0,), "b"), then the state (1, shape, dtype, False, bytes).
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    name = array.dtype.str[1:].encode()
    order = array.dtype.str[0].encode()
    item_type = b"cnumpy\ndtype\nU\x02" + name + b"K\x00K\x01\x87R(K\x03U\x01" + order + b"NNNJ\xff\xff\xff\xff"
    item_type += b"J\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(map(_opcodes, array.shape)) + b"t"
    return made + b"(K\x01" + shape + item_type + b"\x89" + _opcodes(array.tobytes()) + b"tb"


def idx(values: NDArray[np.uint8]) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write_idx(folder: Path, count: int = 20, *, zipped: bool = False) -> dict[str, NDArray[np.uint8]]:
    """MNIST's four files, with images of 28x28 pixels; gives the training images and the test images."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {name: some_images(count, seed, 784).reshape(-1, 28, 28) for seed, name in enumerate(("train", "t10k"))}
    for name, pixels in images.items():
        files = {"images-idx3": idx(pixels), "labels-idx1": idx(np.array(labels_of(count), np.uint8))}
        for part, content in files.items():
            file = folder / f"{name}-{part}-ubyte{'.gz' if zipped else ''}"
            file.write_bytes(gzip.compress(content) if zipped else content)
    return images


def write_downsampled(folder: Path, parts: int = 2, count: int = 5, side: int = 8) -> dict[str, NDArray[np.uint8]]:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = {}
    for seed, name in enumerate(
        [*(f"train_data_batch_{number}.npz" for number in range(1, parts + 1)), "val_data.npz"]
    ):
        pixels[name] = some_images(count, seed, 3 * side * side)
        labels = np.arange(1, count + 1)
        np.savez(folder / name, data=pixels[name], labels=labels, mean=pixels[name].mean(axis=0))
    return pixels


def write_image_files(folder: Path, splits: Mapping[str, Mapping[str, int]], size: tuple[int, int] = (12, 8)) -> None:
    """A PNG for each image: `splits` has the number of images by class by split. Images of a class are of one grey."""
    from PIL import Image

    for split, classes in splits.items():
        for place, (name, count) in enumerate(classes.items()):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", size, (place * 40, place * 40, place * 40))
                image.save(folder / split / name / f"{number}.png")


def png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
