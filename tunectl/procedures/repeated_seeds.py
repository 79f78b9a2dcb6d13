"""What becomes of a conclusion whose repeats turn out to be one run, seen several times."""

from __future__ import annotations

from dataclasses import replace

from tunectl.analysis.results.runs import Run
from tunectl.analysis.results.seed_variation import NO_VARIATION, PASS_THE_SEED, runs_are_identical
from tunectl.procedures.procedure import Conclusion, Results


def seeds_change_nothing(results: Results) -> bool:
    """Whether all trials that were repeated under other seeds, and came to their end, were exactly repeated."""
    groups: dict[tuple[int, int], list[Run]] = {}
    for (phase, point, _), run in results.items():
        if run.plan.kind != "throughput":
            groups.setdefault((phase, point), []).append(run)
    repeated = [runs for runs in groups.values() if len(runs) > 1 and all(run.feasible for run in runs)]
    return bool(repeated) and all(map(runs_are_identical, repeated))


def without_evidence(conclusion: Conclusion, results: Results) -> Conclusion:
    """The conclusion, or, where seeds change nothing, one that says so first and advises nothing: a judgement by
    several seeds would rest on a single run.
    """
    if not seeds_change_nothing(results):
        return conclusion
    verdict = (
        f"{NO_VARIATION}. What follows rests on one run of each trial, not on several seeds, and nothing is advised: "
        f"{PASS_THE_SEED}. {conclusion.verdict}"
    )
    return replace(conclusion, verdict=verdict, answers={**conclusion.answers, "seeds_change_nothing": True}, advice="")
