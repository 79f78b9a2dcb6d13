"""What is kept of the files that the trials of a study wrote below the folder where they run: written.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from tunectl.core import regular_files
from tunectl.core.errors import FolderError
from tunectl.store import json_lines

How = Literal["identical", "appended", "overwritten"]
HOWS = get_args(How)
"""How a later write may have changed a file, the mildest first."""


class Mark(NamedTuple):
    """By which a file is known to be unchanged."""

    inode: int
    mtime_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that trials wrote.

    `alone` are the trials each of which may have written it alone: empty where at least two did. `worst` is how it was
    changed at worst, by whichever trial, and `how` is the same once it is taken for written by several. `trials` are
    two groups of trials of which one wrote it each, the earlier and the later one, where that is known. `unclear` are
    trials that ran when it changed, of which it cannot be known whether each wrote it.
    """

    path: str
    mark: Mark
    alone: frozenset[int]
    digest: str = ""
    worst: How = "identical"
    how: How | None = None
    trials: tuple[frozenset[int], frozenset[int]] | None = None
    unclear: frozenset[int] = frozenset()

    @property
    def is_shared(self) -> bool:
        """Whether at least two trials wrote it."""
        return self.how is not None

    def to_json(self) -> dict[str, Any]:
        """A line of the file that keeps it."""
        sets = None if self.trials is None else [sorted(group) for group in self.trials]
        line = {**asdict(self), "mark": list(self.mark), "alone": sorted(self.alone), "trials": sets}
        return line | {"unclear": sorted(self.unclear)}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> WrittenFile | None:
        """What a line keeps, None where it is none."""
        try:
            first, second = line["trials"] or ([], [])
            return cls(
                path=str(line["path"]),
                mark=Mark(*map(int, line["mark"])),
                alone=frozenset(map(int, line["alone"])),
                digest=str(line["digest"]),
                worst=line["worst"] if line["worst"] in HOWS else "overwritten",
                how=line["how"] if line["how"] in HOWS else None,
                trials=(frozenset(map(int, first)), frozenset(map(int, second))) if line["trials"] else None,
                unclear=frozenset(map(int, line.get("unclear", ()))),
            )
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class SharedFolders:
    """Folders with numbers in their names, of which every trial makes one: there are fewer than trials."""

    example: str
    folders: int
    trials: int


def read_written(path: Path) -> tuple[dict[str, WrittenFile], SharedFolders | None]:
    """What was kept of earlier runs; nothing where the file is missing or cannot be read, without what is damaged."""
    try:
        content = regular_files.content(path, largest=regular_files.LARGEST_LINES_BYTES)
    except OSError:
        return {}, None
    files: dict[str, WrittenFile] = {}
    folders: SharedFolders | None = None
    for line in json_lines.parse(content):
        if line is None:
            continue
        if "folders" in line:
            folders = _folders(line) or folders
            continue
        found = WrittenFile.from_json(line)
        if found is not None:
            files[found.path] = found
    return files, folders


def _folders(line: Mapping[str, Any]) -> SharedFolders | None:
    try:
        return SharedFolders(str(line["example"]), int(line["folders"]), int(line["trials"]))
    except (KeyError, TypeError, ValueError):
        return None


def keep_written(
    path: Path, changed: Sequence[WrittenFile], folders: SharedFolders | None, report: Callable[[str], None]
) -> None:
    """Keep what has changed for the next run; a file that cannot be written is said, and is no reason to stop."""
    lines = [item.to_json() for item in changed] + ([asdict(folders)] if folders is not None else [])
    if not lines:
        return
    try:
        json_lines.append(path, lines)
    except FolderError as error:
        report(f"warning: {error}; the next run does not know which files its trials wrote")
