"""steps.jsonl: the series of a trial's updates, in blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tunectl.core import jsontext, record_checksums, regular_files
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import UpdateBlock
from tunectl.core.path_errors import path_error
from tunectl.core.typed_fields import is_count
from tunectl.store import json_lines
from tunectl.store.trial_files import left_out_in_words

_HEAD = re.compile(rb'{"first": ([0-9]{1,18}), "loss": \[[^\]]')
_CLIPPED = b'"clipped": ['


def read_updates(folder: TrialFolder) -> tuple[UpdateBlock, ...]:
    """The blocks in the order of the file, without damaged ones, which `updates_damage` reports; () without a file.

    Raises FolderError where the file cannot be read.
    """
    try:
        return tuple(block for block in _blocks(_content(folder)) if block is not None)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ()
    except OSError as error:
        raise path_error(folder.steps, "read", error) from error


def updates_damage(folder: TrialFolder, trained: int | None = None) -> str:
    """The damage of steps.jsonl in words, "" where there is none; `trained` is the number of updates that it must have.

    A torn last line is not damage: its writer was killed, or is writing now. Raises FolderError where the file cannot
    be read.
    """
    try:
        content = _content(folder)
    except (FileNotFoundError, NotADirectoryError):
        return f"{folder.steps}: is missing" if trained else ""
    except IsADirectoryError:
        return f"{folder.steps}: is a folder, not a file"
    except OSError as error:
        raise path_error(folder.steps, "read", error) from error
    updates, has_gap = 0, False
    damaged: list[int] = []
    for number, line in enumerate(_lines(content), start=1):
        extent = _extent(line)
        if extent is None:
            damaged.append(number)
            continue
        has_gap = has_gap or extent[0] != updates
        updates += 0 if has_gap else extent[1]
    if not damaged and not has_gap and updates >= (trained or 0):
        return ""
    what = left_out_in_words(damaged) if damaged else "lines are missing"
    all_of_them = f"its {trained} updates" if trained else "its updates"
    used = f"of {all_of_them} the first {updates} are used" if updates else f"none of {all_of_them} is used"
    return f"{folder.steps}: {what}; {used}"


def _lines(content: bytes) -> Iterator[bytes]:
    """The complete lines one at a time: to split all at once takes several times as long, because of the memory."""
    begin = 0
    while (end := content.find(b"\n", begin)) >= 0:
        yield content[begin:end]
        begin = end + 1


def _extent(line: bytes) -> tuple[int, int] | None:
    """The first update of a line and the number of its updates, None where it is damaged.

    A line that matches its checksum is not parsed: to read the numbers of all trials of a large study takes minutes.
    """
    head = _HEAD.match(line)
    if head is not None and record_checksums.is_sealed_line(line):
        begin = line.find(_CLIPPED)
        return int(head[1]), line.count(b",", begin + len(_CLIPPED), line.find(b"]", begin)) + 1
    (read,) = json_lines.parse_quickly(line + b"\n")
    block = _block(read)
    return None if block is None else (block.first, len(block.loss))


def _content(folder: TrialFolder) -> bytes:
    return regular_files.content(folder.steps, largest=regular_files.LARGEST_LINES_BYTES)


def _blocks(content: bytes) -> Iterator[UpdateBlock | None]:
    """The block of each complete line, None for a damaged one; some lines at a time."""
    for part in json_lines.parts(content):
        yield from map(_block, json_lines.parse_quickly(part))


def _block(line: Mapping[str, Any] | None) -> UpdateBlock | None:
    if line is None or not is_count(line.get("first")) or not isinstance(line.get("clipped"), list):
        return None
    loss, norm, rate = (_numbers(line.get(name)) for name in ("loss", "gradient_norm", "learning_rate"))
    if loss is None or norm is None or rate is None or not len(loss) == len(norm) == len(rate) == len(line["clipped"]):
        return None
    skipped, at, ratios = (_numbers(line.get(name, [])) for name in ("skipped", "update_ratio_steps", "update_ratio"))
    if skipped is None or at is None or ratios is None or len(at) != len(ratios):
        return None
    clipped = [bool(value) for value in line["clipped"]]
    return UpdateBlock(line["first"], loss, norm, clipped, rate, list(map(int, skipped)), list(map(int, at)), ratios)


def _numbers(values: Any) -> list[float] | None:
    if not isinstance(values, list):
        return None
    if {*map(type, values)} <= {float}:
        return values  # as nearly all are
    read = [jsontext.number(value) for value in values]
    numbers = [value for value in read if value is not None]
    return numbers if len(numbers) == len(read) else None
