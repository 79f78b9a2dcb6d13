"""`report` of several studies: one page that shows them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from typing import Any

from tunectl.analysis.figures.studies_figures import NamedStudy
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.core import regular_files
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.files import write_if_changed
from tunectl.core.objective import Objective
from tunectl.core.path_errors import path_errors
from tunectl.core.proposed_commands import tunectl_command
from tunectl.report.page import page_html
from tunectl.report.studies_page import NUMBERS_A_STUDY, ShownStudy, studies_page, studies_table
from tunectl.session.internal_errors import no_faults
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.session.study_evidence import ObjectiveChoice, evidence_of
from tunectl.session.written_report import answer_of, with_faults
from tunectl.store.study_folder import refuse_procedure

PAGE = "studies.html"
"""The name of the page, in the folder that has all studies."""

_SUBJECT = b'<p class="kind">tunectl studies'


@dataclass(frozen=True, slots=True)
class StudiesReport:
    """The page of several studies, and the table of the studies."""

    page: Path
    objective: Objective
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        studies = [dict(zip(self.header, row, strict=True)) for row in self.rows]
        return {"objective": self.objective.to_json(), "studies": studies, "page": str(self.page)}


def report_studies(
    places: Sequence[Path],
    choice: ObjectiveChoice,
    *,
    to: Path | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> StudiesReport:
    """Write one page of the studies at these places, by one objective; nothing is trained.

    The page is `to`, or studies.html in the folder that has all of them. Nothing in their folders is written. Raises
    UsageError where a folder is given twice, is a procedure's, or the studies have different objectives, and
    FolderError where there is no study or the page cannot be written.
    """
    _refuse_repeats(places)
    with ExitStack() as stack:
        studies = [stack.enter_context(study_snapshot(place, say)) for place in places]
        for study in studies:
            refuse_procedure(study.folder)
        names = _names(studies)
        shown = [
            _shown(study, name, number, choice) for number, (study, name) in enumerate(zip(studies, names, strict=True))
        ]
    _check_objectives(shown)
    path = to if to is not None else Path(commonpath([place.absolute().parent for place in places]), PAGE)
    _write(path, page_html(studies_page(shown)))
    table = studies_table(shown)
    return StudiesReport(path, shown[0].study.evidence.objective, table.header, tuple(table.rows))


def _refuse_repeats(places: Sequence[Path]) -> None:
    counts = Counter(place.resolve() for place in places)
    for place in places:
        if counts[place.resolve()] > 1:
            raise UsageError(f"{place}: expected each study once, got it {counts[place.resolve()]} times")


def _names(studies: Sequence[StudySnapshot]) -> list[str]:
    """The names of the studies; the folders where two studies have one name."""
    names = [study.spec.name for study in studies]
    return names if len(set(names)) == len(names) else [str(study.folder.path) for study in studies]


def _shown(study: StudySnapshot, name: str, number: int, choice: ObjectiveChoice) -> ShownStudy:
    evidence, outcomes = evidence_of(study, choice)
    own = [item for item in outcomes if item.plan.stage == evidence.stage]
    faults = no_faults()
    found = study_findings(evidence, faults.attempt)
    answer = faults.attempt("the answer", lambda: answer_of(study.folder, evidence, outcomes, found), None)
    findings = with_faults(found, faults, f"`{tunectl_command('report', study.folder.path)}` writes it to a file")
    return ShownStudy(study.folder, NamedStudy(name, evidence, number * NUMBERS_A_STUDY), own, findings, answer)


def _check_objectives(shown: Sequence[ShownStudy]) -> None:
    first = shown[0].study
    for item in shown[1:]:
        own, theirs = first.evidence.objective, item.study.evidence.objective
        if own != theirs:
            raise UsageError(
                f"the studies have different objectives: {first.name} has {_in_words(own)}, {item.study.name} "
                f"{_in_words(theirs)}; give one for all by --objective, --direction, --checkpoint or --steps-to"
            )


def _in_words(objective: Objective) -> str:
    which = "" if objective.steps_to is not None else f" at its {objective.checkpoint} evaluation"
    return f"{objective.best_direction} {objective.title}{which}"


def _write(path: Path, text: str) -> None:
    """Write the page; another file than such a page is never replaced."""
    with path_errors(path, "written"):
        if path.exists() and _SUBJECT not in regular_files.content(path):
            raise FolderError(f"{path}: is there, and is not a page of several studies; name another file with --to")
        write_if_changed(path, text.encode("utf-8", "replace"))
