"""What the curves of the good trials show: variance late in training, a training loss that rises, periods.

The questions are those of the Deep Learning Tuning Playbook, "Examining the training curves".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tunectl.analysis.curves.curve_shapes import CostCurve
from tunectl.analysis.curves.good_curves import (
    MINIBATCH_LOSS,
    TRAIN_LOSSES,
    GoodCurves,
    curve_of,
    learned_curves,
    shown_by_curves,
    train_loss_metric,
)
from tunectl.analysis.curves.good_trials import fixed_field, good_trials, has_decayed, in_settings, most
from tunectl.analysis.curves.periodicity import Period, period
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.runs import Floats, Run
from tunectl.core.wording import counted, short_number
from tunectl.language.configuration import BATCH_SIZE

NOISY_PART = 0.04
NOISY_RATIO = 0.25
"""The variance from evaluation to evaluation is high where its standard deviation is this part of the gain; or, where
zero is the best possible value, this part of the level (and a quarter of NOISY_PART of the gain).
"""

LATE_PART = 0.6
"""What comes after this part of training is late."""

RISING_PART = 0.05
RISING_ERRORS = 4.0
"""The training loss has risen where it ends above its lowest level by this part of its gain, and by this number of
standard errors.
"""

SURE_PERIOD = 2e-3
MOSTLY_THERE = 0.9
PERIOD_SHARE = 0.3
PERIOD_PART = 0.003
"""A period counts where chance gives such a clear one in one study of 500, where it makes up PERIOD_SHARE of the
variance around the trend, and where it moves the curve by PERIOD_PART of its gain (as a standard deviation). Most
evaluations must exist: where gaps are filled in, the noise is no longer white.
"""


def train_loss_rising(evidence: StudyEvidence) -> list[Finding]:
    """`train-loss-rising`: the training loss of most good trials ends clearly above its lowest level."""
    curves = learned_curves(evidence, train_loss_metric)
    strength: dict[Run, float] = {}
    for own in curves.values():
        for run, curve in own.items():
            turn = curve.turn()
            share = turn.rise / curve.gain if turn is not None and turn.deviations > RISING_ERRORS else 0.0
            if share > RISING_PART:
                strength[run] = share
    shown = shown_by_curves(curves, strength)
    if shown is None:
        return []
    rise = float(np.median([strength[run] for run in shown.runs]))
    return [
        Finding(
            id="train-loss-rising",
            level="warning",
            sentence=f"The training loss of {shown.them}{in_settings(evidence, shown.settings)} rises again, by "
            f"{rise:.0%} of what it had gained.",
            action="look first for a bug in the training pipeline (data order, augmentation, a loss that changes, a "
            "schedule that rises); otherwise training is unstable: lower the learning rate, or let it decay",
            settings=shown.settings,
            trials=shown.trials,
            numbers={
                "median_rise_as_share_of_gain": rise,
                **shown.counts,
            },
            sureness=shown.sureness,
        )
    ]


def late_variance(evidence: StudyEvidence) -> list[Finding]:
    """`late-variance`: late in training the objective of most good trials of a setting jumps between evaluations."""
    curves = _learned_late(evidence)
    strength: dict[Run, float] = {}
    deviations: dict[Run, float] = {}
    for own in curves.values():
        for run, curve in own.items():
            deviation = curve.late_deviation(LATE_PART) or 0.0
            ratio = _noisiness(curve, deviation)
            if ratio > 1:
                strength[run], deviations[run] = ratio, deviation
    shown = shown_by_curves(curves, strength)
    if shown is None:
        return []
    deviation = float(np.median([deviations[run] for run in shown.runs]))
    changes = _changes_against_variance(evidence, shown.runs)
    return [
        Finding(
            id="late-variance",
            level="warning",
            sentence=f"Late in training {evidence.objective.metric} of {shown.them}"
            f"{in_settings(evidence, shown.settings)} still varies from evaluation to evaluation, with a standard "
            f"deviation of {short_number(deviation, 2)}: which trial is best depends on luck.",
            action="let the learning rate decay, average the weights (polyak_decay), or use a larger batch or a "
            "larger validation set",
            settings=shown.settings,
            trials=shown.trials,
            numbers={
                "median_late_deviation": deviation,
                **shown.counts,
            },
            sureness=shown.sureness,
            changes=changes,
        )
    ]


def _learned_late(evidence: StudyEvidence) -> GoodCurves:
    """The good trials whose curve fell by more than its noise and has enough late evaluations."""
    found: dict[int, dict[Run, CostCurve]] = {}
    for setting, runs in good_trials(evidence).items():
        curves = {run: curve_of(evidence, run, evidence.objective.metric) for run in runs}
        found[setting] = {
            run: curve
            for run, curve in curves.items()
            if curve is not None and curve.gain > curve.noise and curve.late_deviation(LATE_PART) is not None
        }
    return found


def _noisiness(curve: CostCurve, deviation: float) -> float:
    """A late deviation divided by the smallest one that counts as high."""
    part = deviation / curve.gain / NOISY_PART
    level, _ = curve.level(LATE_PART, 1.0)
    if not curve.ratio_scale or level <= 0:
        return part
    return max(part, min(deviation / level / NOISY_RATIO, 4 * part))


def _changes_against_variance(evidence: StudyEvidence, runs: Sequence[Run]) -> tuple[Change, ...]:
    steps = evidence.spec.training.max_train_steps
    decaying = [run for run in runs if has_decayed(run, steps)]
    if most(len(decaying), len(runs)):
        change = fixed_field(evidence, "polyak_decay", 0.99, "averages out the variance from step to step")
    else:
        change = fixed_field(evidence, "schedule", "cosine", "with a decaying rate the last steps vary less")
    return () if change is None else (change,)


def periodic_evaluations(evidence: StudyEvidence) -> list[Finding]:
    """`periodic-evaluations`: the good trials go up and down with one period, in the objective or the training loss."""
    metrics = dict.fromkeys((evidence.objective.metric, *TRAIN_LOSSES))
    found = []
    for metric in metrics:
        for runs, curves, spacing in _comparable_curves(evidence, metric):
            seen = period(curves)
            if seen is not None and not (
                metric == MINIBATCH_LOSS and _is_of_epoch(seen, runs, len(curves[0]), spacing)
            ):
                found.append((seen, runs, metric, spacing))
    if not found:
        return []
    seen, runs, metric, spacing = min(found, key=lambda item: item[0].chance)
    chance = min(1.0, len(found) * seen.chance)
    if chance > SURE_PERIOD or seen.share < PERIOD_SHARE:
        return []
    return [_period_finding(seen, runs, metric, spacing, chance)]


def _is_of_epoch(seen: Period, runs: Sequence[Run], evaluations: int, spacing: float) -> bool:
    """Whether a period is that of the epochs, seen at evaluations `spacing` steps apart.

    In an epoch each example comes once, in a new order: its loss is lowest soon after it was trained on, so the
    minibatch loss rises through the epoch or falls. Evaluations see a period that is not much longer than their spacing
    as another one: of its frequency in cycles an evaluation only the distance to a whole number is seen.
    """
    frequency, resolution = 1 / seen.evaluations, 0.5 / evaluations
    for run in runs:
        batch = int(run.plan.hyperparameters.get("batch_size", BATCH_SIZE))
        epoch = (run.train_examples or 0) / batch
        if not epoch:
            return False
        harmonics = (spacing / epoch, 2 * spacing / epoch)
        if not any(abs(abs(at - round(at)) - frequency) <= resolution for at in harmonics):
            return False
    return True


def _period_finding(seen: Period, runs: Sequence[Run], metric: str, spacing: float, chance: float) -> Finding:
    return Finding(
        id="periodic-evaluations",
        level="warning",
        sentence=f"{metric} of the good trials goes up and down with a period of {seen.evaluations:.1f} evaluations "
        f"({seen.evaluations * spacing:,.0f} steps): a sign of a bug in the data.",
        action="check whether the training data come in an order that repeats (sorted, or not shuffled), whether the "
        "validation data change from evaluation to evaluation, and how the length of an epoch compares with the period",
        settings=tuple(sorted({run.plan.setting for run in runs})),
        trials=tuple(run.plan.trial for run in runs),
        numbers={
            "period_evaluations": seen.evaluations,
            "period_steps": seen.evaluations * spacing,
            "share_of_variance": seen.share,
            "chance": chance,
        },
        sureness=f"p = {chance:.1g} over {counted(len(runs), 'good trial')}",
    )


def _comparable_curves(evidence: StudyEvidence, metric: str) -> Iterator[tuple[list[Run], list[Floats], float]]:
    """The curves of good trials on an even grid, after the first descent, in groups that could share a period."""
    groups: dict[tuple[int, float, object], list[tuple[Run, Floats]]] = {}
    for runs in good_trials(evidence).values():
        for run in runs:
            curve = curve_of(evidence, run, metric)
            if curve is None or curve.gain <= curve.noise:
                continue
            spacing = float(np.median(np.diff(curve.steps)))
            if spacing <= 0 or len(curve.steps) < MOSTLY_THERE * (curve.total - curve.total / 4) / spacing:
                continue  # a few steps close together, and the others far apart: the grid would be huge
            grid = np.arange(curve.total, curve.total / 4, -spacing)[::-1]
            values = np.interp(grid, curve.steps, curve.costs)
            if np.count_nonzero(curve.steps >= grid.min(initial=curve.total)) < MOSTLY_THERE * len(grid):
                continue
            # The mean of the second differences grows with the movement around the trend.
            bends = np.diff(values, 2)
            if len(bends) and np.abs(bends).mean() > PERIOD_PART * curve.gain:
                key = (len(grid), spacing, run.plan.hyperparameters.get("batch_size"))
                groups.setdefault(key, []).append((run, values))
    for (_, spacing, _), members in groups.items():
        yield [run for run, _ in members], [values for _, values in members], spacing
