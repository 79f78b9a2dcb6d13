"""What the probe of a trial found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProbedTrial:
    """A trial whose workload works.

    `checkpoint_bytes` is the size of the tensors of a checkpoint, 0 where it cannot be known. `notes` are lines about
    what was found that the study does not say, such as which parameters an optimizer trains in which way.
    """

    checkpoint_bytes: int
    notes: tuple[str, ...] = ()
