"""Models that were trained: that of a last training written to its folder, and any loaded and evaluated."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from tunectl.core import regular_files, typed_fields
from tunectl.core.errors import FolderError, UsageError, WorkloadError
from tunectl.core.exception_text import first_line
from tunectl.core.files import write_atomically
from tunectl.core.final_training import VALID_FOR_TRAINING
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.path_errors import path_error
from tunectl.core.records import TrialRequest
from tunectl.language.configuration import TrainingConfiguration
from tunectl.store.provenance import file_sha256
from tunectl.training import saved_state
from tunectl.training.built_workload import build_workload
from tunectl.training.checkpoints import UnusableResume, load, write_archive
from tunectl.training.evaluation import evaluate
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.memory_errors import is_out_of_memory
from tunectl.training.seeds import Purpose, randomness, sequence
from tunectl.workloads.workload import Workload
from tunectl.workloads.workload_import import load_factory


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that was trained, with the workload that built it: `workload.model` is in evaluation mode.

    `request` is that of its trial. `held_back` are splits that it is not evaluated on.
    """

    workload: Workload
    request: TrialRequest
    device: torch.device
    held_back: frozenset[str] = frozenset()

    @property
    def model(self) -> nn.Module:
        """The model, with the weights as they were evaluated."""
        return self.workload.model

    def evaluate(self, split: str) -> dict[str, float]:
        """The metrics of a split of the workload by `split/name`, as a trial measures them.

        On the CPU they are those of the trial, bit for bit, where it evaluated the whole split. Raises WorkloadError
        where the workload has no such split, or it is held back.
        """
        known = [name for name in self.workload.data if name != VALID_FOR_TRAINING]
        if split not in known:
            given = ", ".join(known)
            raise WorkloadError(f"expected a split of the workload ({given}), got {split!r}")
        if split in self.held_back:
            raise WorkloadError(
                f"the split {split!r} is evaluated by `tunectl train-final` alone, which counts each look at it"
            )
        configuration = TrainingConfiguration(**self.request.configuration)
        evaluator = Evaluator(
            self.workload,
            {split: self.workload.data[split]},
            configuration.eval_batch_size,
            self.request.seed,
            self.device,
            self.request.data_workers,
            configuration.precision,
        )
        threads = torch.get_num_threads()
        try:
            # The last bit of a sum can depend on their number.
            torch.set_num_threads(self.request.threads)
            metrics = evaluate(evaluator)[split].metrics
        finally:
            torch.set_num_threads(threads)
            self.model.eval()
        return {f"{split}/{name}": value for name, value in metrics.items()}


def write_model(folder: TrialFolder, step: int) -> None:
    """Write the model of the checkpoint after `step` updates to the study folder, as a plain state_dict.

    Raises OSError where the disk is full.
    """
    weights = load(folder.checkpoint(step))["model"]
    write_atomically(StudyFolder(folder.study).model, lambda file: write_archive(weights, file), within=folder.study)


def built_model(request: TrialRequest, factory: Callable[..., Workload], weights: Path, device: str) -> LoadedModel:
    """The model that the request's workload builds, with the weights of a file.

    Raises WorkloadError where the file cannot be read, or does not fit the model.
    """

    def read() -> Any:
        with regular_files.opened(weights, follows=True) as file:
            return saved_state.read(file)

    return _built(request, factory, _Weights(weights, read), torch.device(device))


class _Weights(NamedTuple):
    """The weights of a model: their file, and how they are read from it."""

    file: Path
    read: Callable[[], Any]


def _built(
    request: TrialRequest, factory: Callable[..., Workload], weights: _Weights, device: torch.device
) -> LoadedModel:
    workload = build_workload(factory, request, device)
    try:
        workload.model.load_state_dict(weights.read())
    except WorkloadError:
        raise
    except Exception as error:  # whatever the parts of a foreign or damaged file raise
        if is_out_of_memory(error):
            raise
        raise WorkloadError(
            f"{weights.file}: does not fit the model of the workload {request.workload.text}"
            f" ({type(error).__name__}: {first_line(error)})"
        ) from error
    workload.model.eval()
    return LoadedModel(workload, request, device)


def load_final(folder: Path, device: str = "cpu") -> LoadedModel:
    """The model in the folder of a last training, built by the factory of its workload.

    configuration.json says where the factory is. Global random generators and the program's arguments are as before
    afterwards. Warns where the workload's file has changed since. Raises FolderError where the folder has no such
    model, and WorkloadError where the workload cannot be built, or builds another model.
    """
    home = StudyFolder(folder)
    try:
        content = typed_fields.document(regular_files.content(home.configuration, follows=True))
        request = TrialRequest.from_json(content["request"])
    except OSError as error:
        raise path_error(home.configuration, "read", error) from error
    except (KeyError, TypeError, ValueError) as error:
        raise FolderError(f"{home.configuration}: is damaged ({error})") from error
    _warn_of_change(content.get("workload_file"))
    with _as_before(request, device):
        return built_model(request, load_factory(request.workload), home.model, device)


def load_trial(request: TrialRequest, checkpoint: Path, workload_file: Any, device: str = "cpu") -> LoadedModel:
    """The model of a trial with the weights of one of its checkpoints, as they were evaluated; `test` is held back.

    `workload_file` is the entry of that name in provenance.json. Otherwise as `load_final`.
    """
    _warn_of_change(workload_file)

    def read() -> Any:
        try:
            return load(checkpoint)["model"]
        except UnusableResume as error:
            raise WorkloadError(f"{checkpoint}: {error}") from error

    target = _usable(device)
    with _as_before(request, device):
        built = _built(request, load_factory(request.workload), _Weights(checkpoint, read), target)
    return replace(built, held_back=frozenset({"test"}))


def _usable(device: str) -> torch.device:
    """The device; raises UsageError where there is none of that name, or it cannot be used here."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UsageError(f"device {device!r}: {first_line(error)}") from error


@contextlib.contextmanager
def _as_before(request: TrialRequest, device: str) -> Iterator[None]:
    """Within the block a workload is built; afterwards random generators and the program's arguments are as before."""
    arguments = sys.argv
    try:
        with randomness(sequence(request.seed, Purpose.MODEL), torch.device(device)):
            yield
    finally:
        sys.argv = arguments


def _warn_of_change(recorded: Any) -> None:
    """Warn where the file of the workload is not the one that the model was trained with."""
    if not isinstance(recorded, dict) or not isinstance(recorded.get("path"), str):
        return
    now = file_sha256(Path(recorded["path"]))
    if now is not None and recorded.get("sha256") not in (None, now):
        warnings.warn(
            f"{recorded['path']} has changed since the model was trained: its inputs may now mean something else",
            stacklevel=3,
        )
