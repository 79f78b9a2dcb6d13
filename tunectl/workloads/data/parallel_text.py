"""Pairs of a text and its translation: a folder of two files a split, a table, or numbers in words."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data.data_notes import note
from tunectl.workloads.data.data_paths import Content, existing, listed
from tunectl.workloads.data.number_words import SOURCE, TARGET, number_pairs
from tunectl.workloads.data.text_data import PaddedRows, TokenRows, token_rows
from tunectl.workloads.data.text_files import SPLITS, division, lines_of, named_file, read_document
from tunectl.workloads.data.text_tokenizers import load_tokenizer, tokenizer_place

NUMBERS = "numbers"
"""The name in a study of numbers in English and German words, which are generated: see `number_words`."""

WHERE_TO_GET = (
    f"data is {NUMBERS} (numbers in words, generated), a folder with train.SOURCE and train.TARGET, and the same for"
    " valid and test (SOURCE and TARGET are source_language and target_language), or a .tsv file with the source in the"
    " first column and the target in the second; WMT'16 EN-DE: https://www.statmt.org/wmt16/translation-task.html, with"
    " newstest2014 as test"
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and its translation, and the place of its line for messages."""

    place: tuple[str, int]
    source: str
    target: str


class TextList:
    """Many texts in little memory, of which few are read."""

    def __init__(self, texts: Sequence[str]) -> None:
        encoded = [text.encode("utf-8") for text in texts]
        self._all = b"".join(encoded)
        self._starts = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> str:
        return self._all[self._starts[index] : self._starts[index + 1]].decode("utf-8")


@dataclass(frozen=True, slots=True)
class ParallelText:
    """The examples of each split, the size of the vocabulary, the shares of target tokens of `train`, shape
    [vocabulary], and the translations: the number in an example is that of its translation.
    """

    splits: dict[str, Dataset[Any]]
    vocabulary: int
    token_shares: NDArray[np.float64]
    translations: TextList


@dataclass(frozen=True, slots=True)
class _TokenPairs:
    """The pairs of a split as tokens, each text followed by the boundary, and their lines in a file.

    `first` is the number of the first one.
    """

    file: str
    lines: NDArray[np.int64]
    source: TokenRows
    target: TokenRows
    first: int


class Pairs(Dataset[tuple[Tensor, ...]]):
    """Source tokens, target tokens from boundary to boundary, and the number of the pair.

    Those of a batch are as long as the longest of them.
    """

    def __init__(self, source: PaddedRows, target: PaddedRows, numbers: Tensor) -> None:
        self._source, self._target, self._numbers = source, target, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        source, target = self._source, self._target
        rows = source.batch([index], source.longest)[0], target.batch([index], target.longest)[0]
        return (*rows, self._numbers[index])

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, ...]]:
        """The examples of a batch, of one length."""
        numbers = self._numbers[torch.tensor(indices)]
        return list(zip(self._source.batch(indices), self._target.batch(indices), numbers, strict=True))

    def __add__(self, other: Dataset[Any]) -> Dataset[Any]:  # type: ignore[override]
        """The pairs of both, whose batches are still as long as their longest texts."""
        if not isinstance(other, Pairs):
            return super().__add__(other)
        numbers = torch.cat([self._numbers, other._numbers])
        return Pairs(self._source.joined(other._source), self._target.joined(other._target), numbers)


def parallel_text(
    data: str, *, tokenizer: str, source_language: str, target_language: str, sequence_length: int
) -> ParallelText:
    """The pairs as tokens of one vocabulary, at most `sequence_length` with the boundary at their end.

    Training pairs that are longer, or of which a text is empty, are left out, as is usual; in other splits they are an
    error, since a measure without them would not be comparable with those of others. Lines that are empty in both texts
    are left out everywhere. Raises WorkloadError also where the data cannot be read: see `read_pairs`.
    """
    found, vocabulary, translations = tokenised_pairs(data, tokenizer, source_language, target_language)
    splits: dict[str, Dataset[Any]] = {}
    shares = np.zeros(vocabulary)
    for split, pairs in found.items():
        kept = _kept(split, pairs, sequence_length)
        splits[split] = _examples(pairs, kept, vocabulary - 1, sequence_length)
        if split == "train":
            target = np.repeat(np.isin(np.arange(len(pairs.lines)), kept), pairs.target.lengths())
            shares = np.bincount(pairs.target.tokens.numpy()[target], minlength=vocabulary) / target.sum()
    return ParallelText(splits, vocabulary, shares, translations)


def _kept(split: str, pairs: _TokenPairs, longest: int) -> NDArray[np.int64]:
    """The pairs of a split that can be examples; raises WorkloadError as `parallel_text` does."""
    sizes = np.stack([pairs.source.lengths(), pairs.target.lengths()])
    empty, lengths = sizes.min(0) <= 1, sizes.max(0)
    out = empty | (lengths > longest)
    if not out.any():
        return np.arange(len(out))
    remedy = f"the longest pair has {lengths[~empty].max(initial=0)} tokens: raise sequence_length, or change the data"
    if split != "train":
        number = int(np.flatnonzero(out)[0])
        what = "one text of the pair is empty" if empty[number] else f"{lengths[number]} tokens"
        raise WorkloadError(
            f"data: {pairs.file}, line {pairs.lines[number]}: {what}; expected two texts of at most sequence_length,"
            f" {longest}, tokens (only training pairs may be left out); {remedy}"
        )
    found = (
        f"data: of {len(out):,} training pairs {(out & ~empty).sum():,} (longer than sequence_length, {longest}) and"
        f" {empty.sum():,} (a text is empty) are left out"
    )
    if out.all():
        raise WorkloadError(f"{found}: there is no other; {remedy}")
    note(found)
    return np.flatnonzero(~out)


def _examples(pairs: _TokenPairs, kept: NDArray[np.int64], boundary: int, longest: int) -> Pairs:
    # The boundary before a target is that of the target before it.
    targets = torch.cat([pairs.target.tokens.new_tensor([boundary]), pairs.target.tokens])
    source = PaddedRows(pairs.source.tokens, pairs.source.starts[kept], pairs.source.starts[kept + 1], longest)
    target = PaddedRows(targets, pairs.target.starts[kept], pairs.target.starts[kept + 1] + 1, longest + 1)
    return Pairs(source, target, torch.from_numpy(pairs.first + kept))


def tokenised_pairs(
    data: str, tokenizer: str, source_language: str, target_language: str
) -> tuple[dict[str, _TokenPairs], int, TextList]:
    """The pairs of each split as tokens, the size of the vocabulary with the boundary, and all translations.

    They are read once in a process and its forks.
    """
    place = data if data == NUMBERS else str(existing(data, WHERE_TO_GET))
    return _tokenised(place, tokenizer_place(tokenizer), source_language, target_language)


@functools.cache
def _tokenised(data: str, tokenizer: str, source: str, target: str) -> tuple[dict[str, _TokenPairs], int, TextList]:
    chosen = load_tokenizer(tokenizer)
    found: dict[str, _TokenPairs] = {}
    translations: list[str] = []
    for split, pairs in read_pairs(data, source, target).items():
        rows = (
            token_rows((pair.source for pair in pairs), chosen),
            token_rows((pair.target for pair in pairs), chosen),
        )
        lines = np.array([pair.place[1] for pair in pairs])
        found[split] = _TokenPairs(pairs[0].place[0], lines, rows[0], rows[1], len(translations))
        translations += [pair.target for pair in pairs]
    return found, chosen.size + 1, TextList(translations)


def is_parallel(data: str, source: str) -> bool:
    """Whether `data` is a name or path of pairs, and not of a text in one language."""
    if data == NUMBERS:
        return True
    path = existing(data, WHERE_TO_GET)
    names = [f"train.{source}", f"train.{source}.gz", "train.tsv", "train.tsv.gz"]
    return any((path / name).is_file() for name in names) if path.is_dir() else path.name.endswith((".tsv", ".tsv.gz"))


def read_pairs(data: str, source: str, target: str) -> dict[str, list[Pair]]:
    """The pairs of each split, without those that are empty on both sides; white space around a text is dropped.

    A folder has its splits by name; where it has only train, and in a single table, they are divided as text is: the
    last twentieth is `test`, the one before it `valid`. Raises WorkloadError where files are missing, of unequal
    length, damaged or not text.
    """
    if data == NUMBERS:
        _check_languages(source, target)
        return {
            split: [Pair((NUMBERS, number), *texts) for number, texts in enumerate(pairs, start=1)]
            for split, pairs in number_pairs().items()
        }
    path = Path(data)
    found = {"train": _from_table(path)} if path.is_file() else _from_folder(path, source, target)
    kept = {split: [pair for pair in pairs if pair.source or pair.target] for split, pairs in found.items()}
    if "valid" not in kept:
        kept = division(kept["train"])
    short = next((split for split, pairs in kept.items() if not pairs), None)
    if short is not None:
        raise WorkloadError(f"data: {path}: too few pairs, none for {short}")
    return kept


def _check_languages(source: str, target: str) -> None:
    if (source, target) != (SOURCE, TARGET):
        raise WorkloadError(
            f"data {NUMBERS!r}: expected source_language {SOURCE} and target_language {TARGET}, got {source} and"
            f" {target}"
        )


def _from_folder(path: Path, source: str, target: str) -> dict[str, list[Pair]]:
    names = Content.of(path).files
    found = {}
    for split in SPLITS:
        files = [named_file(path, names, [f"{split}.{side}", f"{split}.{side}.gz"]) for side in (source, target)]
        table = named_file(path, names, [f"{split}.tsv", f"{split}.tsv.gz"])
        match [*files, table]:
            case [Path() as one, Path() as other, None]:
                found[split] = _from_files(one, other)
            case [None, None, Path() as both]:
                found[split] = _from_table(both)
            case [None, None, None]:
                continue
            case _:
                raise WorkloadError(
                    f"data: {path}: expected both {split}.{source} and {split}.{target}, or {split}.tsv alone, got"
                    f" {listed(names)}"
                )
    if "train" not in found or ("test" in found and "valid" not in found):
        missing = "train" if "train" not in found else "valid"
        raise WorkloadError(
            f"data: {path}: expected {missing}.{source} and {missing}.{target}, got {listed(names)}; {WHERE_TO_GET}"
        )
    return found


def _from_files(source: Path, target: Path) -> list[Pair]:
    texts = [lines_of(read_document(file).text) for file in (source, target)]
    if len(texts[0]) != len(texts[1]):
        raise WorkloadError(
            f"data: {source} has {len(texts[0]):,} lines and {target} {len(texts[1]):,}; expected as many, line for"
            " line the text and its translation"
        )
    return [
        Pair((str(target), number), one.strip(), other.strip())
        for number, (one, other) in enumerate(zip(*texts, strict=True), start=1)
    ]


def _from_table(file: Path) -> list[Pair]:
    pairs = []
    for number, line in enumerate(lines_of(read_document(file).text), start=1):
        columns = line.split("\t")
        if len(columns) == 1 and line.strip():
            raise WorkloadError(
                f"data: {file}, line {number}: expected the source, a tab and the target, got no tab; {WHERE_TO_GET}"
            )
        one, other = (*columns, "")[:2]
        pairs.append(Pair((str(file), number), one.strip(), other.strip()))
    return pairs
