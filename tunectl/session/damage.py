"""The damage of a study folder's files, as every command that reads the folder reports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from tunectl.core import regular_files
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_message
from tunectl.core.records import OF_PROCEDURES, TrialOutcome
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.session.outcome_index import trial_notes
from tunectl.store.earlier_trials_file import kept_trials
from tunectl.store.index import Index
from tunectl.store.provenance import file_sha256, provenance_damage

_PREFIX = "warning: "


class DamageLog:
    """Says what of a study folder is damaged, each line once, and keeps it."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._said: dict[str, None] = {}

    def __call__(self, line: str) -> None:
        """Say a line, unless it was said before."""
        if line not in self._said:
            self._said[line] = None
            self._report(line)

    @property
    def lines(self) -> tuple[str, ...]:
        """What was said, without the word that it is a warning."""
        return tuple(line.removeprefix(_PREFIX) for line in self._said)


def damage_notes(folder: StudyFolder, outcomes: Sequence[TrialOutcome]) -> Iterator[str]:
    """One line for all trials with the same damage, and for each other file of the folder that is damaged."""
    yield from trial_notes(outcomes)
    found = provenance_damage(folder, has_trained=any(item.attempts for item in outcomes))
    if found:
        yield f"warning: {found}"
    if folder.rereading.is_dir():
        yield f"warning: {folder.rereading}: is a folder, not a file"
    try:
        if folder.earlier_trials.is_file() and kept_trials(folder) is None:
            yield f"warning: {folder.earlier_trials}: is damaged, so that what was best before this study is not known"
    except FolderError as error:
        yield f"warning: {error}"
    has_procedure = any(item.plan.trial_kind in OF_PROCEDURES for item in outcomes)
    for path, must_be_there in ((folder.procedure, has_procedure), (folder.conclusion, False)):
        try:
            sealed_object(regular_files.content(path))
        except FileNotFoundError:
            if must_be_there:
                yield f"warning: {path}: is missing"
        except OSError as error:
            yield f"warning: {path_message(path, 'read', error)}"
        except DamagedError as error:
            yield f"warning: {path}: is damaged ({error})"


def changed_files(folder: StudyFolder, index: Index | None) -> Iterator[str]:
    """One line for each file that someone else has changed since the last run: only tunectl writes them."""
    if index is None:
        return
    with suppress(FolderError):
        now = fingerprints(folder)
        for name, sha256 in index.fingerprints().items():
            if now.get(name) != sha256:
                yield f"warning: {folder.path / name}: has been changed since the last run; only tunectl writes it"


def note_study_file(folder: StudyFolder, index: Index | None) -> None:
    """Note in the index that study.yaml was changed by tunectl itself; where that fails, the next run notes it."""
    if index is not None:
        with suppress(FolderError):
            name = folder.study.name
            index.put_fingerprints({**index.fingerprints(), name: fingerprints(folder)[name]})


def fingerprints(folder: StudyFolder) -> dict[str, str]:
    """The SHA-256 of study.yaml, and of the files with its points and with earlier trials, by name."""
    found = {path.name: file_sha256(path) for path in (folder.study, folder.points, folder.earlier_trials)}
    return {name: sha256 for name, sha256 in found.items() if sha256 is not None}
