"""Image files in class folders: which are found, and what they become. Tests image_folders.py."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import png, write_image_files
from PIL import Image
from torch.utils.data import DataLoader

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data import data_notes
from tunectl.workloads.data.image_data import image_splits
from tunectl.workloads.data.image_folders import middle_box, random_box
from tunectl.workloads.data.image_splits import ImageSplits

TWO = {"train": {"cat": 3, "dog": 2}, "val": {"cat": 1, "dog": 2}}


def refusal(folder: Path) -> str:
    with pytest.raises(WorkloadError) as caught:
        image_splits(folder)
    return str(caught.value)


def labels(splits: ImageSplits, name: str) -> list[int]:
    found: Any = splits.splits[name]
    return [found[number][1] for number in range(len(found))]


def test_train_val_and_test_are_the_splits_and_a_label_is_the_place_of_its_class(tmp_path: Path):
    write_image_files(tmp_path, TWO | {"test": {"dog": 2}})
    splits = image_splits(tmp_path, image_size=4)
    assert {name: labels(splits, name) for name in splits.splits} == {
        "train": [0, 0, 0, 1, 1],
        "valid": [0, 1, 1],
        "test": [1, 1],
    }
    image = splits.splits["valid"][1][0]
    assert image.dtype == torch.uint8
    assert image.shape == (3, 4, 4)
    assert image.unique().tolist() == [40]  # the grey of the second class
    assert (splits.channels, splits.height, splits.width, splits.classes) == (3, 4, 4, 2)
    assert splits.label_shares.tolist() == [0.6, 0.4]


def test_without_val_a_tenth_of_train_is_held_out(tmp_path: Path):
    write_image_files(tmp_path, {"train": {"cat": 15, "dog": 15}})
    splits = image_splits(tmp_path, image_size=2)
    assert (len(labels(splits, "train")), len(labels(splits, "valid"))) == (27, 3)
    assert sorted(labels(splits, "train") + labels(splits, "valid")) == [0] * 15 + [1] * 15


def test_the_usual_size_is_224(tmp_path: Path):
    write_image_files(tmp_path, TWO)
    splits = image_splits(tmp_path)
    assert splits.splits["train"][0][0].shape == (3, 224, 224)
    assert (splits.height, splits.crops_when_read) == (224, False)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 120, (120, 120, 120)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 128), (10, 20, 30)),
        ("LA", (70, 0), (70, 70, 70)),
        ("I;16", 120 * 256 + 7, (120, 120, 120)),
    ],
)
def test_every_kind_of_pixel_becomes_three_channels(tmp_path: Path, mode: str, colour: Any, expected: tuple[int, ...]):
    write_image_files(tmp_path, TWO)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(png(Image.new(mode, (9, 9), colour)))
    image = image_splits(tmp_path, image_size=3).splits["train"][0][0]
    assert image.flatten(1).unique(dim=1).flatten().tolist() == list(expected)


def test_palettes_and_cmyk_are_converted(tmp_path: Path):
    write_image_files(tmp_path, TWO)
    palette = Image.new("RGB", (9, 9), (10, 20, 30)).quantize(4)
    palette.info["transparency"] = b"\x00\x10"
    (tmp_path / "train" / "cat" / "0.png").write_bytes(png(palette))
    Image.new("CMYK", (9, 9), (0, 255, 255, 0)).save(tmp_path / "train" / "cat" / "1.JPEG")
    (tmp_path / "train" / "cat" / "1.png").unlink()
    splits = image_splits(tmp_path, image_size=3)
    assert splits.splits["train"][0][0][:, 1, 1].tolist() == [10, 20, 30]
    red = splits.splits["train"][1][0][:, 1, 1].tolist()
    assert red[0] > 240
    assert max(red[1:]) < 15


def test_a_broken_file_is_named_also_from_a_loader_process(tmp_path: Path):
    write_image_files(tmp_path, TWO)
    whole = png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)))
    for content in (b"", b"GIF", whole[:100], whole[: len(whole) // 2], whole[:60] + bytes(40) + whole[100:]):
        (tmp_path / "train" / "cat" / "0.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"train/cat/0\.png: cannot be decoded as an image: .*; replace the file"):
            image_splits(tmp_path).splits["train"][0]
    train = image_splits(tmp_path).splits["train"]
    with pytest.raises(ValueError, match=r"ValueError: .*train/cat/0\.png: cannot be decoded as an image"):
        list(DataLoader(train, num_workers=1, multiprocessing_context="fork"))


def test_a_file_that_is_gone_is_named_by_the_system(tmp_path: Path):
    write_image_files(tmp_path, TWO)
    train = image_splits(tmp_path).splits["train"]
    (tmp_path / "train" / "dog" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"dog/1\.png"):
        train[4]


def test_the_middle_square_is_seven_eighths_of_the_shorter_side():
    assert middle_box(256, 256) == (16, 16, 240, 240)
    assert middle_box(512, 256) == (144, 16, 368, 240)
    assert middle_box(1, 1) == (0, 0, 1, 1)


def test_without_crops_and_in_evaluation_the_middle_is_taken_the_same_each_time(tmp_path: Path):
    write_image_files(tmp_path, TWO)
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[1:15, 1:15] = 200  # the middle square: 14 = 16 * 7 / 8
    for split in ("train", "val"):
        (tmp_path / split / "cat" / "0.png").write_bytes(png(Image.fromarray(pixels)))
    plain = image_splits(tmp_path, image_size=14)
    cropped = image_splits(tmp_path, augmentation="flip_crop", image_size=14)
    for image, _ in (plain.splits["train"][0], plain.splits["valid"][0], cropped.splits["valid"][0]):
        assert image.unique().tolist() == [200]
    assert cropped.crops_when_read


def test_with_crops_the_validation_images_are_also_there_as_training_images(tmp_path: Path):
    write_image_files(tmp_path, TWO)
    assert [*image_splits(tmp_path, image_size=4).splits] == ["train", "valid"]
    splits = image_splits(tmp_path, image_size=4, augmentation="flip_crop")
    assert [*splits.splits] == ["train", "valid", "valid_for_training"]
    assert labels(splits, "valid_for_training") == labels(splits, "valid")
    cropped: Any = splits.splits["valid_for_training"]
    assert (cropped._crops, cropped._files) == (True, splits.splits["valid"]._files)  # type: ignore[attr-defined]


def test_random_crops_are_inside_the_image_with_areas_and_ratios_in_their_ranges():
    np.random.seed(0)
    boxes = np.array([random_box(400, 300) for _ in range(4000)])
    left, upper, right, lower = boxes.T
    assert left.min() == 0
    assert upper.min() == 0
    assert right.max() == 400
    assert lower.max() == 300
    shares, ratios = (right - left) * (lower - upper) / 120_000, (right - left) / (lower - upper)
    assert shares.min() > 0.078
    assert 0.74 < ratios[shares < 1].min() < 0.78
    assert 1.29 < ratios[shares < 1].max() < 1.35
    small = shares < 0.5  # such parts always fit, so that their areas are uniform
    assert np.mean(shares[small]) == pytest.approx((0.08 + 0.5) / 2, abs=0.01)
    assert np.mean(np.log(ratios[small])) == pytest.approx(0, abs=0.01)
    assert random_box(1000, 1) == (0, 0, 1000, 1)


def test_a_crop_depends_on_the_global_generator_alone_and_half_of_them_are_flipped(tmp_path: Path):
    write_image_files(tmp_path, TWO)
    ramp = np.broadcast_to(np.arange(0, 250, 10, dtype=np.uint8)[None, :, None], (25, 25, 3))
    (tmp_path / "train" / "cat" / "0.png").write_bytes(png(Image.fromarray(np.ascontiguousarray(ramp))))
    train = image_splits(tmp_path, augmentation="flip_crop", image_size=8).splits["train"]
    np.random.seed(3)
    first = [train[0][0] for _ in range(200)]
    np.random.seed(3)
    assert all(torch.equal(image, train[0][0]) for image in first)
    flipped = [bool(image[0, 0, 0] > image[0, 0, -1]) for image in first]
    assert 70 < sum(flipped) < 130


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": {}}, "train: expected a folder for each class, found none"),
        ({"train": {"cat": 1, "dog": 0}}, "train/dog: expected image files (.jpg, .jpeg, .png), found none"),
        (TWO | {"val": {"cat": 1, "hen": 1}}, "val: expected the classes of training, got 'hen' too"),
    ],
)
def test_folders_that_do_not_fit_are_named(tmp_path: Path, splits: dict[str, dict[str, int]], message: str):
    (tmp_path / "train").mkdir()
    write_image_files(tmp_path, splits)
    assert message in refusal(tmp_path)


def test_validation_images_in_one_folder_are_explained(tmp_path: Path):
    write_image_files(tmp_path, TWO)
    flat = tmp_path / "flat"
    write_image_files(flat, {"train": {"cat": 1}})
    (flat / "val").mkdir()
    (flat / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    assert "flat/val: expected a folder for each class, found none" in refusal(flat)
    assert "valprep.sh" in refusal(flat)


def test_test_images_without_labels_are_left_out_and_said(tmp_path: Path):
    write_image_files(tmp_path, TWO)
    (tmp_path / "test").mkdir()
    data_notes.taken()
    assert list(image_splits(tmp_path).splits) == ["train", "valid"]
    (note,) = data_notes.taken()
    assert "their images have no labels" in note or "its images have no labels" in note


def test_hidden_and_other_files_are_no_images(tmp_path: Path):
    write_image_files(tmp_path, TWO)
    for name in ("._0.png", "notes.txt", "1.JPG.part"):
        (tmp_path / "train" / "cat" / name).write_bytes(b"")
    (tmp_path / "train" / ".DS_Store").mkdir()
    assert len(labels(image_splits(tmp_path, image_size=2), "train")) == 5


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_image_files(tmp_path, TWO)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert re.search(r"Pillow, which is not installed: pip install .*\[images\]", refusal(tmp_path))
