"""What is wrong with the files of a study folder, as it is said on every look at it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from tunectl.core import regular_files
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_message
from tunectl.core.records import OF_PROCEDURES, TrialOutcome
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.session.outcome_index import damage_note
from tunectl.store.index import Index
from tunectl.store.provenance import file_sha256, provenance_damage


def damage_notes(folder: StudyFolder, outcomes: Sequence[TrialOutcome]) -> Iterator[str]:
    """One line for each trial of whose files something cannot be read, and for what else is damaged."""
    for item in outcomes:
        if item.damage:
            yield damage_note(item)
    found = provenance_damage(folder, has_trained=any(item.attempts for item in outcomes))
    if found:
        yield f"warning: {found}"
    has_procedure = any(item.plan.kind in OF_PROCEDURES for item in outcomes)
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
    """One line for each file that was changed since the last runner left it: tunectl alone writes them."""
    if index is None:
        return
    with suppress(FolderError):
        now = fingerprints(folder)
        for name, sha256 in index.fingerprints().items():
            if now.get(name) != sha256:
                yield f"warning: {folder.path / name}: has changed since the last run, which alone writes it"


def fingerprints(folder: StudyFolder) -> dict[str, str]:
    """The SHA-256 of the files that say what the study is."""
    found = {path.name: file_sha256(path) for path in (folder.study, folder.points)}
    return {name: sha256 for name, sha256 in found.items() if sha256 is not None}
