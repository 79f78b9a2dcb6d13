"""scripts/late_folder.c: what others do shows later, what a host does itself at once; a full disk takes no more."""

from __future__ import annotations

import errno
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LONG = 1e6

ANSWERS = """
import os, sys
for line in sys.stdin:
    try:
        answer = eval(line)
    except OSError as error:
        answer = error.errno
    print(repr(answer), flush=True)
"""


@pytest.fixture
def late_folder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("late_folder")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "study"
    (made / "offered" / "00001").mkdir(parents=True)
    (made / "offered" / "00001" / "file").write_text("one")
    (made / "claimed").mkdir()
    return made


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        try:
            return Path(importlib.import_module("late_folder").compiled(tmp_path_factory.mktemp("library")))
        except SystemExit as error:
            pytest.skip(str(error))


@pytest.fixture
def host(late_folder: ModuleType, library: Path, folder: Path, tmp_path: Path) -> Any:
    made = late_folder.LateHost(library, tmp_path / "state", folder, contents=True)
    made.make()
    return made


@pytest.fixture
def asked(host: Any, folder: Path) -> Iterator[Callable[[str], object]]:
    """A process of the host, which answers an expression; FOLDER in it is the folder."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", ANSWERS],
        env={**os.environ, **host.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = process.stdin, process.stdout

        def ask(expression: str) -> object:
            lines[0].write(expression.replace("FOLDER", str(folder)) + "\n")
            lines[0].flush()
            return eval(lines[1].readline())

        yield ask
        process.stdin.close()


def test_what_others_do_shows_later_and_then_at_once(host: Any, folder: Path, asked: Callable[[str], object]) -> None:
    seen = (
        "os.listdir('FOLDER/offered')",
        "os.path.exists('FOLDER/offered/00001/file')",
        "os.listdir('FOLDER/claimed')",
    )
    assert [asked(look) for look in seen] == [["00001"], True, []]
    assert asked("open('FOLDER/offered/00001/file').read()") == "one"
    host.set_delay(LONG)
    (folder / "offered" / "00002").mkdir()
    (folder / "offered" / "00001" / "other").touch()
    (folder / "offered" / "00001" / "file").write_text("changed")
    (folder / "offered" / "00001").rename(folder / "claimed" / "00001.it")
    # The new entries are hidden; the renamed folder is where it was, and leads to the same folder.
    assert [asked(look) for look in seen] == [["00001"], True, []]
    assert asked("os.path.exists('FOLDER/offered/00002')") is False
    assert asked("open('FOLDER/offered/00001/other').read()") == errno.ENOENT
    assert asked("open('FOLDER/offered/00001/file').read()") == "one"
    assert asked("open('FOLDER/offered/00001/mine', 'w').write('x')") == 1
    assert (folder / "claimed" / "00001.it" / "mine").read_text() == "x"
    # The server does what changes names, and knows the truth.
    assert asked("os.rename('FOLDER/offered/00001', 'FOLDER/claimed/00001.me')") == errno.ENOENT
    assert asked("os.listdir('FOLDER/offered')") == []
    assert asked("os.mkdir('FOLDER/offered/00002')") == errno.EEXIST
    assert asked("os.listdir('FOLDER/offered')") == ["00002"]
    counts = host.counts()
    assert min(counts["hidden"], counts["still there"], counts["earlier content"]) > 0
    assert counts["forgotten"] == counts["disk full"] == 0


def test_a_host_has_a_boot_id_of_its_own(host: Any, asked: Callable[[str], object]) -> None:
    boot = "open('/proc/sys/kernel/random/boot_id').read()"
    mine, here = asked(boot), Path("/proc/sys/kernel/random/boot_id").read_text()
    assert len(str(mine)) == len(here)
    assert mine == asked(boot) != here
    host.make()  # another host
    assert mine != asked(boot)


def test_what_a_host_does_itself_shows_at_once_and_what_is_old_is_there(
    host: Any, folder: Path, asked: Callable[[str], object]
) -> None:
    assert asked("os.listdir('FOLDER/offered') + os.listdir('FOLDER/claimed')") == ["00001"]
    assert asked("open('FOLDER/offered/00001/file').read()") == "one"
    host.set_delay(LONG)
    assert asked("os.rename('FOLDER/offered/00001', 'FOLDER/claimed/00001.me')") is None
    assert asked("os.listdir('FOLDER/offered')") == []
    assert asked("os.listdir('FOLDER/claimed')") == ["00001.me"]
    assert asked("open('FOLDER/claimed/00001.me/file').read()") == "one"
    assert asked("open('FOLDER/claimed/00001.me/file', 'a').write(' and two')") == 8
    assert asked("open('FOLDER/claimed/00001.me/file').read()") == "one and two"
    for made in ("symlink('file', ", "link('FOLDER/claimed/00001.me/file', ", "mkdir("):
        assert asked(f"os.{made}'FOLDER/claimed/00001.me/made')") is None
        assert asked("os.path.lexists('FOLDER/claimed/00001.me/made')") is True
        remove = "rmdir" if made == "mkdir(" else "unlink"
        assert asked(f"os.{remove}('FOLDER/claimed/00001.me/made')") is None
    assert asked("os.unlink('FOLDER/claimed/00001.me/file')") is None
    assert asked("os.path.lexists('FOLDER/claimed/00001.me/file')") is False
    assert asked("os.listdir('FOLDER/claimed/00001.me')") == []
    assert sum(host.counts().values()) == 0


def test_on_a_full_disk_no_file_grows_and_none_is_made(
    host: Any, folder: Path, asked: Callable[[str], object], tmp_path: Path
) -> None:
    growing = "os.write(os.open('FOLDER/offered/00001/file', os.O_WRONLY | os.O_APPEND), b'more')"
    in_place = "os.pwrite(os.open('FOLDER/offered/00001/file', os.O_WRONLY), b'O', 0)"
    host.fill_disk(full=True)
    made = ("os.open('FOLDER/offered/new', os.O_WRONLY | os.O_CREAT)", "os.mkdir('FOLDER/offered/new')")
    assert [asked(call) for call in (growing, *made)] == [errno.ENOSPC] * 3
    assert asked(in_place) == 1
    assert asked("os.rename('FOLDER/offered/00001', 'FOLDER/claimed/00001')") is None
    assert asked(f"open({str(tmp_path / 'elsewhere')!r}, 'w').write('room')") == 4
    host.fill_disk(full=False)
    assert asked(growing.replace("offered", "claimed")) == 4
    assert (folder / "claimed" / "00001" / "file").read_text() == "Onemore"
    assert host.counts()["disk full"] == 3
