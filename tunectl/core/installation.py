"""How tunectl is installed: the name of its distribution, and the command of pip that adds an extra."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

DISTRIBUTION = "tunectl-studies"
"""The distribution's name in pyproject.toml. On PyPI, `tunectl` is the name of another program."""

_PACKAGE = "tunectl"
_COMMAND = "tunectl.cli.main:main"
"""The entry point of our command, by which our metadata is recognised."""


def install_command(extra: str) -> str:
    """The shell command that adds an extra to this installation of tunectl.

    It installs from where tunectl was installed: a folder, an archive or a repository, else by name. Never fails.
    """
    try:
        name, origin = _installed()
    except Exception:  # broken metadata must not hide the message that this is part of
        name, origin = DISTRIBUTION, {}
    return "pip install " + _requirement(name, origin, extra)


def _installed() -> tuple[str, dict[str, Any]]:
    """The name in the installed metadata, and the origin that pip recorded ({} for a package index)."""
    # The import takes 20 ms, and only a message needs it.
    from importlib import metadata

    for name in metadata.packages_distributions().get(_PACKAGE, ()):
        found = metadata.distribution(name)
        commands = {entry.value for entry in found.entry_points if entry.group == "console_scripts"}
        if _COMMAND in commands:
            origin = json.loads(found.read_text("direct_url.json") or "{}")
            # An installation from before the distribution had a name of its own.
            named = DISTRIBUTION if found.name.lower() == _PACKAGE else found.name
            return named, origin if isinstance(origin, dict) else {}
    return DISTRIBUTION, {}


def _requirement(name: str, origin: dict[str, Any], extra: str) -> str:
    url = str(origin.get("url", ""))
    repository = origin.get("vcs_info")
    if isinstance(repository, dict):
        wanted = f"{repository.get('vcs')}+{url}@{repository.get('commit_id')}"
        return shlex.quote(f"{name}[{extra}] @ {wanted}")
    place = Path(url2pathname(urlsplit(url).path)) if url.startswith("file://") else _checkout()
    if place is None or not place.is_absolute() or not place.exists():
        return shlex.quote(f"{name}[{extra}]")
    editable = "--editable " if (origin.get("dir_info") or {}).get("editable") else ""
    return editable + shlex.quote(f"{_shown(place)}[{extra}]")


def _checkout() -> Path | None:
    """The folder of the sources, if the package runs from there without being installed."""
    folder = Path(__file__).parents[2]
    described = folder / "pyproject.toml"
    return folder if described.is_file() and f'name = "{DISTRIBUTION}"' in described.read_text() else None


def _shown(place: Path) -> str:
    try:
        return "." if place.samefile(Path.cwd()) else str(place)
    except OSError:
        return str(place)
