"""An exception of the user's code, for people: one line, the place in their file, and the whole text."""

from __future__ import annotations

import sysconfig
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import tunectl
from tunectl.core.errors import TunectlError

MAX_MESSAGE_CHARACTERS = 500
_OWN_ROOMS = ("core", "spec", "training", "execution", "workloads/loading.py")


@dataclass(frozen=True, slots=True)
class Failure:
    """What is said of an exception.

    `message` is one line, `where` file:line of the innermost frame that is the user's, `text` the whole traceback.
    """

    message: str
    where: str
    text: str


def describe(error: BaseException) -> Failure:
    """The failure that an exception stands for; never raises, whatever the exception's own methods do."""
    return Failure(_message(error), _where(error), _text(error))


def _message(error: BaseException) -> str:
    try:
        said = " ".join(str(error).split())
    except Exception:
        said = "(its message cannot be shown)"
    if not isinstance(error, TunectlError):
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return said if len(said) <= MAX_MESSAGE_CHARACTERS else said[: MAX_MESSAGE_CHARACTERS - 1] + "…"


def _text(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return f"{type(error).__name__} (its traceback cannot be shown)\n"


def _where(error: BaseException) -> str:
    # A workload's error wraps the user's own, which is the cause: its frames come first.
    tracebacks = [
        item.__traceback__ for item in (error.__cause__, error) if item is not None and item.__traceback__ is not None
    ]
    frames = [_frames(item) for item in tracebacks]
    if isinstance(error.__cause__, SyntaxError) and error.__cause__.filename:
        return f"{error.__cause__.filename}:{error.__cause__.lineno or 1}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    for is_hidden in (_is_installed, _is_machinery):
        for places in frames:
            own = [(file, line) for file, line in places if not is_hidden(file)]
            if own:
                return f"{own[-1][0]}:{own[-1][1]}"
    if isinstance(error, TunectlError) or not frames:
        return ""  # its own words are for people; the line of tunectl that raised it is not
    return f"{frames[-1][-1][0]}:{frames[-1][-1][1]}"


def _frames(start: TracebackType) -> list[tuple[str, int]]:
    return [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(start)]


def _is_installed(file: str) -> bool:
    return _is_machinery(file) or _is_below(file, *_site_packages())


def _is_machinery(file: str) -> bool:
    # Where a user's package is installed beside torch, its frames are still told from torch's and the standard
    # library's.
    site_packages = _site_packages()
    if file.startswith("<") or _is_below(file, *(folder / "torch" for folder in site_packages)):
        return True
    if _is_below(file, Path(sysconfig.get_paths()["stdlib"])):
        return not any(name in Path(file).parts for name in ("site-packages", "dist-packages"))
    return _is_below(file, *(Path(tunectl.__file__).parent / room for room in _OWN_ROOMS))


def _site_packages() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return (Path(paths["purelib"]), Path(paths["platlib"]))


def _is_below(file: str, *places: Path) -> bool:
    path = Path(file)
    return any(path == place or place in path.parents for place in places)
