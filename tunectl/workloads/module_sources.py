"""Finds the source file of a module without importing the module or its parents."""

from __future__ import annotations

import keyword
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from tunectl.core.errors import WorkloadError
from tunectl.core.records import WorkloadReference

_OWN_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """The source file of a module; None, with a short reason, where it cannot be read.

    `module` is the dotted name, None for a file that was given by its path. `is_package`: the file is the `__init__.py`
    of a package.
    """

    file: Path | None
    module: str | None = None
    is_package: bool = False
    reason: str = ""


def find_source(reference: WorkloadReference) -> ModuleSource:
    """The source file of the workload's module; raises WorkloadError where there is none."""
    if reference.file is not None:
        return ModuleSource(_existing_file(reference.text, Path(reference.file)))
    assert reference.module is not None
    return find_module(reference.module, reference.search_path, reference.text)


def find_module(module: str, search_path: Sequence[str], text: str) -> ModuleSource:
    """The source of a dotted name, searched in `search_path`, then in Python's path.

    `text` is the workload in messages. Parent packages are located but not executed: a package that changes `__path__`
    or sys.modules gives a reason and no source. Raises WorkloadError where nothing is found.
    """
    parts = module.split(".")
    spec = _top_level(parts[0], search_path)
    if spec is None:
        raise _no_module(text, parts, 0, [*search_path, *sys.path], len(search_path))
    _check_no_standard_name(text, parts[0], spec, search_path)
    for depth, part in enumerate(parts[1:], start=1):
        folders = spec.submodule_search_locations
        parent = ".".join(parts[:depth])
        if folders is None:
            if not _has_source(spec):
                return ModuleSource(None, reason=f"{parent} has no Python source")
            raise WorkloadError(
                f"{text}: {parent} is a module ({spec.origin}), not a package, so {module} cannot exist"
            )
        # Only the last part of the name: with the whole name Python would look for the parents in sys.modules.
        inner = _find(part, list(folders))
        if inner is None:
            if _arranges_its_modules(spec):
                return ModuleSource(None, reason=f"the package {parent} changes __path__ or sys.modules")
            raise _no_module(text, parts, depth, list(folders), len(folders))
        spec = inner
    return _source_of(spec, module, text)


def is_name(text: str) -> bool:
    """Whether Python's source can have it as a name."""
    return text.isidentifier() and not keyword.iskeyword(text)


def nearest(name: str, names: Sequence[str]) -> str:
    """The text "; nearest: X" with the names most like `name`; "" where none is."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(names), n=2, cutoff=0.6)
    return f"; nearest: {', '.join(close)}" if close else ""


def _existing_file(text: str, file: Path) -> Path:
    if file.is_dir():
        raise WorkloadError(f"{text}: expected a .py file, got the folder {file}")
    if file.is_file():
        return file
    if file.exists():
        raise WorkloadError(f"{text}: expected a regular file, got {file}")
    if not file.parent.is_dir():
        raise WorkloadError(f"{text}: {file} does not exist (nor does its folder)")
    raise WorkloadError(f"{text}: {file} does not exist{nearest(file.name, _python_files(file.parent))}")


def _python_files(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".py"))
    except OSError:
        return []


def _top_level(name: str, search_path: Sequence[str]) -> ModuleSpec | None:
    if name == _OWN_PACKAGE:
        # It is loaded already, so no folder of this name can come before it.
        return sys.modules[name].__spec__
    spec = _find(name, [*search_path, *sys.path])
    if spec is not None:
        return spec
    for finder in sys.meta_path:
        # Builtin and frozen modules, and packages installed as editable, for which setuptools has a finder.
        find_spec = getattr(finder, "find_spec", None)
        found = None if finder is PathFinder or find_spec is None else find_spec(name, None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    return None


def _find(name: str, folders: list[str]) -> ModuleSpec | None:
    for folder in folders:
        # A finder caches the names in its folder; a new file may not be among them.
        forget = getattr(sys.path_importer_cache.get(folder), "invalidate_caches", None)
        if forget is not None:
            forget()
    return PathFinder.find_spec(name, folders)


def _has_source(spec: ModuleSpec) -> bool:
    return spec.origin is not None and spec.origin.endswith(".py") and Path(spec.origin).is_file()


def _check_no_standard_name(text: str, name: str, spec: ModuleSpec, search_path: Sequence[str]) -> None:
    if name not in sys.stdlib_module_names or spec.origin is None:
        return
    origin = Path(spec.origin)
    homes = [Path(folder) for folder in search_path]
    if origin.parent in homes or (origin.name == "__init__.py" and origin.parent.parent in homes):
        raise WorkloadError(
            f"{text}: {origin} has the name of a standard module of Python, which would be imported in its place; "
            f"write its path (./{origin.name}:...), or rename it"
        )


def _arranges_its_modules(spec: ModuleSpec) -> bool:
    if not _has_source(spec) or spec.origin is None:
        return spec.origin is not None and spec.loader is not None
    source = Path(spec.origin).read_bytes()
    return b"__path__" in source or b"sys.modules" in source


def _source_of(spec: ModuleSpec, module: str, text: str) -> ModuleSource:
    if _has_source(spec) and spec.origin is not None:
        return ModuleSource(Path(spec.origin), module, is_package=spec.submodule_search_locations is not None)
    if spec.loader is None or spec.origin is None:
        folders = ", ".join(map(str, spec.submodule_search_locations or ())) or "no folder"
        raise WorkloadError(
            f"{text}: expected a module, got {module}, a folder without __init__.py ({folders}); name a module in it"
        )
    return ModuleSource(None, module, reason=f"{module} has no Python source")


def _no_module(text: str, parts: Sequence[str], depth: int, folders: list[str], shown: int) -> WorkloadError:
    missing, name = ".".join(parts[: depth + 1]), parts[depth]
    where = ", ".join(folders[:shown]) + (" and Python's path" if depth == 0 else "")
    around = [other for folder in folders[:shown] for other in _module_names(folder)]
    return WorkloadError(f"{text}: no module {missing} found (searched in {where}){nearest(name, around)}")


def _module_names(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name.removesuffix(".py")
                for entry in entries
                if entry.name.endswith(".py") or (entry.name.isidentifier() and entry.is_dir())
            )
    except OSError:
        return []
