"""What compiling a model costs and gains, measured by the probe."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from tunectl.core.errors import WorkloadError
from tunectl.core.records import TrialRequest
from tunectl.core.wording import short_number
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.batch_values import moved
from tunectl.training.collation import drawn
from tunectl.training.compiled import compiled_graphs, update_loss
from tunectl.training.gradients import MeanLoss
from tunectl.training.optimizers import trainable_parameters
from tunectl.training.precision import casting
from tunectl.training.probed_data import first_examples
from tunectl.training.seeds import Purpose, sequence
from tunectl.training.training_data import TrainingData
from tunectl.workloads.workload import Workload

_TIMED = 9
"""The passes of each kind that are timed, one of each kind in turn; their medians are compared."""

_NO_GAIN = 0.02
"""A smaller share of the time cannot be distinguished from noise."""


def compile_note(workload: Workload, request: TrialRequest, device: torch.device) -> str:
    """A line: the seconds until the model is compiled, and the time of a forward and backward pass with it and without.

    The batch is the first micro-batch of training. Raises WorkloadError where the model cannot be compiled.
    """
    configuration = TrainingConfiguration(**request.configuration)
    size = min(configuration.micro_batch_sizes()[0], len(workload.data["train"]))  # type: ignore[arg-type]
    data = TrainingData.of(workload)
    examples = first_examples(data, request.seed, size)
    batch = moved(drawn(data.dataset, examples, sequence(request.seed, Purpose.EXAMPLES), data.collate), device)
    cast, parameters = casting(configuration.precision, device), trainable_parameters(workload.model)
    workload.model.train()

    def seconds(loss: Callable[[Any, Any], Any]) -> float:
        began = time.perf_counter()
        with cast:
            given = loss(workload.model, batch)
        MeanLoss(size, parameters).backward(given, size)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    compiled = update_loss(workload.model, workload.loss, compiled=True)
    first = seconds(compiled)
    if not compiled_graphs():
        raise WorkloadError(
            "compile: the loss does not call the model itself, as model(x), so that nothing is compiled; call it, or "
            "leave compile out"
        )
    pairs = [(seconds(workload.loss), seconds(compiled)) for _ in range(_TIMED)]
    eager, fast = (statistics.median(times) for times in zip(*pairs, strict=True))
    updates = configuration.total_steps(request.trained_steps) * len(configuration.micro_batch_sizes())
    return _in_words(first, eager, fast, updates)


def _in_words(first: float, eager: float, fast: float, passes: int) -> str:
    """The line, for a trial with this number of passes, by the seconds of the first compiled one and of later ones."""
    took = (
        f"compile: {short_number(first, 2)} s at the start of each trial (less where torch has cached it); a forward "
        f"and backward pass takes {short_number(fast * 1e3, 2)} ms, and {short_number(eager * 1e3, 2)} ms without"
    )
    if eager - fast <= _NO_GAIN * eager:
        return f"{took}: it gains nothing here; leave compile out"
    needed = first / (eager - fast)
    verdict = "it pays" if needed < passes else "it does not pay"
    return f"{took}: {verdict}, as it gains from {needed:,.0f} passes on, and a trial has {passes:,}"
