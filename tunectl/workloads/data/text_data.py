"""Examples of a language model: windows of a text, or its lines."""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from tunectl.workloads.data.text_files import lines_of, read_splits, text_place
from tunectl.workloads.data.text_tokenizers import Tokenizer, load_tokenizer, tokenizer_place

EXAMPLES = ("windows", "lines")
"""What an example is, by its name in a study: see `text_data`."""

PADDING = -1
"""The number in place of a token after the end of an example."""


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Texts of unequal length as tokens: row i is tokens[starts[i]:starts[i + 1]]."""

    tokens: Tensor
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each row, shape [N]."""
        return np.diff(self.starts)


@dataclass(frozen=True, slots=True)
class TextData:
    """The examples of each split, the size of the vocabulary, and the part of the predicted tokens of `train` that each
    token has, shape [vocabulary].
    """

    splits: dict[str, Dataset[Any]]
    vocabulary: int
    token_shares: NDArray[np.float64]


def token_type(vocabulary: int) -> torch.dtype:
    """The smallest type for tokens and PADDING, in which a corpus is kept."""
    return torch.int16 if vocabulary - 1 <= torch.iinfo(torch.int16).max else torch.int32


def token_rows(texts: Iterable[str], tokenizer: Tokenizer) -> TokenRows:
    """The tokens of each text, followed by the boundary, which is token `tokenizer.size`."""
    numpy_type = np.int16 if token_type(tokenizer.size + 1) == torch.int16 else np.int32
    boundary = np.array([tokenizer.size], numpy_type).tobytes()
    # Arrays of their own for millions of lines would take more memory than the tokens.
    tokens, starts = bytearray(), array("q", [0])
    for text in texts:
        tokens += tokenizer.encode(text).astype(numpy_type).tobytes()
        tokens += boundary
        starts.append(len(tokens) // len(boundary))
    return TokenRows(torch.from_numpy(np.frombuffer(tokens, numpy_type)), np.array(starts, np.int64))


class PaddedRows:
    """Stretches of one long row of tokens, as a batch of equal lengths."""

    def __init__(self, tokens: Tensor, starts: NDArray[np.int64], stops: NDArray[np.int64], longest: int) -> None:
        self._tokens, self._starts, self._stops, self.longest = tokens, starts, stops, longest

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, rows: Sequence[int], length: int | None = None) -> Tensor:
        """These rows, shape [B, T], filled up with PADDING; T is `length`, or that of the longest of them."""
        chosen = np.asarray(rows)
        starts, stops = self._starts[chosen][:, None], self._stops[chosen][:, None]
        width = int((stops - starts).max()) if length is None else length
        places = starts + np.arange(width)
        inside = torch.from_numpy(places < stops)
        found = self._tokens[torch.from_numpy(np.minimum(places, len(self._tokens) - 1))]
        return torch.where(inside, found, torch.full_like(found, PADDING))

    def joined(self, other: PaddedRows) -> PaddedRows:
        """The stretches of both, in their order."""
        first = len(self._tokens)
        return PaddedRows(
            torch.cat([self._tokens, other._tokens]),
            np.concatenate([self._starts, other._starts + first]),
            np.concatenate([self._stops, other._stops + first]),
            max(self.longest, other.longest),
        )


class Lines(Dataset[tuple[Tensor, ...]]):
    """An example for each line; those of a batch are as long as the longest of them."""

    def __init__(self, rows: PaddedRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return (self._rows.batch([index], self._rows.longest)[0],)

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, ...]]:
        """The examples of a batch, of one length."""
        return [(row,) for row in self._rows.batch(indices)]

    def __add__(self, other: Dataset[Any]) -> Dataset[Any]:  # type: ignore[override]
        """The lines of both, whose batches are still as long as their longest line."""
        return Lines(self._rows.joined(other._rows)) if isinstance(other, Lines) else super().__add__(other)


def text_data(data: str, *, tokenizer: str, examples: str, sequence_length: int) -> TextData:
    """The examples of a text: tokens, shape [sequence_length + 1], of which each is to be predicted but the first.

    `windows`: the text, with a boundary before, between and after its files, is cut into windows that have one token in
    common, so that every token is predicted once; the last window is filled up. `lines`: an example is a line between
    two boundaries; longer lines are cut into several, empty lines are left out. The boundary is the token after those
    of the tokenizer. Raises WorkloadError as `read_splits` and `load_tokenizer` do.
    """
    rows, vocabulary = tokenised_text(data, tokenizer, examples)
    build = _windows if examples == "windows" else _lines
    train = rows["train"].tokens
    counts = np.bincount(train.numpy(), minlength=vocabulary)
    return TextData(
        {split: build(found, vocabulary - 1, sequence_length) for split, found in rows.items()},
        vocabulary,
        counts / len(train),
    )


def tokenised_text(data: str, tokenizer: str, examples: str) -> tuple[dict[str, TokenRows], int]:
    """The texts of each split as tokens, a row for each file or line, and the size of the vocabulary with the boundary.

    They are read once in a process and its forks.
    """
    return _tokenised(text_place(data), tokenizer_place(tokenizer), examples)


@functools.cache
def _tokenised(data: str, tokenizer: str, examples: str) -> tuple[dict[str, TokenRows], int]:
    chosen = load_tokenizer(tokenizer)
    found = {}
    for split, documents in read_splits(data).items():
        texts = (document.text for document in documents)
        if examples == "lines":
            texts = (line for text in texts for line in lines_of(text) if line.strip())
        found[split] = token_rows(texts, chosen)
    return found, chosen.size + 1


def _windows(rows: TokenRows, boundary: int, length: int) -> TensorDataset:
    """Windows of length + 1 tokens, each of which begins with the last token of the one before it."""
    predicted = len(rows.tokens)
    windows = math.ceil(predicted / length)
    stream = rows.tokens.new_full((windows * length + 1,), PADDING)
    stream[0], stream[1 : predicted + 1] = boundary, rows.tokens
    # Views of one row of tokens, which so has no copy.
    return TensorDataset(stream.unfold(0, length + 1, length))


def _lines(rows: TokenRows, boundary: int, length: int) -> Lines:
    """A line is between the boundary of the line before it and its own; it is cut where it has more than length + 1."""
    stream = torch.cat([rows.tokens.new_tensor([boundary]), rows.tokens])
    pieces = -(-rows.lengths() // length)  # of each line
    line = np.repeat(np.arange(len(rows)), pieces)
    piece = np.arange(len(line)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = rows.starts[line] + piece * length
    stops = np.minimum(starts + length, rows.starts[line + 1]) + 1
    return Lines(PaddedRows(stream, starts, stops, length + 1))
