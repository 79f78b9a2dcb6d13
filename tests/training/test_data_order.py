"""The order of a workload's sampler. The permutations of epochs are tested in test_batches.py."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import RandomSampler, SequentialSampler, WeightedRandomSampler
from training_builders import StopAt, comparable, labelled, make_request, plain_workload, train_trial

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.training.data_order import SampledOrder, sampled_epoch
from tunectl.training.probe import probe
from tunectl.training.seeds import Purpose
from tunectl.workloads.workload import ExampleSampler, Workload


def order(sampler: ExampleSampler, batch_size: int = 4, seed: int = 3) -> SampledOrder:
    return SampledOrder(sampler, labelled(11), seed=seed, batch_size=batch_size, purpose=Purpose.ORDER)


def shrinking(dataset: Any, epoch: int, generator: np.random.Generator) -> Any:
    """Epochs of different lengths, of which some are shorter than a batch."""
    return generator.permutation(len(dataset))[: max(1, 11 - 3 * epoch)]


@pytest.mark.parametrize("batch_size", [1, 4, 30])
def test_updates_take_one_epoch_after_the_other_also_of_different_lengths(batch_size: int):
    epochs = [sampled_epoch(shrinking, labelled(11), 3, epoch).tolist() for epoch in range(80)]
    stream = list(itertools.chain(*epochs))
    found = order(shrinking, batch_size)
    for update in (2, 0, 1, 2):
        assert found.examples(update).tolist() == stream[update * batch_size : (update + 1) * batch_size]
    assert order(shrinking, batch_size).examples(1, 2).tolist() == stream[batch_size : 3 * batch_size]


def test_an_epoch_is_a_function_of_the_seed_and_its_number_and_leaves_the_generators_alone():
    torch.manual_seed(1)
    before = torch.rand(1), torch.manual_seed(1)
    samplers: list[ExampleSampler] = [
        shrinking,
        RandomSampler(labelled(11)),
        RandomSampler(labelled(11), generator=torch.Generator()),
        WeightedRandomSampler([1.0] * 11, 11),
    ]
    for sampler in samplers:
        first = sampled_epoch(sampler, labelled(11), 3, 0).tolist()
        assert sampled_epoch(sampler, labelled(11), 3, 1).tolist() != first
        assert sampled_epoch(sampler, labelled(11), 4, 0).tolist() != first
        assert sampled_epoch(sampler, labelled(11), 3, 0).tolist() == first
    assert torch.rand(1) == before[0]
    assert sampled_epoch(SequentialSampler(labelled(11)), labelled(11), 3, 5).tolist() == list(range(11))


def test_a_sampler_gets_the_number_of_the_epoch():
    class ByEpoch(SequentialSampler):
        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Any:
            return iter([self.epoch % 11])

    assert order(ByEpoch(labelled(11)), 3).examples(1).tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda d, e, g: [], "at least one example"),
        (lambda d, e, g: [0, 11], "from 0 to 10, got 11"),
        (lambda d, e, g: np.array([0, -1]), "from 0 to 10, got -1"),
        (lambda d, e, g: g.random(11), r"whole numbers, shape \[examples\], got float64, shape \[11\]"),
        (lambda d, e, g: torch.zeros(3, 2, dtype=torch.int64), r"got int64, shape \[3, 2\]"),
        (lambda d, e, g: [0.5], "whole numbers, got 0.5"),
        (lambda d, e, g: [True], "whole numbers, got True"),
        (lambda d, e, g: None, "the places of examples, got None"),
        ([[0, 1], [2]], "got a list; it gives the order of examples, of which batch_size makes batches"),
    ],
)
def test_what_is_no_order_of_the_examples_is_refused(given: Any, expected: str):
    with pytest.raises(WorkloadError, match=f"^sampler: expected .*{expected}"):
        sampled_epoch(given, labelled(11), 3, 0)


def test_a_sampler_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tunectl.training.data_order._MOST_OF_AN_EPOCH", 50)
    with pytest.raises(WorkloadError, match="at most 1,100 examples for an epoch; it must end"):
        sampled_epoch(lambda d, e, g: itertools.count(0), labelled(11), 3, 0)


def sampled_workload() -> Workload:
    """Trains on the examples of one class alone."""

    def sampler(dataset: Any, epoch: int, generator: np.random.Generator) -> Any:
        return generator.permutation(np.flatnonzero(dataset.tensors[1].numpy() == 1))

    return replace(plain_workload(), sampler=sampler)


def test_a_trial_trains_on_the_examples_of_its_sampler_and_goes_on_bit_for_bit(folder: TrialFolder, tmp_path: Any):
    request = make_request(optimizer="adam")
    undisturbed = TrialFolder(tmp_path / "undisturbed")
    undisturbed.path.mkdir()
    assert train_trial(request, undisturbed, sampled_workload) is not None
    assert train_trial(request, folder, sampled_workload, stop=StopAt(11)) is None
    assert train_trial(request, folder, sampled_workload) is not None
    assert comparable(folder) == comparable(undisturbed)
    # The evaluations have all classes, of which those that are never seen are predicted worse and worse.
    first, last = comparable(folder)["measurements"][0]["metrics"], comparable(folder)["measurements"][-1]["metrics"]
    assert last["train/minibatch_loss"] < first["train/loss"] < last["train/loss"]


def test_no_epoch_after_the_last_update_is_asked_for(folder: TrialFolder):
    epochs = [list(range(50)), list(range(49, -1, -1))]

    def factory() -> Workload:
        return replace(plain_workload(), sampler=lambda dataset, epoch, generator: epochs[epoch])

    # 12 updates of 8 examples are within two epochs of 50.
    request = make_request(max_train_steps=12)
    assert probe(request, factory, device="cpu").checkpoint_bytes > 0
    result = train_trial(request, folder, factory)
    assert result is not None
    assert result.state == "completed"


def test_an_order_from_a_generator_of_its_own_is_found_by_its_second_reading():
    from tunectl.training.probed_data import first_examples
    from tunectl.training.training_data import TrainingData

    own = random.Random(0)
    data = TrainingData(labelled(11), sampler=lambda d, e, g: own.sample(range(11), 11))
    with pytest.raises(WorkloadError, match=r"^sampler: expected the same order each time for an epoch"):
        first_examples(data, 3, 4)
    assert len(first_examples(TrainingData(labelled(11), sampler=shrinking), 3, 4)) == 4
