"""Studies in which nothing can be learned: every finding, figure, table and the page bear them."""

from __future__ import annotations

import math
from pathlib import Path

from degenerate_studies import Drawn, degenerate_studies
from fuzzing import examples
from hypothesis import given

from tunectl.analysis.findings.study_findings import study_findings
from tunectl.analysis.results.outcomes import settings_summary
from tunectl.analysis.results.retrains import retrained
from tunectl.analysis.search.isolation import isolations
from tunectl.analysis.search.next_search import agreed_changes
from tunectl.cli.printed_findings import _lines
from tunectl.core import jsontext
from tunectl.core.folders import StudyFolder
from tunectl.report.answer_tables import best_trials_table, isolation_table, retrains_table
from tunectl.report.markdown import markdown_bytes
from tunectl.report.page import page_html
from tunectl.report.parquet import parquet_bytes
from tunectl.report.plots import vega_lite
from tunectl.report.study_page import PageContent, study_page
from tunectl.report.table import csv_bytes
from tunectl.report.trial_tables import settings_rows, settings_table, trials_table
from tunectl.session.internal_errors import Faults
from tunectl.session.written_tables import setting_names


@given(drawn=degenerate_studies())
@examples(60)
def test_findings_bear_studies_in_which_nothing_can_be_learned(drawn: Drawn):
    evidence = drawn.evidence
    findings = study_findings(evidence)
    trials = {run.plan.trial for run in evidence.runs}
    for finding in findings:
        jsontext.encode(finding.to_json())
        assert finding.sentence
        assert not set(finding.trials) - trials
        assert not set(finding.settings) - evidence.settings.keys()
        assert "nan" not in " ".join([finding.sentence, finding.action]).replace("nan_loss", "").split()
        _lines(finding)
        for change in finding.changes:
            numbers = change.value if isinstance(change.value, list) else [change.value]
            assert all(math.isfinite(number) for number in numbers if isinstance(number, float))
    agreed_changes(evidence.spec, findings)


@given(drawn=degenerate_studies())
@examples(60)
def test_figures_tables_and_page_bear_studies_in_which_nothing_can_be_learned(drawn: Drawn):
    evidence, outcomes = drawn.evidence, drawn.outcomes
    names = setting_names(evidence.spec)
    summaries = settings_summary(outcomes, names, evidence.objective)
    folder = StudyFolder(Path("/nowhere"))
    page = study_page(folder, PageContent(evidence, outcomes, summaries, names, []), Faults(raises=True).attempt)
    for section in page.sections:
        for figure in section.figures:
            jsontext.encode(vega_lite(figure))
    assert page_html(page).startswith("<!DOCTYPE html>")
    settings_rows(summaries, names)
    for table in (
        isolation_table(isolations(evidence)),
        best_trials_table(evidence),
        retrains_table(retrained(outcomes, evidence.objective)),
        settings_table(summaries, names),
        trials_table(outcomes, evidence.spec.names),
    ):
        csv_bytes(table)
        parquet_bytes(table)
        markdown_bytes(table)
