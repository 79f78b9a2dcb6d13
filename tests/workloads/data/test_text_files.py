"""Text on disk and inside Python, in splits. Tests text_files.py."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data.text_files import Document, divided, english, lines_of, read_document, read_splits

_LINES = "".join(f"line number {number:03}\n" for number in range(200))


def _text(documents: list[Document]) -> str:
    return "".join(document.text for document in documents)


def test_the_english_text_inside_python_is_divided_into_contiguous_stretches():
    found = read_splits("english")
    assert _text([*found["train"], *found["valid"], *found["test"]]) == english()
    sizes = [len(_text(documents)) / len(english()) for documents in found.values()]
    assert sizes == pytest.approx([0.9, 0.05, 0.05], abs=0.01)
    assert "the" in english().split()


def test_a_file_is_divided_at_the_beginning_of_lines(tmp_path):
    (tmp_path / "a.text").write_text(_LINES)
    found = read_splits(str(tmp_path / "a.text"))
    assert [lines_of(_text(found[split]))[0] for split in ("valid", "test")] == ["line number 180", "line number 190"]
    assert _text([*found["train"], *found["valid"], *found["test"]]) == _LINES


def test_the_files_of_a_folder_are_divided_as_one_text_in_the_order_of_their_names(tmp_path):
    lines = _LINES.splitlines(keepends=True)
    for name, part in (("b.txt", lines[100:]), ("a.txt", lines[:100])):
        (tmp_path / name).write_text("".join(part))
    (tmp_path / "readme.md").write_text("not this")
    (tmp_path / ".hidden.txt").write_text("nor this")
    found = read_splits(str(tmp_path))
    assert [document.name.rpartition("/")[2] for document in found["train"]] == ["a.txt", "b.txt"]
    assert _text([*found["train"], *found["valid"], *found["test"]]) == _LINES


def test_files_by_the_names_of_splits_are_the_splits_also_compressed(tmp_path):
    (tmp_path / "train.txt").write_text("one\n")
    (tmp_path / "valid.txt.gz").write_bytes(gzip.compress(b"two\n", mtime=0))
    assert {split: _text(found) for split, found in read_splits(str(tmp_path)).items()} == {
        "train": "one\n",
        "valid": "two\n",
    }
    (tmp_path / "test.txt").write_text("three\n")
    assert list(read_splits(str(tmp_path))) == ["train", "valid", "test"]


def test_lm1b_is_read_as_it_is_released(tmp_path):
    train, held_out = (tmp_path / f"{part}-monolingual.tokenized.shuffled" for part in ("training", "heldout"))
    for folder, name, text in (
        (train, "news.en-00001-of-00100", "a\n"),
        (train, "news.en-00002-of-00100", "b\n"),
        (held_out, "news.en.heldout-00000-of-00050", "test\n"),
        (held_out, "news.en.heldout-00001-of-00050", "valid\n"),
    ):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    found = {split: _text(documents) for split, documents in read_splits(str(tmp_path)).items()}
    assert found == {"train": "a\nb\n", "valid": "valid\n", "test": "test\n"}
    (held_out / "news.en.heldout-00001-of-00050").unlink()
    with pytest.raises(WorkloadError, match="expected the files of LM1B"):
        read_splits(str(tmp_path))


def test_only_line_feeds_end_a_line():
    assert lines_of("a\r\nb\x0bc\u2028d\n\ne") == ["a", "b\x0bc\u2028d", "", "e"]
    assert lines_of("") == []
    assert lines_of("a\n") == ["a"]


def test_a_byte_order_mark_is_dropped(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfgr\xc3\xb6\xc3\x9fer")
    assert read_document(tmp_path / "a.txt").text == "größer"


def _refusal(path: Path, content: bytes | None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WorkloadError) as caught:
        read_splits(str(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\xe9t\xe9\n", "line 2: expected text in UTF-8, got the byte 0xe9; convert it"),
        (b"a\nb\n\0", "line 3: expected text, got a null character"),
        (b"  \n", "has no text"),
        (gzip.compress(b"text " * 1000, mtime=0)[:-20], "is damaged or cut off"),
        (b"a\n", "is too short to be divided: 2 characters in 1 lines leave nothing for"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path, content, message):
    found = _refusal(tmp_path / "a.txt", content)
    assert f"{tmp_path}/a.txt" in found
    assert message in found


def test_what_is_missing_is_said_with_what_was_found_and_where_to_get_it(tmp_path):
    assert "does not exist" in _refusal(tmp_path / "nowhere", None)
    (tmp_path / "notes.md").write_text("a")
    message = _refusal(tmp_path, None)
    assert f"{tmp_path} has no .txt or .txt.gz file; it has notes.md" in message
    assert "https://www.statmt.org/lm-benchmark" in message
    (tmp_path / "train.txt").write_text("a\n")
    assert "has no valid.txt beside train.txt" in _refusal(tmp_path, None)
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(b"a\n", mtime=0))
    assert "has train.txt and train.txt.gz; keep one of them" in _refusal(tmp_path, None)


def test_a_python_without_its_documentation_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(WorkloadError, match=r"has no module pydoc_data\.topics"):
        read_splits("english")


def test_a_long_line_is_not_divided():
    with pytest.raises(WorkloadError, match="leave nothing for"):
        divided([Document("a", "word " * 1000)])
