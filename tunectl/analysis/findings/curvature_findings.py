"""What the measured curvature of the trials shows: the phenomena of the literature, and what limits the learning rate.

`analysis/curvature` finds them in one trial. These findings name the trials that show them, not only the good ones: a
study of curvature has few trials, chosen by hand, and what happens at a large learning rate is its subject.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from tunectl.analysis.curvature.catapults import Catapult, catapults
from tunectl.analysis.curvature.curvature_curves import (
    has_curvature,
    learning_rates,
    loss_ratio_curve,
    ratio_curve,
    sharpness_curve,
)
from tunectl.analysis.curvature.divergences import Departure, departure, divergence, has_diverged
from tunectl.analysis.curvature.edge_of_stability import LOWEST_AT_EDGE, edge_stretch
from tunectl.analysis.curvature.progressive_sharpening import Sharpening, progressive_sharpening
from tunectl.analysis.curvature.rate_limits import RateGroup, RateLimit, rate_limit
from tunectl.analysis.curvature.stability_intervals import TimeAbove, time_above
from tunectl.analysis.curves.good_trials import sweep_command
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.results.runs import Run
from tunectl.core.records import HAS_RESULT, Scalar
from tunectl.core.wording import counted, first_listed, listed, short_number

MOST_JUDGED = 500
"""At most this many trials are judged, spread evenly over those with measured curvature: each takes a millisecond."""

LEAST_PART = 0.05
"""Fewer of the judged trials than this part do not make a finding: in a large study one may show anything by chance."""

_MOST_NAMED = 6

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class _Seen(Generic[Item]):
    """The trials that show something, the clearest first, each with what it shows, out of `judged` trials."""

    found: Sequence[tuple[Run, Item]]
    judged: int
    noun: str = "trial"

    @property
    def runs(self) -> list[Run]:
        return [run for run, _ in self.found]

    @property
    def first(self) -> tuple[Run, Item]:
        return self.found[0]

    @property
    def trials(self) -> tuple[int, ...]:
        return tuple(run.plan.trial for run in self.runs)

    @property
    def settings(self) -> tuple[int, ...]:
        return tuple(sorted({run.plan.setting for run in self.runs}))

    @property
    def counts(self) -> dict[str, int]:
        return {"trials_showing": len(self.found), "trials_with_curvature": self.judged}

    @property
    def sureness(self) -> str:
        return f"{len(self.found)} of {counted(self.judged, self.noun)} with measured curvature"

    @property
    def others(self) -> str:
        """` (also trials 3 and 4)` for those after the first one."""
        ids = sorted(self.trials[1:])
        if not ids:
            return ""
        if len(ids) > _MOST_NAMED:
            return f" (also {len(ids)} more trials)"
        return f" (also {'trial' if len(ids) == 1 else 'trials'} {listed([str(trial) for trial in ids])})"


def measured_trials(evidence: StudyEvidence) -> list[Run]:
    """The ended trials with measured curvature, retrains too; of many, MOST_JUDGED of them."""
    ended = [run for run in evidence.runs if run.state in HAS_RESULT and has_curvature(run)]
    count = min(len(ended), MOST_JUDGED)
    return [ended[place * len(ended) // count] for place in range(count)]


def _seen(
    evidence: StudyEvidence, look: Callable[[Run], Item | None], strength: Callable[[Item], float]
) -> _Seen[Item] | None:
    """The trials in which `look` finds something; None if there are none, or too few."""
    judged = measured_trials(evidence)
    found = [(run, item) for run in judged if (item := look(run)) is not None]
    if not found or len(found) < LEAST_PART * len(judged):
        return None
    found.sort(key=lambda pair: (-strength(pair[1]), pair[0].plan.trial))
    return _Seen(found, len(judged))


def _finding(seen: _Seen[Item], name: str, sentence: str, action: str, **more: Any) -> Finding:
    numbers = {**more.pop("numbers", {}), **seen.counts}
    return Finding(
        id=name,
        level=more.pop("level", "note"),
        sentence=sentence,
        action=action,
        settings=seen.settings,
        trials=seen.trials,
        numbers=numbers,
        sureness=seen.sureness,
        **more,
    )


def above_stability_bound(evidence: StudyEvidence) -> list[Finding]:
    """`above-stability-bound`, a note: trials are clearly above the stability bound for long."""
    seen = _seen(evidence, _time_above, lambda item: item.share)
    if seen is None:
        return []
    run, above = seen.first
    clipped = run.updates.clipped
    is_clipped = len(clipped) > 0 and 2 * int(np.sum(clipped)) > len(clipped)
    action = "a lower learning rate or a longer warmup keeps training below the bound; if the loss falls all the same"
    if is_clipped:
        action = "most updates of that trial are clipped, so they are smaller than the bound assumes; if the loss falls"
    return [
        _finding(
            seen,
            "above-stability-bound",
            f"Trial {run.plan.trial} is above the stability bound {_where_above(run, above)}, by a factor of up to "
            f"{short_number(above.highest.highest, 3)} at step {above.highest.highest_at}{seen.others}.",
            f"{action}, there is nothing to do",
            numbers={
                "intervals": [[interval.start, interval.end] for interval in above.intervals],
                "share_of_updates": above.share,
                "highest_ratio": above.highest.highest,
                "step_of_highest": above.highest.highest_at,
            },
            command=sweep_command(evidence, "warmup-sweep", run),
        )
    ]


def _time_above(run: Run) -> TimeAbove | None:
    diverged = has_diverged(run)
    # What only the L2 term puts above the bound is harmless.
    is_of_loss = time_above(loss_ratio_curve(run), diverged=diverged) is not None
    return time_above(ratio_curve(run), diverged=diverged) if is_of_loss else None


def _where_above(run: Run, above: TimeAbove) -> str:
    first, last = above.intervals[0], above.intervals[-1]
    if above.to_the_end:
        where = divergence(run)
        end = f" at step {where.end}" if where is not None else ""
        return f"from step {first.start} on until it diverges{end}"
    parts = "" if len(above.intervals) == 1 else f" in {len(above.intervals)} intervals"
    return f"for {above.share:.0%} of its updates, from step {first.start} to {last.end}{parts}"


def left_the_stable_region(evidence: StudyEvidence) -> list[Finding]:
    """`left-the-stable-region`: in trials that diverge, the ratio to the bound crosses 1 shortly before.

    A warning where more than half of all ended trials do that; in a search over learning rates some are expected to.
    """
    seen = _seen_in_diverged(evidence)
    if seen is None:
        return []
    run, left = seen.first
    ended = [other for other in evidence.runs if other.state in HAS_RESULT]
    return [
        _finding(
            seen,
            "left-the-stable-region",
            f"Trial {run.plan.trial} leaves the stable region at step {left.above} and diverges: its largest "
            f"eigenvalue is below the stability bound at step {left.below}, above it at step {left.above} and up to "
            f"{short_number(left.highest, 3)} times the bound after that; {_loss_words(left)}{seen.others}.",
            f"make training stable around step {left.above}: a warmup beyond that step, clipped gradients, or a lower "
            "learning rate",
            level="warning" if 2 * len(seen.found) > len(ended) else "note",
            numbers={
                "last_step_below": left.below,
                "first_step_above": left.above,
                "highest_ratio": left.highest,
                "loss_rises_from": left.divergence.start,
                "diverged_at": left.divergence.end,
                "first_steps_above": {item.plan.trial: found.above for item, found in seen.found},
            },
            command=sweep_command(evidence, "warmup-sweep", run),
        )
    ]


def _seen_in_diverged(evidence: StudyEvidence) -> _Seen[Departure] | None:
    """The departures, as a part of the trials that diverged: the others cannot show one."""
    judged = [run for run in measured_trials(evidence) if has_diverged(run)]
    found = [(run, item) for run in judged if (item := departure(run)) is not None]
    found.sort(key=lambda pair: (-pair[1].highest, pair[0].plan.trial))
    return _Seen(found, len(judged), "diverged trial") if found else None


def _loss_words(left: Departure) -> str:
    where = left.divergence
    if where.start < where.end:
        return f"its loss rises from step {where.start} on, and it is lost at step {where.end}"
    return f"it is lost at step {where.end}"


def catapult_findings(evidence: StudyEvidence) -> list[Finding]:
    """`catapult`, a note: the loss rises while the ratio to the bound is above 1, then both fall, training goes on."""
    seen = _seen(evidence, lambda run: catapults(run) or None, lambda items: max(item.factor for item in items))
    if seen is None:
        return []
    run, found = seen.first
    first: Catapult = max(found, key=lambda item: item.factor)
    more = f", one of its {len(found)} catapults" if len(found) > 1 else ""
    return [
        _finding(
            seen,
            "catapult",
            f"Trial {run.plan.trial} has a catapult at step {first.start}{more}: its loss rises by a factor of "
            f"{short_number(first.factor, 3)} until step {first.peak} while its largest eigenvalue is "
            f"{short_number(first.ratio_before, 3)} times the stability bound, then both fall, the eigenvalue to "
            f"{short_number(first.ratio_after, 3)} of the bound, and training goes on{seen.others}.",
            "nothing to do if the result is good; a warmup avoids the rise",
            numbers={
                "steps": [[item.start, item.peak, item.end] for item in found],
                "largest_factor": first.factor,
                "ratio_before": first.ratio_before,
                "ratio_after": first.ratio_after,
            },
            command=sweep_command(evidence, "warmup-sweep", run),
        )
    ]


def progressive_sharpening_findings(evidence: StudyEvidence) -> list[Finding]:
    """`progressive-sharpening`, a note: λ1 grows in the course of training, more than the learning rate explains."""
    seen = _seen(evidence, _sharpening, lambda item: item.factor)
    if seen is None:
        return []
    run, found = seen.first
    ratio = ratio_curve(run)
    near = ratio.values[ratio.steps == found.end]
    to = f", to {short_number(float(near[0]), 2)} of the stability bound" if len(near) else ""
    return [
        _finding(
            seen,
            "progressive-sharpening",
            f"The largest eigenvalue λ1 of trial {run.plan.trial} grows from {short_number(found.low, 3)} at step "
            f"{found.start} to {short_number(found.high, 3)} at step {found.end}{to}{seen.others}.",
            "judge the stability of a learning rate by λ1 later in training, not by λ1 at the start",
            numbers={
                "factor": found.factor,
                "steps": [found.start, found.end],
                "lambda_1": [found.low, found.high],
                "ratio_at_the_end": float(near[0]) if len(near) else None,
            },
        )
    ]


def _sharpening(run: Run) -> Sharpening | None:
    curve = sharpness_curve(run)
    return progressive_sharpening(curve, learning_rates(run, curve.steps))


def edge_of_stability_findings(evidence: StudyEvidence) -> list[Finding]:
    """`edge-of-stability`, a note: the largest eigenvalue stays near the stability bound."""
    seen = _seen(evidence, lambda run: edge_stretch(ratio_curve(run)), lambda item: item.share)
    if seen is None:
        return []
    run, found = seen.first
    return [
        _finding(
            seen,
            "edge-of-stability",
            f"Trial {run.plan.trial} trains at the edge of stability for {found.share:.0%} of its updates: from step "
            f"{found.start} to {found.end} its largest eigenvalue is {short_number(found.median, 3)} times the "
            f"stability bound in the median{seen.others}.",
            "nothing to do: the learning rate sets the curvature there, and another initialisation would not change it",
            numbers={"steps": [found.start, found.end], "median_ratio": found.median, "share_of_updates": found.share},
        )
    ]


def curvature_limited(evidence: StudyEvidence) -> list[Finding]:
    """`curvature-limited`, a note: every setting's and batch size's best learning rate is the largest that trains."""
    members = _rate_members(evidence)
    limit = rate_limit({place: _group(evidence, runs) for place, runs in enumerate(members.values())})
    if limit is None:
        return []
    names = [_group_name(evidence, setting, batch) for setting, _, batch in members]
    best = [evidence.ranked(runs)[0] for runs in members.values()]
    rates = [
        f"{short_number(limit.best[place], 3)}{f' for {name}' if name else ''} (diverges at "
        f"{short_number(limit.diverges[place], 3)})"
        for place, name in enumerate(names)
    ]
    what = "of every batch size" if limit.batches > 1 else "of every setting" if len(rates) > 1 else "found"
    curvature = "; there, the largest eigenvalue comes near the stability bound" if limit.measured else ""
    return [
        Finding(
            id="curvature-limited",
            level="note",
            sentence=f"The best learning rate {what} is the largest that does not diverge: "
            f"{first_listed(rates, _MOST_NAMED)}{curvature}. Conditioning, not noise, is the limit.",
            action="make larger rates possible: a warmup, clipped gradients, normalization, or a smaller "
            "initialisation; a larger batch gains little before that",
            settings=tuple(sorted({setting for setting, _, _ in members})),
            hyperparameters=tuple(dict.fromkeys(key for _, key, _ in members)),
            trials=tuple(run.plan.trial for run in best),
            numbers=_limit_numbers(limit),
            sureness=f"p = {limit.chance:.2g}" + (", and the measured curvature agrees" if limit.measured else ""),
            command=sweep_command(evidence, "warmup-sweep", best[0]),
        )
    ]


GroupKey = tuple[int, str, Scalar | None]
"""A setting, the key of its learning rate, and a batch size, None where batch sizes are not compared."""


def _rate_members(evidence: StudyEvidence) -> dict[GroupKey, list[Run]]:
    """The searched trials of each setting, learning-rate hyperparameter, and batch size of a set."""
    batch_axes = [axis for axis in evidence.axes if axis.hyperparameter.name == "batch_size"]
    is_listed = bool(batch_axes) and all(axis.hyperparameter.domain.listed is not None for axis in batch_axes)
    found: dict[GroupKey, list[Run]] = {}
    for axis in evidence.axes:
        if axis.hyperparameter.name == "learning_rate":
            for run in axis.runs:
                batch = run.plan.hyperparameters.get("batch_size") if is_listed else None
                found.setdefault((run.plan.setting, axis.key, batch), []).append(run)
    return found


def _group(evidence: StudyEvidence, runs: Sequence[Run]) -> RateGroup:
    ranked = evidence.ranked(runs)
    batch = runs[0].plan.hyperparameters.get("batch_size")
    return RateGroup(
        rates=np.array([float(run.plan.hyperparameters["learning_rate"]) for run in runs]),
        costs=evidence.ordered_costs(runs) if ranked else evidence.costs(runs),
        diverged=np.array([has_diverged(run) for run in runs], dtype=bool),
        batch_size=batch if isinstance(batch, int) else None,
        reaches_bound=_reaches_bound(ranked[0]) if ranked else None,
    )


def _reaches_bound(run: Run) -> bool | None:
    """Whether the measured ratio comes near the bound; None where that is not known."""
    ratio = ratio_curve(run).decided(LOWEST_AT_EDGE)
    return bool((ratio.values >= LOWEST_AT_EDGE).any()) if len(ratio) else None


def _group_name(evidence: StudyEvidence, setting: int, batch: Scalar | None) -> str:
    values = evidence.settings.get(setting, {})
    names = [evidence.setting_name(setting)] if values else []
    if batch is not None and "batch_size" not in values:
        names.append(f"batch_size={batch}")
    return ", ".join(names)


def _limit_numbers(limit: RateLimit) -> dict[str, Any]:
    return {
        "best_rates": list(limit.best.values()),
        "lowest_diverged_rates": list(limit.diverges.values()),
        "chance": limit.chance,
        "growth_of_best_rate": limit.growth,
        "growth_of_batch_size": limit.batches,
        "curvature_agrees": limit.measured,
    }
