"""MNIST's files in their exact format, made by image_files.py. Tests idx_files.py."""

from __future__ import annotations

import gzip
from pathlib import Path

import image_files
import numpy as np
import pytest
import torch
from image_files import idx
from torch_parts import tensors_of

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data.image_data import image_splits


def refusal(folder: Path) -> str:
    with pytest.raises(WorkloadError) as caught:
        image_splits(folder)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [False, True])
def test_the_images_are_read_compressed_or_not(tmp_path: Path, zipped: bool):
    written = image_files.write_idx(tmp_path, zipped=zipped)
    splits = image_splits(tmp_path)
    images, labels = tensors_of(splits.splits["test"])
    assert images.shape == (20, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert np.array_equal(images.numpy()[:, 0], written["t10k"])
    assert labels.tolist() == [number % 10 for number in range(20)]
    train = torch.cat([tensors_of(splits.splits[name])[0] for name in ("train", "valid")])
    assert sorted(map(bytes, train.numpy())) == sorted(map(bytes, written["train"]))
    assert (len(tensors_of(splits.splits["valid"])[1]), splits.classes) == (2, 10)


def test_a_file_that_a_browser_unpacked_but_did_not_rename_is_read(tmp_path: Path):
    image_files.write_idx(tmp_path, zipped=True)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.decompress(file.read_bytes()))
    assert image_splits(tmp_path).height == 28


def test_names_with_a_dot_and_files_there_twice_are_read(tmp_path: Path):
    image_files.write_idx(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").rename(tmp_path / "train-images.idx3-ubyte")
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"an incomplete download")
    assert image_splits(tmp_path).height == 28


def test_two_data_sets_in_a_folder_are_not_mixed(tmp_path: Path):
    image_files.write_idx(tmp_path)
    for file in list(tmp_path.iterdir()):
        (tmp_path / f"emnist-letters-{file.name}").write_bytes(file.read_bytes())
    assert "expected one data set, found several: IDX files, emnist-letters-" in refusal(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path):
    image_files.write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    message = refusal(tmp_path)
    assert (
        "no file with the test labels (found t10k-images-idx3-ubyte, train-images-idx3-ubyte, train-labels" in message
    )
    assert "get MNIST from https://" in message


def test_a_single_training_image_cannot_be_divided(tmp_path: Path):
    image_files.write_idx(tmp_path, 1)
    assert "expected at least 2 training images, one of them for validation, got 1" in refusal(tmp_path)


WHOLE = idx(np.zeros((20, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"", "expected an IDX file, which begins with 00000803, got nothing"),
        ("train-images-idx3-ubyte", b"<html>", "which begins with 00000803, got 3c68746d"),
        ("train-images-idx3-ubyte", idx(np.zeros(20, np.uint8)), "00000803, got 00000801"),
        ("train-labels-idx1-ubyte", WHOLE, "00000801, got 00000803"),
        ("train-images-idx3-ubyte", WHOLE[:9], "expected the sizes of 3 axes, got 9 bytes: it is incomplete"),
        ("train-images-idx3-ubyte", WHOLE[:-1], "expected 15,680 values (sizes [20, 28, 28]), got 15,679: it is inc"),
        ("train-images-idx3-ubyte", WHOLE + b"\0", "got 15,681: it is incomplete or damaged"),
        ("train-images-idx3-ubyte", idx(np.zeros((0, 28, 28), np.uint8)), "expected 0 values"),
        (
            "t10k-images-idx3-ubyte",
            gzip.compress(WHOLE, mtime=0)[:-9],
            "cannot be decompressed, so it is incomplete or damaged",
        ),
        ("t10k-images-idx3-ubyte", idx(np.zeros((20, 9, 28), np.uint8)), "expected images of (28, 28) pixels"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(19, np.uint8)), "a label for each image, got 19 for 20 images"),
        ("t10k-labels-idx1-ubyte", idx(np.full(20, 11, np.uint8)), "labels that are in training, at most 9, got 11"),
    ],
)
def test_a_damaged_file_is_refused_with_what_was_expected(tmp_path: Path, name: str, content: bytes, message: str):
    image_files.write_idx(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert f"{tmp_path}/{name}: " in refusal(tmp_path)
    assert message in refusal(tmp_path)
