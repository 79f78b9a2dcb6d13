"""The checksum at the end of a JSON record: by it a record is known to be as tunectl wrote it.

A record without one is of an earlier version, or somebody took it out to edit the record: it is read as it stands. One
that a formatter, or a tool that changes the ends of lines, wrote anew with the same values is still the same record.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

from tunectl.core import jsontext

SEAL = "crc32"
_JOINT = b', "crc32": '
_END = re.compile(rb'\s*,\s*"crc32"\s*:\s*[0-9]+\s*}\s*\Z')


def sealed(text: str, errors: str = "surrogatepass") -> bytes:
    """The text of a JSON object that is not empty, on one line or several, with the checksum as its last value."""
    body = text.rstrip().removesuffix("}").rstrip()
    content = body.encode("utf-8", errors)
    joint, end = (_JOINT, b"}") if "\n" not in body else (b',\n  "crc32": ', b"\n}")
    return b"%b%b%d%b" % (content, joint, zlib.crc32(content), end)


def has_seal(line: bytes) -> bool:
    """Whether there is a checksum in a record on one line."""
    return _JOINT in line


def is_intact(line: bytes, seal: Any) -> bool:
    """Whether a record on one line is the one to which the checksum, its last value, belongs."""
    at = line.rfind(_JOINT)
    return at > 0 and type(seal) is int and zlib.crc32(line[:at]) == seal


def is_sealed_line(line: bytes) -> bool:
    """Whether a record on one line ends with the checksum that belongs to it: known without reading what it holds."""
    at = line.rfind(_JOINT)
    number = line[at + len(_JOINT) : -1]
    return at > 0 and line.endswith(b"}") and number.isdigit() and zlib.crc32(line[:at]) == int(number)


def is_intact_document(content: bytes, seal: Any) -> bool:
    """The same for a record on any number of lines."""
    found = _END.search(content[-200:])
    if found is None or type(seal) is not int:
        return False
    return zlib.crc32(content[: len(content) - len(content[-200:]) + found.start()]) == seal


def is_same_record(values: Mapping[str, Any], seal: Any) -> bool:
    """Whether the checksum belongs to a record of these values, however its text is laid out now."""
    # As they are written: on one line, and provenance.json on many.
    texts = (jsontext.encode(values), json.dumps(values, indent=2))
    bodies = (text.removesuffix("}").rstrip().encode("utf-8", "surrogatepass") for text in texts)
    return type(seal) is int and any(zlib.crc32(body) == seal for body in bodies)
