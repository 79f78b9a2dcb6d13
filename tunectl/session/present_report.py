"""The findings, the answer and the figures of a study as it is now, by its own objective; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunectl.analysis.comparison.study_answer import StudyAnswer
from tunectl.analysis.figures.axis_figures import axis_figures
from tunectl.analysis.figures.figures import Figure, slug
from tunectl.analysis.figures.study_figures import training_curves
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.core.errors import UsageError
from tunectl.core.wording import nearest
from tunectl.report.study_page import PageContent, page_figures
from tunectl.session.internal_errors import no_faults
from tunectl.session.snapshot import StudySnapshot
from tunectl.session.study_evidence import ObjectiveChoice, evidence_of
from tunectl.session.written_report import answer_of, with_faults
from tunectl.session.written_tables import setting_names, settings_of
from tunectl.store.provenance import read_provenance


def present_findings(study: StudySnapshot) -> list[Finding]:
    """The findings, the warnings first."""
    evidence, _ = evidence_of(study, ObjectiveChoice())
    faults = no_faults()
    found = study_findings(evidence, faults.attempt)
    return with_faults(found, faults, "call `tunectl report`, whose faults.txt has what to send with a bug report")


def present_answer(study: StudySnapshot) -> StudyAnswer:
    """The answer to the study's question, with the findings that make it doubtful."""
    evidence, outcomes = evidence_of(study, ObjectiveChoice())
    return answer_of(study.folder, evidence, outcomes, study_findings(evidence, no_faults().attempt))


def all_figures(study: StudySnapshot) -> list[Figure]:
    """The figures of the page."""
    return _all_figures(study, evidence_of(study, ObjectiveChoice())[0])


def figures_named(study: StudySnapshot, name: str) -> list[Figure]:
    """The figures of a hyperparameter, of a metric, or with this name.

    A hyperparameter may have one for each condition. Raises UsageError where there is none.
    """
    evidence, _ = evidence_of(study, ObjectiveChoice())
    # Those that are asked for most are made alone: all take seconds in a large study.
    sources: tuple[Callable[[], Sequence[Figure]], ...] = (
        lambda: axis_figures(evidence),
        lambda: training_curves(evidence),
        lambda: _all_figures(study, evidence),
    )
    names: list[str] = []
    for source in sources:
        figures = source()
        found = _chosen(figures, evidence, name)
        if found:
            return found
        names = [figure.name for figure in figures]
    keys = [axis.hyperparameter.name for axis in evidence.axes]
    if name in keys:
        raise UsageError(f"{study.folder.path}: there is no plot of {name} yet: no trial with it has ended")
    raise UsageError(
        f"{study.folder.path}: expected a hyperparameter that varies, a metric, or one of its plots, got {name!r}"
        f"{nearest(name, [*keys, evidence.objective.metric, *names])}"
    )


def _all_figures(study: StudySnapshot, evidence: StudyEvidence) -> list[Figure]:
    summaries, _ = settings_of(study.spec, study.outcomes)
    provenance = read_provenance(study.folder)
    content = PageContent(evidence, study.outcomes, summaries, setting_names(study.spec), provenance)
    return page_figures(content, no_faults().attempt)


def _chosen(figures: Sequence[Figure], evidence: StudyEvidence, name: str) -> list[Figure]:
    by_name = {figure.name: figure for figure in figures}
    for whole in (name, f"axis-{slug(name)}", f"curves-{slug(name)}"):
        if whole in by_name:
            return [by_name[whole]]
    parts = [f"axis-{slug(axis.key)}" for axis in evidence.axes if axis.hyperparameter.name == name]
    return [by_name[part] for part in parts if part in by_name]
