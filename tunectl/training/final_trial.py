"""The trials of a last training: one that counts the data, one that trains, and one that evaluates `test`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tunectl.core import jsontext, record_checksums, typed_fields
from tunectl.core.files import write_bytes
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.measurements import Measurement, TrialSeconds
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.built_workload import build_workload
from tunectl.training.final_model import built_model, write_model
from tunectl.training.folded_data import folded, folded_data
from tunectl.training.ranks import SINGLE, Ranks
from tunectl.training.training_state import Clock
from tunectl.training.trial import run_trial
from tunectl.workloads.workload import Workload


def run_final(
    request: TrialRequest,
    folder: TrialFolder,
    workload_factory: Callable[..., Workload],
    *,
    device: str,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
    clock: Clock | None = None,
    ranks: Ranks = SINGLE,
) -> TrialResult | None:
    """Run a trial of a last training; gives None where `stop()` became true, and the same call goes on from there.

    Exceptions pass as from `run_trial`. Of several `ranks`, each calls it to train; counting and testing have one.
    """
    clock = clock or Clock()
    if request.workload_kind == "final":
        result = run_trial(
            request,
            folder,
            workload_factory,
            device=device,
            stop=stop,
            seconds=seconds,
            clock=clock,
            prepare=folded,
            ranks=ranks,
        )
        if ranks.rank == 0 and result is not None and is_trained(result):
            assert result.final_step is not None
            write_model(folder, result.final_step)
        return result
    torch.backends.cudnn.benchmark = False
    clock.start()
    try:
        if request.workload_kind == "data":
            return _counted(request, folder, workload_factory, device)
        return _tested(request, folder, workload_factory, device)
    finally:
        seconds.eval_seconds += clock.lap()


def is_trained(result: TrialResult) -> bool:
    """Whether a training reached its last step with a model that can be used: it may have recovered on the way."""
    return result.state == "completed" or (result.state == "infeasible" and result.reason == "recovered")


def _counted(
    request: TrialRequest, folder: TrialFolder, workload_factory: Callable[..., Workload], device: str
) -> TrialResult:
    """Build the workload and write what splits it has."""
    found = folded_data(build_workload(workload_factory, request, torch.device(device)))
    content = record_checksums.sealed(jsontext.encode(typed_fields.untyped(found))) + b"\n"
    write_bytes(folder.data, content, within=folder.study)
    return TrialResult(trial=request.trial, state="completed", final_step=0, device=device)


def _tested(
    request: TrialRequest, folder: TrialFolder, workload_factory: Callable[..., Workload], device: str
) -> TrialResult:
    """Evaluate `test` with the model that was written; the measurement has the number of its updates."""
    model = built_model(request, workload_factory, StudyFolder(folder.study).model, device)
    step = TrainingConfiguration(**request.configuration).total_steps(request.trained_steps)
    lines = LineFile(folder.measurements)
    try:
        lines.append(Measurement(step=step, metrics=model.evaluate("test")).to_json())
        lines.sync()
    finally:
        lines.close()
    return TrialResult(trial=request.trial, state="completed", final_step=step, device=device)
