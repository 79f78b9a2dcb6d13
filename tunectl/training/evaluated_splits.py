"""The splits that are evaluated during training, and the fixed samples of large ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from tunectl.core.errors import WorkloadError
from tunectl.core.final_training import VALID_FOR_TRAINING
from tunectl.core.whole_splits import taken_names
from tunectl.training.built_workload import nearest
from tunectl.training.collation import plain_tensors
from tunectl.training.seeds import TRAIN_SAMPLE_SEED, Purpose, sequence
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload

NOT_EVALUATED = "test"
"""The split that is not evaluated during training."""


def is_evaluated(name: str) -> bool:
    """Whether a data set of a workload is evaluated during training: `test` is not, nor what is no split."""
    return name not in (NOT_EVALUATED, VALID_FOR_TRAINING)


def sample(dataset: Dataset[Any], examples: int) -> Dataset[Any]:
    """A fixed random sample without replacement, in the data set's order; the data set itself if it is no larger.

    Of a stream the first examples, kept in memory.
    """
    size = len(dataset)  # type: ignore[arg-type]
    if isinstance(dataset, StreamedExamples):
        return dataset.first(examples, sequence(TRAIN_SAMPLE_SEED, Purpose.EXAMPLES))
    if examples >= size:
        return dataset
    generator = np.random.Generator(np.random.PCG64(TRAIN_SAMPLE_SEED))
    chosen = np.sort(generator.permutation(size)[:examples])
    tensors = plain_tensors(dataset)
    if tensors is None:
        return Subset(dataset, chosen.tolist())
    indices = torch.from_numpy(chosen)
    return TensorDataset(*(tensor.detach().index_select(0, indices.to(tensor.device)) for tensor in tensors))


def evaluated_splits(
    workload: Workload, train_examples: int | None, split_examples: Mapping[str, int] | None = None
) -> dict[str, Dataset[Any]]:
    """The data sets that are evaluated, by split: all that `is_evaluated`, of those in `split_examples` a sample of
    that size, of `train` one as large as what is evaluated of `valid`, unless a number is given.

    Raises WorkloadError where the workload has no such split, or one with the name of what is measured beside it.
    """
    sampled = split_examples or {}
    for split in sampled:
        _check_sampled(workload, split)
    splits = {
        name: sample(dataset, sampled[name]) if sampled.get(name, len(dataset)) < len(dataset) else dataset  # type: ignore[arg-type]
        for name, dataset in workload.data.items()
        if is_evaluated(name)
    }
    examples = train_examples if train_examples is not None else len(splits["valid"])  # type: ignore[arg-type]
    return splits | {"train": sample(workload.data["train"], examples)}


def _check_sampled(workload: Workload, split: str) -> None:
    if split not in workload.data:
        given = ", ".join(name for name in workload.data if name != "train" and is_evaluated(name))
        hint = nearest(split, workload.data)
        raise WorkloadError(f"training.split_examples: expected splits among {given}, got {split!r}{hint}")
    taken = [name for name in taken_names(split) if name in workload.data]
    if taken:
        raise WorkloadError(
            f"training.split_examples: the workload has a split {taken[0]!r}, the name of what is measured beside the"
            f" sample of {split!r}; give that split another name"
        )
