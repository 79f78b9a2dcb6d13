"""The augmentation of training batches: by the workload's function, with random numbers of the update alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from tunectl.training.seeds import Purpose, sequence
from tunectl.workloads.workload import Workload


class Augmentation:
    """Augments the batches of training, where the workload has an `augment`; else gives them as they are.

    The random numbers of an update are a function of the trial's seed and the update, so that a trial that goes on from
    its saved state, or goes back to an earlier update, gets the same ones. On several devices each has its own.
    """

    def __init__(self, workload: Workload, seed: int, rank: int = 0) -> None:
        self._augment, self._seed, self._of_rank = workload.augment, seed, (rank,) if rank else ()

    def __call__(self, update: int, parts: Iterable[Any]) -> Iterable[Any]:
        """The batch of an update, or its micro-batches, as the update trains on them, each made when it is needed."""
        return parts if self._augment is None else self._augmented(update, parts)

    def _augmented(self, update: int, parts: Iterable[Any]) -> Iterator[Any]:
        assert self._augment is not None
        generator = np.random.Generator(
            np.random.PCG64(sequence(self._seed, Purpose.AUGMENTATION, update, *self._of_rank))
        )
        for part in parts:
            with torch.no_grad():
                augmented = self._augment(part, generator)
            yield augmented
