"""The answer to a study's question as text: the sentence, and the best trial."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tunectl.cli.console import say, wrapped

if TYPE_CHECKING:
    from tunectl.analysis.comparison.study_answer import BestTrial, StudyAnswer


def say_answer(answer: StudyAnswer | None, goal: str, folder: Path) -> None:
    """Print the goal, the answer with what makes it doubtful, and the best trial; nothing where there is no answer.

    Paths in the study `folder` are printed with it, as the commands have them.
    """
    if answer is None:
        return
    if goal.strip():
        say(wrapped(f"goal: {goal.strip()}", sys.stdout))
    say_sentence(answer)
    if answer.command:  # for copying, so it is not wrapped
        say(f"    {answer.command}")
    if answer.best is not None:
        _say_best(answer.best, folder)
    say()


def say_sentence(answer: StudyAnswer) -> None:
    """Print the answer with the findings that make it doubtful."""
    say(wrapped(f"answer: {answer.sentence}", sys.stdout))
    if answer.doubts:
        say(wrapped(f"in doubt: see {', '.join(answer.doubts)}", sys.stdout))


def _say_best(best: BestTrial, folder: Path) -> None:
    from tunectl.core.wording import as_text

    values = "  ".join(f"{name}={as_text(value)}" for name, value in {**best.varying, **best.fixed}.items())
    say(wrapped(f"best: trial {best.trial} {best.where}", sys.stdout))
    say(wrapped(values, sys.stdout, indent="    ", first_indent="    "))
    if best.checkpoint:
        say(f"    {folder / best.checkpoint}")
    if best.command:
        say(f"    {best.command}")
