"""The curvature at the kept checkpoints of a trial that was trained before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tunectl.core.errors import Infeasible
from tunectl.core.exception_text import first_line
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.batch_norm_statistics import load_trained_statistics
from tunectl.training.built_workload import build_workload
from tunectl.training.checkpoints import UnreadableError, UnusableResume, load
from tunectl.training.curvature.curvature_meter import CurvatureMeter
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.measured_loss import NotMeasured
from tunectl.training.curvature.optimizer_measures import NextStep
from tunectl.training.curvature_step import coming_rate
from tunectl.training.given_groups import rate_of
from tunectl.training.memory_errors import has_asked_for_too_much, is_out_of_memory
from tunectl.training.optimizers import trainable_parameters, workload_optimizer
from tunectl.training.schedules import learning_rate
from tunectl.training.seeds import Purpose, seed_everything, sequence
from tunectl.training.training_state import Clock
from tunectl.training.user_optimizer import has_modes, restore
from tunectl.workloads.workload import Workload

NOT_MEASURED = "not_measured"
"""The reason of a trial of which no checkpoint could be measured."""


class _Unfit(Exception):  # noqa: N818  (a condition: the other checkpoints are measured)
    """A checkpoint cannot be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is measured: the workload of the request, and an optimizer for it, whose states checkpoints replace."""

    request: TrialRequest
    configuration: TrainingConfiguration
    device: torch.device
    workload: Workload
    optimizer: torch.optim.Optimizer

    @classmethod
    def built(cls, request: TrialRequest, factory: Callable[..., Workload], device: torch.device) -> _Subject:
        """That of a request, as a trial of it begins."""
        configuration = TrainingConfiguration(**request.configuration)
        workload = build_workload(factory, request, device)
        optimizer = workload_optimizer(workload, configuration)
        seed_everything(sequence(request.seed, Purpose.TRAINING), device)
        return cls(request, configuration, device, workload, optimizer)

    def measured(self, path: Path) -> tuple[int, dict[str, float]]:
        """The step of a checkpoint and the metrics of the curvature there; raises _Unfit."""
        settings, workload = self.request.curvature, self.workload
        assert settings is not None
        step = self._load(path)
        # By itself, so that a value does not depend on which other checkpoints are there.
        examples = MeasuredExamples.of(workload, settings.examples, self.device)
        meter = CurvatureMeter(settings, workload, examples, device=self.device, seed=self.request.seed)
        try:
            return step, meter.measure(step, NextStep(self.optimizer, self.configuration, self._rate(step), step))
        except NotMeasured as error:
            raise _Unfit(str(error)) from error
        except Exception as error:
            if not has_asked_for_too_much(error):
                raise
            raise _Unfit("the memory is too small") from error

    def _load(self, path: Path) -> int:
        """Restore the model in training and the optimizer of a checkpoint; gives its step."""
        try:
            parts = load(path)
            self.workload.model.load_state_dict(parts["model"])
            # Where weights are averaged, `model` has the averages, and these are the trained ones.
            raw = parts.get("raw_weights")
            with torch.no_grad():
                for weight, own in zip(trainable_parameters(self.workload.model), raw or (), strict=raw is not None):
                    weight.copy_(own)
            load_trained_statistics(self.workload.model, parts)
            self.optimizer.load_state_dict(parts["optimizer"])
            if has_modes(self.optimizer) and raw is not None:
                restore(self.optimizer, trainable_parameters(self.workload.model), raw)
            return int(parts["step"])
        except (UnusableResume, UnreadableError) as error:
            raise _Unfit(str(error)) from error
        except Exception as error:  # whatever the parts of a foreign checkpoint raise
            if is_out_of_memory(error):
                raise
            raise _Unfit(f"it does not fit the workload ({type(error).__name__}: {first_line(error)})") from error

    def _rate(self, step: int) -> float:
        """The learning rate of the coming update, lowered as the last one was, where the trial had recovered before."""
        rate = coming_rate(self.request, self.configuration, step)
        nominal = learning_rate(self.configuration, self.request.max_train_steps, step - 1) if step else 0.0
        group = self.optimizer.param_groups[0]
        nominal = rate_of(group, nominal)
        return rate * (float(group["lr"]) / nominal) if nominal > 0 else rate


def run_checkpoints(
    request: TrialRequest,
    folder: TrialFolder,
    workload_factory: Callable[..., Workload],
    *,
    device: str,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
    clock: Clock | None = None,
) -> TrialResult | None:
    """Measure the curvature at each of the request's checkpoints, by step; gives None where `stop()` became true.

    Each is measured by itself, with the state of the optimizer that it holds. A trial that was stopped is measured
    again from the beginning. The result is infeasible where no checkpoint could be measured, or the workload raises
    Infeasible. `notes` say which of several were passed over, and why.
    """
    torch.backends.cudnn.benchmark = False
    clock = clock or Clock()
    clock.start()
    last, passed_over, reason = 0, dict[str, str](), NOT_MEASURED
    lines = LineFile(folder.measurements)
    try:
        subject = _Subject.built(request, workload_factory, torch.device(device))
        for path in checkpoint_paths(request):
            if stop():
                return None
            began = clock.now()
            try:
                last, metrics = subject.measured(path)
            except _Unfit as error:
                passed_over[path.name] = str(error)
                continue
            taken = {"seconds": clock.now() - began}
            lines.append(CURVATURE.measurement(last, metrics | taken, clock.now() - clock.lap_began).to_json())
            reason = ""
        lines.sync()
    except Infeasible as error:
        reason, passed_over = error.reason, {"the workload": error.reason}
    except Exception as error:
        if not has_asked_for_too_much(error):
            raise
        reason, passed_over = "out_of_memory", {"the workload": first_line(error)}
    finally:
        lines.close()
        seconds.eval_seconds += clock.lap()
    return TrialResult(
        trial=request.trial,
        state="infeasible" if reason else "completed",
        reason=reason,
        message="; ".join(why if why.startswith(name) else f"{name}: {why}" for name, why in passed_over.items()),
        final_step=last,
        eval_seconds=seconds.eval_seconds,
        startup_seconds=seconds.startup_seconds,
        device=device,
        notes={} if reason else {f"{name} was passed over": why for name, why in passed_over.items()},
    )


def checkpoint_paths(request: TrialRequest) -> list[Path]:
    """The checkpoints of a request, by step."""
    kept = request.checkpoints
    if kept is None:
        return []
    folder = StudyFolder(Path(kept.folder)).trial(kept.trial).checkpoints
    return [folder / name for name in sorted(kept.files, key=lambda name: (len(name), name))]
