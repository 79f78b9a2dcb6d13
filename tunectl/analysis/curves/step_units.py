"""Whether the steps that own code prints and the study's max_train_steps count the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.curves.good_trials import most
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.results.runs import Run
from tunectl.core.own_code_request import SHORT, ended_early

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class PrintedSteps:
    """The steps at which a trial printed its objective: the first, the last, their number, and their distance.

    `interval` is the largest distance of two steps; `is_even`: all distances are equal, except a shorter last one.
    """

    first: int
    last: int
    count: int
    interval: int
    is_even: bool


def steps_do_not_fit(evidence: StudyEvidence) -> list[Finding]:
    """`steps-do-not-fit`: most trials end at a step other than max_train_steps, so the two count different things."""
    steps = evidence.spec.training.max_train_steps
    printed = _printed_steps(evidence)
    misfits = {
        run: found
        for run, found in printed.items()
        if found.last > (2 - SHORT) * steps or ended_early(found.last, found.interval, steps)
    }
    return [_misfit_finding(misfits, len(printed), steps)] if misfits and most(len(misfits), len(printed)) else []


def steps_from_zero(evidence: StudyEvidence) -> list[Finding]:
    """`steps-from-zero`, a note: most trials print the steps 0 to max_train_steps - 1, and step 0 is no evaluation."""
    steps = evidence.spec.training.max_train_steps
    printed = _printed_steps(evidence)
    from_zero = [
        run
        for run, found in printed.items()
        if found.first == 0 and found.last == steps - 1 and found.count == steps > 1
    ]
    if not from_zero or not most(len(from_zero), len(printed)) or not steps_fit(evidence):
        return []
    return [_from_zero_finding(from_zero, len(printed), steps)]


def steps_fit(evidence: StudyEvidence) -> bool:
    """Whether the steps of these trials can be compared with max_train_steps."""
    return not steps_do_not_fit(evidence)


def _printed_steps(evidence: StudyEvidence) -> dict[Run, PrintedSteps]:
    """The steps that each feasible trial of own code printed; empty for the built-in training loop."""
    if not evidence.spec.own_code:
        return {}
    return {run: found for run in evidence.searched if run.feasible and (found := _printed(evidence, run))}


def _printed(evidence: StudyEvidence, run: Run) -> PrintedSteps | None:
    steps, _ = run.curve(evidence.objective.metric)
    if not len(steps):
        return None
    gaps = np.diff(steps)
    interval = int(gaps.max()) if len(gaps) else int(steps[-1])
    is_even = bool(np.all(gaps[:-1] == interval)) if len(gaps) else True
    return PrintedSteps(int(steps[0]), int(steps[-1]), len(steps), max(1, interval), is_even)


def _misfit_finding(misfits: dict[Run, PrintedSteps], of: int, steps: int) -> Finding:
    lasts = sorted({found.last for found in misfits.values()})
    ended = f"step {lasts[0]:,}" if len(lasts) == 1 else f"steps {lasts[0]:,} to {lasts[-1]:,}"
    runs = sorted(misfits, key=lambda run: run.plan.trial)
    sentence = (
        f"{len(misfits)} of {of} trials printed {ended} as their last, and max_train_steps is {steps:,}: they seem to "
        f"count different things (epochs, updates, examples), so there are no findings about the length of training."
    )
    return Finding(
        id="steps-do-not-fit",
        level="warning",
        sentence=sentence,
        action=_remedy(list(misfits.values()), lasts, steps),
        trials=[run.plan.trial for run in runs[:_MOST_NAMED]],
        numbers={"last_step_least": lasts[0], "last_step_most": lasts[-1], "max_train_steps": steps, "of_trials": of},
        sureness=f"{len(misfits)} of {of} trials",
    )


def _remedy(found: Sequence[PrintedSteps], lasts: Sequence[int], steps: int) -> str:
    """The line of the study file that makes both one unit, if it can be known, and other explanations."""
    counts = {item.count for item in found}
    same = len(counts) == 1 and len(lasts) == 1 and all(item.is_even for item in found)
    count, first, last = found[0].count, found[0].first, lasts[0]
    lines = []
    if same and steps % count == 0 and (first > 0 or count > 1):
        after = ", if step 0 comes after some training" if first == 0 else ""
        lines.append(
            f"write every: {steps // count} under metrics, in place of step and offset, to count evaluations "
            f"({count:,} here{after})"
        )
    if len(lasts) > 1 and lasts[-1] < steps:
        lines.append("change nothing if the program stops early by itself")
    if same:
        length = last + found[0].interval if first == 0 and found[0].interval <= 1 else last
        offset = " and offset: 1" if first == 0 and length == last + 1 else ""
        lines.append(
            f"set max_train_steps to {length:,}{offset}, in the program's own unit, if its length does not come from "
            "{max_train_steps}"
        )
    else:
        lines.append("give max_train_steps in the unit of the printed steps, or read another step (step:, every:)")
    return ", or ".join(lines)


def _from_zero_finding(runs: Sequence[Run], of: int, steps: int) -> Finding:
    sentence = (
        f"{len(runs)} of {of} trials printed the steps 0 to {steps - 1:,} of {steps:,}: they seem to count from 0. For "
        f"tunectl step 0 comes before any training, so what they print there is never the best."
    )
    return Finding(
        id="steps-from-zero",
        level="note",
        sentence=sentence,
        action="write offset: 1 under metrics, if step 0 comes after some training",
        trials=[run.plan.trial for run in runs[:_MOST_NAMED]],
        numbers={"max_train_steps": steps, "of_trials": of},
        sureness=f"{len(runs)} of {of} trials",
    )
