"""The page of a procedure, written into its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tunectl.core.files import write_if_changed
from tunectl.core.path_errors import path_errors
from tunectl.procedures.procedure import Conclusion
from tunectl.report.page import page_html
from tunectl.report.procedure_page import ProcedureContent, procedure_page
from tunectl.report.table import Table
from tunectl.session.internal_errors import no_faults, write_faults
from tunectl.session.open_study import OpenStudy
from tunectl.session.study_evidence import read_evidence
from tunectl.store.provenance import read_provenance


def write_procedure_page(
    name: str, study: OpenStudy, conclusion: Conclusion, table: Table, say: Callable[[str], None]
) -> list[Path]:
    """Write report.html with the conclusion of the procedure of this name, whose table is `table`; returns its path.

    A fault of tunectl in making it costs no conclusion: `say` is called with a line about it, and faults.txt has it.
    Raises FolderError where a file cannot be written.
    """
    folder, faults = study.folder, no_faults()
    text = faults.attempt("the page of the procedure", lambda: _page_text(name, study, conclusion, table), "")
    write_faults(folder, faults)
    if not text:
        say(f"warning: the page could not be made; this is a fault in tunectl: send {folder.faults} with a bug report")
        return []
    path = folder.path / "report.html"
    with path_errors(path, "written"):
        write_if_changed(path, text.encode("utf-8", "replace"))
    return [path]


def _page_text(name: str, study: OpenStudy, conclusion: Conclusion, table: Table) -> str:
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
    return page_html(procedure_page(folder, content))
