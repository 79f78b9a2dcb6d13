"""`settings-not-distinguishable`: the best trials of two settings overlap too much to prefer one of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.comparison.comparison import (
    FIRST_RETRAINS,
    NOT_REACHED,
    Candidate,
    Comparison,
    compare,
    retrains_needed,
    within,
)
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.findings.seed_findings import seed_findings
from tunectl.analysis.results.paired_best import FEWEST_PAIRED_POINTS, PairedBest, paired_best
from tunectl.analysis.results.runs import LARGEST, Run
from tunectl.analysis.results.seed_variation import runs_are_identical
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.wording import counted, first_listed, short_number

_MOST_NAMED = 3
MOST_TIMES = 4.0
"""If more than this many times the trials are needed, the sentence says so, and no change proposes it."""

ENOUGH_POINTS = 10
"""The number of points that is proposed where there are too few to say anything."""


@dataclass(frozen=True, slots=True)
class JudgedSettings:
    """How the settings of a study compare with the one that has the best trial.

    `order` has the settings with a value, the best first, and `best_of` the best trial of each. `by_search` compares
    the best one with every other setting of which a trial has ended, by the best of half of their trials; `by_retrains`
    by the retrains of both best trials, where there are enough.
    """

    order: Sequence[int]
    best_of: Mapping[int, Run]
    by_search: Mapping[int, PairedBest]
    by_retrains: Mapping[int, Comparison]

    @property
    def alike(self) -> dict[int, PairedBest]:
        """The settings with a value that the search does not show to be worse than the best one, the closest first."""
        close = sorted(self.by_search.items(), key=lambda entry: entry[1].wins)
        return {setting: found for setting, found in close if not found.has_winner and setting in self.best_of}


def judged_settings(evidence: StudyEvidence) -> JudgedSettings | None:
    """How the settings of a study compare; None where it has one, or no trial has a value."""
    feasible = {setting: evidence.closest_first(runs) for setting, runs in evidence.by_setting.items()}
    best_of = {setting: runs[0] for setting, runs in feasible.items() if runs}
    if len(evidence.settings) < 2 or not evidence.ranked(list(best_of.values())):
        return None
    order = sorted(best_of, key=lambda setting: (best_of[setting].cost(evidence.objective), setting))
    by_search, retrained = {}, {}
    for setting, runs in evidence.by_setting.items():
        found = paired_best(by_point(evidence, order[0]), by_point(evidence, setting)) if runs else None
        if setting != order[0] and found is not None:
            by_search[setting] = found
    for setting in order[1:]:
        again = by_retrains(evidence, best_of[order[0]], best_of[setting])
        if again is not None:
            retrained[setting] = again
    return JudgedSettings(order, best_of, by_search, retrained)


def settings_findings(evidence: StudyEvidence) -> list[Finding]:
    """`settings-not-distinguishable`, a warning: the best setting, and those that may be as good, if there are any.

    Every other setting is compared with the best one by the best of half of their trials, paired by point; retrains of
    the best trials of both, if there are some, can decide what these leave open.
    """
    judged = judged_settings(evidence)
    if judged is None:
        return []
    best, best_of, again = judged.order[0], judged.best_of, judged.by_retrains
    alike = judged.alike
    return [
        *_unjudged(evidence, best, best_of, {key: found for key, found in alike.items() if key not in again}),
        *_judged(evidence, best, best_of, {key: again[key] for key in alike if key in again}),
    ]


def by_retrains(evidence: StudyEvidence, best: Run, other: Run) -> Comparison | None:
    """Whether to adopt the best trial in place of another, as `tunectl compare` judges their retrains; None if those
    cannot be judged.
    """
    again = evidence.ended_retrains
    sides = [again.get((run.plan.setting, run.plan.point), []) for run in (other, best)]
    if min(map(len, sides)) < 2 or any(runs_are_identical(runs) for runs in sides):
        return None
    old, new = (Candidate("", 0.0, retrain_costs(evidence, run)) for run in (other, best))
    return compare(old, new)


def retrain_costs(evidence: StudyEvidence, run: Run) -> tuple[float, ...]:
    """The costs of the ended retrains of a trial, as comparisons take them."""
    target, runs = evidence.objective, evidence.ended_retrains.get((run.plan.setting, run.plan.point), [])
    costs = tuple(NOT_REACHED if run.never_reached(target) else run.cost(target) for run in runs)
    return within(costs, evidence.known_steps)


def by_point(evidence: StudyEvidence, setting: int) -> dict[int, float]:
    """The costs of a setting's searched trials by their point, for comparisons by their order.

    A trial that was stopped early has an infinite one: left out, the setting that is better at its point would lose
    that advantage.
    """
    stopped = [run for run in evidence.stopped_early if run.plan.setting == setting]
    runs = [*evidence.by_setting.get(setting, ()), *stopped]
    return dict(zip([run.plan.point for run in runs], evidence.ordered_costs(runs).tolist(), strict=True))


def retrain_deviation(evidence: StudyEvidence) -> float | None:
    """The standard deviation between retrains of one trial, over all trials that have two or more; None without any.

    A trial with a retrain that never reached the target is left out: the deviation of the others would be too small.
    """
    samples = []
    for runs in evidence.ended_retrains.values():
        if any(run.never_reached(evidence.objective) for run in runs):
            continue
        costs = [loss for run in runs if abs(loss := run.cost(evidence.objective)) < LARGEST]
        # If seeds change nothing, a deviation of 0 says nothing about luck.
        if len(costs) > 1 and not runs_are_identical(runs):
            samples.append(np.array(costs))
    freedom = sum(len(costs) - 1 for costs in samples)
    if not freedom:
        return None
    return math.sqrt(sum(float(np.sum((costs - costs.mean()) ** 2)) for costs in samples) / freedom)


def _unjudged(
    evidence: StudyEvidence, best: int, best_of: Mapping[int, Run], alike: Mapping[int, PairedBest]
) -> Iterator[Finding]:
    """The finding about settings whose retrains say nothing yet, if there are any."""
    if not alike:
        return
    deviation = retrain_deviation(evidence)
    closest, compared = next(iter(alike.items()))
    difference = best_of[closest].cost(evidence.objective) - best_of[best].cost(evidence.objective)
    retrains = retrains_needed(difference, deviation) if deviation is not None else None
    changes = _more_trials(evidence, alike)
    last = _of_retrains(evidence, retrains, deviation, difference)
    yield Finding(
        id="settings-not-distinguishable",
        level="warning",
        sentence=_sentence(evidence, best, best_of, alike),
        action=last if evidence.stage else _action(changes, _times(alike), last),
        settings=(best, *alike),
        trials=tuple(best_of[setting].plan.trial for setting in (best, *alike)),
        numbers={
            "best_setting": best,
            "difference": difference if math.isfinite(difference) else None,
            "k": compared.k,
            "points": compared.points,
            "wins": {setting: found.wins for setting, found in alike.items()},
            "times_the_trials": {setting: found.times for setting, found in alike.items()},
            "retrain_deviation": deviation,
            "retrains_to_tell": retrains,
        },
        sureness="too few trials to say"
        if _few(alike)
        else f"the better one wins {compared.wins:.0%} of the draws of {compared.k} of {compared.points} points",
        command=_command(evidence, changes),
        changes=changes,
    )


def _sentence(evidence: StudyEvidence, best: int, best_of: Mapping[int, Run], alike: Mapping[int, PairedBest]) -> str:
    values = {setting: value_words(evidence, best_of[setting]) for setting in (best, *alike)}
    others = first_listed([f"{evidence.setting_name(setting)} ({values[setting]})" for setting in alike], _MOST_NAMED)
    # Of settings with different points only the trials at the same points are compared.
    points = min(found.points for found in alike.values())
    verb = "is" if points == 1 else "are"
    few = f": {counted(points, 'comparable trial')} of each {verb} too few" if _few(alike) else ""
    name = evidence.setting_name(best)
    return f"{name} has the best trial ({values[best]}), but may be no better than {others}{few}."


def value_words(evidence: StudyEvidence, run: Run) -> str:
    """The best value of a trial in words."""
    if run.never_reached(evidence.objective):
        return f"not in {run.last_step(evidence.objective):,.0f} steps"
    steps = " steps" if evidence.objective.steps_to is not None else ""
    return f"{short_number(run.best_value or 0.0)}{steps}"


def _judged(
    evidence: StudyEvidence, best: int, best_of: Mapping[int, Run], judged: Mapping[int, Comparison]
) -> Iterator[Finding]:
    """The findings about settings that the retrains do not confirm to be worse: those that they find better, and those
    that they do not distinguish from the best. More trials of the search would not help with either.
    """
    name, value = evidence.setting_name(best), value_words(evidence, best_of[best])
    for verdict in ("do not adopt", "not enough evidence"):
        settings = [setting for setting, found in judged.items() if found.verdict == verdict]
        if not settings:
            continue
        found, others = (
            judged[settings[0]],
            first_listed([evidence.setting_name(setting) for setting in settings], _MOST_NAMED),
        )
        if verdict == "do not adopt":
            ending = f"but when both are trained again {others} is better."
            action = "trust the retrains: the trial that was selected was also the luckiest"
        else:
            ending = f"but retrains of both do not distinguish it from {others}."
            action = (
                "their retrains are equally good: choose the cheaper one"
                if found.more is None
                else f"with about {found.more} retrains of each a difference of that size would be found"
            )
        yield Finding(
            id="settings-not-distinguishable",
            level="warning",
            sentence=f"{name} has the best trial ({value}), {ending}",
            action=action,
            settings=(best, *settings),
            trials=tuple(best_of[setting].plan.trial for setting in (best, *settings)),
            numbers={
                "best_setting": best,
                "p_better": {setting: judged[setting].p_better for setting in settings},
                "p_worse": {setting: judged[setting].p_worse for setting in settings},
                "retrains_to_tell": found.more,
            },
            sureness=f"p = {min(found.p_better or 0.0, found.p_worse or 0.0):.2g} by the retrains",
            command=_command_on(evidence, best, settings[0], found),
        )


def _command_on(evidence: StudyEvidence, best: int, other: int, found: Comparison) -> str:
    if not evidence.folder:
        return ""
    if found.more is not None:
        return evidence.retrain_command("--each-setting", "--repeats", found.more)
    return tunectl_command("compare", f"{evidence.folder}:{best}", f"{evidence.folder}:{other}")


def can_have_more_trials(evidence: StudyEvidence) -> bool:
    """Whether a larger `search.trials` gives each setting more trials of the kind that is judged."""
    if evidence.stage:
        return False  # more trials of the search are more short ones
    search = evidence.spec.search
    sampled = any(item.has_coordinate for item in evidence.spec.hyperparameters)
    return search.trials is not None and sampled and search.sampler in ("halton", "random")


def _more_trials(evidence: StudyEvidence, alike: Mapping[int, PairedBest]) -> tuple[Change, ...]:
    trials = evidence.spec.search.trials
    if trials is None or not can_have_more_trials(evidence):
        return ()
    needed = _times(alike)
    if needed is None or (needed > MOST_TIMES and not _few(alike)):
        return ()
    reason = "with this number the settings are expected to differ clearly (extrapolated)"
    return (Change(("search", "trials"), math.ceil(trials * needed), reason),)


def _few(alike: Mapping[int, PairedBest]) -> bool:
    return min(found.points for found in alike.values()) < FEWEST_PAIRED_POINTS


def _times(alike: Mapping[int, PairedBest]) -> float | None:
    """How many times the trials are needed for the settings that more trials can distinguish; None without any."""
    # Too few trials do not say how many more are needed.
    times = [ENOUGH_POINTS / one.points if one.points < FEWEST_PAIRED_POINTS else one.times for one in alike.values()]
    return max((number for number in times if number is not None), default=None)


def _of_retrains(evidence: StudyEvidence, retrains: int | None, deviation: float | None, difference: float) -> str:
    """The advice about retrains."""
    if difference == 0 and seed_findings(evidence):
        return "choose the cheaper one: their best trials are equal, and other seeds change nothing"
    if difference == 0:
        often, where = "", ""
        if evidence.objective.steps_to is not None:
            often, where = "evaluate more often, or ", " at the resolution of eval_every"
        return f"{often}retrain the best trial of each: they are equal{where}, which may be luck"
    if retrains is not None:
        return (
            f"with {retrains} retrains of the best trial of each a difference of {short_number(difference, 2)}"
            f"{' steps' if evidence.objective.steps_to is not None else ''} is found"
        )
    if deviation is not None:
        return "retrain the best trial of each"
    if seed_findings(evidence):
        return "retrain the best trial of each once the program uses its seed"
    return f"retrain the best trial of each ({FIRST_RETRAINS} times to begin with): the variance is unknown"


def _action(changes: Sequence[Change], times: float | None, last: str) -> str:
    if changes:
        return f"set search.trials to {changes[0].value}, which is expected to decide it (extrapolated); or {last}"
    much = "more trials are not expected to decide it" if times is None else f"about {times:.0f} times the trials"
    if times is not None:
        much += " would be needed"
    return f"{much} (extrapolated); {last}"


def _command(evidence: StudyEvidence, changes: Sequence[Change]) -> str:
    if changes:
        return evidence.continuing_command
    if not evidence.folder or seed_findings(evidence):
        return ""
    return evidence.retrain_command("--each-setting", "--repeats", FIRST_RETRAINS)
