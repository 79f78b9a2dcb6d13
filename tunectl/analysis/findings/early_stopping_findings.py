"""What early stopping means for the findings: which trials are not in them, and how much training it saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.core.wording import counted, percentage

UNAFFECTED = frozenset(
    (
        *("stopped-early", "shared-files", "steps-do-not-fit", "periodic-evaluations", "seed-without-effect"),
        *("coarse-target", "sample-not-typical", "below-sample-error", "class-never-predicted"),
        *("fixed-caveat", "steps-from-zero"),
    )
)
"""The findings that say nothing of the set of all trials: of files, of single trials, of metrics, of the design."""


_NOT_MADE = frozenset(("insensitive",))
"""Among the trials that are left the bad ones are missing, by which a hyperparameter shows that it matters."""


def stopped_early(evidence: StudyEvidence) -> list[Finding]:
    """`stopped-early`, a note: how many trials were stopped, and what that leaves open."""
    stopped, ended = evidence.stopped_early, len(evidence.searched) + len(evidence.stopped_early)
    if not stopped:
        return []
    steps = evidence.spec.training.max_train_steps
    saved = sum(max(0.0, 1 - run.last_step(evidence.objective) / steps) for run in stopped)
    verb = "was" if len(stopped) == 1 else "were"
    return [
        Finding(
            id="stopped-early",
            level="note",
            sentence=f"{len(stopped)} of {counted(ended, 'trial')} {verb} stopped early, because at the same step "
            f"most others were better; that saved {percentage(saved / ended)} of all steps. Where they would have "
            "ended is not known: the best of them may have become the best of all.",
            action="before a decision that rests on a small difference, train the study again without stop_early, or "
            "with a larger grace; whether a hyperparameter matters little (`insensitive`) is not judged without these "
            "trials",
            settings=tuple(sorted({run.plan.setting for run in stopped})),
            trials=tuple(run.plan.trial for run in stopped),
            numbers={"stopped": len(stopped), "trials": ended, "saved_share_of_steps": saved / ended},
            sureness="by the rule of search.stop_early",
        )
    ]


def without_stopped(evidence: StudyEvidence, findings: Sequence[Finding]) -> list[Finding]:
    """The findings that hold although trials were stopped early; those that would rest on them, too, say so."""
    stopped, ended = evidence.stopped_early, len(evidence.searched) + len(evidence.stopped_early)
    if not stopped:
        return list(findings)
    verb = "was" if len(stopped) == 1 else "were"
    left_out = f"{len(stopped)} of {counted(ended, 'trial')} {verb} stopped early: worse than others, or not counted"
    return [
        finding
        if finding.id in UNAFFECTED
        else replace(finding, sureness="; ".join(filter(None, [finding.sureness, left_out])))
        for finding in findings
        if finding.id not in _NOT_MADE
    ]
