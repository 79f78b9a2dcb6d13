"""What a model predicts for chosen examples of a split: what a study asks for, and what a trial keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_EXAMPLES = 256
"""The largest number of examples whose predictions a trial keeps."""

KEPT_ONCE = ("input", "target")
"""The values of an example that do not change while a trial trains: only the first evaluation has them."""

PREDICTION, TARGET = "prediction", "target"
"""The values from which correct predictions are counted by class."""


@dataclass(frozen=True, slots=True)
class PredictionSettings:
    """`training: predictions:`: of which examples of which split the predictions are kept at every evaluation.

    `examples` is a number, of a fixed random choice that is the same in all trials, or the examples' places in the
    split, counted from 0.
    """

    split: str = "valid"
    examples: int | tuple[int, ...] = 16

    @property
    def count(self) -> int:
        """The number of examples that are asked for."""
        return self.examples if isinstance(self.examples, int) else len(self.examples)


@dataclass(frozen=True, slots=True)
class KeptText:
    """A text of which only the beginning was kept; `length` is the number of all its characters."""

    text: str
    length: int


@dataclass(frozen=True, slots=True)
class KeptArray:
    """An array of numbers: its shape, and its values in row-major order, of which only the first may be kept."""

    shape: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class KeptImage:
    """An image as PNG in base64, `width` by `height` pixels.

    `full_width` and `full_height` are those of the workload's image, of which every n-th pixel was kept if they are
    larger. `low` and `high` are the values that became black and white, None where the workload gave 0 to 255.
    """

    width: int
    height: int
    png: str
    full_width: int
    full_height: int
    low: float | None = None
    high: float | None = None


KeptValue = bool | int | float | str | KeptText | KeptArray | KeptImage
"""One value that `predict` gave for one example."""


@dataclass(frozen=True, slots=True)
class PredictedExample:
    """What was predicted for one example: its place in the split, and the values by name."""

    example: int
    values: Mapping[str, KeptValue]


@dataclass(frozen=True, slots=True)
class StepPredictions:
    """A line of predictions.jsonl: the predictions after `step` updates."""

    step: int
    examples: tuple[PredictedExample, ...]


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """The last line of predictions.jsonl: correct predictions by class, over a whole split, at the selected checkpoint.

    Each list has one entry for a class: its name, the examples whose target it is, those of them that were predicted
    right, and the examples for which it was predicted.
    """

    step: int
    split: str
    classes: tuple[bool | int | float | str, ...]
    total: tuple[int, ...]
    correct: tuple[int, ...]
    predicted: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """The line's content."""
        counts = {"total": list(self.total), "correct": list(self.correct), "predicted": list(self.predicted)}
        return {"step": self.step, "split": self.split, "classes": list(self.classes), **counts}
