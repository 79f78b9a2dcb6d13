"""The tables of a study that answer a question: isolation, best trials, retrains."""

from __future__ import annotations

from collections.abc import Sequence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.retrains import Retrained
from tunectl.analysis.search.isolation import Isolation
from tunectl.core.table_columns import Cell, Column
from tunectl.report.table import Table

BEST_OF_SETTING = 5
"""The number of trials of a setting that are listed."""


def isolation_table(found: Sequence[Isolation]) -> Table:
    """One row a value, or a bucket of a range, with its best trial; missing where no trial in it is feasible.

    The baseline, trials without the hyperparameter, comes last.
    """
    columns = (
        Column("hyperparameter", "text"),
        Column("value", "text"),
        Column("best_value", "real"),
        Column("best_trial", "whole"),
        Column("best_step", "whole"),
        Column("trials", "whole"),
        Column("infeasible", "whole"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            isolation.axis.key,
            item.place,
            item.best.best_value if item.best else None,
            item.best.plan.trial if item.best else None,
            item.best.best_step if item.best else None,
            item.trials,
            item.infeasible,
        )
        for isolation in found
        for item in (*isolation.values, *isolation.baselines)
    ]
    return Table(columns, rows)


def best_trials_table(evidence: StudyEvidence) -> Table:
    """The best trials of each setting, the best first, with the hyperparameters that vary."""
    names = list(dict.fromkeys(item.name for item in evidence.spec.hyperparameters if item.varies))
    columns = (
        Column("trial", "whole"),
        Column("setting", "whole"),
        Column("best_value", "real"),
        Column("best_step", "whole"),
        *(Column(name, "scalar") for name in names),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            run.plan.trial,
            setting,
            run.best_value,
            run.best_step,
            *(run.plan.hyperparameters.get(name) for name in names),
        )
        for setting, runs in evidence.by_setting.items()
        for run in evidence.ranked(runs)[:BEST_OF_SETTING]
    ]
    return Table(columns, rows)


def retrains_table(found: Sequence[Retrained]) -> Table:
    """One row a trial that was trained again, with what its retrains came to."""
    columns = (
        Column("trial", "whole"),
        Column("setting", "whole"),
        Column("search_value", "real"),
        Column("retrains", "whole"),
        Column("mean", "real"),
        Column("standard_deviation", "real"),
        Column("least", "real"),
        Column("most", "real"),
        Column("lost", "whole"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            item.searched.plan.trial,
            item.searched.plan.setting,
            item.searched.best_value,
            len(item.values),
            item.mean,
            item.standard_deviation,
            min(item.values, default=None),
            max(item.values, default=None),
            item.lost,
        )
        for item in found
    ]
    return Table(columns, rows)
