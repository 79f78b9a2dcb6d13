"""The checkpoint of a program that writes the same file again and again: copied where it belongs to a best evaluation.

No name says which evaluation the file belongs to. It is known only by when the program writes it: right after it
prints an evaluation, or right before, and then far from every other one. Where a program shows another habit, nothing
is named. What is written between the last evaluation, after the last step, and the end of the program is of that
evaluation, however close together they come.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tunectl.core import real_folders
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.programs import file_contents
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.kept_checkpoints import rank

CLEARLY = 4.0
"""A file is written beside an evaluation where every other evaluation is at least so many times as far away."""

NEARER = 1.5
"""The same where the program was seen to have that habit."""

DELAY_SECONDS = 0.5
"""On a busy machine a program may wait so long between two lines of its own: that is no other habit."""

FOLDER_SECONDS = 1.0
"""How long nothing must change in a folder: between two of its files none is open."""

UNSEEN_SECONDS = 2.0
"""The same for a file where the system does not say whether it is open."""

_MOST_OPEN = 2
_HABIT = "it is written at other moments than evaluations are printed"
_UNMATCHED = "its checkpoint cannot be matched with its evaluations"
_UNCLEAR = f"{_UNMATCHED}: they come too close together, or far from the moments at which it is written"
_COPY = "copy.tmp"
_OURS = re.compile(r"step-(\d{8,})(\.[^/]*)?")

Span = tuple[float, float]
"""The times of two looks between which something happened."""

Side = Literal["previous", "following", "neither", "unclear"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation that was printed; `crowded` where others came at the same look."""

    step: int
    when: Span
    crowded: bool = False


@dataclass(slots=True)
class Save:
    """The file as it was written once: when it was first and last seen to change, and the evaluation before it."""

    began: Span
    ended: Span
    previous: Evaluation | None
    before_that: float
    files: set[str]
    copy: Path | None = None
    settled: bool = False


def side(
    save: Save, following: Evaluation | None, now: float, *, is_over: bool = False, habit: str | None = None
) -> Side:
    """Which evaluation a save was made beside, by the least and the most that its distances may be.

    Without a following one it is as far away as the time that has passed, or, where the program has ended, as the one
    before was from the one before that. `habit`: the side on which the program was clearly seen to write, without fail.
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
        # Which came first cannot be seen: the evaluation before must be far away, too.
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
    """Whether it was seen which of the two came first."""
    return save.began[0] >= evaluation.when[1] or evaluation.when[0] >= save.ended[1]


@dataclass(slots=True)
class OverwrittenCheckpoint:
    """Looks after one file, or folder, that a program writes again and again.

    `path` stays the program's own. Copies of the best lie in the trial's `checkpoints`. `length` is how many steps, as
    the metrics count them, the study asks for. `is_timely`: the objective is read as it is printed; a file of metrics
    may be written long after the evaluation.
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
    _stamp: file_contents.Stamp = field(default_factory=dict)
    _seen: file_contents.Stamp = field(default_factory=dict)
    _stamped: Span = (0.0, 0.0)
    _read: float = 0.0
    _told: int = 0
    _is_skipping: bool = False
    _copied: int = 0
    _last: Evaluation | None = None
    _before_last: float = 0.0
    _open: list[Save] = field(default_factory=list)
    _taken: set[int] = field(default_factory=set)
    _sides: set[str] = field(default_factory=set)

    def begin(self, collector: Collector) -> None:
        """Take over the copies that an earlier attempt made, and what is there before the program starts."""
        found = existing_copies(self.folder)
        named = {step: known.checkpoint for step, known in collector.steps.items() if known.checkpoint}
        self.copies = {step: path for step, path in found.items() if named.get(step) == path.name}
        for path in self.folder.checkpoints.glob("*") if self.folder.checkpoints.is_dir() else ():
            if path not in self.copies.values():
                file_contents.remove(path, self.folder)
        self._stamp = self._seen = file_contents.stamp(self.path)
        now = self.clock()
        self._stamped, self._read, self._before_last = (now, now), now, now
        self._told = collector.tellings(self.objective.metric)

    def glance(self, *, is_quiet: bool = False) -> bool:
        """See what is written now, before the program's lines are read: what it had printed before is read then.

        `is_quiet`: no line is there to be read. Gives whether there is anything to look at.
        """
        now = self.clock()
        self._seen = file_contents.stamp(self.path)
        if is_quiet and self._seen == self._stamp and all(save.settled for save in self._open):
            self._stamped, self._read = (now, now), now
            return False
        self._stamped = (self._stamped[0], now)
        return True

    def distrust(self) -> None:
        """Take note that evaluations are read from a file, which may be written long after them."""
        self._give_up("its evaluations are read from a file, which may be written later than its checkpoint")

    def look(self, collector: Collector, *, ended: bool, stopping: bool) -> dict[int, str | None]:
        """See what was printed and written since the last look; gives names of checkpoints by step, None for none."""
        now = self.clock()
        self._forget_what_was_cut(collector)
        evaluation = self._evaluation(collector, (self._read, now))
        window, self._stamped, self._read = self._stamped, (self._stamped[1], self._stamped[1]), now
        files, self._stamp = file_contents.changed(self._stamp, self._seen), self._seen
        if self.is_timely:
            self._take_changes(files, window, stopping=stopping, only_more=True)
            self._settle(collector, ended=ended)
            if evaluation is not None:
                self._decide(collector, now, following=evaluation)
                if self._last is not None:
                    self._before_last = self._last.when[1]
                self._last = evaluation
            self._take_changes(files, window, stopping=stopping)
            self._settle(collector, ended=ended)
            self._decide(collector, window[1], is_over=ended)
        if ended:
            for save in self._open:
                self._drop(save)
            self._open.clear()
            for path in self.folder.checkpoints.glob(f"*-{_COPY}"):
                file_contents.remove(path, self.folder)
            self.note = self.note or self._missing(collector)
        return self._named(collector)

    def _missing(self, collector: Collector) -> str:
        """Why the best evaluation has no checkpoint at the end; "" where it has one, and where nothing was written."""
        if self.keep == 0:
            return ""
        if not self.copies:
            return _UNCLEAR if self._seen and self._last is not None else ""
        steps = [step for step, _ in collector.evaluations(self.objective.metric) if step > 0]
        best = min(steps, key=lambda at: self._rank(collector, at), default=None)
        if best is None or best in self.copies or not self.copies.keys() <= set(steps):
            return ""
        return f"its best evaluation is at step {best:,}, and what is kept is of step {max(self.copies):,}"

    def _forget_what_was_cut(self, collector: Collector) -> None:
        """Remove the copies of evaluations that happen again: they are of what an earlier attempt trained."""
        for step, path in list(self.copies.items()):
            known = collector.steps.get(step)
            if known is None or known.checkpoint != path.name:
                file_contents.remove(self.copies.pop(step), self.folder)

    def _evaluation(self, collector: Collector, window: Span) -> Evaluation | None:
        told, step = collector.tellings(self.objective.metric), collector.last_told(self.objective.metric)
        count, self._told = told - self._told, told
        return Evaluation(step, window, crowded=count > 1) if count > 0 and step is not None else None

    def _take_changes(self, files: set[str], window: Span, *, stopping: bool, only_more: bool = False) -> None:
        """Take note of changed files: more of what is being saved, or (not `only_more`) another save."""
        if self._is_skipping:
            files.clear()
            self._is_skipping = bool(file_contents.is_being_written(self.path))
        last = self._open[-1] if self._open else None
        is_burst = self.path.is_dir()
        if files and last is not None and not last.settled and (is_burst or last.files.isdisjoint(files)):
            last.ended = window
            last.files |= files
            files.clear()
        # What it saves because it is stopped belongs to no evaluation.
        if files and not only_more and self._seen and not stopping:
            self._open.append(Save(window, window, self._last, self._before_last, set(files)))
        if len(self._open) > _MOST_OPEN:
            self._give_up(_HABIT)

    def _settle(self, collector: Collector, *, ended: bool) -> None:
        """Copy what was written last, once it is whole."""
        save = self._open[-1] if self._open else None
        if save is None or save.settled:
            return
        now, current = self.clock(), file_contents.stamp(self.path)
        if current != self._stamp:
            save.ended = (save.ended[0], now)
            self._stamp = self._seen = current
        if self.path.is_dir() and not ended and now - save.ended[1] < FOLDER_SECONDS:
            return
        written = file_contents.is_being_written(self.path)
        is_empty = not self.path.is_dir() and any(size == 0 for _, size, _ in self._stamp.values())
        if written or (is_empty and not ended):
            # The same file goes on changing without being another save.
            save.ended = (save.ended[0], now)
            save.files.clear()
            return
        if written is None and not ended and now - save.ended[1] < UNSEEN_SECONDS:
            return
        save.settled = True
        only_previous = self._sides == {"previous"} and save.previous is not None
        if only_previous and save.previous is not None and not self._is_wanted(collector, save.previous.step):
            return
        self._copied += 1
        to = self.folder.checkpoints / f"{self._copied}-{_COPY}"
        is_whole = file_contents.copy(self.path, to, self.folder) and file_contents.stamp(self.path) == self._stamp
        save.copy = to if is_whole else None

    def _decide(
        self, collector: Collector, now: float, *, following: Evaluation | None = None, is_over: bool = False
    ) -> None:
        """Find out what the open saves belong to; a new habit ends the old one."""
        habit = next(iter(self._sides), None)
        for save in list(self._open):
            if is_over and self._is_of_the_end(collector, save):
                self._open.remove(save)
                self._keep_of_the_end(collector, save)
                continue
            found = side(save, following, now, is_over=is_over, habit=habit)
            if following is None and not is_over and (found != "previous" or not save.settled):
                continue
            self._open.remove(save)
            of = save.previous if found == "previous" else following if found == "following" else None
            if not save.settled and not is_over:
                # What is still to come of it is no save that begins then.
                self._is_skipping = bool(file_contents.is_being_written(self.path))
            if of is None:
                self._drop(save)
                # The first may be that of an untrained model.
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
        """Whether a program that has ended wrote it after the last evaluation, when nothing was left to train."""
        last = save.previous
        if last is None or last != self._last or last.step != collector.last_step or last.step < self.length:
            return False
        if save.began[0] >= last.when[1]:
            return True
        # Both were seen at one look. With another evaluation in it, a thread that began to write at that one may have
        # ended after the last.
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
        if step in self._taken:  # it was written right after that evaluation, too
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
        file_contents.remove(to, self.folder)
        real_folders.move(save.copy, to, self.folder.study)
        self.copies[step] = to

    def _is_wanted(self, collector: Collector, step: int) -> bool:
        """Whether an evaluation is among the best so far."""
        steps = {*self.copies, step} & collector.steps.keys() - {0}
        return step in sorted(steps, key=lambda at: self._rank(collector, at))[: self.keep] and math.isfinite(
            self.objective.loss(collector.value(step, self.objective.metric))
        )

    def _rank(self, collector: Collector, step: int) -> tuple[float, int]:
        return rank(self.objective, step, collector.value(step, self.objective.metric))

    def _named(self, collector: Collector) -> dict[int, str | None]:
        ranked = sorted(self.copies.keys() & collector.steps.keys(), key=lambda step: self._rank(collector, step))
        names: dict[int, str | None] = {}
        for step in [step for step in self.copies if step not in ranked[: self.keep]]:
            file_contents.remove(self.copies.pop(step), self.folder)
            names[step] = None
        return names | {step: path.name for step, path in self.copies.items()}

    def _drop(self, save: Save) -> None:
        if save.copy is not None:
            file_contents.remove(save.copy, self.folder)

    def _give_up(self, why: str) -> None:
        """No copy is known to be of an evaluation."""
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
