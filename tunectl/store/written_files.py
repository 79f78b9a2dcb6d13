"""written.jsonl: the files that the trials of a study wrote in the folder where they run."""

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
"""How a later write may have changed a file, from the least to the most harmful."""


class Mark(NamedTuple):
    """A file with the same mark has not changed."""

    inode: int
    mtime_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that a worker prints to. Its name and inode are the same on every host that sees it."""

    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that trials wrote.

    `alone` are the trials each of which may have been the only one to write it: empty where at least two did. `worst`
    is the most harmful change of any trial; `how` is the same once several trials are known to have written it.
    `trials` are two groups of trials, the earlier and the later ones, where one of each group is known to have written
    it. `unclear` are the trials that were running when it changed, where it is not known whether each wrote it.
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
        """The record as a line of written.jsonl."""
        sets = None if self.trials is None else [sorted(group) for group in self.trials]
        line = {**asdict(self), "mark": list(self.mark), "alone": sorted(self.alone), "trials": sets}
        return line | {"unclear": sorted(self.unclear)}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> WrittenFile | None:
        """The record of a line, None where the line is damaged."""
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
    """Folders with numbers in their names, one for each trial to make, of which there are fewer than trials."""

    example: str
    folders: int
    trials: int


def read_written(path: Path) -> tuple[dict[str, WrittenFile], SharedFolders | None]:
    """The files and folders that earlier runs recorded, without damaged lines; none where the file cannot be read."""
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
    path: Path, changed: Sequence[WrittenFile], folders: SharedFolders | None, say: Callable[[str], None]
) -> None:
    """Record what has changed for the next run; `say` is called with a warning where the file cannot be written."""
    lines = [item.to_json() for item in changed] + ([asdict(folders)] if folders is not None else [])
    if not lines:
        return
    try:
        json_lines.append(path, lines)
    except FolderError as error:
        say(f"warning: {error}; the next run will not know which files these trials wrote")
