"""The initialisation of one trial: its procedure, its batches, and how far it is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch

from tunectl.core.curvature_settings import CurvatureMode
from tunectl.core.errors import WorkloadError
from tunectl.language.code_arguments import no_gradinit
from tunectl.language.configuration import INITIALISATION_EXAMPLES, TrainingConfiguration
from tunectl.language.optimizer_traits import has_own_step_size, is_optimizer
from tunectl.training.batch_values import moved
from tunectl.training.collation import collate_of, drawn
from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.initialisation.batch_losses import BatchLosses
from tunectl.training.initialisation.gradinit import ADAM_STEP, SGD_STEP, GradInit
from tunectl.training.initialisation.metainit import MetaInit
from tunectl.training.initialisation.rescaling import Measured, Rescaling
from tunectl.training.optimizers import trainable_parameters
from tunectl.training.seeds import Purpose, sequence
from tunectl.training.streams import StreamedExamples
from tunectl.training.training_data import TrainingData
from tunectl.workloads.workload import Workload

_MOST_LINES = 100
_OF_LOSS, _OF_DATA = 1, 2  # the last index of a seed


class Initialisation:
    """The procedure that a trial's configuration names, at iteration `iteration` of `steps`.

    Each iteration is a function of the weights, of the procedure's state and of (seed, iteration): its batches come
    from the train split, in an order of their own, as the data set gives them (not augmented by the workload). The
    authors of MetaInit use random inputs and labels, which cannot be made for data and a loss that are not known. The
    loss is computed in the precision of the weights, without dropout; under gradinit, layers that normalise over the
    batch use the batch. Afterwards all but the weights is as before: buffers, modes, and random generators.
    """

    def __init__(
        self, workload: Workload, configuration: TrainingConfiguration, *, seed: int, device: torch.device
    ) -> None:
        self._workload, self._seed, self._device = workload, seed, device
        self.method = configuration.initialisation
        self.mode: CurvatureMode = "train" if self.method == "gradinit" else "eval"
        self._rescaling = _rescaling(workload, configuration)
        self._parts = _examples(self.method)
        count = max(itertools.chain(*self._parts)) + 1
        if isinstance(workload.data["train"], StreamedExamples):
            raise WorkloadError(
                f"initialisation: {self.method} cannot be used with this workload: it needs batches of its own, and the"
                " split 'train' is an iterable data set, which the updates read"
            )
        self._order = TrainingData.of(workload).order(seed, count, Purpose.INITIALISATION)
        assert configuration.initialisation_steps is not None
        self.steps = configuration.initialisation_steps
        self._every = -(-self.steps // _MOST_LINES)
        self.iteration, self.is_finished = 0, False
        self._factors = [1.0] * len(self._rescaling.tensors)

    @property
    def rescales(self) -> bool:
        """Whether it has a tensor to rescale."""
        return bool(self._rescaling.tensors)

    @property
    def is_recorded(self) -> bool:
        """Whether this iteration has a line in measurements.jsonl: about _MOST_LINES do, and the first and the last."""
        return self.iteration % self._every == 0 or self.iteration == self.steps

    def measure(self) -> Measured:
        """Measure the present weights on the batches of this iteration."""
        seeds = sequence(self._seed, Purpose.INITIALISATION, self.iteration, _OF_LOSS)
        batches = [(self._batch(part), len(part)) for part in self._parts]
        with measured_model(self._workload.model, self.mode, self._device, seeds) as model:
            found = self._rescaling.measure(BatchLosses(self._workload, model, batches))
        extremes = (
            {"smallest_factor": min(self._factors), "largest_factor": max(self._factors)} if self._factors else {}
        )
        return Measured({**found.metrics, **extremes}, found.norms, found.derivatives)

    def _batch(self, part: list[int]) -> Any:
        examples = self._order.examples(self.iteration)[part].tolist()
        seeds = sequence(self._seed, Purpose.INITIALISATION, self.iteration, _OF_DATA)
        collate = collate_of(self._workload, "train")
        return moved(drawn(self._workload.data["train"], examples, seeds, collate), self._device)

    def rescale(self, measured: Measured) -> None:
        """Take the step of this iteration, and go on to the next."""
        factors = self._rescaling.factors(measured)
        with torch.no_grad():
            for tensor, factor in zip(self._rescaling.tensors, factors, strict=True):
                if factor != 1.0:
                    tensor.mul_(factor)
        self._factors = [before * factor for before, factor in zip(self._factors, factors, strict=True)]
        self.iteration += 1

    def state(self) -> dict[str, Any]:
        """What the rest of it depends on besides the weights, as plain numbers, lists and dicts."""
        return {
            "iteration": self.iteration,
            "is_finished": self.is_finished,
            "factors": list(self._factors),
            "rescaling": self._rescaling.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""
        self.iteration, self.is_finished = state["iteration"], state["is_finished"]
        self._factors = list(state["factors"])
        self._rescaling.load_state(state["rescaling"])


def _rescaling(workload: Workload, configuration: TrainingConfiguration) -> Rescaling:
    parameters = trainable_parameters(workload.model)
    rate, momentum = configuration.initialisation_learning_rate, configuration.initialisation_momentum
    assert rate is not None
    assert momentum is not None
    if configuration.initialisation == "metainit":
        return MetaInit(parameters, rate, momentum)
    if is_optimizer(configuration.optimizer):
        step = ADAM_STEP if has_own_step_size(configuration.optimizer) else SGD_STEP
        return GradInit(parameters, rate, momentum, step)
    raise WorkloadError(f"initialisation: {no_gradinit(configuration.optimizer)}")


def _examples(method: str) -> list[list[int]]:
    """The examples of each batch of an iteration, by their places in the iteration's part of the data order."""
    first = list(range(INITIALISATION_EXAMPLES))
    if method == "metainit":
        return [first]
    # S and S': half of the examples are in both.
    half = INITIALISATION_EXAMPLES // 2
    return [first, [*first[:half], *range(INITIALISATION_EXAMPLES, INITIALISATION_EXAMPLES + half)]]
