"""Numbers as programs print them: with a comma or a percent sign, or as NumPy, torch and JAX show them."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

_LARGEST_STEP = 2**53
_EXPONENT = r"(?:[eE][-+]?\d+)?"
_WITH_UNDERSCORES = re.compile(r"[+-]?\d{1,3}(?:_\d{3})+(?:\.\d*)?")
_BOTH_WAYS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
"""1,234 is 1234 in English and 1.234 in half of Europe."""
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:(?:,\d{3}){2,}(?:\.\d*)?|,\d{3}\.\d*)")
_DECIMAL_COMMA = re.compile(rf"[+-]?(?:\d+|[1-9]\d{{0,2}}(?:\.\d{{3}})+),\d+{_EXPONENT}")
_NUMBER = rf"[-+]?(?:(?:\d+\.?\d*|\.\d+){_EXPONENT}|nan|inf(?:inity)?)"
_WRAPPED = re.compile(
    r"(?:[A-Za-z_]\w*\.)*(?:\w*Tensor|tensor|\w*Array|array|b?float\d*|double|half|longdouble|u?int\d*|Decimal)"
    rf"\(\s*(?P<open>\[*)\s*['\"]?(?P<number>{_NUMBER})['\"]?\s*(?P<close>\]*)\s*(?:\)?|,\s*(?:[a-z_]\w*=.*)?)",
    re.DOTALL | re.IGNORECASE,
)
"""`np.float64(0.8)`, `tensor(0.3, device='cuda:0')`, `array([0.5], dtype=float32)`; the end may be cut off."""
_TENSORFLOW = re.compile(rf"<tf\.\w+[^<>]*\bshape=\(\)[^<>]*\bnumpy=(?P<number>{_NUMBER})>", re.IGNORECASE)
_FRACTION = re.compile(r"(?:\w+\.)*Fraction\((-?\d+), ?([1-9]\d*)\)")
_GROUPS = "'\u2019\u00a0\u202f"
_RUN = re.compile(rf"[-+]?\d(?:[\d.,{_GROUPS}]*\d)?{_EXPONENT}")
_SPACED = re.compile(rf"[-+]?\d{{1,3}}(?:[{_GROUPS}]\d{{3}})+(?:[.,]\d+)?")


def number(value: Any, *, thousands: bool = False) -> float | None:
    """The number in a printed value; None if there is none or it is ambiguous: 1,234 needs `thousands`."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if not isinstance(value, str):
        return None
    text = value.strip().replace("\u2212", "-")
    inner = _unwrapped(text)
    if inner is not None:
        return inner
    text = text.rstrip(".,;:%)]}")
    if _WITH_UNDERSCORES.fullmatch(text):
        text = text.replace("_", "")
    elif _THOUSANDS.fullmatch(text) or (thousands and _BOTH_WAYS.fullmatch(text)):
        text = text.replace(",", "")
    elif _DECIMAL_COMMA.fullmatch(text) and not _BOTH_WAYS.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    try:
        # Python would accept other underscores too, but no program means them.
        return None if "_" in text else float(text)
    except ValueError:
        return None


def whole_number(value: Any) -> int | None:
    """A step; None if it is not a whole number of at least 0."""
    read = number(value, thousands=True)
    if read is None or not read.is_integer() or not 0 <= read <= _LARGEST_STEP:
        return None
    return int(read)


def why_unread(value: Any) -> str:
    """Why a value is not read as a number, as the end of a sentence."""
    text = str(value).strip().rstrip(".,;:%)]}")
    if _BOTH_WAYS.fullmatch(text):
        return f"may be {text.replace(',', '.')} or {text.replace(',', '')}; print it without the comma"
    return "is not a number"


def number_around(text: str, start: int, end: int, *, is_step: bool = False) -> str:
    """The whole number of which text[start:end] is only the beginning, as `0,333` of `0`; "" if it is complete.

    The fraction of a step may be left out on purpose.
    """
    if start >= 2 and text[start - 1] == "," and text[start - 2].isdigit():
        return ""  # a column among others
    if end >= len(text) or text[end] not in (",",) + (() if is_step else (".", "e", "E", *_GROUPS)):
        return ""
    match = _RUN.match(text, start)
    if match is None or match.end() <= end:
        return ""
    found, taken = match[0], number(text[start:end], thousands=is_step)
    whole = number(found, thousands=is_step)
    if _SPACED.fullmatch(found) or _BOTH_WAYS.fullmatch(found):
        return found
    return found if taken is not None and whole is not None and whole != taken else ""


def _unwrapped(text: str) -> float | None:
    """The number in a library's notation, None if there is none."""
    if "(" not in text:
        return None
    match = _WRAPPED.fullmatch(text.rstrip(",;"))
    if match is not None and len(match["open"]) == len(match["close"]):
        return float(match["number"])
    match = _TENSORFLOW.fullmatch(text)
    if match is not None:
        return float(match["number"])
    match = _FRACTION.fullmatch(text)
    return float(Fraction(int(match[1]), int(match[2]))) if match is not None else None
