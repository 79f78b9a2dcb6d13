"""Reads text: a file, a folder of files, or the English text inside Python."""

from __future__ import annotations

import gzip
import importlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data.data_paths import Content, content, existing, listed

ENGLISH = "english"
"""The name in a study of the documentation of Python's own `help()`: about 465 kB of English text."""

SPLITS = ("train", "valid", "test")

WHERE_TO_GET = (
    f"data is {ENGLISH} (the text inside Python), a text file, or a folder of .txt and .txt.gz files, with"
    " train.txt, valid.txt and perhaps test.txt if they have these names; LM1B: https://www.statmt.org/lm-benchmark"
)

_HELD_OUT = 0.05
"""The part of a text without files for its splits that is valid, and the part that is test."""

_LM1B_TRAIN, _LM1B_HELD_OUT = "training-monolingual.tokenized.shuffled", "heldout-monolingual.tokenized.shuffled"
"""The folders of the release (https://www.statmt.org/lm-benchmark)."""

_GZIP = b"\x1f\x8b"
_SUFFIXES = (".txt", ".txt.gz")


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Document:
    """A text, and where it is from, for messages."""

    name: str
    text: str


def read_splits(data: str) -> dict[str, list[Document]]:
    """The documents of each split: `train`, `valid`, and `test` where there is one.

    A folder with train.txt and valid.txt (each may be .gz) has its splits by name, and so has LM1B as it is released.
    All other text, a file or the files of a folder in the order of their names, is divided into contiguous stretches:
    the last twentieth is `test`, the one before it `valid`; a stretch begins at the beginning of a line. Raises
    WorkloadError where nothing is found, or a file cannot be read, is damaged, or is not text in UTF-8.
    """
    if data == ENGLISH:
        return divided([Document(ENGLISH, english())])
    path = Path(text_place(data))
    if path.is_file():
        return divided([read_document(path)])
    if (path / _LM1B_TRAIN).is_dir():
        return _billion_words(path)
    found = Content.of(path)
    names = [name for name in found.files if name.endswith(_SUFFIXES) and not name.startswith(".")]
    if not names:
        raise WorkloadError(
            f"data {data!r}: {path} has no .txt or .txt.gz file; it has {listed([*found.folders, *found.files])};"
            f" {WHERE_TO_GET}"
        )
    by_split = {split: named_file(path, names, [f"{split}{suffix}" for suffix in _SUFFIXES]) for split in SPLITS}
    if by_split["train"] is None and by_split["valid"] is None:
        return divided([read_document(path / name) for name in names])
    missing = [split for split in ("train", "valid") if by_split[split] is None]
    if missing:
        raise WorkloadError(f"data {data!r}: {path} has no {missing[0]}.txt beside {listed(names)}")
    return {split: [read_document(file)] for split, file in by_split.items() if file is not None}


def text_place(data: str) -> str:
    """The absolute path of the text that a study names; the name itself where it is no path."""
    return data if data == ENGLISH else str(existing(data, WHERE_TO_GET))


def _billion_words(path: Path) -> dict[str, list[Document]]:
    """The splits of LM1B as it is released: the held-out part is in 50 files, of which the first is the usual test."""
    held_out = path / _LM1B_HELD_OUT
    parts = [name for name in Content.of(held_out).files if name.startswith("news.")]
    train = [name for name in Content.of(path / _LM1B_TRAIN).files if name.startswith("news.")]
    if len(parts) < len(("test", "valid")) or not train:
        raise WorkloadError(
            f"data: expected the files of LM1B, news.en-... in {path / _LM1B_TRAIN} and news.en.heldout-... in"
            f" {held_out}, got {listed(train)} and {listed(parts)}"
        )
    return {
        "train": [read_document(path / _LM1B_TRAIN / name) for name in train],
        "valid": [read_document(held_out / parts[1])],
        "test": [read_document(held_out / parts[0])],
    }


def named_file(folder: Path, names: Sequence[str], wanted: Sequence[str]) -> Path | None:
    """The one file of the folder with one of the wanted names; raises WorkloadError where there are two."""
    found = [name for name in wanted if name in names]
    if len(found) > 1:
        raise WorkloadError(f"data: {folder} has {' and '.join(found)}; keep one of them")
    return folder / found[0] if found else None


def english() -> str:
    """The text of Python's `help()` on topics of the language, which differs a little between Python's versions."""
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise WorkloadError(
            f"data {ENGLISH!r}: this Python has no module pydoc_data.topics, which is part of the standard library;"
            " give the path of a text file"
        ) from error
    return "\n".join(topics[name] for name in sorted(topics))


def read_document(file: Path) -> Document:
    """A text file, also a compressed one, whatever its name; a byte-order mark is dropped.

    Raises WorkloadError as `read_splits` does, and where the file holds no text.
    """
    raw = content(file)
    if raw.startswith(_GZIP):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise WorkloadError(f"data: {file} is damaged or cut off: {error}; get the file again") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise WorkloadError(
            f"data: {file}, line {line}: expected text in UTF-8, got the byte 0x{raw[error.start]:02x}; convert it,"
            f" for instance by: iconv -f ISO-8859-1 -t UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise WorkloadError(f"data: {file}, line {line}: expected text, got a null character")
    if not text.strip():
        raise WorkloadError(f"data: {file} has no text")
    return Document(str(file), text)


def lines_of(text: str) -> list[str]:
    """The lines without their ends: a line feed, with or without a carriage return before it. (Other characters that
    Python takes for the end of a line would move the lines of a text against those of its translation.)
    """
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def divided(documents: list[Document]) -> dict[str, list[Document]]:
    """The documents one after the other in contiguous stretches: the splits of `read_splits`."""
    total = sum(len(document.text) for document in documents)
    bounds = [round(total * (1 - 2 * _HELD_OUT)), round(total * (1 - _HELD_OUT)), total]
    found: dict[str, list[Document]] = {split: [] for split in SPLITS}
    first = 0
    for document in documents:
        text, begin = document.text, 0
        for split, bound in zip(SPLITS, bounds, strict=True):
            end = len(text) if split == SPLITS[-1] else _line_start(text, bound - first)
            if end > begin:
                found[split].append(Document(document.name, text[begin:end]))
                begin = end
        first += len(text)
    short = next((split for split in SPLITS if not any(part.text.strip() for part in found[split])), None)
    if short is not None:
        raise WorkloadError(
            f"data: {documents[0].name} is too short to be divided: {total:,} characters in"
            f" {sum(len(lines_of(document.text)) for document in documents):,} lines leave nothing for {short}"
        )
    return found


def division(items: Sequence[Item]) -> dict[str, list[Item]]:
    """The items in contiguous stretches: the last twentieth is `test`, the one before it `valid`."""
    cuts = [0, *(round(len(items) * (1 - part)) for part in (2 * _HELD_OUT, _HELD_OUT)), len(items)]
    return {split: list(items[first:last]) for split, (first, last) in zip(SPLITS, pairwise(cuts), strict=True)}


def _line_start(text: str, place: int) -> int:
    """The first beginning of a line at or after a place, within the text."""
    if place <= 0:
        return 0
    end = text.find("\n", place - 1)
    return len(text) if end < 0 else end + 1
