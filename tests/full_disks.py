"""A disk that is full under the files of one name."""

from __future__ import annotations

import os

import pytest

from tunectl.core import files


def fill_disk_under(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let every write of a file of that name fail as on a full disk."""
    make = files._new_temporary

    def made(target: str, folder: int) -> tuple[str, int]:
        temporary, descriptor = make(target, folder)
        if target == name:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, descriptor)
            os.close(full)
        return temporary, descriptor

    monkeypatch.setattr(files, "_new_temporary", made)
