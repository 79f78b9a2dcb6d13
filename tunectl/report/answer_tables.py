"""The tables of a study that answer a question: isolation, sensitivity, best trials, retrains, curvature."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from tunectl.analysis.curvature.curvature_curves import last_measured, value_at
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.stage_findings import paired_stages
from tunectl.analysis.results.retrains import Retrained
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.effect_model import Effect
from tunectl.analysis.search.isolation import Isolation
from tunectl.analysis.search.sensitivity import Sensitivity, share_text
from tunectl.core.measurement_kinds import BOUNDED_EIGENVALUES, CURVATURE, search_metric
from tunectl.core.table_columns import Cell, Column
from tunectl.core.whole_splits import sample_error_metric, whole_metric
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


def sensitivity_table(found: Sequence[Sensitivity]) -> Table:
    """One row for each hyperparameter, and each pair of them, in each setting and in all together.

    `response` is what is explained: the objective of feasible trials, or feasibility. `share` is the part of its
    variance, with the ends of its 90% interval; `p` the chance of any such effect in the study. They are missing where
    these trials cannot show it; `answer` says why. No row where they show nothing at all.
    """
    columns = (
        Column("setting", "text"),
        Column("response", "text"),
        Column("hyperparameter", "text"),
        Column("with", "text"),
        Column("trials", "whole"),
        Column("points", "whole"),
        Column("share", "real"),
        Column("low", "real"),
        Column("high", "real"),
        Column("p", "real"),
        Column("answer", "text"),
    )
    if not any(each.model.effects for each in found):
        return Table(columns, [])
    together_first = sorted(found, key=lambda each: each.response.setting is not None)
    return Table(columns, [row for each in together_first for row in _effect_rows(each)])


def _effect_rows(each: Sensitivity) -> Iterator[tuple[Cell, ...]]:
    response = each.response
    head = ("all" if response.setting is None else str(response.setting), response.asked)
    count = (len(response.runs), response.points)
    for name, effect in each.responding.items():
        yield (*head, name, None, *count, *_effect_cells(effect), "matters")
    for name, effect in each.silent.items():
        yield (*head, name, None, *count, *_effect_cells(effect), "no effect seen")
    for (one, two), effect in each.pairs.items():
        yield (*head, one, two, *count, *_effect_cells(effect), "interact" if effect.found else "no interaction seen")
    for key, reason in response.unknown.items():
        yield (*head, key, None, *count, None, None, None, None, f"not known: {reason}")


def _effect_cells(effect: Effect) -> tuple[Cell, ...]:
    return effect.share, effect.low, effect.high, effect.chance


def sensitivity_rows(found: Sequence[Sensitivity]) -> tuple[list[str], list[list[str]]]:
    """What matters, and which pairs interact, for the terminal: in all settings together where there are several."""
    header = ["explains", "hyperparameter", "share", "90% interval", "answer"]
    together = [each for each in found if each.response.setting is None] or found
    rows: list[list[str]] = []
    for each in together if any(each.model.effects for each in together) else ():
        asked = each.response.asked
        pairs = {f"{one} and {two}": effect for (one, two), effect in each.pairs.items() if effect.found}
        for effects, answer in ((each.responding, "matters"), (pairs, "interact"), (each.silent, "no effect seen")):
            for name, own in effects.items():
                interval = f"{share_text(own.low)} to {share_text(own.high)}"
                rows.append([asked, name, share_text(own.share), interval, answer])
        rows += [[asked, key, "", "", f"not known: {reason}"] for key, reason in each.response.unknown.items()]
    return header, rows


def best_trials_table(evidence: StudyEvidence) -> Table:
    """The best trials of each setting, the best first, with the hyperparameters that vary.

    With a target, those that never reached it come last and have no best value.
    """
    names = list(dict.fromkeys(item.name for item in evidence.spec.hyperparameters if item.varies))
    columns = (
        Column("trial", "whole"),
        Column("setting", "whole"),
        Column("best_value", "real"),
        Column("best_step", "whole"),
        *(Column(name, "real") for name in _whole_names(evidence)),
        *(Column(name, "scalar") for name in names),
    )
    whole = _whole_names(evidence)
    rows: list[tuple[Cell, ...]] = [
        (
            run.plan.trial,
            setting,
            run.best_value,
            run.best_step,
            *(_at_best(run, name) for name in whole),
            *(run.plan.hyperparameters.get(name) for name in names),
        )
        for setting, runs in evidence.by_setting.items()
        for run in evidence.closest_first(runs)[:BEST_OF_SETTING]
    ]
    return Table(columns, rows)


def stages_table(evidence: StudyEvidence) -> Table:
    """One row for each promoted trial, with the shorter trial that it repeats; the best long ones of a setting first.

    `earlier_rank` and `rank` are those among the promoted trials of the setting.
    """
    columns = (
        Column("trial", "whole"),
        Column("setting", "whole"),
        Column("stage", "whole"),
        Column("best_value", "real"),
        Column("rank", "real"),
        Column("earlier_trial", "whole"),
        Column("earlier_best_value", "real"),
        Column("earlier_rank", "real"),
    )
    rows: list[tuple[Cell, ...]] = []
    for setting, item in paired_stages(evidence).items():
        order = zip(item.long_ranks, item.short_ranks, item.long, item.short, strict=True)
        rows += [
            (
                long.plan.trial,
                setting,
                evidence.stage,
                long.best_value,
                rank,
                short.plan.trial,
                short.best_value,
                earlier,
            )
            for rank, earlier, long, short in sorted(order, key=lambda row: (row[0], row[2].plan.trial))
        ]
    return Table(columns, rows)


def _whole_names(evidence: StudyEvidence) -> tuple[str, ...]:
    """What is measured on the whole split beside the objective's metric, where a sample of its split is evaluated."""
    metric = evidence.objective.metric
    is_sampled = metric.partition("/")[0] in evidence.spec.training.split_examples
    return (whole_metric(metric), sample_error_metric(metric)) if is_sampled else ()


def _at_best(run: Run, metric: str) -> float | None:
    steps, values = run.curve(metric)
    found = values[steps == run.best_step]
    return float(found[0]) if len(found) else None


def classes_table(evidence: StudyEvidence) -> Table:
    """One row for each class of the best trial of each setting: its examples, how many of them were predicted right,
    and for how many examples it was predicted, at the selected checkpoint.
    """
    columns = (
        Column("trial", "whole"),
        Column("setting", "whole"),
        Column("step", "whole"),
        Column("split", "text"),
        Column("class", "scalar"),
        Column("examples", "whole"),
        Column("correct", "whole"),
        Column("correct_share", "real"),
        Column("predicted", "whole"),
    )
    rows: list[tuple[Cell, ...]] = []
    for setting, runs in evidence.by_setting.items():
        best = next((run for run in evidence.ranked(runs) if run.plan.trial in evidence.predictions), None)
        counts = None if best is None else evidence.predictions[best.plan.trial].classes
        if best is None or counts is None:
            continue
        for name, total, correct, predicted in zip(
            counts.classes, counts.total, counts.correct, counts.predicted, strict=True
        ):
            share = correct / total if total else None
            own = (best.plan.trial, setting, counts.step, counts.split)
            rows.append((*own, name, total, correct, share, predicted))
    return Table(columns, rows)


_CURVATURE = (
    *(
        metric
        for name in BOUNDED_EIGENVALUES
        for metric in (name, *(search_metric(name, what) for what in ("residual", "products", "converged")))
    ),
    *("bound", "ratio", "paper_ratio", "learning_rate", "critical_learning_rate", "loss"),
)
"""The metrics of the table of curvature."""


def curvature_table(evidence: StudyEvidence, shown: Container[int] | None = None) -> Table:
    """One row for each trial with curvature, by id, with its last measurement of an eigenvalue; `shown` None: of all.

    Metrics that no trial has are left out.
    """
    rows = [
        (run, step)
        for run in evidence.runs
        if (shown is None or run.plan.trial in shown) and (step := last_measured(run)) is not None
    ]
    cells = [[value_at(run, name, step) for name in _CURVATURE] for run, step in rows]
    kept = [place for place in range(len(_CURVATURE)) if any(row[place] is not None for row in cells)]
    columns = (
        *(Column("trial", "whole"), Column("setting", "whole"), Column("step", "whole")),
        *(Column(CURVATURE.column(_CURVATURE[place]), "real") for place in kept),
    )
    return Table(
        columns,
        [
            (run.plan.trial, run.plan.setting, int(step), *(row[place] for place in kept))
            for (run, step), row in zip(rows, cells, strict=True)
        ],
    )


def retrains_table(found: Sequence[Retrained]) -> Table:
    """One row a trial that was trained again, with what its retrains came to.

    `not_reached` is a column only where some never reached the objective's target; `most` is missing for these. `stage`
    is one where some are of a later stage than the first.
    """
    has_missed = any(item.not_reached for item in found)
    has_stages = any(item.searched.plan.stage for item in found)
    columns = (
        Column("trial", "whole"),
        Column("setting", "whole"),
        *([Column("stage", "whole")] if has_stages else []),
        Column("search_value", "real"),
        Column("retrains", "whole"),
        Column("mean", "real"),
        Column("standard_deviation", "real"),
        Column("least", "real"),
        Column("most", "real"),
        Column("lost", "whole"),
        *([Column("not_reached", "whole")] if has_missed else []),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            item.searched.plan.trial,
            item.searched.plan.setting,
            *([item.searched.plan.stage] if has_stages else []),
            item.searched.best_value,
            len(item.values),
            item.mean,
            item.standard_deviation,
            min(item.values, default=None),
            None if item.not_reached else max(item.values, default=None),
            item.lost,
            *([item.not_reached] if has_missed else []),
        )
        for item in found
    ]
    return Table(columns, rows)
