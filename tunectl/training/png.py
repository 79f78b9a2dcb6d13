"""Images as PNG, by the format's own definition: https://www.w3.org/TR/png-3/ (sections 5 and 11)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


@dataclass(frozen=True, slots=True)
class Shades:
    """Pixels of 0 to 255, and the values that became 0 and 255, None where the numbers were shades already."""

    pixels: NDArray[np.uint8]
    range: tuple[float, float] | None = None


def shades(image: Tensor) -> Shades:
    """The shades of an image on the CPU, shape [H, W, C]. Floats from 0 to 1 are black to white; where there are
    others, the smallest is black and the largest white, and what is not finite is black. False is black and true white.
    """
    if image.dtype == torch.bool:
        return Shades(255 * image.to(torch.uint8).numpy())
    if image.dtype == torch.uint8:
        return Shades(image.contiguous().numpy())
    numbers = image.to(torch.float64).numpy()
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    extent = high - low if high > low else 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.where(np.isfinite(numbers), (numbers - low) / extent, 0.0)
    return Shades(np.rint(255 * np.clip(np.nan_to_num(scaled), 0.0, 1.0)).astype(np.uint8), (low, high))
