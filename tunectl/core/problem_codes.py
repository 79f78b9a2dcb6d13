"""What kind of problem a message in a study file is, for programs that read `check --json`."""

from __future__ import annotations

import re
from collections.abc import Mapping

CODES: Mapping[str, str] = {
    "unreadable": "the file is missing, empty, or not YAML",
    "missing": "a key, a role or a value that is needed is not there",
    "unknown-name": "no key, hyperparameter or group has this name",
    "expected": "the value is not one of those that are possible here; the message says which are",
    "unused": "nothing takes this hyperparameter",
    "invalid": "what is written contradicts something else, or does nothing",
    "workload": "what is trained cannot be found, built or run",
    "usage": "the command was called with wrong options or arguments",
    "folder": "a study folder cannot be used",
    "design": "a doubt about the design of the study; it can be run",
}
"""The codes, and what each means."""

_UNREADABLE = re.compile(
    r"file not found|cannot be read|the file is (empty|nested too deeply)|not YAML|expected UTF-8"
    r"|expected printable text|expected a YAML file|expected spaces, got a tab"
)
_MISSING = re.compile(r"(the (key|role) is|\S+ (is|are)|.* and \S+ are) missing\b|every trial needs one")
_UNKNOWN = re.compile(
    r"no such key|no group (in the expression )?has this name|the study has no such|.* has no value here"
)
_UNUSED = re.compile(r"\S+ is not used|the (command|function) does not get")
_NEAR = re.compile(r"; did you mean (?P<name>[^?]+)\?")


_KNOWN = {
    "unreadable": _UNREADABLE,
    "missing": _MISSING,
    "unknown-name": _UNKNOWN,
    "unused": _UNUSED,
    "expected": re.compile("expected "),
}


def problem_code(message: str) -> str:
    """The code of a problem with the content of a study file."""
    return next((code for code, known in _KNOWN.items() if known.match(message)), "invalid")


def suggestion(message: str) -> str | None:
    """What a message says should be written instead: the nearest name, or what follows its last semicolon; None where
    it says nothing of the kind.
    """
    near = _NEAR.search(message)
    if near:
        return near["name"]
    _, mark, advice = message.rpartition("; ")
    return advice if mark else None
