"""The checksum of a record shows every change of its content, but not a new layout."""

from __future__ import annotations

import json
import zlib

import pytest

from tunectl.core import jsontext, record_checksums
from tunectl.core.typed_fields import DamagedError, sealed_object


@pytest.mark.parametrize("text", ['{"a": 1.5, "b": [1, {"c": "ü"}]}', '{\n  "a": 1,\n  "b": "x"\n}'])
def test_every_changed_byte_of_a_record_with_a_checksum_is_found(text: str) -> None:
    sealed = record_checksums.sealed(text) + b"\n"
    assert sealed_object(sealed) == json.loads(text)
    assert record_checksums.SEAL in json.loads(sealed)
    body = text.removesuffix("}").rstrip().encode()
    assert json.loads(sealed)[record_checksums.SEAL] == zlib.crc32(body), (
        "the checksum is that of all that is before it"
    )
    for place in range(len(body)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(DamagedError):
            sealed_object(changed)


def test_a_record_without_a_checksum_is_read_without_a_check() -> None:
    assert sealed_object(b'{"a": 1}') == {"a": 1}
    with pytest.raises(DamagedError, match="does not match its checksum"):
        sealed_object(b'{"a": 1, "crc32": null, "crc32x": 1}'.replace(b"null", b"0"))


VALUES: dict[str, object] = {
    "a": [1, 2.5, 1e-300, 1e22, 2**70, "nan"],
    "ü": "x\ud800y\u2028\n",
    "e": {},
    "n": None,
    "t": True,
}


@pytest.mark.parametrize("text", [jsontext.encode(VALUES), json.dumps(VALUES, indent=2)], ids=["a line", "several"])
def test_a_record_that_was_only_reformatted_still_matches(text: str) -> None:
    sealed = record_checksums.sealed(text)
    indented = json.dumps(json.loads(sealed), indent=4).encode()
    dense = json.dumps(json.loads(sealed), separators=(",", ":")).encode()
    for content in (indented, dense, sealed.replace(b"\n", b"\r\n")):
        assert sealed_object(content) == sealed_object(sealed)
        with pytest.raises(DamagedError, match="does not match its checksum"):
            sealed_object(content.replace(b"2.5", b"2.6"))


def test_a_line_with_its_own_checksum_is_recognised_without_parsing_it() -> None:
    line = record_checksums.sealed('{"a": [1, 2.5]}')
    assert record_checksums.is_sealed_line(line)
    assert record_checksums.has_seal(line)
    for changed in (line.replace(b"2.5", b"2.6"), line[:-1], b'{"a": [1, 2.5]}', b""):
        assert not record_checksums.is_sealed_line(changed)
