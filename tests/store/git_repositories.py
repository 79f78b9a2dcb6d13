"""Git repositories of tests, made and changed by git itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

_IDENTITY = ("user.name=a", "user.email=a@b", "init.defaultBranch=main", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    """What git prints, as it is configured there; raises where it fails."""
    settings = [word for setting in _IDENTITY for word in ("-c", setting)]
    done = subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def committed(folder: Path, files: dict[str, bytes]) -> Path:
    """A new repository in that folder with these files in its first commit."""
    folder.mkdir(parents=True)
    git(folder, "init")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder
