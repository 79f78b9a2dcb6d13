"""The checkpoints that a program writes: the N best by the objective and the last stay, the others go."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.programs import Checkpoints
from tunectl.spec.placeholders import filled
from tunectl.training.own_code import contents
from tunectl.training.own_code.collecting import Collector

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
        return cls(finding.replace(mark, "*"), re.compile(matching), checkpoints.every, checkpoints.offset)

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
    """

    pattern: CheckpointPattern
    folder: TrialFolder
    objective: Objective
    keep: int
    note: str = ""

    def look(self, collector: Collector, *, ended: bool) -> dict[int, str]:
        """As `tidy`, by what is known of the objective."""
        metric = self.objective.metric
        return self.tidy(lambda step: collector.value(step, metric), collector.last_told(metric), ended=ended)

    def tidy(self, value: Callable[[int], float | None], last_step: int | None, *, ended: bool) -> dict[int, str]:
        """Remove what is no longer wanted, and give the names of what is kept by step.

        `value` gives the objective at a step, `last_step` is the last at which it was told. The last checkpoint stays,
        since a trial goes on from it; so does, while the program runs, every one that may still be evaluated; and so
        do all where none was ever evaluated: they are counted otherwise than the metrics.
        """
        there = self.pattern.found()
        if not there:
            return {}
        if not any(self._counts(value(step)) for step in there):
            return {step: self._linked(step, path) for step, path in there.items()}
        waiting = {step for step in there if not ended and (last_step is None or step >= last_step)}
        ranked = sorted(
            (step for step in there if self._counts(value(step))), key=lambda step: self._rank(step, value(step))
        )
        wanted = {max(there), *ranked[: self.keep]} | waiting
        for step, path in there.items():
            if step not in wanted:
                contents.remove(path)
                self._link(step, path).unlink(missing_ok=True)
        return {step: self._linked(step, there[step]) for step in sorted(wanted)}

    def _counts(self, value: float | None) -> bool:
        return self.objective.loss(value) < float("inf")

    def _rank(self, step: int, value: float | None) -> tuple[float, int]:
        return rank(self.objective, step, value)

    def _link(self, step: int, path: Path) -> Path:
        return self.folder.checkpoints / f"step-{step:08d}{path.suffix if not path.is_dir() else ''}"

    def _linked(self, step: int, path: Path) -> str:
        link = self._link(step, path)
        if not link.is_symlink():
            self.folder.checkpoints.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError):
                link.symlink_to(os.path.relpath(path, self.folder.checkpoints))
        return link.name
