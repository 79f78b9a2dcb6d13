"""Images as PNG, by the format's own definition: https://www.w3.org/TR/png-3/ (sections 5 and 11)."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLOUR = 0, 2
_MOST_COMPRESSED = 9


def png(pixels: NDArray[np.uint8]) -> bytes:
    """The PNG of pixels, shape [height, width, 1] (grey) or [height, width, 3] (red, green, blue)."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8, _GREY if channels == 1 else _COLOUR, 0, 0, 0)
    # Each row begins with the number of its filter: 0, none.
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * channels)], axis=1)
    data = zlib.compress(rows.tobytes(), _MOST_COMPRESSED)
    return _SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
