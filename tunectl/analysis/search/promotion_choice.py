"""Which trials of a stage are trained again for longer: the best, and those that noise does not separate from them.

Deep Learning Tuning Playbook, "Deciding how long to train when training is compute-bound", Round 2: very few long runs
at good points. The rank of a trial is the value that retrospective selection gives it under the study's objective.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.comparison.comparison import LEVEL
from tunectl.analysis.comparison.not_distinguishable import retrain_deviation
from tunectl.analysis.curves.curve_shapes import cost_curve
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.wording import short_number
from tunectl.language.stage_lengths import MOST_BESIDE

_QUANTILE = statistics.NormalDist().inv_cdf(1 - LEVEL)


@dataclass(frozen=True, slots=True)
class Noise:
    """How far the cost of a trial would be another one by chance: a standard deviation, and where it is known from.

    `reach` is the largest difference of two trials that such noise gives more often than in LEVEL of all cases; it is
    0 where the noise is not known, so that only ties count as not separated.
    """

    deviation: float | None
    source: str
    reach: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """The trials of a setting that are promoted: the `best`, the best first, and those `beside` them.

    `keep` is the number that was asked for; `usable` that of the trials that completed with a value.
    """

    setting: int
    keep: int
    best: tuple[Run, ...]
    beside: tuple[Run, ...]
    usable: int
    noise: Noise

    @property
    def runs(self) -> tuple[Run, ...]:
        """All of them, the best first."""
        return *self.best, *self.beside


def runs_to_promote(evidence: StudyEvidence, keep: int) -> list[Chosen]:
    """The trials of each setting to promote, at most `keep` and as many again.

    Infeasible trials are never among them, nor those without a value. Trials that completed without reaching the
    objective's target follow those that reached it, by how close they came.
    """
    deviation = retrain_deviation(evidence)
    found = []
    for setting, runs in evidence.by_setting.items():
        ranked = evidence.closest_first(runs)
        noise = _noise(evidence, ranked[: 2 * keep], deviation)
        best, rest = ranked[:keep], ranked[keep : keep + MOST_BESIDE * keep]
        worst = best[-1].cost(evidence.objective) if best else math.inf
        beside = [run for run in rest if run.cost(evidence.objective) - worst <= noise.reach]
        if not math.isfinite(worst):
            beside = []
        found.append(Chosen(setting, keep, tuple(best), tuple(beside), len(ranked), noise))
    return found


def _noise(evidence: StudyEvidence, runs: Sequence[Run], retrained: float | None) -> Noise:
    """The noise of the costs of these trials: between retrains where there are some, else between evaluations.

    The second is what is left around the curve of a trial, and less than another seed would give. A number of steps to
    a target is only known up to the interval between two evaluations.
    """
    objective = evidence.objective
    interval = 0.0 if objective.steps_to is None else _interval(evidence, runs)
    if retrained is not None:
        return Noise(retrained, "between retrains", max(_reach(retrained), interval))
    if objective.steps_to is not None:
        return Noise(None, f"one interval between evaluations, {interval:,.0f} steps", interval)
    maximize = objective.direction == "maximize"
    curves = [cost_curve(run, objective.metric, maximize=maximize) for run in runs]
    known = [curve.noise for curve in curves if curve is not None]
    if not known:
        return Noise(None, "not known", 0.0)
    deviation = statistics.median(known)
    return Noise(deviation, "around the curves", _reach(deviation))


def _reach(deviation: float) -> float:
    return _QUANTILE * math.sqrt(2) * deviation


def _interval(evidence: StudyEvidence, runs: Sequence[Run]) -> float:
    """The median number of steps between two evaluations of the metric; 0 where no trial has two."""
    steps = [run.curve(evidence.objective.metric)[0] for run in runs]
    gaps = [np.diff(item) for item in steps if len(item) > 1]
    return float(np.median(np.concatenate(gaps))) if gaps else 0.0


def in_words(evidence: StudyEvidence, chosen: Chosen) -> str:
    """The trials of a setting that are promoted, and why, in one line."""
    name = evidence.setting_name(chosen.setting)
    if not chosen.best:
        return f"{name}: none, as no trial completed with a value of {evidence.objective.metric}"
    text = f"{name}: {_named(chosen.best)}"
    if chosen.usable < chosen.keep:
        return f"{text} (only {chosen.usable} completed with a value, and {chosen.keep} were asked for)"
    if not chosen.beside:
        return f"{text} (the best {chosen.keep} of {chosen.usable})"
    noise, last = chosen.noise, chosen.best[-1].plan.trial
    if noise.deviation is None:
        why = f"no more than {noise.source} behind trial {last}" if noise.reach else f"equal to trial {last}"
    else:
        why = f"which the noise {noise.source} ({short_number(noise.deviation)}) does not separate from trial {last}"
    return f"{text} (the best {chosen.keep} of {chosen.usable}), and {_named(chosen.beside)}, {why}"


def _named(runs: Sequence[Run]) -> str:
    noun = "trial" if len(runs) == 1 else "trials"
    return f"{noun} {', '.join(str(run.plan.trial) for run in runs)}"
