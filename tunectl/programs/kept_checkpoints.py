"""The checkpoints that a program writes: the best ones by the objective and the last are kept, others are removed."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tunectl.core import real_folders
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import Checkpoints
from tunectl.language.placeholders import filled
from tunectl.programs import checkpoint_files
from tunectl.programs.checkpoint_steps import is_other_unit, matched, shifted
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.flushed_output import SavedPoint
from tunectl.store.checkpoint_names import ExistingCheckpoints

_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPROTO, errno.EXDEV, errno.EMLINK}
)
# The error numbers of file systems without links (exFAT, CIFS, shared folders of virtual machines), of links to folders
# and of links to another file system.

_OUTSIDE = (
    "its checkpoints cannot be named in the tables: they are outside the trial's folder, and this file system has no "
    'links; write them below "{trial.dir}"'
)

LED_OUT = "checkpoints outside the trial's folder, to which a link leads, are not removed"

_TRIES = 3
_LINK = re.compile(r"step-[0-9]{8,}(\.[^/]*)?")

STEP = "step"
_STAR, _QUESTION = "\1", "\2"
# They replace a star and a question mark in a folder's name while the pattern is built.


@dataclass(frozen=True, slots=True)
class CheckpointPattern:
    """Finds the files (or folders) that match a path with `{step}`, and their steps. The path may have `*`.

    Those that are in `skipped` do not count as long as they are not written again: see resumed_checkpoint.
    """

    glob: str
    pattern: re.Pattern[str]
    every: int = 1
    offset: int = 0
    is_plain: bool = True
    skipped: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, checkpoints: Checkpoints, values: Mapping[str, str], skipped: frozenset[str] = frozenset()
    ) -> CheckpointPattern:
        """The pattern of a path, with its other placeholders filled with `values`, which have no wildcards."""
        mark = "\0"
        stars = {name: text.replace("*", _STAR).replace("?", _QUESTION) for name, text in values.items()}
        path = filled(checkpoints.path, {**stars, STEP: mark})
        finding = "".join(glob.escape(part) if index % 2 == 0 else part for index, part in enumerate(_split(path)))
        head, *tail = path.split(mark)
        matching = _regex(head) + r"(?P<step>[0-9]+)" + r"(?P=step)".join(map(_regex, tail))
        finding = finding.replace(_STAR, "[*]").replace(_QUESTION, "[?]")
        matching = matching.replace(_STAR, r"\*").replace(_QUESTION, r"\?")
        return cls(
            finding.replace(mark, "*"),
            re.compile(matching),
            checkpoints.every,
            checkpoints.offset or 0,
            checkpoints.offset is None and checkpoints.every == 1,
            skipped,
        )

    def found(self) -> dict[int, Path]:
        """The existing checkpoints, by step."""
        paths: dict[int, Path] = {}
        for path in glob.glob(self.glob, recursive=True):  # noqa: PTH207  (the pattern is absolute)
            match = self.pattern.fullmatch(path)
            if match:
                paths[int(match["step"]) * self.every + self.offset] = Path(path)
        return {number: path for number, path in sorted(paths.items()) if not self._is_skipped(number, path)}

    def _is_skipped(self, number: int, path: Path) -> bool:
        return bool(self.skipped) and SavedPoint.of(number, path).word in self.skipped


def _split(path: str) -> list[str]:
    """The parts of a path: plain text at even places, wildcards at odd ones."""
    return re.split(r"(\*+|\?)", path)


def _regex(text: str) -> str:
    kinds = {"?": "[^/]", "*": "[^/]*"}
    return "".join(
        re.escape(part) if index % 2 == 0 else kinds.get(part, ".*") for index, part in enumerate(_split(text))
    )


@dataclass(slots=True)
class KeptCheckpoints:
    """Keeps the best checkpoints of a program, and removes others.

    The trial's `checkpoints` has a link to each one that is kept, under its name in the measurements. `length` is the
    number of steps that the study asks for, as the metrics count them; `spared` has the numbers of checkpoints that are
    never removed. `keeps_what_is_outside`: some could not be removed, since a link of the program leads out of the
    trial's folder.
    """

    pattern: CheckpointPattern
    folder: TrialFolder
    objective: Objective
    keep: int
    length: int = sys.maxsize
    note: str = ""
    keeps_what_is_outside: bool = False
    spared: set[int] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)

    def update(self, collector: Collector, *, ended: bool) -> Mapping[int, str | None]:
        """Call `tidy` with the values of the objective; match checkpoints whose names count in another way."""
        metric, there = self.objective.metric, self.pattern.found()
        last_step = collector.last_step_of(metric)
        is_other = is_other_unit(there, last_step, self.length)
        steps = None
        if is_other or (ended and there and not any(self._counts(collector.value(step, metric)) for step in there)):
            steps = matched(there, collector.evaluations(metric), metric)
            if not steps:
                return self._newest(there, last_step, prune=is_other or ended)
        self._seen |= there.keys()
        names: Mapping[int, str | None] = self.tidy(
            lambda step: collector.value(step, metric), last_step, ended=ended, steps=steps
        )
        nameable = ExistingCheckpoints(self.folder)
        self.note = "" if all(name in nameable for name in names.values()) else _OUTSIDE
        if self.keeps_what_is_outside:
            self.note = self.note or LED_OUT
        shift = shifted(self._seen, [step for step, _ in collector.evaluations(metric)])
        if ended and steps is None and shift and self.pattern.is_plain:
            self.note = (
                f"its checkpoints may count from another step than its evaluations (by {shift}), so that none is named "
                f"as the best; say which: checkpoints: {{path: ..., offset: {shift}}}, or offset: 0"
            )
            return dict.fromkeys(names)
        if ended:
            self.note = self.note or self._missing(collector, names)
        return names

    def _missing(self, collector: Collector, names: Mapping[int, str | None]) -> str:
        """Why the best evaluation has no checkpoint at the end; "" if it has one."""
        evaluations = collector.evaluations(self.objective.metric)
        values = {step: metrics[self.objective.metric] for step, metrics in evaluations if step > 0}
        best = next(iter(self.objective.best_first(values.items())), None)
        if self.keep == 0 or best is None or best in names:
            return ""
        if not self._seen:
            return f"nothing has a name like {self.pattern.glob}"
        kept = (
            f"; the nearest that is kept is of step {min(names, key=lambda step: abs(step - best)):,}" if names else ""
        )
        return f"its best evaluation is at step {best:,}, where it saved nothing{kept}"

    def spare_what_is_known(self, collector: Collector, covered: SavedPoint | None, *, ended: bool) -> None:
        """Spare the checkpoints from which the trial could resume if it were cut off now.

        These are the last one that is `covered`, since everything printed before it is on the disk, and the last one
        that was evaluated.
        """
        last = collector.last_step_of(self.objective.metric)
        evaluated = [number for number in self.pattern.found() if last is not None and number <= last]
        numbers = {max(evaluated, default=None), None if covered is None else covered.number}
        self.spared = set() if ended else {number for number in numbers if number is not None}

    def tidy(
        self,
        value: Callable[[int], float | None],
        last_step: int | None,
        *,
        ended: bool,
        steps: Mapping[int, int] | None = None,
    ) -> dict[int, str]:
        """Remove the checkpoints that are not kept, and give the names of the others by step.

        `value` gives the objective at a step, `last_step` is the last step that has one, and `steps` is the step of
        each checkpoint by its number, None if the number is the step. The last checkpoint is always kept, since the
        trial resumes from it. While the program runs, so are those that may still be evaluated. All are kept if none
        was evaluated.
        """
        there = self.pattern.found()
        self._remove_broken_links()
        of = {number: number for number in there} if steps is None else steps
        evaluated = {number: of[number] for number in there if number in of and self._counts(value(of[number]))}
        if not evaluated:
            return {of.get(number, number): self._linked(number, path) for number, path in there.items()}
        if steps is None:
            waiting = {step for step in there if not ended and (last_step is None or step >= last_step)}
        else:
            waiting = {number for number in there if not ended and number > max(evaluated)}
        best_first = self.objective.best_first((step, value(step)) for step in evaluated.values())
        places = {step: place for place, step in enumerate(best_first)}
        ranked = sorted(evaluated, key=lambda number: places[evaluated[number]])
        wanted = {max(there), *ranked[: self.keep]} | waiting
        self._remove({number: path for number, path in there.items() if number not in wanted})
        names = {number: self._linked(number, there[number]) for number in sorted(wanted)}
        return {of[number]: name for number, name in names.items() if number in of}

    def _newest(self, there: Mapping[int, Path], last_step: int | None, *, prune: bool) -> dict[int, str]:
        """Keep the last ones, since it is not known which belong to the best evaluations."""
        self._remove_broken_links()
        kept = sorted(there)[-max(1, self.keep) :] if prune else sorted(there)
        self._remove({number: path for number, path in there.items() if number not in kept})
        if there and last_step is not None and self.keep > 0:
            self.note = (
                f"its checkpoints cannot be matched with its evaluations, and the last are kept: one is named "
                f"{there[max(there)].name}, the last evaluation is at step {last_step:,}; give the number of steps "
                "between two, checkpoints: {path: ..., every: ...}, or print both"
            )
        for number in kept:
            self._linked(number, there[number])
        return {}

    def _remove(self, paths: Mapping[int, Path]) -> None:
        for number, path in paths.items():
            if number in self.spared:
                continue
            link = self._link(number, path)  # before it is removed: the link to a folder has no suffix
            self.keeps_what_is_outside |= not checkpoint_files.remove(path, self.folder)
            real_folders.remove(link, self.folder.study)

    def _remove_broken_links(self) -> None:
        """Remove links of this class that lead to nothing: a kill between the removals of a checkpoint and of its link
        leaves one. A link is only read: what is there is not touched.
        """
        with contextlib.suppress(OSError):
            for name in real_folders.names(self.folder.checkpoints, self.folder.study):
                link = self.folder.checkpoints / name
                if _LINK.fullmatch(name) and link.is_symlink() and not link.exists():
                    real_folders.remove(link, self.folder.study)

    def _counts(self, value: float | None) -> bool:
        return self.objective.metric_cost(value) < float("inf")

    def _link(self, step: int, path: Path) -> Path:
        return self.folder.checkpoints / f"step-{step:08d}{path.suffix if not path.is_dir() else ''}"

    def _linked(self, step: int, path: Path) -> str:
        """The name of a checkpoint in the measurements: that of a link, or the path if the file system has no links.

        The path is relative to `checkpoints`, as the link's name is.
        """
        link = self._link(step, path)
        if link.is_symlink() or _is_same_file(link, path):
            return link.name
        real_folders.made(self.folder.checkpoints, self.folder.study, inside=self.folder.path)
        target = os.path.relpath(path, self.folder.checkpoints)
        checkpoint_files.remove(link, self.folder)  # to a file that was written again since then
        made = self._is_made(link, lambda: link.symlink_to(target)) or self._is_made(
            link, lambda: link.hardlink_to(path)
        )
        return link.name if made else target

    def _is_made(self, link: Path, make: Callable[[], None]) -> bool:
        """Whether a link could be created; false if the file system does not have this kind.

        A file server may not show the link of an earlier attempt on another host yet: it is replaced.
        """
        for _ in range(_TRIES):
            try:
                make()
            except FileExistsError:
                real_folders.remove(link, self.folder.study)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return False
            else:
                return True
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(link))


def _is_same_file(link: Path, path: Path) -> bool:
    try:
        return link.samefile(path)
    except OSError:
        return False
