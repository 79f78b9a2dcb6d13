"""Files of the user's that are called like a module which is loaded already: an import gives that one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

_MOST_TOLD = 5


def shadowed(folders: Sequence[str], loaded: Mapping[str, ModuleType] | None = None) -> list[str]:
    """A sentence for each file or package in these folders whose name a module from elsewhere has, the first ones.

    What is in the folders comes before what is installed, so that a script run by Python would get it; here torch,
    NumPy and tunectl are loaded before a folder of the user's is looked in.
    """
    modules = sys.modules if loaded is None else loaded
    told = []
    for folder in folders:
        for name, file in sorted(_modules_in(folder)):
            module = modules.get(name)
            origin = getattr(module, "__file__", None)
            if module is None or not isinstance(origin, str) or _is_same(file, origin):
                continue
            told.append(
                f"{file} has the name of a module that is loaded already, {origin}: `import {name}` gives that one; "
                "rename the file if it is the one that is meant"
            )
    return told[:_MOST_TOLD]


def _modules_in(folder: str) -> list[tuple[str, str]]:
    """The modules in a folder by their names, with their files."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name, ending = os.path.splitext(entry.name)  # noqa: PTH122  (a folder may hold very many)
                package = Path(entry.path, "__init__.py")
                if ending == ".py":
                    found.append((name, entry.path))
                elif not ending and name.isidentifier() and entry.is_dir() and package.is_file():
                    found.append((name, str(package)))
    except OSError:
        return found
    return found


def _is_same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False
