"""Finds the files below a folder that more than one trial wrote.

The system does not record which process wrote a file. It is known which trials ran between two snapshots. A file that
changed was written by one of them. Where no trial ran at all changes of a file, at least two trials wrote it. Where all
completed trials ran at a change, it is not known whether each of them, which run the same program, wrote the file.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from tunectl.core import regular_files
from tunectl.execution.folder_snapshot import Snapshot
from tunectl.store.written_files import HOWS, How, Mark, SharedFolders, WrittenFile

_WHOLE_BYTES = 2**24
_SAMPLE_BYTES = 2**20
_BYTES_A_SNAPSHOT = 2**27
_NUMBER = re.compile(r"\d")
_WORD = re.compile(r"[^\W_]+")
_TEMPORARY = re.compile(r"tmp\w{6,}")
# People edit these files while trials run. A program that writes such a file makes it: it is not there before.
_SOURCES = (".py", ".ipynb", ".md", ".rst", ".toml", ".cfg", ".ini", ".sh", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of a file between two snapshots: the trials that `ran` meanwhile, and those that `ended`.

    `look` is the number of the later snapshot.
    """

    ran: frozenset[int]
    ended: frozenset[int]
    is_first: bool
    look: int = 0


@dataclass(slots=True)
class WrittenFiles:
    """The files that the trials of a study wrote below a folder, from one snapshot to the next."""

    folder: Path
    files: dict[str, WrittenFile] = field(default_factory=dict)
    shared_folders: SharedFolders | None = None
    _changes: dict[str, list[_Change]] = field(default_factory=dict)
    _paths_of_look: dict[int, list[str]] = field(default_factory=dict)
    _last: Snapshot = field(default_factory=Snapshot)
    _before: Snapshot = field(default_factory=Snapshot)
    _first: str | None = None

    def begin(self, snapshot: Snapshot) -> None:
        """Take the snapshot before the first trial of this run; no trial wrote what changed before it."""
        self._last = self._before = snapshot
        for path, known in list(self.files.items()):
            mark = snapshot.files.get(path)
            if mark is not None and mark != known.mark:
                self.files[path] = replace(known, mark=mark, digest=digest(self.folder / path, mark.size))

    def take(
        self, snapshot: Snapshot, ran: AbstractSet[int], ended: AbstractSet[int] = frozenset(), look: int = 0
    ) -> list[WrittenFile]:
        """Take a snapshot; since the last one these trials `ran`, and these `ended`. Gives the changed files.

        `look` is its number, by which `narrow` knows it.
        """
        changed: list[WrittenFile] = []
        left = _BYTES_A_SNAPSHOT
        for path, mark in snapshot.files.items():
            if self._last.files.get(path) == mark or (path in self._before.files and path.endswith(_SOURCES)):
                continue
            change = _Change(frozenset(ran), frozenset(ended), is_first=path not in self.files, look=look)
            self._changes.setdefault(path, []).append(change)
            self._paths_of_look.setdefault(look, []).append(path)
            found = self._written(path, mark, change.ran, with_digest=left > 0)
            left -= min(mark.size, _WHOLE_BYTES)
            self.files[path] = found
            changed.append(found)
        for path in self._last.files.keys() - snapshot.files.keys():
            known = self.files.get(path)
            if known is not None and not known.is_shared:
                del self.files[path]  # a temporary file
        self._last = snapshot
        return changed

    def _written(self, path: str, mark: Mark, ran: frozenset[int], *, with_digest: bool) -> WrittenFile:
        file, known = self.folder / path, self.files.get(path)
        now = digest(file, mark.size) if with_digest else ""
        if known is None:
            return WrittenFile(path, mark, ran, now)
        worst = max(known.worst, _how(file, known, mark, now), key=HOWS.index)
        alone = known.alone & ran
        now_known = replace(known, mark=mark, alone=alone, digest=now, worst=worst)
        if known.is_shared:
            return replace(now_known, how=worst)
        return now_known if alone else replace(now_known, how=worst, trials=(known.alone, ran))

    def narrow(self, look: int, unbegun: AbstractSet[int]) -> list[WrittenFile]:
        """Take back that these trials ran before the snapshot of this number, once for each. Gives the files that this
        concerns.
        """
        found = []
        for path in self._paths_of_look.pop(look, ()):
            changes = self._changes[path]
            for place, change in enumerate(changes):
                ran = change.ran - unbegun
                if change.look == look and ran and ran != change.ran:
                    changes[place] = replace(change, ran=ran)
                    found += self._narrowed(path, change, ran, changes)
        return found

    def _narrowed(
        self, path: str, before: _Change, ran: frozenset[int], changes: Sequence[_Change]
    ) -> list[WrittenFile]:
        known = self.files.get(path)
        if known is None or known.is_shared or not known.alone & (before.ran - ran):
            return []
        alone = known.alone & ran
        now_known = replace(known, alone=alone)
        if not alone:
            others = [change.ran for change in changes if change.look != before.look]
            earlier = frozenset.intersection(*others) if others else known.alone
            now_known = replace(now_known, how=known.worst, trials=(earlier or known.alone, ran))
        self.files[path] = now_known
        return [now_known]

    def take_for_shared(self, trials: AbstractSet[int]) -> list[WrittenFile]:
        """Take files as shared that changed when several of these trials ended, where all ran side by side.

        Such a file may still belong to one trial. Then every other trial, which runs the same program, would have a
        similar one: at the same depth, with the same suffix.
        """
        found = []
        for path in self._without_similar(trials):
            known = self.files[path]
            often = sum(bool(change.ended & trials) for change in self._changes[path]) > 1
            if not known.is_shared and known.worst == "overwritten" and often:
                self.files[path] = replace(known, how=known.worst)
                found.append(self.files[path])
        return found

    def take_for_unclear(self, trials: AbstractSet[int], texts: AbstractSet[str]) -> list[WrittenFile]:
        """Note the files of which it is not known whether each of these completed trials wrote them.

        All of the trials ran when such a file changed, and there is no similar file for each of them. A name without a
        number and without one of the hyperparameters' `texts` is the same in every trial, so it has no similar ones.
        """
        if len(trials) < 2:
            return []
        words = {word for text in texts for word in _words(text)}
        fixed = [path for path in self._changes if path in self.files and not _varies(path, words)]
        found = []
        for path in dict.fromkeys([*fixed, *self._without_similar(trials)]):
            known, changes = self.files[path], self._changes[path]
            all_ran = trials <= frozenset[int]().union(*(change.ran for change in changes))
            compared = len(changes) > 1 or not changes[0].is_first
            if all_ran and not known.is_shared and (known.worst == "overwritten" or not compared):
                self.files[path] = replace(known, unclear=frozenset(trials))
                found.append(self.files[path])
        return found

    def _without_similar(self, trials: AbstractSet[int]) -> list[str]:
        """The changed files with too few similar ones for each of the trials to have one."""
        similar = Counter(map(_pattern, self._changes))
        return [path for path in self._changes if path in self.files and similar[_pattern(path)] < len(trials)]

    def count_folders(self, snapshot: Snapshot, trials: int) -> None:
        """Compare the number of new folders with a number in their names with the number of trials that trained.

        To be called first after one trial: where it made one such folder, every other trial makes one beside it.
        """
        new = snapshot.folders - self._before.folders
        if trials == 1 and self._first is None:
            homes = {home for path in snapshot.files if path not in self._before.files if (home := _home(path, new))}
            self._first = homes.pop() if len(homes) == 1 else ""
        if not self._first or trials < 2:
            return
        parent = _shape(str(PurePosixPath(self._first).parent))
        beside = [path for path in new if _shape(str(PurePosixPath(path).parent)) == parent and path]
        if len(beside) < trials:
            self.shared_folders = SharedFolders(max(beside, default=self._first), len(beside), trials)


def _home(path: str, new: AbstractSet[str]) -> str | None:
    """The innermost new folder with a number in its name that a file is in."""
    folders = [str(parent) for parent in PurePosixPath(path).parents]
    return next((item for item in folders if item in new and _NUMBER.search(PurePosixPath(item).name)), None)


def _pattern(path: str) -> tuple[int, str]:
    suffix = PurePosixPath(path).suffix
    # `run.17` and `lr_0.3` end in a value of the trial.
    return path.count("/"), "#" if _NUMBER.search(suffix) else suffix


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _varies(path: str, words: AbstractSet[str]) -> bool:
    """Whether a name may differ in another trial: it has a number, a random text, or one of these words."""
    return any(_NUMBER.search(word) or word in words for word in _words(path)) or bool(_TEMPORARY.search(path))


def _shape(path: str) -> str:
    return re.sub(r"\d+", "#", path)


def _how(file: Path, known: WrittenFile, mark: Mark, now: str) -> How:
    if not known.digest or not now:
        return "overwritten"
    if mark.size == known.mark.size and now == known.digest:
        return "identical"
    # An empty file was just truncated to be written again.
    grown = mark.size > known.mark.size > 0 and digest(file, known.mark.size) == known.digest
    return "appended" if grown else "overwritten"


def digest(file: Path, size: int) -> str:
    """A digest of the first `size` bytes of a file; "" where it cannot be read.

    Of a large file, samples are enough: two versions of saved weights differ everywhere.
    """
    parts = [(0, size)] if size <= _WHOLE_BYTES else [(at, _SAMPLE_BYTES) for at in _samples(size)]
    found = hashlib.blake2b(digest_size=16)
    try:
        with regular_files.opened(file) as content:
            for at, length in parts:
                content.seek(at)
                read = content.read(length)
                if len(read) < length:
                    return ""
                found.update(read)
    except OSError:
        return ""
    return found.hexdigest()


def _samples(size: int) -> list[int]:
    last = size - _SAMPLE_BYTES
    return [last * part // 4 for part in range(5)]
