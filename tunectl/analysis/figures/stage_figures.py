"""The plot of the promoted trials: what each reached when it was short, and when it was long."""

from __future__ import annotations

from dataclasses import replace

from tunectl.analysis.figures.figures import Point, PointsFigure
from tunectl.analysis.figures.shown_trials import series_names, setting_colours, trial_label
from tunectl.analysis.figures.study_axes import value_axis
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.stage_findings import paired_stages
from tunectl.language.stage_lengths import stage_words


def stage_figures(evidence: StudyEvidence) -> list[PointsFigure]:
    """The long trials by the values of the short ones that they repeat; [] without a stage before."""
    series = series_names(evidence)
    points = [
        Point(short.best_value, long.best_value if long.feasible else None, series[setting], trial_label(long), trial)
        for setting, item in paired_stages(evidence).items()
        for short, long in zip(item.short, item.long, strict=True)
        if short.best_value is not None and (long.best_value is not None or not long.feasible)
        for trial in [long.plan.trial]
    ]
    if len(points) < 2:
        return []
    before, here = (stage_words(item.spec, item.stage) for item in (evidence.earlier_stages[-1], evidence))
    x = value_axis(evidence.objective, [point.x for point in points if isinstance(point.x, float)])
    y = value_axis(evidence.objective, [point.y for point in points])
    return [
        PointsFigure(
            "stages",
            f"What the promoted trials reached in {before} and in {here}",
            replace(x, title=f"{before}: {x.title}"),
            replace(y, title=f"{here}: {y.title}"),
            points,
            legend="setting" if len({point.series for point in points}) > 1 else "",
            colours=setting_colours(series),
        )
    ]
