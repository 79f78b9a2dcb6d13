"""Pairs of texts: from two files a split, from tables, and numbers in words. Tests parallel_text.py."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from tunectl.core.errors import WorkloadError
from tunectl.training.collation import drawn
from tunectl.training.seeds import Purpose, sequence
from tunectl.workloads.data import data_notes
from tunectl.workloads.data.number_words import EXAMPLES, english, german, number_pairs
from tunectl.workloads.data.parallel_text import ParallelText, TextList, is_parallel, parallel_text, read_pairs

_BOUNDARY, _NONE = 256, -1


def _read(path: Path, length: int = 8, source: str = "en", target: str = "de") -> ParallelText:
    return parallel_text(
        str(path), tokenizer="bytes", source_language=source, target_language=target, sequence_length=length
    )


def _refusal(path: Path, **changes: Any) -> str:
    with pytest.raises(WorkloadError) as caught:
        _read(path, **changes)
    return str(caught.value)


def _write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path):
    return _write(
        tmp_path / "pairs", train_en="a\nbcd\n\nef\n", train_de="uvw\nx\n\nyz\n", valid_en="ab\n", valid_de="zü\n"
    )


def _batch(dataset: Dataset[Any], rows: list[int]) -> list[list[Any]]:
    return [tensor.tolist() for tensor in drawn(dataset, rows, sequence(0, Purpose.EXAMPLES), default_collate)]


def test_an_example_is_the_source_the_target_and_the_number_of_its_translation(folder):
    found = _read(folder)
    source, target, numbers = _batch(found.splits["train"], [0, 1, 2])
    assert source == [[97, 256, -1, -1], [98, 99, 100, 256], [101, 102, 256, -1]]
    assert target == [[256, *b"uvw", 256], [256, *b"x", 256, -1, -1], [256, *b"yz", 256, -1]]
    assert [found.translations[number] for number in numbers] == ["uvw", "x", "yz"]
    (number,) = _batch(found.splits["valid"], [0])[2]
    assert found.translations[number] == "zü"
    assert found.vocabulary == 257


def test_a_batch_is_as_long_as_its_longest_pair_and_an_example_alone_as_the_limit(folder):
    train = _read(folder, length=6).splits["train"]
    source, target, _ = _batch(train, [2])
    assert (len(source[0]), len(target[0])) == (3, 4)
    assert [part.shape for part in train[2]] == [(6,), (7,), ()]
    assert [part.shape for part in Subset(train, [2, 1])[0]] == [(6,), (7,), ()]
    assert [len(batch) for batch in DataLoader(train, batch_size=2)] == [3, 3]


def test_the_shares_are_those_of_the_predicted_target_tokens_that_are_trained_on(folder):
    _write(folder, train_en="a\nbcd\n\nef\nmuch too long\n", train_de="uvw\nx\n\nyz\nzzz\n")
    shares = _read(folder).token_shares
    expected = np.bincount([*b"uvw", 256, *b"x", 256, *b"yz", 256], minlength=257) / 9
    np.testing.assert_allclose(shares, expected)


def test_long_and_half_empty_training_pairs_are_left_out_with_a_note(folder, capsys):
    _write(folder, train_en="a\nabcdefgh\n \nc\nd\n", train_de="b\nc\nd\n\ne\n")
    data_notes.taken()
    found = _read(folder)
    assert [found.translations[number] for number in _batch(found.splits["train"], [0, 1])[2]] == ["b", "e"]
    (note,) = data_notes.taken()
    assert note.endswith("of 5 training pairs 1 (longer than sequence_length, 8) and 2 (a text is empty) are left out")
    assert len(_read(folder, length=9).splits["train"]) == 3  # type: ignore[arg-type]


def test_in_other_splits_they_are_refused_with_their_line(folder):
    _write(folder, valid_en="a\nabcdefgh\n", valid_de="b\nc\n")
    message = _refusal(folder)
    assert "valid.de, line 2: 9 tokens; expected two texts of at most sequence_length, 8, tokens" in message
    assert "the longest pair has 9 tokens: raise sequence_length" in message
    _write(folder, valid_en="a\nb\n", valid_de="b\n\n")
    (folder / "train.en").touch()
    parallel_folder = folder.rename(folder.with_name("other"))
    assert "valid.de, line 2: one text of the pair is empty" in _refusal(parallel_folder)


def test_where_no_training_pair_is_left_that_is_an_error(folder):
    assert "are left out: there is no other; the longest pair has 4 tokens" in _refusal(folder, length=1)


def test_files_of_unequal_length_are_refused(folder):
    _write(folder, train_de="uvw\nx\n")
    message = _refusal(folder)
    assert f"{folder}/train.en has 4 lines and {folder}/train.de 2; expected as many" in message


def test_characters_that_python_takes_for_line_ends_do_not_shift_the_lines(folder):
    _write(folder, train_en="a\u2028b\nc\n", train_de="d\ne\x0c\n")
    source = [pair.source for pair in read_pairs(str(folder), "en", "de")["train"]]
    assert source == ["a\u2028b", "c"]


def test_tables_and_compressed_files_are_read(tmp_path):
    lines = "".join(f"s{number}\tt{number}\tsomething else\n" for number in range(40))
    (tmp_path / "pairs.tsv").write_text(lines)
    one = read_pairs(str(tmp_path / "pairs.tsv"), "en", "de")
    assert {split: len(pairs) for split, pairs in one.items()} == {"train": 36, "valid": 2, "test": 2}
    assert (one["test"][-1].source, one["test"][-1].target) == ("s39", "t39")
    (tmp_path / "train.tsv.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "valid.tsv").write_text("a\tb\n")
    both = read_pairs(str(tmp_path), "en", "de")
    assert {split: len(pairs) for split, pairs in both.items()} == {"train": 40, "valid": 1}


def test_a_table_without_a_tab_is_refused(tmp_path):
    (tmp_path / "pairs.tsv").write_text("a\tb\n\nc d\n")
    assert "pairs.tsv, line 3: expected the source, a tab and the target, got no tab" in _refusal(
        tmp_path / "pairs.tsv"
    )


def test_missing_files_are_said_with_what_was_found_and_where_to_get_the_data(folder, tmp_path):
    message = _refusal(folder, target="fr")
    assert (
        "expected both train.en and train.fr, or train.tsv alone, got train.de, train.en, valid.de, valid.en" in message
    )
    empty = _write(tmp_path / "empty", readme_md="a")
    message = _refusal(empty)
    assert "expected train.en and train.de, got readme.md" in message
    assert "https://www.statmt.org/wmt16" in message
    assert "does not exist" in _refusal(tmp_path / "gone")
    (folder / "train.en").write_bytes(b"\xff\xfe")
    assert "train.en, line 1: expected text in UTF-8" in _refusal(folder)


def test_pairs_and_texts_are_distinguished(folder, tmp_path):
    assert is_parallel("numbers", "en")
    assert is_parallel(str(folder), "en")
    assert not is_parallel(str(_write(tmp_path / "text", train_txt="a")), "en")
    (tmp_path / "pairs.tsv").touch()
    assert is_parallel(str(tmp_path / "pairs.tsv"), "en")


@pytest.mark.parametrize(
    ("number", "one", "other"),
    [
        (0, "zero", "null"),
        (1, "one", "eins"),
        (16, "sixteen", "sechzehn"),
        (21, "twenty-one", "ein und zwanzig"),
        (101, "one hundred one", "ein hundert eins"),
        (1_000, "one thousand", "ein tausend"),
        (1_001, "one thousand one", "ein tausend eins"),
        (342_007, "three hundred forty-two thousand seven", "drei hundert zwei und vierzig tausend sieben"),
        (999_999, "nine hundred ninety-nine thousand nine hundred ninety-nine",
         "neun hundert neun und neunzig tausend neun hundert neun und neunzig"),
    ],
)  # fmt: skip
def test_numbers_in_words(number, one, other):
    assert english(number) == one
    assert german(number) == other


def test_the_numbers_are_distinct_the_same_every_time_and_need_no_file():
    pairs = number_pairs()
    assert {split: len(found) for split, found in pairs.items()} == EXAMPLES
    everything = [pair for found in pairs.values() for pair in found]
    assert len({one for one, _ in everything}) == len({other for _, other in everything}) == len(everything)
    assert pairs["train"][0] == (
        "one hundred fifty-seven thousand one hundred five", "ein hundert sieben und fünfzig tausend ein hundert fünf"
    )  # fmt: skip
    found = parallel_text("numbers", tokenizer="bytes", source_language="en", target_language="de", sequence_length=80)
    number = int(found.splits["test"][0][2])
    assert found.translations[number] == pairs["test"][0][1]
    with pytest.raises(WorkloadError, match="expected source_language en and target_language de, got de and en"):
        read_pairs("numbers", "de", "en")


def test_many_texts_in_little_memory_are_the_same():
    texts = ["größer", "", "a b"]
    assert [TextList(texts)[number] for number in range(3)] == texts
    assert len(TextList(texts)) == 3
