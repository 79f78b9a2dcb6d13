"""All that a study says about itself."""

from __future__ import annotations

from tunectl.analysis.curve_findings import curve_findings
from tunectl.analysis.evidence import Evidence
from tunectl.analysis.file_findings import SHARED_FILES, file_findings
from tunectl.analysis.findings import Finding
from tunectl.analysis.search_findings import search_findings
from tunectl.analysis.update_findings import update_findings

IMPORTANCE = (
    # Trials that overwrite each other's files are none of their own.
    SHARED_FILES,
    # A bug in the data or most trials lost: nothing else counts before that is mended.
    "periodic-evaluations",
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
)
"""The findings' ids, what is to be mended first standing first: what comes later may follow from it."""


def study_findings(evidence: Evidence) -> list[Finding]:
    """The findings of a study, the warnings before the notes, each by importance."""
    found = [
        *file_findings(evidence.spec, evidence.written, evidence.shared_folders),
        *search_findings(evidence),
        *curve_findings(evidence),
        *update_findings(evidence),
    ]
    return sorted(found, key=_rank)


def _rank(finding: Finding) -> tuple[bool, int]:
    place = IMPORTANCE.index(finding.id) if finding.id in IMPORTANCE else len(IMPORTANCE)
    return finding.level != "warning", place
