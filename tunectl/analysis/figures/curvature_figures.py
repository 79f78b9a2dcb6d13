"""The plots of measured curvature: eigenvalues with their bound, the ratio, and what was measured at the same steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tunectl.analysis.curvature.curvature_curves import at_steps, has_curvature
from tunectl.analysis.curvature.stability_intervals import AT_BOUND
from tunectl.analysis.curves.thinned_curves import MOST_CURVE_POINTS, with_extremes
from tunectl.analysis.figures.curvature_events import EVENT_NOTES, loss_events, ratio_events
from tunectl.analysis.figures.figures import Axis, AxisScale, Curve, CurvesFigure, MarkedValue, scale_of, slug
from tunectl.analysis.figures.shown_trials import (
    FRONT,
    MOST_BACKGROUND_CURVES,
    MOST_SERIES,
    chosen_runs,
    front_name,
    front_runs,
    trial_colours,
    trial_label,
)
from tunectl.analysis.figures.study_figures import STEPS
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import LARGEST, Floats, Run
from tunectl.core.measurement_kinds import CURVATURE, MOST_EIGENVALUES, search_metric
from tunectl.core.wording import counted, short_number

HIGHEST_BOUND = 30.0
"""A bound above this many times the largest eigenvalue of all is not drawn: at the end of a decay to 0, and at the
beginning of a warmup from 0, it grows without limit.
"""

LOWEST_PART = 1e-3
"""Of a ratio, and of the learning rate beside the critical one, what is smaller than this part of 1 (of the lowest
critical rate) is not drawn: at the end of a decay to 0 they fall without limit.
"""

DIFFERENT = 0.01
"""The ratio to the paper's line is drawn beside the ratio where they differ by more than this part."""

_NEARLY_ALIKE = 3.0
"""A logarithmic axis of values that differ by less than this factor would have hardly a tick."""

_PRECONDITIONED, _WITH_DECAY = "preconditioned_lambda_1", "lambda_1_with_decay"
_TITLES = {metric.name: metric.title for metric in CURVATURE.metrics}


@dataclass(frozen=True, slots=True)
class DrawnTrial:
    """A trial with curvature as it is drawn: `series` is its name in the legend, "" for a dimmed one."""

    run: Run
    series: str

    @property
    def dimmed(self) -> bool:
        """Whether it is drawn behind the others."""
        return not self.series

    def measured(self, name: str) -> tuple[Floats, Floats]:
        """The steps and values of a metric of curvature, each of shape [lines]."""
        return self.run.curve(CURVATURE.column(name))

    def curve(self, name: str, values: Floats | None = None, *, dashed: bool = False) -> Curve:
        """The curve of a metric, with these values instead of its own where they are given."""
        steps, own = self.measured(name)
        values = own if values is None else values
        label = f"{trial_label(self.run)}: {CURVATURE.column(name)}"
        return Curve(steps.tolist(), values.tolist(), self.series, label, self.run.plan.trial, self.dimmed, dashed)


def curvature_figures(evidence: StudyEvidence) -> list[CurvesFigure]:
    """The plots of a study's curvature by step, all over the same steps; [] where no trial measured it.

    The best trials are in front, those that diverged too where there is room, and the others are dimmed.
    """
    trials = drawn_trials(evidence)
    if not trials:
        return []
    found = [
        _eigenvalue_figure(trials, preconditioned=False),
        _eigenvalue_figure(trials, preconditioned=True),
        _ratio_figure(trials),
        _loss_figure(trials),
        _plain_figure(trials, "gradient_norm"),
        _critical_rate_figure(trials),
        _plain_figure(trials, "directional"),
        _plain_figure(trials, "gradient_quotient"),
    ]
    measured = [trial.run.curves[name][0] for trial in trials for name in trial.run.curves if _is_curvature(name)]
    steps = (float(min(at[0] for at in measured)), float(max(at[-1] for at in measured)))
    axis = replace(STEPS, searched=steps)
    colours = trial_colours(evidence, [trial.run for trial in trials if trial.series])
    figures = [replace(figure, colours=colours) for figure in found if figure is not None]
    spectrum = _spectrum_figure(trials)
    return [replace(figure, x=axis) for figure in [*figures, *([spectrum] if spectrum is not None else [])]]


def _is_curvature(metric: str) -> bool:
    return metric.startswith(CURVATURE.column(""))


def drawn_trials(evidence: StudyEvidence) -> list[DrawnTrial]:
    """The trials that are drawn, those in front first."""
    measured = [run for run in evidence.searched if has_curvature(run)]
    front = front_runs(evidence, has_curvature)
    # What diverged is of interest here; of those the ones with the most lines.
    lost = sorted((run for run in measured if not run.feasible), key=lambda run: -_lines(run))
    front += lost[: FRONT - len(front)]
    behind = [run for run in chosen_runs(evidence, measured, MOST_BACKGROUND_CURVES) if run not in front]
    return [
        *(DrawnTrial(run, front_name(evidence, run)) for run in front),
        *(DrawnTrial(run, "") for run in behind),
    ]


def _lines(run: Run) -> int:
    return max(len(steps) for name, (steps, _) in run.curves.items() if _is_curvature(name))


def _is_adaptive(run: Run) -> bool:
    """Whether a trial's optimizer has a preconditioner; its bound is about the preconditioned eigenvalue then."""
    return len(run.curve(CURVATURE.column(_PRECONDITIONED))[0]) > 0


def bounded_eigenvalue(run: Run) -> str:
    """The metric of the eigenvalue that the bound of a trial is about, as far as the trial measured it."""
    if len(run.curve(CURVATURE.column(_WITH_DECAY))[0]):
        return _WITH_DECAY
    return _PRECONDITIONED if _is_adaptive(run) else "lambda_1"


def _eigenvalue_figure(trials: Sequence[DrawnTrial], *, preconditioned: bool) -> CurvesFigure | None:
    """λ1, or the preconditioned λ1, with the bound dashed in the trials whose bound is about it."""
    plain = _PRECONDITIONED if preconditioned else "lambda_1"
    chosen = [
        (trial, bounded_eigenvalue(trial.run) if preconditioned == _is_adaptive(trial.run) else plain)
        for trial in trials
    ]
    pairs = [(trial, name) for trial, name in chosen if len(trial.measured(name)[0])]
    if not pairs:
        return None
    curves = [_eigenvalue_curve(trial, name) for trial, name in pairs]
    values = [value for curve in curves for value in curve.y]
    highest = HIGHEST_BOUND * max((value for value in values if value < LARGEST), default=0.0)
    bounds, cut = _bounds([pair for pair in pairs if not pair[0].dimmed], highest)
    scale = _sign_scale([*values, *(value for curve in bounds for value in curve.y)])
    notes = [*_convergence_notes(curves), *(_notes_on_signs(values) if scale == "log" else ())]
    if any(name == _WITH_DECAY for _, name in pairs):
        notes.append("with the weight decay where it is a part of the gradient")
    if cut:
        notes.append(f"a bound above {HIGHEST_BOUND:g} times the largest eigenvalue is not drawn")
    title = f"{_TITLES[plain][0].upper()}{_TITLES[plain][1:]}"
    return CurvesFigure(
        "curvature-preconditioned" if preconditioned else "curvature-lambda-1",
        f"{title}{', with the stability bound dashed' if bounds else ''}",
        STEPS,
        Axis(_TITLES[plain], scale),
        [*curves, *bounds],
        legend="trials",
        solid_name="",
        dashed_name="",
        notes=notes,
        more=("residual", "Hessian-vector products", "converged", "stability bound", "without weight decay"),
    )


def _eigenvalue_curve(trial: DrawnTrial, name: str) -> Curve:
    run, (steps, _) = trial.run, trial.measured(name)
    converged = at_steps(run, search_metric(name, "converged"), steps)
    unknown = np.full(len(steps), math.nan)
    bound = at_steps(run, "bound", steps) if name == bounded_eigenvalue(run) else unknown
    plain = at_steps(run, _PRECONDITIONED if _is_adaptive(run) else "lambda_1", steps)
    more = (
        at_steps(run, search_metric(name, "residual"), steps).tolist(),
        at_steps(run, search_metric(name, "products"), steps).tolist(),
        _yes_or_no(converged),
        bound.tolist(),
        (plain if name == _WITH_DECAY else unknown).tolist(),
    )
    return _shortened(replace(trial.curve(name), hollow=(converged == 0).tolist(), more=more))


def _yes_or_no(flags: Floats) -> list[str | None]:
    return [{0.0: "no", 1.0: "yes"}.get(flag) for flag in flags.tolist()]


def _bounds(pairs: Sequence[tuple[DrawnTrial, str]], highest: float) -> tuple[list[Curve], bool]:
    """The bounds of these trials, up to this value, and whether some are higher."""
    curves, cut = [], False
    for trial, name in pairs:
        steps, bound = trial.measured("bound")
        if name == bounded_eigenvalue(trial.run) and len(steps):
            cut = cut or bool((bound > highest).any())
            bound = np.where(bound > highest, math.nan, bound)
            curves.append(_shortened(trial.curve("bound", bound, dashed=True)))
    return [curve for curve in curves if any(map(math.isfinite, curve.y))], cut


def _ratio_figure(trials: Sequence[DrawnTrial]) -> CurvesFigure | None:
    """The eigenvalue as a multiple of the bound, and dashed of the paper's line, where that is another one."""
    whole = [_ratio_curve(trial) for trial in trials if len(trial.measured("ratio")[0])]
    beside = [_paper_curve(trial) for trial in trials if not trial.dimmed and _paper_differs(trial.run)]
    if not whole and not beside:
        return None
    known = [value for curve in [*whole, *beside] for value in curve.y if value < LARGEST]
    lowest = LOWEST_PART * min(1.0, max(known, default=1.0))
    curves, by_paper = ([_from(lowest, curve) for curve in group] for group in (whole, beside))
    events = [event for trial in trials for event in ratio_events(trial.run, trial.series)]
    notes = _convergence_notes(whole)
    # At a learning rate of 0 the ratio is 0, which says nothing.
    if any(value < lowest and value != 0 for value in known):
        notes.append(f"below {short_number(lowest)} nothing is drawn")
    if by_paper:
        notes.append("dashed: multiple of the line that Gilmer et al. 2021 draw (2/η, for Adam 40/η)")
    notes += [EVENT_NOTES[kind] for kind in EVENT_NOTES if any(event.kind == kind for event in events)]
    return CurvesFigure(
        "curvature-ratio",
        "Eigenvalue as a multiple of the stability bound",
        STEPS,
        Axis("eigenvalue / bound (unstable above 1)", "log"),
        [*curves, *by_paper],
        [MarkedValue(AT_BOUND, "stability bound", "y")],
        legend="trials",
        solid_name="",
        dashed_name="",
        events=events,
        notes=notes,
        more=("eigenvalue / line of the paper", "stability bound", "learning rate", "converged"),
    )


def _ratio_curve(trial: DrawnTrial) -> Curve:
    run, (steps, _) = trial.run, trial.measured("ratio")
    converged = at_steps(run, search_metric(bounded_eigenvalue(run), "converged"), steps)
    beside = [at_steps(run, name, steps).tolist() for name in ("paper_ratio", "bound", "learning_rate")]
    curve = replace(trial.curve("ratio"), hollow=(converged == 0).tolist(), more=(*beside, _yes_or_no(converged)))
    return _shortened(curve)


def _from(lowest: float, curve: Curve) -> Curve:
    """The curve without what is lower."""
    return replace(curve, y=[value if value >= lowest else math.nan for value in curve.y])


def _paper_curve(trial: DrawnTrial) -> Curve:
    return _shortened(trial.curve("paper_ratio", dashed=True))


def _paper_differs(run: Run) -> bool:
    steps, by_paper = run.curve(CURVATURE.column("paper_ratio"))
    ratio = at_steps(run, "ratio", steps)
    return bool((~(np.abs(by_paper - ratio) <= DIFFERENT * np.abs(by_paper))).any())


def _loss_figure(trials: Sequence[DrawnTrial]) -> CurvesFigure | None:
    """The loss over the measured examples, with the catapults."""
    figure = _plain_figure(trials, "loss")
    if figure is None:
        return None
    events = [event for trial in trials for event in loss_events(trial.run, trial.series)]
    kinds = [kind for kind in EVENT_NOTES if any(event.kind == kind for event in events)]
    return replace(figure, events=events, notes=[*figure.notes, *(EVENT_NOTES[kind] for kind in kinds)])


def _plain_figure(trials: Sequence[DrawnTrial], name: str) -> CurvesFigure | None:
    """A metric by itself."""
    curves = [_shortened(trial.curve(name)) for trial in trials if len(trial.measured(name)[0])]
    if not curves:
        return None
    values = [value for curve in curves for value in curve.y]
    title = _TITLES[name]
    return CurvesFigure(
        f"curvature-{slug(name.replace('_', '-'))}",
        f"{title[0].upper()}{title[1:]}",
        STEPS,
        Axis(title, scale_of(values)),
        curves,
        legend="trials",
    )


def _critical_rate_figure(trials: Sequence[DrawnTrial]) -> CurvesFigure | None:
    """The critical learning rate, and dashed the learning rate."""
    name = "critical_learning_rate"
    measured = [trial for trial in trials if len(trial.measured(name)[0])]
    if not measured:
        return None
    curves = [_critical_curve(trial) for trial in measured]
    lowest = LOWEST_PART * min((value for curve in curves for value in curve.y if value > 0), default=0.0)
    rates = [
        _from(lowest, _shortened(trial.curve("learning_rate", dashed=True))) for trial in measured if not trial.dimmed
    ]
    beyond = sum(flag for curve in curves for flag in curve.hollow)
    return CurvesFigure(
        "curvature-critical-learning-rate",
        "Critical learning rate, with the learning rate dashed",
        STEPS,
        Axis("critical learning rate", _sign_scale([value for curve in [*curves, *rates] for value in curve.y])),
        [*curves, *rates],
        legend="trials",
        solid_name="",
        dashed_name="",
        notes=[f"hollow: beyond this limit of the search ({beyond:,} times)"] if beyond else [],
        more=("critical rate / learning rate", "beyond the limit"),
    )


def _critical_curve(trial: DrawnTrial) -> Curve:
    run, (steps, _) = trial.run, trial.measured("critical_learning_rate")
    limit = at_steps(run, "critical_limit", steps)
    beyond: list[str | None] = [{-1.0: "it is lower", 1.0: "it is higher"}.get(side) for side in limit.tolist()]
    more = (at_steps(run, "critical_multiple", steps).tolist(), beyond)
    curve = trial.curve("critical_learning_rate")
    return _shortened(replace(curve, hollow=[side is not None for side in beyond], more=more))


def _spectrum_figure(trials: Sequence[DrawnTrial]) -> CurvesFigure | None:
    """The further eigenvalues of the first trial in front that measured some."""
    names = [*(f"lambda_{rank}" for rank in range(1, MOST_EIGENVALUES + 1)), "lambda_min"]
    for trial in trials:
        known = [name for name in names if len(trial.measured(name)[0])]
        if len(known) > 1 and not trial.dimmed:
            curves = [_shortened(replace(trial.curve(name), series=_series(name, len(known)))) for name in known]
            return CurvesFigure(
                "curvature-eigenvalues",
                f"Largest and smallest measured eigenvalues of the Hessian, trial {trial.run.plan.trial}",
                STEPS,
                Axis("eigenvalue of the Hessian", scale_of([value for curve in curves for value in curve.y])),
                curves,
                legend="eigenvalue",
            )
    return None


def _series(name: str, count: int) -> str:
    """The legend of an eigenvalue; more than MOST_SERIES colours cannot be distinguished."""
    if name in ("lambda_1", "lambda_min"):
        return {"lambda_1": "λ1, the largest", "lambda_min": "the smallest"}[name]
    return "λ" + name.removeprefix("lambda_") if count <= MOST_SERIES else "the next largest"


def _sign_scale(values: Sequence[float]) -> AxisScale:
    """Logarithmic where most values are positive and they are not all alike: a bound may be larger by magnitudes."""
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    is_log = 2 * len(positive) > len(finite) and max(positive) > _NEARLY_ALIKE * min(positive)
    return "log" if is_log else "linear"


def _notes_on_signs(values: Sequence[float]) -> list[str]:
    count = sum(value <= 0 for value in values)
    if not count:
        return []
    return [f"{counted(count, 'value')} of 0 or below {'is' if count == 1 else 'are'} not drawn"]


def _convergence_notes(curves: Sequence[Curve]) -> list[str]:
    count = sum(flag for curve in curves for flag in curve.hollow)
    of = sum(len(curve.y) for curve in curves)
    if not count:
        return []
    return [f"hollow: not converged, so the eigenvalue is this large or larger ({count:,} of {of:,})"]


def _shortened(curve: Curve) -> Curve:
    """A very long curve with fewer points."""
    if len(curve.y) <= MOST_CURVE_POINTS:
        return curve
    places, _ = with_extremes(np.arange(len(curve.y), dtype=float), np.asarray(curve.y, dtype=float))
    kept = places.astype(int).tolist()
    return replace(
        curve,
        x=[curve.x[place] for place in kept],
        y=[curve.y[place] for place in kept],
        hollow=[curve.hollow[place] for place in kept] if len(curve.hollow) else (),
        more=[[values[place] for place in kept] for values in curve.more],
    )
