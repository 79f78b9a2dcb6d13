"""All that a study says about itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from tunectl.analysis.curves.step_units import STEP_FINDINGS
from tunectl.analysis.findings.curve_findings import CURVE_FINDINGS
from tunectl.analysis.findings.file_findings import FILE_FINDINGS, SHARED_FILES
from tunectl.analysis.findings.finding_evidence import Evidence
from tunectl.analysis.findings.findings import Finding, FindingFunctions
from tunectl.analysis.findings.search_findings import SEARCH_FINDINGS
from tunectl.analysis.findings.seed_findings import SEED_FINDINGS
from tunectl.analysis.findings.update_findings import UPDATE_FINDINGS
from tunectl.core.proposed_commands import tunectl_command

IMPORTANCE = (
    # Trials that overwrite each other's files are none of their own.
    SHARED_FILES,
    # A bug in the data or most trials lost: nothing else counts before that is mended.
    "steps-do-not-fit",
    "periodic-evaluations",
    # Without it, no deviation, comparison or verdict rests on anything.
    "seed-without-effect",
    "infeasible-fraction",
    "diverging",
    "stability-edge",
    "train-loss-rising",
    "overfitting",
    "search-boundary",
    "saturated-early",
    "best-step-early",
    "still-improving",
    "best-step-late",
    "plateau",
    "loss-spikes",
    "gradient-outliers",
    "clipping-too-aggressive",
    "late-variance",
    "settings-not-distinguishable",
    "update-ratio",
    "sampled-enough",
    "insensitive",
    "fixed-caveat",
    "steps-from-zero",
)
"""The findings' ids, what is to be mended first standing first: what comes later may follow from it."""


FINDINGS: FindingFunctions = {
    **FILE_FINDINGS,
    **STEP_FINDINGS,
    **SEED_FINDINGS,
    **SEARCH_FINDINGS,
    **CURVE_FINDINGS,
    **UPDATE_FINDINGS,
}


class Attempt(Protocol):
    """How a finding is looked for: what `work` returns, or `instead` where it fails and that is passed over."""

    def __call__(
        self, name: str, work: Callable[[], Sequence[Finding]], instead: Sequence[Finding]
    ) -> Sequence[Finding]:
        """The findings of the function with this name."""


def study_findings(evidence: Evidence, attempt: Attempt | None = None) -> list[Finding]:
    """The findings of a study, the warnings before the notes, each by importance.

    One that fails raises, unless an `attempt` passes over it and keeps what went wrong.
    """
    found: list[Finding] = []
    for name, find in FINDINGS.items():
        found += find(evidence) if attempt is None else attempt(f"the finding {name}", partial(find, evidence), ())
    return sorted((_with_next(evidence, finding) for finding in found), key=_rank)


def _with_next(evidence: Evidence, finding: Finding) -> Finding:
    """The finding with the command that writes a study with its changes, where it names no other."""
    if finding.command or not finding.changes or not evidence.folder:
        return finding
    return replace(finding, command=tunectl_command("next", evidence.folder))


def _rank(finding: Finding) -> tuple[bool, int]:
    place = IMPORTANCE.index(finding.id) if finding.id in IMPORTANCE else len(IMPORTANCE)
    return finding.level != "warning", place
