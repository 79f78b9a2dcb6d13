"""What the engine reads and writes: finished trials in, points out, each as one JSON object.

A coordinate is a number on the scale of its dimension: in [0, 1] for a real one, a whole number from `low` to `high`,
or the index of a choice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from tunectl.core import jsontext
from tunectl.core.typed_fields import document, typed, untyped

Kind = Literal["real", "whole", "choice"]


@dataclass(frozen=True, slots=True)
class EngineDimension:
    """One sampled hyperparameter: real in [0, 1]; whole, `low` to `high`, on a scale of logarithms with `log`; or a
    choice, numbered from `low` (0) to `high`, whose values have no order.
    """

    name: str
    kind: Kind
    low: int = 0
    high: int = 1
    log: bool = False


@dataclass(frozen=True, slots=True)
class FinishedPoint:
    """A trial that has ended: its coordinates, one a dimension, and its cost, a number to minimise; None where the
    trial was infeasible.
    """

    coordinates: tuple[float, ...]
    cost: float | None


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What is asked of an engine: this number of `points` that run at once, from this seed.

    `pending` are points without a result, which are not proposed again.
    """

    seed: int
    points: int
    dimensions: tuple[EngineDimension, ...]
    finished: tuple[FinishedPoint, ...]
    pending: tuple[tuple[float, ...], ...] = ()

    def encoded(self) -> bytes:
        """The request as JSON: the same bytes for the same request."""
        return jsontext.encode(untyped(self)).encode("utf-8")

    @property
    def data(self) -> str:
        """The sha256 of the encoded request, in hexadecimal."""
        return hashlib.sha256(self.encoded()).hexdigest()


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """The proposed points, and the engine by name and version.

    There are fewer points than were asked for where every point of the space has been tried. `moved` are the numbers of
    points that the model proposed elsewhere, at a point that was tried already, and that are its nearest neighbours
    that were not.
    """

    engine: str
    points: tuple[tuple[float, ...], ...]
    moved: tuple[int, ...] = ()

    def encoded(self) -> bytes:
        """The answer as JSON."""
        return jsontext.encode(untyped(self)).encode("utf-8")


def read_request(content: bytes) -> EngineRequest:
    """The request in a file; raises DamagedError where it is not one."""
    return typed(EngineRequest, document(content))


def read_answer(content: bytes) -> EngineAnswer:
    """The answer in a file; raises DamagedError where it is not one."""
    return typed(EngineAnswer, document(content))
