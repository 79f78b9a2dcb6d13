"""Errors of the probe of a workload that a study may have for some of its models."""

from __future__ import annotations

NO_BATCH_NORM = (
    "training.batch_norm_statistics: the model has no layer of torch's batch normalisation with running statistics;"
    " leave the section out"
)
"""The error of a probe of such a model; a study in which other models have such layers may have it, too."""
