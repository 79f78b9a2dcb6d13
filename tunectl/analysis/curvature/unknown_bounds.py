"""Why measured eigenvalues of trials have no ratio to a stability bound, in sentences."""

from __future__ import annotations

from collections import Counter

from tunectl.analysis.curvature.curvature_curves import has_curvature
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.wording import counted
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.stability_bounds import OWN_OPTIMIZER, stability_bound

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
    return stability_bound(configuration, configuration.learning_rate, 0).reason or _NOT_MEASURED


def _who(count: int, measured: int) -> str:
    if count < measured:
        return f"{count} of {counted(measured, 'trial')} {'has' if count == 1 else 'have'}"
    return "there is"
