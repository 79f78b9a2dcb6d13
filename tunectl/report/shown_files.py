"""Which files of which trials the page shows: those that were written at evaluations, pictures in the page itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.wording import counted
from tunectl.report.page_model import ShownFile, ShownFiles, ShownStepFiles
from tunectl.report.shown_steps import fitting
from tunectl.store.trial_pictures import PICTURES, StepFile, StepFiles, picture

MOST_BYTES = 8_000_000
"""About the most that all pictures take in the page."""


@dataclass(frozen=True, slots=True)
class ShownTrialFiles:
    """The files that the page shows, by trial, the best first, and the section's text."""

    trials: Sequence[ShownFiles] = ()
    text: str = ""


def shown_files(evidence: StudyEvidence) -> ShownTrialFiles:
    """The files of some trials at some of their steps, with at most about MOST_BYTES of pictures."""
    runs = {run.plan.trial: run for run in evidence.runs}
    known = [
        (runs[trial], steps)
        for trial, steps in evidence.files.items()
        # A program's folders of that name may be its checkpoints.
        if trial in runs and (_has_pictures(steps) if evidence.spec.own_code else steps)
    ]
    shown: list[ShownFiles] = []
    room, thinned = MOST_BYTES, False
    for place, (run, steps) in enumerate(known):
        share = room // (len(known) - place)
        chosen = fitting(steps, run.best_step, share, _bytes)
        made, taken = _of_trial(evidence, run, chosen, share)
        room, thinned = max(0, room - taken), thinned or len(chosen) < len(steps)
        shown.append(made)
    if not shown:
        return ShownTrialFiles()
    text = "What trials wrote at their evaluations, by trial and step."
    if thinned:
        most = counted(max(len(item.steps) for item in shown), "step")
        text += f" Of a trial with more, {most} are shown; its folder `files` has all."
    return ShownTrialFiles(shown, text)


def _has_pictures(steps: Sequence[StepFiles]) -> bool:
    return any(file.name.lower().endswith(PICTURES) for step in steps for file in step.files)


def _of_trial(evidence: StudyEvidence, run: Run, steps: Sequence[StepFiles], room: int) -> tuple[ShownFiles, int]:
    """A trial's files, and the bytes of its pictures; each step may take its part of `room`, and what is left of it."""
    found, taken = [], 0
    for number, step in enumerate(steps):
        left = (room - taken) // (len(steps) - number)
        files = []
        for file in step.files:
            made = _shown(file, Path(evidence.folder), left)
            size = len(made.picture)
            left, taken = left - size, taken + size
            files.append(made)
        found.append(ShownStepFiles(step.step, files, step.left_out))
    name = evidence.setting_name(run.plan.setting)
    label = f"trial {run.plan.trial}" + (f" ({name})" if len(evidence.settings) > 1 else "")
    return ShownFiles(run.plan.trial, label, run.best_step, found), taken


def _shown(file: StepFile, study: Path, room: int) -> ShownFile:
    place = file.path.relative_to(study).as_posix()
    read = picture(file, study) if 4 * file.size <= 3 * room else None  # base64 takes 4 bytes for 3
    if read is None:
        return ShownFile(file.name, place, file.size)
    kind, content = read
    return ShownFile(file.name, place, file.size, f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}")


def _bytes(step: StepFiles) -> int:
    return sum(file.size for file in step.files)
