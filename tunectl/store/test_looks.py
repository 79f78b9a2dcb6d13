"""test_looks.jsonl: each time that the split `test` was evaluated for a study, written before it is evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunectl.core import regular_files
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error
from tunectl.store import json_lines


@dataclass(frozen=True, slots=True)
class TestLook:
    """A line: when `test` was evaluated, with the model of which trial's configuration, and where that model is.

    `folder` is the absolute path of the last training's folder at that time, `token` its mark, which it keeps where it
    is moved. `digest` is the hash of the examples, "" where it is not known. All are "" or -1 where the line is
    damaged: it counts as a look all the same.
    """

    time: str = ""
    trial: int = -1
    folder: str = ""
    token: str = ""
    digest: str = ""

    @classmethod
    def from_json(cls, line: Mapping[str, Any] | None) -> TestLook:
        """The look of a line, None for a damaged one."""
        found = {name: (line or {}).get(name) for name in ("time", "folder", "token", "digest")}
        trial = (line or {}).get("trial")
        texts = {name: value if isinstance(value, str) else "" for name, value in found.items()}
        return cls(trial=trial if type(trial) is int else -1, **texts)

    @property
    def words(self) -> str:
        """When it was, and for which trial, in words."""
        if self.trial < 0:
            return "at a time that is not known (its line is damaged)"
        return f"at {self.time} for trial {self.trial}, in {self.folder}"


def read_looks(folder: StudyFolder) -> list[TestLook]:
    """The looks so far, each folder's once, the oldest first; raises FolderError where the file cannot be read."""
    try:
        content = regular_files.content(folder.looks)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise path_error(folder.looks, "read", error) from error
    # A torn last line was being written: the evaluation had not begun.
    found = [TestLook.from_json(line) for line in json_lines.parse(content)]
    tokens: dict[str, TestLook] = {}
    for number, look in enumerate(found):
        tokens.setdefault(look.token or f"line {number}", look)
    return list(tokens.values())


def append_look(folder: StudyFolder, look: TestLook) -> None:
    """Add a look, flushed to the disk; raises FolderError where the file cannot be written."""
    json_lines.append(folder.looks, [asdict(look)], within=folder.path)


def looks_beside(folder: StudyFolder, digest: str) -> list[tuple[Path, TestLook]]:
    """The looks at the same examples that other study folders beside this one have recorded, with these folders.

    What cannot be read is passed over.
    """
    if not digest:
        return []
    here = folder.path.resolve()
    found = []
    for path in sorted(here.parent.glob(f"*/{folder.looks.name}")):
        if path.parent != here:
            found += [(path.parent, look) for look in _readable(path.parent) if look.digest == digest]
    return found


def _readable(path: Path) -> list[TestLook]:
    try:
        return read_looks(StudyFolder(path))
    except Exception:
        return []
