"""Whether retrains with different seeds differ at all."""

from __future__ import annotations

from collections.abc import Sequence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.results.runs import Run
from tunectl.analysis.results.seed_variation import NO_VARIATION, PASS_THE_SEED, runs_are_identical


def seed_findings(evidence: StudyEvidence) -> list[Finding]:
    """`seed-without-effect`, a warning: retrains of a trial with different seeds measured exactly the same."""
    searched = {(run.plan.setting, run.plan.point): run for run in evidence.searched}
    alike: dict[int, Sequence[Run]] = {}
    for key, runs in evidence.ended_retrains.items():
        group = runs if len(runs) > 1 or key not in searched else [searched[key], *runs]
        if runs_are_identical(group):
            first = searched.get(key, group[0])
            alike[first.plan.trial] = group
    if not alike:
        return []
    names = ", ".join(map(str, alike))
    noun = "Trial" if len(alike) == 1 else "Trials"
    most = max(map(len, alike.values()))
    return [
        Finding(
            id="seed-without-effect",
            level="warning",
            sentence=f"{noun} {names} measured exactly the same under {most} seeds: {NO_VARIATION}; so retrains are no "
            "evidence, and `compare` gives no verdict.",
            action=f"{PASS_THE_SEED}; if it does so already, print more digits, or a metric that is not already at its "
            "best possible value",
            settings=tuple(sorted({group[0].plan.setting for group in alike.values()})),
            trials=tuple(alike),
            numbers={"seeds": most, "trials": len(alike)},
            sureness="every number of every evaluation is the same",
        )
    ]
