"""The metrics of a study that show how well it validates and how well it fits, and their curves in the good trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tunectl.analysis.curves.curve_shapes import CostCurve, cost_curve
from tunectl.analysis.curves.good_trials import Shown, good_trials, shown_by_most
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run

GoodCurves = Mapping[int, Mapping[Run, CostCurve]]
"""The curves of good trials, by setting and trial."""

MINIBATCH_LOSS = "train/minibatch_loss"
TRAIN_LOSSES = ("train/loss", MINIBATCH_LOSS)


def valid_metric(evidence: StudyEvidence) -> str:
    """The objective's metric; where the objective is one of the training split, the same metric of validation."""
    split, _, name = evidence.objective.metric.partition("/")
    return f"valid/{name}" if split == "train" else evidence.objective.metric


def train_metric(evidence: StudyEvidence, run: Run) -> str:
    """The objective's metric on the training split, or else the training loss, whichever the trial has."""
    name = evidence.objective.metric.partition("/")[2]
    return next((metric for metric in (f"train/{name}", *TRAIN_LOSSES) if metric in run.curves), TRAIN_LOSSES[0])


def train_loss_metric(run: Run) -> str:
    """The training loss that the trial has."""
    return next((metric for metric in TRAIN_LOSSES if metric in run.curves), TRAIN_LOSSES[0])


def curve_of(evidence: StudyEvidence, run: Run, metric: str) -> CostCurve | None:
    """A metric's curve; a metric with the objective's name has its direction, on any split."""
    name = metric.partition("/")[2]
    maximize = evidence.objective.direction == "maximize" and name == evidence.objective.metric.partition("/")[2]
    baseline = run.baseline_loss if name in ("loss", "minibatch_loss") and not maximize else None
    return cost_curve(run, metric, maximize=maximize, baseline=baseline)


def learned_curves(evidence: StudyEvidence, metric: Callable[[Run], str] | None = None) -> GoodCurves:
    """The curves of the good trials that learned anything: of the objective, or of the metric that `metric` names."""
    found: dict[int, dict[Run, CostCurve]] = {}
    for setting, runs in good_trials(evidence).items():
        names = {run: metric(run) if metric is not None else evidence.objective.metric for run in runs}
        curves = {run: curve_of(evidence, run, name) for run, name in names.items()}
        found[setting] = {run: curve for run, curve in curves.items() if curve is not None and curve.learned}
    return found


def shown_by_curves(curves: GoodCurves, strength: Mapping[Run, float]) -> Shown | None:
    """The settings in which most of the trials with such curves have a `strength`, as `shown_by_most`."""
    judged = {setting: tuple(own) for setting, own in curves.items()}
    return shown_by_most(judged, {run.plan.trial: value for run, value in strength.items()})
