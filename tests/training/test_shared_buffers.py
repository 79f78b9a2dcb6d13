from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from rank_workloads import plain
from thread_ranks import ThreadRanks, on_threads
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.training.rank_agreement import begin_alike
from tunectl.training.ranks import SINGLE
from tunectl.training.shared_buffers import SharedBuffers
from tunectl.training.synchronised_batch_norm import SynchronisedBatchNorm


class Mixed(nn.Module):
    """Buffers of every kind: running statistics, a constant, a count, a codebook, and two that are not saved, one of
    them with a shape that depends on the examples.
    """

    norm: Any
    constant: Any
    calls: Any
    code: Any
    scratch: Any
    table: Any

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3).double()
        self.register_buffer("constant", torch.tensor([0.1, 0.2, 1 / 3], dtype=torch.float64))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("code", torch.ones(2, dtype=torch.float64))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        self.register_buffer("table", torch.zeros(1), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        self.calls += 1
        self.code = 0.5 * self.code + values.mean()  # assigned anew
        self.scratch.fill_(float(values[0, 0]))
        self.table = torch.arange(len(values)).double()
        normalised: Tensor = self.norm(values)
        return normalised


def values_of(batch: int) -> Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(batch), dtype=torch.float64) * 2 + 5


def trained(ranks: Any, batches: int = 4) -> Mixed:
    model = Mixed()
    buffers = SharedBuffers(model, ranks)
    for batch in range(batches):
        own = values_of(batch)[ranks.share(7)]
        model(own)
        agree(ranks, buffers, len(own), 7)
        if batch == 1:
            buffers.look()
    return model


def agree(ranks: Any, buffers: SharedBuffers, examples: int, of_all: int) -> bool:
    """As an update does it; gives whether any rank had changed a buffer that was not averaged."""
    others_change = ranks.agreed(buffers.others_change())
    buffers.agree(examples, of_all, others_change=others_change)
    return bool(others_change)


def test_running_statistics_are_the_averages_over_the_ranks_by_their_examples() -> None:
    found = on_threads(2, trained)
    mean, var, code = torch.zeros(3).double(), torch.ones(3).double(), torch.ones(2).double()
    for batch in range(4):
        parts = values_of(batch).split([4, 3])
        mean = 0.9 * mean + 0.1 * (4 * parts[0].mean(0) + 3 * parts[1].mean(0)) / 7
        var = 0.9 * var + 0.1 * (4 * parts[0].var(0) + 3 * parts[1].var(0)) / 7
        code = 0.5 * code + (4 * parts[0].mean() + 3 * parts[1].mean()) / 7
    for model in found:
        torch.testing.assert_close(model.norm.running_mean, mean, rtol=1e-13, atol=0)
        torch.testing.assert_close(model.norm.running_var, var, rtol=1e-13, atol=0)
        torch.testing.assert_close(model.code, code, rtol=1e-13, atol=0)
        scratch = (4 * values_of(3)[0, 0] + 3 * values_of(3)[4, 0]) / 7
        assert float(model.scratch) == pytest.approx(float(scratch), rel=1e-6)
        assert (int(model.calls), int(model.norm.num_batches_tracked)) == (4, 4)
    assert torch.equal(found[0].norm.running_mean, found[1].norm.running_mean)


def test_what_training_does_not_change_stays_the_same_and_what_is_cut_to_the_examples_is_each_ranks_own() -> None:
    first, second = on_threads(2, trained)
    for model in (first, second):
        assert torch.equal(model.constant, Mixed().constant)
    assert [len(first.table), len(second.table)] == [4, 3]


def test_statistics_over_single_examples_are_those_of_one_device() -> None:
    def instances(ranks: Any) -> Tensor:
        layer: Any = nn.InstanceNorm1d(3, track_running_stats=True).double()
        buffers = SharedBuffers(layer, ranks)
        for batch in range(3):
            values = values_of(batch)[:, :, None] + torch.arange(4.0)
            layer(values[ranks.share(7)])
            agree(ranks, buffers, len(values[ranks.share(7)]), 7)
        return torch.cat([layer.running_mean, layer.running_var])

    expected = instances(SINGLE)
    for found in on_threads(3, instances):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_a_rank_without_examples_gets_the_statistics_of_the_others() -> None:
    def share(ranks: ThreadRanks) -> list[Tensor]:
        model = Mixed()
        buffers = SharedBuffers(model, ranks)
        for batch in range(2):
            if ranks.rank == 0:
                model(values_of(batch))
            agree(ranks, buffers, 0 if ranks.rank else 7, 7)
        return [model.norm.running_mean, model.norm.running_var, model.calls, model.code]

    first, second = on_threads(2, share)
    model = Mixed()
    for batch in range(2):
        model(values_of(batch))
    assert all(map(torch.equal, first, second))
    torch.testing.assert_close(first[0], model.norm.running_mean, rtol=1e-14, atol=0)
    assert int(second[2]) == 2


class Late(nn.Module):
    """A buffer that is changed from the second batch on, and one that is registered then."""

    late: Any
    newer: Any

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("late", torch.zeros(2))

    def forward(self, batch: int, rank: int) -> None:
        if batch == 1:
            self.register_buffer("newer", torch.ones(1))
        if batch >= 1:
            self.late += rank + 1.0
            self.newer = 2 * self.newer + rank


def test_buffers_that_are_changed_or_registered_late_are_averaged_from_the_first_change_on() -> None:
    def share(ranks: ThreadRanks) -> list[Any]:
        model, seen, asked = Late(), list[Any](), list[bool]()
        buffers = SharedBuffers(model, ranks)
        for batch in range(5):
            # One rank alone changes them at first.
            if batch != 1 or ranks.rank == 1:
                model(batch, ranks.rank)
            else:
                model.register_buffer("newer", torch.ones(1))
            asked.append(agree(ranks, buffers, 1 + 2 * ranks.rank, 4))
            seen.append((model.late.tolist(), model.newer.tolist() if batch else None))
        return [seen, asked]

    first, second = on_threads(2, share)
    assert first == second
    # By 1 and 3 examples: the average of what is added is 7 / 4 and 3 / 4.
    assert [late for late, _ in first[0]] == [[0.0, 0.0], [1.5, 1.5], [3.25, 3.25], [5.0, 5.0], [6.75, 6.75]]
    assert [newer for _, newer in first[0]] == [None, [2.5], [5.75], [12.25], [25.25]]
    assert first[1] == [True, True, False, False, False], "the ranks exchange more only where something is new"


def test_buffers_that_are_changed_unseen_are_found_at_the_first_batch_and_at_a_look() -> None:
    def share(ranks: ThreadRanks) -> list[list[float]]:
        model = Mixed()
        buffers, seen = SharedBuffers(model, ranks), []
        for batch in range(4):
            # Torch does not count these writes.
            model.code.data += ranks.rank + 1.0
            if batch > 0:
                model.constant.data += ranks.rank + 1.0
            agree(ranks, buffers, 1, 2)
            if batch == 1:
                buffers.look()
            seen.append([float(model.code[0]), float(model.constant[0])])
        return seen

    first, second = on_threads(2, share)
    assert first == second
    expected = [[2.5, 0.1], [4.0, 1.1], [5.5, 2.6], [7.0, 4.1]]
    for found, numbers in zip(first, expected, strict=True):
        assert found == pytest.approx(numbers)


def test_buffers_that_differ_at_the_start_become_those_of_the_first_rank() -> None:
    def share(ranks: ThreadRanks) -> list[float]:
        model = Mixed()
        model.constant += ranks.rank
        model.scratch += ranks.rank
        SharedBuffers(model, ranks)
        return [float(model.constant[0]), float(model.scratch)]

    assert on_threads(3, share) == [[0.1, 0.0]] * 3


@pytest.mark.parametrize("is_registered", [True, False])
def test_a_saved_buffer_that_is_cut_to_the_examples_of_a_rank_is_refused(is_registered: bool) -> None:
    def share(ranks: ThreadRanks) -> None:
        model = nn.Module()
        if is_registered:
            model.register_buffer("table", torch.zeros(1))
        buffers = SharedBuffers(model, ranks)
        if is_registered or ranks.rank:
            model.register_buffer("table", torch.zeros(3 + ranks.rank))
        agree(ranks, buffers, 1, 2)
        buffers.look()

    there = "torch.float32, shape [3]" if is_registered else "missing"
    with pytest.raises(WorkloadError) as caught:
        on_threads(2, share)
    assert str(caught.value) == (
        f"the buffer 'table' of the model is {there} on device 0 of the trial and torch.float32, shape [4] on device 1,"
        " which has other examples: nothing can be saved of it; register it with persistent=False, or give it one shape"
    )


def test_a_buffer_whose_shapes_differ_for_some_batches_is_averaged_again_after_a_look_where_they_do_not() -> None:
    def share(ranks: ThreadRanks) -> list[list[float]]:
        model, seen = nn.Module(), []
        model.register_buffer("mask", torch.zeros(1), persistent=False)
        buffers = SharedBuffers(model, ranks)
        for sizes in ((1, 1), (2, 1), (2, 2), (2, 2)):
            buffers.look()
            model.mask = torch.full((sizes[ranks.rank],), 1.0 + ranks.rank)
            agree(ranks, buffers, 1, 2)
            seen.append(model.mask.tolist())
        return seen

    first, second = on_threads(2, share)
    assert first == [[1.5], [1.0, 1.0], [1.0, 1.0], [1.5, 1.5]]
    assert second == [[1.5], [2.0], [2.0, 2.0], [1.5, 1.5]]


def test_a_running_minimum_that_begins_with_infinity_is_never_nan() -> None:
    class Observed(nn.Module):
        least: Any

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("least", torch.tensor([torch.inf, torch.inf]))

    def share(ranks: ThreadRanks) -> list[list[float]]:
        model, seen = Observed(), []
        buffers = SharedBuffers(model, ranks)
        for batch in range(3):
            model.least = torch.minimum(model.least, torch.tensor([4.0 - batch - ranks.rank, torch.inf]))
            agree(ranks, buffers, 1, 2)
            seen.append(model.least.tolist())
        return seen

    first, second = on_threads(2, share)
    assert first == second == [[4.0, torch.inf], [2.5, torch.inf], [1.5, torch.inf]]


class Limited(nn.BatchNorm1d):
    """Batch normalisation with a buffer of its own, as the limits of a renormalisation."""

    largest: Any

    def __init__(self) -> None:
        super().__init__(3)
        self.register_buffer("largest", torch.zeros(3))

    def forward(self, values: Tensor) -> Tensor:
        self.largest = 0.5 * self.largest + values.detach().mean(dim=0).double()
        return super().forward(values)


def test_other_buffers_of_a_synchronised_layer_are_averaged_as_those_of_any_layer() -> None:
    def share(ranks: Any) -> Tensor:
        model = nn.Sequential(Limited()).double()
        synchronised, buffers = SynchronisedBatchNorm(model, ranks), SharedBuffers(model, ranks, are_synchronised=True)
        for batch in range(3):
            own = values_of(batch)[ranks.share(7)]
            with synchronised.active():
                model(own)
            agree(ranks, buffers, len(own), 7)
        found: Any = model[0]
        return found.largest

    expected = share(SINGLE)
    for found in on_threads(2, share):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_statistics_that_are_there_for_an_evaluation_only_leave_nothing_behind() -> None:
    def share(ranks: Any, is_evaluated: bool = True) -> Tensor:
        model = Mixed()
        buffers = SharedBuffers(model, ranks)
        for batch in range(3):
            own = values_of(batch)[ranks.share(7)]
            model(own)
            agree(ranks, buffers, len(own), 7)
            if is_evaluated:
                buffers.look()
                kept = model.norm.running_var.clone()
                model.norm.running_var.fill_(torch.inf)
                buffers.settle(without={"norm.running_var"})
                model.norm.running_var.copy_(kept)
        found: Tensor = model.norm.running_var
        return found

    whole = on_threads(2, lambda ranks: share(ranks, is_evaluated=False))
    assert all(map(torch.equal, on_threads(2, share), whole))


class Queue(nn.Module):
    """What training keeps that is no average: the last examples, counts of classes; and what depends on no example."""

    last: Any
    counts: Any
    steps: Any
    table: Any

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        for name, buffer in {
            "last": torch.zeros(3),
            "counts": torch.zeros(2, dtype=torch.int64),
            "steps": torch.tensor(0),
            "table": torch.zeros(2),
        }.items():
            self.register_buffer(name, buffer)

    def forward(self, values: Tensor) -> Tensor:
        self.last.copy_(values[-1])
        self.counts[int(values[-1, 0] > 5)] += len(values)
        self.steps += 1
        self.table = torch.tensor([0.5, 0.25])
        normalised: Tensor = self.norm(values)
        return normalised


def test_buffers_that_are_others_than_on_one_device_unless_they_are_averages_are_noted() -> None:
    def share(ranks: Any) -> list[dict[str, str]]:
        model, seen = Queue(), []
        buffers = SharedBuffers(model, ranks)
        for batch in range(2):
            own = values_of(batch)[ranks.share(7)].float()
            model(own)
            agree(ranks, buffers, len(own), 7)
            seen.append(buffers.notes())
        return seen

    averaged = (
        "buffers of the model are averaged over the devices after each update, which is right for averages over"
        " examples only"
    )
    whole = "buffers of the model are those of device 0, which sees its share of the examples"
    expected = {averaged: "last", whole: "counts"}
    assert on_threads(2, share) == [[expected, expected]] * 2
    assert share(SINGLE) == [{}, {}]


def test_a_buffer_that_differs_only_later_is_noted_where_devices_are_compared_and_one_without_examples_is_not() -> None:
    def share(ranks: Any) -> list[dict[str, str]]:
        model: Any = nn.Module()
        seen = []
        for name in ("peak", "steps"):
            model.register_buffer(name, torch.zeros(2, dtype=torch.int64))
        buffers = SharedBuffers(model, ranks)
        for batch in range(4):
            if ranks.rank < 2:  # the last one has no example
                model.steps += 1
                model.peak += 1 + (ranks.rank if batch == 3 else 0)
            others_change = ranks.agreed(buffers.others_change())
            buffers.agree([4, 3, 0][ranks.rank], 7, others_change=others_change, are_compared=batch > 0)
            seen.append(buffers.notes())
        return seen

    noted = {"buffers of the model are those of device 0, which sees its share of the examples": "peak"}
    assert on_threads(3, share) == [[{}, {}, {}, noted]] * 3


def test_whole_numbers_and_numbers_of_one_byte_are_those_of_the_first_rank() -> None:
    class Quantised(nn.Module):
        scale: Any
        flags: Any

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(3).to(torch.float8_e4m3fn))
            self.register_buffer("flags", torch.zeros(2, dtype=torch.bool))

    def share(ranks: ThreadRanks) -> list[list[float]]:
        model, seen = Quantised(), []
        buffers = SharedBuffers(model, ranks)
        for batch in range(2):
            model.scale = torch.full((3,), 2.0 + ranks.rank + batch).to(torch.float8_e4m3fn)
            model.flags[batch] = ranks.rank == 0
            agree(ranks, buffers, 1, 2)
            seen.append([*model.scale.float().tolist(), *model.flags.tolist()])
        return seen

    first, second = on_threads(2, share)
    assert first == second == [[2.0] * 3 + [True, False], [3.0] * 3 + [True, True]]


def test_synchronised_layers_are_left_alone_and_one_device_exchanges_nothing() -> None:
    def share(ranks: ThreadRanks) -> list[str]:
        model: Any = nn.Sequential(nn.BatchNorm1d(3).double(), nn.Linear(3, 2).double())
        synchronised, buffers = SynchronisedBatchNorm(model, ranks), SharedBuffers(model, ranks, are_synchronised=True)
        own = values_of(0)[ranks.share(7)]
        with synchronised.active():
            model(own)
        before = model[0].running_mean.clone()
        buffers.agree(len(own), 7)
        return [str(torch.equal(before, model[0].running_mean)), str(buffers._before)]

    assert on_threads(2, share) == [["True", "{}"]] * 2
    alone = trained(SINGLE)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(alone.norm.running_var, on_threads(2, trained)[0].norm.running_var)


def test_a_sparse_buffer_stays_what_it_is_and_is_refused_where_it_differs() -> None:
    class Graph(nn.Module):
        edges: Any

        def __init__(self, *, by: float = 1.0) -> None:
            super().__init__()
            self.register_buffer("edges", by * torch.eye(3).to_sparse())

    def share(ranks: ThreadRanks, apart: float) -> list[list[float]]:
        model = Graph()
        buffers = SharedBuffers(model, ranks)
        model.edges = model.edges * (2.0 + apart * ranks.rank)
        agree(ranks, buffers, 1, 2)
        buffers.look()
        found: list[list[float]] = model.edges.to_dense().tolist()
        return found

    assert on_threads(2, lambda ranks: share(ranks, 0.0)) == [(2 * torch.eye(3)).tolist()] * 2
    with pytest.raises(
        WorkloadError, match="the buffer 'edges' of the model, which is sparse, differs between devices 1"
    ):
        on_threads(2, lambda ranks: share(ranks, 1.0))
    with pytest.raises(
        WorkloadError, match="another workload on device 1 of the trial than on device 0, with another m"
    ):
        on_threads(2, lambda ranks: begin_alike(ranks, replace(plain(), model=Graph(by=1.0 + ranks.rank))))


def test_an_example_that_does_not_count_changes_no_average_whatever_it_gives() -> None:
    class Spread(nn.Module):
        spread: Any

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("spread", torch.ones(3, dtype=torch.float64))

    def share(ranks: ThreadRanks) -> list[list[float]]:
        model, seen = Spread(), []
        buffers = SharedBuffers(model, ranks)
        for batch in range(2):
            model.spread.mul_(0.5).add_(batch if ranks.rank == 0 else torch.nan)
            agree(ranks, buffers, 1 - ranks.rank, 1)
            seen.append(model.spread.tolist())
        return seen

    assert on_threads(2, share) == [[[0.5] * 3, [1.25] * 3]] * 2
