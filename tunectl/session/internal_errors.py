"""Faults of tunectl itself in the analysis of results: each is a warning, kept for a bug report; the rest goes on."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TypeVar

from tunectl import __version__
from tunectl.analysis.findings.findings import Finding
from tunectl.core import real_folders
from tunectl.core.errors import TunectlError
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.wording import first_listed

RAISE = "TUNECTL_RAISE_FAULTS"
"""With this environment variable, as in the tests, a fault is raised instead of reported."""

_MOST_NAMED = 3
_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass
class Faults:
    """The faults of tunectl's own code so far: `found` has their exceptions by the name of what could not be computed.

    With `raises` a fault is raised where it happens.
    """

    raises: bool = False
    found: dict[str, Exception] = field(default_factory=dict)

    def attempt(self, name: str, work: Callable[[], _T], instead: _U) -> _T | _U:
        """The result of `work`, or `instead` where it raises; TunectlErrors are raised."""
        try:
            return work()
        except TunectlError:
            raise
        except Exception as error:
            if self.raises:
                raise
            self.found.setdefault(name, error)
            return instead

    def findings(self, action: str) -> list[Finding]:
        """One warning for each kind of exception, with the names of all that failed; `action` is its advice."""
        alike: dict[str, list[str]] = {}
        for name, error in self.found.items():
            alike.setdefault(_in_words(error), []).append(name)
        return [_finding(names, words, action) for words, names in alike.items()]


def no_faults(environment: Mapping[str, str] = os.environ) -> Faults:
    """An empty record of faults; RAISE in the environment decides whether they are raised."""
    return Faults(raises=bool(environment.get(RAISE)))


def write_faults(folder: StudyFolder, faults: Faults) -> None:
    """Write the tracebacks to faults.txt, or remove those of an earlier report; raises FolderError."""
    with path_errors(folder.faults, "written"):
        if faults.found:
            write_if_changed(folder.faults, _report(faults).encode("utf-8", "backslashreplace"))
        else:
            real_folders.remove(folder.faults, folder.path)


def _in_words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _finding(names: list[str], words: str, action: str) -> Finding:
    return Finding(
        id="fault",
        level="warning",
        sentence=f"tunectl could not compute {first_listed(names, _MOST_NAMED)} ({words}). This is a fault in "
        "tunectl, not in the study; everything else here is complete.",
        action=action,
        numbers={"failed": names, "error": words},
    )


def _report(faults: Faults) -> str:
    head = (
        f"tunectl {__version__}, Python {platform.python_version()}, NumPy {version('numpy')}, {platform.platform()}\n"
    )
    parts = [f"\n{name}\n{''.join(traceback.format_exception(error))}" for name, error in faults.found.items()]
    return head + "".join(parts)
