"""The checkpoint of a program that overwrites one file again and again: copies of the best evaluations are kept.

No name says which evaluation the file belongs to. This is known only from the time when the program writes it: directly
after it prints an evaluation, or directly before, and far from every other one. If a program has another habit, no copy
is named. What is written after the last evaluation of the last step, before the program ends, belongs to that
evaluation, even if they come close together.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tunectl.core import real_folders
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.programs import checkpoint_files
from tunectl.programs.collected_metrics import Collector

CLEARLY = 4.0
"""A file belongs to an evaluation if every other evaluation is at least this many times as far away."""

NEARER = 1.5
"""The same, once the program was seen to have that habit."""

DELAY_SECONDS = 0.5
"""On a busy machine a program may wait this long between two of its lines, which is not another habit."""

FOLDER_SECONDS = 1.0
"""How long a folder must not change before it is copied: between two of its files, none is open."""

UNSEEN_SECONDS = 2.0
"""The same for a file, if the system does not show whether it is open."""

_MOST_OPEN = 2
_HABIT = "it is written at other moments than evaluations are printed"
_UNMATCHED = "its checkpoint cannot be matched with its evaluations"
_UNCLEAR = f"{_UNMATCHED}: they come too close together, or far from the moments at which it is written"
_COPY = "copy.tmp"
_OURS = re.compile(r"step-(\d{8,})(\.[^/]*)?")

Span = tuple[float, float]
"""The times of two updates between which something happened."""

Side = Literal["previous", "following", "neither", "unclear"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation that was printed; `crowded` if others came with the same update."""

    step: int
    when: Span
    crowded: bool = False


@dataclass(slots=True)
class Save:
    """One writing of the file: when its first and last change were seen, and the evaluation before it."""

    began: Span
    ended: Span
    previous: Evaluation | None
    before_that: float
    files: set[str]
    copy: Path | None = None
    is_done: bool = False


def side(
    save: Save, following: Evaluation | None, now: float, *, is_over: bool = False, habit: str | None = None
) -> Side:
    """The evaluation beside which a save was made, by the smallest and the largest possible distances.

    Without a following evaluation, its distance is the time that has passed; if the program has ended, it is at least
    the distance between the two evaluations before. `habit` is the side on which the program was always seen to write.
    """
    previous = save.previous
    behind_most = math.inf if previous is None else save.began[1] - previous.when[0]
    behind_least = save.began[0] - (save.before_that if previous is None else previous.when[1])
    if following is not None:
        ahead_least, ahead_most = following.when[0] - save.ended[1], following.when[1] - save.ended[0]
    else:
        ahead_least, ahead_most = now - save.ended[1], math.inf
        if is_over and previous is not None:
            ahead_least = max(ahead_least, previous.when[0] - save.before_that)
    together = previous is not None and previous.when[1] >= save.began[1]
    if together and previous is not None:
        # It is not known which came first, so the evaluation before must be far away, too.
        ahead_least = min(ahead_least, previous.when[0] - save.before_that)
    crowded = (previous is not None and previous.crowded) or (following is not None and following.crowded)
    if crowded:
        return "unclear"
    if (NEARER if habit == "previous" else CLEARLY) * behind_most <= ahead_least:
        return "previous"
    if following is not None and (NEARER if habit == "following" else CLEARLY) * ahead_most <= behind_least:
        return "following"
    is_apart = min(behind_least, ahead_least) > DELAY_SECONDS
    if is_apart and CLEARLY * behind_least > ahead_most and CLEARLY * ahead_least > behind_most:
        return "neither"
    return "unclear"


def is_ordered(save: Save, evaluation: Evaluation) -> bool:
    """Whether it is known which of the two came first."""
    return save.began[0] >= evaluation.when[1] or evaluation.when[0] >= save.ended[1]


@dataclass(slots=True)
class OverwrittenCheckpoint:
    """Keeps copies of one file, or folder, that a program overwrites again and again.

    The file at `path` is never changed. Copies of the best ones are in the trial's `checkpoints`. `length` is the
    number of steps that the study asks for, as the metrics count them. `is_timely`: the objective is read when it is
    printed, while a file of metrics may be written long after the evaluation.
    """

    path: Path
    folder: TrialFolder
    objective: Objective
    keep: int
    length: int = sys.maxsize
    is_timely: bool = True
    clock: Callable[[], float] = time.monotonic
    copies: dict[int, Path] = field(default_factory=dict)
    note: str = ""
    _stamp: checkpoint_files.Stamp = field(default_factory=dict)
    _seen: checkpoint_files.Stamp = field(default_factory=dict)
    _stamped: Span = (0.0, 0.0)
    _read: float = 0.0
    _count: int = 0
    _is_skipping: bool = False
    _copied: int = 0
    _last: Evaluation | None = None
    _before_last: float = 0.0
    _open: list[Save] = field(default_factory=list)
    _taken: set[int] = field(default_factory=set)
    _sides: set[str] = field(default_factory=set)

    def begin(self, collector: Collector) -> None:
        """Take over the copies of an earlier attempt, and the file as it is before the program starts."""
        found = existing_copies(self.folder)
        named = {step: known.checkpoint for step, known in collector.steps.items() if known.checkpoint}
        self.copies = {step: path for step, path in found.items() if named.get(step) == path.name}
        for path in self.folder.checkpoints.glob("*") if self.folder.checkpoints.is_dir() else ():
            if path not in self.copies.values():
                checkpoint_files.remove(path, self.folder)
        self._stamp = self._seen = checkpoint_files.stamp(self.path)
        now = self.clock()
        self._stamped, self._read, self._before_last = (now, now), now, now
        self._count = collector.times_seen(self.objective.metric)

    def check(self, *, is_quiet: bool = False) -> bool:
        """Check the file before the program's lines are read, so that all lines printed before it are read then.

        `is_quiet`: there are no lines to read. Gives whether there is anything new.
        """
        now = self.clock()
        self._seen = checkpoint_files.stamp(self.path)
        if is_quiet and self._seen == self._stamp and all(save.is_done for save in self._open):
            self._stamped, self._read = (now, now), now
            return False
        self._stamped = (self._stamped[0], now)
        return True

    def distrust(self) -> None:
        """Keep no more copies, because evaluations are read from a file that may be written long after them."""
        self._give_up("its evaluations are read from a file, which may be written later than its checkpoint")

    def update(self, collector: Collector, *, ended: bool, stopping: bool) -> dict[int, str | None]:
        """Match new evaluations with new saves; gives the names of checkpoints by step, None for a removed one."""
        now = self.clock()
        self._forget_what_was_cut(collector)
        evaluation = self._evaluation(collector, (self._read, now))
        window, self._stamped, self._read = self._stamped, (self._stamped[1], self._stamped[1]), now
        files, self._stamp = checkpoint_files.changed(self._stamp, self._seen), self._seen
        if self.is_timely:
            self._take_changes(files, window, stopping=stopping, only_more=True)
            self._copy_when_whole(collector, ended=ended)
            if evaluation is not None:
                self._decide(collector, now, following=evaluation)
                if self._last is not None:
                    self._before_last = self._last.when[1]
                self._last = evaluation
            self._take_changes(files, window, stopping=stopping)
            self._copy_when_whole(collector, ended=ended)
            self._decide(collector, window[1], is_over=ended)
        if ended:
            for save in self._open:
                self._drop(save)
            self._open.clear()
            for path in self.folder.checkpoints.glob(f"*-{_COPY}"):
                checkpoint_files.remove(path, self.folder)
            self.note = self.note or self._missing(collector)
        return self._named(collector)

    def _missing(self, collector: Collector) -> str:
        """Why the best evaluation has no checkpoint at the end; "" if it has one, or if nothing was written."""
        if self.keep == 0:
            return ""
        if not self.copies:
            return _UNCLEAR if self._seen and self._last is not None else ""
        steps = [step for step, _ in collector.evaluations(self.objective.metric) if step > 0]
        best = next(iter(self._best_first(collector, steps)), None)
        if best is None or best in self.copies or not self.copies.keys() <= set(steps):
            return ""
        return (
            f"its best evaluation is at step {best:,}, but the checkpoint that is kept is of step {max(self.copies):,}"
        )

    def _forget_what_was_cut(self, collector: Collector) -> None:
        """Remove the copies of evaluations that are repeated, since an earlier attempt trained them."""
        for step, path in list(self.copies.items()):
            known = collector.steps.get(step)
            if known is None or known.checkpoint != path.name:
                checkpoint_files.remove(self.copies.pop(step), self.folder)

    def _evaluation(self, collector: Collector, window: Span) -> Evaluation | None:
        count, step = collector.times_seen(self.objective.metric), collector.last_step_of(self.objective.metric)
        new, self._count = count - self._count, count
        return Evaluation(step, window, crowded=new > 1) if new > 0 and step is not None else None

    def _take_changes(self, files: set[str], window: Span, *, stopping: bool, only_more: bool = False) -> None:
        """Note changed files: as a part of the last save or, unless `only_more`, as another save."""
        if self._is_skipping:
            files.clear()
            self._is_skipping = bool(checkpoint_files.is_being_written(self.path))
        last = self._open[-1] if self._open else None
        is_burst = self.path.is_dir()
        if files and last is not None and not last.is_done and (is_burst or last.files.isdisjoint(files)):
            last.ended = window
            last.files |= files
            files.clear()
        # A save because the trial is stopped belongs to no evaluation.
        if files and not only_more and self._seen and not stopping:
            self._open.append(Save(window, window, self._last, self._before_last, set(files)))
        if len(self._open) > _MOST_OPEN:
            self._give_up(_HABIT)

    def _copy_when_whole(self, collector: Collector, *, ended: bool) -> None:
        """Copy the last save, once it is complete."""
        save = self._open[-1] if self._open else None
        if save is None or save.is_done:
            return
        now, current = self.clock(), checkpoint_files.stamp(self.path)
        if current != self._stamp:
            save.ended = (save.ended[0], now)
            self._stamp = self._seen = current
        if self.path.is_dir() and not ended and now - save.ended[1] < FOLDER_SECONDS:
            return
        written = checkpoint_files.is_being_written(self.path)
        is_empty = not self.path.is_dir() and any(size == 0 for _, size, _ in self._stamp.values())
        if written or (is_empty and not ended):
            # More changes of the same files are not another save.
            save.ended = (save.ended[0], now)
            save.files.clear()
            return
        if written is None and not ended and now - save.ended[1] < UNSEEN_SECONDS:
            return
        save.is_done = True
        only_previous = self._sides == {"previous"} and save.previous is not None
        if only_previous and save.previous is not None and not self._is_wanted(collector, save.previous.step):
            return
        self._copied += 1
        to = self.folder.checkpoints / f"{self._copied}-{_COPY}"
        is_whole = (
            checkpoint_files.copy(self.path, to, self.folder) and checkpoint_files.stamp(self.path) == self._stamp
        )
        save.copy = to if is_whole else None

    def _decide(
        self, collector: Collector, now: float, *, following: Evaluation | None = None, is_over: bool = False
    ) -> None:
        """Find the evaluations that the open saves belong to; give up if the program changes its habit."""
        habit = next(iter(self._sides), None)
        for save in list(self._open):
            if is_over and self._is_of_the_end(collector, save):
                self._open.remove(save)
                self._keep_of_the_end(collector, save)
                continue
            found = side(save, following, now, is_over=is_over, habit=habit)
            if following is None and not is_over and (found != "previous" or not save.is_done):
                continue
            self._open.remove(save)
            of = save.previous if found == "previous" else following if found == "following" else None
            if not save.is_done and not is_over:
                # Its further changes are not a new save.
                self._is_skipping = bool(checkpoint_files.is_being_written(self.path))
            if of is None:
                self._drop(save)
                # The first save may be that of an untrained model.
                if found == "neither" and save.previous is not None:
                    return self._give_up(_HABIT)
                continue
            if is_ordered(save, of):
                self._sides.add(found)
            if of.step in self._taken or len(self._sides) > 1:
                self._drop(save)
                return self._give_up(_HABIT)
            self._taken.add(of.step)
            self._keep(collector, save, of.step)
        return None

    def _is_of_the_end(self, collector: Collector, save: Save) -> bool:
        """Whether a program that has ended wrote it after the last evaluation of the last step."""
        last = save.previous
        if last is None or last != self._last or last.step != collector.last_step or last.step < self.length:
            return False
        if save.began[0] >= last.when[1]:
            return True
        # Both came with the same update. If another evaluation did, too, a thread that began to write at that one may
        # have ended after the last.
        return not last.crowded and self._is_after_the_last_line(save)

    def _is_after_the_last_line(self, save: Save) -> bool:
        try:
            line = self.folder.log.stat()
            if line.st_dev != self.path.stat().st_dev:  # another file system may have another clock
                return False
        except OSError:
            return False
        times = [self._stamp[name][2] for name in save.files if name in self._stamp]
        return bool(times) and min(times) > line.st_mtime_ns

    def _keep_of_the_end(self, collector: Collector, save: Save) -> None:
        step = save.previous.step if save.previous is not None else 0
        if step in self._taken:  # it was written directly after that evaluation, too
            self._drop(save)
            return
        self._taken.add(step)
        self._keep(collector, save, step)

    def _keep(self, collector: Collector, save: Save, step: int) -> None:
        if save.copy is None or not self._is_wanted(collector, step):
            self._drop(save)
            return
        suffix = "" if save.copy.is_dir() else self.path.suffix
        to = self.folder.checkpoints / f"step-{step:08d}{suffix}"
        checkpoint_files.remove(to, self.folder)
        real_folders.move(save.copy, to, self.folder.study)
        self.copies[step] = to

    def _is_wanted(self, collector: Collector, step: int) -> bool:
        """Whether an evaluation is among the best so far."""
        steps = {*self.copies, step} & collector.steps.keys() - {0}
        return step in self._best_first(collector, steps)[: self.keep] and math.isfinite(
            self.objective.metric_cost(collector.value(step, self.objective.metric))
        )

    def _best_first(self, collector: Collector, steps: Iterable[int]) -> list[int]:
        return self.objective.best_first((step, collector.value(step, self.objective.metric)) for step in steps)

    def _named(self, collector: Collector) -> dict[int, str | None]:
        ranked = self._best_first(collector, self.copies.keys() & collector.steps.keys())
        names: dict[int, str | None] = {}
        for step in [step for step in self.copies if step not in ranked[: self.keep]]:
            checkpoint_files.remove(self.copies.pop(step), self.folder)
            names[step] = None
        return names | {step: path.name for step, path in self.copies.items()}

    def _drop(self, save: Save) -> None:
        if save.copy is not None:
            checkpoint_files.remove(save.copy, self.folder)

    def _give_up(self, why: str) -> None:
        """Remove all copies that were not matched, and make no more."""
        self.is_timely, self.note = False, f"{_UNMATCHED}: {why}"
        for save in self._open:
            self._drop(save)
        self._open.clear()
        self.keep = 0


def existing_copies(folder: TrialFolder) -> dict[int, Path]:
    """The copies in a trial's `checkpoints`, by step."""
    if not folder.checkpoints.is_dir():
        return {}
    found = ((path, _OURS.fullmatch(path.name)) for path in folder.checkpoints.iterdir())
    return {int(match[1]): path for path, match in found if match is not None}
