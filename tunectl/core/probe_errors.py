"""Errors of the probe of a workload that a study may have for some of its models."""

from __future__ import annotations

NO_BATCH_NORM = (
    "training.batch_norm_statistics: the model has no layer of torch's batch normalisation with running statistics;"
    " leave the section out"
)
NO_SYNC_BATCH_NORM = (
    "training.sync_batch_norm: the model has no layer of batch normalisation that uses the statistics of its batch in"
    " training; leave the key out"
)

OF_SOME_MODELS = (NO_BATCH_NORM, NO_SYNC_BATCH_NORM)
"""The errors of a probe of such a model; a study in which other models have such layers may have them, too."""
