"""The releases of CIFAR in their exact formats, made by image_files.py. Tests cifar.py and array_pickles.py."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import image_files
import numpy as np
import pytest
import torch
from image_files import cifar_pickle, labels_of, python2_pickle, records, some_images
from torch_parts import tensors_of

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data import data_notes
from tunectl.workloads.data.image_data import image_splits
from tunectl.workloads.data.image_splits import ImageSplits


def refusal(folder: Path) -> str:
    with pytest.raises(WorkloadError) as caught:
        image_splits(folder)
    return str(caught.value)


def pixels_of(splits: ImageSplits, *names: str) -> list[bytes]:
    return sorted(image.numpy().tobytes() for name in names for image in tensors_of(splits.splits[name])[0])


@pytest.mark.parametrize("write", [image_files.write_cifar10_binary, image_files.write_cifar10_python])
def test_both_releases_of_cifar_10_give_their_images_and_labels(tmp_path: Path, write: Callable[[Path], Any]):
    written = write(tmp_path / "cifar")
    splits = image_splits(tmp_path / "cifar")
    *train, test = written.values()
    assert pixels_of(splits, "train", "valid") == sorted(row.tobytes() for rows in train for row in rows)
    images, labels = tensors_of(splits.splits["test"])
    assert images.shape == (4, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert np.array_equal(images.numpy().reshape(4, -1), test)
    assert labels.tolist() == [0, 1, 2, 3]
    assert labels.dtype == torch.int64
    assert (splits.channels, splits.height, splits.width, splits.classes) == (3, 32, 32, 10)


def test_a_label_stays_with_its_image(tmp_path: Path):
    written = image_files.write_cifar10_binary(tmp_path)
    label_of = {row.tobytes(): label for rows in written.values() for label, row in enumerate(rows)}
    for split in image_splits(tmp_path).splits.values():
        for image, label in zip(*tensors_of(split), strict=True):
            assert label_of[image.numpy().tobytes()] == label


def test_a_tenth_of_training_is_held_out_and_is_the_same_in_both_releases(tmp_path: Path):
    image_files.write_cifar10_binary(tmp_path / "bin", 6)
    image_files.write_cifar10_python(tmp_path / "py", 6)
    one, other = image_splits(tmp_path / "bin"), image_splits(tmp_path / "py")
    assert [len(tensors_of(one.splits[name])[1]) for name in ("train", "valid", "test")] == [27, 3, 6]
    for name in ("train", "valid", "test"):
        assert torch.equal(tensors_of(one.splits[name])[0], tensors_of(other.splits[name])[0])


def test_mean_deviation_and_label_shares_are_those_of_the_training_images(tmp_path: Path):
    image_files.write_cifar10_binary(tmp_path)
    splits = image_splits(tmp_path)
    images, labels = (tensor.double().numpy() for tensor in tensors_of(splits.splits["train"]))
    assert splits.mean == pytest.approx(images.mean(axis=(0, 2, 3)))
    assert splits.deviation == pytest.approx(images.std(axis=(0, 2, 3)))
    assert splits.label_shares == pytest.approx([np.mean(labels == label) for label in range(10)])


def test_cifar_100_is_read_with_its_fine_labels(tmp_path: Path):
    image_files.write_cifar100_binary(tmp_path / "bin", 30)
    splits = image_splits(tmp_path / "bin")
    assert splits.classes == 100
    assert tensors_of(splits.splits["test"])[1].tolist() == list(range(30))
    (tmp_path / "py").mkdir()
    for name in ("train", "test"):
        (tmp_path / "py" / name).write_bytes(cifar_pickle(some_images(30), labels_of(30, 100), "fine_labels"))
    assert tensors_of(image_splits(tmp_path / "py").splits["test"])[1].tolist() == list(range(30))


@pytest.mark.parametrize("size", [1, 3072, 3073 * 4 - 1, 3073 * 3 + 1])
def test_a_file_that_is_no_whole_number_of_records_is_refused(tmp_path: Path, size: int):
    image_files.write_cifar10_binary(tmp_path)
    whole = (tmp_path / "data_batch_3.bin").read_bytes()
    (tmp_path / "data_batch_3.bin").write_bytes(whole[:size])
    assert f"{tmp_path}/data_batch_3.bin: expected records of 3,073 bytes, got {size:,} bytes" in refusal(tmp_path)
    assert "get cifar-10-binary.tar.gz from https://www.cs.toronto.edu/" in refusal(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path):
    image_files.write_cifar10_binary(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"")
    assert f"{tmp_path}/test_batch.bin: it is empty; get cifar-10-binary.tar.gz" in refusal(tmp_path)


def test_a_file_that_ends_with_a_whole_record_is_refused_where_the_others_have_more(tmp_path: Path):
    image_files.write_cifar10_binary(tmp_path)
    whole = (tmp_path / "data_batch_3.bin").read_bytes()
    (tmp_path / "data_batch_3.bin").write_bytes(whole[: 2 * 3073])
    assert "data_batch_3.bin: expected 4 images, as the largest training file has, got 2" in refusal(tmp_path)


def test_fewer_images_than_the_release_has_are_read_and_said(tmp_path: Path):
    image_files.write_cifar10_binary(tmp_path)
    data_notes.taken()
    image_splits(tmp_path)
    (note,) = data_notes.taken()
    assert note == f"{tmp_path}: the binary release of CIFAR-10 has 50,000 training images, these files have 20"


def test_a_missing_file_is_named_with_those_that_are_there(tmp_path: Path):
    image_files.write_cifar10_python(tmp_path)
    (tmp_path / "data_batch_4").unlink()
    assert "CIFAR-10 for Python lacks data_batch_4 (found data_batch_1, data_batch_2" in refusal(tmp_path)


def test_a_label_that_no_class_has_is_refused_with_its_image(tmp_path: Path):
    image_files.write_cifar10_binary(tmp_path / "bin")
    (tmp_path / "bin" / "data_batch_2.bin").write_bytes(records([0, 1, 10, 3], some_images(4)))
    assert "data_batch_2.bin: image 2: expected a label from 0 to 9, got 10" in refusal(tmp_path / "bin")
    image_files.write_cifar10_python(tmp_path / "py")
    for label in (-1, 10, 2**40):
        (tmp_path / "py" / "test_batch").write_bytes(pickle.dumps(_python3([0, 1, 2, label]), protocol=2))
        assert f"image 3: expected a label from 0 to 9, got {label}" in refusal(tmp_path / "py")


def test_a_coarse_label_that_no_class_has_is_refused_too(tmp_path: Path):
    image_files.write_cifar100_binary(tmp_path, 20)
    (tmp_path / "test.bin").write_bytes(records([20] * 20, labels_of(20), some_images(20)))
    assert "test.bin: image 0: expected a label from 0 to 19, got 20" in refusal(tmp_path)


def _python3(labels: Any) -> dict[bytes, Any]:
    return {b"data": some_images(4), b"labels": labels}


def test_the_file_made_here_is_what_pickle_reads_as_the_release(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy.core has another name since NumPy 2
        found = pickle.loads(cifar_pickle(some_images(4), labels_of(4)), encoding="bytes")
    assert list(found) == [b"batch_label", b"labels", b"data", b"filenames"]
    assert np.array_equal(found[b"data"], some_images(4))
    assert found[b"labels"] == [0, 1, 2, 3]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_file_pickled_again_by_python_3_is_read(tmp_path: Path, protocol: int):
    image_files.write_cifar10_python(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps(_python3(labels_of(4)), protocol=protocol))
    assert np.array_equal(tensors_of(image_splits(tmp_path).splits["test"])[0].numpy().reshape(4, -1), some_images(4))


class Calls:
    """Pickled as a call of `function` with these arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("system", Calls(os.system, "mkdir made")),
        ("eval", Calls(eval, "__import__('os').mkdir('made')")),
        ("exec", Calls(exec, "import os; os.mkdir('made')")),
        ("getattr", Calls(getattr, "a", "upper")),
        ("mkdir", Calls(os.mkdir, "made")),
        ("fromfile", Calls(np.fromfile, "made")),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_would_call_anything_is_refused_and_calls_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: Calls, protocol: int
):
    monkeypatch.chdir(tmp_path)
    image_files.write_cifar10_python(tmp_path / "py")
    for content in ({"data": call}, [call], {"labels": [call]}):
        (tmp_path / "py" / "data_batch_1").write_bytes(pickle.dumps(content, protocol=protocol))
        assert f".{name}, and nothing but arrays is read from a pickle" in refusal(tmp_path / "py")
    assert not (tmp_path / "made").exists()


_ENCODE = b"c_codecs\nencode\n"
_DTYPE = b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"cos\nsystem\n(U\x04truetR.", "it asks for os.system"),
        (b"(U\x04truecos\nsystem\no.", "it asks for os.system"),
        (b"(ios\nsystem\n.", "it asks for os.system"),
        (b"ccopy_reg\n_reconstructor\n.", "it asks for copy_reg._reconstructor"),
        (b"cnumpy.core.multiarray\nscalar\n.", "it asks for numpy.core.multiarray.scalar"),
        (_ENCODE + b"(X\x01\x00\x00\x00aX\x03\x00\x00\x00zlbtR.", "expected bytes as latin1, got 'zlb'"),
        (_ENCODE + b"}X\x01\x00\x00\x00aK\x01sb.", "it changes a function"),
        (_DTYPE + b"(U\x01OtR.", "expected an array of numbers, got one of the type 'O'"),
        (b"cnumpy\nndarray\n(K\x01tR.", "TypeError"),
        (b"U\x02idP1\n.", "damaged"),
        (b"\x82\x01.", "damaged"),
        (b"K\x05.", "expected a dict, got a int"),
        (b"}.", "expected 'data' in it, got nothing"),
        (b"", "damaged or incomplete (EOFError"),
    ],
)
def test_no_opcode_of_a_pickle_reaches_anything_but_arrays(tmp_path: Path, opcodes: bytes, message: str):
    image_files.write_cifar10_python(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02" + opcodes)
    assert message in refusal(tmp_path)


def test_a_pickle_that_is_cut_off_anywhere_is_refused(tmp_path: Path):
    image_files.write_cifar10_python(tmp_path)
    whole = (tmp_path / "data_batch_1").read_bytes()
    for size in [*range(0, 300, 7), len(whole) // 2, len(whole) - 1]:
        (tmp_path / "data_batch_1").write_bytes(whole[:size])
        assert f"{tmp_path}/data_batch_1: it is damaged or incomplete" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (cifar_pickle(some_images(4, width=3071), labels_of(4)), "data: expected uint8, shape [N, 3072]"),
        (cifar_pickle(some_images(4).astype(np.int32), labels_of(4)), "got int32, shape [4, 3072]"),
        (cifar_pickle(some_images(4), labels_of(3)), "expected a label for each image, got 3 for 4 images"),
        (cifar_pickle(some_images(0), []), "got 0 for 0 images"),
        (cifar_pickle(some_images(4), ["a", "b", "c", "d"]), "labels: expected a list of whole numbers"),
        (cifar_pickle(some_images(4), "abcd"), "labels: expected a list of whole numbers"),
        (cifar_pickle(some_images(4), labels_of(4), data=[1, 2]), "got list"),
        (cifar_pickle(some_images(4), labels_of(4), "fine_labels"), "expected 'labels' in it"),
        (python2_pickle([1]), "expected a dict, got a list"),
    ],
)
def test_a_pickle_with_other_content_is_refused(tmp_path: Path, content: bytes, message: str):
    image_files.write_cifar10_python(tmp_path)
    (tmp_path / "data_batch_5").write_bytes(content)
    assert message in refusal(tmp_path)


def test_an_array_whose_bytes_do_not_fill_its_shape_is_refused(tmp_path: Path):
    image_files.write_cifar10_python(tmp_path)
    whole = (tmp_path / "data_batch_5").read_bytes()
    (tmp_path / "data_batch_5").write_bytes(whole.replace(b"(K\x04J\x00\x0c\x00\x00t", b"(K\x05J\x00\x0c\x00\x00t"))
    assert "expected the bytes of an array of shape [5, 3072], got 12,288" in refusal(tmp_path)
