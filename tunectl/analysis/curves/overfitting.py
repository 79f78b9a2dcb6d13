"""`overfitting`: the validation error turns up while the training error does not.

Deep Learning Tuning Playbook, "Examining the training curves": "problematic overfitting occurs when the validation
error starts increasing at some point during training". In the best trial of a setting it makes the comparison of
settings unfair; in others it favours whatever regularises by making training worse, such as a small learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.analysis.curves.curve_shapes import CostCurve, Turn
from tunectl.analysis.curves.good_curves import curve_of, train_metric, valid_metric
from tunectl.analysis.curves.good_trials import in_settings
from tunectl.analysis.curves.rises import lasting_rise
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.regularisers import regularisers
from tunectl.core.wording import counted
from tunectl.language.name_meaning import is_share, slows_training
from tunectl.space.domains import FixedValue, is_number

SURE = 5.0
"""A rise from the lowest level counts from this many standard errors on: the lowest of many is low by chance."""

CHANCE = 0.005
"""A trend to the end counts too if chance gives it with at most this probability in one curve. With as many settings as
a study has, far fewer than one clean study in twenty then has it in a best trial.
"""

LARGE_PART = 0.02
LARGE_RATIO = 0.15
"""A rise is large if it is this part of the gain, or, where zero is the best possible value, this part of the lowest
level (and a quarter of LARGE_PART of the gain): an error rate that rises from 3 to 4 % rises by a third.
"""

FEWEST_QUANTA = 6
"""A rise is at least this many examples: by a sign test five that all change to the wrong side may do so by chance."""

TRAIN_RISE_PART = 0.01
"""If the training error rises by more than this part of its gain, and than noise, training is unstable instead."""

SEEMING = 0.5
"""A best trial that shows this part of the evidence counts as seeming to overfit where other trials clearly do."""

COMMON_PART = 0.05
FEWEST_ELSEWHERE = 2
"""Apart from the best trials, at least this many of the feasible ones overfit: one of hundreds may by chance."""

MOST_EXAMINED = 1000
"""Apart from the best trials, at most this many are examined, evenly by rank: more would not change the result."""

ADDED_WEIGHT_DECAY = {"role": "nuisance", "range": [1e-6, 1e-2], "scale": "log"}
ADDED_DROPOUT = {"role": "nuisance", "range": [0.0, 0.5], "off": 0}
ADDED_DECOUPLED_DECAY = {"role": "nuisance", "range": [1e-3, 1.0], "scale": "log"}
"""AdamW multiplies the decay by the learning rate alone, so it needs larger values."""


@dataclass(frozen=True, eq=False)
class Overfit:
    """A trial whose validation metric turned up: the step of its lowest level, the rise, and how certain that is."""

    run: Run
    turned_at: float
    rise_share: float
    rise_ratio: float | None
    deviations: float


@dataclass(frozen=True, eq=False)
class Places:
    """The trials that overfit, the clearest first: best trials of settings, other trials, and best trials that seem to.

    `settings` counts the best trials, `examined` the other trials that were examined.
    """

    in_best: list[Overfit]
    elsewhere: list[Overfit]
    seeming: list[Overfit]
    settings: int
    examined: int

    @property
    def shown(self) -> list[Overfit]:
        """The trials that the finding is about."""
        return self.in_best or self.elsewhere

    def sentence_start(self, names: str) -> str:
        """The beginning of the sentence: where overfitting was found, with the `names` of settings."""
        others = f"{len(self.elsewhere)} of the {counted(self.examined, 'other feasible trial')}"
        if not self.in_best:
            return f"In {others}"
        best = "the best trial" if self.settings == 1 else f"the best trial of {counted(len(self.in_best), 'setting')}"
        return f"In {best}{names}{f', and in {others},' if self.elsewhere else ''}"

    @property
    def sentence_end(self) -> str:
        """The end of the sentence: what is uncertain about the best trials."""
        if not self.seeming:
            return "."
        return f"; {'the best trial seems' if self.settings == 1 else 'best trials seem'} to do so too."


def overfit(run: Run, valid: CostCurve | None, train: CostCurve | None, sure: float = 1.0) -> Overfit | None:
    """How a trial overfits; None if it does not, or if its curves do not show it. `sure` is that of `_turned`."""
    turn = _turned(valid, sure) if valid is not None and valid.learned else None
    if valid is None or turn is None or train is None:
        return None
    share = turn.rise / valid.gain
    ratio = turn.rise / turn.lowest if valid.ratio_scale and turn.lowest > 0 else None
    large = share >= LARGE_PART or (ratio is not None and ratio >= LARGE_RATIO and share >= LARGE_PART / 4)
    if not large or turn.rise < FEWEST_QUANTA * valid.quantum or not train.learned:
        return None
    rises = -train.fall(_parts(turn.window, train), _parts(turn.end_window, train)).value
    error = train.noise / train.gain
    if rises > max(TRAIN_RISE_PART, LARGE_RATIO * error) and rises > 0.5 * error:
        return None
    return Overfit(run, turn.step, share, ratio, turn.deviations)


def _turned(valid: CostCurve, sure: float) -> Turn | None:
    """Where a curve turned up for certain, by its medians or by the trend to its end; None if it did not.

    With `sure` below 1 less is required: that part of the standard errors, that power of the chance.
    """
    turn, trend = valid.turn(), lasting_rise(valid)
    if turn is not None and turn.deviations >= sure * SURE:
        return turn
    return trend[0] if trend is not None and trend[1] <= CHANCE**sure else None


def _parts(window: tuple[float, float], curve: CostCurve) -> tuple[float, float]:
    low, high = window
    return (low - 0.5) / curve.total, high / curve.total


def overfitting(evidence: StudyEvidence) -> list[Finding]:
    """`overfitting`: in the best trial of a setting, or else in several of the other feasible trials."""
    ranked = {setting: evidence.closest_first(runs) for setting, runs in evidence.by_setting.items()}
    best = [runs[0] for runs in ranked.values() if runs]
    in_best = _overfitting(evidence, best)
    feasible = [run for runs in ranked.values() for run in runs[1:]]
    examined = feasible[:: math.ceil(len(feasible) / MOST_EXAMINED)] if feasible else []
    elsewhere = _overfitting(evidence, examined)
    if len(elsewhere) < max(FEWEST_ELSEWHERE, COMMON_PART * len(examined)):
        elsewhere = []
    if not in_best and not elsewhere:
        return []
    seeming = [] if in_best else _overfitting(evidence, best, SEEMING)
    return [_finding(evidence, Places(in_best, elsewhere, seeming, len(best), len(examined)))]


def _overfitting(evidence: StudyEvidence, runs: Sequence[Run], sure: float = 1.0) -> list[Overfit]:
    """Those of the trials that overfit, the clearest first."""
    metric = valid_metric(evidence)
    found = []
    for run in runs:
        valid = curve_of(evidence, run, metric)
        # Most trials end near their lowest level and need no curve of the training split.
        if valid is None or valid.medians[-1] - valid.medians.min() <= LARGE_PART / 4 * valid.gain:
            continue
        item = overfit(run, valid, curve_of(evidence, run, train_metric(evidence, run)), sure)
        if item is not None:
            found.append(item)
    return sorted(found, key=lambda item: (-item.rise_share, item.run.plan.trial))


def _finding(evidence: StudyEvidence, places: Places) -> Finding:
    worst = places.shown[0]
    known = regularisers(evidence.spec)
    # "It would not be surprising if low-strength settings of those regularization parameters" overfitted.
    expected = any(item.role == "scientific" for item in known)
    found_in = tuple(sorted({item.run.plan.setting for item in places.shown}))
    changes = () if expected else _changes(evidence, worst.run)
    return Finding(
        id="overfitting",
        level="note" if expected else "warning",
        sentence=f"{places.sentence_start(in_settings(evidence, found_in))} {valid_metric(evidence)} gets worse again "
        f"from step {worst.turned_at:,.0f} on while the training error does not: they overfit{places.sentence_end}",
        action=_action(evidence, places, expected=expected, adds=bool(changes)),
        settings=found_in,
        hyperparameters=tuple(item.key for item in known if item.varies),
        trials=tuple(item.run.plan.trial for item in (*places.in_best, *places.elsewhere)),
        numbers={
            "best_trials_overfitting": len(places.in_best),
            "best_trials_seeming_to": len(places.seeming),
            "best_trials": places.settings,
            "others_overfitting": len(places.elsewhere),
            "others_examined": places.examined,
            "turned_up_at_step": worst.turned_at,
            "rise_as_share_of_gain": worst.rise_share,
            "rise_as_share_of_lowest": worst.rise_ratio,
            "rise_in_standard_errors": worst.deviations,
        },
        sureness=f"a rise of {worst.deviations:.0f} standard errors in trial {worst.run.plan.trial}",
        changes=changes,
    )


def _action(evidence: StudyEvidence, places: Places, *, expected: bool, adds: bool) -> str:
    if expected:
        return "nothing to do if these trials have little of the regularisation that the study compares"
    before = (
        "before the settings are compared" if places.in_best and len(evidence.settings) > 1 else "in the next round"
    )
    if adds and any(item.varies for item in regularisers(evidence.spec)):
        return f"tune dropout as well {before}, and train for more steps with it"
    if adds:
        return f"add regularisation {before}: tune weight decay, or dropout or label smoothing in the workload"
    if any(item.varies for item in regularisers(evidence.spec)):
        why = (
            ""
            if places.in_best or places.seeming
            else ": the best trials may regularise in another way, such as a small learning rate"
        )
        return f"tune the regularisation better (more of it), or add another kind, {before}{why}"
    return f"add regularisation {before} (weight decay, dropout, label smoothing)"


def _changes(evidence: StudyEvidence, run: Run) -> tuple[Change, ...]:
    """A nuisance weight decay where nothing in the study that regularises varies; else a dropout that is off now."""
    reason = "trials overfit, and nothing regularises"
    if any(item.varies for item in regularisers(evidence.spec)):
        return _dropout(evidence)
    own = evidence.spec.alternatives("weight_decay")
    if len(own) > 1 or (own and not isinstance(own[0].domain, FixedValue)):
        return ()
    decoupled = run.plan.hyperparameters.get("optimizer") == "adamw"
    value = ADDED_DECOUPLED_DECAY if decoupled else ADDED_WEIGHT_DECAY
    return (Change(("hyperparameters", "weight_decay"), dict(value), reason),)


def _dropout(evidence: StudyEvidence) -> tuple[Change, ...]:
    """A nuisance dropout in place of one that the study fixes at 0; none where there is no such one."""
    for item in evidence.spec.hyperparameters:
        domain = item.domain
        is_fixed_off = isinstance(domain, FixedValue) and is_number(domain.value) and domain.value == 0
        if is_fixed_off and not item.when and is_share(item.name) and slows_training(item.name):
            reason = "trials overfit, and what regularises does not prevent it"
            return (Change(("hyperparameters", item.name), dict(ADDED_DROPOUT), reason),)
    return ()
