"""The model of a trial, loaded from its best checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunectl.core import typed_fields
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.records import TrialOutcome, TrialRequest
from tunectl.session.snapshot import StudySnapshot
from tunectl.store.provenance import read_provenance
from tunectl.store.trial_files import read_trial

if TYPE_CHECKING:
    from tunectl.training.final_model import LoadedModel


def loaded_trial(study: StudySnapshot, outcome: TrialOutcome, device: str) -> LoadedModel:
    """The model of a trial; see `Study.load`."""
    place = study.folder.path / str(outcome.plan.trial)
    checkpoint = study.folder.path / outcome.best_checkpoint if outcome.best_checkpoint is not None else None
    if study.spec.own_code:
        kept = f"; its best checkpoint is {checkpoint}" if checkpoint is not None else ""
        raise UsageError(
            f"{place}: is the trial of a {study.spec.workload_kind}, and only its own code can build its model{kept}"
        )
    if checkpoint is None:
        raise UsageError(f"{place}: has no kept checkpoint of its best evaluation (it is {outcome.state})")
    content = read_trial(study.folder.trial(outcome.plan.trial)).request
    if content is None:
        raise FolderError(f"{place}: its request.json is missing or cannot be read, so its workload is not known")
    try:
        request = TrialRequest.from_json(content)
    except typed_fields.DamagedError as error:
        raise FolderError(f"{place}: its request.json cannot be used: {error}") from error
    runs = read_provenance(study.folder)
    # Imports torch, and runs the code of the workload.
    from tunectl.training.final_model import load_trial

    return load_trial(request, checkpoint, runs[-1].get("workload_file") if runs else None, device)
