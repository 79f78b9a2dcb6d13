"""The checkpoints that a program writes: the N best by the objective and the last stay, the others go."""

from __future__ import annotations

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
from tunectl.core.program_request import Checkpoints
from tunectl.language.placeholders import filled
from tunectl.programs import file_contents
from tunectl.programs.checkpoint_steps import is_other_unit, matched, shifted
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.flushed_output import SavedPoint
from tunectl.store.checkpoint_names import ExistingCheckpoints

_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPROTO, errno.EXDEV, errno.EMLINK}
)
# What file systems say that have no links (exFAT, CIFS, shared folders of virtual machines), and what links to folders
# and across file systems give.

_OUTSIDE = (
    "its checkpoints cannot be named in the tables: they lie outside the trial's folder, where no link can be made to "
    'them on this file system; write them below "{trial.dir}"'
)

LED_OUT = "checkpoints that lie outside the trial's folder, where a link leads, are not removed"

STEP = "step"
_STAR, _QUESTION = "\1", "\2"
# They stand for a star and a question mark of a folder's name while the pattern is made.


@dataclass(frozen=True, slots=True)
class CheckpointPattern:
    """A path with `{step}` in it: finds the files (or folders) and their steps. It may hold `*`."""

    glob: str
    pattern: re.Pattern[str]
    every: int = 1
    offset: int = 0
    is_plain: bool = True

    @classmethod
    def of(cls, checkpoints: Checkpoints, values: Mapping[str, str]) -> CheckpointPattern:
        """The pattern of a path, its other placeholders filled with `values`, in which nothing is a wildcard."""
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
        )

    def found(self) -> dict[int, Path]:
        """The checkpoints there are, by step."""
        paths: dict[int, Path] = {}
        for path in glob.glob(self.glob, recursive=True):  # noqa: PTH207  (the pattern is absolute)
            match = self.pattern.fullmatch(path)
            if match:
                paths[int(match["step"]) * self.every + self.offset] = Path(path)
        return dict(sorted(paths.items()))


def _split(path: str) -> list[str]:
    """Plain parts at even places, wildcards at odd ones."""
    return re.split(r"(\*+|\?)", path)


def _regex(text: str) -> str:
    kinds = {"?": "[^/]", "*": "[^/]*"}
    return "".join(
        re.escape(part) if index % 2 == 0 else kinds.get(part, ".*") for index, part in enumerate(_split(text))
    )


def rank(objective: Objective, step: int, value: float | None) -> tuple[float, int]:
    """What checkpoints are sorted by, the best first."""
    return (-step, 0) if objective.checkpoint == "final" else objective.rank(value, step)


@dataclass(slots=True)
class KeptCheckpoints:
    """Looks after a program's checkpoints.

    A link to each that is kept lies in the trial's `checkpoints`, under the name by which measurements know it.
    `length` is how many steps, as the metrics count them, the study asks for; `spared` the numbers of those that are
    never removed. `keeps_what_is_outside`: some were to be removed, and lie outside the trial's folder, where a link of
    the program's leads.
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

    def look(self, collector: Collector, *, ended: bool) -> Mapping[int, str | None]:
        """As `tidy`, by what is known of the objective; checkpoints are matched where their names count otherwise."""
        metric, there = self.objective.metric, self.pattern.found()
        last_step = collector.last_told(metric)
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
        return names

    def spare_what_is_known(self, collector: Collector, covered: SavedPoint | None, *, ended: bool) -> None:
        """Spare what a trial could go on from now, were it cut off: the last checkpoint that is `covered` (all that was
        told before is on the disk), and the last that was evaluated.
        """
        last = collector.last_told(self.objective.metric)
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
        """Remove what is no longer wanted, and give the names of what is kept by step.

        `value` gives the objective at a step, `last_step` is the last at which it was told, `steps` the step of each
        checkpoint by its number, None where the number is the step. The last checkpoint stays, since a trial goes on
        from it; so does, while the program runs, every one that may still be evaluated; and so do all where none was
        ever evaluated.
        """
        there = self.pattern.found()
        of = {number: number for number in there} if steps is None else steps
        evaluated = {number: of[number] for number in there if number in of and self._counts(value(of[number]))}
        if not evaluated:
            return {of.get(number, number): self._linked(number, path) for number, path in there.items()}
        if steps is None:
            waiting = {step for step in there if not ended and (last_step is None or step >= last_step)}
        else:
            waiting = {number for number in there if not ended and number > max(evaluated)}
        ranked = sorted(evaluated, key=lambda number: self._rank(of[number], value(of[number])))
        wanted = {max(there), *ranked[: self.keep]} | waiting
        self._remove({number: path for number, path in there.items() if number not in wanted})
        names = {number: self._linked(number, there[number]) for number in sorted(wanted)}
        return {of[number]: name for number, name in names.items() if number in of}

    def _newest(self, there: Mapping[int, Path], last_step: int | None, *, prune: bool) -> dict[int, str]:
        """Keep the last ones, since nothing says which belong to the best evaluations."""
        kept = sorted(there)[-max(1, self.keep) :] if prune else sorted(there)
        self._remove({number: path for number, path in there.items() if number not in kept})
        if there and last_step is not None and self.keep > 0:
            self.note = (
                f"its checkpoints cannot be matched with its evaluations, and the last are kept: one is named "
                f"{there[max(there)].name}, the last evaluation is at step {last_step:,}; say how many make a step, "
                "checkpoints: {path: ..., every: ...}, or print both"
            )
        for number in kept:
            self._linked(number, there[number])
        return {}

    def _remove(self, paths: Mapping[int, Path]) -> None:
        for number, path in paths.items():
            if number in self.spared:
                continue
            link = self._link(number, path)  # before: the name of a folder's has no suffix
            self.keeps_what_is_outside |= not file_contents.remove(path, self.folder)
            real_folders.remove(link, self.folder.study)

    def _counts(self, value: float | None) -> bool:
        return self.objective.loss(value) < float("inf")

    def _rank(self, step: int, value: float | None) -> tuple[float, int]:
        return rank(self.objective, step, value)

    def _link(self, step: int, path: Path) -> Path:
        return self.folder.checkpoints / f"step-{step:08d}{path.suffix if not path.is_dir() else ''}"

    def _linked(self, step: int, path: Path) -> str:
        """The name by which measurements know a checkpoint: a link's, or the path where the file system has no links.

        The path is relative to `checkpoints`, as the link's name is.
        """
        link = self._link(step, path)
        if link.is_symlink() or _is_same_file(link, path):
            return link.name
        real_folders.made(self.folder.checkpoints, self.folder.study)
        target = os.path.relpath(path, self.folder.checkpoints)
        file_contents.remove(link, self.folder)  # of a file that was written again since
        made = _is_made(lambda: link.symlink_to(target)) or _is_made(lambda: link.hardlink_to(path))
        return link.name if made else target


def _is_same_file(link: Path, path: Path) -> bool:
    try:
        return link.samefile(path)
    except OSError:
        return False


def _is_made(make: Callable[[], None]) -> bool:
    """Whether a link could be made; false where the file system has none of the kind."""
    try:
        make()
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True
