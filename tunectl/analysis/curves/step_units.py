"""Whether the steps that own code prints and the study's max_train_steps count the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.curves.good_trials import most
from tunectl.analysis.findings.finding_evidence import Evidence
from tunectl.analysis.findings.findings import Finding, FindingFunctions
from tunectl.analysis.results.runs import Run
from tunectl.core.own_code_request import SHORT, ended_early

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class PrintedSteps:
    """The steps at which a trial printed its objective: the first, the last, how many, and how far they lie apart.

    `interval` is the largest distance of two; `is_even`: all are equal, but for the last, which may be shorter.
    """

    first: int
    last: int
    count: int
    interval: int
    is_even: bool


def steps_findings(evidence: Evidence) -> list[Finding]:
    """`steps-do-not-fit`: most trials end at another step than max_train_steps says, so that it counts something else.

    `steps-from-zero`, where they do not: most print the steps 0 to max_train_steps - 1, and step 0 is no evaluation.
    """
    if not evidence.spec.own_code:
        return []
    steps = evidence.spec.training.max_train_steps
    printed = {run: found for run in evidence.searched if run.feasible and (found := _printed(evidence, run))}
    misfits = {run: found for run, found in printed.items() if _does_not_fit(found, steps)}
    if misfits and most(len(misfits), len(printed)):
        return [_misfit(misfits, len(printed), steps)]
    from_zero = [run for run, found in printed.items() if _counts_from_zero(found, steps)]
    return [_from_zero(from_zero, len(printed), steps)] if from_zero and most(len(from_zero), len(printed)) else []


def steps_fit(evidence: Evidence) -> bool:
    """Whether a finding about the length of training can rest on these trials."""
    return all(finding.id != "steps-do-not-fit" for finding in steps_findings(evidence))


def _printed(evidence: Evidence, run: Run) -> PrintedSteps | None:
    steps, _ = run.curve(evidence.objective.metric)
    if not len(steps):
        return None
    gaps = np.diff(steps)
    interval = int(gaps.max()) if len(gaps) else int(steps[-1])
    is_even = bool(np.all(gaps[:-1] == interval)) if len(gaps) else True
    return PrintedSteps(int(steps[0]), int(steps[-1]), len(steps), max(1, interval), is_even)


def _does_not_fit(found: PrintedSteps, steps: int) -> bool:
    return found.last > (2 - SHORT) * steps or ended_early(found.last, found.interval, steps)


def _counts_from_zero(found: PrintedSteps, steps: int) -> bool:
    return found.first == 0 and found.last == steps - 1 and found.count == steps > 1


def _misfit(misfits: dict[Run, PrintedSteps], of: int, steps: int) -> Finding:
    lasts = sorted({found.last for found in misfits.values()})
    ended = f"step {lasts[0]:,}" if len(lasts) == 1 else f"steps {lasts[0]:,} to {lasts[-1]:,}"
    runs = sorted(misfits, key=lambda run: run.plan.trial)
    sentence = (
        f"{len(misfits)} of {of} trials printed {ended} as their last, and max_train_steps is {steps:,}: they seem to "
        f"count different things (epochs, updates, examples), so that nothing is said about the length of training."
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
    """The line that makes both one unit, where it can be known, and what else may be so."""
    counts = {item.count for item in found}
    same = len(counts) == 1 and len(lasts) == 1 and all(item.is_even for item in found)
    count, first, last = found[0].count, found[0].first, lasts[0]
    lines = []
    if same and steps % count == 0 and (first > 0 or count > 1):
        after = ", where step 0 comes after some training" if first == 0 else ""
        lines.append(
            f"write every: {steps // count} under metrics, in place of step and offset, to count evaluations "
            f"({count:,} here{after})"
        )
    if len(lasts) > 1 and lasts[-1] < steps:
        lines.append("leave it as it is where the program stops early by itself")
    if same:
        length = last + found[0].interval if first == 0 and found[0].interval <= 1 else last
        offset = " and offset: 1" if first == 0 and length == last + 1 else ""
        lines.append(
            f"make max_train_steps {length:,}{offset}, in the program's own unit, where its length does not come from "
            "{max_train_steps}"
        )
    else:
        lines.append(
            "give max_train_steps in the unit of the steps that are printed, or read another step (step:, every:)"
        )
    return ", or ".join(lines)


def _from_zero(runs: Sequence[Run], of: int, steps: int) -> Finding:
    sentence = (
        f"{len(runs)} of {of} trials printed the steps 0 to {steps - 1:,} of {steps:,}: they seem to count from 0, and "
        f"what they print at step 0, before any training to tunectl, is never the best."
    )
    return Finding(
        id="steps-from-zero",
        level="note",
        sentence=sentence,
        action="write offset: 1 under metrics, where step 0 comes after some training",
        trials=[run.plan.trial for run in runs[:_MOST_NAMED]],
        numbers={"max_train_steps": steps, "of_trials": of},
        sureness=f"{len(runs)} of {of} trials",
    )


STEP_FINDINGS: FindingFunctions = {"steps-do-not-fit": steps_findings}
