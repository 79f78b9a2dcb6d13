"""A workload's own DataLoaders are taken apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)
from training_builders import comparable, cross_entropy, error_rate, labelled, make_request, plain_workload, train_trial

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.training.built_workload import checked_workload
from tunectl.workloads.workload import Workload

TRAIN, VALID = labelled(50), labelled(20, seed=1)


def halved(examples: list[Any]) -> Any:
    features, labels = default_collate(examples)
    return [features / 2, labels]


def loading(train: Any, valid: Any = None, **changes: Any) -> Workload:
    loaders = {"train": train, "valid": DataLoader(VALID, batch_size=64) if valid is None else valid}
    model = plain_workload().model
    return Workload(model=model, loaders=loaders, loss=cross_entropy, metrics=error_rate, **changes)


def trained(path: Path, factory: Callable[..., Workload], **changes: Any) -> dict[str, Any]:
    folder = TrialFolder(path)
    folder.path.mkdir()
    assert train_trial(make_request(max_train_steps=9, **changes), folder, factory) is not None
    return comparable(folder)


def test_shuffling_loaders_train_as_their_data_sets_do_with_the_study_s_batch_size(tmp_path: Path):
    plain = trained(tmp_path / "plain", lambda: replace(plain_workload(), baseline_loss=None))
    shuffled = trained(tmp_path / "loaded", lambda: loading(DataLoader(TRAIN, batch_size=3, shuffle=True)))
    assert shuffled == plain


def test_the_order_and_the_collation_are_those_of_the_loaders(tmp_path: Path):
    in_order = DataLoader(TRAIN, batch_size=2, collate_fn=halved)
    steps = trained(tmp_path / "loaded", lambda: loading(in_order))["steps"]
    own: dict[str, Any] = {"collate": {"train": halved}, "sampler": SequentialSampler(TRAIN), "baseline_loss": None}
    assert steps == trained(tmp_path / "plain", lambda: replace(plain_workload(), **own))["steps"]


def test_a_sampler_and_an_iterable_data_set_are_taken_too():
    class Rows(IterableDataset[Any]):
        def __len__(self) -> int:
            return 50

        def __iter__(self) -> Any:
            return iter(TRAIN)

    weighted = WeightedRandomSampler([1.0] * 50, 50)
    assert checked_workload(loading(DataLoader(TRAIN, 4, sampler=weighted)), "m:f").sampler is weighted
    found: Any = checked_workload(loading(DataLoader(Rows(), 4)), "m:f").data["train"]
    assert isinstance(found.dataset, Rows)


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (loading([1, 2]), "split 'train': expected a torch.utils.data.DataLoader, got a list; other loaders"),
        (
            replace(loading(DataLoader(TRAIN)), loaders=cast(Any, [1])),
            "expected a dict of DataLoaders by split, got a list",
        ),
        (loading(DataLoader(TRAIN), data={"train": TRAIN}), "it is in data, too"),
        (loading(DataLoader(TRAIN, worker_init_fn=print)), "it has a worker_init_fn, which would not be called"),
        (loading(DataLoader(TRAIN, batch_size=None)), "batch_size=None"),
        (
            loading(DataLoader(TRAIN, batch_sampler=[[0, 1], [2]])),
            r"a batch_sampler of its own \(list\), and the study's batch_size",
        ),
        (
            loading(DataLoader(TRAIN), DataLoader(TRAIN, sampler=SubsetRandomSampler([1, 2]))),
            "split 'valid': it has a sampler .* as a torch.utils.data.Subset",
        ),
        (loading(DataLoader(TRAIN, collate_fn=halved), collate=halved), "a collate_fn, and the workload a collate"),
        (loading(DataLoader(TRAIN), sampler=[0]), "an order of its own, and the workload a sampler"),
        (
            replace(plain_workload(), data=cast(Any, {"train": DataLoader(TRAIN), "valid": VALID})),
            r"got a DataLoader; give it by Workload\(loaders=",
        ),
        (Workload(model=plain_workload().model, data={"train": TRAIN, "valid": VALID}), "loss: expected a function"),
    ],
)
def test_what_cannot_be_taken_apart_is_named(workload: Workload, expected: str):
    with pytest.raises(WorkloadError, match=f"^the workload of m:f: .*{expected}"):
        checked_workload(workload, "m:f")


def test_a_plain_batch_sampler_of_torch_says_nothing_but_the_order():
    loader = DataLoader(TRAIN, batch_sampler=BatchSampler(SequentialSampler(TRAIN), 4, drop_last=True))
    assert list(checked_workload(loading(loader), "m:f").sampler or ()) == list(range(50))  # type: ignore[arg-type]
    assert torch.equal(next(iter(loader))[1], TRAIN.tensors[1][:4])
