"""What the trials of a study with a target (`steps_to`) show about it: who reached it, and how exactly steps are known.

Deep Learning Tuning Playbook, "Choosing the batch size", compares by the number of steps to a target. A trial that
never reached it is known to need more steps than it trained, not how many more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.runs import Run
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.wording import counted, short_number

FEW_EVALUATIONS = 5
"""Where the best trial reaches the target at one of its first five evaluations, its steps are known to 20 % at best,
and trials that differ by less than that are equal.
"""


def target_not_reached(evidence: StudyEvidence) -> list[Finding]:
    """`target-not-reached`: completed trials that never reached the target; a warning where none reached it."""
    missed, objective = evidence.missed, evidence.objective
    if not missed:
        return []
    reached, target = evidence.ranked(evidence.searched), objective.target
    last = sorted({run.last_step(objective) for run in missed})
    within = f"{last[0]:,.0f}" if len(last) == 1 else f"{last[0]:,.0f} to {last[-1]:,.0f}"
    nearest = _nearest(evidence, missed)
    if reached:
        count = len(missed) + len(reached)
        sentence = (
            f"{len(missed)} of {counted(count, 'completed trial')} never reached {target} within {within} steps: they "
            f"rank below all that did, and {'is' if len(missed) == 1 else 'are'} only known to need more steps."
        )
        action = "nothing to do if these are poor hyperparameters; train longer to learn how many steps they need"
    else:
        sentence = (
            f"No trial reached {target} within {within} steps{nearest}: no trial and no setting can be preferred."
        )
        action = "train longer, or choose a target that trials reach: `tunectl report --steps-to` tries one"
    return [
        Finding(
            id="target-not-reached",
            level="note" if reached else "warning",
            sentence=sentence,
            action=action,
            trials=tuple(run.plan.trial for run in missed),
            numbers={
                "target": objective.steps_to,
                "reached": len(reached),
                "not_reached": len(missed),
                "by_setting": {
                    setting: sum(run.never_reached(objective) for run in runs)
                    for setting, runs in evidence.by_setting.items()
                },
            },
            sureness=f"{len(missed)} of {len(missed) + len(reached)} completed trials",
            command=_with_nearest(evidence, missed) if not reached else "",
        )
    ]


def _nearest(evidence: StudyEvidence, missed: Sequence[Run]) -> str:
    run = evidence.closest_first(missed)[0]
    found = run.closest(evidence.objective)
    if found is None:
        return ""
    step, value = found
    return f" (trial {run.plan.trial} came closest, with {short_number(value)} at step {step:,.0f})"


def _with_nearest(evidence: StudyEvidence, missed: Sequence[Run]) -> str:
    """The report by the value that the trial which came closest has reached."""
    found = evidence.closest_first(missed)[0].closest(evidence.objective)
    if found is None or not evidence.folder:
        return ""
    return tunectl_command("report", evidence.folder, f"--steps-to={found[1]:.6g}")


def coarse_target(evidence: StudyEvidence) -> list[Finding]:
    """`coarse-target`, a note: the best trial reached the target at one of its first evaluations, so that the number of
    its steps is only roughly known. A warning where the weights had reached it before they were trained.
    """
    reached = evidence.ranked(evidence.searched)
    if evidence.objective.steps_to is None or not reached:
        return []
    if untrained := _reached_untrained(evidence, reached):
        return [untrained]
    best = reached[0]
    steps, _ = best.curve(evidence.objective.metric)
    before = [step for step in steps.tolist() if step <= (best.best_step or 0)]
    evaluations = sum(step > 0 for step in before)
    if not 0 < evaluations <= FEW_EVALUATIONS:
        return []
    interval = before[-1] - (before[-2] if len(before) > 1 else 0.0)
    if interval <= 1:
        return []  # every step is evaluated
    level = [run for run in reached if run.best_value == best.best_value]
    alike = f", as did {counted(len(level) - 1, 'other trial')}" if len(level) > 1 else ""
    spec = evidence.spec.training
    finer = max(1, round(spec.eval_every / 4))
    changes = (
        ()
        if evidence.spec.own_code or finer == spec.eval_every
        else (Change(("training", "eval_every"), finer, "the steps to the target are then known more exactly"),)
    )
    return [
        Finding(
            id="coarse-target",
            level="note",
            sentence=f"The best trial reached {evidence.objective.target} at its evaluation number {evaluations}"
            f"{alike}: its {best.best_step:,} steps are only known to within {interval:,.0f}, and smaller differences "
            "do not show.",
            action="evaluate more often" if not changes else f"set eval_every to {finer:,}, in a new study",
            trials=tuple(run.plan.trial for run in level),
            numbers={"evaluations": evaluations, "steps": best.best_step, "interval": interval, "equal": len(level)},
            sureness="by design",
            changes=changes,
        )
    ]


def _reached_untrained(evidence: StudyEvidence, reached: Sequence[Run]) -> Finding | None:
    """That each of these trials was at the target or beyond it at step 0; None where one was not, or is not known."""
    objective = evidence.objective
    farthest = -math.inf
    for run in reached:
        steps, values = run.curve(objective.metric)
        first = objective.metric_cost(float(values[0])) if len(steps) and steps[0] == 0 else math.inf
        farthest = max(farthest, first)
    if farthest > objective.metric_cost(objective.steps_to):
        return None
    return Finding(
        id="coarse-target",
        level="warning",
        sentence=f"All trials that reached {objective.target} were there at step 0, before they were trained: their "
        "steps say nothing.",
        action=f"choose a target that training has to reach, and check that objective.direction ({objective.direction})"
        " is right",
        trials=tuple(run.plan.trial for run in reached),
        numbers={"reached": len(reached)},
        sureness="by design",
    )
