"""Which reader is for which data: a name, or what is at a path."""

from __future__ import annotations

import functools
import tarfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tunectl.core.errors import WorkloadError
from tunectl.core.path_errors import path_error
from tunectl.workloads.data import packaged_images
from tunectl.workloads.data.augmentation import AUGMENTATIONS
from tunectl.workloads.data.cifar import HOME, RELEASES, Release, read_cifar
from tunectl.workloads.data.data_paths import Content, content, existing, listed
from tunectl.workloads.data.downsampled_imagenet import is_downsampled, read_downsampled
from tunectl.workloads.data.idx_files import idx_sets, read_idx
from tunectl.workloads.data.image_folders import (
    decoded_as,
    is_image_folder,
    is_split_of_image_folder,
    read_image_folders,
)
from tunectl.workloads.data.image_splits import ImageSplits
from tunectl.workloads.keyword_checks import check_choice, check_count

ARCHIVES = (".tar.gz", ".tgz", ".tar")

EXPECTED = (
    "expected 'digits', 'mnist', or a path to CIFAR-10 or CIFAR-100 (binary or for Python, unpacked or .tar.gz; "
    f"{HOME}), MNIST's IDX files, downsampled ImageNet's .npz parts, or train/ and val/ with a folder for each class"
)

_MOST_ARCHIVED_BYTES = 2**28  # CIFAR-100's training file, the largest, has 154 MB
_READ_AT_ONCE = 2**20

Reader = Callable[[], ImageSplits]


def image_splits(data: str | Path, *, augmentation: str = "none", image_size: int | None = None) -> ImageSplits:
    """The images of `data`, in splits: "digits", "mnist", or a path; a process reads each of them once.

    `~` is expanded, and a relative path is searched in the folders of the workload, then in the current one. Where the
    path has nothing that can be read but one folder in it has, or one archive, that is meant. `image_size` is the side
    of the squares that image files become (None: 224 pixels). With the `augmentation` "flip_crop" image files are
    flipped and cropped where they are read; `image_classification` does it for images in memory.

    Raises WorkloadError where nothing is there that can be read, or what is there is damaged, ValueError where another
    keyword is wrong.
    """
    check_choice("augmentation", augmentation, AUGMENTATIONS)
    if not isinstance(data, (str, Path)):
        raise ValueError(f"data: {EXPECTED}, got {data!r}")
    if image_size is not None:
        check_count("image_size", image_size, 1)
    splits = decoded_as(_of(data), image_size, crops=augmentation == "flip_crop")
    if image_size is not None and (splits.height, splits.width) != (image_size, image_size):
        raise ValueError(
            f"image_size: only image files are resized; {data} has images of {splits.height}x{splits.width} pixels"
        )
    return splits


def _of(data: str | Path) -> ImageSplits:
    match data:
        case "digits":
            return _digits()
        case "mnist":
            return _mnist()
    return _at(existing(data, EXPECTED))


_digits = functools.cache(packaged_images.digits)
_mnist = functools.cache(packaged_images.mnist)


@functools.cache
def _at(path: Path) -> ImageSplits:
    if not path.is_dir():
        return _file_reader(path)()
    readers = _readers(path) or _readers_below(path)
    if len(readers) > 1:
        raise WorkloadError(
            f"{path}: expected one data set, found several: {listed(sorted(readers))}; name one of them"
        )
    if not readers:
        found = Content.of(path)
        if is_split_of_image_folder(path.name, Content.of(path.parent).folders):
            raise WorkloadError(f"{path}: expected the folder that has train/ and val/; name its parent, {path.parent}")
        raise WorkloadError(f"{path}: {EXPECTED}; found {listed([*found.folders, *found.files])}")
    (reader,) = readers.values()
    return reader()


def _readers(folder: Path) -> dict[str, Reader]:
    """The reader of each data set whose files are in a folder itself, by what it is."""
    found = Content.of(folder)
    readers: dict[str, Reader] = {}
    for release in RELEASES:
        if set(release.files) & set(found.files):
            files = {name: partial(content, folder / name) for name in release.files if name in found.files}
            readers[release.name] = partial(read_cifar, release, files, str(folder))
    for idx in idx_sets(found.files):
        readers[idx.name or "IDX files"] = partial(read_idx, idx, lambda name: content(folder / name), str(folder))
    if is_downsampled(found.files):
        readers["parts of downsampled ImageNet"] = partial(read_downsampled, folder, found.files)
    if is_image_folder(found.folders):
        readers["train/"] = partial(read_image_folders, folder, found.folders)
    return readers


def _readers_below(folder: Path) -> dict[str, Reader]:
    """The readers of the folders in a folder; of its archives only where no folder has one."""
    found = Content.of(folder)
    below: dict[str, Reader] = {}
    unread: WorkloadError | None = None
    for name in found.folders:
        try:
            below |= {f"{name} ({what})": read for what, read in _readers(folder / name).items()}
        except WorkloadError as error:  # it may not be listed, and may have nothing to do with the data
            unread = error
    if below:
        return below
    archives = {release.archive for release in RELEASES} & set(found.files)
    if unread is not None and not archives:
        raise unread
    return {name: _file_reader(folder / name) for name in archives}


def _file_reader(path: Path) -> Reader:
    if path.is_file() and path.name.lower().endswith(ARCHIVES):
        return partial(_read_archive, path)
    if path.is_file() and path.parent != path:
        return partial(_refuse_file, path)
    raise WorkloadError(f"{path}: expected a folder or a file, got another kind of path; {EXPECTED}")


def _refuse_file(path: Path) -> ImageSplits:
    inside = _readers(path.parent)
    remedy = f"name its folder, {path.parent}" if inside else EXPECTED
    raise WorkloadError(f"{path}: expected a folder, or an archive ({', '.join(ARCHIVES)}), got a file; {remedy}")


def _read_archive(path: Path) -> ImageSplits:
    """CIFAR from its archive, as it was downloaded; nothing is written to the disk."""
    known = {name for release in RELEASES for name in release.files}
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isfile() and name in known and member.size <= _MOST_ARCHIVED_BYTES:
                    opened = archive.extractfile(member)
                    assert opened is not None
                    files[name] = opened.read()
            # To the end, where gzip has its checksum: tarfile stops before it.
            while archive.fileobj is not None and archive.fileobj.read(_READ_AT_ONCE):
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise path_error(path, "read", error, WorkloadError) from error
        reason = str(error).partition("\n")[0].rstrip(":")
        raise WorkloadError(
            f"{path}: it is incomplete, damaged or no archive ({reason}); get it again from {HOME}"
        ) from error
    return read_cifar(_release_of(files, path), _reading(files), str(path))


def _reading(files: Mapping[str, bytes]) -> dict[str, Callable[[], bytes]]:
    return {name: partial(files.__getitem__, name) for name in files}


def _release_of(files: Mapping[str, bytes], path: Path) -> Release:
    release = next((release for release in RELEASES if set(release.files) & set(files)), None)
    if release is None:
        raise WorkloadError(f"{path}: expected an archive of CIFAR-10 or CIFAR-100 ({HOME}), found none of its files")
    return release
