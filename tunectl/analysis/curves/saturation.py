"""The part of training after which trials no longer improve, and whether they are far from fitted there.

Deep Learning Tuning Playbook, "Examining the training curves": "has performance on the training and validation sets
saturated long before the final training step?"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.curves.curve_shapes import LossCurve, Share, pooled
from tunectl.analysis.curves.good_curves import curve_of, train_metric
from tunectl.analysis.curves.good_trials import fixed_field, most
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change
from tunectl.analysis.results.runs import Run

BEGINNINGS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""The parts of training after which trials may have saturated; after a later one it is not early."""

EARLY_LENGTH = 0.15
LATE_BEGINS, LATE_AFTER = 0.5, 0.25
"""The level in EARLY_LENGTH of training after the beginning is compared with that of the second half, or of what begins
LATE_AFTER later than the beginning.
"""


@dataclass(frozen=True)
class SettledLimits:
    """The largest fall that still counts as none: as measured, and as far as the noise allows it."""

    seen: float
    possible: float


SETTLED, SETTLED_RATIO = SettledLimits(0.005, 0.02), SettledLimits(0.02, 0.05)
SETTLED_ERRORS = 2.0
NEGLIGIBLE = 0.001
"""A trial has saturated where its level falls from there on by less than SETTLED.seen of its gain and by less than
SETTLED_ERRORS standard errors (or by less than NEGLIGIBLE: a loss without noise never stops falling), and by at most
SETTLED.possible if that many errors are added. The same must hold in parts of what is left of an error or a loss, with
SETTLED_RATIO: an error rate that falls from 5 to 4.7 % gains little of its whole gain, and still improves.
"""

FAR_FROM_FITTED = 0.25
"""The training data are far from fitted where this part of the error or loss at the beginning is left."""

UNDERFIT_ACTION = (
    "let the learning rate decay; if that does not help, try less regularisation, another optimizer or a larger model"
)
"""What may help a network that stops improving far from fitted: neither fewer steps nor a higher rate does."""


@dataclass(frozen=True, eq=False)
class Saturation:
    """The further gain of each trial from `begin` (a part of training) on, as shares of its whole gain.

    `on_both`: the training error is known, and does not fall either.
    """

    begin: float
    falls: Mapping[Run, Share]
    on_both: bool


def saturation(evidence: StudyEvidence, own: Mapping[Run, LossCurve]) -> Saturation | None:
    """The earliest saturation of most of these trials, given by their curves of the objective."""
    if not own:
        return None
    found = ((begin, _settled_from(evidence, own, begin)) for begin in BEGINNINGS)
    return next((Saturation(begin, *settled) for begin, settled in found if settled is not None), None)


def far_from_fitted(evidence: StudyEvidence, runs: Sequence[Run]) -> float | None:
    """What is left at the end of the training error or loss of most of these trials, as a part of that at the
    beginning; None if it is below FAR_FROM_FITTED, or not known.
    """
    left = [part for run in runs if (part := _left(evidence, run)) is not None]
    far = [part for part in left if part >= FAR_FROM_FITTED]
    return float(np.median(far)) if far and most(len(far), len(runs)) else None


def decay_instead(evidence: StudyEvidence, runs: Sequence[Run]) -> tuple[Change, ...]:
    """The change to a decaying rate, if the rate of all these trials is constant."""
    if any(run.plan.hyperparameters.get("schedule", "constant") != "constant" for run in runs):
        return ()
    change = fixed_field(evidence, "schedule", "cosine", "with a decaying rate the loss can leave a noisy plateau")
    return () if change is None else (change,)


def _left(evidence: StudyEvidence, run: Run) -> float | None:
    curve = curve_of(evidence, run, train_metric(evidence, run))
    if curve is None or (worst := _above_best(curve, curve.start)) is None or worst <= 0:
        return None
    level = _above_best(curve, curve.level(LATE_BEGINS, 1.0)[0])
    return None if level is None else level / worst


def _above_best(curve: LossCurve, level: float) -> float | None:
    """How far a level is above the best possible value, zero or an accuracy of one; None if that is not known."""
    if curve.ratio_scale:
        return level
    is_accuracy = bool(curve.losses.min() >= -1 and curve.losses.max() <= 0)
    return 1 + level if is_accuracy else None


def _settled_from(
    evidence: StudyEvidence, own: Mapping[Run, LossCurve], begin: float
) -> tuple[Mapping[Run, Share], bool] | None:
    """The gain after `begin` of each trial that had settled then, if most had; and whether on both splits."""
    settled = {run: fall for run, curve in own.items() if (fall := _settled(evidence, run, curve, begin)) is not None}
    if not settled or not most(len(settled), len(own)) or not _is_settled(list(settled.values()), SETTLED):
        return None
    ratios = [ratio for run in settled if (ratio := _ratio(own[run], settled[run], begin)) is not None]
    if ratios and not _is_settled(ratios, SETTLED_RATIO):
        return None
    train = [fall for run in settled if (fall := _train_fall(evidence, run, begin)) is not None]
    return (settled, bool(train)) if not train or _is_settled(train, SETTLED) else None


def _settled(evidence: StudyEvidence, run: Run, curve: LossCurve, begin: float) -> Share | None:
    """What the objective still gained after `begin`; None if the trial had not settled by then."""
    fall, train = _fall(curve, begin), _train_fall(evidence, run, begin)
    if not _is_measured(curve, begin) or not _may_have_settled(fall):
        return None
    if train is not None and not _may_have_settled(train):
        return None
    # A rising level means overfitting or instability, which fewer steps would hide.
    return fall if fall.value > -4 * SETTLED.seen else None


def _is_measured(curve: LossCurve, begin: float) -> bool:
    """Whether there are evaluations soon after the beginning and, more than one, late."""
    inside = (curve.done > begin) & (curve.done <= begin + EARLY_LENGTH + 1e-9)
    return bool(inside.any()) and int(np.count_nonzero(curve.done > late_from(begin))) > 1


def late_from(begin: float) -> float:
    """The part of training from which on the level is compared with that just after `begin`."""
    return max(LATE_BEGINS, begin + LATE_AFTER)


def _fall(curve: LossCurve, begin: float) -> Share:
    return curve.fall((begin, begin + EARLY_LENGTH + 1e-9), (late_from(begin), 1.0))


def _train_fall(evidence: StudyEvidence, run: Run, begin: float) -> Share | None:
    """What the training error still gained after `begin`; None if it is not known."""
    metric = train_metric(evidence, run)
    train = None if metric == evidence.objective.metric else curve_of(evidence, run, metric)
    return _fall(train, begin) if train is not None and train.learned else None


def _ratio(curve: LossCurve, fall: Share, begin: float) -> Share | None:
    """The fall as a part of what is left; None if that has no meaning."""
    left = _above_best(curve, curve.level(late_from(begin), 1.0)[0])
    if left is None or left <= 0:
        return None
    return Share(fall.value * curve.gain / left, fall.error * curve.gain / left)


def _may_have_settled(fall: Share) -> bool:
    return fall.value <= SETTLED.seen + SETTLED_ERRORS * fall.error


def _is_settled(falls: Sequence[Share], limits: SettledLimits) -> bool:
    fall = pooled(falls)
    error = SETTLED_ERRORS * fall.error
    return fall.value <= max(NEGLIGIBLE, min(limits.seen, error)) and fall.value + error <= limits.possible
