"""`stages-agree`: whether the order of short trials is that of the long ones which were made of the best of them.

Deep Learning Tuning Playbook, "Deciding how long to train when training is compute-bound": conclusions at one length
may not hold at another one; of what is tuned, the schedule, and with it the peak learning rate, carries over least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.comparison.setting_axes import has_two_ends, ordered_positions
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.results.rank_agreement import Agreement, agreement, chance_of_drift
from tunectl.analysis.results.runs import Floats, Run
from tunectl.analysis.search.crowding import family_wise
from tunectl.analysis.search.permutations import ranks
from tunectl.core.wording import counted, listed
from tunectl.language.stage_lengths import stage_words

SURE_DRIFT = 0.015
"""The chance, over all hyperparameters, that one of them goes with the change of rank as closely by accident. Trials
that were chosen by luck fall back, those with poor values most: so it comes about twice as often in clean studies.
"""

FEWEST_OF_SETTING = 2
"""One trial of a setting has no order."""

_LEAST_TO_MOST = "warmup and initialisation usually carry over, regularisation less, the schedule and peak rate least"


@dataclass(frozen=True, eq=False)
class StagePairs:
    """The trials of a setting at two stages, in one order; their costs have a meaning only by their order."""

    short: tuple[Run, ...]
    long: tuple[Run, ...]
    short_costs: Floats
    long_costs: Floats

    @property
    def short_ranks(self) -> Sequence[float]:
        """The rank of each trial among them when it was short, 1 for the best."""
        return list(map(float, ranks(self.short_costs)))

    @property
    def long_ranks(self) -> Sequence[float]:
        """The same of the long trials."""
        return list(map(float, ranks(self.long_costs)))


@dataclass(frozen=True, slots=True)
class Drift:
    """A hyperparameter with which the change of rank goes: `up` where higher values gain from longer training."""

    key: str
    up: bool
    chance: float


def paired_stages(evidence: StudyEvidence) -> dict[int, StagePairs]:
    """The trials of the stage and those of the stage before that they repeat, by setting; failed ones are left out."""
    if not evidence.earlier_stages:
        return {}
    before = evidence.earlier_stages[-1]
    short_of = {(run.plan.setting, run.plan.point): run for run in before.searched}
    found = {}
    for setting, runs in evidence.by_setting.items():
        long = tuple(run for run in runs if (run.plan.setting, run.plan.point) in short_of)
        short = tuple(short_of[run.plan.setting, run.plan.point] for run in long)
        if len(long) >= FEWEST_OF_SETTING:
            found[setting] = StagePairs(short, long, before.ordered_costs(short), evidence.ordered_costs(long))
    return found


def stages_agree(evidence: StudyEvidence) -> list[Finding]:
    """`stages-agree`: the rank correlation of the promoted trials at the two last stages, with its interval.

    It is a warning where the order is reversed, or where the change of rank goes with a hyperparameter, else a
    note.
    """
    pairs = paired_stages(evidence)
    found = agreement([(item.short_costs, item.long_costs) for item in pairs.values()])
    if found is None:
        return []
    drifts = _drifts(evidence, pairs)
    words = {
        "agree": "the order of the short trials carries over",
        "disagree": "the order is reversed: what is best in short training is worst in long training",
        "unknown": "so few trials do not show whether the order carries over",
    }
    short, long = (
        stage_words(evidence.earlier_stages[-1].spec, evidence.stage - 1),
        stage_words(evidence.spec, evidence.stage),
    )
    sentence = (
        f"Between {short} and {long} the ranks of {counted(found.trials, 'promoted trial')} correlate by "
        f"{found.correlation:.2f} (95% interval {found.low:.2f} to {found.high:.2f}): {words[found.verdict]}."
    )
    if drifts:
        sentence += f" {_drift_words(drifts)}"
    return [
        Finding(
            id="stages-agree",
            level="warning" if found.verdict == "disagree" or drifts else "note",
            sentence=sentence,
            action=_action(found, drifts),
            settings=tuple(pairs),
            hyperparameters=tuple(item.key for item in drifts),
            trials=tuple(run.plan.trial for item in pairs.values() for run in item.long),
            numbers={
                "rank_correlation": found.correlation,
                "low": found.low,
                "high": found.high,
                "trials": found.trials,
                "verdict": found.verdict,
                "drifts": {item.key: item.chance for item in drifts},
            },
            sureness=f"{counted(found.trials, 'trial')}; among all short trials, not only the best, it would be larger",
        )
    ]


def _drift_words(drifts: Sequence[Drift]) -> str:
    parts = [f"{'higher' if item.up else 'lower'} {item.key}" for item in drifts]
    return f"Longer training favours {listed(parts)}: the best value of it in short training does not carry over."


def _action(found: Agreement, drifts: Sequence[Drift]) -> str:
    if drifts:
        names = listed([item.key for item in drifts])
        return f"tune {names} again at the longer length, in a study with a range around these values"
    if found.verdict == "disagree":
        return "trust the long trials alone, and search at a length nearer to theirs; " + _LEAST_TO_MOST
    if found.verdict == "agree":
        return (
            "go on searching with short trials; still tune the peak rate again at the longer length: " + _LEAST_TO_MOST
        )
    return "raise keep to learn more, or trust the long trials alone; " + _LEAST_TO_MOST


def _drifts(evidence: StudyEvidence, pairs: Mapping[int, StagePairs]) -> list[Drift]:
    """The ordered hyperparameters with which the change of rank goes, as far as chance does not explain it."""
    tested = []
    for axis in evidence.axes:
        if not axis.hyperparameter.has_coordinate or not has_two_ends(axis.hyperparameter):
            continue
        at = dict(zip((run.plan.trial for run in axis.runs), ordered_positions(axis).tolist(), strict=True))
        groups = []
        for item in pairs.values():
            kept = [place for place, run in enumerate(item.long) if run.plan.trial in at]
            if len(kept) >= FEWEST_OF_SETTING:
                positions = np.array([at[item.long[place].plan.trial] for place in kept])
                groups.append((positions, item.short_costs[kept], item.long_costs[kept]))
        if groups:
            tested.append((axis.key, *chance_of_drift(groups)))
    return [
        Drift(key, up, chance) for key, up, alone in tested if (chance := family_wise(alone, len(tested))) <= SURE_DRIFT
    ]
