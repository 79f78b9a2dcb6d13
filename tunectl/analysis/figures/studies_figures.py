"""The plots of several studies side by side: each study has one colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tunectl.analysis.figures.axis_figures import axes_by_name, common_axis
from tunectl.analysis.figures.budget_figure import budget_boxes
from tunectl.analysis.figures.figures import (
    Axis,
    BoxesFigure,
    Curve,
    CurvesFigure,
    Figure,
    Point,
    PointsFigure,
    scale_of_curves,
    slug,
)
from tunectl.analysis.figures.shown_trials import MOST_AXIS_TRIALS, chosen_runs, left_out_note, trial_label
from tunectl.analysis.figures.study_axes import hyperparameter_axis, hyperparameter_place, value_axis
from tunectl.analysis.figures.study_figures import STEPS
from tunectl.analysis.findings.finding_evidence import HyperparameterAxis, StudyEvidence
from tunectl.analysis.results.runs import Run


@dataclass(frozen=True, slots=True)
class NamedStudy:
    """A study among several: its name there, and the number that its trial 0 has among the trials of all."""

    name: str
    evidence: StudyEvidence
    first: int

    def number(self, trial: int) -> int:
        """The number of one of its trials among those of all studies."""
        return self.first + trial


def studies_figures(studies: Sequence[NamedStudy]) -> list[PointsFigure]:
    """The best value of every trial, by study; [] where no trial ended."""
    points = [point for study in studies for point in _points(study, study.evidence.searched, study.name)]
    if not points:
        return []
    names = [study.name for study in studies]
    axis = Axis("study", "category", names)
    return [_points_figure(studies, "studies", "The best value of every trial of each study", axis, points)]


def shared_axis_figures(studies: Sequence[NamedStudy]) -> list[PointsFigure]:
    """A plot for each hyperparameter that varies in two or more of the studies, on one scale."""
    by_name: dict[str, list[tuple[NamedStudy, HyperparameterAxis]]] = {}
    for study in studies:
        for name, own in axes_by_name(study.evidence).items():
            by_name.setdefault(name, []).extend((study, axis) for axis in own)
    figures = []
    for name, found in by_name.items():
        if len({study.name for study, _ in found}) < 2:
            continue
        x = _axis_of_all(name, [axis for _, axis in found])
        if x is not None:
            points = [point for study, axis in found for point in _axis_points(study, axis)]
            figures.append(
                _points_figure(studies, f"axis-{slug(name)}", f"{name}: best value of every trial", x, points)
            )
    return figures


def _axis_of_all(name: str, axes: Sequence[HyperparameterAxis]) -> Axis | None:
    """One axis for all of them; None where they have no scale in common."""
    drawn = [hyperparameter_axis(axis) for axis in axes]
    if {axis.scale for axis in drawn} == {"category"}:
        return Axis(name, "category", list(dict.fromkeys(value for axis in drawn for value in axis.categories)))
    return common_axis(name, axes)


def _axis_points(study: NamedStudy, axis: HyperparameterAxis) -> Iterator[Point]:
    name = axis.hyperparameter.name
    for run in chosen_runs(study.evidence, axis.runs, MOST_AXIS_TRIALS):
        yield _point(study, run, hyperparameter_place(axis, run.plan.hyperparameters[name]))


def _points(study: NamedStudy, runs: Sequence[Run], x: str) -> Iterator[Point]:
    for run in chosen_runs(study.evidence, runs, MOST_AXIS_TRIALS):
        yield _point(study, run, x)


def _point(study: NamedStudy, run: Run, x: float | str) -> Point:
    above = run.last_step(study.evidence.objective) if run.never_reached(study.evidence.objective) else None
    label = f"{study.name}, {trial_label(run)}"
    value = run.best_value if run.feasible else None
    return Point(x, value, study.name, label, study.number(run.plan.trial), above=above)


def _points_figure(
    studies: Sequence[NamedStudy], name: str, title: str, x: Axis, points: Sequence[Point]
) -> PointsFigure:
    objective = studies[0].evidence.objective
    best = [found[0].best_value for study in studies if (found := study.evidence.ranked(study.evidence.searched))]
    y = value_axis(objective, [point.y for point in points], best)
    names = [study.name for study in studies]
    notes = [
        f"{study.name}: {note}"
        for study in studies
        for note in left_out_note(min(len(study.evidence.searched), MOST_AXIS_TRIALS), study.evidence.searched)
    ]
    return PointsFigure(name, title, x, y, points, legend="study", colours=names, notes=notes)


def best_curves(studies: Sequence[NamedStudy]) -> list[CurvesFigure]:
    """The objective's metric during the training of the best trial of each study; [] where none has it."""
    curves = []
    for study in studies:
        for run in study.evidence.closest_first(study.evidence.searched)[:1]:
            metric = study.evidence.objective.metric
            if metric in run.curves:
                steps, values = run.curve(metric)
                label = f"{study.name}, {trial_label(run)}: {metric}"
                trial = study.number(run.plan.trial)
                curves.append(Curve(steps.tolist(), values.tolist(), study.name, label, trial))
    if not curves:
        return []
    metric = studies[0].evidence.objective.metric
    axis = Axis(metric, scale_of_curves(curves, [value for curve in curves for value in curve.y]))
    title = f"{metric} during the training of the best trial of each study"
    names = [study.name for study in studies]
    return [CurvesFigure(f"curves-{slug(metric)}", title, STEPS, axis, curves, legend="study", colours=names)]


def budgets_figure(studies: Sequence[NamedStudy]) -> list[Figure]:
    """What the best of k trials would have been in each study; [] where there are too few trials."""
    boxes = [
        replace(box, series=study.name)
        for study in studies
        for box in budget_boxes(study.evidence.of_search, study.evidence.of_search.evenly_sampled.searched)
    ]
    if len(boxes) < 2:
        return []
    categories = sorted({str(box.x) for box in boxes}, key=int)
    values = [value for box in boxes for value in (box.low, box.high)]
    return [
        BoxesFigure(
            "budget",
            "What the best of k trials of each study would have been (half of its trials at most)",
            Axis("trials drawn, k", "category", categories),
            value_axis(studies[0].evidence.objective, values),
            boxes,
            legend="study",
            colours=[study.name for study in studies],
        )
    ]
