"""Which setting of a study is the best, and what is known about each other one: the judgement behind the answer.

Retrains of the best trials decide where there are enough of them, as in `tunectl compare`; else the search does, as in
`settings-not-distinguishable`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunectl.analysis.comparison.adoption import (
    study_variance,
    validation_of,
    weighed_with_examples,
    weighed_with_searches,
)
from tunectl.analysis.comparison.comparison import LEVEL, Comparison, smallest_p
from tunectl.analysis.comparison.not_distinguishable import (
    by_point,
    by_retrains,
    judged_settings,
    retrain_costs,
)
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.paired_best import PairedBest, paired_best
from tunectl.analysis.results.runs import Run

Basis = Literal["retrains", "search"]

OtherSearches = Mapping[int, Sequence[Sequence[float]]]
"""By setting, the costs of the retrains of the best trial of each other search of the same study."""


@dataclass(frozen=True, slots=True)
class SettingVerdict:
    """What is known about a setting beside the best one.

    `worse_by` says what shows that it is worse, None where nothing does: then the two are not distinguished. `best` is
    its best trial, None where none has a value. `by_search` and `by_retrains` are the comparisons, each None where it
    cannot be made.
    """

    setting: int
    best: Run | None
    worse_by: Basis | None
    by_search: PairedBest | None = None
    by_retrains: Comparison | None = None


@dataclass(frozen=True, slots=True)
class SettingVerdicts:
    """The best setting and its best trial, and what is known about the others, the best first.

    The best setting is that of the best trial, unless retrains show another one to be better: then `overtaken` is the
    best trial of the search.
    """

    setting: int
    best: Run
    others: Sequence[SettingVerdict]
    overtaken: Run | None = None

    @property
    def open(self) -> list[SettingVerdict]:
        """The settings that have a value and are not distinguished from the best one."""
        return [item for item in self.others if item.worse_by is None and item.best is not None]

    @property
    def worse(self) -> list[SettingVerdict]:
        """The settings that have a value and are worse than the best one."""
        return [item for item in self.others if item.worse_by is not None and item.best is not None]

    @property
    def without_value(self) -> list[SettingVerdict]:
        """The settings of which no trial has a value."""
        return [item for item in self.others if item.best is None]


def setting_verdicts(evidence: StudyEvidence, searches: OtherSearches | None = None) -> SettingVerdicts | None:
    """The best setting and what is known about the others; None where there is one setting, or no trial has a value."""
    judged = judged_settings(evidence)
    if judged is None:
        return None
    # Of equal settings that of the trial which every command takes for the best.
    first = evidence.ranked(evidence.searched)[0].plan.setting
    better = {}
    for setting in judged.order:
        # Retrains decide: the trial that was selected was also the luckiest.
        again = weighed_by_retrains(evidence, judged.best_of[first], judged.best_of[setting], searches)
        if setting != first and again is not None and again.verdict == "adopt":
            better[setting] = statistics.fmean(retrain_costs(evidence, judged.best_of[setting]))
    leader = min(better, key=lambda setting: (better[setting], setting), default=first)
    settings = [*judged.order, *(setting for setting in evidence.settings if setting not in judged.best_of)]
    best = judged.best_of[leader]
    others = [
        _verdict(evidence, best, setting, judged.best_of.get(setting), searches)
        for setting in settings
        if setting != leader
    ]
    return SettingVerdicts(leader, best, others, None if leader == first else judged.best_of[first])


def weighed_by_retrains(
    evidence: StudyEvidence, old: Run, new: Run, searches: OtherSearches | None = None
) -> Comparison | None:
    """Whether to adopt the best trial of one setting in place of another, by all that `tunectl compare` weighs; None
    where the retrains of both cannot be judged.
    """
    found = by_retrains(evidence, new, old)
    if found is None:
        return None
    sides = [retrain_costs(evidence, run) for run in (old, new)]
    if searches:
        own = [[retrain_costs(evidence, run), *searches.get(run.plan.setting, ())] for run in (old, new)]
        variance = study_variance(*own)
        found = weighed_with_searches(found, variance)
    validation = validation_of(evidence.objective, sides, _evaluated(evidence, (old, new)), found)
    return weighed_with_examples(found, validation)


def _verdict(
    evidence: StudyEvidence, best: Run, setting: int, other: Run | None, searches: OtherSearches | None
) -> SettingVerdict:
    by_search = paired_best(by_point(evidence, best.plan.setting), by_point(evidence, setting))
    wins = by_search is not None and by_search.has_winner
    if other is None:
        return SettingVerdict(setting, None, "search" if wins else None, by_search)
    again = weighed_by_retrains(evidence, other, best, searches)
    worse_by: Basis | None = "search" if wins else None
    if again is not None and again.verdict == "adopt":
        worse_by = "retrains"
    elif again is not None:
        # Two retrains of each can never decide; more of them that decide nothing say more than the selected trials do.
        counts = [len(retrain_costs(evidence, run)) for run in (best, other)]
        agree = again.improvement is None or again.improvement > 0
        worse_by = worse_by if agree and smallest_p(*counts) > LEVEL else None
    return SettingVerdict(setting, other, worse_by, by_search, again)


def _evaluated(evidence: StudyEvidence, runs: Sequence[Run]) -> int | None:
    """The number of examples on which the objective was measured in these trials and their retrains; None unless all
    that completed have the same.
    """
    split = evidence.objective.metric.partition("/")[0]
    again = evidence.ended_retrains
    measured = [item for run in runs for item in (run, *again.get((run.plan.setting, run.plan.point), ()))]
    sizes = {item.evaluated_examples.get(split) for item in measured if item.feasible}
    return sizes.pop() if len(sizes) == 1 else None
