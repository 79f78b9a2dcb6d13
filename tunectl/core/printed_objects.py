"""Objects as programs print them: JSON, and Python dicts with values of any kind."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_DEEPEST = 20  # levels of nested objects; deeper ones are not metrics
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|<(?=[A-Za-z_])|[{}\[\](),>]', re.DOTALL)
_ITEM = re.compile(r'\s*(?P<key>"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\')\s*:\s*(?P<value>.*\S)\s*', re.DOTALL)
_CLOSES = {"}": "{", "]": "[", ")": "(", ">": "<"}
_WORDS = {"None": None, "True": True, "False": False}
_REST_OF_A_NUMBER = re.compile(r"\d+(?:[eE][-+]?\d+)?\s*")
_DECODER = json.JSONDecoder()


class Bare(str):
    """The printed text of a value that is not a literal: `np.float64(0.8)`, `nan`, `<Meter object at 0x7f>`."""

    __slots__ = ()


def object_at(text: str, start: int) -> tuple[dict[str, Any], int | None]:
    """The object whose brace is at `start`, and the position after its end, None if it does not end.

    A value that is not a literal is Bare. Of an object that does not end, only the items followed by a comma are read.
    """
    try:
        content, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return _tolerant(text, start, 0)
    return (content, end) if isinstance(content, dict) else _tolerant(text, start, 0)


def printed_object(text: str) -> dict[str, Any] | None:
    """The object, if the whole text is one; else None."""
    text = text.strip()
    if not text.startswith("{"):
        return None
    content, end = object_at(text, 0)
    return content if end == len(text) else None


def _tolerant(text: str, start: int, depth: int) -> tuple[dict[str, Any], int | None]:
    items, end = _items(text, start)
    found: dict[str, Any] = {}
    name, written = "", ""
    for item in items:
        match = _ITEM.fullmatch(item)
        if match is None:
            if name and isinstance(found[name], (int, Bare)) and _REST_OF_A_NUMBER.fullmatch(item):
                # {"loss": 0,333}: the part after the comma is not an item.
                written = f"{written},{item.strip()}"
                found[name] = Bare(written)
            continue
        key, written = _literal(match["key"]), match["value"]
        name = key if isinstance(key, str) else ""
        if name:
            found[name] = _value(written, depth)
    return found, end


def _items(text: str, start: int) -> tuple[list[str], int | None]:
    """The texts between the commas of an object, and the position of its end; see `object_at`."""
    items: list[str] = []
    open_marks: list[str] = []
    begin = start + 1
    for match in _TOKEN.finditer(text, start):
        mark = match[0]
        if mark in ("{", "[", "(", "<"):
            open_marks.append(mark)
        elif mark in _CLOSES:
            if open_marks[-1] == "<" and mark != ">":
                open_marks.pop()  # it was not a bracket
            if open_marks[-1] == _CLOSES[mark]:
                open_marks.pop()
            elif mark != ">":
                return items, None
            if not open_marks:
                return [*items, text[begin : match.start()]], match.end()
        elif mark == "," and len(open_marks) == 1:
            items.append(text[begin : match.start()])
            begin = match.end()
    return items, None


def _value(text: str, depth: int) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text.startswith("{") and depth < _DEEPEST:
        content, end = _tolerant(text, 0, depth + 1)
        return content if end == len(text) and (content or not text.strip("{} \n")) else Bare(text)
    return _literal(text)


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return Bare(text)
