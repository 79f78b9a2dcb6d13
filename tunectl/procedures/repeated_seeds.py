"""The conclusion of a procedure whose trials are identical under every seed."""

from __future__ import annotations

from dataclasses import replace

from tunectl.analysis.results.runs import Run
from tunectl.analysis.results.seed_variation import NO_VARIATION, PASS_THE_SEED, runs_are_identical
from tunectl.procedures.procedure import Conclusion, Results


def seeds_change_nothing(results: Results) -> bool:
    """Whether all completed trials that were repeated under other seeds measured exactly the same."""
    groups: dict[tuple[int, int], list[Run]] = {}
    for (phase, point, _), run in results.items():
        if run.plan.trial_kind == "sweep":
            groups.setdefault((phase, point), []).append(run)
    repeated = [runs for runs in groups.values() if len(runs) > 1 and all(run.feasible for run in runs)]
    return bool(repeated) and all(map(runs_are_identical, repeated))


def without_evidence(conclusion: Conclusion, results: Results) -> Conclusion:
    """The conclusion; where seeds change nothing, one that says so first and gives no advice, since it rests on one run
    of each trial.
    """
    if not seeds_change_nothing(results):
        return conclusion
    verdict = (
        f"{NO_VARIATION}. What follows rests on one run of each trial, not on several seeds, so no advice is given: "
        f"{PASS_THE_SEED}. {conclusion.verdict}"
    )
    return replace(conclusion, verdict=verdict, answers={**conclusion.answers, "seeds_change_nothing": True}, advice="")
