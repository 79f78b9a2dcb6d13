"""Addresses of databases as they may be shown and kept: without their passwords."""

from __future__ import annotations

import re

_BEFORE_HOST = re.compile(r"(?P<start>[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s]*@", re.IGNORECASE)
"""Up to the last @, since a password may hold one."""
_AMONG_OPTIONS = re.compile(r"(?P<name>[?&][a-z_]*(?:password|passwd|pwd)=)[^&\s]*", re.IGNORECASE)


def masked(text: str) -> str:
    """The text with `***` for the password of every address in it."""
    return _AMONG_OPTIONS.sub(r"\g<name>***", _BEFORE_HOST.sub(r"\g<start>:***@", text))
