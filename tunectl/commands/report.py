"""`report`: what a study says, as findings, a page and plots; under its own objective or under another one."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tunectl.analysis.figures.figures import Figure
from tunectl.analysis.figures.study_figures import slug
from tunectl.analysis.findings.finding_evidence import Evidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.analysis.results.outcomes import SettingSummary, reselected, settings_summary
from tunectl.analysis.results.retrains import retrained
from tunectl.analysis.results.runs import MeasuredCurve
from tunectl.analysis.search.isolation import isolations
from tunectl.core import jsontext
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.objective import CheckpointRule, Direction, Objective
from tunectl.core.path_errors import path_errors
from tunectl.core.records import TrialOutcome
from tunectl.core.safe_text import escaped_json
from tunectl.language.study_spec import StudySpec
from tunectl.report.answer_tables import best_trials_table, isolation_table, retrains_table
from tunectl.report.page_model import Section, StudyPage, TrialDetail
from tunectl.report.renderer import Renderer
from tunectl.report.study_page import PageContent, study_page
from tunectl.report.table import Table
from tunectl.report.trial_tables import settings_rows, trials_table, write_table
from tunectl.session.internal_errors import Faults, faults_met, keep_faults
from tunectl.session.snapshot import StudyAsItStands, looked_at
from tunectl.session.study_evidence import indexed_curves, measurements_by_trial, read_evidence
from tunectl.session.written_tables import setting_names
from tunectl.store.checkpoint_names import ExistingCheckpoints
from tunectl.store.index import Index
from tunectl.store.provenance import read_provenance
from tunectl.store.trial_files import read_trial
from tunectl.store.writing_lock import writing_lock


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a study instead of its own objective; what is None stays as the study has it."""

    metric: str | None = None
    direction: Direction | None = None
    checkpoint: CheckpointRule | None = None


@dataclass(frozen=True, slots=True)
class StudyReport:
    """What was written: the page, findings.json, and the rest. `header` and `rows` are the settings as shown.

    `warnings` say what could not be written, `damage` what of the folder is damaged.
    """

    spec: StudySpec
    objective: Objective
    folder: StudyFolder
    findings: tuple[Finding, ...]
    settings: tuple[SettingSummary, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    page: Path
    paths: tuple[Path, ...]
    trials: int
    warnings: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return {
            "study": self.spec.name,
            "folder": str(self.folder.path),
            "objective": asdict(self.objective),
            "trials": self.trials,
            "findings": [finding.to_json() for finding in self.findings],
            "settings": [asdict(item) for item in self.settings],
            "page": str(self.page),
            "files": [str(path) for path in self.paths],
            "warnings": list(self.warnings),
            "damage": list(self.damage),
        }


def report_study(
    place: Path,
    question: Question,
    *,
    draw: bool = True,
    ready: Sequence[Renderer] = (),
    report: Callable[[str], None] = lambda _line: None,
) -> StudyReport:
    """Write the report of the study folder at `place` anew, also while a runner is at work there.

    Nothing is trained. Under another objective than the study's own the files have that one's name in theirs. The
    processes that are `ready` draw the plots; what is damaged in the folder is said to `report`. Raises FolderError
    where there is no study or nothing can be written, UsageError where the question cannot be answered.
    """
    with writing_lock(StudyFolder(place), report):
        with looked_at(place, report) as study:
            evidence, outcomes = evidence_of(study, question)
            tables = () if evidence.objective != study.spec.objective else _own_tables(study)
        found = write_report(study.folder, evidence, outcomes, draw=draw, ready=ready)
        return replace(found, paths=(*tables, *found.paths), damage=tuple(study.damage))


def _own_tables(study: StudyAsItStands) -> tuple[Path, ...]:
    """Write the tables that a run left so that they say what the folder says now, damaged or half run."""
    # pyarrow takes a while to load: only when there are tables to write.
    from tunectl.session.written_tables import write_tables

    is_whole = len(_known_curves(study.index, study.outcomes)) == len(study.outcomes)
    return write_tables(study.folder, study.spec, study.outcomes, study.index if is_whole else None).paths


def evidence_of(study: StudyAsItStands, question: Question) -> tuple[Evidence, Sequence[TrialOutcome]]:
    """What a study's findings rest on, and its outcomes, both under the objective asked for; raises UsageError."""
    folder, spec, outcomes = study.folder, study.spec, study.outcomes
    curves = _known_curves(study.index, outcomes)
    objective = _asked_objective(spec, question, curves, folder, outcomes)
    if objective != spec.objective:
        outcomes = _reselected(folder, outcomes, objective, study.index, curves)
    return read_evidence(folder, spec, outcomes, curves, objective), outcomes


def _known_curves(index: Index | None, outcomes: Sequence[TrialOutcome]) -> dict[int, dict[str, MeasuredCurve]]:
    """The curves of the trials that the index tells right: of another one the folder is read."""
    if index is None:
        return {}
    try:
        stored = {item.plan.trial: item for item in index.outcomes()}
        curves = indexed_curves(index)
    except FolderError:
        return {}
    return {
        item.plan.trial: curves.get(item.plan.trial, {}) for item in outcomes if stored.get(item.plan.trial) == item
    }


def _asked_objective(
    spec: StudySpec,
    question: Question,
    curves: Mapping[int, Mapping[str, MeasuredCurve]],
    folder: StudyFolder,
    outcomes: Sequence[TrialOutcome],
) -> Objective:
    own = spec.objective
    metric = question.metric or own.metric
    if metric != own.metric and question.direction is None:
        raise UsageError(f"--objective {metric}: give --direction minimize or --direction maximize, too")
    measured = {name for item in curves.values() for name in item}
    if not measured:
        files = (read_trial(folder.trial(item.plan.trial)) for item in outcomes)
        measured = {name for trial in files for item in trial.measurements for name in item.metrics}
    if metric != own.metric and metric not in measured:
        there = ", ".join(sorted(measured)) or "no metric at all"
        raise UsageError(f"--objective {metric}: no trial measured it; measured is: {there}")
    return Objective(metric, question.direction or own.direction, question.checkpoint or own.checkpoint)


def _reselected(
    folder: StudyFolder,
    outcomes: Sequence[TrialOutcome],
    objective: Objective,
    index: Index | None,
    up_to_date: Container[int],
) -> list[TrialOutcome]:
    known = {} if index is None else measurements_by_trial(index, up_to_date)
    found = []
    for item in outcomes:
        home, trial = folder.trial(item.plan.trial), item.plan.trial
        measurements = known[trial] if trial in known else read_trial(home).measurements
        found.append(reselected(item, measurements, objective, ExistingCheckpoints(home)))
    return found


def write_report(
    folder: StudyFolder,
    evidence: Evidence,
    outcomes: Sequence[TrialOutcome],
    *,
    draw: bool,
    ready: Sequence[Renderer] = (),
) -> StudyReport:
    """Write findings.json and report.html, with `draw` the plots as files, too; raises FolderError.

    Under another objective than the study's the trials table is written again, beside the study's own.
    """
    faults = faults_met()
    spec, objective = evidence.spec, evidence.objective
    names = setting_names(spec)
    summaries = settings_summary(outcomes, names, objective)
    variant = _variant(spec.objective, objective)
    found = study_findings(evidence, faults.attempt)
    content = PageContent(evidence, outcomes, summaries, names, read_provenance(folder))
    page = study_page(folder, content, faults.attempt)
    paths = _write_tables(folder, evidence, outcomes, variant, faults)
    undrawn = ""
    if draw:
        drawn, undrawn = _draw(folder, page, variant, ready, faults)
        paths += drawn
    html, listed = folder.path / f"report{variant}.html", folder.path / f"findings{variant}.json"
    text, findings = _page_text(replace(page, findings=found), faults, f"send {folder.faults} with a bug report")
    kept = {"objective": asdict(objective), "findings": [finding.to_json() for finding in findings]}
    _write(listed, (escaped_json(jsontext.encode(kept, indent=2)) + "\n").encode())
    _write(html, text.encode("utf-8", "replace"))
    keep_faults(folder, faults)
    header, rows = settings_rows(summaries, names)
    return StudyReport(
        spec,
        objective,
        folder,
        tuple(findings),
        tuple(summaries),
        tuple(header),
        tuple(tuple(row) for row in rows),
        html,
        (listed, html, *paths),
        len(outcomes),
        (undrawn,) if undrawn else (),
    )


def with_faults(findings: Sequence[Finding], faults: Faults, action: str) -> list[Finding]:
    """The findings and what could not be worked out, as the last of the warnings."""
    return sorted([*findings, *faults.findings(action)], key=lambda finding: finding.level != "warning")


def _page_text(page: StudyPage, faults: Faults, action: str) -> tuple[str, Sequence[Finding]]:
    """The page and its findings; where a part of it cannot be laid out, without that part."""
    from tunectl.report.page import page_html
    from tunectl.report.plots import vega_lite

    def laid_out(sections: Sequence[Section], trials: Sequence[TrialDetail]) -> tuple[str, Sequence[Finding]]:
        findings = with_faults(page.findings, faults, action)
        return page_html(replace(page, findings=findings, sections=sections, trials=trials)), findings

    at_once = Faults(faults.raises)
    whole = at_once.attempt("the page", lambda: laid_out(page.sections, page.trials), None)
    if whole is not None:
        return whole

    def sound(figure: Figure) -> bool:
        name = f"the plot {figure.name}"
        return faults.attempt(name, partial(vega_lite, figure, interactive=True), None) is not None

    sections = [replace(section, figures=list(filter(sound, section.figures))) for section in page.sections]
    if sum(len(section.figures) for section in sections) == sum(len(section.figures) for section in page.sections):
        faults.found |= at_once.found  # no plot is to blame
    without = faults.attempt("the page", lambda: laid_out(sections, page.trials), None)
    return without if without is not None else laid_out((), ())


def _write_tables(
    folder: StudyFolder, evidence: Evidence, outcomes: Sequence[TrialOutcome], variant: str, faults: Faults
) -> list[Path]:
    tables: dict[str, Callable[[], Table]] = {
        "isolation": lambda: isolation_table(isolations(evidence)),
        "best_trials": lambda: best_trials_table(evidence),
        "retrains": lambda: retrains_table(retrained(outcomes)),
        # Under its own objective the study's own trials table is written with the settings and the measurements.
        "trials": lambda: trials_table(outcomes if variant else (), evidence.spec.names),
    }

    def written(name: str, work: Callable[[], Table]) -> list[Path]:
        table = work()
        return write_table(folder, f"{name}{variant}", table) if table.rows else []

    return [
        path
        for name, work in tables.items()
        for path in faults.attempt(f"the table {name}", partial(written, name, work), ())
    ]


def _draw(
    folder: StudyFolder, page: StudyPage, variant: str, ready: Sequence[Renderer], faults: Faults
) -> tuple[list[Path], str]:
    """The plots as files, and a warning where the library did not draw all of them."""
    from tunectl.report.plots import Drawn, vega_lite, write_figures

    def drawn(figures: Sequence[Figure], ready: Sequence[Renderer] = ()) -> Drawn:
        with path_errors(folder.plots, "written"):
            return write_figures(folder.plots, figures, ready)

    def sound(figure: Figure) -> bool:
        return faults.attempt(f"the plot {figure.name}", partial(vega_lite, figure), None) is not None

    def refused(cause: str) -> None:
        raise RuntimeError(cause)

    figures = [
        replace(figure, name=f"{figure.name}{variant}") for section in page.sections for figure in section.figures
    ]
    together = Faults(faults.raises)
    found = together.attempt("the plots", lambda: drawn(figures, ready), None)
    if found is None:
        # Without those that cannot be laid out, so that one that fails costs no other.
        found = faults.attempt("the plots", lambda: drawn(list(filter(sound, figures))), Drawn([], {}))
    for name, item in found.undrawn.items():
        if not item.died:
            faults.attempt(f"the plot {name}", partial(refused, item.cause), None)
    lost = found._replace(undrawn={name: item for name, item in found.undrawn.items() if item.died})
    return found.paths, f"{lost.warning}; the page shows them all the same" if lost.undrawn else ""


def _variant(own: Objective, asked: Objective) -> str:
    """What tells the files of another question from the study's own: "" for its own."""
    if asked == own:
        return ""
    parts = [slug(asked.metric), asked.direction if asked.direction != own.direction else "", asked.checkpoint]
    return "." + ".".join(part for part in parts if part and part != own.checkpoint)


def _write(path: Path, content: bytes) -> None:
    with path_errors(path, "written"):
        write_if_changed(path, content)
