"""`range-test`: a learning rate from one run in which it rises exponentially.

The run begins at 1e-7 and rises far above any rate that trains; the loss first falls, then blows up. The
suggestion lies where it falls most steeply against the logarithm of the rate; of a wild initialisation only what lies
below the loss of a constant prediction counts. The range reaches from there to the rate of the lowest loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, MarkedValue
from tunectl.analysis.results.runs import Run
from tunectl.analysis.updates.range_curve import RangeSuggestion, range_suggestion
from tunectl.core.records import Scalar
from tunectl.procedures.procedure import (
    CONSTANT_RATE,
    Conclusion,
    Procedure,
    ProcedureOptions,
    Results,
    SweepSpec,
    Wish,
)
from tunectl.procedures.rate_judgements import why_apart

PHASES = ("one run with a rising learning rate",)
LOW, HIGH, STEPS = 1e-7, 10.0, 500
FEWEST_STEPS = 50

WIDER = 3.0
"""A range that is widened to include a rate reaches this factor beyond it."""


@dataclass(frozen=True)
class RangeTestOptions(ProcedureOptions):
    """The options of `range-test`: the first and the last rate and the number of updates between them."""

    low: float | None = None
    high: float | None = None
    steps: int | None = None


RangeTest = SweepSpec[RangeTestOptions]


def _bounds(spec: RangeTest) -> tuple[float, float, int]:
    return spec.options.low or LOW, spec.options.high or HIGH, spec.options.steps or STEPS


def problems(spec: RangeTest) -> list[str]:
    """What is wrong with the options, a line for each."""
    low, high, steps = _bounds(spec)
    found = [] if 0 < low < high else [f"--low, --high: expected 0 < low < high, got {low:g} and {high:g}"]
    if steps < FEWEST_STEPS:
        found.append(f"--steps: expected at least {FEWEST_STEPS} for a curve that shows anything, got {steps}")
    return found


def next_trials(spec: RangeTest, results: Results) -> Sequence[Wish]:
    """The one run: clipping off, since it would hide what large rates do, and no evaluation on the way."""
    del results
    low, high, steps = _bounds(spec)
    off = (
        *("warmup_steps", "warmup", "post_warmup_steps"),
        *("grad_clip_norm", "grad_clip", "adaptive_clip_factor", "update_clip_rms"),
    )
    changes: dict[str, Scalar | None] = {
        **dict.fromkeys(off),
        **CONSTANT_RATE,
        "learning_rate": high,
        "schedule": "range_test",
        "range_test_low": low,
    }
    return [Wish(0, 0, 0, changes, {"max_train_steps": steps, "eval_every": steps, "keep_checkpoints": 1})]


def conclude(spec: RangeTest, results: Results) -> Conclusion:
    """The rate of the steepest descent and the range around it, or why the curve shows none."""
    run = results[0, 0, 0]
    found = range_suggestion(run.updates.learning_rate, run.updates.loss, run.baseline_loss)
    best = spec.beside.get("lr-sweep", {}).get("best_learning_rate")
    answers = {
        "suggestion": found.suggestion if found.clear else None,
        "low": found.low if found.clear else None,
        "high": found.high if found.clear else None,
        "clear": found.clear,
        "sweep_best_learning_rate": best,
    }
    verdict = " ".join([_verdict(found), *_against_sweep(found, best)])
    return Conclusion(verdict, answers, figures=[_curve(run, found, best)], advice=_advice(found, best))


def _verdict(found: RangeSuggestion) -> str:
    if not found.clear:
        return f"Unclear: {found.why}. Run lr-sweep instead, or a range test with other bounds or more steps."
    return (
        f"The loss falls most steeply at a learning rate of about {found.suggestion:.2g}; rates from {found.low:.2g} "
        f"to {found.high:.2g} are worth a sweep."
    )


def _against_sweep(found: RangeSuggestion, best: float | None) -> list[str]:
    """A sentence that compares it with the best rate of a sweep of the same configuration, where there is one."""
    if best is None:
        return []
    if not found.clear or found.low is None or found.high is None or found.suggestion is None:
        return [f"lr-sweep found {best:g}."]
    where = "is in that range" if found.low <= best <= found.high else "is not in that range"
    text = f"lr-sweep found {best:g}, {best / found.suggestion:.2g} times the steepest descent, which {where}"
    return [f"{text}."] if found.low <= best <= found.high else [f"{text}: {why_apart(best, found.high)}"]


def _advice(found: RangeSuggestion, best: float | None) -> str:
    """The range; it goes on to WIDER times the best rate of a sweep that it does not include."""
    if not found.clear or found.low is None or found.high is None:
        return ""
    low, high = found.low, found.high
    note = ""
    if best is not None and not low <= best <= high:
        low, high = min(low, best / WIDER), max(high, best * WIDER)
        note = f"  # wider than the test says, to include {best:g}, the best rate of lr-sweep"
    return f"learning_rate: {{role: nuisance, range: [{low:.1e}, {high:.1e}], scale: log}}{note}"


def _curve(run: Run, found: RangeSuggestion, best: float | None) -> CurvesFigure:
    named = {"suggestion": found.suggestion, "lowest loss": found.lowest_at, "best of lr-sweep": best}
    marks = [MarkedValue(rate, name) for name, rate in named.items() if rate is not None]
    if run.baseline_loss is not None:
        marks.append(MarkedValue(run.baseline_loss, "constant prediction", "y"))
    return CurvesFigure(
        "range-test",
        "Training loss under a rising learning rate",
        Axis("learning rate", "log"),
        Axis("minibatch loss", "log"),
        [Curve([float(rate) for rate in run.updates.learning_rate], [float(loss) for loss in run.updates.loss])],
        marks,
    )


RANGE_TEST = Procedure(
    "range-test", frozenset({"learning_rate"}), PHASES, RangeTestOptions, next_trials, conclude, problems
)
