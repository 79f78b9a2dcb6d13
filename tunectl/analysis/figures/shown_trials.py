"""Which trials the plots of a study show, by which names, and in which colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.wording import as_text, short_number

MOST_AXIS_TRIALS = 1000
"""At most this many trials are drawn on an axis plot: the best ones, and others evenly by id."""

MOST_BACKGROUND_CURVES = 60
"""At most this many curves are drawn: with more the background is unreadable."""

MOST_SERIES = 8
"""More colours cannot be distinguished: then several settings share one."""

FRONT = 4
"""At most this many of the best curves are drawn in front."""


def series_names(evidence: StudyEvidence) -> Mapping[int, str]:
    """The colour group of each setting: its name, or part of its name if there are many settings."""
    settings = evidence.settings
    names = list(dict.fromkeys(name for values in settings.values() for name in values))
    for count in range(len(names), 0, -1):
        groups = {
            setting: ", ".join(f"{name}={as_text(values[name])}" for name in names[:count] if name in values)
            for setting, values in settings.items()
        }
        if len(set(groups.values())) <= MOST_SERIES:
            return groups
    return dict.fromkeys(settings, "")


def setting_colours(series: Mapping[int, str]) -> list[str]:
    """The groups of settings in the order of their colours, the same in every plot; [] where there is one."""
    groups = list(dict.fromkeys(series.values()))
    return groups if len(groups) > 1 else []


def front_runs(evidence: StudyEvidence, among: Callable[[Run], bool] = lambda _run: True) -> list[Run]:
    """The trials that are drawn in front, the best first: the best of each setting, or the best few of a single one.

    Only trials for which `among` is true are drawn.
    """
    by_setting = [evidence.closest_first(list(filter(among, runs))) for runs in evidence.by_setting.values()]
    if len(by_setting) == 1:
        return by_setting[0][:FRONT]
    return evidence.closest_first([runs[0] for runs in by_setting if runs])[:FRONT]


def chosen_runs(evidence: StudyEvidence, runs: Sequence[Run], most: int, *, best: int | None = None) -> list[Run]:
    """At most `most` of the runs, by id: the `best` ones (by default half of them), and others evenly from the rest."""
    if len(runs) <= most:
        return list(runs)
    first = evidence.closest_first(runs)[: most // 2 if best is None else best]
    chosen = {run.plan.trial for run in first}
    rest = [run for run in runs if run.plan.trial not in chosen]
    places = most - len(first)
    chosen |= {rest[place * len(rest) // places].plan.trial for place in range(places)}
    return [run for run in runs if run.plan.trial in chosen]


def left_out_note(shown: int, runs: Sequence[Run]) -> list[str]:
    """What `chosen_runs` left out, in words; [] where it left out nothing."""
    return [f"{shown:,} of {len(runs):,} trials: the best, and others evenly"] if shown < len(runs) else []


def front_name(evidence: StudyEvidence, run: Run) -> str:
    """The name of a curve in front in the legend: the trial, and its setting where there are several."""
    name = evidence.setting_name(run.plan.setting)
    return f"trial {run.plan.trial}" + (f" ({name})" if len(evidence.settings) > 1 else "")


def trial_colours(evidence: StudyEvidence, runs: Sequence[Run]) -> list[str]:
    """The names of these trials' curves in the order of their colours: that of its setting, where there are several."""
    series = series_names(evidence)
    groups = setting_colours(series)
    names: dict[str, str] = {}
    for run in runs:
        names.setdefault(series[run.plan.setting], front_name(evidence, run))
    return [names.get(group, group) for group in groups] or [front_name(evidence, run) for run in runs]


def trial_label(run: Run) -> str:
    """A trial and its hyperparameters in one line."""
    values = ", ".join(
        f"{name} {short_number(value)}" if isinstance(value, float) else f"{name} {as_text(value)}"
        for name, value in run.plan.hyperparameters.items()
    )
    reason = f", {run.reason or run.state}" if not run.feasible else ""
    proposed = ", proposed by a model" if run.plan.suggestion else ""
    return f"trial {run.plan.trial}{proposed}{reason}: {values}"
