"""Which files of the user loading a workload imports."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np

import tunectl.core
from tunectl.workloads.imported_files import imported_files


def module(file: str | None) -> ModuleType:
    made = ModuleType("made")
    made.__file__ = file
    return made


def test_only_files_of_the_user_that_were_imported_now_are_named(tmp_path: Path) -> None:
    mine, earlier = str(tmp_path / "mine.py"), str(tmp_path / "earlier.py")
    loaded = {
        "mine": module(mine),
        "__mp_main__": module(mine),
        "earlier": module(earlier),
        "compiled": module(str(tmp_path / "compiled.so")),
        "namespace": module(None),
        "json": json,
        "numpy": np,
        "tunectl.core": tunectl.core,
    }
    assert imported_files({"earlier"}, loaded) == [mine]
