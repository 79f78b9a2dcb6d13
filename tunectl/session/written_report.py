"""The report of a study, written into its folder: findings.json, the page, tables of answers, and plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tunectl.analysis.comparison.study_answer import StudyAnswer, study_answer
from tunectl.analysis.figures.figures import Figure, slug
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.analysis.results.curvature_time import SECONDS, CurvatureTime, curvature_time
from tunectl.analysis.results.outcomes import SettingSummary, settings_summary
from tunectl.analysis.results.retrains import retrained
from tunectl.analysis.results.stages import judged_stage
from tunectl.analysis.search.isolation import isolations
from tunectl.analysis.search.sensitivity import sensitivities
from tunectl.core import jsontext
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.objective import Objective
from tunectl.core.path_errors import path_errors
from tunectl.core.records import TrialOutcome
from tunectl.core.safe_text import escaped_json
from tunectl.language.stage_lengths import stage_words
from tunectl.language.study_spec import StudySpec
from tunectl.report.answer_tables import (
    best_trials_table,
    classes_table,
    curvature_table,
    isolation_table,
    retrains_table,
    sensitivity_rows,
    sensitivity_table,
    stages_table,
)
from tunectl.report.page_model import Section, StudyPage, TrialDetail
from tunectl.report.renderer import Renderer
from tunectl.report.study_page import PageContent, study_page
from tunectl.report.table import Table
from tunectl.report.trial_tables import settings_rows, trials_table, write_table
from tunectl.session.internal_errors import Faults, no_faults, write_faults
from tunectl.session.repeated_searches import costs_of_other_searches
from tunectl.session.written_tables import setting_names
from tunectl.store.provenance import read_provenance

_TextTable = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class StudyReport:
    """The report as it was written: the page, findings.json and other files; `header` and `rows` show the settings.

    `sensitivity` has a header and rows on the hyperparameters. `warnings` are about plots that were not drawn, `damage`
    has the damage of the folder. `curvature` is None where no trial measured it. All is about the trials of `stage`,
    but for `trials`, the number of all planned ones, and for `sensitivity`, which is about the points of the search.
    `answer` is None where a fault in tunectl left it out.
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
    curvature: CurvatureTime | None = None
    sensitivity: _TextTable = ((), ())
    stage: int = 0
    answer: StudyAnswer | None = None

    @property
    def judged(self) -> str:
        """The stage of these findings in words, "" where the study has only one."""
        return stage_words(self.spec, self.stage) if self.spec.search.promote else ""

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return {
            "study": self.spec.name,
            "folder": str(self.folder.path),
            "objective": self.objective.to_json(),
            "trials": self.trials,
            "stage": self.stage,
            "findings": [finding.to_json() for finding in self.findings],
            "settings": [item.to_json() for item in self.settings],
            "page": str(self.page),
            "files": [str(path) for path in self.paths],
            "curvature": self.curvature.to_json() if self.curvature else None,
            "warnings": list(self.warnings),
            "damage": list(self.damage),
            "answer": self.answer.to_json() if self.answer else None,
        }


def write_report(
    folder: StudyFolder,
    evidence: StudyEvidence,
    outcomes: Sequence[TrialOutcome],
    *,
    draw: bool,
    ready: Sequence[Renderer] = (),
) -> StudyReport:
    """Write findings.json and report.html, with `draw` also the plots as files; raises FolderError.

    By another objective than the study's, a second table of the trials is written beside the study's. The files of
    another stage than the judged one have its number in their names, and those of a procedure's trials `trials`.
    """
    faults = no_faults()
    spec, objective = evidence.spec, evidence.objective
    names = setting_names(spec)
    own_code, stops_early = spec.own_code, spec.search.stop_early is not None
    summaries = settings_summary(outcomes, names, objective, evidence.stage, own_code=own_code, stops_early=stops_early)
    variant = _variant(folder, evidence, outcomes)
    found = study_findings(evidence, faults.attempt)
    answer = faults.attempt("the answer", lambda: answer_of(folder, evidence, outcomes, found), None)
    content = PageContent(evidence, outcomes, summaries, names, read_provenance(folder))
    page = study_page(folder, content, faults.attempt)
    paths = _write_tables(folder, evidence, outcomes, variant, faults)
    drawn, undrawn = _draw(folder, page, variant, ready, faults) if draw else ([], "")
    paths += drawn
    html, listed = folder.path / f"report{variant}.html", folder.path / f"findings{variant}.json"
    text, findings = _page_text(
        replace(page, findings=found, answer=answer), faults, f"send {folder.faults} with a bug report"
    )
    kept = _findings_to_json(evidence, findings, answer)
    _write(listed, (escaped_json(jsontext.encode(kept, indent=2)) + "\n").encode())
    _write(html, text.encode("utf-8", "replace"))
    write_faults(folder, faults)
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
        curvature=_curvature_time(evidence, outcomes),
        sensitivity=_sensitivity(evidence, faults),
        stage=evidence.stage,
        answer=answer,
    )


def _findings_to_json(
    evidence: StudyEvidence, findings: Sequence[Finding], answer: StudyAnswer | None
) -> dict[str, Any]:
    """The content of findings.json."""
    kept: dict[str, Any] = {"stage": evidence.stage} if evidence.spec.search.promote else {}
    kept |= {"objective": evidence.objective.to_json(), "findings": [finding.to_json() for finding in findings]}
    return kept | ({"answer": answer.to_json()} if answer is not None else {})


def answer_of(
    folder: StudyFolder, evidence: StudyEvidence, outcomes: Sequence[TrialOutcome], findings: Sequence[Finding] = ()
) -> StudyAnswer:
    """The answer of a study, which other searches of it beside its folder make more or less certain."""
    if evidence.objective != evidence.spec.objective or len(evidence.settings) < 2:
        return study_answer(evidence, outcomes, findings)
    searches = costs_of_other_searches(folder.path, evidence.of_search.spec, evidence.stage, evidence.settings)
    return study_answer(evidence, outcomes, findings, searches)


def _sensitivity(evidence: StudyEvidence, faults: Faults) -> _TextTable:
    """The header and rows of the table of sensitivity."""
    nothing: _TextTable = ((), ())
    return faults.attempt("the sensitivity", lambda: sensitivity_rows(sensitivities(evidence.of_search)), nothing)


def _curvature_time(evidence: StudyEvidence, outcomes: Sequence[TrialOutcome]) -> CurvatureTime | None:
    curves = {run.plan.trial: run.curves[SECONDS][1] for run in evidence.runs if SECONDS in run.curves}
    return curvature_time({trial: float(values.sum()) for trial, values in curves.items()}, outcomes)


def with_faults(findings: Sequence[Finding], faults: Faults, action: str) -> list[Finding]:
    """The findings and, after the other warnings, those about faults."""
    return sorted([*findings, *faults.findings(action)], key=lambda finding: finding.level != "warning")


def _page_text(page: StudyPage, faults: Faults, action: str) -> tuple[str, Sequence[Finding]]:
    """The page and its findings; a part that raises an exception is left out."""
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
        faults.found |= at_once.found  # no plot was the cause
    without = faults.attempt("the page", lambda: laid_out(sections, page.trials), None)
    return without if without is not None else laid_out((), ())


def _write_tables(
    folder: StudyFolder, evidence: StudyEvidence, outcomes: Sequence[TrialOutcome], variant: str, faults: Faults
) -> list[Path]:
    is_own = evidence.objective == evidence.spec.objective
    tables: dict[str, Callable[[], Table]] = {
        "isolation": lambda: isolation_table(isolations(evidence)),
        "sensitivity": lambda: sensitivity_table(sensitivities(evidence.of_search)),
        "best_trials": lambda: best_trials_table(evidence),
        "retrains": lambda: retrains_table(retrained(outcomes, evidence.objective)),
        "curvature": lambda: curvature_table(evidence),
        "stages": lambda: stages_table(evidence),
        "classes": lambda: classes_table(evidence),
        # By the study's objective the table of trials is written with those of settings and measurements.
        "trials": lambda: trials_table(() if is_own else outcomes, evidence.spec.names),
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
    """Write the plots as files; return them, and a warning where the library failed to draw some."""
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
        # Without the figures that raise an exception, so that the others are drawn.
        found = faults.attempt("the plots", lambda: drawn(list(filter(sound, figures))), Drawn([], {}))
    for name, item in found.undrawn.items():
        if not item.died:
            faults.attempt(f"the plot {name}", partial(refused, item.cause), None)
    lost = found._replace(undrawn={name: item for name, item in found.undrawn.items() if item.died})
    return found.paths, f"{lost.warning}; the page shows them nevertheless" if lost.undrawn else ""


def _variant(folder: StudyFolder, evidence: StudyEvidence, outcomes: Sequence[TrialOutcome]) -> str:
    """What the names of the files have beside those of the study's own report."""
    own_page = ".trials" if folder.procedure.exists() else ""  # report.html is the procedure's own page
    stage = "" if evidence.stage == judged_stage(outcomes) else f".stage-{evidence.stage}"
    return own_page + _of_objective(evidence.spec.objective, evidence.objective) + stage


def _of_objective(own: Objective, asked: Objective) -> str:
    """The part of the file names for another objective than the study's, "" for the study's."""
    if asked == own:
        return ""
    target = "" if asked.steps_to is None else f"steps-to-{asked.steps_to:.12g}"  # the sign stays in the name
    direction = asked.direction if asked.direction != own.direction else ""
    parts = [slug(asked.metric), direction, asked.checkpoint, target]
    return "." + ".".join(part for part in parts if part and part != own.checkpoint)


def _write(path: Path, content: bytes) -> None:
    with path_errors(path, "written"):
        write_if_changed(path, content)
