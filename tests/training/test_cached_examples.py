"""Examples that are read once: which splits, and that training with them is bit for bit the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from training_builders import Augmented, cross_entropy, error_rate, labelled, make_request, train_trial
from trial_records import lines_in

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.training import cached_examples
from tunectl.training.cached_examples import bytes_of, cache_plan, cached, equal, fits_in_memory, with_cached_examples
from tunectl.workloads.workload import Workload


class Counted(Dataset[Any]):
    """Counts the examples that are read from it; gives the same buffer each time."""

    def __init__(self, change: Callable[[int], float] = lambda _index: 0.0) -> None:
        self.inner, self.change, self.reads = labelled(50), change, 0
        self.buffer = torch.zeros(6)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.reads += 1
        features, label = self.inner[index]
        self.buffer.copy_(features + self.change(index))
        return {"x": self.buffer, "y": (int(label), np.array([index]))}


def workload(train: Dataset[Any]) -> Workload:
    def loss(model: nn.Module, batch: Any) -> Any:
        return cross_entropy(model, (batch["x"], batch["y"][0]))

    def metrics(model: nn.Module, batch: Any) -> Any:
        return error_rate(model, (batch["x"], batch["y"][0]))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3))
    return Workload(model, {"train": train, "valid": Copied(), "test": Copied()}, loss, metrics)


class Copied(Counted):
    def __getitem__(self, index: int) -> dict[str, Any]:
        found = super().__getitem__(index)
        return {**found, "x": found["x"].clone()}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_trial_with_kept_examples_is_the_same_bit_for_bit(tmp_path: Any, workers: int) -> None:
    found = []
    for name, changes in (("plain", {}), ("kept", {"cache_examples": True, "data_workers": workers})):
        folder = TrialFolder(tmp_path / name / "trials" / "00003")
        folder.path.mkdir(parents=True)
        train_trial(make_request(**changes, max_train_steps=14), folder, lambda: workload(Copied()))
        lines = lines_in(folder.measurements)
        found.append([line["metrics"] for line in lines])
        assert len(lines) == 3
    assert found[0] == found[1]


def test_each_example_is_read_once_more_than_it_was_tried_and_the_test_split_is_not_read() -> None:
    given = workload(Counted())
    kept = with_cached_examples(given, make_request(cache_examples=True))
    train, test = given.data["train"], given.data["test"]
    assert isinstance(train, Counted)
    assert isinstance(test, Counted)
    before = train.reads
    # A copy for each, although the data set gives one buffer.
    assert len({tuple(kept.data["train"][index]["x"].tolist()) for index in range(50)}) == 50
    assert all(torch.equal(kept.data["train"][index]["x"], labelled(50)[index][0]) for index in range(50))
    assert train.reads == before
    assert test.reads == 0
    assert kept.data["test"] is test


OWN = np.random.default_rng(0)
RANDOM: dict[str, Callable[[int], float]] = {
    "torch": lambda _index: float(torch.rand(())),
    "numpy": lambda _index: float(np.random.random()),
    "Python": lambda _index: random.random(),
    "a generator of its own": lambda _index: float(OWN.random()),
    "now and then": lambda index: random.random() if index == 41 else 0.0,
}


@pytest.mark.parametrize("change", RANDOM.values(), ids=RANDOM)
def test_examples_that_are_drawn_anew_each_time_are_not_kept(change: Callable[[int], float]) -> None:
    given = workload(Counted(change))
    kept = with_cached_examples(given, make_request(cache_examples=True))
    assert kept.data["train"] is given.data["train"]
    assert kept.data["valid"] is not given.data["valid"]


def test_tensors_that_are_in_memory_stay_as_they_are() -> None:
    assert cache_plan(labelled(20), 0).why == "in memory"
    assert cache_plan(Augmented(labelled(20)), 0).why == "random"
    assert cached(Augmented(labelled(20)), 0, 0) is None


def test_a_cache_that_does_not_fit_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_examples, "free_bytes", lambda: 2**10)
    with pytest.raises(WorkloadError, match=r"resources\.cache_examples: the examples take .* GiB"):
        with_cached_examples(workload(Counted()), make_request(cache_examples=True))
    assert fits_in_memory(2**40, None), "where nothing is known, it is tried"


def test_global_generators_are_as_before() -> None:
    given = workload(Counted(RANDOM["torch"]))
    before = torch.random.get_rng_state()
    with_cached_examples(given, make_request(cache_examples=True))
    assert torch.equal(before, torch.random.get_rng_state())


def test_examples_that_are_objects_are_compared_and_measured_by_their_tensors() -> None:
    @dataclass
    class Record:
        values: Tensor
        name: str

    class Graph:
        def __init__(self, nodes: Tensor) -> None:
            self.nodes = nodes

        def to(self, device: Any) -> Graph:
            return self

    for make in (lambda values: Record(values, "a"), Graph, lambda values: {"deep": [Record(values, "a")]}):
        assert equal(make(torch.arange(3)), make(torch.arange(3)))
        assert not equal(make(torch.arange(3)), make(torch.ones(3)))
        assert bytes_of(make(torch.zeros(1000))) > 4000
    assert not equal(Record(torch.ones(1), "a"), Record(torch.ones(1), "b"))
