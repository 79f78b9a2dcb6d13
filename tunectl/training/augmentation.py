"""The augmentation of training batches: by the workload's function, with random numbers of the update alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tunectl.training.seeds import Purpose, sequence
from tunectl.workloads.workload import Workload


class Augmentation:
    """Augments the batches of training, where the workload has an `augment`; else gives them as they are.

    The random numbers of an update are a function of the trial's seed and the update, so that a trial that goes on from
    its saved state, or goes back to an earlier update, gets the same ones.
    """

    def __init__(self, workload: Workload, seed: int) -> None:
        self._augment, self._seed = workload.augment, seed
        self._generator: np.random.Generator | None = None

    def begin(self, update: int) -> None:
        """An update begins."""
        if self._augment is not None:
            self._generator = np.random.Generator(np.random.PCG64(sequence(self._seed, Purpose.AUGMENTATION, update)))

    def __call__(self, batch: Any) -> Any:
        """The batch, or the next micro-batch, that the update trains on."""
        if self._augment is None or self._generator is None:
            return batch
        with torch.no_grad():
            return self._augment(batch, self._generator)
