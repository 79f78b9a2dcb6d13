from __future__ import annotations

from pathlib import Path

from tunectl.store.written_files import Mark, SharedFolders, WrittenFile, keep_written, read_written

SHARED = WrittenFile(
    "out/model.pt",
    Mark(5, 17, 300),
    frozenset(),
    digest="ab",
    worst="overwritten",
    how="overwritten",
    trials=(frozenset({0}), frozenset({1, 2})),
    unclear=frozenset({3}),
)
OWN = WrittenFile("out/a.txt", Mark(6, 18, 3), frozenset({4}))
FOLDERS = SharedFolders("out/run-1", 2, 5)


def kept(path: Path) -> list[str]:
    messages: list[str] = []
    keep_written(path, [OWN, SHARED], FOLDERS, messages.append)
    return messages


def test_what_was_kept_is_read_again_and_the_last_record_of_a_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "written.jsonl"
    keep_written(path, [WrittenFile(OWN.path, Mark(1, 1, 1), frozenset())], None, lambda _line: None)
    assert kept(path) == []
    assert read_written(path) == ({OWN.path: OWN, SHARED.path: SHARED}, FOLDERS)


def test_damaged_lines_are_left_out_and_a_missing_file_has_no_records(tmp_path: Path) -> None:
    path = tmp_path / "written.jsonl"
    kept(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0][:-9] + b"\n" + b"".join(lines[1:]))
    assert read_written(path) == ({SHARED.path: SHARED}, FOLDERS)
    assert read_written(tmp_path / "none.jsonl") == ({}, None)


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "written.jsonl"
    path.mkdir()
    (message,) = kept(path)
    assert message.startswith(f"warning: {path}: cannot be written: ")
    assert message.endswith("; the next run will not know which files these trials wrote")
