"""The folder of this user for locks that hold until the machine restarts: several runs on one machine meet there."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from tunectl.core.path_errors import system_reason

VARIABLE = "TUNECTL_RUNTIME_DIR"
"""The environment variable that names the folder: for containers that share one, and for tests that must not."""

_OF_SESSION = "XDG_RUNTIME_DIR"  # freedesktop.org, "XDG Base Directory Specification"
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def runtime_folder(environ: Mapping[str, str], root: Path = Path("/")) -> tuple[Path | None, str]:
    """The folder, which is created where it is missing, and why it is not where it was asked for ("" where it is).

    It is $TUNECTL_RUNTIME_DIR; without it `tunectl` in $XDG_RUNTIME_DIR or, where that is not set (cron, ssh without a
    session), in /run/user/UID; without these /tmp/tunectl-UID. Not $TMPDIR, which differs between jobs. None where no
    folder can be used: it must belong to this user, and no one else may enter it. `root` is replaced in tests.
    """
    user = os.getuid()
    if environ.get(VARIABLE):
        asked = Path(environ[VARIABLE]).absolute()
        why = _unusable(asked)
        return (None, why) if why else (asked, "")
    session = environ.get(_OF_SESSION, "")
    usual = root / "run" / "user" / str(user)
    places = [Path(session) / "tunectl"] if Path(session).is_absolute() else []
    places += [usual / "tunectl"] if not places and usual.is_dir() else []
    problems: list[str] = []
    for place in (*places, root / "tmp" / f"tunectl-{user}"):
        why = _unusable(place)
        if not why:
            return place, "; ".join(problems)
        problems.append(why)
    return None, "; ".join(problems)


def _unusable(folder: Path) -> str:
    """Why a folder, which is made where it is missing, cannot be used; "" where it can."""
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError as error:
        return f"{folder}: {system_reason(error)}"
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder}: expected a folder, and no link"
    if status.st_uid != os.getuid():
        return f"{folder}: belongs to another user"
    if status.st_mode & _OF_OTHERS:
        return f"{folder}: other users may enter it; run chmod 700 {folder}"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder}: cannot be written"
