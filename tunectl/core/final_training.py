"""The last training: the configuration that was chosen, trained on `train` and `valid` together.

Its folder has up to three trials. One counts the examples of the splits (`data`), one trains and writes the model
(`final`), and one evaluates `test` with that model (`test`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

VALID_FOR_TRAINING = "valid_for_training"
"""The key in a workload's data of the validation examples with the transforms of training examples."""

Fold = Literal["given", "alike", "as_evaluated"]
"""How the examples of `valid` are trained on: as VALID_FOR_TRAINING gives them; as `valid` does, where both splits are
plain tensors without transforms; or as `valid` does, where it is not known whether `train` transforms its examples.
"""


@dataclass(frozen=True, slots=True)
class FoldedData:
    """The splits of a workload: the number of examples of each by name, and how `valid` is added to `train`.

    `test_digest` is a hash of examples of `test`, by which the same split is found again under another study; "" where
    there is none, or they have no tensors.
    """

    splits: Mapping[str, int]
    fold: Fold
    test_digest: str = ""

    @property
    def trained_examples(self) -> int:
        """The number of examples that are trained on."""
        return self.splits["train"] + self.splits["valid"]

    @property
    def has_test(self) -> bool:
        """Whether there is a split `test`."""
        return "test" in self.splits
