"""What findings and plots rest on, gathered from a study folder: curves from its index, updates from trial folders."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

from tunectl.analysis.findings.finding_evidence import Evidence
from tunectl.analysis.results.runs import MeasuredCurve, Run, UpdateSeries, curves_of, curves_of_columns, joined
from tunectl.core.folders import StudyFolder
from tunectl.core.objective import Objective
from tunectl.core.records import Measurement, TrialOutcome
from tunectl.language.study_spec import StudySpec
from tunectl.store.index import Index
from tunectl.store.provenance import original_study_file
from tunectl.store.step_files import read_updates
from tunectl.store.trial_files import read_result, read_trial
from tunectl.store.written_files import read_written

MOST_UPDATES_READ = 40
"""Of so many trials at most the series of every update are read: each takes tens of milliseconds."""

_BEST_OF_SETTING = 3


def indexed_curves(index: Index) -> dict[int, dict[str, MeasuredCurve]]:
    """The curves of every trial that an index knows, by trial and metric."""
    names = index.metric_names()
    found: dict[int, dict[str, MeasuredCurve]] = {}
    for block in index.measurement_columns(names):
        found |= curves_of_columns(names, block)
    return found


def read_evidence(
    folder: StudyFolder,
    spec: StudySpec,
    outcomes: Sequence[TrialOutcome],
    curves: Mapping[int, Mapping[str, MeasuredCurve]],
    objective: Objective,
) -> Evidence:
    """The evidence of a study whose trials stand so; the curves of trials that are not among `curves` are read from
    their folders.
    """
    # Commands are given with the user's own file: a workload's file may be named from where it stands.
    spec = replace(spec, label=str(original_study_file(folder) or spec.file))
    telling = telling_trials(outcomes, objective)
    runs = [
        _run(folder, item, curves.get(item.plan.trial), with_updates=item.plan.trial in telling) for item in outcomes
    ]
    written, shared_folders = read_written(folder.written)
    return Evidence(
        spec, objective, tuple(runs), frozenset(telling), str(folder.path), tuple(written.values()), shared_folders
    )


def telling_trials(outcomes: Sequence[TrialOutcome], objective: Objective) -> set[int]:
    """The trials of which the updates are read: the best of every setting, then others evenly from the rest."""
    ended = [item for item in outcomes if item.state in ("completed", "infeasible")]
    if len(ended) <= MOST_UPDATES_READ:
        return {item.plan.trial for item in ended}
    ranked = sorted(ended, key=lambda item: _rank(item, objective))
    by_setting: dict[int, list[TrialOutcome]] = {}
    for item in ranked:
        by_setting.setdefault(item.plan.setting, []).append(item)
    # The best of every setting before the second best of any.
    rounds = [
        items[place].plan.trial
        for place in range(_BEST_OF_SETTING)
        for items in by_setting.values()
        if place < len(items)
    ]
    chosen = dict.fromkeys(rounds[: MOST_UPDATES_READ // 2])
    rest = [item.plan.trial for item in ended if item.plan.trial not in chosen]
    places = MOST_UPDATES_READ - len(chosen)
    return {*chosen, *(rest[place * len(rest) // places] for place in range(places))}


def _rank(item: TrialOutcome, objective: Objective) -> tuple[float, int]:
    loss = objective.cost(item.best_value) if item.state == "completed" else math.inf
    return loss, item.plan.trial


def _run(
    folder: StudyFolder, item: TrialOutcome, curves: Mapping[str, MeasuredCurve] | None, *, with_updates: bool
) -> Run:
    home = folder.trial(item.plan.trial)
    if curves is None:
        curves = {} if item.state == "pending" else curves_of(read_trial(home).measurements)
    result = read_result(home) if with_updates else None
    return Run(
        plan=item.plan,
        state=item.state,
        reason=item.reason,
        infeasible_step=item.infeasible_step,
        best_value=item.best_value,
        best_step=item.best_step,
        baseline_loss=result.baseline_loss if result is not None and not result.provisional else None,
        curves=curves,
        updates=joined(read_updates(home)) if with_updates else UpdateSeries(),
    )


def measurements_by_trial(index: Index, wanted: Container[int]) -> dict[int, list[Measurement]]:
    """The measurements that an index has of the wanted trials, by trial."""
    pairs: Iterable[tuple[int, Measurement]] = index.measurements()
    found = {trial: [item for _, item in group] for trial, group in groupby(pairs, key=itemgetter(0))}
    return {trial: items for trial, items in found.items() if trial in wanted}
