"""Runs studies that have an answer in words, and says of each whether what was to be seen is seen."""

from __future__ import annotations

import argparse
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunectl.analysis.figures.figures import Figure
from tunectl.report.plots import write_figure

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100


@dataclass(frozen=True)
class Answer:
    """What a study shows.

    `table` has its heading first. `expected` is what was to be seen, `found` what was, each without its full stop.
    `notes` are lines between both.
    """

    figure: Figure
    table: Sequence[Sequence[str]]
    expected: str
    found: str
    seen: bool
    notes: Sequence[str] = ()

    @property
    def sentence(self) -> str:
        """The one sentence with which the study ends."""
        return f"To be seen: {self.expected}. {'Seen' if self.seen else 'Not seen'}: {self.found}."


@dataclass(frozen=True)
class AnsweredStudies:
    """The studies of a folder, `studies`, and their answers, which read the folder that a run has written.

    The run's folder has the name of the study behind `prefix`. A study is run by `tunectl run`, one in `commands` by
    these words.
    """

    studies: Path
    prefix: str
    answers: Mapping[str, Callable[[Path], Answer]]
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def main(self, description: str | None) -> int:
        """The command line: which studies, where, and how many trials at a time; the exit code."""
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("studies", nargs="*", help=f"which of {', '.join(self.answers)} [all]")
        parser.add_argument("--dir", type=Path, default=Path("runs"), help="where their folders are [runs]")
        parser.add_argument("--slots", type=int, help="trials at a time [as tunectl run]")
        asked = parser.parse_args()
        if unknown := [name for name in asked.studies if name not in self.answers]:
            parser.error(f"no study named {', '.join(unknown)}; there are {', '.join(self.answers)}")
        wrong = 0
        for name in asked.studies or self.answers:
            wrong += not self.shown(name, asked.dir / f"{self.prefix}{name.replace('_', '-')}", asked.slots)
        return int(wrong > 0)

    def shown(self, name: str, folder: Path, slots: int | None) -> bool:
        """Run a study and print what it shows; False where it was not seen or the run failed."""
        started = time.monotonic()
        words = [*self.commands.get(name, ["run"]), str(self.studies / f"{name}.yaml"), "--dir", str(folder), "--quiet"]
        if slots is not None:
            words += ["--slots", str(slots)]
        ended = subprocess.run([sys.executable, "-m", "tunectl", *words], capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            print(f"{name}: tunectl {' '.join(words)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
            return False
        seconds = time.monotonic() - started
        answer = self.answers[name](folder)
        files = write_figure(folder / "plots", answer.figure)
        print(f"\n{name}: {seconds:.0f} s, figure {files[0]}")
        print("\n".join([*aligned(answer.table), *answer.notes]))
        print(textwrap.fill(answer.sentence, WIDTH), flush=True)
        return answer.seen


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
