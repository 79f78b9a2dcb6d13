"""Whether trials train for too long or not long enough.

Deep Learning Tuning Playbook, "Examining the training curves" (still improving at the end, saturated long before it)
and "Deciding how long to train" (the best step in the first 10 % or the last 25 % of training).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps

import numpy as np

from tunectl.analysis.curves.curve_shapes import CostCurve, Share, pooled
from tunectl.analysis.curves.good_curves import (
    GoodCurves,
    curve_of,
    learned_curves,
    shown_by_curves,
    train_metric,
    valid_metric,
)
from tunectl.analysis.curves.good_trials import Shown, has_decayed, in_settings, most
from tunectl.analysis.curves.overfitting import overfit
from tunectl.analysis.curves.saturation import UNDERFIT_ACTION, decay_instead, far_from_fitted, saturation
from tunectl.analysis.curves.step_units import steps_fit
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.runs import Run

THIRD_QUARTER, LAST_QUARTER = (0.5, 0.75), (0.75, 1.0)

STILL_FALLING = 0.07
"""A trial still improves if its level falls from the third quarter of training to the last one by this part of its
whole gain. A straight line falls by 25 %, an exponential with a time of half of training by 13 %; power laws, which
never stop, by 1 to 5 %.
"""

LATE_FALL = 0.05
"""A best step in the last quarter calls for longer training only with this fall: in noise the best step may be
anywhere, and on a slow power law it is always at the end.
"""

SPARE_PART = 0.25
"""This part of training is kept after the point of saturation, and at least half of training in all."""

EARLY_BEST, LATE_BEST = 0.10, 0.75
CONSISTENT = 0.9
"""The playbook's "always" and "consistently": this part of the good trials."""

FEWEST_EARLY = 2
"""In a flat curve one best step in ten is in the first 10 %; with two trials both are in one study of a hundred."""


def _where_steps_fit(find: Callable[[StudyEvidence], list[Finding]]) -> Callable[[StudyEvidence], list[Finding]]:
    """Leave a finding out if the printed steps count something else than max_train_steps."""

    @wraps(find)
    def found(evidence: StudyEvidence) -> list[Finding]:
        return find(evidence) if steps_fit(evidence) else []

    return found


def _falls(curves: Mapping[Run, CostCurve]) -> dict[Run, Share]:
    return {run: curve.fall(THIRD_QUARTER, LAST_QUARTER) for run, curve in curves.items()}


def _clearly(falls: Mapping[Run, Share], least: float) -> bool:
    """Whether trials fall by `least` on average, and by at least half of it within two standard errors."""
    mean = pooled(list(falls.values()))
    return mean.value > least and mean.value - 2 * mean.error > least / 2


def _may_gain(evidence: StudyEvidence) -> GoodCurves:
    """The curves of the good trials that more training might make better: with a target, those that never reached it.

    A setting whose best trial reached it has none: its number of steps is known.
    """
    curves, target = learned_curves(evidence), evidence.objective
    if target.steps_to is None:
        return curves
    return {
        setting: {} if any(not run.never_reached(target) for run in own) else own for setting, own in curves.items()
    }


@_where_steps_fit
def still_improving(evidence: StudyEvidence) -> list[Finding]:
    """`still-improving`: the curves of most good trials of a setting still fall clearly at the end of training."""
    curves = _may_gain(evidence)
    strength: dict[Run, float] = {}
    for own in curves.values():
        falls = _falls(own)
        if _clearly(falls, STILL_FALLING):
            strength |= {run: share.value for run, share in falls.items() if share.value > STILL_FALLING}
    shown = shown_by_curves(curves, strength)
    if shown is None:
        return []
    fall = float(np.median([strength[run] for run in shown.runs]))
    sentence = (
        f"{shown.them.capitalize()}{in_settings(evidence, shown.settings)} still "
        f"{shown.they('improves', 'improve')} at the end: from the third quarter of training to the last "
        f"{evidence.objective.metric} improves by {fall:.0%} of its whole gain."
    )
    return [_longer(evidence, "still-improving", sentence, shown, {"median_fall_as_share_of_gain": fall})]


@_where_steps_fit
def best_step_late(evidence: StudyEvidence) -> list[Finding]:
    """`best-step-late`: the best steps of the good trials are consistently in the last 25 % of training."""
    curves = _may_gain(evidence)
    strength: dict[Run, float] = {}
    for own in curves.values():
        late = {run: curve.best_done for run, curve in own.items() if curve.best_done > LATE_BEST}
        if len(late) >= CONSISTENT * len(own) and _clearly(_falls(own), LATE_FALL):
            strength |= late
    shown = shown_by_curves(curves, strength)
    if shown is None:
        return []
    earliest = min(strength[run] for run in shown.runs)
    sentence = (
        f"The best step of {shown.them}{in_settings(evidence, shown.settings)} is in the last quarter of training, "
        f"at {earliest:.0%} or later: max_train_steps may be too small."
    )
    return [_longer(evidence, "best-step-late", sentence, shown, {"earliest_best_step_as_share": earliest})]


def _longer(evidence: StudyEvidence, name: str, sentence: str, shown: Shown, numbers: Mapping[str, float]) -> Finding:
    steps = evidence.spec.training.max_train_steps
    decaying = [run for run in shown.runs if has_decayed(run, steps)]
    change = Change(("training", "max_train_steps"), 2 * steps, "trials had not finished improving")
    changes: tuple[Change, ...]
    if most(len(decaying), len(shown.runs)):
        decided, changes = False, ()
        action = (
            "nothing yet: with a schedule that decays to zero healthy trials do this too; only a study with twice "
            "max_train_steps, and the schedule tuned again, would show whether training longer helps"
        )
    else:
        decided, changes = True, (change,)
        action = (
            f"train longer ({2 * steps:,} steps: another study, which `tunectl next` writes), or let the learning rate "
            "decay; if there is no time for it, remember that the conclusions are those of short training"
        )
    return Finding(
        id=name,
        level="warning" if decided else "note",
        sentence=sentence,
        action=action,
        settings=shown.settings,
        trials=shown.trials,
        numbers={
            **numbers,
            **shown.counts,
            "decaying_to_zero": len(decaying),
            "max_train_steps": steps,
        },
        sureness=shown.sureness,
        changes=changes,
    )


@_where_steps_fit
def saturated_early(evidence: StudyEvidence) -> list[Finding]:
    """`saturated-early`: after some part of training the good trials no longer improve, on either split."""
    curves = learned_curves(evidence)
    found = {setting: seen for setting, own in curves.items() if (seen := saturation(evidence, own)) is not None}
    strength = {run: -abs(fall.value) for seen in found.values() for run, fall in seen.falls.items()}
    shown = shown_by_curves(curves, strength)
    if shown is None:
        return []
    begin = max(found[setting].begin for setting in shown.settings)
    fall = float(np.median([-strength[run] for run in shown.runs]))
    metric = evidence.objective.metric
    on_both = all(found[setting].on_both for setting in shown.settings)
    what = f"neither {metric} nor the training error improves" if on_both else f"{metric} does not improve"
    sentence = (
        f"{shown.them.capitalize()}{in_settings(evidence, shown.settings)} had saturated by {begin:.0%} of training: "
        f"after that {what} ({metric} gains {fall:.1%} of its whole gain)."
    )
    everywhere = len(shown.settings) == len([own for own in curves.values() if own])
    needed = max(0.5, begin + SPARE_PART)
    finding = _shorter(evidence, "saturated-early", sentence, shown, needed=needed if everywhere else None)
    return [replace(finding, numbers={**finding.numbers, "saturated_by_share": begin})]


@_where_steps_fit
def best_step_early(evidence: StudyEvidence) -> list[Finding]:
    """`best-step-early`: the best steps of the good trials are always in the first 10 % of training.

    With a target, the steps to it are what is measured, and not a sign.
    """
    if evidence.objective.steps_to is not None:
        return []
    curves = learned_curves(evidence)
    strength: dict[Run, float] = {}
    for own in curves.values():
        early = {run: -curve.best_done for run, curve in own.items() if curve.best_done <= EARLY_BEST}
        if len(early) >= max(FEWEST_EARLY, CONSISTENT * len(own)):
            strength |= early
    shown = shown_by_curves(curves, strength)
    if shown is None:
        return []
    latest = max(-strength[run] for run in shown.runs)
    sentence = (
        f"The best step of {shown.them}{in_settings(evidence, shown.settings)} is in the first {latest:.0%} of "
        f"training: max_train_steps is far too large, or the later steps make the result worse."
    )
    everywhere = len(shown.settings) == len([own for own in curves.values() if own])
    return [_shorter(evidence, "best-step-early", sentence, shown, needed=0.5 if everywhere else None)]


def _shorter(evidence: StudyEvidence, name: str, sentence: str, shown: Shown, *, needed: float | None) -> Finding:
    """The finding that the part `needed` of training is enough; it is None if other settings need all of it."""
    spec = evidence.spec.training
    fewer = (
        max(1, math.ceil(round(needed * spec.max_train_steps / spec.eval_every, 9))) * spec.eval_every if needed else 0
    )
    overfitted = [run for run in shown.runs if _overfits(evidence, run)]
    left = far_from_fitted(evidence, shown.runs)
    fits = left is None and not most(len(overfitted), len(shown.runs)) and 0 < fewer < spec.max_train_steps
    changes: tuple[Change, ...] = ()
    if left is not None:
        sentence += (
            f" The training data are far from fitted: {left:.0%} of the training error at the beginning is left."
        )
        action, changes = UNDERFIT_ACTION, decay_instead(evidence, shown.runs)
    elif fits:
        action = f"train for fewer steps ({fewer:,}) and use the time for more trials"
        changes = (Change(("training", "max_train_steps"), fewer, "trials gain nothing from more steps"),)
    elif not fewer:
        action = "keep max_train_steps as it is: the trials of other settings need it"
    elif overfitted:
        action = "look at the overfitting first: the steps after the best one make the result worse"
    else:
        action = "evaluate more often, and train for fewer steps"
    return Finding(
        id=name,
        level="warning",
        sentence=sentence,
        action=action,
        settings=shown.settings,
        trials=shown.trials,
        numbers={
            **shown.counts,
            "overfitting_among_them": len(overfitted),
            "max_train_steps": spec.max_train_steps,
            **({} if left is None else {"training_error_left_as_share": left}),
        },
        sureness=shown.sureness,
        changes=changes,
    )


def _overfits(evidence: StudyEvidence, run: Run) -> bool:
    valid = curve_of(evidence, run, valid_metric(evidence))
    return overfit(run, valid, curve_of(evidence, run, train_metric(evidence, run))) is not None
