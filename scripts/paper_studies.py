"""Run the small studies of the paper's figures and tables, and say of each whether what is to be seen was seen.

`python scripts/paper_studies.py` runs every study in studies/paper/small, or those that are named, each in less than
five minutes on two cores, into `--dir` (runs/). Each ends with its figure (plots/ in the study's
folder), its numbers and one sentence. A study that was run before is only read. Exit code 1 if something was not seen
or a run failed. The studies of curvature, which show further figures, are those of scripts/curvature_studies.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from answered_studies import ROOT, Answer, AnsweredStudies
from batch_answers import figure_06
from curvature_trials import MeasuredTrial, read_trials
from paper_answers import ANSWERS

STUDIES = ROOT / "studies" / "paper" / "small"


def reading(answer: Callable[[Sequence[MeasuredTrial]], Answer]) -> Callable[[Path], Answer]:
    """The answer from a run's folder."""
    return lambda folder: answer(read_trials(folder))


PAPER_STUDIES = AnsweredStudies(
    STUDIES,
    "paper-small-",
    {name: reading(each) for name, each in ANSWERS.items()} | {"figure_06": figure_06},
    {"figure_06": ["batch-scaling", "--seeds", "5", "--points", "7", "--all-batches", "--high", "1024"]},
)

if __name__ == "__main__":
    sys.exit(PAPER_STUDIES.main(__doc__))
