"""The plots of all hyperparameters at once: parallel coordinates, and the trials over each pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunectl.analysis.figures.axis_figures import axes_by_name, common_axis
from tunectl.analysis.figures.figures import Axis, PairsFigure, ParallelFigure, TrialOnAxes
from tunectl.analysis.figures.shown_trials import chosen_runs, left_out_note, trial_label
from tunectl.analysis.figures.study_axes import hyperparameter_axis, shaded_value, value_colours
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.sensitivity import sensitivities
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text

MOST_LINES = 300
"""At most this many trials are lines: the best ones, and others evenly by id."""

_BEST_LINES = 60
"""Among the lines are this many of the best trials; more of them would cover the others, all in one colour."""

MOST_AXES = 12
"""At most this many axes are side by side."""

MOST_PAIRED = 5
"""At most this many hyperparameters are paired, in ten small plots: those that explain most."""

_BEST_FIRST = "the best contrast most with the page"

FEWEST = 3
"""Fewer trials have no figure of all hyperparameters."""


@dataclass(frozen=True, slots=True)
class _SharedAxis:
    """An axis for a hyperparameter, or for all alternatives of one; `values` are those of the trials, by id."""

    axis: Axis
    keys: Sequence[str]
    values: Mapping[int, Scalar]

    def place(self, trial: int) -> float | str | None:
        """Where the trial is on the axis, None where the hyperparameter is not active."""
        value = self.values.get(trial)
        if value is None:
            return None
        return as_text(value) if self.axis.scale == "category" else float(value)


def _shared_axes(evidence: StudyEvidence) -> list[_SharedAxis]:
    found: list[_SharedAxis] = []
    for name, own in axes_by_name(evidence).items():
        together = common_axis(name, own)
        groups = [(together, own)] if together is not None else [(hyperparameter_axis(axis), [axis]) for axis in own]
        for axis, members in groups:
            values = {
                run.plan.trial: value for item in members for run, value in zip(item.runs, item.values, strict=True)
            }
            found.append(_SharedAxis(axis, [item.key for item in members], values))
    return found


def trial_axes_figures(evidence: StudyEvidence) -> list[ParallelFigure | PairsFigure]:
    """Parallel coordinates and the pairs of hyperparameters; [] where fewer than two vary, or few trials ended."""
    axes = _shared_axes(evidence)
    runs = chosen_runs(evidence, evidence.searched, MOST_LINES, best=_BEST_LINES)
    known = [value for run in runs if (value := shaded_value(evidence, run)) is not None]
    if len(axes) < 2 or len(runs) < FEWEST or not known:
        return []
    # The best are drawn last, over the others.
    runs = sorted(runs, key=lambda run: -evidence.objective.cost(shaded_value(evidence, run)))
    colour = value_colours(evidence, known)
    return [_parallel(evidence, axes, runs, colour), _pairs(evidence, axes, runs, colour)]


def _parallel(
    evidence: StudyEvidence, axes: Sequence[_SharedAxis], runs: Sequence[Run], colour: Axis
) -> ParallelFigure:
    shown, left = axes[:MOST_AXES], axes[MOST_AXES:]
    notes = [_BEST_FIRST, *left_out_note(len(runs), evidence.searched)]
    if left:
        notes.append(f"the first {MOST_AXES} hyperparameters that vary; {len(left)} others are left out")
    trials = [_on_axes(evidence, shown, run, with_value=True) for run in runs]
    title = "All hyperparameters and the value of each trial"
    drawn = [*(item.axis for item in shown), Axis(colour.title, colour.scale)]
    return ParallelFigure("parallel-coordinates", title, drawn, trials, colour, notes)


def _pairs(evidence: StudyEvidence, axes: Sequence[_SharedAxis], runs: Sequence[Run], colour: Axis) -> PairsFigure:
    shown = _most_important(evidence, axes)[:MOST_PAIRED]
    notes = [_BEST_FIRST, *left_out_note(len(runs), evidence.searched)]
    if len(shown) < len(axes):
        notes.append(f"the {len(shown)} hyperparameters that explain most; {len(axes) - len(shown)} others vary, too")
    trials = [_on_axes(evidence, shown, run, with_value=False) for run in runs]
    title = "Each pair of hyperparameters, by the value of each trial"
    return PairsFigure("pairs", title, [item.axis for item in shown], trials, colour, notes)


def _most_important(evidence: StudyEvidence, axes: Sequence[_SharedAxis]) -> list[_SharedAxis]:
    """The axes, those first that explain most of the objective; the others follow in the order of the study."""
    shares: dict[str, float] = {}
    for each in sensitivities(evidence):
        if each.response.asked == "objective" and each.model.effects:
            for key, effect in (*each.responding.items(), *each.silent.items()):
                shares[key] = max(shares.get(key, 0.0), effect.share)
    return sorted(axes, key=lambda item: -max(shares.get(key, -1.0) for key in item.keys))


def _on_axes(evidence: StudyEvidence, axes: Sequence[_SharedAxis], run: Run, *, with_value: bool) -> TrialOnAxes:
    values = [item.place(run.plan.trial) for item in axes]
    value = shaded_value(evidence, run)
    return TrialOnAxes([*values, value] if with_value else values, value, trial_label(run), run.plan.trial)
