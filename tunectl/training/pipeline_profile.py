"""Measures what the time of a trial goes to: its data, computing, evaluating, saving; and keeps a trace."""

from __future__ import annotations

import contextlib
import gzip
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tunectl.core import real_folders, regular_files
from tunectl.core.files import write_bytes
from tunectl.core.folders import TrialFolder
from tunectl.core.free_memory import free_bytes
from tunectl.core.line_file import LineFile
from tunectl.core.measurement_kinds import CACHE_ANSWERS, PROFILE
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.training.batch_norm_statistics import BatchNormGatherer
from tunectl.training.batch_values import mapped_tensors, moved
from tunectl.training.batches import Batches
from tunectl.training.cached_examples import cache_plan, fits_in_memory
from tunectl.training.checkpoints import remove_resume
from tunectl.training.collation import KeptExamples, batch_tensors, collate_of, fetched
from tunectl.training.evaluated_splits import evaluated_splits, is_evaluated
from tunectl.training.evaluation import evaluate
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.saved_trial import checkpoint_writer, evaluated_statistics, evaluated_weights, save_resume
from tunectl.training.seeds import Purpose, host_randomness, sequence
from tunectl.training.streams import StreamedExamples
from tunectl.training.throughput import (
    loader_processes,
    still_trial,
    time_updates,
    timed_trial,
    train_until_enough,
)
from tunectl.training.timed_batches import Enough, Extent, Stopped
from tunectl.training.timed_examples import TimedExamples, TimedStream
from tunectl.training.training_data import TrainingData, with_data
from tunectl.training.training_state import SAVE_COST, Clock, TrialState
from tunectl.training.trial_progress import TrialProgress
from tunectl.workloads.workload import Workload

EXTENT = Extent(most_seconds=20.0)
"""The length of the measurement of updates."""

TIMES = 3
"""How often an evaluation, and a checkpoint, is timed, after one that does not count ..."""

MOST_SECONDS = 10.0
"""... unless so much time has passed; then what was timed counts, the first one too where there is no other."""


def run_profile(
    request: TrialRequest,
    folder: TrialFolder,
    workload_factory: Callable[..., Workload],
    *,
    device: str,
    cores: int,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
    clock: Clock | None = None,
    extent: Extent = EXTENT,
) -> TrialResult | None:
    """Time the parts of a trial: its updates as `run_throughput` does, then an evaluation and the writing of files.

    The measurements are those of PROFILE: a line for each block of updates, and a last line for the rest. With
    `request.trace_updates` the folder then gets a trace of as many updates. Checkpoints are removed again. The result
    is infeasible, or None, where that of `run_throughput` is.
    """
    torch.backends.cudnn.benchmark = False
    clock = clock or Clock()
    clock.start()
    progress, lines = TrialProgress(evaluated_step=0), LineFile(folder.measurements)
    remove_resume(folder)  # of an attempt that was killed

    def measure(stack: contextlib.ExitStack) -> None:
        watched = _Watched(request, clock)
        state = still_trial(request, folder, workload_factory, torch.device(device), progress, lines, watched)
        stack.callback(state.close)
        _prepare(state, watched, request)
        _Profiled(state, watched, request, clock, cores).measure(extent, stop)

    return timed_trial(request, measure, device=device, seconds=seconds, clock=clock, progress=progress, lines=lines)


def _beginning_seeds(request: TrialRequest) -> np.random.SeedSequence:
    return sequence(request.seed, Purpose.EXAMPLES, 0)


class _Watched:
    """Makes of a workload one whose training examples are timed; keeps its own data sets in `data`, and in `beginning`
    the examples of a batch where train is a stream, which only the updates may read.
    """

    def __init__(self, request: TrialRequest, clock: Clock) -> None:
        self._request, self._clock = request, clock
        self.data: dict[str, Dataset[Any]] = {}
        self.busy_seconds: torch.Tensor | None = None
        self.beginning: KeptExamples | None = None

    def __call__(self, workload: Workload) -> Workload:
        self.data = dict(workload.data)
        data = TrainingData.of(workload)
        if data.tensors() is not None:
            return workload
        dataset, now = workload.data["train"], self._clock.now
        if isinstance(dataset, StreamedExamples):
            self.beginning = dataset.first(self._request.configuration["batch_size"], _beginning_seeds(self._request))
            timed = TimedStream(dataset.dataset, now)
            self.busy_seconds = timed.busy
            return with_data(workload, {"train": StreamedExamples(timed)})
        examples = TimedExamples(dataset, self._request.data_workers, now)
        self.busy_seconds = examples.busy
        return with_data(workload, {"train": examples})

    def busy(self) -> list[float]:
        """Seconds of reading so far, of each process."""
        return [0.0] if self.busy_seconds is None else self.busy_seconds.tolist()


def _prepare(state: TrialState, watched: _Watched, request: TrialRequest) -> None:
    """Give the trial what a still one lacks: what is evaluated, and how."""
    splits = evaluated_splits(
        replace(state.workload, data=watched.data), request.train_examples, request.split_examples
    )
    configuration = state.configuration
    state.evaluator = Evaluator(
        state.workload,
        splits,
        configuration.eval_batch_size,
        request.seed,
        state.device,
        request.data_workers,
        configuration.precision,
        request.prefetch_batches,
    )
    state.batch_norm = BatchNormGatherer.of_request(request, state.workload, state.device)
    state.best.prune()  # of an attempt that was killed


@dataclass(slots=True)
class _Profiled:
    state: TrialState
    watched: _Watched
    request: TrialRequest
    clock: Clock
    cores: int

    def measure(self, extent: Extent, stop: Callable[[], bool]) -> None:
        """Measure all, and write it; raises Stopped."""
        began, before = self.clock.now(), self.watched.busy()

        def measured(update: int, updates: int, seconds: float, waiting: float) -> None:
            spent = [after - earlier for after, earlier in zip(self.watched.busy(), before, strict=True)]
            metrics = {
                "seconds_per_step": seconds / updates,
                "waiting": min(seconds, waiting) / updates,
                "reading": sum(spent) / updates,
                "busiest_worker": max(spent) / seconds,
                "idlest_worker": min(spent) / seconds,
            }
            self._write(update, metrics, began)

        def block_begins() -> None:
            nonlocal before
            before = self.watched.busy()

        most = self.request.max_train_steps
        time_updates(self.state, self.clock, extent, most, stop=stop, measured=measured, block_begins=block_begins)
        rest = {**self._facts(), **self._data(), **self._evaluation(stop), **self._saving(stop)}
        if self.request.trace_updates:
            rest |= self._cache_answers()
            self._keep_trace()
        self._write(self.state.progress.step + 1, rest, began)

    def _write(self, step: int, metrics: dict[str, float], began: float) -> None:
        self.state.measurements.append(PROFILE.measurement(step, metrics, self.clock.now() - began).to_json())

    def _facts(self) -> dict[str, float]:
        sizes = {name: len(data) for name, data in self.state.evaluator.splits.items()}  # type: ignore[arg-type]
        return {
            "data_workers": float(loader_processes(self.state)),
            "cores": float(self.cores),
            "train_examples": float(len(self.watched.data["train"])),  # type: ignore[arg-type]
            "evaluated_examples": float(max(sizes.values())),
        }

    def _synchronised(self) -> float:
        if self.state.device.type == "cuda":
            torch.cuda.synchronize(self.state.device)
        return self.clock.now()

    def _seconds_of(self, work: Callable[[], object], stop: Callable[[], bool] = lambda: False) -> float:
        """The median time of the work over TIMES times, after one that does not count."""
        times: list[float] = []
        while len(times) <= TIMES and sum(times) < MOST_SECONDS:
            if stop():
                raise Stopped
            began = self._synchronised()
            work()
            times.append(self._synchronised() - began)
        return statistics.median(times[1:] or times)

    def _data(self) -> dict[str, float]:
        """Collating the examples of a batch, and copying the batch, each by itself; 0 where it is not done."""
        state, dataset = self.state, self.watched.data["train"]
        count = min(state.configuration.batch_size, len(dataset))  # type: ignore[arg-type]
        collate = collate_of(state.workload, "train")
        if batch_tensors(dataset, collate) is not None:
            return {"collating": 0.0, "copying": 0.0}
        with host_randomness(_beginning_seeds(self.request)):
            examples = fetched(dataset if self.watched.beginning is None else self.watched.beginning, range(count))
        batch = collate(examples)
        if state.device.type == "cuda" and loader_processes(state):
            batch = mapped_tensors(batch, torch.Tensor.pin_memory)  # as it comes from loader processes
        scale = state.configuration.batch_size / count
        copying = 0.0 if state.device.type == "cpu" else scale * self._seconds_of(lambda: moved(batch, state.device))
        return {"collating": scale * self._seconds_of(lambda: collate(examples)), "copying": copying}

    def _evaluation(self, stop: Callable[[], bool]) -> dict[str, float]:
        state = self.state

        def work() -> None:
            with contextlib.ExitStack() as stack, evaluated_weights(state):
                evaluated_statistics(state, stack)
                evaluate(state.evaluator, {})

        return {"evaluation": self._seconds_of(work, stop)}

    def _saving(self, stop: Callable[[], bool]) -> dict[str, float]:
        """Writing a checkpoint, where the study keeps any, and `resume.pt`."""
        state, folder = self.state, self.state.folder
        path, write = folder.checkpoint(state.progress.step), checkpoint_writer(state, {}, {})
        try:
            checkpoint = self._seconds_of(lambda: write(path), stop) if self.request.keep_checkpoints else 0.0
            resume = self._seconds_of(lambda: save_resume(state), stop)
        finally:
            real_folders.remove(path, folder.study)
            remove_resume(folder)
        interval = max(self.clock.save_every_seconds, resume / SAVE_COST)
        return {"checkpoint": checkpoint, "resume": resume, "resume_interval": interval}

    def _cache_answers(self) -> dict[str, float]:
        """Whether the examples of the evaluated splits can be kept in memory, and how much they would take."""
        own = {name: data for name, data in self.watched.data.items() if is_evaluated(name)}
        plans = {name: cache_plan(data, self.request.seed) for name, data in own.items()}
        total = sum(plan.total_bytes for plan in plans.values())
        fits = fits_in_memory(total, free_bytes())
        found = {"kept_bytes": float(total)}
        for name in ("train", "valid"):
            why = "in memory" if isinstance(own[name], KeptExamples) else plans[name].why
            found[f"kept_{name}"] = float(CACHE_ANSWERS.index(why or ("" if fits else "too large")))
        return found

    def _keep_trace(self) -> None:
        """Keep a trace of the next updates, by torch.profiler."""
        state, activities = self.state, [torch.profiler.ProfilerActivity.CPU]
        if state.device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        inner = state.batches
        state.batches = _FewBatches(inner, self.request.trace_updates)
        with torch.profiler.profile(activities=activities) as profiler:
            train_until_enough(state)
            self._synchronised()
        state.batches = inner
        with tempfile.TemporaryDirectory(prefix="tunectl-") as place:
            path = Path(place) / "trace.json"
            profiler.export_chrome_trace(str(path))
            content = gzip.compress(regular_files.content(path), mtime=0)
        write_bytes(state.folder.trace, content, within=state.folder.study)


class _FewBatches:
    """The next batches of another source, labelled in a trace; then raises Enough."""

    def __init__(self, inner: Batches, count: int) -> None:
        self._inner, self._left = inner, count

    def take(self, update: int) -> Any:
        """The batch of an update."""
        if self._left == 0:
            raise Enough
        self._left -= 1
        with torch.profiler.record_function("tunectl: wait for the batch"):
            return self._inner.take(update)

    def close(self) -> None:
        """End the processes that the source started."""
        self._inner.close()
