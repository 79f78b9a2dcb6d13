"""That ranks with other data are refused, and others are not. Tests example_values.py, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from thread_ranks import ThreadRanks, on_threads
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from training_builders import cross_entropy, labelled

from tunectl.core.errors import LostRankError, WorkloadError
from tunectl.training.data_agreement import refuse_other_data
from tunectl.training.example_values import Values, are_close, digests, example_values
from tunectl.training.ranks import SINGLE
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload

SEED = 3
HELP = (
    "each process must have the same data in the same order: draw what is random, as a split, from the factory's"
    " argument `seed`, and sort the names of files"
)


class Given(Dataset[Any]):
    """Examples that a function gives by their place."""

    def __init__(self, size: int, give: Callable[[int], Any]) -> None:
        self.size, self.give = size, give

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: int) -> Any:
        return self.give(place)


def workload(train: Any, *, sampler: Any = None, valid: Any = None) -> Workload:
    data = {"train": train, "valid": labelled(5) if valid is None else valid}
    return Workload(nn.Linear(6, 3), data, cross_entropy, sampler=sampler)


def found(make: Callable[[int], Workload], count: int = 2) -> list[dict[str, str]]:
    """The notes at each rank, for the workload that `make(rank)` gives."""

    def call(ranks: ThreadRanks) -> dict[str, str]:
        return refuse_other_data(ranks, make(ranks.rank), SEED)

    return on_threads(count, call)


def refusal(make: Callable[[int], Workload], count: int = 2) -> str:
    with pytest.raises(WorkloadError) as caught:
        found(make, count)
    return str(caught.value)


def shuffled(rank: int, examples: int = 1000) -> np.ndarray[Any, Any]:
    """The places of examples in an order that depends on the rank, as an unseeded shuffle."""
    return np.random.default_rng(rank).permutation(examples)


def of_places(rank: int, make: Callable[[int], Any]) -> Given:
    order = shuffled(rank).tolist()
    return Given(1000, lambda place: make(order[place]))


@dataclasses.dataclass
class Pair:
    words: list[str]
    label: int


EXAMPLES: dict[str, Callable[[int], Any]] = {
    "tensors": lambda place: (torch.full((2, 3), float(place)), torch.tensor(place % 3)),
    "arrays": lambda place: {"x": np.full(4, place % 251, dtype=np.uint8), "y": 0},
    "text": lambda place: (f"word {place}", None),
    "dataclasses": lambda place: Pair([str(place)], 1),
    "objects as keys": (lambda place: {object(): place}),
    "objects beside numbers": lambda place: (object(), place),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_examples_in_another_order_are_refused_whatever_they_are(kind: str) -> None:
    message = refusal(lambda rank: workload(of_places(rank, EXAMPLES[kind])))
    assert message.startswith("the split 'train' has another example 0 on device 1 of the trial than on device 0; ")
    assert message.endswith(HELP)
    assert found(lambda _: workload(of_places(1, EXAMPLES[kind]))) == [{}, {}]


def test_the_words_name_the_split_the_place_and_all_devices() -> None:
    def make(rank: int) -> Workload:
        data = labelled(500)
        if rank in (1, 3):
            data.tensors[1][470] = 7  # one label of 500
        return workload(labelled(20), valid=data)

    assert refusal(make, 4) == (
        "the split 'valid' has other examples among 464 to 471 on devices 1 and 3 of the trial than on device 0; "
        + HELP
    )


def test_of_large_tensors_some_examples_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunectl.training.data_agreement.WHOLE_BYTES", 100)

    def make(rank: int, of: int = 1000) -> Workload:
        return workload(TensorDataset(torch.from_numpy(shuffled(rank, of))))

    assert "the split 'train' has another example 0 on device 1 of" in refusal(make)
    assert found(lambda _: make(0)) == [{}, {}]


def test_examples_that_no_seed_decides_are_no_reason_to_refuse_and_are_noted() -> None:
    def make(rank: int) -> Workload:
        generator = np.random.default_rng(rank)
        return workload(Given(30, lambda place: (place, generator.normal())))

    note = "train: its examples are drawn by random numbers that no seed decides"
    assert found(make) == [{"not all data were compared between the devices of the trial": note}] * 2


def test_texts_that_differ_beside_numbers_by_which_examples_differ_are_noted() -> None:
    def make(rank: int, wrong: int | None = None) -> Workload:
        def give(place: int) -> Any:
            pixels = torch.full((4,), 9.0 if rank and place == wrong else place / 7)
            return {"path": f"/tmp/{rank}/{place}.png", "pixels": pixels}

        return workload(Given(8, give))

    note = "train: the texts in its examples differ between the devices, as names of files may; the numbers beside them"
    assert found(make) == [{"not all data were compared between the devices of the trial": f"{note} do not"}] * 2
    assert "the split 'train' has another example 7 on device 1 of" in refusal(lambda rank: make(rank, 7))
    # Where examples have the same numbers, as labels, they differ by their texts.
    assert "another example 0 on" in refusal(lambda rank: workload(Given(8, lambda place: (f"{rank} {place}", 1))))


def test_data_that_cannot_be_compared_are_noted() -> None:
    def fail(place: int) -> Any:
        raise OSError(f"no file {place}")

    note = "its examples cannot be read, or are neither numbers nor text"
    assert (
        found(lambda _: workload(Given(9, fail), valid=Given(9, lambda _: object())))
        == [{"not all data were compared between the devices of the trial": f"train: {note}; valid: {note}"}] * 2
    )
    one_fails = found(lambda rank: workload(Given(9, fail if rank else lambda _: 1.0)))
    assert one_fails[0]["not all data were compared between the devices of the trial"] == (
        "train: some of its examples can be read on some of the devices only"
    )


def test_what_differs_by_rounding_alone_is_the_same() -> None:
    def make(rank: int, size: float) -> Workload:
        images = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return workload(TensorDataset(images * (1 + size * rank)))

    assert found(lambda rank: make(rank, 1e-7)) == [{}, {}]
    assert "has another example 0" in refusal(lambda rank: make(rank, 0.1))


class Stream(IterableDataset[Any]):
    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)


def test_streams_are_compared_by_their_first_examples() -> None:
    def make(rank: int) -> Workload:
        return workload(StreamedExamples(Stream(torch.arange(rank, 20 + rank))))

    assert "the split 'train' has another example 0 on device 1" in refusal(make)
    assert found(lambda _: make(0)) == [{}, {}]


def test_a_sampler_with_another_order_is_refused() -> None:
    def make(rank: int) -> Workload:
        order = shuffled(rank, 50)
        return workload(labelled(50), sampler=lambda dataset, epoch, generator: order)

    assert refusal(make, 3) == (
        "sampler: it gives another order of the examples on devices 1 and 2 of the trial than on device 0; take"
        " random numbers from the generator that a function gets, or from torch's global one"
    )
    seeded = found(lambda _: workload(labelled(50), sampler=lambda data, epoch, generator: generator.permutation(50)))
    assert seeded == [{}, {}]


OTHERS = "the data are not those of a trial on one device"
OWN = "train: its examples depend on what was read before, as by a random generator of its own"


class Drawing(Dataset[Any]):
    """Has a generator of its own."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(7)

    def __len__(self) -> int:
        return 30

    def __getitem__(self, place: int) -> Any:
        return place + self.generator.normal()


class ShuffledStream(IterableDataset[Any]):
    """Shuffles each pass by a generator of its own."""

    def __init__(self, *, counts: bool = False) -> None:
        self.generator, self.counts, self.passes = torch.Generator().manual_seed(3), counts, 0

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        order = torch.randperm(20, generator=self.generator)
        return iter(order + 100 * self.passes * self.counts)


def test_generators_of_a_data_set_are_as_before_the_comparison() -> None:
    def next_of(ranks: Any) -> tuple[float, list[int], list[int], Any]:
        data, stream, generator = Drawing(), ShuffledStream(), np.random.default_rng(5)
        made = workload(data, valid=StreamedExamples(stream), sampler=lambda *_: generator.permutation(30))
        notes = refuse_other_data(ranks, made, SEED)
        sampler: Any = made.sampler
        return float(data[0]), [int(place) for place in stream], sampler(data, 0, None).tolist(), notes

    *alone, _ = next_of(SINGLE)
    for *found, notes in on_threads(2, next_of):
        assert found == alone
        assert notes == {OTHERS: OWN}, "each device reads a share of the examples, but the whole of a stream"


def test_data_that_depend_on_what_was_read_before_are_noted() -> None:
    def counting(rank: int) -> Workload:
        calls = iter(range(1000))
        return workload(Given(30, lambda place: place + 100 * next(calls)))

    assert found(counting) == [{OTHERS: OWN}] * 2
    assert found(lambda _: workload(StreamedExamples(ShuffledStream(counts=True)))) == [{OTHERS: OWN}] * 2

    def counting_sampler(rank: int) -> Workload:
        calls = iter(range(1000))
        return workload(labelled(50), sampler=lambda *_: np.roll(np.arange(50), next(calls)))

    said = "the sampler gives another order each time it is asked for the same epoch"
    assert found(counting_sampler) == [{OTHERS: said}] * 2


def test_examples_are_read_equally_often_on_all_devices() -> None:
    reads = [0, 0]

    def make(rank: int) -> Workload:
        def give(place: int) -> Any:
            reads[rank] += 1
            # On one device alone it is another example each time.
            return torch.tensor([float(place), float(rank and reads[rank])])

        return workload(Given(30, give))

    note = "train: its examples are drawn by random numbers that no seed decides"
    assert found(make) == [{"not all data were compared between the devices of the trial": note}] * 2
    assert reads[0] == reads[1]


def test_columns_that_a_data_set_gives_for_several_examples_are_compared() -> None:
    class Columns(Dataset[Any]):
        def __init__(self, rank: int) -> None:
            self.order = shuffled(rank, 30)

        def __len__(self) -> int:
            return 30

        def __getitems__(self, places: list[int]) -> Any:
            return {"number": self.order[places]}

    assert "the split 'train' has another example 0 on device 1" in refusal(lambda rank: workload(Columns(rank)))
    assert found(lambda _: workload(Columns(0))) == [{}, {}]


def test_tensors_of_other_types_that_are_compared_at_other_places_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunectl.training.data_agreement.WHOLE_BYTES", 3000)

    def make(rank: int) -> Workload:
        return workload(TensorDataset(torch.zeros(500, dtype=torch.float64 if rank else torch.float32)))

    assert refusal(make) == (
        "the split 'train' has tensors of another type or size on device 1 of the trial than on device 0; " + HELP
    )


def test_a_sampler_that_raises_is_left_to_training_whatever_its_words() -> None:
    def make(rank: int) -> Workload:
        def order(*_: Any) -> Any:
            raise ValueError(f"{object()} of {rank}")

        return workload(labelled(50), sampler=order)

    assert found(make) == [{}, {}]


def test_the_loss_of_another_device_passes_while_a_stream_is_read() -> None:
    class Lost(Stream):
        def __iter__(self) -> Iterator[Any]:
            raise LostRankError("gone")

    with pytest.raises(LostRankError, match="gone"):
        found(lambda _: workload(StreamedExamples(Lost(torch.arange(5)))))


def test_one_device_reads_nothing() -> None:
    def fail(place: int) -> Any:
        pytest.fail("it was read")

    assert refuse_other_data(SINGLE, workload(Given(9, fail)), SEED) == {}


def values(example: Any) -> Values:
    given = example_values(example)
    assert given is not None
    return given


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ([1, 2], [12]),
        (["ab", "c"], ["a", "bc"]),
        ("1", b"1"),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (np.array(["x", "y"]), np.array(["x", "z"])),
        (np.array([1, "x"], dtype=object), np.array([2, "x"], dtype=object)),
        (torch.tensor([1 + 2j]), torch.tensor([1 - 2j])),
        (torch.eye(3).to_sparse(), torch.zeros(3, 3).to_sparse()),
        (torch.tensor(1.0, dtype=torch.bfloat16), torch.tensor(2.0, dtype=torch.bfloat16)),
    ],
)
def test_digests_differ_where_examples_do(one: Any, other: Any) -> None:
    assert digests(values(one)) != digests(values(other))
    assert digests(values(one)) == digests(values(one))


def test_samples_of_values_that_differ_are_not_close() -> None:
    image = torch.rand(3, 100, 100, generator=torch.Generator().manual_seed(1))
    for other in (image.flip(0), image.mT, torch.cat([image, image]), [image, image]):
        assert not are_close(values([other]).sample(), values([image]).sample())
    holes = image.clone()
    holes[0, 0, 0] = torch.nan
    assert are_close(values(holes).sample(), values(holes).sample())
    assert not are_close(values((image, 3)).sample(), values((image, 4)).sample())
