"""The page of several studies: what each reached, how they differ, and their trials in common plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tunectl.analysis.comparison.study_answer import StudyAnswer
from tunectl.analysis.figures.shown_trials import chosen_runs
from tunectl.analysis.figures.studies_figures import (
    NamedStudy,
    best_curves,
    budgets_figure,
    shared_axis_figures,
    studies_figures,
)
from tunectl.analysis.findings.findings import Finding
from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialOutcome
from tunectl.core.table_columns import Cell, Column
from tunectl.core.wording import as_text, counted, short_number
from tunectl.language.study_spec import StudySpec
from tunectl.report.page_model import NamedAnswer, PageTable, Section, StudyPage, TrialDetail
from tunectl.report.page_trials import trials_on_page
from tunectl.report.table import Table
from tunectl.report.trial_details import trial_commands, trial_detail
from tunectl.space.domains import Range
from tunectl.space.hyperparameters import Hyperparameter

NUMBERS_A_STUDY = 1_000_000
"""The trials of a study have numbers of their own on the page: this many are kept for each."""

MOST_DETAILS = 150
"""The largest number of trials of all studies that open to their curves and the end of their log."""


@dataclass(frozen=True, slots=True)
class ShownStudy:
    """A study of the page: its folder, its evidence, the outcomes of its trials, its findings, and its answer, None
    where a fault in tunectl left it out.
    """

    folder: StudyFolder
    study: NamedStudy
    outcomes: Sequence[TrialOutcome]
    findings: Sequence[Finding]
    answer: StudyAnswer | None = None

    @property
    def spec(self) -> StudySpec:
        """The study."""
        return self.study.evidence.spec


def studies_page(shown: Sequence[ShownStudy]) -> StudyPage:
    """The page as plain data; all studies are judged by one objective. Reads the logs of the trials that open."""
    studies = [item.study for item in shown]
    objective = studies[0].evidence.objective
    numbers = {item.study.name: item for item in shown}
    return StudyPage(
        title=" · ".join(numbers),
        goal="",
        facts=[
            ("studies", f"{len(shown)}"),
            ("objective", f"{objective.best_direction} {objective.title}"),
            ("trials", f"{sum(len(item.outcomes) for item in shown):,}"),
            *_best_facts(studies),
        ],
        findings=[finding for item in shown for finding in _named(item)],
        sections=[section for section in _sections(shown, studies) if section.figures or section.tables],
        trials=[detail for item in shown for detail in _details(item, MOST_DETAILS // len(shown))],
        answers=[
            NamedAnswer(item.study.name, item.spec.goal.strip(), item.answer, item.study.first)
            for item in shown
            if item.answer is not None
        ],
        subject="studies",
        command="tunectl report",
        trial_commands={item.study.first: trial_commands(item.folder) for item in shown},
        trial_names={
            item.study.number(outcome.plan.trial): f"{item.study.name} {outcome.plan.trial}"
            for item in shown
            for outcome in item.outcomes
        },
    )


def _best_facts(studies: Sequence[NamedStudy]) -> Iterator[tuple[str, str]]:
    for study in studies:
        best = study.evidence.ranked(study.evidence.searched)
        if best:
            value, trial = short_number(best[0].best_value or 0.0), best[0].plan.trial
            yield (
                f"best of {study.name}",
                f"{value} (trial {trial}, of {counted(len(study.evidence.searched), 'trial')})",
            )


def _named(item: ShownStudy) -> Iterator[Finding]:
    """The warnings of a study, which name it."""
    for finding in item.findings:
        if finding.level == "warning":
            trials = tuple(item.study.number(trial) for trial in finding.trials)
            yield replace(finding, sentence=f"{item.study.name}: {finding.sentence}", trials=trials)


def _sections(shown: Sequence[ShownStudy], studies: Sequence[NamedStudy]) -> Iterator[Section]:
    yield Section(
        "Studies",
        "Each study by its best feasible trial. A study with more trials, or longer ones, has a better best one by "
        "that alone: compare the budgets below, and decide by retrains (tunectl compare).",
        studies_figures(studies),
        [
            PageTable("Studies", studies_table(shown)),
            *_if_rows(PageTable("What differs between the studies", differences_table(shown))),
        ],
    )
    yield Section(
        "Budget",
        "How good the best trial of each study would have been had fewer been run.",
        budgets_figure(studies),
    )
    yield Section(
        "Hyperparameter axes",
        "The trials of all studies on one axis, for each hyperparameter that varies in two or more of them; crosses "
        "are infeasible trials.",
        shared_axis_figures(studies),
    )
    yield Section("Training curves", "The best trial of each study.", best_curves(studies))
    yield Section("Trials", "The trials of all studies.", (), _trials(shown))


def _if_rows(table: PageTable) -> list[PageTable]:
    return [table] if table.table.rows else []


def studies_table(shown: Sequence[ShownStudy]) -> Table:
    """One row a study: how its trials ended, and its best one."""
    columns = (
        Column("study", "text"),
        Column("best_value", "real"),
        Column("best_trial", "whole"),
        Column("best_step", "whole"),
        Column("settings", "whole"),
        Column("trials", "whole"),
        Column("completed", "whole"),
        Column("infeasible", "whole"),
        Column("failed", "whole"),
        Column("warnings", "whole"),
        Column("folder", "text"),
    )
    rows: list[tuple[Cell, ...]] = []
    for item in shown:
        evidence = item.study.evidence
        best = next(iter(evidence.ranked(evidence.searched)), None)
        states = [outcome.state for outcome in item.outcomes]
        own: tuple[Cell, ...] = (
            (best.best_value, best.plan.trial, best.best_step) if best is not None else (None, None, None)
        )
        counts = tuple(states.count(state) for state in ("completed", "infeasible", "failed"))
        warnings = sum(finding.level == "warning" for finding in item.findings)
        folder = str(item.folder.path)
        rows.append((item.study.name, *own, len(evidence.settings), len(states), *counts, warnings, folder))
    return Table(columns, rows)


def differences_table(shown: Sequence[ShownStudy]) -> Table:
    """One row for each thing in which the studies differ: their training, search and hyperparameters."""
    described = [_described(item.spec) for item in shown]
    names = list(dict.fromkeys(name for one in described for name in one))
    columns = (Column("what", "text"), *(Column(item.study.name, "text") for item in shown))
    rows = [(name, *(one.get(name) for one in described)) for name in names]
    return Table(columns, [row for row in rows if len(set(row[1:])) > 1])


def _described(spec: StudySpec) -> dict[str, str]:
    """What makes a study, in words by name."""
    training, search = spec.training, spec.search
    found = {
        "workload": spec.workload,
        "max_train_steps": f"{training.max_train_steps:,}",
        "eval_every": f"{training.eval_every:,}",
        "sampler": search.sampler,
        "trials for each setting": "" if search.trials is None else f"{search.trials:,}",
    }
    return found | {item.key: _domain(item) for item in spec.hyperparameters}


def _domain(item: Hyperparameter) -> str:
    if item.formula is not None:
        return item.formula.text
    domain = item.domain
    if isinstance(domain, Range):
        scale = "" if domain.scale == "linear" else f", {domain.scale}"
        return f"{short_number(domain.low)} to {short_number(domain.high)}{scale}"
    return ", ".join(as_text(value) for value in domain.listed or ())


def _trials(shown: Sequence[ShownStudy]) -> list[PageTable]:
    objective = shown[0].study.evidence.objective
    names = list(dict.fromkeys(name for item in shown for name in item.spec.names))
    values: Mapping[str, set[str]] = {
        name: {repr(outcome.plan.hyperparameters.get(name)) for item in shown for outcome in item.outcomes}
        for name in names
    }
    outcomes = [
        replace(outcome, plan=replace(outcome.plan, trial=item.study.number(outcome.plan.trial)))
        for item in shown
        for outcome in item.outcomes
    ]
    return trials_on_page(outcomes, objective, names, [name for name in names if len(values[name]) > 1])


def _details(item: ShownStudy, most: int) -> Iterator[TrialDetail]:
    evidence, outcomes = item.study.evidence, {outcome.plan.trial: outcome for outcome in item.outcomes}
    varying = {parameter.name for parameter in item.spec.hyperparameters if parameter.varies}
    for run in chosen_runs(evidence, evidence.runs, most):
        detail = trial_detail(
            item.folder,
            run,
            outcomes.get(run.plan.trial),
            evidence.objective,
            sampled=item.spec.training.split_examples,
            varying=varying,
        )
        yield replace(detail, trial=item.study.number(run.plan.trial))
