"""The page of a procedure, written into its folder."""

from __future__ import annotations

from pathlib import Path

from tunectl.core.files import write_if_changed
from tunectl.core.path_errors import path_errors
from tunectl.procedures.procedure import Conclusion
from tunectl.report.page import page_html
from tunectl.report.procedure_page import ProcedureContent, procedure_page
from tunectl.report.table import Table
from tunectl.session.open_study import OpenStudy
from tunectl.session.study_evidence import read_evidence
from tunectl.store.provenance import read_provenance


def write_procedure_page(name: str, study: OpenStudy, conclusion: Conclusion, table: Table) -> Path:
    """Write report.html with the conclusion of the procedure of this name, whose table is `table`.

    Raises FolderError where it cannot be written.
    """
    folder = study.folder
    evidence = read_evidence(folder, study.spec, study.outcomes, {}, study.spec.objective, with_updates=False)
    content = ProcedureContent(
        name,
        study.spec,
        conclusion.verdict,
        conclusion.advice,
        table,
        conclusion.figures,
        study.outcomes,
        evidence.runs,
        read_provenance(folder),
    )
    path = folder.path / "report.html"
    text = page_html(procedure_page(folder, content))
    with path_errors(path, "written"):
        write_if_changed(path, text.encode("utf-8", "replace"))
    return path
