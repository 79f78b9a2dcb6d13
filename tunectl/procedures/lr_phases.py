"""The phases of `lr-sweep`; a number that is in a folder's plan keeps its meaning, so new ones come last."""

from __future__ import annotations

GRID, LOWER, HIGHER, AGAIN_LOWER, AGAIN_HIGHER, EDGE, ABOVE, EARLY, FITTING = range(9)
CONFIRMED, FIT_WIDER, FIT_WIDEST, FIT_FINER, FIT_FINEST = range(9, 14)
PHASES = (
    "learning rates",
    "lower learning rates",
    "higher learning rates",
    "still lower learning rates",
    "still higher learning rates",
    "rates just below the unstable one",
    "curves above the best rate",
    "the first steps at twice the best rate",
    "constant rates without regularisation",
    "the best rates under fresh seeds",
    "more constant rates without regularisation",
    "still more constant rates without regularisation",
    "the fastest constant rates again, evaluated more often",
    "the fastest constant rates again, evaluated still more often",
)
EXTENSIONS = ((LOWER, HIGHER), (AGAIN_LOWER, AGAIN_HIGHER))
SWEEPS = (GRID, LOWER, HIGHER, AGAIN_LOWER, AGAIN_HIGHER, EDGE)
