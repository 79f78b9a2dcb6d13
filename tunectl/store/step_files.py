"""The series of a trial's updates, as steps.jsonl holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunectl.core import jsontext, regular_files
from tunectl.core.folders import TrialFolder
from tunectl.core.path_errors import path_error
from tunectl.core.records import UpdateBlock
from tunectl.store import json_lines


def read_updates(folder: TrialFolder) -> tuple[UpdateBlock, ...]:
    """The blocks in the order of the file, () where there is none; a damaged one ends them: what follows has a gap.

    Raises FolderError where the file may not be read.
    """
    try:
        content = regular_files.content(folder.steps, largest=regular_files.LARGEST_LINES_BYTES)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ()
    except OSError as error:
        raise path_error(folder.steps, "read", error) from error
    blocks: list[UpdateBlock] = []
    for line in json_lines.parse(content):
        block = _block(line)
        if block is None:
            break
        blocks.append(block)
    return tuple(blocks)


def _block(line: Mapping[str, Any] | None) -> UpdateBlock | None:
    if line is None or not isinstance(line.get("first"), int) or not isinstance(line.get("clipped"), list):
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
    read = [jsontext.number(value) for value in values]
    numbers = [value for value in read if value is not None]
    return numbers if len(numbers) == len(read) else None
