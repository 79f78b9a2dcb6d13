"""The checksum at the end of a JSON record, which shows that the record is as tunectl wrote it.

A record without a checksum is from an earlier version, or was edited by hand: it is read without a check. A record that
a formatter wrote again with the same values, for example with other line ends, still matches its checksum.
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
    """The text of a JSON object with the checksum as its last value; the object must not be empty."""
    body = text.rstrip().removesuffix("}").rstrip()
    content = body.encode("utf-8", errors)
    joint, end = (_JOINT, b"}") if "\n" not in body else (b',\n  "crc32": ', b"\n}")
    return b"%b%b%d%b" % (content, joint, zlib.crc32(content), end)


def has_seal(line: bytes) -> bool:
    """Whether a record on one line has a checksum."""
    return _JOINT in line


def is_intact(line: bytes, seal: Any) -> bool:
    """Whether a record on one line matches the checksum that is its last value."""
    at = line.rfind(_JOINT)
    return at > 0 and type(seal) is int and zlib.crc32(line[:at]) == seal


def is_sealed_line(line: bytes) -> bool:
    """Whether a record on one line ends with its own checksum; the record itself is not parsed."""
    at = line.rfind(_JOINT)
    number = line[at + len(_JOINT) : -1]
    return at > 0 and line.endswith(b"}") and number.isdigit() and zlib.crc32(line[:at]) == int(number)


def is_intact_document(content: bytes, seal: Any) -> bool:
    """Whether a record on any number of lines matches the checksum that is its last value."""
    found = _END.search(content[-200:])
    if found is None or type(seal) is not int:
        return False
    return zlib.crc32(content[: len(content) - len(content[-200:]) + found.start()]) == seal


def is_same_record(values: Mapping[str, Any], seal: Any) -> bool:
    """Whether a record with these values matches the checksum, however its text is formatted now."""
    # The two ways that records are written: on one line, and provenance.json on many.
    texts = (jsontext.encode(values), json.dumps(values, indent=2))
    bodies = (text.removesuffix("}").rstrip().encode("utf-8", "surrogatepass") for text in texts)
    return type(seal) is int and any(zlib.crc32(body) == seal for body in bodies)
