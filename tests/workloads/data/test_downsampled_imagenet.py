"""The parts of downsampled ImageNet in their format, made by image_files.py. Tests downsampled_imagenet.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import image_files
import numpy as np
import pytest
import torch
from torch_parts import tensors_of

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data import data_notes, downsampled_imagenet
from tunectl.workloads.data.image_data import image_splits


def refusal(folder: Path) -> str:
    with pytest.raises(WorkloadError) as caught:
        image_splits(folder)
    return str(caught.value)


def test_the_parts_are_joined_in_the_order_of_their_numbers(tmp_path: Path):
    written = image_files.write_downsampled(tmp_path, parts=11, count=3)
    splits = image_splits(tmp_path)
    assert list(splits.splits) == ["train", "valid"]
    images, labels = tensors_of(splits.splits["train"])
    assert images.shape == (33, 3, 8, 8)
    assert images.dtype == torch.uint8
    expected = np.concatenate([written[f"train_data_batch_{number}.npz"] for number in range(1, 12)])
    assert np.array_equal(images.numpy().reshape(33, -1), expected)
    assert labels.tolist() == [0, 1, 2] * 11
    assert np.array_equal(tensors_of(splits.splits["valid"])[0].numpy().reshape(3, -1), written["val_data.npz"])
    assert splits.classes == 1000


def test_fewer_parts_than_the_release_has_are_said(tmp_path: Path):
    image_files.write_downsampled(tmp_path)
    data_notes.taken()
    image_splits(tmp_path)
    assert data_notes.taken() == [f"{tmp_path}: downsampled ImageNet has 10 training parts, this folder has 2"]


@pytest.mark.parametrize("missing", ["train_data_batch_1.npz", "train_data_batch_2.npz", "val_data.npz"])
def test_a_missing_part_is_named(tmp_path: Path, missing: str):
    image_files.write_downsampled(tmp_path, parts=3)
    (tmp_path / missing).unlink()
    assert f"{missing} missing; get the parts for NumPy" in refusal(tmp_path)


def _part(**changed: Any) -> dict[str, Any]:
    return {"data": image_files.some_images(5, 0, 192), "labels": np.arange(1, 6), "mean": np.zeros(192)} | changed


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_part(labels=np.arange(5)), "image 0: expected a label from 1 to 1,000, got 0"),
        (_part(labels=np.array([1, 2, 1001, 4, 5])), "image 2: expected a label from 1 to 1,000, got 1001"),
        (_part(labels=np.arange(1, 5)), "labels: expected 5 whole numbers, got int64, shape [4]"),
        (_part(labels=np.arange(1.0, 6)), "labels: expected 5 whole numbers, got float64"),
        (
            _part(data=np.zeros((5, 190), np.uint8)),
            "data: expected uint8, shape [N, 3 * side * side], got uint8, shape",
        ),
        (_part(data=np.zeros((5, 192))), "got float64, shape [5, 192]"),
        (_part(data=np.zeros((0, 192), np.uint8)), "got uint8, shape [0, 192]"),
        (_part(data=np.zeros((5, 48), np.uint8)), "expected images of one size, got rows of [48, 192] values"),
        ({"data": image_files.some_images(5, 0, 192)}, "it is incomplete or damaged"),
        ({"labels": np.arange(1, 6)}, "it is incomplete or damaged"),
    ],
)
def test_a_part_with_other_content_is_refused(tmp_path: Path, part: dict[str, Any], message: str):
    image_files.write_downsampled(tmp_path)
    np.savez(tmp_path / "train_data_batch_2.npz", **part)
    assert message in refusal(tmp_path)


def test_objects_in_a_part_are_not_unpickled(tmp_path: Path):
    image_files.write_downsampled(tmp_path)
    np.savez(tmp_path / "train_data_batch_2.npz", **_part(labels=np.array([1, 2, 3, 4, {}], dtype=object)))
    assert "Object arrays cannot be loaded when allow_pickle=False" in refusal(tmp_path)


def test_a_truncated_part_is_refused(tmp_path: Path):
    image_files.write_downsampled(tmp_path)
    file = tmp_path / "train_data_batch_2.npz"
    whole = file.read_bytes()
    for size in (0, 10, 300, len(whole) // 2, len(whole) - 30):
        file.write_bytes(whole[:size])
        assert f"{file}: it is incomplete or damaged" in refusal(tmp_path)
    file.write_bytes(whole[:400] + b"\0" * 50 + whole[450:])
    assert f"{file}: it is incomplete or damaged" in refusal(tmp_path)


def test_images_that_do_not_fit_in_the_memory_are_refused_before_they_are_read(tmp_path: Path, monkeypatch):
    image_files.write_downsampled(tmp_path)
    monkeypatch.setattr(downsampled_imagenet, "free_bytes", lambda: 1000)
    assert "GiB of memory, and 0.0 GiB are free" in refusal(tmp_path)
