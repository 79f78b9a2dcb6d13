"""Why measured eigenvalues of trials have no ratio to a stability bound, in sentences."""

from __future__ import annotations

from collections import Counter

from tunectl.analysis.curvature.curvature_curves import has_curvature
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.wording import counted
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.stability_bounds import OWN_GROUPS, OWN_OPTIMIZER, stability_bound

_NOT_MEASURED = "the eigenvalue that the optimizer's stability bound is about was not measured"


def unknown_bounds(evidence: StudyEvidence) -> list[str]:
    """A sentence for each reason for which trials with measured curvature have no ratio; the most frequent first."""
    measured = [run for run in evidence.searched if has_curvature(run)]
    without = [run for run in measured if not len(run.curve(CURVATURE.column("ratio"))[0])]
    reasons = Counter(_reason(evidence, run) for run in without)
    return [
        f"{reason[0].upper()}{reason[1:]}, so {_who(count, len(measured))} no ratio."
        for reason, count in reasons.most_common()
    ]


def _reason(evidence: StudyEvidence, run: Run) -> str:
    if evidence.spec.own_code:
        return OWN_OPTIMIZER.reason or _NOT_MEASURED
    configuration = TrainingConfiguration.from_hyperparameters(run.plan.hyperparameters)
    bound = stability_bound(configuration, configuration.learning_rate, 0)
    if bound.reason is None and bound.eigenvalue is not None and len(run.curve(CURVATURE.column("lambda_1"))[0]):
        # A trial compares what it has measured with the bound, unless its optimizer has groups of its own.
        has_measured = bound.eigenvalue == "lambda_1" or "preconditioned" in _measures(evidence)
        return (OWN_GROUPS.reason if has_measured else None) or _NOT_MEASURED
    return bound.reason or _NOT_MEASURED


def _measures(evidence: StudyEvidence) -> tuple[str, ...]:
    asked = evidence.spec.training.curvature
    return () if asked is None else tuple(asked.measures)


def _who(count: int, measured: int) -> str:
    if count < measured:
        return f"{count} of {counted(measured, 'trial')} {'has' if count == 1 else 'have'}"
    return "there is"
