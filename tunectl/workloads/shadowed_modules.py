"""Files of the user with the name of a module that is loaded already, which an import gives instead of the file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

_MAX_LINES = 5


def shadowed(folders: Sequence[str], loaded: Mapping[str, ModuleType] | None = None) -> list[str]:
    """A line for each file or package in these folders that a loaded module from elsewhere hides; the first five.

    A script that Python runs would get the file, since its folder comes before installed packages. Here torch, NumPy
    and tunectl are imported before the user's folders are on the path.
    """
    modules = sys.modules if loaded is None else loaded
    lines = []
    for folder in folders:
        for name, file in sorted(_modules_in(folder)):
            module = modules.get(name)
            origin = getattr(module, "__file__", None)
            if module is None or not isinstance(origin, str) or _is_same(file, origin):
                continue
            lines.append(
                f"{file} has the name of a module that is loaded already, {origin}: `import {name}` gives that module; "
                "rename the file to import it"
            )
    return lines[:_MAX_LINES]


def _modules_in(folder: str) -> list[tuple[str, str]]:
    """The modules in a folder: name and file of each."""
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
