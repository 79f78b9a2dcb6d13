"""The worker: trains one trial from its folder, or probes a workload, in a process that was forked or spawned.

The server loads this module by its name. It imports training and workloads, and with them torch, only when it is
called.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from tunectl.core import regular_files
from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.own_code_request import CommandRequest, FunctionRequest, Request, request_in
from tunectl.core.rank_exchanges import RankExchanges
from tunectl.core.records import FactorySignature, Scalar, TrialRequest, TrialResult, WorkloadReference
from tunectl.execution import failures
from tunectl.execution.protocol import Assignment
from tunectl.execution.rank_processes import ONE_PLACE, Place, run_ranks
from tunectl.execution.slots import available_cores
from tunectl.execution.trial_ends import TrialEnd, conclude, end_by_exception

_LOADED_BEFORE = (
    "tunectl.training.trial",
    "tunectl.training.probe",
    "tunectl.training.pipeline_profile",
    "tunectl.training.data_checks.data_checks",
)
_IMPORTED_BY_OPTIMIZERS = "torch._dynamo"
"""What torch's optimizers import when they are first used, where `eager` does not prevent it; takes two seconds."""

_IMPORTED_AT_THE_END = "tabulate"
"""What `torch._dynamo` imports when a process ends, where it is installed: late enough to get a file of the user's."""

_LOADED_BEFORE_A_FUNCTION = (
    "tunectl.training.seeds",  # seeding a trial needs torch and numpy, which take long to import
    "tunectl.training.trial",
    "tunectl.training.checkpoints",
    "tunectl.training.function_trial",
    _IMPORTED_BY_OPTIMIZERS,
)

# What torch imports late, at the first update and the first checkpoint (10 ms). Imported here once instead of once a
# trial. Not every version of torch has them all.
_IMPORTED_LATE = (
    "torch.profiler._cupti_monitor",
    "torch.utils.serialization.config",
)

_IMPORTED_BY_SOME = "torch.fx.experimental.symbolic_shapes"
"""What torch imports, in half a second, where code of a workload begins a backward pass from given gradients, as for a
gradient penalty. tunectl's own passes do without (training.backward_passes)."""

_needed_late: list[mmap.mmap] = []
"""A byte of memory that the server has in common with its forks: not 0 once one of them has imported that."""


_path_before: list[str] = []
"""The path of imports before the folders of a workload were added to it."""


def warm_up(*, own_code: bool) -> None:
    """Import what every trial needs, whatever its workload; own code imports its libraries itself."""
    _needed_late[:], _path_before[:] = [mmap.mmap(-1, 1)], sys.path
    with _garbage_collection_off():
        if own_code:
            importlib.import_module("tunectl.programs.command_trial")
            return
        for name in _LOADED_BEFORE:
            importlib.import_module(name)
        for name in _IMPORTED_LATE:
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(name)


def preload(
    workload: WorkloadReference, arguments: Mapping[str, Scalar], code: Sequence[WorkloadReference] = ()
) -> FactorySignature | None:
    """Import the workload's module and give what its factory takes; None for a command, which is not imported.

    `arguments` are those that the factory gets in every trial. Raises WorkloadError, or what importing raises. Of the
    other `code` that the study names, an error is left to the probe, which knows the place in the study.
    """
    if workload.workload_kind == "command":
        return None
    _import_needed_modules(workload)
    from tunectl.workloads import workload_import

    workload_import.preload(workload, arguments)
    for reference in code:
        with contextlib.suppress(WorkloadError):
            workload_import.load_factory(reference)
    return workload_import.factory_signature(
        workload_import.load_factory(workload), takes_trial=workload.workload_kind == "function"
    )


def catch_up() -> None:
    """Import what a process that was forked from this one had to import late: the next ones have it then."""
    if any(flag[0] for flag in _needed_late):
        _needed_late.clear()
        path, sys.path = sys.path, [*_path_before]  # without a user's file with the name of what that imports
        try:
            with _garbage_collection_off(), contextlib.suppress(Exception):  # the next ones import it themselves
                importlib.import_module(_IMPORTED_BY_SOME)
        finally:
            sys.path = path


def _import_needed_modules(workload: WorkloadReference) -> None:
    """Import all that a trial needs before the workload's folders are added to the path: a user's file with the name of
    a standard module is then not imported by torch or tunectl.
    """
    needed = _LOADED_BEFORE if workload.workload_kind == "workload" else _LOADED_BEFORE_A_FUNCTION
    if all(name in sys.modules for name in needed):
        return
    if workload.workload_kind == "workload":
        warm_up(own_code=False)
    for name in needed:
        importlib.import_module(name)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(_IMPORTED_AT_THE_END)


@contextlib.contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """While torch is imported, the collector takes a fifth of the time and finds almost nothing. Afterwards `freeze`
    keeps it from visiting the imported objects again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def work(assignment: Assignment, stop: Callable[[], bool]) -> int:
    """Do the assignment; the exit code is 0 when a trial's result, or a probe's answer, is written."""
    try:
        return _probe(assignment) if assignment.task == "probe" else _train(assignment, stop)
    finally:
        for flag in _needed_late if _IMPORTED_BY_SOME in sys.modules else ():
            flag[0] = 1


def _train(assignment: Assignment, stop: Callable[[], bool]) -> int:
    folder = TrialFolder(Path(assignment.folder))
    request = request_in(regular_files.content(folder.request, within=folder.study))
    devices = _devices(request)
    run = partial(_end, request, folder, stop)
    end = run(assignment) if devices == 1 else run_ranks(devices, assignment, stop, run)
    return conclude(end, request, folder, replace(assignment, label=_label(assignment.label, devices)))


def _label(label: str, devices: int) -> str:
    """The devices of a trial in the tables: GPUs have their UUIDs there, one by one."""
    return label if devices == 1 or label != "cpu" else f"{devices} x {label}"


def _devices(request: Request) -> int:
    """The number of processes that train a trial together; what only measures has one."""
    if not isinstance(request, TrialRequest) or request.workload_kind not in ("workload", "final"):
        return 1
    return request.devices


def _end(
    request: Request, folder: TrialFolder, stop: Callable[[], bool], assignment: Assignment, place: Place = ONE_PLACE
) -> TrialEnd:
    """Run the trial, in all the processes that it has, to its end."""
    seconds = TrialSeconds()
    try:
        return TrialEnd.of(_run(request, folder, assignment, stop=stop, seconds=seconds, place=place))
    except BaseException as error:  # user code may raise SystemExit or another one to end the process
        return end_by_exception(error, request.trial, folder, stop, seconds)


def _run(
    request: Request,
    folder: TrialFolder,
    assignment: Assignment,
    *,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
    place: Place,
) -> TrialResult | None:
    match request:
        case CommandRequest():
            from tunectl.programs.command_trial import run_command

            seconds.startup_seconds = max(0.0, time.monotonic() - assignment.launched)
            return run_command(request, folder, stop=stop, seconds=seconds)
        case FunctionRequest():
            from tunectl.training.function_trial import run_function

            function = _loaded(request.workload, request.threads, assignment, seconds)
            return run_function(request, folder, function, device=assignment.device, stop=stop, seconds=seconds)
        case TrialRequest():
            return _run_trial(request, folder, assignment, stop=stop, seconds=seconds, place=place)
        case _:
            assert_never(request)


def _loaded(
    workload: WorkloadReference, threads: int, assignment: Assignment, seconds: TrialSeconds
) -> Callable[..., Any]:
    """The workload's factory or function; already imported where the process was forked."""
    from tunectl.workloads.workload_import import load_factory

    try:
        _import_needed_modules(workload)
        _set_threads(threads)
        return load_factory(workload)
    finally:
        seconds.startup_seconds = max(0.0, time.monotonic() - assignment.launched)


def _run_trial(
    request: TrialRequest,
    folder: TrialFolder,
    assignment: Assignment,
    *,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
    place: Place,
) -> TrialResult | None:
    from tunectl.training.trial import run_trial

    factory = _loaded(request.workload, request.threads, assignment, seconds)
    if request.workload_kind == "throughput":
        return _measure_throughput(request, folder, factory, assignment.device, stop, seconds)
    if request.workload_kind == "data_checks":
        from tunectl.training.data_checks.data_checks import run_data_checks

        return run_data_checks(request, folder, factory)
    if request.workload_kind == "profile":
        from tunectl.training.pipeline_profile import run_profile

        return run_profile(
            request, folder, factory, device=assignment.device, cores=available_cores(), stop=stop, seconds=seconds
        )
    if request.workload_kind == "curvature":
        from tunectl.training.checkpoint_trial import run_checkpoints

        return run_checkpoints(request, folder, factory, device=assignment.device, stop=stop, seconds=seconds)
    if request.workload_kind in ("data", "final", "test"):
        from tunectl.training.final_trial import run_final

        train = partial(run_final, request, folder, factory, device=assignment.device, stop=stop, seconds=seconds)
    else:
        train = partial(run_trial, request, folder, factory, device=assignment.device, stop=stop, seconds=seconds)
    return train() if place.count == 1 else _on_ranks(train, place, assignment.device)


def _on_ranks(train: Callable[..., TrialResult | None], place: Place, device: str) -> TrialResult | None:
    """The result of a training on several devices, in the process of one of them."""
    from tunectl.training.ranks import ProcessRanks

    ranks = ProcessRanks(place.rank, place.count, place.meeting, device, RankExchanges(place.exchanges, place.count))
    result = train(ranks=ranks)
    if TrialEnd.of(result).is_of_all:
        ranks.finish()
    return result


def _measure_throughput(
    request: TrialRequest,
    folder: TrialFolder,
    factory: Callable[..., Any],
    device: str,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
) -> TrialResult | None:
    from tunectl.execution.memory_limit import limited_memory
    from tunectl.training.throughput import run_throughput

    # CUDA reserves far more address space than it uses; on a GPU, training sets the limit itself.
    limit = limited_memory(request.memory_limit_bytes) if device == "cpu" else contextlib.nullcontext()
    with limit:
        return run_throughput(request, folder, factory, device=device, stop=stop, seconds=seconds)


def _probe(assignment: Assignment) -> int:
    from tunectl.training.probe import probe
    from tunectl.workloads.workload_import import load_factory

    request = TrialRequest.from_json(assignment.request)
    _import_needed_modules(request.workload)
    answer: dict[str, object] = {"message": "", "where": "", "traceback": "", "checkpoint_bytes": 0}
    try:
        _set_threads(request.threads)
        found = probe(request, load_factory(request.workload), device=assignment.device)
        answer |= {"checkpoint_bytes": found.checkpoint_bytes, "notes": list(found.notes)}
    except BaseException as error:
        failure = failures.describe(error)
        answer |= {"message": failure.message, "where": failure.where, "traceback": failure.text}
    os.write(assignment.answer, json.dumps(answer).encode("ascii"))
    return 0


def _set_threads(threads: int) -> None:
    # Training has imported torch by now; only training imports it.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
