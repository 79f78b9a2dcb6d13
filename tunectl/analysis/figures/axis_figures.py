"""The basic hyperparameter axis plots of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunectl.analysis.figures.figures import Axis, Point, PointsFigure, slug
from tunectl.analysis.figures.shown_trials import (
    MOST_AXIS_TRIALS,
    chosen_runs,
    left_out_note,
    series_names,
    setting_colours,
    trial_label,
)
from tunectl.analysis.figures.study_axes import hyperparameter_axis, hyperparameter_place, value_axis
from tunectl.analysis.findings.finding_evidence import HyperparameterAxis, StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, short_number


def axis_figures(evidence: StudyEvidence) -> list[PointsFigure]:
    """The basic hyperparameter axis plots: each trial's best value against one hyperparameter, on its own scale.

    Before the alternatives of a name (the learning rates of several optimizers) comes a plot of all of them on one
    axis.
    """
    series = series_names(evidence)
    figures = []
    for name, own in axes_by_name(evidence).items():
        together = common_axis(name, own)
        if together is not None:
            figures.append(_axis_figure(evidence, own, series, together))
        figures += [_axis_figure(evidence, [axis], series, hyperparameter_axis(axis)) for axis in own]
    return figures


def axes_by_name(evidence: StudyEvidence) -> dict[str, list[HyperparameterAxis]]:
    """The axes on which there are trials, by the name of the hyperparameter; those of one name are its alternatives."""
    found: dict[str, list[HyperparameterAxis]] = {}
    for axis in evidence.axes:
        if axis.runs:
            found.setdefault(axis.hyperparameter.name, []).append(axis)
    return found


def common_axis(name: str, own: Sequence[HyperparameterAxis]) -> Axis | None:
    """The axis for several alternatives of a name; None where there is one, or they have no scale in common."""
    axes = [hyperparameter_axis(axis) for axis in own]
    if len(own) < 2 or len({axis.scale for axis in axes}) > 1 or axes[0].scale == "category":
        return None
    ends = [end for axis in axes for end in axis.searched or ()]
    return Axis(name, axes[0].scale, searched=(min(ends), max(ends)) if ends else None)


def _axis_figure(
    evidence: StudyEvidence, own: Sequence[HyperparameterAxis], series: Mapping[int, str], x: Axis
) -> PointsFigure:
    """The trials of one alternative of a hyperparameter, or of several of them, on this axis."""
    points = [point for axis in own for point in _earlier_points(evidence, axis)]
    is_proposed = bool(points)
    notes = []
    for axis in own:
        runs = chosen_runs(evidence, axis.runs, MOST_AXIS_TRIALS)
        notes += left_out_note(len(runs), axis.runs)
        points += [
            Point(
                hyperparameter_place(axis, run.plan.hyperparameters[axis.hyperparameter.name]),
                run.best_value if run.feasible else None,
                "proposed" if is_proposed else series[run.plan.setting],
                trial_label(run),
                run.plan.trial,
                above=above_target(evidence, run),
            )
            for run in runs
        ]
    colours = [] if is_proposed else setting_colours(series)
    return PointsFigure(
        f"axis-{slug(x.title)}",
        f"{x.title}: best value of every trial",
        x,
        value_axis(evidence.objective, [point.y for point in points], _best_of_each(evidence, points)),
        points,
        legend="trials" if is_proposed else "setting" if colours else "",
        colours=colours,
        notes=list(dict.fromkeys(notes)),
    )


def _best_of_each(evidence: StudyEvidence, points: Sequence[Point]) -> list[float | None]:
    """The best value of each series."""
    best: dict[str, float] = {}
    for point in points:
        if point.y is not None:
            best[point.series] = min(best.get(point.series, point.y), point.y, key=evidence.objective.cost)
    return [*best.values()]


def _earlier_points(evidence: StudyEvidence, axis: HyperparameterAxis) -> list[Point]:
    """The trials of another study from which the points were proposed, at most MOST_AXIS_TRIALS."""
    trials = evidence.earlier.trials[:MOST_AXIS_TRIALS] if evidence.earlier is not None else ()
    return [
        Point(
            hyperparameter_place(axis, item.hyperparameters[axis.hyperparameter.name]),
            item.value if item.state == "completed" else None,
            "earlier",
            f"trial {item.trial} of {item.folder}: {_values_in_words(item.hyperparameters)}",
            above=item.step if item.state == "completed" and item.value is None else None,
        )
        for item in trials
    ]


def above_target(evidence: StudyEvidence, run: Run) -> float | None:
    """The number of steps that a trial needs more of than this, where it never reached the target."""
    return run.last_step(evidence.objective) if run.never_reached(evidence.objective) else None


def _values_in_words(hyperparameters: Mapping[str, Scalar]) -> str:
    return ", ".join(
        f"{name} {short_number(value)}" if isinstance(value, float) else f"{name} {as_text(value)}"
        for name, value in hyperparameters.items()
    )
