"""`linear-scale`: a range on a linear scale whose order of magnitude matters; nearly all trials are near its top."""

from __future__ import annotations

from dataclasses import replace

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.updates.stability_edge import shown_value
from tunectl.core.wording import counted
from tunectl.language.review_roles import has_wrong_scale
from tunectl.space.domains import Range

DECADE = 10.0
_FROM_ZERO = 1e-4
"""A range that begins at 0 begins at this part of its upper end on a logarithmic scale."""


def above_zero(high: float) -> float:
    """Where a range with this upper end begins on a logarithmic scale, if it began at 0."""
    return float(f"{_FROM_ZERO * high:.2g}")


def linear_scale_findings(evidence: StudyEvidence) -> list[Finding]:
    """`linear-scale`, a warning for each such range of more than a decade, as `tunectl check` warns of it."""
    found = []
    for axis in evidence.axes:
        item, domain = axis.hyperparameter, axis.hyperparameter.domain
        if not isinstance(domain, Range) or not has_wrong_scale(item) or not axis.runs:
            continue
        if domain.low > 0 and domain.high <= DECADE * domain.low:
            continue
        below = sum(float(value) < domain.high / DECADE for value in axis.values)
        scale, ends = (*item.path, "scale"), (*item.path, "range")
        changes = [Change(scale, "log", "its order of magnitude matters")]
        if domain.low <= 0:
            positive = [above_zero(domain.high), domain.high]
            changes = [
                replace(changes[0], only_with=ends),
                Change(ends, positive, "a logarithmic scale begins above 0", only_with=scale),
            ]
        found.append(
            Finding(
                id="linear-scale",
                level="warning",
                sentence=f"{item.key} has a linear scale, and its order of magnitude matters: {below} of the "
                f"{counted(len(axis.runs), 'trial')} are below {shown_value(domain.high / DECADE)}, a tenth of its "
                "upper end.",
                action=f"search {item.key} on a logarithmic scale",
                hyperparameters=(item.key,),
                numbers={"trials": len(axis.runs), "below_a_tenth": below},
                sureness="by design",
                changes=tuple(changes) if evidence.spec.search.sampler != "points" else (),
            )
        )
    return found
