"""Where in the user's code an exception was raised: the innermost frame that belongs to the user."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path

from tunectl.core.errors import TunectlError
from tunectl.core.exception_text import first_of_group, quoted_traceback, text_of

_PACKAGE = Path(__file__).parents[1]
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def user_frame(error: BaseException) -> str:
    """`file:line` of the innermost frame of the user's code, "" if there is none.

    Frames of torch, of Python's standard library and of this package never count, except for its built-in workloads,
    without their readers of data. Frames of these and of other installed packages count only if no frame is outside of
    them. The frames of a cause come before those of the exception that wraps it, and those of a group's first exception
    before the group's. A syntax error is at the line with the wrong syntax. Frames quoted in the exception's text, of
    another process, are further in than its own.
    """
    chain = [item for item in (error.__cause__, first_of_group(error), error) if item is not None]
    for item in chain:
        if isinstance(item, SyntaxError) and item.filename and not item.filename.startswith("<"):
            return f"{item.filename}:{item.lineno or 1}"
    for is_hidden in (_is_installed, is_machinery):
        for item in chain:
            for file, line in reversed(_frames(item)):
                if not is_hidden(file):
                    return f"{file}:{line}"
    return ""


def innermost_frame(error: BaseException) -> str:
    """The user's innermost frame, or the innermost of all frames if the user has none.

    "" if there are no frames, and for an error of tunectl's own: its message says enough, and the line that raised it
    does not help the user.
    """
    found = user_frame(error)
    if isinstance(error, TunectlError):
        return "" if found and _is_below(Path(found), _PACKAGE) else found
    if found:
        return found
    return next((f"{file}:{line}" for file, line in reversed(_frames(error))), "")


def is_own(error: BaseException) -> bool:
    """Whether this package, or what it called, raised the exception: no frame of the user is further in."""
    for file, _ in reversed(_frames(error)):
        if _is_below(Path(file), _PACKAGE) and is_machinery(file):
            return True
        if not is_machinery(file):
            return False
    return False


def is_machinery(file: str) -> bool:
    """Whether a file belongs to torch, to Python or to this package, and so never to the user."""
    path = Path(file)
    if file.startswith("<") or _is_torch(path):
        return True
    if any(_is_below(path, sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")):
        return _INSTALLED.isdisjoint(path.parts)
    if not _is_below(path, _PACKAGE):
        return False
    workloads = _PACKAGE / "workloads"
    return not _is_below(path, workloads) or _is_below(path, workloads / "data") or path.name == "workload_import.py"


def _frames(error: BaseException) -> list[tuple[str, int]]:
    own = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    quoted = quoted_traceback(text_of(error))
    return own if quoted is None else [*own, *quoted.frames]


def _is_installed(file: str) -> bool:
    path = Path(file)
    return is_machinery(file) or _is_below(path, _PACKAGE) or not _INSTALLED.isdisjoint(path.parts)


def _is_torch(path: Path) -> bool:
    # A torch that was built from source may be anywhere.
    home = getattr(sys.modules.get("torch"), "__file__", None)
    if isinstance(home, str) and _is_below(path, Path(home).parent):
        return True
    return any(folder.name == "torch" and folder.parent.name in _INSTALLED for folder in path.parents)


def _is_below(path: Path, place: str | Path) -> bool:
    return path.is_relative_to(place)
