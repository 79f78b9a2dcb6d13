"""The end of a procedure: what it concluded, and the files that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.core import jsontext, record_checksums
from tunectl.core.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.records import TrialOutcome
from tunectl.core.table_columns import Column
from tunectl.procedures.procedure import Conclusion
from tunectl.report.table import Table
from tunectl.report.trial_tables import write_table
from tunectl.session.open_study import OpenStudy
from tunectl.session.run_progress import Watcher
from tunectl.session.study_events import end_events
from tunectl.store.writing_lock import writing_lock


@dataclass(frozen=True, slots=True)
class ProcedureResult:
    """The end of a call of a procedure; `conclusion` is None where it was interrupted, or trials failed.

    `damage` is that of the folder.
    """

    procedure: str
    folder: StudyFolder
    outcomes: tuple[TrialOutcome, ...]
    conclusion: Conclusion | None
    paths: tuple[Path, ...]
    interrupted: bool
    damage: tuple[str, ...] = ()

    @property
    def failed(self) -> list[TrialOutcome]:
        """The failed trials: with any of them there is no conclusion."""
        return [item for item in self.outcomes if item.state == "failed"]

    @property
    def exit_code(self) -> int:
        """0 done, 1 trials failed, 130 interrupted."""
        if self.conclusion is not None:
            return EXIT_DONE
        return EXIT_INTERRUPTED if self.interrupted else EXIT_SOME_FAILED

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object: the conclusion, and the files with it."""
        answers = dict(self.conclusion.answers) if self.conclusion else {}
        verdict = self.conclusion.verdict if self.conclusion else None
        return {
            "procedure": self.procedure,
            "folder": str(self.folder.path),
            **answers,
            "verdict": verdict,
            "advice": self.conclusion.advice if self.conclusion else None,
            "trials": len(self.outcomes),
            "failed": [item.plan.trial for item in self.failed],
            "files": [str(path) for path in self.paths],
            "damage": list(self.damage),
            "exit_code": self.exit_code,
        }


def report_procedure(
    name: str, study: OpenStudy, conclusion: Conclusion | None, watcher: Watcher, *, interrupted: bool
) -> ProcedureResult:
    """Write the tables, and with a conclusion its table, figures and conclusion.json, in the folder of a procedure.

    That the procedure has ended is its last event.
    """
    # Imports pyarrow, which takes a while: only where there is something to write.
    from tunectl.report.plots import write_figures
    from tunectl.session.written_procedure import write_procedure_page
    from tunectl.session.written_tables import write_tables

    with writing_lock(study.folder, watcher.message):
        tables = write_tables(study.folder, study.spec, study.outcomes, study.index)
        paths = list(tables.paths)
        if conclusion is not None:
            drawn = write_figures(study.folder.plots, conclusion.figures)
            if drawn.warning:
                watcher.message(f"warning: {drawn.warning}")
            paths += [
                *write_table(study.folder, name, _table(conclusion)),
                *drawn.paths,
                _write_conclusion(study.folder, conclusion),
                *write_procedure_page(name, study, conclusion, _table(conclusion), watcher.message),
            ]
    outcomes, damage = tuple(study.outcomes), study.damage.lines
    result = ProcedureResult(name, study.folder, outcomes, conclusion, tuple(paths), interrupted, damage)
    end_events(study.folder, watcher.message, None, command=name, exit_code=result.exit_code, outcomes=outcomes)
    return result


def _table(conclusion: Conclusion) -> Table:
    return Table(tuple(Column(name, "scalar") for name in conclusion.header), [tuple(row) for row in conclusion.rows])


def _write_conclusion(folder: StudyFolder, conclusion: Conclusion) -> Path:
    content = record_checksums.sealed(jsontext.encode({**conclusion.answers, "verdict": conclusion.verdict})) + b"\n"
    with path_errors(folder.conclusion, "written"):
        write_if_changed(folder.conclusion, content)
    return folder.conclusion
