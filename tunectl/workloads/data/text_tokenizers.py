"""From text to tokens and back: bytes, or the vocabulary of a file of the `tokenizers` library."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tunectl.core.errors import WorkloadError
from tunectl.core.exception_text import exception_line
from tunectl.core.installation import install_command
from tunectl.workloads.data.data_paths import existing

BYTES = "bytes"
"""The tokenizer's name in a study for which each byte is a token; any other is the path of a file."""


class Tokenizer(Protocol):
    """Tokens are whole numbers from 0 to `size` - 1."""

    size: int

    def encode(self, text: str) -> NDArray[Any]:
        """The tokens of a text, shape [T], of any type of whole numbers."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; any whole numbers in range may come, in any order."""


class ByteTokenizer:
    """The bytes of the text in UTF-8."""

    size = 256

    def encode(self, text: str) -> NDArray[Any]:
        """The bytes, shape [T]."""
        return np.frombuffer(text.encode("utf-8"), np.uint8)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text, with the replacement character where bytes are not UTF-8."""
        return bytes(tokens).decode("utf-8", errors="replace")


class FileTokenizer:
    """The tokenizer of a tokenizer.json (Hugging Face's `tokenizers`), without the tokens that it adds at both ends."""

    def __init__(self, file: Path, tokenizer: Any) -> None:
        self._file, self._tokenizer = file, tokenizer
        # Ids may have gaps, so the number of tokens can be less than the largest id.
        self.size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str) -> NDArray[Any]:
        """The tokens, shape [T], line by line, since one call for a long text takes much memory.

        A call for many texts would start threads, after which forks are unsafe.
        """
        encode = self._tokenizer.encode
        parts = [encode(line, add_special_tokens=False).ids for line in text.splitlines(keepends=True)]
        return np.fromiter(itertools.chain.from_iterable(parts), np.int32)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text, without special tokens."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer that a study names; a file is read once.

    Raises WorkloadError where there is no such file, where it cannot be read, and without the library.
    """
    return ByteTokenizer() if name == BYTES else _read(Path(tokenizer_place(name)))


def tokenizer_place(name: str) -> str:
    """The absolute path of the tokenizer that a study names; the name itself where it is no path."""
    if name == BYTES:
        return name
    hint = f"tokenizer is {BYTES}, or the path of a tokenizer.json of the library tokenizers"
    return str(existing(name, hint, keyword="tokenizer"))


@functools.cache
def _read(file: Path) -> FileTokenizer:
    try:
        from tokenizers import Tokenizer as LibraryTokenizer
    except ImportError as error:
        raise WorkloadError(
            f"the tokenizer {file} needs the library tokenizers, which is not installed:"
            f" {install_command('text')}, or set tokenizer to {BYTES}"
        ) from error
    try:
        tokenizer = LibraryTokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise WorkloadError(
            f"the tokenizer {file} cannot be read: {exception_line(error)}; expected a tokenizer.json, as"
            " Tokenizer.save of the library tokenizers writes it"
        ) from error
    # A file may ask for texts of one length: cut, or filled up with padding.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    found = FileTokenizer(file, tokenizer)
    if found.size < 1:
        raise WorkloadError(f"the tokenizer {file} has no tokens")
    return found
