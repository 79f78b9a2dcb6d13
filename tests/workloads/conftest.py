"""A study's folder, with files in it that must not be imported."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from tunectl.core.errors import WorkloadError
from tunectl.workloads.workload_reference import parse_reference, read_signature

# Whatever is imported by mistake says so.
_BOMB = "raise RuntimeError('imported')\n"


class Folder:
    """A study's folder with files in it, and what `check` reads there."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def write(self, name: str, text: str = "", *, bomb: bool = True) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((_BOMB if bomb else "") + textwrap.dedent(text), encoding="utf-8")
        return file

    def read(self, text: str):
        return read_signature(parse_reference(text, self.path / "study.yaml", self.path))

    def refuse(self, text: str) -> str:
        with pytest.raises(WorkloadError) as caught:
            self.read(text)
        assert text in str(caught.value)
        return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    before = set(sys.modules)
    yield Folder(tmp_path)
    assert {name for name in set(sys.modules) - before if "stub" in name} == set()
