"""Ways to damage one file of a study folder, each with a name by which it can be made again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEAL = "crc32"
ESCAPE = "\x1b[31m\x1b]0;taken\x07\x9b5m"
"""What must never reach a terminal as it is: a colour, a window's title, and an 8-bit control sequence."""

_DEEP = 100_000
_RAW = {
    "huge number": "1e400",
    "NaN": "NaN",
    "many digits": "9" * 10_000,
    "many nested": "[" * _DEEP + "]" * _DEEP,
    "half a character": '"\\ud800"',
}
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "-1": -1,
    "0": 0,
    "3.5": 3.5,
    "2^63": 2**63,
    "text": "a text",
    "escapes": ESCAPE,
    "long text": "x" * 70_000,
    "NUL": "a\0b",
    "no text": "",
    "list": [],
    "list of lists": [[1], {"a": None}],
    "object": {},
    "object of null": {"a": None},
    **_RAW,
}
"""What takes the place of a JSON value, by name; those of _RAW are written as they are."""

Trail = tuple[str | int, ...]


@dataclass(frozen=True)
class Damage:
    """One damage to a file of a study folder. `file` is relative to it."""

    file: str
    name: str
    do: Callable[[Path], None]


def damages(folder: Path, generator: random.Random, ranges: int) -> dict[str, list[Damage]]:
    """All damages to each file of a folder; of its byte ranges only `ranges`, drawn at random."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in (".png", ".svg", ".parquet", ".html"):
            continue
        name = str(path.relative_to(folder))
        listed = [Damage(name, *item) for item in _of_bytes(path, generator, ranges)]
        if path.suffix == ".json":
            listed += [Damage(name, *item) for item in _of_document(path)]
        if path.suffix == ".jsonl":
            listed += [Damage(name, *item) for item in _of_lines(path)]
        if path.suffix == ".db":
            listed += [Damage(name, *item) for item in _of_database(path)]
        found[name] = listed
    return found


def without_seals(folder: Path) -> None:
    """Remove the checksums of all records, as if an earlier version had written the folder."""
    for path in folder.rglob("*.json*"):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        values = [json.loads(line) for line in lines if line]
        for value in values:
            value.pop(SEAL, None)
        path.write_text("".join(json.dumps(value) + "\n" for value in values))


Doing = tuple[str, Callable[[Path], None]]


def _of_bytes(path: Path, generator: random.Random, ranges: int) -> Iterator[Doing]:
    size = path.stat().st_size
    for _ in range(ranges):
        start = generator.randrange(max(size, 1))
        length = min(generator.choice((1, 1, 1, 8, 200)), size - start)
        bits, noise = 1 << generator.randrange(8), generator.randbytes(length)
        yield f"cut at {start}", lambda path, start=start: os.truncate(path, start)
        yield f"bit {bits} of byte {start}", _edited(lambda old, s=start, b=bits: _flipped(old, s, b))
        yield f"{length} bytes from {start} removed", _edited(lambda old, s=start, n=length: old[:s] + old[s + n :])
        yield (
            f"noise in {length} bytes from {start}",
            _edited(lambda old, s=start, new=noise: old[:s] + new + old[s + len(new) :]),
        )
    yield "emptied", lambda path: os.truncate(path, 0)
    yield "removed", lambda path: path.unlink()
    yield "zeros", _edited(lambda old: bytes(len(old)))
    yield "UTF-16", _edited(lambda old: old.decode("utf-8", "replace").encode("utf-16"))
    yield "a mark before it", _edited(lambda old: b"\xef\xbb\xbf" + old)
    yield "escapes before it", _edited(lambda old: ESCAPE.encode() + old)
    yield "a list", _edited(lambda _old: b"[]\n")
    yield "a number", _edited(lambda _old: b"7\n")


def _edited(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return edit


def _flipped(old: bytes, start: int, bits: int) -> bytes:
    return old[:start] + bytes([old[start] ^ bits]) + old[start + 1 :] if start < len(old) else old


def trails(value: Any, before: Trail = ()) -> Iterator[Trail]:
    """The place of every value in a JSON document, itself included."""
    yield before
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from trails(item, (*before, key))


_HOLE = "\x00hole\x00"


def replaced(content: Any, trail: Trail, name: str) -> str:
    """The document as text with another value in one place."""
    text = json.dumps(_with_hole(content, trail))
    new = _RAW[name] if name in _RAW else json.dumps(VALUES[name])
    return text.replace(json.dumps(_HOLE), new)


def _with_hole(content: Any, trail: Trail) -> Any:
    if not trail:
        return _HOLE
    head, *rest = trail
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[head] = _with_hole(copy[head], tuple(rest))
    return copy


def _of_document(path: Path) -> Iterator[Doing]:
    content = json.loads(path.read_text())
    for trail in trails(content):
        for name in VALUES:
            yield f"{_dotted(trail)} = {name}", lambda path, t=trail, n=name: _write(path, replaced(content, t, n))
        if trail:
            yield f"{_dotted(trail)} left out", lambda path, t=trail: _write(path, json.dumps(_without(content, t)))
    for key in content:
        twice = json.dumps(content)[:-1] + f", {json.dumps(key)}: 1}}"
        yield f"{key} twice", lambda path, text=twice: _write(path, text)


def _of_lines(path: Path) -> Iterator[Doing]:
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        content = json.loads(line)

        def put(path: Path, new: list[str], number: int = number) -> None:
            _write(path, "".join(f"{text}\n" for text in [*lines[:number], *new, *lines[number + 1 :]]))

        for trail in trails(content):
            for name in VALUES:
                yield (
                    f"line {number}: {_dotted(trail)} = {name}",
                    lambda path, c=content, t=trail, n=name, put=put: put(path, [replaced(c, t, n)]),
                )
        yield f"line {number} left out", lambda path, put=put: put(path, [])
        yield f"line {number} twice", lambda path, put=put, line=line: put(path, [line, line])
        yield f"line {number} cut", lambda path, put=put, line=line: put(path, [line[: len(line) // 2]])


def _dotted(trail: Trail) -> str:
    return ".".join(map(str, trail)) or "all"


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def _without(content: Any, trail: Trail) -> Any:
    head, *rest = trail
    copy = dict(content) if isinstance(content, dict) else list(content)
    if rest:
        copy[head] = _without(copy[head], tuple(rest))
    else:
        del copy[head]
    return copy


_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i FROM n WHERE i < 0"
_STATEMENTS = {
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON trials BEGIN UPDATE trials SET best_value = 0; END",
    "a trigger that deletes": "CREATE TRIGGER t AFTER INSERT ON measurements BEGIN DELETE FROM measurements; END",
    "a view": "CREATE VIEW v AS SELECT * FROM trials",
    "a view for trials": "ALTER TABLE trials RENAME TO kept; CREATE VIEW trials AS SELECT * FROM kept WHERE trial > 0",
    "an endless view": f"DROP TABLE running; CREATE VIEW running (trial, slot) AS {_ENDLESS}",
    "another table": "CREATE TABLE more (a)",
    "another column": "ALTER TABLE trials ADD COLUMN more TEXT",
    "no table": "DROP TABLE measurements",
    "an endless column": "ALTER TABLE trials ADD COLUMN c AS (length(zeroblob(900000000)))",
    "no rows": "DELETE FROM trials",
    "no measurements": "DELETE FROM measurements",
    "another version": "PRAGMA user_version = 99",
}


def _of_database(path: Path) -> Iterator[Doing]:
    for name, text in _STATEMENTS.items():
        yield name, lambda path, text=text: _executed(path, text)
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = {table: database.execute(f"SELECT * FROM {table}").description for table in ("trials", "metric_sets")}
        tables["measurements"] = database.execute("SELECT * FROM measurements").description
    for table, columns in tables.items():
        for column in (item[0] for item in columns):
            for value in ("0.0625", "7", "'text'", "''", "'{}'", "'[]'", "x'00'", "NULL", f"'{ESCAPE}'", "1e999"):
                statement = f"UPDATE OR REPLACE {table} SET {column} = {value} WHERE rowid = 2"
                yield f"{table}.{column} = {value!r}", lambda path, text=statement: _executed(path, text)


def _executed(path: Path, text: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, contextlib.suppress(sqlite3.Error):
        database.executescript(text)
        database.commit()


_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def control_in(text: str) -> str:
    """The first control character, with the text around it; "" if there is none."""
    found = _CONTROLS.search(text)
    return repr(text[max(0, found.start() - 20) : found.end() + 20]) if found else ""
