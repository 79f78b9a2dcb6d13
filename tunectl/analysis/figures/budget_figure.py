"""The best of k trials, by k: what fewer trials would have reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tunectl.analysis.figures.figures import Axis, Box, BoxesFigure
from tunectl.analysis.figures.shown_trials import series_names, setting_colours
from tunectl.analysis.figures.study_axes import value_axis
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.best_of_k import best_by_budget
from tunectl.analysis.results.runs import Run


def budget_figure(evidence: StudyEvidence) -> BoxesFigure | None:
    """The playbook's figure 3: the best of k trials, by k, over all ways to draw them."""
    series = series_names(evidence)
    groups: dict[str, list[Run]] = {}
    for setting, runs in evidence.evenly_sampled.by_setting.items():
        groups.setdefault(series[setting], []).extend(runs)
    boxes = [replace(box, series=name) for name, of_group in groups.items() for box in budget_boxes(evidence, of_group)]
    if len(boxes) < 2:
        return None
    categories = sorted({str(box.x) for box in boxes}, key=int)
    values = [value for box in boxes for value in (box.low, box.high)]
    return BoxesFigure(
        "budget",
        f"What the best of k trials would have been (half of the trials at most{_without(evidence)})",
        Axis("trials drawn, k", "category", categories),
        value_axis(evidence.objective, values),
        boxes,
        legend="setting" if len(groups) > 1 else "",
        colours=setting_colours(series),
    )


def _without(evidence: StudyEvidence) -> str:
    stopped = sum(run.state == "stopped" for run in evidence.runs)
    return f"; without {stopped} that were stopped early" if stopped else ""


def budget_boxes(evidence: StudyEvidence, runs: Sequence[Run]) -> Iterator[Box]:
    """What the best of k of these runs would have been, a box for each k."""
    counts = thinned_budgets(len(runs))
    for item in best_by_budget(evidence.costs(runs), counts) if counts else ():
        low, lower, median, upper, high = map(evidence.objective.value, item.quantiles)
        yield Box(str(item.trials), low, lower, median, upper, high)


def thinned_budgets(trials: int) -> list[int]:
    """The numbers of trials that get a box: powers of two from 1 on, and half of the trials."""
    most = trials // 2
    return sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), *([most] if most else [])})
