"""The files of the user that loading a workload imports, besides the one that the study names."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType

_OWN = Path(__file__).parents[1]
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def imported_files(before: Collection[str], loaded: Mapping[str, ModuleType] | None = None) -> list[str]:
    """The source files of the modules that were loaded since those named `before`, without Python's, installed and
    tunectl's own ones.
    """
    places = [_OWN, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))]
    found = set()
    for name, module in list((sys.modules if loaded is None else loaded).items()):
        file = None if name in before else getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        path = Path(file).absolute()
        if not (_INSTALLED.intersection(path.parts) or any(path.is_relative_to(place) for place in places)):
            found.add(str(path))
    return sorted(found)
