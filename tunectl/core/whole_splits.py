"""The names of what is measured on the whole of a split, of which a sample is evaluated on the way.

A study asks for it by `training: split_examples: {valid: 5000}`. Then `valid/…` is always of the sample, by which
trials are judged, and `valid_whole/…` of the whole split, measured after the training of a trial at the checkpoints
that it kept and at its last step. `valid_sample_error/…` is the standard error of the sample's value there.
"""

from __future__ import annotations

from collections.abc import Container

_WHOLE, _ERROR = "_whole", "_sample_error"


def whole_metric(metric: str) -> str:
    """The name of the value over the whole split of a metric: `valid_whole/loss` of `valid/loss`."""
    split, _, name = metric.partition("/")
    return f"{split}{_WHOLE}/{name}"


def sample_error_metric(metric: str) -> str:
    """The name of the standard error of the sample's value of a metric: `valid_sample_error/loss` of `valid/loss`."""
    split, _, name = metric.partition("/")
    return f"{split}{_ERROR}/{name}"


def taken_names(split: str) -> tuple[str, str]:
    """The names that no split of a workload may have where a sample of this split is evaluated."""
    return f"{split}{_WHOLE}", f"{split}{_ERROR}"


def sampled_metric(metric: str, sampled: Container[str]) -> str:
    """The metric of the sample that a metric of the whole split, or a sample's error, belongs to; "" for any other.

    `sampled` are the splits of which a sample is evaluated.
    """
    given, _, name = metric.partition("/")
    for ending in (_WHOLE, _ERROR):
        split = given.removesuffix(ending)
        if split != given and split in sampled:
            return f"{split}/{name}"
    return ""


def is_sample_error(metric: str, sampled: Container[str]) -> bool:
    """Whether a metric is the standard error of a sample's value."""
    split = metric.partition("/")[0]
    return split.endswith(_ERROR) and split.removesuffix(_ERROR) in sampled
