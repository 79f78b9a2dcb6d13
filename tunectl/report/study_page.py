"""The page of a study: its sections with their plots and tables, and the trials that open."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from tunectl.analysis.curvature.unknown_bounds import unknown_bounds
from tunectl.analysis.figures.axis_figures import axis_figures
from tunectl.analysis.figures.budget_figure import budget_figure
from tunectl.analysis.figures.curvature_figures import curvature_figures
from tunectl.analysis.figures.figures import Figure
from tunectl.analysis.figures.isolation_figures import isolation_figures
from tunectl.analysis.figures.sensitivity_figures import sensitivity_figures
from tunectl.analysis.figures.shown_trials import chosen_runs
from tunectl.analysis.figures.stage_figures import stage_figures
from tunectl.analysis.figures.study_figures import (
    best_step_figure,
    measured_curves,
    training_curves,
    update_figures,
)
from tunectl.analysis.figures.trial_axes_figures import trial_axes_figures
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.outcomes import SettingSummary
from tunectl.analysis.results.retrains import retrained
from tunectl.analysis.search.isolation import isolations
from tunectl.analysis.search.sensitivity import sensitivities
from tunectl.core.folders import StudyFolder
from tunectl.core.measurement_kinds import CURVATURE, MEASUREMENT_KINDS
from tunectl.core.records import TrialOutcome
from tunectl.core.wording import counted, short_number
from tunectl.language.stage_lengths import last_stage
from tunectl.report.answer_tables import (
    best_trials_table,
    classes_table,
    curvature_table,
    isolation_table,
    retrains_table,
    sensitivity_table,
    stages_table,
)
from tunectl.report.page_model import PageTable, Section, StudyPage, TrialDetail
from tunectl.report.page_trials import trials_on_page
from tunectl.report.shown_files import ShownTrialFiles, shown_files
from tunectl.report.shown_predictions import ShownTrials, shown_predictions
from tunectl.report.table import Table
from tunectl.report.trial_details import trial_commands, trial_detail
from tunectl.report.trial_tables import settings_table
from tunectl.store.provenance import command_of, has_uncommitted_changes

MOST_TRIALS = 10_000
"""The largest number of trials in the page's table."""

MOST_DETAILS = 150
"""The largest number of them that open to their curves and the end of their log."""

_PROPOSED = (
    " A model of finished trials proposed the points: where they are close together it expected good results, and "
    "where there are few nothing was tried."
)
_T = TypeVar("_T")
_U = TypeVar("_U")


class Attempt(Protocol):
    """How a part of the page is made, so that a part that fails costs no other part."""

    def __call__(self, name: str, work: Callable[[], _T], instead: _U) -> _T | _U:
        """What `work` returns, or `instead` where it fails; `name` says what failed."""


@dataclass(frozen=True, slots=True)
class PageContent:
    """What the page of a study shows.

    `outcomes` are those of all trials, `settings` the summaries of the settings that the values of the `scientific`
    hyperparameters make, and `provenance` the records of the calls of `tunectl run`, the last one last.
    """

    evidence: StudyEvidence
    outcomes: Sequence[TrialOutcome]
    settings: Sequence[SettingSummary]
    scientific: Sequence[str]
    provenance: Sequence[Mapping[str, Any]]


def study_page(folder: StudyFolder, content: PageContent, attempt: Attempt) -> StudyPage:
    """The page as plain data, without the findings; reads the logs of the trials that open.

    A figure, table or trial that fails is left out.
    """
    evidence = content.evidence
    shown = {run.plan.trial for run in chosen_runs(evidence, evidence.runs, MOST_TRIALS)}
    left_out = len(evidence.runs) - len(shown)
    return StudyPage(
        title=evidence.spec.name,
        goal=evidence.spec.goal,
        facts=list(_facts(content)),
        findings=(),
        sections=_sections(content, shown, attempt),
        trials=_details(folder, content, attempt),
        thinned=(
            f"{len(shown):,} of {len(evidence.runs):,} trials are shown here: the best, and others evenly; "
            "tables/trials.csv has all."
            if left_out
            else ""
        ),
        trial_commands={0: trial_commands(folder)},
    )


def page_figures(content: PageContent, attempt: Attempt) -> list[Figure]:
    """The figures of the page, in its order, each with a name of its own; one that fails is left out."""
    every = {item.plan.trial for item in content.outcomes}
    return [figure for section in _sections(content, every, attempt) for figure in section.figures]


def _details(folder: StudyFolder, content: PageContent, attempt: Attempt) -> list[TrialDetail]:
    evidence = content.evidence
    outcomes = {item.plan.trial: item for item in content.outcomes}
    varying = _varying(evidence)
    found = []
    for run in chosen_runs(evidence, evidence.runs, MOST_DETAILS):
        work = partial(
            trial_detail,
            folder,
            run,
            outcomes.get(run.plan.trial),
            evidence.objective,
            sampled=evidence.spec.training.split_examples,
            varying=varying,
        )
        detail = attempt(f"the details of trial {run.plan.trial}", work, None)
        found += [detail] if detail is not None else []
    return found


def _facts(content: PageContent) -> Iterator[tuple[str, str]]:
    evidence, objective, training = content.evidence, content.evidence.objective, content.evidence.spec.training
    which = "best" if objective.checkpoint == "best" else "last"
    if objective.steps_to is None:
        yield "objective", f"{objective.direction} {objective.metric}, by the {which} evaluation of each trial"
    else:
        yield "objective", evidence.spec.ranking(objective)
    states = [item.state for item in content.outcomes]
    counts = ", ".join(f"{states.count(state):,} {state}" for state in dict.fromkeys(sorted(states)))
    yield "trials", f"{len(states):,} ({counts})" if states else "none"
    best = evidence.ranked(evidence.searched)
    if best:
        value, trial = short_number(best[0].best_value or 0.0), best[0].plan.trial
        at = f"trial {trial}, step {best[0].best_step}" if objective.steps_to is None else f"trial {trial}"
        yield "best", f"{value}{' steps' if objective.steps_to is not None else ''} ({at})"
    before = evidence.earlier.best(objective) if evidence.earlier is not None else None
    if before is not None:
        yield "best before", f"{short_number(before.value or 0.0)} (trial {before.trial} of {before.folder})"
    if objective.steps_to is not None:
        completed = [run for run in evidence.searched if run.feasible]
        missed = f"; the other {counted(len(evidence.missed), 'trial')} rank below them" if evidence.missed else ""
        yield "target", f"reached by {len(best)} of {counted(len(completed), 'completed trial')}{missed}"
    yield "settings", f"{len(content.settings):,}"
    cadence = "" if evidence.spec.own_code else f", evaluated every {training.eval_every:,}"
    yield "training", f"{training.max_train_steps:,} steps{cadence}"
    if evidence.spec.search.promote:
        yield (
            "stage",
            f"{evidence.stage} (of 0 to {last_stage(evidence.spec)}), whose trials this page judges",
        )
    yield "workload", evidence.spec.workload
    if content.provenance:
        last = content.provenance[-1]
        yield "last run", str(last.get("time", ""))
        commit = (last.get("git") or {}).get("commit")
        if commit:
            yield "commit", f"{commit}{' with uncommitted changes' if has_uncommitted_changes(last) else ''}"
        yield "command", command_of(last)
    if evidence.spec.notes:
        yield "notes", evidence.spec.notes


@dataclass(frozen=True, slots=True)
class _Parts:
    """Makes figures and tables of the page; what fails or is empty is left out."""

    attempt: Attempt

    def figures(self, name: str, work: Callable[[], Sequence[Figure]]) -> list[Figure]:
        """The figures that `work` returns; `name` says in the fault what failed."""
        return list(self.attempt(f"the {name} plot", work, ()))

    def table(self, caption: str, work: Callable[[], Table], *, of_trials: bool = False) -> list[PageTable]:
        """The table that `work` returns, [] where it has no row."""
        found = self.attempt(f"the table {caption!r}", work, None)
        return [PageTable(caption, found, of_trials)] if found is not None and found.rows else []


def _sections(content: PageContent, shown: Container[int], attempt: Attempt) -> list[Section]:
    parts = _Parts(attempt)
    outcomes = [item for item in content.outcomes if item.plan.trial in shown]
    sections = [
        _settings_section(content, outcomes, parts),
        *_search_sections(content, parts),
        *_training_sections(content, shown, parts),
        _predictions_section(content.evidence, parts),
        _files_section(content.evidence, parts),
        Section(
            "Trials",
            f"All trials of stage {content.evidence.stage}." if content.evidence.spec.search.promote else "All trials.",
            tables=attempt("the table 'Trials'", lambda: _trials_tables(content.evidence, outcomes), ()),
        ),
    ]
    return _with_own_names([item for item in sections if item.figures or item.tables or item.predictions or item.files])


def _trials_tables(evidence: StudyEvidence, outcomes: Sequence[TrialOutcome]) -> list[PageTable]:
    return trials_on_page(outcomes, evidence.objective, evidence.spec.names, _varying(evidence))


def _varying(evidence: StudyEvidence) -> set[str]:
    return {item.name for item in evidence.spec.hyperparameters if item.varies}


def _settings_section(content: PageContent, outcomes: Sequence[TrialOutcome], parts: _Parts) -> Section:
    """What each setting reached."""
    spec, objective = content.evidence.spec, content.evidence.objective
    steps = "" if objective.steps_to is None else f" Values are {spec.ranking(objective)}."
    return Section(
        "Settings",
        f"Each setting of the scientific hyperparameters, by its best feasible trial.{steps}",
        tables=[
            *parts.table("Settings", lambda: settings_table(content.settings, content.scientific)),
            *parts.table(
                "The best trials of each setting", lambda: best_trials_table(content.evidence), of_trials=True
            ),
            *parts.table(
                "Trials trained again, with fresh seeds",
                lambda: retrains_table(retrained(outcomes, content.evidence.objective)),
                of_trials=True,
            ),
        ],
    )


def _search_sections(content: PageContent, parts: _Parts) -> Iterator[Section]:
    """What the hyperparameters do."""
    evidence = content.evidence
    proposed = evidence.evenly_sampled is not evidence
    yield Section(
        "Stages",
        "The promoted trials, and the shorter ones that they repeat from scratch. Where short trials show what is best "
        "in long ones, the points rise along the plot.",
        parts.figures("stages", lambda: stage_figures(evidence)),
        parts.table("The promoted trials", lambda: stages_table(evidence), of_trials=True),
    )
    yield Section(
        "Isolation",
        "What each value of a scientific hyperparameter reaches when the nuisance hyperparameters are optimised "
        "away. A curve within the noise of retraining says that the hyperparameter matters little."
        + (_PROPOSED if proposed else ""),
        parts.figures("isolation", lambda: isolation_figures(evidence, isolations(evidence))),
        parts.table("The best trial of each value", lambda: isolation_table(isolations(evidence))),
    )
    yield Section(
        "Sensitivity",
        "Which hyperparameters explain the differences between trials, and which pairs must be tuned together because "
        "the best value of one depends on the other. Shares include interactions, so they can add up to more than "
        "100%.",
        parts.figures("sensitivity", lambda: sensitivity_figures(evidence.of_search)),
        parts.table("What each explains", lambda: sensitivity_table(sensitivities(evidence.of_search))),
    )
    yield Section(
        "Hyperparameter axes",
        "Every trial's best value against each hyperparameter. The best trials should lie well inside the range; "
        "crosses are infeasible trials"
        + (", triangles trials that never reached the target." if evidence.objective.steps_to is not None else ".")
        + (_PROPOSED if proposed else ""),
        parts.figures("hyperparameter axis", lambda: axis_figures(evidence)),
    )
    yield Section(
        "All hyperparameters at once",
        "A line for each trial across all hyperparameters, and the trials over each pair of them, coloured by their "
        "values. Where lines of the same colour run together, the good trials agree; draw a rectangle over a part of "
        "an axis to select the trials that cross it.",
        parts.figures("parallel coordinates", lambda: trial_axes_figures(evidence)),
    )


def _training_sections(content: PageContent, shown: Container[int], parts: _Parts) -> Iterator[Section]:
    """How the trials trained, and what else they measured."""
    evidence = content.evidence
    yield Section(
        "Training curves",
        "The best trials in front, the others behind. Look for overfitting, for curves that still improve at the "
        "end, and for those that were done early.",
        parts.figures("training curve", lambda: training_curves(evidence))
        + parts.figures("best step", lambda: _of_one(best_step_figure(evidence))),
    )
    yield Section(
        "Budget",
        "How good the best trial would have been had fewer been run. Where the boxes no longer improve, more "
        "trials will gain little."
        + (" The trials are those of stage 0: later ones are a selection." if evidence.stage else ""),
        parts.figures("budget", lambda: _of_one(budget_figure(evidence.of_search))),
    )
    yield Section(
        "Updates",
        "What the updates of the best trials looked like.",
        parts.figures("update", lambda: update_figures(evidence)),
    )
    yield _curvature_section(evidence, shown, parts)
    for kind in MEASUREMENT_KINDS.values():
        if kind.heading and kind is not CURVATURE:
            curves = parts.figures(kind.name, partial(measured_curves, evidence, kind))
            yield Section(kind.heading, kind.text, curves)


def _curvature_section(evidence: StudyEvidence, shown: Container[int], parts: _Parts) -> Section:
    """The curvature of the trials that measured it."""
    sentences = parts.attempt("the text on curvature", lambda: unknown_bounds(evidence), ())
    return Section(
        CURVATURE.heading,
        " ".join([CURVATURE.text, *sentences]),
        parts.figures("curvature", lambda: curvature_figures(evidence)),
        parts.table("The last measurement of each trial", lambda: curvature_table(evidence, shown), of_trials=True),
    )


def _predictions_section(evidence: StudyEvidence, parts: _Parts) -> Section:
    """What the best trials predicted for the chosen examples, and how often they were right by class."""
    shown = parts.attempt("the predictions", lambda: shown_predictions(evidence), ShownTrials())
    return Section(
        "Predictions",
        shown.text,
        tables=parts.table("Correct predictions by class", lambda: classes_table(evidence), of_trials=True),
        predictions=shown.trials,
    )


def _files_section(evidence: StudyEvidence, parts: _Parts) -> Section:
    """The pictures and other files that trials wrote at their evaluations."""
    shown = parts.attempt("the files of evaluations", lambda: shown_files(evidence), ShownTrialFiles())
    return Section("Pictures and files", shown.text, files=shown.trials)


def _of_one(figure: Figure | None) -> Sequence[Figure]:
    return (figure,) if figure is not None else ()


def _with_own_names(sections: Sequence[Section]) -> list[Section]:
    """The same sections with no two figures of one name: each is a file and an anchor in the page."""
    taken: set[str] = set()

    def named(figure: Figure) -> Figure:
        name, number = figure.name, 2
        while name.lower() in taken:
            name, number = f"{figure.name}-{number}", number + 1
        taken.add(name.lower())
        return replace(figure, name=name)

    return [replace(section, figures=[named(figure) for figure in section.figures]) for section in sections]
