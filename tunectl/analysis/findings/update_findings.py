"""What the series of all updates show for the good trials: spikes, outlier gradients, plateaus, clipping, update sizes.

`detection`, `instability` and `gradient_norms` find such things in one trial; this module decides what they mean for a
study. At the edges of a wide search trials are expected to train badly, so only what most good trials show counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tunectl.analysis.curves.good_trials import (
    Shown,
    fixed_field,
    good_trials,
    in_settings,
    shown_by_most,
    sweep_command,
)
from tunectl.analysis.curves.saturation import BEGINNINGS, FAR_FROM_FITTED, UNDERFIT_ACTION, decay_instead, late_from
from tunectl.analysis.curves.smoothing import finite_part, log_loss, near_zero, windowed_median
from tunectl.analysis.curves.training_length import saturated_early
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.runs import Floats, Run, usable
from tunectl.analysis.updates.detection import diverged, explosion, plateau, spikes
from tunectl.analysis.updates.gradient_norms import (
    AGGRESSIVE_FRACTION,
    CLIP_PERCENTILE,
    OUTLIER_WINDOW,
    clip_threshold,
    clipped_fraction,
    outlier_norms,
)
from tunectl.analysis.updates.instability import LEAST_FACTOR, early_updates, instability

FEWEST_UPDATES = 60
"""A trial with fewer updates is not judged."""

MOST_JUDGED = 24
"""At most this many trials are judged, but at least one of each setting: each takes tens of milliseconds."""

FEWEST_OUTLIERS = 3
OUTLIER_SHARE = 1e-3
FAR_OUT = 5.0
FIRST_GRADIENTS_PART = 0.05
"""A trial has outlier gradients where, after FIRST_GRADIENTS_PART of training, at least FEWEST_OUTLIERS norms, and
OUTLIER_SHARE of all, are FAR_OUT times the norm of those around them. The first gradients are large and soon fall, and
those of small batches vary by a factor of two or three.
"""

PLATEAU_FALL, PLATEAU_BOUND = 0.01, 0.03
PLATEAU_AFTER = 0.1
"""A plateau goes from one of BEGINNINGS to the end, and is a problem where the data are far from fitted. After its
first PLATEAU_AFTER of training the loss fell by at most PLATEAU_FALL of its whole gain, and by at most PLATEAU_BOUND if
two standard errors are added.
"""

TYPICAL_RATIO = 1e-3
FAR_RATIO = 10.0
"""An update usually moves the weights by about a thousandth of their norm; ten times as much is far from usual."""

MID_TRAINING = (0.25, 0.75)
FEWEST_RATIOS = 3


Good = Mapping[int, Sequence[Run]]


def _good_read(evidence: StudyEvidence) -> Good:
    """The good trials whose updates were read, by setting."""
    found = {
        setting: [run for run in runs if run.plan.trial in evidence.updates_read and len(run.updates) >= FEWEST_UPDATES]
        for setting, runs in good_trials(evidence).items()
    }
    found = {setting: runs for setting, runs in found.items() if runs}
    most = max(1, MOST_JUDGED // max(1, len(found)))
    return {setting: runs[:most] for setting, runs in found.items()}


def _strengths(good: Good, look: Callable[[Run], float | None]) -> dict[int, float]:
    """How clearly each trial shows something, by id; trials that do not show it are left out."""
    seen = {run.plan.trial: look(run) for runs in good.values() for run in runs}
    return {trial: value for trial, value in seen.items() if value is not None}


def diverging(evidence: StudyEvidence) -> list[Finding]:
    """`diverging`: the minibatch loss of most good trials goes up and does not come back down."""
    good = _good_read(evidence)
    shown = shown_by_most(good, _strengths(good, _growth))
    if shown is None:
        return []
    first = _growth(shown.runs[0]) or 1.0
    return [
        Finding(
            id="diverging",
            level="warning",
            sentence=f"The minibatch loss of {shown.them}{in_settings(evidence, shown.settings)} goes up and does not "
            f"come back down, by a factor of {first:.3g} in trial {shown.trials[0]}: training diverges, and the best "
            f"checkpoints are from before.",
            action="find the learning rate at which training becomes unstable and stay below it, or let it decay",
            settings=shown.settings,
            trials=shown.trials,
            numbers={"largest_factor": first, **_counts(shown)},
            sureness=shown.sureness,
            command=sweep_command(evidence, "lr-sweep", shown.runs[0]),
        )
    ]


def _growth(run: Run) -> float | None:
    """The factor by which the loss ends above its lowest level; None where it came back down, or never rose."""
    loss = run.updates.loss
    if not _ends_up(loss, run.baseline_loss):
        return None
    last = [period for period in instability(loss, baseline=run.baseline_loss) if period.end is None]
    if last:
        return max(period.factor for period in last)
    blown_up = explosion(loss)
    if blown_up is not None:
        return blown_up.factor
    if not diverged(loss):
        return None
    lowest = float(np.min(loss[np.isfinite(loss)], initial=math.inf))
    return float(loss[-1] / lowest) if lowest > 0 and math.isfinite(loss[-1]) else math.inf


def _ends_up(loss: Floats, baseline: float | None) -> bool:
    """Whether a loss ends above its lowest level as far as `instability` requires; a quick check to be made first."""
    finite = finite_part(loss)
    width = max(10, len(finite) // 20)
    if len(finite) < len(loss) or len(finite) < width:
        return True
    levels = windowed_median(log_loss(finite, near_zero(finite, baseline)), width, hop=max(1, width // 4))
    return bool(levels[-1] - levels.min() > math.log(LEAST_FACTOR))


def loss_spikes(evidence: StudyEvidence) -> list[Finding]:
    """`loss-spikes`: the minibatch loss of most good trials has sudden rises."""
    good = _good_read(evidence)
    found = {run: spikes(run.updates.loss, baseline=run.baseline_loss) for run in _all(good)}
    shown = shown_by_most(good, _strengths(good, lambda run: len(found[run]) or None))
    if shown is None:
        return []
    early = [
        run
        for run in shown.runs
        if 2 * sum(spike.start < early_updates(len(run.updates)) for spike in found[run]) > len(found[run])
    ]
    all_early = len(early) == len(shown.runs)
    count = sum(len(found[run]) for run in shown.runs)
    return [
        Finding(
            id="loss-spikes",
            level="warning",
            sentence=f"The minibatch loss of {shown.them}{in_settings(evidence, shown.settings)} has sudden spikes, "
            f"{len(found[shown.runs[0]])} of them in trial {shown.trials[0]}"
            f"{', early in training' if all_early else ''}.",
            action="find the warmup that removes them"
            if all_early
            else "find the clipping threshold that removes them, or lower the learning rate",
            settings=shown.settings,
            trials=shown.trials,
            numbers={"spikes": count, "trials_with_early_spikes": len(early), **_counts(shown)},
            sureness=shown.sureness,
            command=sweep_command(evidence, "warmup-sweep" if all_early else "clip-sweep", shown.runs[0]),
        )
    ]


def gradient_outliers(evidence: StudyEvidence) -> list[Finding]:
    """`gradient-outliers`: most good trials have unclipped gradients with norms far above those around them."""
    good = _good_read(evidence)
    found = {run: _outliers(run) for run in _all(good)}
    shown = shown_by_most(good, _strengths(good, lambda run: found[run][0] or None))
    if shown is None:
        return []
    first = shown.runs[0]
    share, largest = found[first]
    return [
        Finding(
            id="gradient-outliers",
            level="warning",
            sentence=f"{share:.1%} of the gradients of trial {shown.trials[0]} are outliers, up to {largest:.3g} times "
            f"the norms around them, and {shown.them}{in_settings(evidence, shown.settings)} "
            f"{shown.they('has', 'have')} some: they can make training unstable.",
            action="clip the gradients just above the typical norm",
            settings=shown.settings,
            trials=shown.trials,
            numbers={"largest_share": share, "times_those_around": largest, **_counts(shown)},
            sureness=shown.sureness,
            command=sweep_command(evidence, "clip-sweep", first),
        )
    ]


def _outliers(run: Run) -> tuple[float, float]:
    """The share of updates with unclipped outlier norms, and the largest of these in units of the norms around it."""
    updates = run.updates
    norms, first = updates.gradient_norm, FIRST_GRADIENTS_PART * len(updates)
    seen = [update for update in outlier_norms(norms).updates if update >= first and usable(norms[update])]
    loose = [update for update in seen if not updates.clipped[update] and not updates.skipped[update]]
    finite = np.where(usable(norms), norms, np.nan)
    around = [finite[max(0, update - OUTLIER_WINDOW // 2) : update + OUTLIER_WINDOW // 2 + 1] for update in loose]
    times = [norms[update] / max(float(np.nanmedian(near)), 1e-300) for update, near in zip(loose, around, strict=True)]
    far = [value for value in times if value >= FAR_OUT]
    if len(far) < FEWEST_OUTLIERS or len(far) < OUTLIER_SHARE * len(updates):
        return 0.0, 0.0
    return len(far) / len(updates), float(max(far))


def clipping_too_aggressive(evidence: StudyEvidence) -> list[Finding]:
    """`clipping-too-aggressive`: more than half of the updates of most good trials are clipped."""
    good = _good_read(evidence)
    fractions = {run: clipped_fraction(run.updates) for run in _all(good)}
    often = {run.plan.trial: part for run, part in fractions.items() if part > AGGRESSIVE_FRACTION}
    shown = shown_by_most(good, often)
    if shown is None:
        return []
    best = next(run for runs in good.values() for run in runs if run in shown.runs)
    fraction = fractions[shown.runs[0]]
    change = _higher_threshold(evidence, best)
    return [
        Finding(
            id="clipping-too-aggressive",
            level="warning",
            sentence=f"{fraction:.0%} of the updates of trial {shown.trials[0]} are clipped, and more than half of "
            f"them in {shown.them}{in_settings(evidence, shown.settings)}: this only lowers the learning rate, in a "
            "roundabout way.",
            action="raise the threshold to just above the typical norm, and lower the learning rate if necessary",
            settings=shown.settings,
            hyperparameters=tuple(item.key for item in evidence.spec.alternatives("grad_clip_norm")),
            trials=shown.trials,
            numbers={
                "largest_clipped_fraction": fraction,
                "norm_at_90th_percentile": clip_threshold(best.updates.gradient_norm),
                **_counts(shown),
            },
            sureness=shown.sureness,
            command="" if change is not None else sweep_command(evidence, "clip-sweep", best),
            changes=() if change is None else (change,),
        )
    ]


def _higher_threshold(evidence: StudyEvidence, best: Run) -> Change | None:
    """The clipping threshold that the norms of the best trial suggest, where the study has one fixed value."""
    threshold = clip_threshold(best.updates.gradient_norm)
    if threshold is None or not evidence.spec.alternatives("grad_clip_norm"):
        return None
    value = float(f"{threshold:.3g}")
    reason = f"the {CLIP_PERCENTILE:.0f}th percentile of the norms of trial {best.plan.trial}"
    return fixed_field(evidence, "grad_clip_norm", value, reason)


def loss_plateau(evidence: StudyEvidence) -> list[Finding]:
    """`plateau`: the minibatch loss of most good trials of a setting stops falling in the first half, far from fitted.

    Settings for which `saturated-early` says the same are left out.
    """
    said = {setting for finding in saturated_early(evidence) for setting in finding.settings}
    good = {setting: runs for setting, runs in _good_read(evidence).items() if setting not in said}
    stuck = {run: _stuck(run) for run in _all(good)}
    shown = shown_by_most(good, {run.plan.trial: seen[1] for run, seen in stuck.items() if seen is not None})
    if shown is None:
        return []
    seen = [found for run in shown.runs if (found := stuck[run]) is not None]
    begin, level = max(found[0] for found in seen), seen[0][1]
    return [
        Finding(
            id="plateau",
            level="warning",
            sentence=f"The minibatch loss of {shown.them}{in_settings(evidence, shown.settings)} stops falling within "
            f"the first {begin:.0%} of training, at {level:.0%} of its first level in trial {shown.trials[0]}.",
            action=UNDERFIT_ACTION,
            settings=shown.settings,
            trials=shown.trials,
            numbers={"highest_level_as_share_of_start": level, "stopped_by_share": begin, **_counts(shown)},
            sureness=shown.sureness,
            changes=decay_instead(evidence, shown.runs),
        )
    ]


def _stuck(run: Run) -> tuple[float, float] | None:
    """Where the earliest plateau far from fitted begins, as a part of training, and its level, as a part of the loss at
    the beginning (or of a constant prediction, if that is lower).
    """
    # A plateau from an early part on is also one from a later part on.
    if _stuck_from(run, BEGINNINGS[-1]) is None:
        return None
    found = ((begin, _stuck_from(run, begin)) for begin in BEGINNINGS)
    return next(((begin, level) for begin, level in found if level is not None), None)


def _stuck_from(run: Run, begin: float) -> float | None:
    loss = run.updates.loss
    found = plateau(loss, baseline=run.baseline_loss, fraction=1 - begin)
    start = float(np.median(loss[:5]))
    if run.baseline_loss is not None:
        start = min(start, run.baseline_loss)
    if found is None or start <= 0 or found.level < FAR_FROM_FITTED * start:
        return None
    count = len(loss)
    around = loss[int(begin * count) : int((begin + PLATEAU_AFTER) * count)]
    late = loss[int(late_from(begin) * count) :]
    gained = start - found.level
    error = float(np.std(late)) * math.sqrt(1 / len(around) + 1 / len(late))
    fall = float(around.mean() - late.mean())
    is_flat = fall <= PLATEAU_FALL * gained + error and fall + 2 * error <= max(PLATEAU_BOUND * gained, 3 * error)
    return found.level / start if is_flat else None


def update_ratio(evidence: StudyEvidence) -> list[Finding]:
    """`update-ratio`, a note: in most good trials updates move the weights far more, or far less, than usual."""
    good = _good_read(evidence)
    ratios = {run: _mid_ratio(run) for run in _all(good)}
    large = shown_by_most(good, _strengths(good, lambda run: _far(ratios[run], 1.0)))
    small = shown_by_most(good, _strengths(good, lambda run: _far(ratios[run], -1.0)))
    return [
        _ratio_finding(evidence, shown, ratios, too_large=shown is large)
        for shown in (large, small)
        if shown is not None
    ]


def _ratio_finding(
    evidence: StudyEvidence, shown: Shown, ratios: Mapping[Run, float | None], *, too_large: bool
) -> Finding:
    ratio = float(np.median([ratios[run] or 0.0 for run in shown.runs]))
    return Finding(
        id="update-ratio",
        level="note",
        sentence=f"In the middle of training an update moves the weights of {shown.them}"
        f"{in_settings(evidence, shown.settings)} by {ratio:.1g} of their norm; about {TYPICAL_RATIO:g} is usual.",
        action=f"check whether a {'lower' if too_large else 'higher'} learning rate trains better",
        settings=shown.settings,
        trials=shown.trials,
        numbers={"median_update_ratio": ratio, **_counts(shown)},
        sureness=shown.sureness,
        command=sweep_command(evidence, "lr-sweep", shown.runs[0]),
    )


def _mid_ratio(run: Run) -> float | None:
    """The median of the update ratios in the middle of training; None if there are too few."""
    at, ratios = run.updates.update_ratio_steps, run.updates.update_ratio
    low, high = (part * len(run.updates) for part in MID_TRAINING)
    chosen: Floats = ratios[(at >= low) & (at <= high) & usable(ratios)]
    return float(np.median(chosen)) if len(chosen) >= FEWEST_RATIOS else None


def _far(ratio: float | None, sign: float) -> float | None:
    if ratio is None:
        return None
    away = sign * math.log(max(ratio, 1e-300) / TYPICAL_RATIO)
    return away if away > math.log(FAR_RATIO) else None


def _all(good: Good) -> list[Run]:
    return [run for runs in good.values() for run in runs]


def _counts(shown: Shown) -> dict[str, int]:
    return {"trials_showing": len(shown.runs), "good_trials_read": shown.good}
