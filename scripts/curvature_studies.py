"""Run the studies of curvature, and say whether what the paper reports is seen.

`python scripts/curvature_studies.py` runs every study in studies/curvature, or those that are named, each in less than
five minutes on two cores, into `--dir` (runs/). Each ends with its figure (plots/ in the study's folder), its numbers
and one sentence. A study that was run before is only read. Exit code 1 if something was not seen or a run failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from answered_studies import ROOT, Answer, AnsweredStudies
from curvature_answers import ANSWERS
from curvature_trials import MeasuredTrial, read_trials, unconverged

STUDIES = ROOT / "studies" / "curvature"


def reading(answer: Callable[[Sequence[MeasuredTrial]], Answer]) -> Callable[[Path], Answer]:
    """The answer from a run's folder, with a note of how many eigenvalues had not converged."""

    def of_folder(folder: Path) -> Answer:
        trials = read_trials(folder)
        rough, eigenvalues = unconverged(trials)
        return replace(answer(trials), notes=[f"{rough:,} of {eigenvalues:,} eigenvalues had not converged"])

    return of_folder


CURVATURE_STUDIES = AnsweredStudies(STUDIES, "curvature-", {name: reading(each) for name, each in ANSWERS.items()})

if __name__ == "__main__":
    sys.exit(CURVATURE_STUDIES.main(__doc__))
