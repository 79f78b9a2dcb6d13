"""Measures the throughput of training: the loop of every trial, timed, with a learning rate of 0."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import torch

from tunectl.core.errors import Infeasible, LoaderError
from tunectl.core.exception_text import first_line
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.measurement_kinds import THROUGHPUT
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.averaging import WeightAverages
from tunectl.training.batches import LoadedBatches, batches_of
from tunectl.training.built_workload import build_workload
from tunectl.training.cached_examples import with_cached_examples
from tunectl.training.checkpoints import BestCheckpoints
from tunectl.training.data_loaders import loader_deaths_raised
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.loop import train
from tunectl.training.memory_errors import is_out_of_memory
from tunectl.training.optimizers import trainable_parameters, workload_optimizer
from tunectl.training.precision import LossScaler
from tunectl.training.seeds import Purpose, seed_everything, sequence
from tunectl.training.timed_batches import DeviceWaits, Enough, Extent, HostWaits, Stopped, TimedBatches
from tunectl.training.training_state import Clock, TrialState
from tunectl.training.trial_progress import TrialProgress
from tunectl.training.update_series import StepSeries
from tunectl.workloads.workload import Workload

_NO_ROOM = ("std::bad_alloc", "could not create a primitive", "could not create a memory", "can't start new thread")
"""Texts of errors under a memory limit, in addition to those in memory_errors."""

_NO_ROOM_FOR_LOADERS = "Bus error"
"""The end of a loader process where the memory that it shares with the trial is full."""


def run_throughput(
    request: TrialRequest,
    folder: TrialFolder,
    workload_factory: Callable[..., Workload],
    *,
    device: str,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
    clock: Clock | None = None,
    extent: Extent | None = None,
) -> TrialResult | None:
    """Train for some time as a trial would, and measure the speed; gives None where `stop()` became true.

    Every update has a learning rate of 0, so that the weights do not change and nothing diverges (denormal numbers
    would change the speed). At most `max_train_steps` updates are measured. A block of updates is a measurement with
    the metrics `throughput/examples_per_second`, `…/seconds_per_step`, `…/data_wait_fraction`, `…/data_workers` and
    `…/train_examples`. The result is infeasible where the memory is too small, or the workload raises Infeasible. A
    trial that was stopped is measured again from the beginning.
    """
    torch.backends.cudnn.benchmark = False
    clock = clock or Clock()
    clock.start()
    progress, lines = TrialProgress(evaluated_step=0), LineFile(folder.measurements)

    def measure(stack: contextlib.ExitStack) -> None:
        state = still_trial(request, folder, workload_factory, torch.device(device), progress, lines)
        stack.callback(state.close)
        _time(state, clock, extent or Extent(), request.max_train_steps, stop)

    return timed_trial(request, measure, device=device, seconds=seconds, clock=clock, progress=progress, lines=lines)


def timed_trial(
    request: TrialRequest,
    measure: Callable[[contextlib.ExitStack], None],
    *,
    device: str,
    seconds: TrialSeconds,
    clock: Clock,
    progress: TrialProgress,
    lines: LineFile,
) -> TrialResult | None:
    """The result of a trial that `measure` times, which puts what must be closed on the stack; None if it was stopped.

    It is infeasible where the memory is too small, or the workload raises Infeasible. The time since the last lap of
    the clock is added to `seconds`.
    """
    reason = message = ""
    try:
        with loader_deaths_raised(), contextlib.ExitStack() as stack:
            stack.callback(lines.close)
            measure(stack)
    except Stopped:
        return None
    except Infeasible as error:
        reason = message = error.reason
    except Exception as error:
        reason, message = "out_of_memory", lack_of_memory(error)
        if not message:
            raise
    finally:
        seconds.train_seconds += clock.lap()
    return _timed_result(request, progress, seconds, device, reason, message)


def _timed_result(
    request: TrialRequest, progress: TrialProgress, seconds: TrialSeconds, device: str, *reasons: str
) -> TrialResult:
    """The result of a trial that was timed; `reasons` are the reason and the message of an infeasible one, or ""."""
    reason, message = reasons
    return TrialResult(
        trial=request.trial,
        state="infeasible" if reason else "completed",
        reason=reason,
        message=message,
        infeasible_step=progress.step if reason else None,
        final_step=progress.step,
        train_seconds=seconds.train_seconds,
        startup_seconds=seconds.startup_seconds,
        device=device,
    )


def still_trial(
    request: TrialRequest,
    folder: TrialFolder,
    factory: Callable[..., Workload],
    device: torch.device,
    progress: TrialProgress,
    lines: LineFile,
    changed: Callable[[Workload], Workload] = lambda workload: workload,
) -> TrialState:
    """The trial of the request, with a learning rate of 0 and without evaluations; `changed` gives its workload from
    the one that was built.
    """
    _limit_device_memory(request, device)
    asked = TrainingConfiguration(**request.configuration)
    still = replace(asked, learning_rate=0.0, schedule="constant", warmup_steps=0, post_warmup_steps=0)
    # Twice as many, so that the fixed batch, used in the second half of a trial, is never evaluated.
    updates = 2 * (request.max_train_steps + request.trace_updates + 1)
    workload = changed(with_cached_examples(build_workload(factory, request, device), request))
    parameters = trainable_parameters(workload.model)
    state = TrialState(
        request=replace(request, max_train_steps=updates, eval_every=updates),
        configuration=still,
        folder=folder,
        device=device,
        workload=workload,
        parameters=parameters,
        optimizer=workload_optimizer(workload, asked),
        evaluator=Evaluator(workload, {}, still.eval_batch_size, request.seed, device),
        fixed_batch=None,
        series=StepSeries(still.batch_size, still.grad_clip_norm),
        scaler=LossScaler(device) if still.precision == "float16" else None,
        averages=None if still.polyak_decay is None else WeightAverages(parameters, still.polyak_decay),
        progress=progress,
        best=BestCheckpoints(folder, request.objective, 1),
        measurements=lines,
        steps=LineFile(folder.steps),
        batches=batches_of(request, workload, still, device, updates=range(updates)),
    )
    seed_everything(sequence(request.seed, Purpose.TRAINING), device)
    return state


def _limit_device_memory(request: TrialRequest, device: torch.device) -> None:
    # On the host the whole process has the limit.
    if request.memory_limit_bytes is not None and device.type == "cuda":
        part = request.memory_limit_bytes / torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, part), device)


def loader_processes(state: TrialState) -> int:
    """How many processes make the batches of training: 0 where the trial's own makes them."""
    return state.request.data_workers if isinstance(state.batches, LoadedBatches) else 0


def _time(state: TrialState, clock: Clock, extent: Extent, most_updates: int, stop: Callable[[], bool]) -> None:
    """Run the training loop until all is measured; raises Stopped where a stop was requested."""
    workers = loader_processes(state)
    examples = len(state.workload.data["train"])  # type: ignore[arg-type]
    began = clock.now()

    def measured(update: int, updates: int, seconds: float, waiting: float) -> None:
        metrics = {
            "examples_per_second": updates * state.configuration.batch_size / seconds,
            "seconds_per_step": seconds / updates,
            "data_wait_fraction": min(1.0, waiting / seconds),
            "data_workers": float(workers),
            "train_examples": float(examples),
        }
        state.measurements.append(THROUGHPUT.measurement(update, metrics, clock.now() - began).to_json())

    time_updates(state, clock, extent, most_updates, stop=stop, measured=measured)


def time_updates(
    state: TrialState,
    clock: Clock,
    extent: Extent,
    most_updates: int,
    *,
    stop: Callable[[], bool],
    measured: Callable[[int, int, float, float], None],
    block_begins: Callable[[], None] = lambda: None,
) -> None:
    """Run the training loop until enough blocks of updates were `measured`; see TimedBatches.

    Raises Stopped where a stop was requested.
    """
    on_gpu, workers, request = state.device.type == "cuda", loader_processes(state), state.request
    inner = state.batches
    state.batches = TimedBatches(
        inner,
        now=clock.now,
        synchronise=torch.cuda.synchronize if on_gpu else _nothing,
        waits=DeviceWaits() if on_gpu else HostWaits(clock.now),
        # The batches that loaders made in advance at the start come faster than the later ones.
        extent=replace(extent, least_warmup_updates=extent.least_warmup_updates + workers * request.prefetch_batches),
        most_updates=most_updates,
        stop=stop,
        measured=measured,
        block_begins=block_begins,
    )
    train_until_enough(state)
    state.batches = inner


def train_until_enough(state: TrialState) -> None:
    """Run the training loop until its batches raise Enough."""
    with contextlib.suppress(Enough):
        while True:
            # It returns where a loss is not finite, which does not matter here.
            train(state, _never)


def _nothing() -> None:
    """On the host there is nothing to wait for."""


def _never() -> bool:
    return False


def lack_of_memory(error: Exception) -> str:
    """The first line of an error of memory; "" for another error."""
    said = str(error).strip()
    short = isinstance(error, RuntimeError) and any(text in said for text in _NO_ROOM)
    full = isinstance(error, LoaderError) and _NO_ROOM_FOR_LOADERS in said
    if not (short or full or is_out_of_memory(error)):
        return ""
    return first_line(error)
