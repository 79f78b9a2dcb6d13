"""Iterable data sets: what updates see of them, and that a trial goes on where it was."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset, default_collate
from training_builders import (
    StopAt,
    comparable,
    labelled,
    make_request,
    plain_workload,
    stochastic_workload,
    train_trial,
)

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import WorkloadError
from tunectl.core.example_predictions import PredictionSettings
from tunectl.core.folders import TrialFolder
from tunectl.core.records import BatchNormStatistics, TrialRequest
from tunectl.training.batches import training_batches
from tunectl.training.built_workload import checked_workload
from tunectl.training.cached_examples import cache_plan
from tunectl.training.folded_data import folded
from tunectl.training.probe import probe
from tunectl.training.streams import StreamedExamples
from tunectl.training.training_data import TrainingData
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")


class Stream(IterableDataset[Any]):
    """Is its own iterator, as a reader of a file often is; draws noise for each example, and shuffles by the pass."""

    def __init__(self, inner: TensorDataset, declared: int | None = None, noise: float = 0.1) -> None:
        self.inner, self.noise = inner, noise
        self.declared = len(inner) if declared is None else declared
        self.epoch, self.place = 0, 0
        self.order: list[int] = []

    def __len__(self) -> int:
        return self.declared

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        self.place = 0
        generator = torch.Generator().manual_seed(self.epoch)
        self.order = torch.randperm(len(self.inner), generator=generator).tolist()
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self.place == len(self.order):
            raise StopIteration
        features, label = self.inner[self.order[self.place]]
        self.place += 1
        return features + self.noise * torch.randn(features.shape), label


class Seeking(Stream):
    """Can begin within a pass."""

    def iter_from(self, place: int) -> Iterator[Any]:
        iter(self)
        self.place = place
        return self


def streamed(kind: Callable[..., Stream] = Stream, **options: Any) -> Workload:
    data = {
        "train": kind(labelled(50), **options),
        "valid": Stream(labelled(20, seed=1), noise=options.get("noise", 0.1)),
    }
    return checked_workload(replace(plain_workload(), data=data), "m:f")


def raw(kind: Callable[..., Stream] = Stream, **options: Any) -> Callable[..., Workload]:
    """The factory of a workload as a user gives it."""
    return lambda: replace(
        plain_workload(), data={"train": kind(labelled(50), **options), "valid": Stream(labelled(20, seed=1))}
    )


def batches(workload: Workload, updates: range, workers: int = 0, size: int = 8) -> list[Any]:
    source = training_batches(
        TrainingData.of(workload),
        seed=5,
        batch_size=size,
        first_update=updates.start,
        total_updates=updates.stop,
        device=CPU,
        data_workers=workers,
    )
    try:
        return [source.take(update) for update in updates]
    finally:
        source.close()


def same(one: list[Any], other: list[Any]) -> bool:
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("size", [8, 7, 120])
def test_updates_take_the_examples_in_their_order_one_pass_after_the_other(size: int):
    found = batches(streamed(noise=0.0), range(9), size=size)
    rows = torch.cat([batch[0] for batch in found])
    inner, expected = labelled(50), []
    for number in range(-(-9 * size // 50)):
        order = torch.randperm(50, generator=torch.Generator().manual_seed(number))
        expected.append(inner.tensors[0][order])
    assert torch.equal(rows, torch.cat(expected)[: 9 * size])


@pytest.mark.parametrize("kind", [Stream, Seeking])
@pytest.mark.parametrize("first", [1, 6, 7, 13, 25])
def test_the_batches_from_any_update_on_are_those_of_the_whole_training(kind: Callable[..., Stream], first: int):
    whole = batches(streamed(kind), range(27))
    assert same(batches(streamed(kind), range(first, 27)), whole[first:])
    # Passes of 50 examples begin within an update, whose noise is drawn anew from there.
    assert not torch.equal(whole[0][0], batches(streamed(kind), range(1))[0][0] + 1)


def test_loader_processes_give_the_same_batches():
    assert same(batches(streamed(), range(9), workers=3), batches(streamed(), range(9)))
    assert same(batches(streamed(), range(5, 9), workers=3), batches(streamed(), range(9))[5:])


def test_the_generators_are_as_before_and_training_draws_nothing_from_them():
    workload = streamed()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = batches(workload, range(3))
    assert torch.equal(torch.rand(3), expected)
    assert same(batches(streamed(), range(3)), first)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [(60, "a pass has 60 examples, and pass 0 ended after 50"), (40, "a pass has 40 examples, and pass 0 gave more")],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_pass_of_another_length_than_declared_is_refused(declared: int, expected: str, workers: int):
    with pytest.raises(WorkloadError, match=expected):
        batches(streamed(declared=declared), range(9), workers)


REQUEST = {"optimizer": "adam", "max_train_steps": 20, "eval_every": 5}


def trained(path: Path, request: TrialRequest, factory: Any, stops: tuple[int, ...] = ()) -> dict[str, Any]:
    folder = TrialFolder(path)
    folder.path.mkdir()
    for stop in stops:
        assert train_trial(request, folder, factory, stop=StopAt(stop), save_every_seconds=1e9) is None
    assert train_trial(request, folder, factory) is not None
    return comparable(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data_workers": 2},
        {"accumulate_steps": 3},
        {
            "curvature": CurvatureSettings(every=5, examples=16),
            "predictions": PredictionSettings(split="train", examples=3),
            "split_examples": {"valid": 8},
        },
    ],
)
def test_a_stopped_trial_on_streams_ends_bit_for_bit_as_if_never_stopped(tmp_path: Path, changes: dict[str, Any]):
    def factory() -> Workload:
        return replace(
            raw()(), predict=lambda model, batch: {"prediction": model(batch[0]).argmax(dim=1), "target": batch[1]}
        )

    request = make_request(**REQUEST, **changes)
    # What a trial reads beside its updates must not move the stream of them.
    plain = trained(tmp_path / "plain", make_request(**REQUEST), factory)
    expected = trained(tmp_path / "undisturbed", request, factory)
    assert trained(tmp_path / "stopped", request, factory, (3, 1, 8)) == expected
    if "accumulate_steps" not in changes:
        assert plain["steps"] == expected["steps"]


def test_a_split_is_evaluated_as_a_map_style_one_with_these_examples_would_be():
    from tunectl.training.evaluated_splits import evaluated_splits
    from tunectl.training.evaluation import evaluate
    from tunectl.training.evaluation_batches import Evaluator

    workload = streamed(noise=0.0)
    valid: Any = Stream(labelled(20, seed=1), noise=0.0)
    rows = default_collate(list(valid))
    workload = replace(workload, data={**workload.data, "valid": StreamedExamples(valid)})
    plain = replace(workload, data={**workload.data, "valid": TensorDataset(*rows)})
    measured = [
        evaluate(Evaluator(item, evaluated_splits(item, None), 16, 0, CPU, workers))
        for item, workers in ((workload, 0), (workload, 1), (plain, 0))
    ]
    assert measured[0]["valid"] == measured[1]["valid"] == measured[2]["valid"]
    assert measured[0]["train"].loss.examples == 20


def test_the_last_training_reads_both_splits_in_one_pass_with_valid_spread_evenly():
    whole: Any = folded(streamed(noise=0.0)).data["train"]
    assert len(whole) == 70
    places = [index for index, item in enumerate(whole) if any(torch.equal(item[0], row) for row in VALID)]
    assert len(places) == 20
    assert max(later - place for place, later in itertools.pairwise(places)) <= 4
    mixed: Any = folded(replace(streamed(), data={**streamed().data, "valid": labelled(20, seed=1)})).data["train"]
    assert len(list(mixed)) == len(mixed) == 70


VALID = labelled(20, seed=1).tensors[0]


def test_a_stream_is_not_cached_since_it_would_be_trained_on_in_another_order():
    assert cache_plan(streamed().data["train"], 0).why == "in order"


class Unseeded(Stream):
    def __next__(self) -> tuple[Tensor, Tensor]:
        features, label = super().__next__()
        return features + torch.rand(6, generator=OWN), label


OWN = torch.Generator()


class Lost(Seeking):
    def iter_from(self, place: int) -> Iterator[Any]:
        return super().iter_from(place + 1)


@pytest.mark.parametrize(
    ("factory", "changes", "expected"),
    [
        (raw(Unseeded), {}, "'train', an iterable data set, gives other examples in a second pass with the same seeds"),
        (raw(Lost), {}, r"gives other examples by iter_from\(4\) than iter\(\) gives from that place on"),
        (raw(declared=3), {}, "pass 0 gave more"),
        (
            raw(),
            {"initialisation": "metainit", "initialisation_steps": 2},
            "initialisation: metainit cannot be used with this workload: .*iterable",
        ),
        (
            lambda: replace(stochastic_workload(), data=raw()().data),
            {"batch_norm_statistics": BatchNormStatistics(2)},
            r"^training\.batch_norm_statistics: the split 'train' is an iterable data set",
        ),
        (lambda: replace(raw()(), sampler=[0, 1]), {}, "sampler: the split 'train' is an iterable data set"),
    ],
)
def test_what_a_trial_cannot_do_with_a_stream_is_refused_before_anything_is_created(
    factory: Any, changes: dict[str, Any], expected: str
):
    extra = {"initialisation_learning_rate": 0.1, "initialisation_momentum": 0.5} if "initialisation" in changes else {}
    with pytest.raises(WorkloadError, match=expected):
        probe(make_request(**REQUEST, **changes, **extra), factory, device="cpu")


def test_a_sound_stream_passes_the_probe():
    for factory in (raw(), raw(Seeking)):
        assert probe(make_request(**REQUEST), factory, device="cpu").checkpoint_bytes > 0


def test_any_iterable_with_a_length_and_no_places_is_one():
    class Rows:
        def __len__(self) -> int:
            return 50

        def __iter__(self) -> Iterator[Any]:
            return iter(Stream(labelled(50), noise=0.0))

    data: Any = {"train": Rows(), "valid": labelled(20, seed=1)}
    found = checked_workload(replace(plain_workload(), data=data), "m:f")
    assert same(batches(found, range(6)), batches(streamed(noise=0.0), range(6)))


def test_one_iterable_data_set_in_two_splits_is_refused():
    both = Stream(labelled(50))
    with pytest.raises(WorkloadError, match="two splits are one iterable data set"):
        checked_workload(replace(plain_workload(), data={"train": both, "valid": both}), "m:f")
