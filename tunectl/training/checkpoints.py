"""The checkpoints of a trial: the N best by the objective (the N last under the rule `final`; with a target the first
that reaches it, and the N - 1 best by the metric), and `resume.pt`, from which an interrupted trial goes on.

A kill at any moment is harmless for three reasons. A checkpoint is written before the measurement line that names it. A
file that `resume.pt` or the one before it lists is removed only when neither lists it any more. And training is
deterministic: once the files are cut back to the length that `resume.pt` has recorded, all that was later is written
again, byte for byte.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any, BinaryIO

from tunectl.core import jsontext, real_folders, regular_files
from tunectl.core.errors import WorkloadError
from tunectl.core.files import write_atomically
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.line_file import holds
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest
from tunectl.store.heartbeats import LATE_SECONDS
from tunectl.training import saved_state
from tunectl.training.memory_errors import is_out_of_memory

FORMAT = 1
_CHUNK_BYTES = 2**20
_LOOK_SECONDS = 0.2
_OURS = re.compile(r"(step-\d{8,}\.pt|\.step-\d{8,}\.pt(\.[0-9a-f]{8})?\.tmp)")
_MAY_CHANGE = (
    "attempt",
    "keep_checkpoints",
    "threads",
    "devices",
    "data_workers",
    "prefetch_batches",
    "cache_examples",
    "trace_updates",
    "no_progress",
    "curvature",
    "curvature_needed",
    "checkpoints",
    "whole_at_end",
)
_LATER_FIELDS = ("batch_norm_statistics", "predictions", "split_examples", "compile", "sync_batch_norm")
"""Fields that an earlier version did not write; without a value they are as if they were not there."""

_RESUME_PARTS = (
    "request",
    "model",
    "optimizer",
    "progress",
    "series",
    "random",
    "best",
    "measurements_offset",
    "steps_offset",
)
"""The parts that a trial needs to go on; there may be more."""


class UnusableResume(Exception):  # noqa: N818  (a condition: the trial starts from the beginning)
    """A trial cannot go on from `resume.pt`; the text says why."""


class UnreadableError(WorkloadError):
    """A checkpoint is whole by its checksum, but this version, or the types that are known here, cannot read it."""


class _Checked:
    """Passes writes on, computes their checksum, and keeps the OSError that torch.save turns into a RuntimeError."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.checksum = 0
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        self.checksum = zlib.crc32(content, self.checksum)
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _trailer(checksum: int) -> bytes:
    return b"tunectl crc32:%08x\n" % checksum


def save(path: Path, content: Mapping[str, Any], within: Path | None = None) -> None:
    """Write named parts to `path` atomically and durably; raises OSError where the disk is full.

    No part of the path below `within`, the study folder, may be a link.

    The file is torch's, and torch.load reads it; a checksum follows the archive, since torch does not look at the one
    inside. Raises UnsavableError, and leaves the file that was there, where something could not be read back.
    """
    saved_state.check(content)

    write_atomically(path, lambda file: file.write(_trailer(write_archive(dict(content), file))), within=within)


def write_archive(content: Any, file: BinaryIO) -> int:
    """Write torch's archive of `content` and give its checksum; raises OSError where the disk is full."""
    checked = _Checked(file)
    try:
        saved_state.write(content, checked)
    except RuntimeError:
        if checked.error is not None:
            raise checked.error from None
        raise
    return checked.checksum


def _is_whole(path: Path) -> bool:
    """Whether the file ends with the checksum of the content before it."""
    with regular_files.opened(path) as file:
        left, checksum = os.fstat(file.fileno()).st_size - len(_trailer(0)), 0
        while left > 0:
            content = file.read(min(left, _CHUNK_BYTES))
            checksum = zlib.crc32(content, checksum)
            left -= len(content)
        return left == 0 and file.read() == _trailer(checksum)


def load(path: Path) -> dict[str, Any]:
    """The named parts of a checkpoint, on the CPU, without running code from the file.

    Raises UnusableResume with the reason where the file is damaged or cannot be opened. Raises UnreadableError where it
    is whole but cannot be read: then the saved state is there, and the user has to decide what to do.
    """
    try:
        is_whole = _is_whole(path)
        with regular_files.opened(path) as file:
            content = saved_state.read(file) if is_whole else None
    except Exception as error:  # whatever the makers of what it holds raise
        if is_out_of_memory(error):
            raise
        if isinstance(error, OSError):
            raise UnusableResume(f"{path.name} cannot be read ({error})") from error
        raise UnreadableError(_unreadable(path, f"it contains {saved_state.unknown_types(path, error)}")) from error
    if not is_whole:
        raise UnusableResume(f"{path.name} is damaged")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UnreadableError(_unreadable(path, f"expected format {FORMAT}, got another one"))
    return content


def _unreadable(path: Path, why: str) -> str:
    return (
        f"{path} is whole, but cannot be loaded: {why}. It is kept. Remove it to start the trial over, or make it"
        " readable (by the versions that wrote it, or by torch.serialization.add_safe_globals in your own file); then"
        " `tunectl run --retry-failed`"
    )


def identity(request: TrialRequest) -> str:
    """The part of a request that must be the same as in `resume.pt`: all that may not change between two calls."""
    content = request.to_json()
    absent = {*_MAY_CHANGE, *(name for name in _LATER_FIELDS if not content.get(name))}
    return jsontext.encode({key: value for key, value in sorted(content.items()) if key not in absent})


def _is_of(saved: str, request: TrialRequest) -> bool:
    """Whether a saved identity is that of the request, or was before the study was renamed."""
    now = identity(request)
    return saved == now or _without_name(saved) == _without_name(now)


def _without_name(text: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(text)
    return {key: value for key, value in content.items() if key != "study"}


def save_resume(folder: TrialFolder, parts: Mapping[str, Any]) -> None:
    """Write `resume.pt` and keep the one before it; raises OSError where the disk is full, and the last one is kept."""
    with contextlib.suppress(FileNotFoundError):
        real_folders.move(folder.resume, folder.previous_resume, folder.study)
    save(folder.resume, parts, folder.study)


def load_resume(folder: TrialFolder, request: TrialRequest, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The parts of `resume.pt`, or of the one before it where that cannot be used; None where there is none.

    Only the one that was read keeps its name. `say` gets a line where the first one is skipped. Raises UnusableResume
    where each is damaged, of another request, or ahead of the lines on the disk, and UnreadableError where one is whole
    but cannot be read.
    """
    reason = None
    for path in (folder.resume, folder.previous_resume):
        if not path.exists():
            continue
        try:
            parts = _usable_parts(path, folder, request)
        except UnusableResume as found:
            reason = reason or found
            continue
        if path == folder.resume:
            real_folders.remove(folder.previous_resume, folder.study)
        else:
            kept = _kept_aside([folder.resume], folder)
            real_folders.move(path, folder.resume, folder.study)
            if reason is not None:
                say(f"{reason}: trial {request.trial} goes on from the checkpoint before it{kept}")
        return parts
    if reason is not None:
        raise reason
    return None


def keep_resume(folder: TrialFolder) -> str:
    """Rename whole files from which a trial does not go on; gives the new names as text, "" where there are none."""
    return _kept_aside([folder.resume, folder.previous_resume], folder)


def _kept_aside(paths: Iterable[Path], folder: TrialFolder) -> str:
    kept = [set_aside(path, folder).name for path in paths if path.exists() and not _is_damaged(path)]
    return f" ({' and '.join(kept)} keeps it)" if kept else ""


def set_aside(path: Path, folder: TrialFolder) -> Path:
    """Rename a file of the trial to `<name>.kept-<number>`, which no other file has."""
    names = (path.with_name(f"{path.name}.kept-{number}") for number in itertools.count(1))
    free = next(name for name in names if not os.path.lexists(name))  # a link to nothing is something, too
    real_folders.move(path, free, folder.study)
    return free


def _is_damaged(path: Path) -> bool:
    """Whether the file is known to differ from what was saved; one that cannot be opened may be whole."""
    try:
        return not _is_whole(path)
    except OSError:
        return False


def _usable_parts(path: Path, folder: TrialFolder, request: TrialRequest) -> dict[str, Any]:
    parts = load(path)
    missing = [name for name in _RESUME_PARTS if name not in parts]
    if missing:
        raise UnusableResume(f"{path.name} lacks {', '.join(missing)}")
    if not _is_of(parts["request"], request):
        raise UnusableResume(f"{path.name} belongs to another request")
    lengths = {folder.measurements: parts["measurements_offset"], folder.steps: parts["steps_offset"]}
    lengths[folder.predictions] = parts.get("predictions_offset", 0)
    _wait_for_late(folder, lengths, _listed_steps(parts))
    for lines, offset in lengths.items():
        if not holds(lines, offset):
            raise UnusableResume(f"{lines.name} is shorter than {path.name} recorded")
    return parts


def _listed_steps(parts: Mapping[str, Any]) -> set[int]:
    """The steps whose checkpoints a `resume.pt` lists."""
    return {step for step, _ in (*parts["best"], *(parts.get("good") or {"best": ()})["best"])}


def _wait_for_late(folder: TrialFolder, lengths: Mapping[Path, int], steps: Iterable[int]) -> None:
    """Wait at a worker until all shows that `resume.pt` counts on: another host wrote it, and a file server may show
    that late. What is missing for longer was removed.
    """
    if folder.path.parent != StudyFolder(folder.study).claimed:
        return
    wanted, until = {folder.checkpoint(step).name for step in steps}, monotonic() + LATE_SECONDS
    while not (wanted <= _names(folder.checkpoints, folder) and all(holds(*item) for item in lengths.items())):
        if monotonic() >= until:
            return
        sleep(_LOOK_SECONDS)


def _names(place: Path, folder: TrialFolder) -> set[str]:
    """The names in a place of a trial, asked of the file server anew."""
    with contextlib.suppress(FileNotFoundError):
        return set(real_folders.names(place, folder.study))
    return set()


def remove_resume(folder: TrialFolder) -> None:
    """Remove `resume.pt` and the one before it."""
    # In this order: if only one stays, it must be the newer one.
    real_folders.remove(folder.previous_resume, folder.study)
    real_folders.remove(folder.resume, folder.study)


class BestCheckpoints:
    """The files of the N best evaluations, in the order of `Objective.best_first`.

    Under the rule `final`, where the last evaluation counts, a later one is better, whatever its value. With a target
    the first evaluation that reaches it is better than all later ones, so that its file stays to the end. Without
    `writes` the files are another process's, which finds the same ones: none is written or removed.
    """

    def __init__(
        self,
        folder: TrialFolder,
        objective: Objective,
        keep: int,
        entries: Sequence[tuple[int, float]] = (),
        *,
        writes: bool = True,
    ) -> None:
        self._writes = writes
        self._folder, self._objective, self._keep = folder, objective, keep
        # A file that was deleted cannot come back; better ones will be written.
        self._entries = [(step, value) for step, value in entries if folder.checkpoint(step).exists()]
        self._sort()
        self._listed_in_resume = {step for step, _ in entries}
        self._listed_in_previous: set[int] = set()
        self._held: set[int] = set()
        if writes:
            real_folders.made(folder.checkpoints, folder.study, inside=folder.path)

    def _sort(self) -> None:
        self._entries = self._best(self._entries)

    def _best(self, entries: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
        values = dict(entries)
        return [(step, values[step]) for step in self._objective.best_first(entries)[: self._keep]]

    def offer(self, step: int, value: float | None, write: Callable[[Path], None]) -> str | None:
        """Write the file of this evaluation by `write` where it is among the best; gives its name, else None."""
        by_value = self._objective.checkpoint == "best"
        if value is None or (by_value and self._objective.metric_cost(value) == float("inf")):
            return None
        best = self._best([*self._entries, (step, value)])
        if step not in dict(best):
            return None
        path = self._folder.checkpoint(step)
        if self._writes:
            write(path)
        self._entries = best
        return path.name

    def entries(self) -> list[tuple[int, float]]:
        """(step, value) of the best, best first."""
        return list(self._entries)

    def hold(self, steps: Iterable[int]) -> None:
        """Keep the files of these steps, and of no others, for a trial that may go back to where they are the best."""
        self._held = set(steps)

    def go_back(self, entries: Sequence[tuple[int, float]]) -> None:
        """Set the best back to these (step, value), as `entries` gave them."""
        self._entries = [(step, value) for step, value in entries if self._folder.checkpoint(step).exists()]
        self._sort()

    def resume_written(self) -> None:
        """Note that `resume.pt` on the disk lists the present entries, and the one before it those that it listed."""
        self._listed_in_previous = self._listed_in_resume
        self._listed_in_resume = {step for step, _ in self._entries}

    def previous_removed(self) -> None:
        """Note that the `resume.pt` before the last one was removed."""
        self._listed_in_previous = set()

    def resume_removed(self) -> None:
        """Note that there is no `resume.pt` any more."""
        self._listed_in_resume, self._listed_in_previous = set(), set()

    def prune(self) -> None:
        """Remove every checkpoint, finished or not, that neither is among the best nor needed by `resume.pt`."""
        if not self._writes:
            return
        needed = self._held | self._listed_in_resume | self._listed_in_previous | {step for step, _ in self._entries}
        names = {self._folder.checkpoint(step).name for step in needed}
        for path in self._folder.checkpoints.iterdir():
            if path.name not in names and _OURS.fullmatch(path.name):
                real_folders.remove(path, self._folder.study)
