"""The page of a procedure: its conclusion, its plots, and the trials that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunectl.analysis.figures.figures import Figure
from tunectl.analysis.results.runs import Run
from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialOutcome
from tunectl.language.study_spec import StudySpec
from tunectl.report.page_model import PageTable, Section, StudyPage
from tunectl.report.page_trials import trials_on_page
from tunectl.report.table import Table
from tunectl.report.trial_details import trial_commands, trial_detail
from tunectl.store.provenance import command_of

MOST_DETAILS = 300
"""The largest number of trials that open to their curves and the end of their log."""


@dataclass(frozen=True, slots=True)
class ProcedureContent:
    """What the page of a procedure shows.

    `verdict` and `advice` are those of its conclusion, `table` and `figures` what it rests on; `outcomes` and `runs`
    are those of its trials, and `provenance` the records of the calls.
    """

    name: str
    spec: StudySpec
    verdict: str
    advice: str
    table: Table
    figures: Sequence[Figure]
    outcomes: Sequence[TrialOutcome]
    runs: Sequence[Run]
    provenance: Sequence[Mapping[str, Any]]


def procedure_page(folder: StudyFolder, content: ProcedureContent) -> StudyPage:
    """The page as plain data; reads the logs of the trials that open."""
    spec, objective = content.spec, content.spec.objective.by_metric
    names = list(
        dict.fromkeys([*spec.names, *(name for item in content.outcomes for name in item.plan.hyperparameters)])
    )
    varying = _varying(content.outcomes, names)
    outcomes = {item.plan.trial: item for item in content.outcomes}
    tables = [PageTable("Conclusion", content.table)] if content.table.rows else []
    return StudyPage(
        title=f"{spec.name}: {content.name}",
        goal=spec.goal,
        facts=list(_facts(content)),
        findings=(),
        sections=[
            Section("What it rests on", "", content.figures, tables),
            Section(
                "Trials",
                "All trials of the procedure.",
                (),
                trials_on_page(content.outcomes, objective, names, varying),
            ),
        ],
        trials=[
            trial_detail(folder, run, outcomes.get(run.plan.trial), objective, varying=varying)
            for run in content.runs[:MOST_DETAILS]
        ],
        subject=content.name,
        command=f"tunectl {content.name}",
        trial_commands={0: trial_commands(folder)},
        verdict=content.verdict,
        advice=content.advice,
    )


def _facts(content: ProcedureContent) -> Iterator[tuple[str, str]]:
    states = [item.state for item in content.outcomes]
    counts = ", ".join(f"{states.count(state):,} {state}" for state in dict.fromkeys(sorted(states)))
    objective = content.spec.objective
    yield "judged by", f"{objective.direction} {objective.metric}"
    yield "trials", f"{len(states):,} ({counts})" if states else "none"
    yield "workload", content.spec.workload
    if content.provenance:
        last = content.provenance[-1]
        yield "last run", str(last.get("time", ""))
        yield "command", command_of(last)


def _varying(outcomes: Sequence[TrialOutcome], names: Sequence[str]) -> list[str]:
    """The hyperparameters in which the trials differ; one that only some trials have is one of them."""
    values = {name: {repr(item.plan.hyperparameters.get(name)) for item in outcomes} for name in names}
    return [name for name in names if len(values[name]) > 1]
