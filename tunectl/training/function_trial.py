"""A trial that calls a Python function of the user with a `Trial`."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunectl.core import real_folders
from tunectl.core.errors import Infeasible
from tunectl.core.exception_text import first_line
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.measurement_kinds import CURVATURE, EVALUATION
from tunectl.core.measurements import Measurement, TrialSeconds
from tunectl.core.own_code_request import Checkpoints, FunctionRequest
from tunectl.core.recorded_metrics import numbers, received_by, whole_step
from tunectl.core.records import NO_METRIC, Scalar, TrialResult
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.flushed_output import FLUSH_COST
from tunectl.programs.kept_checkpoints import CheckpointPattern, KeptCheckpoints
from tunectl.programs.objective_values import UPDATES_REMEDY, NoValue, no_value
from tunectl.programs.program_outcome import loss_verdict
from tunectl.store.trial_files import read_trial, write_measurements

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tunectl.training.function_curvature import FunctionCurvature

_CHECKPOINTS = "{trial.dir}/checkpoint-{step}.pt"


class NotANumberError(Infeasible):
    """The recorded objective is not a number; ends the function."""

    def __init__(self, step: int, metric: str) -> None:
        super().__init__("nan_metric")
        self.step = step
        self.message = f"{metric} is NaN at step {step}"


class Trial:
    """The argument of a training function: its device and folder, recorded metrics, and saved states.

    Attributes:
        id: the trial's number in the study.
        seed: the trial's seed. Torch, NumPy and random are seeded with it before the function is called.
        device: "cpu", or "cuda:0", the one GPU that the trial sees.
        dir: a folder for the function's own files; it keeps the files of earlier attempts.
        hyperparameters: the active ones of this trial.
        max_train_steps: the number of steps of a trial in this study.
    """

    def __init__(self, request: FunctionRequest, folder: TrialFolder, device: str, stop: Callable[[], bool]) -> None:
        self.id = request.trial
        self.seed = request.seed
        self.device = device
        self.dir = folder.files
        self.hyperparameters: Mapping[str, Scalar] = dict(request.hyperparameters)
        self.max_train_steps = request.max_train_steps
        self._request, self._folder, self._stop = request, folder, stop
        self._began = time.monotonic()
        self._collector = Collector(
            lambda: time.monotonic() - self._began, ends_on_nan=lambda name: name == request.objective.metric
        )
        self._file: LineFile | None = None
        self._next_flush, self._flushed_at = 0.0, -1
        self._curvature: FunctionCurvature | None = None
        self._curvature_lines: list[Measurement] = []  # of an earlier attempt
        pattern = CheckpointPattern.of(Checkpoints(_CHECKPOINTS, offset=0), {"trial.dir": str(self.dir)})
        self._kept = KeptCheckpoints(pattern, folder, request.objective, request.keep_checkpoints)

    @property
    def should_stop(self) -> bool:
        """Whether a stop was requested: save, and return."""
        return self._stop()

    def record(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record the metrics of a step, by `split/name`: numbers, objects that `float` accepts, or arrays of one
        element.

        Raises Infeasible where the objective is NaN, which ends the trial as infeasible.
        """
        self._collector.add(whole_step(step), numbers(metrics))
        self._write()
        if self._curvature is not None:
            self._curvature.note_record()
        self.raise_if_nan()

    def raise_if_nan(self) -> None:
        """Raise Infeasible where the objective that was recorded is NaN."""
        if self._collector.first_nan is not None:
            raise NotANumberError(*self._collector.first_nan)

    def curvature(
        self, model: nn.Module, loss: Callable[..., Tensor], batch: Any, *, step: int | None = None
    ) -> dict[str, float]:
        """Measure the curvature of the loss over this batch, and record it as `curvature/<name>` at a step.

        `loss(model, batch)` gives one value per example, shape [B], or their mean; `batch` is to be the same at every
        call. The step is the last one that was recorded unless it is given. Gives the measured values by name, {}
        where the study's `training: curvature:` does not measure at this step; at one step it measures once and then
        gives the same values. The model, its buffers and all random generators are as before the call. Raises
        WorkloadError where the model cannot be measured, and where its weights have changed since the last step that
        was recorded and no step is given.
        """
        if self._curvature is None:
            from tunectl.training.function_curvature import FunctionCurvature

            self._write()  # which reads what an earlier attempt measured
            self._curvature = FunctionCurvature(self._request.curvature, self.seed, self._curvature_lines)
        at = (self.last_step or 0) if step is None else whole_step(step)
        if step is None:
            self._curvature.check_step(model, at)
        found = self._curvature.measured(at, model, loss, batch)
        if found.is_new and self._file is not None:
            elapsed = self._collector.before_seconds + time.monotonic() - self._began
            self._file.append(CURVATURE.measurement(at, found.values, elapsed).to_json())
        return dict(found.values)

    def save(self, step: int, content: Any) -> Path:
        """Save the state after `step` steps: tensors, NumPy arrays, numbers, texts, dates and paths in dicts and lists.

        Gives the file. The files that are best by the objective and the last one are kept. Raises UnsavableError, and
        saves nothing, where `resume` could not read a value back.
        """
        from tunectl.training.checkpoints import FORMAT, save

        step = whole_step(step)
        path = self.dir / f"checkpoint-{step}.pt"
        self._flush_records(step)
        recorded = self._collector.last_step_up_to(step)
        save(path, {"format": FORMAT, "step": step, "content": content, "recorded": recorded}, self._folder.study)
        self._write()
        return path

    def _flush_records(self, step: int) -> None:
        """Write what was recorded, and flush it to the disk where that takes little of the trial's time.

        A power cut must not remove records alone, which a saved checkpoint relies on. Where they are not flushed, the
        last checkpoint before which they were is kept, and after a power cut `resume` skips the later ones.
        """
        file = self._file if self._file is not None else self._open([])
        self._collector.write(file)
        began = time.monotonic()
        if began >= self._next_flush:
            file.sync()
            now = time.monotonic()
            self._next_flush = now + (now - began) / FLUSH_COST
            self._kept.spared = self._kept.spared - {self._flushed_at} | {step}
            self._flushed_at = step

    def resume(self) -> Any:
        """The state that an earlier attempt saved last, on the CPU; None where there is none, and the trial begins.

        Metrics that were recorded after that step are removed. To be called before anything is recorded. Where a file
        is damaged, or later than the metrics on the disk, the one before it is used. Raises UnreadableError where a
        file is whole and cannot be read.
        """
        if self._file is not None:
            raise RuntimeError("call trial.resume() before the first trial.record() and trial.save()")
        from tunectl.training.checkpoints import UnreadableError, UnusableResume, load, set_aside

        measurements = read_trial(self._folder).measurements
        skipped = ""
        for step, path in sorted(self._kept.pattern.found().items(), reverse=True):
            try:
                parts = load(path)
                known = [item for item in measurements if item.step <= step]
                if (parts.get("recorded") or 0) > max((item.step for item in known), default=0):
                    raise UnusableResume(f"{path.name} is later than the last of its metrics on the disk")
            except UnusableResume as reason:
                skipped = f"{reason} and is kept as {set_aside(path, self._folder).name}"
                continue
            except UnreadableError:
                self._kept.spared.add(step)  # also where the function goes on all the same
                raise
            self._print_skipped(skipped, f"goes on from {path.name}")
            self._open(known)
            return parts["content"]
        self._print_skipped(skipped, "starts from the beginning")
        return None

    def _print_skipped(self, skipped: str, instead: str) -> None:
        if skipped:
            sys.stderr.write(f"tunectl: {skipped}: trial {self.id} {instead}\n")

    def _open(self, kept: list[Any]) -> LineFile:
        write_measurements(self._folder, kept)
        self._collector.begin_with([item for item in kept if item.measurement_kind == EVALUATION.name])
        self._curvature_lines = [item for item in kept if item.measurement_kind == CURVATURE.name]
        self._file = LineFile(self._folder.measurements, self._folder.measurements.stat().st_size)
        return self._file

    def _write(self, *, ended: bool = False) -> None:
        file = self._file if self._file is not None else self._open([])
        for step, name in self._kept.update(self._collector, ended=ended).items():
            self._collector.name_checkpoint(step, name)
        self._collector.write(file)

    @property
    def seconds_before(self) -> float:
        """How long earlier attempts trained to the state from which this one goes on; 0 where it began anew."""
        return self._collector.before_seconds

    def close(self) -> None:
        """Write what is left, durably."""
        if self._file is None:
            return
        self._file.sync()
        self._kept.spared -= {self._flushed_at}
        self._write(ended=True)
        self._file.sync()
        self._file.close()
        self._file = None

    def without_value(self) -> NoValue | None:
        """Why the objective that was recorded has no value that counts; None where it has one."""
        return no_value(self._collector, self._request.objective, UPDATES_REMEDY)

    @property
    def last_step(self) -> int | None:
        """The last step that was recorded."""
        return self._collector.last_step

    @property
    def metrics(self) -> set[str]:
        """The names of all recorded metrics."""
        return self._collector.names


def run_function(
    request: FunctionRequest,
    folder: TrialFolder,
    function: Callable[..., Any],
    *,
    device: str,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
) -> TrialResult | None:
    """Call the function of a trial and judge how it ends; None where it was stopped before its last step.

    Raises what the function raises, except for results of its hyperparameters: Infeasible, and memory that ran out.
    """
    began = time.monotonic()
    trial = Trial(request, folder, device, stop)
    real_folders.made(trial.dir, folder.study, inside=folder.path)
    _seed(request.seed, device)

    def result(state: str, reason: str = "", message: str = "", step: int | None = None) -> TrialResult:
        return TrialResult(
            trial=request.trial,
            state=state,  # type: ignore[arg-type]
            reason=reason,
            message=message,
            infeasible_step=step,
            final_step=trial.last_step,
            train_seconds=seconds.train_seconds,
            startup_seconds=seconds.startup_seconds,
            baseline_loss=request.baseline_loss,
        )

    try:
        with contextlib.closing(trial), received_by(trial.record):
            _call(function, trial, request)
            trial.raise_if_nan()
    except NotANumberError as error:
        seconds.train_seconds += trial.seconds_before + time.monotonic() - began
        return result("infeasible", error.reason, error.message, error.step)
    except Infeasible as error:
        seconds.train_seconds += trial.seconds_before + time.monotonic() - began
        return result("infeasible", error.reason, error.reason, trial.last_step)
    except BaseException as error:
        seconds.train_seconds += trial.seconds_before + time.monotonic() - began
        if _is_out_of_memory(error):
            return result("infeasible", "out_of_memory", first_line(error), trial.last_step)
        raise
    seconds.train_seconds += trial.seconds_before + time.monotonic() - began
    if stop() and (trial.last_step or 0) < request.max_train_steps:
        return None
    return _ended_well(trial, request, folder, result)


def _ended_well(
    trial: Trial, request: FunctionRequest, folder: TrialFolder, result: Callable[..., TrialResult]
) -> TrialResult:
    """The result of a function that returned; `result` makes one."""
    metric = request.objective.metric
    if metric not in trial.metrics:
        recorded = f"; it recorded {', '.join(sorted(trial.metrics))}" if trial.metrics else ""
        return result("failed", NO_METRIC, f"the function never recorded the objective {metric}{recorded}")
    without = trial.without_value()
    if without is not None:
        return result(*without)
    found = loss_verdict(request, folder)
    return result("completed") if found is None else result("infeasible", found.reason, found.message, trial.last_step)


def _call(function: Callable[..., Any], trial: Trial, request: FunctionRequest) -> None:
    try:
        function(trial, **request.hyperparameters)
    except SystemExit as request:
        if request.code not in (None, 0):  # a script may end with sys.exit(0)
            raise


def _seed(seed: int, device: str) -> None:
    random.seed(seed)
    if "torch" in sys.modules:
        import torch

        from tunectl.training.seeds import Purpose, seed_everything, sequence

        seed_everything(sequence(seed, Purpose.TRAINING), torch.device(device))
    elif "numpy" in sys.modules:
        import numpy as np

        np.random.seed(seed % 2**32)


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from tunectl.training.memory_errors import has_asked_for_too_much

    return has_asked_for_too_much(error)
