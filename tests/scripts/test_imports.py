"""Scripts are imported by no test: that the names which they take from the package exist is checked here."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts").rglob("*.py"))


def imported(script: Path) -> set[tuple[str, str]]:
    """The names that a script imports from modules of tunectl, with their modules."""
    return {
        (node.module, item.name)
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.partition(".")[0] == "tunectl"
        for item in node.names
    }


def exists(module: str, name: str) -> bool:
    if hasattr(importlib.import_module(module), name):
        return True
    try:
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


def test_what_the_scripts_import_from_the_package_exists() -> None:
    assert SCRIPTS
    missing = {script.stem: [found for found in sorted(imported(script)) if not exists(*found)] for script in SCRIPTS}
    assert {script: names for script, names in missing.items() if names} == {}
