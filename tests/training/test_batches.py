"""The batches of updates. Also tests collation.py, training_data.py, and the permutations of data_order.py."""

from __future__ import annotations

import multiprocessing
from collections import Counter, namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate
from torch_parts import numpy_state
from training_builders import Augmented, frozen, labelled

from tunectl.core.errors import Infeasible, WorkloadError
from tunectl.training.batch_values import copied, moved, unwritten
from tunectl.training.batches import (
    RESIDENT_PART,
    Batches,
    DrawnBatches,
    DrawnByKey,
    LoadedBatches,
    TensorBatches,
    resident,
    training_batches,
)
from tunectl.training.data_order import DataOrder
from tunectl.training.training_data import TrainingData

CPU = torch.device("cpu")
Pair = namedtuple("Pair", ["x", "y"])


def make(dataset: Dataset[Any], batch_size: int = 4, workers: int = 0, first: int = 0, total: int = 12) -> Batches:
    return training_batches(
        TrainingData(dataset),
        seed=5,
        batch_size=batch_size,
        first_update=first,
        total_updates=total,
        device=CPU,
        data_workers=workers,
    )


def taken(source: Batches, updates: range) -> list[Any]:
    try:
        return [frozen(source.take(update)) for update in updates]
    finally:
        source.close()


class Plain(Dataset[Any]):
    """A subclass-free route to the same examples as a TensorDataset."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        return self.inner[index]


class AtOnce(Plain):
    """Fetches many examples at once, as torch's own loader would ask."""

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("one by one")

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self.inner[index] for index in indices]


class Shaped(Plain):
    """Examples of another shape."""

    def __init__(self, inner: Any, shape: Any) -> None:
        super().__init__(inner)
        self.shape = shape

    def __getitem__(self, index: int) -> Any:
        return self.shape(*self.inner[index])


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (10, 10), (3, 8), (1, 5), (7, 1)])
def test_every_epoch_of_the_stream_is_a_permutation_and_batches_are_always_full(size: int, batch_size: int):
    order = DataOrder(3, size, batch_size)
    stream = np.concatenate([order.examples(update) for update in range(40)])
    assert len(stream) == 40 * batch_size
    epochs = [stream[first : first + size] for first in range(0, len(stream) - size + 1, size)]
    assert all(Counter(epoch.tolist()) == Counter(range(size)) for epoch in epochs)
    if size == 10:
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_an_updates_examples_are_a_function_of_seed_and_update_alone():
    forward = [DataOrder(3, 11, 4).examples(update).tolist() for update in range(30)]
    order = DataOrder(3, 11, 4)
    assert [order.examples(update).tolist() for update in reversed(range(30))] == forward[::-1]
    assert np.array_equal(DataOrder(3, 11, 4).examples(5, 7), np.concatenate(forward[5:12]))
    assert DataOrder(4, 11, 4).examples(0).tolist() != forward[0]


def test_an_empty_train_split_is_refused():
    with pytest.raises(WorkloadError, match="expected at least one example"):
        DataOrder(0, 0, 4)


def test_a_tensor_dataset_gives_the_batches_of_default_collation_on_its_fast_path():
    data = TensorDataset(torch.arange(30.0).view(10, 3), torch.arange(10), torch.rand(10, 2, 2) > 0.5)
    assert isinstance(make(data), TensorBatches)
    fast = make(data).take(0)
    slow = make(Plain(data)).take(0)
    assert type(fast) is list
    assert [tensor.dtype for tensor in fast] == [tensor.dtype for tensor in slow]
    assert taken(make(data), range(12)) == taken(make(Plain(data)), range(12))


def test_a_subclass_of_tensor_dataset_is_asked_for_its_examples():
    class Doubling(TensorDataset):
        def __getitem__(self, index: int) -> tuple[Tensor, ...]:
            return tuple(tensor * 2 for tensor in super().__getitem__(index))

    data = torch.arange(10.0)
    assert isinstance(make(Doubling(data)), DrawnBatches)
    assert torch.equal(make(Doubling(data)).take(3)[0], make(TensorDataset(data)).take(3)[0] * 2)


def test_a_small_data_set_of_tensors_is_kept_on_the_gpu_and_a_large_one_on_the_host():
    # The meta device takes the place of a GPU: it has no memory, so that its size is a number of the test's.
    tensors, device = (torch.zeros(100, 3), torch.zeros(100, dtype=torch.int64)), torch.device("meta")
    size = 100 * 3 * 4 + 100 * 8
    assert [t.device.type for t in resident(tensors, device, int(size / RESIDENT_PART) + 1)] == ["meta", "meta"]
    assert [t.device.type for t in resident(tensors, device, int(size / RESIDENT_PART) - 1)] == ["cpu", "cpu"]
    assert resident(tensors, torch.device("cpu"), 2**40) == tensors


def test_blocks_end_nowhere_visible(monkeypatch: pytest.MonkeyPatch):
    data = labelled(13)
    whole = taken(make(data, total=50), range(50))
    monkeypatch.setattr("tunectl.training.batches._BLOCK_UPDATES", 3)
    assert taken(make(data, total=50), range(50)) == whole
    assert taken(make(data, total=50, first=31), range(31, 50)) == whole[31:]


def test_writing_into_a_batch_writes_neither_into_the_data_nor_into_another_batch():
    data = labelled(13)
    expected = taken(make(data), range(12))
    source = make(data)
    found = []
    for update in range(12):
        batch = source.take(update)
        found.append(frozen(batch))
        batch[0].zero_()
    assert found == expected


def test_a_batch_of_a_resumed_trial_lies_at_the_same_offset_in_memory():
    data = TensorDataset(torch.rand(50, 3))
    offsets = {first: make(data, 5, first=first).take(7)[0].storage_offset() for first in (0, 3, 7)}
    assert len(set(offsets.values())) == 1


@pytest.mark.parametrize("wrap", [Augmented, lambda data: Subset(Augmented(data), range(2, 12)), AtOnce])
def test_batches_are_the_same_with_any_number_of_loader_processes_and_from_any_update_on(wrap: Any):
    data = wrap(labelled(13))
    here = taken(make(data), range(12))
    assert taken(make(data, workers=1), range(12)) == here
    assert taken(make(data, workers=2, first=5), range(5, 12)) == here[5:]


def test_drawing_examples_leaves_the_global_generators_alone():
    data = Augmented(labelled(13))
    before = torch.get_rng_state(), numpy_state()
    taken(make(data), range(4))
    taken(make(data, workers=2), range(4))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == numpy_state()


def test_loader_processes_are_gone_after_close_even_when_most_batches_were_not_taken():
    source = make(Augmented(labelled(13)), workers=2, total=1000)
    source.take(0)
    assert len(multiprocessing.active_children()) == 2
    source.close()
    assert multiprocessing.active_children() == []
    source.close()


def test_an_infeasible_of_a_loader_process_keeps_its_reason():
    class Impossible(Plain):
        def __getitem__(self, index: int) -> Any:
            raise Infeasible("crop is larger than the image")

    for workers in (0, 1):
        source = make(Impossible(labelled(8)), workers=workers)
        with pytest.raises(Infeasible) as caught:
            source.take(0)
        source.close()
        assert caught.value.reason == "crop is larger than the image"


@pytest.mark.parametrize("shape", [Pair, lambda x, y: {"x": x, "y": [y, y]}, lambda x, y: (x.numpy(), int(y), "text")])
def test_examples_of_other_shapes_are_collated_as_torch_does(shape: Any):
    data = Shaped(labelled(8), shape)
    batch = make(data).take(0)
    reference = torch.utils.data.default_collate([data[i] for i in DataOrder(5, 8, 4).examples(0).tolist()])
    assert type(batch) is type(reference)
    assert frozen(batch) == frozen(reference)


def test_moving_reaches_tensors_in_every_container_and_leaves_the_rest():
    meta = torch.device("meta")
    batch = {"a": torch.zeros(2), "b": [torch.zeros(3), "text"], "c": Pair(torch.zeros(1), (1, torch.zeros(4)))}
    found = moved(batch, meta)
    assert found["a"].is_meta
    assert found["b"][0].is_meta
    assert found["b"][1] == "text"
    assert type(found["c"]) is Pair
    assert found["c"].x.is_meta
    assert found["c"].y[1].is_meta
    assert moved(batch, CPU) is batch


def test_keys_are_asked_for_lazily():
    asked = []

    def keys() -> Iterator[tuple[int, list[int]]]:
        for update in range(10**9):
            asked.append(update)
            yield update, [update % 13]

    from tunectl.training.seeds import Purpose

    source = LoadedBatches(DrawnByKey(labelled(13), 0, Purpose.EXAMPLES, default_collate), keys(), CPU, 1)
    source.take(0)
    source.close()
    assert 0 < len(asked) < 100


def test_a_copied_batch_has_its_own_tensors_and_containers_of_the_same_kinds():
    batch: dict[str, Any] = {"pair": Pair(torch.ones(2), [torch.zeros(3), "name"]), "tuple": (1, torch.ones(1))}
    found = copied(batch)
    found["pair"].x.mul_(5)
    found["pair"].y[0].add_(1)
    del found["tuple"]
    assert batch["pair"].x.tolist() == [1.0, 1.0]
    assert type(found["pair"]) is Pair
    assert (batch["pair"].y[0].sum(), batch["pair"].y[1]) == (0, "name")
    assert "tuple" in batch


@pytest.mark.parametrize("place", [lambda batch: batch["a"], lambda batch: batch["b"][0][1], lambda batch: batch["v"]])
def test_a_write_into_a_batch_is_seen_wherever_the_tensor_is(place: Any):
    base = torch.zeros(4, 2)
    batch = {"a": torch.zeros(2), "b": [("name", torch.zeros(2))], "v": base[:2]}
    with unwritten(batch, "loss(model, batch)"):
        _ = (place(batch) * 2).add_(1)
        batch["new"] = torch.zeros(1).add_(1)
    with (
        pytest.raises(WorkloadError, match=r"^loss\(model, batch\) writes into its batch; work on a copy$"),
        unwritten(batch, "loss(model, batch)"),
    ):
        place(batch)[0] = 3
