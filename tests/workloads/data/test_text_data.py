"""Examples of a language model: every token is predicted once. Tests text_data.py and text_tokenizers.py."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, default_collate
from torch_parts import tensors_of

from tunectl.core.errors import WorkloadError
from tunectl.training.collation import drawn
from tunectl.training.seeds import Purpose, sequence
from tunectl.workloads.data.text_data import PADDING, TextData, text_data, token_type
from tunectl.workloads.data.text_tokenizers import ByteTokenizer, load_tokenizer

_BOUNDARY = 256


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.txt").write_text("abcdefg\n\nhij\nklmnopqrstuvw\n", encoding="utf-8")
    (tmp_path / "valid.txt").write_text("größe\n", encoding="utf-8")
    return tmp_path


def _data(folder: Path, examples: str, length: int) -> TextData:
    return text_data(str(folder), tokenizer="bytes", examples=examples, sequence_length=length)


def _batch(dataset: Dataset[Any], rows: list[int]) -> torch.Tensor:
    (tokens,) = drawn(dataset, rows, sequence(0, Purpose.EXAMPLES), default_collate)
    assert isinstance(tokens, torch.Tensor)
    return tokens


@pytest.mark.parametrize("length", [1, 4, 7, 100])
def test_windows_predict_every_byte_once_and_the_last_is_filled_up(folder, length):
    text = [*b"abcdefg\n\nhij\nklmnopqrstuvw\n", _BOUNDARY]
    (windows,) = tensors_of(_data(folder, "windows", length).splits["train"])
    assert windows.shape == (-(-len(text) // length), length + 1)
    predicted = windows[:, 1:].flatten().tolist()
    assert predicted == text + [PADDING] * (len(predicted) - len(text))
    # Each begins with the token before its first one.
    assert windows[:, 0].tolist() == [_BOUNDARY, *text][: len(text) : length]


def test_lines_predict_every_line_and_its_end_and_long_ones_are_cut(folder):
    data = _data(folder, "lines", 5).splits["train"]
    expected = [
        [_BOUNDARY, *b"abcde"],
        [*b"efg", _BOUNDARY, PADDING, PADDING],
        [_BOUNDARY, *b"hij", _BOUNDARY, PADDING],
        [_BOUNDARY, *b"klmno"],
        [*b"opqrst"],
        [*b"tuvw", _BOUNDARY, PADDING],
    ]
    assert len(data) == 6  # type: ignore[arg-type]
    assert _batch(data, list(range(6))).tolist() == expected
    assert [data[row][0].tolist() for row in range(6)] == expected
    # A batch is as long as its longest example.
    assert _batch(data, [1, 2]).tolist() == [row[:5] for row in expected[1:3]]


def test_a_line_that_fills_its_pieces_exactly_has_no_empty_piece(tmp_path):
    (tmp_path / "train.txt").write_text("abcd\n")
    (tmp_path / "valid.txt").write_text("a\n")
    data = _data(tmp_path, "lines", 5).splits["train"]
    assert _batch(data, [0]).tolist() == [[_BOUNDARY, *b"abcd", _BOUNDARY]]
    assert len(data) == 1  # type: ignore[arg-type]
    assert len(_data(tmp_path, "lines", 4).splits["train"]) == 2  # type: ignore[arg-type]


def test_the_shares_are_those_of_the_predicted_tokens(folder):
    for examples in ("windows", "lines"):
        data = _data(folder, examples, 4)
        rows = _batch(data.splits["train"], list(range(len(data.splits["train"]))))[:, 1:]  # type: ignore[arg-type]
        counts = np.bincount(rows[rows >= 0].numpy(), minlength=data.vocabulary)
        np.testing.assert_allclose(data.token_shares, counts / counts.sum())
        assert data.vocabulary == 257


def test_lines_can_be_loaded_by_torch_s_own_loader(folder):
    batches = [batch[0].shape[0] for batch in DataLoader(_data(folder, "lines", 5).splits["train"], batch_size=4)]
    assert batches == [4, 2]


def test_a_text_is_read_once_whatever_the_length_of_the_windows(folder, monkeypatch):
    _data(folder, "windows", 4)
    (folder / "train.txt").unlink()
    assert len(_data(folder, "windows", 9).splits["train"]) == 4  # type: ignore[arg-type]


def test_the_type_of_the_tokens_holds_the_largest():
    assert token_type(257) == torch.int16
    assert token_type(2**15) == torch.int16
    assert token_type(2**15 + 1) == torch.int32


def test_bytes_become_text_again_and_wrong_bytes_do_no_harm():
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode("größer, 東京").tolist()) == "größer, 東京"
    assert tokenizer.decode([0x67, 0xC3]) == "g\ufffd"


class _Library:
    """In place of tokenizers.Tokenizer: a token for each word, numbers with gaps."""

    _VOCABULARY: ClassVar = {"one": 0, "two": 5, "<unk>": 7}

    def __init__(self) -> None:
        self.settings: list[str] = []

    @classmethod
    def from_file(cls, path: str) -> _Library:
        if "{" not in Path(path).read_text():
            raise Exception("expected value at line 1 column 1")
        return cls()

    def get_vocab(self, *, with_added_tokens: bool) -> dict[str, int]:
        assert with_added_tokens
        return self._VOCABULARY

    def no_truncation(self) -> None:
        self.settings.append("no truncation")

    def no_padding(self) -> None:
        self.settings.append("no padding")

    def encode(self, text: str, *, add_special_tokens: bool) -> SimpleNamespace:
        assert not add_special_tokens
        return SimpleNamespace(ids=[self._VOCABULARY.get(word, 7) for word in text.split()])

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        words = {number: word for word, number in self._VOCABULARY.items()}
        return " ".join(words[number] for number in ids)


@pytest.fixture
def library(monkeypatch):
    module = ModuleType("tokenizers")
    module.Tokenizer = _Library  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tokenizers", module)


def test_a_vocabulary_of_a_file_has_room_for_its_largest_number_and_the_boundary(folder, library):
    (folder / "tokenizer.json").write_text("{}")
    tokenizer = load_tokenizer(str(folder / "tokenizer.json"))
    assert tokenizer.size == 8
    assert tokenizer.encode("one two\nthree").tolist() == [0, 5, 7]
    assert tokenizer.decode([5, 0]) == "two one"
    data = text_data(str(folder), tokenizer=str(folder / "tokenizer.json"), examples="windows", sequence_length=4)
    assert data.vocabulary == 9
    assert tensors_of(data.splits["valid"])[0].tolist() == [[8, 7, 8, PADDING, PADDING]]


def test_a_tokenizer_that_cannot_be_read_is_refused(folder, library):
    (folder / "wrong.json").write_text("nothing")
    with pytest.raises(WorkloadError, match=r"wrong.json cannot be read: .*; expected a tokenizer.json"):
        load_tokenizer(str(folder / "wrong.json"))
    with pytest.raises(WorkloadError, match=r"tokenizer 'gone.json': .* does not exist; tokenizer is bytes, or the"):
        load_tokenizer("gone.json")


def test_without_the_library_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    (folder / "other.json").write_text("{}")
    with pytest.raises(WorkloadError, match=r"needs the library tokenizers.*pip install .*\[text\]"):
        load_tokenizer(str(folder / "other.json"))
