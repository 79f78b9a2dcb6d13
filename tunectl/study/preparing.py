"""Before anything is created: the workload is loaded, compared with the study, and tried on one batch in each
setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tunectl.core.errors import EXIT_INTERRUPTED, TunectlError, WorkloadError
from tunectl.core.records import FactorySignature, PlannedTrial
from tunectl.execution.backends import BACKENDS, Backend
from tunectl.execution.devices import find_devices
from tunectl.execution.slots import Slot, make_slots
from tunectl.sampling.plan import plan_trials
from tunectl.spec.model import StudySpec
from tunectl.study.checking import CheckedStudy, check_signature, check_study
from tunectl.study.requests import trial_request


class StoppedError(TunectlError):
    """The command was interrupted before it had created anything."""

    exit_code = EXIT_INTERRUPTED


@dataclass(frozen=True, slots=True)
class Ready:
    """A backend that has loaded the workload; `signature` is the factory's own, beyond doubt."""

    backend: Backend
    signature: FactorySignature


def study_slots(spec: StudySpec, count: int | None, environ: dict[str, str]) -> tuple[Slot, ...]:
    """The slots of a study: `count` (--slots) of them, or all that its resources give."""
    resources = spec.resources
    devices = find_devices(resources.devices, environ)
    return make_slots(devices, resources.trials_per_device, resources.threads_per_trial, count)


@contextmanager
def started_backend(checked: CheckedStudy) -> Iterator[Backend]:
    """A backend that has begun to load the workload; ended with the block, and every trial with it."""
    backend = BACKENDS["local"](checked.reference)
    try:
        backend.start()
        yield backend
    finally:
        backend.close()


def make_ready(
    backend: Backend,
    checked: CheckedStudy,
    trials: Sequence[PlannedTrial],
    slot: Slot,
    stop_requested: Callable[[], int],
) -> Ready:
    """Wait for the workload, then try the first of the given trials of each setting on one batch.

    Raises StudyError or WorkloadError for what cannot work, StoppedError when a stop was asked for meanwhile.
    """
    started = backend.wait_ready(stop_requested)
    if started is None:
        raise StoppedError("interrupted before anything was created or changed")
    signature = checked.signature
    if started.signature is not None:
        signature = started.signature
        check_signature(checked.spec, signature)
    first_of_setting = {trial.setting: trial for trial in reversed(trials)}
    for setting in sorted(first_of_setting):
        request = trial_request(checked.spec, checked.reference, signature, first_of_setting[setting])
        try:
            tried = backend.probe(request, slot, stop_requested)
        except WorkloadError as error:
            raise WorkloadError(f"{checked.spec.label}: {error}") from error
        if not tried:
            raise StoppedError("interrupted before anything was created or changed")
    return Ready(backend, signature)


def probe_study(study: Path, current_folder: Path, environ: dict[str, str]) -> CheckedStudy:
    """Check a study, then build its workload in a child process and try it; raises what `make_ready` raises."""
    checked = check_study(study, current_folder)
    slot = study_slots(checked.spec, None, environ)[0]
    with started_backend(checked) as backend:
        ready = make_ready(backend, checked, plan_trials(checked.spec), slot, lambda: 0)
    return replace(checked, signature=ready.signature)
