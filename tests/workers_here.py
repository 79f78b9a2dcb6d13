"""A backend whose workers are made up, in this process: they take what is offered and write what a training would."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import pytest

from tunectl.core import jsontext
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.measurements import Measurement
from tunectl.core.own_code_request import Request, request_in
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.execution import backends
from tunectl.execution.backends.backend import BackendEvent, BackendReady
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.backends.offering import OfferingBackend
from tunectl.execution.devices import CPU
from tunectl.execution.slots import Slot
from tunectl.language.study_spec import ResourcesSection
from tunectl.store.claimed_trials import Claimant, Ending, claim_trial, give_back, write_claimant
from tunectl.store.offered_trials import offered_trials, read_offer
from tunectl.store.trial_files import write_result


class _Local:
    """Loads and tries nothing."""

    def start(self, *, own_code: bool = False) -> None: ...

    def load(self, *_arguments: object) -> None: ...

    def slots(self, _resources: ResourcesSection, _count: int | None = None) -> tuple[Slot, ...]:
        return (Slot(0, CPU, {}, "cpu"),)

    def wait_ready(self, _stop: object) -> BackendReady:
        return BackendReady(0.0)

    def probe(self, _request: Request, _slot: Slot, _stop: object) -> ProbedTrial:
        return ProbedTrial(100)

    def close(self) -> None: ...


class WorkersHere(OfferingBackend):
    """At each look they train all that is offered, at most `most` trials; `after` is called with each trial's number.

    The metric is best at a learning rate of 0.03.
    """

    def __init__(self, most: float = math.inf, after: Callable[[int], object] = lambda _trial: None) -> None:
        super().__init__("external", cast("LocalBackend", _Local()))
        self.most, self.after = most, after
        self.trained: list[int] = []

    def poll(self, timeout_seconds: float) -> Sequence[BackendEvent]:
        study = self._study
        assert study is not None
        for trial in offered_trials(study):
            if len(self.trained) < self.most:
                self.trained.append(trial)
                train(study, trial)
                self.after(trial)
        return super().poll(timeout_seconds)


def train(study: StudyFolder, trial: int) -> None:
    """What a worker does with an offered trial, but for the training."""
    claimed = claim_trial(study, trial)
    assert claimed is not None
    offer = read_offer(claimed.folder)
    request = request_in(claimed.folder.request.read_bytes())
    assert offer is not None
    assert isinstance(request, TrialRequest)
    write_claimant(claimed, Claimant("w", "node-1", os.getpid(), offer.attempt, device="cpu"))
    measure(claimed.folder, request)
    result = TrialResult(trial, "completed", final_step=request.max_train_steps, attempt=offer.attempt)
    write_result(claimed.folder, result)
    assert give_back(claimed, Ending(offer.attempt, 0, seconds=1.0, device="cpu", host="node-1"))


def measure(folder: TrialFolder, request: TrialRequest) -> None:
    rate = float(request.configuration["learning_rate"])
    value = 0.1 + 0.05 * math.log10(rate / 0.03) ** 2
    lines = [
        Measurement(step, {request.objective.metric: at, "train/loss": at}, learning_rate=rate)
        for step, at in ((0, 1.0), (request.max_train_steps, value))
    ]
    folder.measurements.write_text("".join(jsontext.encode(line.to_json()) + "\n" for line in lines))


@contextmanager
def workers_here(backend: WorkersHere) -> Iterator[WorkersHere]:
    """Commands get this backend for the name `external`."""
    with pytest.MonkeyPatch.context() as patching:
        patching.setitem(cast("dict[str, object]", backends.BACKENDS), "external", lambda: backend)
        yield backend
