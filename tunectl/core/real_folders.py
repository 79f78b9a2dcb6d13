"""Working in folders that may come from other people without following links: no part of a path may be one.

Everything is done through the descriptor of the folder that was checked, so that a link that replaces it later is not
followed either.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
# O_PATH also opens a folder that may not be listed.

_KINDS = {
    stat.S_IFLNK: "a link, and no link inside a study folder is followed",
    stat.S_IFIFO: "a named pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}


class NotRegularError(OSError):
    """There is a link, a named pipe, a device or a socket instead of a file or a folder; the message says which."""


def not_regular(mode: int, path: Path, *, is_part: bool = False) -> NotRegularError:
    """The error for what is at `path`, by its mode; `is_part` if `path` is only a part of the path that was given."""
    kind = _KINDS.get(stat.S_IFMT(mode), "not a file")
    return NotRegularError(errno.ELOOP, f"{path if is_part else 'it'} is {kind}", os.fspath(path))


@contextlib.contextmanager
def opened(folder: Path, within: Path | None = None) -> Iterator[int]:
    """A descriptor of `folder`, for calls with a `dir_fd`; no part of its path below `within` may be a link.

    Without `within` links are followed. Raises OSError, NotRegularError for a link.
    """
    descriptor = os.open(folder if within is None else within, _FOLDER)
    try:
        place = within or folder
        for name in () if within is None else _parts(folder, within):
            place /= name
            inner = _inner(descriptor, name, place)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _parts(path: Path, within: Path) -> tuple[str, ...]:
    parts = path.relative_to(within).parts
    if ".." in parts:
        raise OSError(errno.EINVAL, f"its path leads out of {within}", os.fspath(path))
    return parts


def _inner(descriptor: int, name: str, place: Path) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            raise
        raise not_regular(mode, place, is_part=True) from None


def names(folder: Path, within: Path | None = None) -> list[str]:
    """The names in a folder, in no order; asks the file server anew. Raises OSError, NotRegularError for a link."""
    with opened(folder, within) as descriptor:
        return names_in(descriptor)


def names_in(folder: int) -> list[str]:
    """The names in a folder that is open."""
    listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.listdir(listed)  # noqa: PTH208  (a descriptor)
    finally:
        os.close(listed)


def made(folder: Path, within: Path, *, exist_ok: bool = True, inside: Path | None = None) -> None:
    """Create `folder` and its missing parents below `within`; raises OSError, NotRegularError for a link.

    With `inside`, a folder below `within`, only what is below that is created: FileNotFoundError if it is gone.
    """
    parts = _parts(folder, within)
    there = 0 if inside is None else len(_parts(inside, within))
    for index, name in enumerate(parts[there:], start=there + 1):
        is_last = index == len(parts)
        with opened(within.joinpath(*parts[: index - 1]), within) as parent:
            try:
                os.mkdir(name, dir_fd=parent)
            except FileExistsError:
                if is_last and not exist_ok:
                    raise
    with opened(folder, within):
        pass  # checks that it is a folder and not a link


def remove(path: Path, within: Path) -> None:
    """Remove a file, or a link without its target, if there is one.

    Raises OSError, also for a folder, and NotRegularError if a part of the path is a link.
    """
    with contextlib.suppress(FileNotFoundError), opened(path.parent, within) as parent:
        os.unlink(path.name, dir_fd=parent)


def remove_all(path: Path, within: Path) -> None:
    """Remove a folder with its content; a file or a link as `remove` does."""
    with contextlib.suppress(FileNotFoundError), opened(path.parent, within) as parent:
        if stat.S_ISDIR(os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mode):
            shutil.rmtree(path.name, dir_fd=parent)
        else:
            os.unlink(path.name, dir_fd=parent)


def remove_empty(path: Path, within: Path) -> None:
    """Remove an empty folder; raises OSError, also if it is not empty, and NotRegularError for a link."""
    with opened(path.parent, within) as parent:
        os.rmdir(path.name, dir_fd=parent)


def remove_names(folder: Path, names: Iterable[str], within: Path) -> None:
    """Remove these files of a folder, in this order, as far as they are there; raises OSError as `remove` does."""
    with opened(folder, within) as descriptor:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=descriptor)


def move(path: Path, to: Path, within: Path) -> None:
    """Rename a file or a folder; both paths must be below `within`. Raises OSError, NotRegularError for a link.

    A file server may do what it is asked for and its answer be lost: the client then asks again, and hears that there
    is nothing to rename. So after an error it counts whether the file is at its new place.
    """
    with opened(path.parent, within) as source, opened(to.parent, within) as target:
        status = os.stat(path.name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise not_regular(status.st_mode, path)
        try:
            os.rename(path.name, to.name, src_dir_fd=source, dst_dir_fd=target)
        except OSError:
            if not is_at(to.name, target, status):
                raise


def replace_link(link: Path, target: str, within: Path) -> None:
    """Let a link have another target; raises OSError, NotRegularError if a part of the link's path is a link."""
    new = f".{link.name}.{os.getpid()}.tmp"
    with opened(link.parent, within) as folder:
        os.symlink(target, new, dir_fd=folder)
        try:
            os.replace(new, link.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(new, dir_fd=folder)
            raise


def is_at(name: str, folder: int, status: os.stat_result) -> bool:
    """Whether the file or folder of this status has this name in a folder that is open."""
    try:
        return os.path.samestat(status, os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return False
