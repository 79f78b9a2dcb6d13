"""What a study folder holds that no fault may change: its tables and its trials' files without times, byte by byte."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from pyarrow import parquet

UNCOMPARED = frozenset(
    # A program that gets a signal to stop just when it ends has no exit code.
    {"train_seconds", "eval_seconds", "startup_seconds", "device", "attempts", "attempt", "exit_code", "crc32"}
    | {"seconds_per_step", "seconds_to_best"}
)
ENDED = ("completed", "infeasible")
# The checksum of a line differs where its seconds do.
_ELAPSED = re.compile(rb'"(elapsed_seconds|crc32)": ?[^,}]*')


@dataclass(frozen=True)
class Differences:
    """Trials that did not end as in the reference, and bytes that differ, by file."""

    lost: tuple[int, ...]
    bytes_by_file: dict[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.bytes_by_file.values())


def _rows(folder: Path, table: str = "trials") -> list[list[str]]:
    try:
        with open(folder / "tables" / f"{table}.csv", newline="") as file:
            return list(csv.reader(file))
    except FileNotFoundError:
        return [[]]


def _table(folder: Path, table: str) -> bytes:
    rows = _rows(folder, table)
    kept = [index for index, name in enumerate(rows[0]) if name not in UNCOMPARED]
    return "\n".join(",".join(row[index] for index in kept) for row in rows).encode()


def _states(folder: Path) -> dict[int, str]:
    header, *rows = _rows(folder)
    return {int(row[header.index("trial")]): row[header.index("state")] for row in rows}


def _tensors(checkpoint: Path) -> bytes:
    """The bytes of all tensors in their order: torch's archive has a member for each. Of a damaged file, all of it."""
    if not checkpoint.exists():
        return b"a link to nothing"
    if not zipfile.is_zipfile(checkpoint):
        return checkpoint.read_bytes()
    with zipfile.ZipFile(checkpoint) as archive:
        return b"".join(archive.read(name) for name in archive.namelist() if "/data/" in name)


def _measurements_table(path: Path, uncompared: Collection[str]) -> bytes:
    table = parquet.read_table(path)
    kept = [name for name in table.column_names if name not in uncompared]
    return "\n".join(f"{name} {table.column(name).to_pylist()}" for name in kept).encode()


def _result(path: Path, *, own_code: bool) -> bytes:
    content = json.loads(path.read_bytes())
    uncompared = UNCOMPARED | ({"measurements"} if own_code else set())  # the number of lines, as in `_metrics_by_step`
    return json.dumps({name: value for name, value in content.items() if name not in uncompared}).encode()


def _metrics_by_step(path: Path) -> bytes:
    """The metrics of a program at each step; the number of lines and the checkpoints by then vary by chance."""
    steps = {line["step"]: line["metrics"] for line in map(json.loads, path.read_bytes().splitlines())}
    return json.dumps(sorted(steps.items())).encode()


def compared(folder: Path, *, own_code: bool = False) -> dict[str, bytes]:
    """What is compared, by the name of its file; of checkpoints the tensors, since the rest remembers who loaded it."""
    found = {f"tables/{name}.csv": _table(folder, name) for name in ("trials", "settings")}
    measurements = folder / "tables" / "measurements.parquet"
    if measurements.exists():
        uncompared = {*UNCOMPARED, "elapsed_seconds", *(("checkpoint",) if own_code else ())}
        found[str(measurements.relative_to(folder))] = _measurements_table(measurements, uncompared)
    for path in sorted(folder.glob("trials/*/result.json")):
        found[str(path.relative_to(folder))] = _result(path, own_code=own_code)
    found |= {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("trials/*/steps.jsonl"))}
    for path in sorted(folder.glob("trials/*/checkpoints/*")):
        found[str(path.relative_to(folder))] = _tensors(path)
    for path in sorted(folder.glob("trials/*/measurements.jsonl")):
        found[str(path.relative_to(folder))] = (
            _metrics_by_step(path) if own_code else _ELAPSED.sub(b"", path.read_bytes())
        )
    return found


def differing_bytes(one: bytes, other: bytes) -> int:
    """The number of places at which two texts differ; extra bytes of one count, too."""
    return 0 if one == other else sum(a != b for a, b in zip_longest(one, other))


def differences(folder: Path, reference: Path, *, own_code: bool = False) -> Differences:
    """How a folder differs from the undisturbed one; `own_code`: its trials are programs or functions of the user's."""
    wanted, states = _states(reference), _states(folder)
    lost = tuple(trial for trial, state in wanted.items() if states.get(trial) != state or state not in ENDED)
    here, there = compared(folder, own_code=own_code), compared(reference, own_code=own_code)
    names = sorted(here.keys() | there.keys())
    counts = {name: differing_bytes(here.get(name, b""), there.get(name, b"")) for name in names}
    return Differences(lost, {name: count for name, count in counts.items() if count})
