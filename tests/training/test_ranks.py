from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed
from rank_calls import on_ranks

from tunectl.core.errors import LostRankError
from tunectl.training import ranks as ranks_module
from tunectl.training.memory_errors import is_out_of_memory
from tunectl.training.ranks import SINGLE, ProcessRanks, Ranks, gpu_place

COUNTS = (2, 3)
TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.complex64)
BYTES = torch.float8_e4m3fn


def _own_tensors(rank: int) -> list[torch.Tensor]:
    """Tensors of all types and several shapes, empty and transposed ones among them, other ones on each rank."""
    generator = torch.Generator().manual_seed(rank)
    shapes = ((5,), (), (0,), (3, 4))
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) * 8 for shape in shapes]
    return [tensor.to(dtype).clone() for dtype in TYPES for tensor in (*made, made[-1].T)]


def _in_buckets(ranks: Ranks) -> tuple[list[torch.Tensor], list[torch.Tensor], int]:
    """The tensors summed and sent in buckets of 64 bytes, and the largest number of bytes that were exchanged."""
    summed, sent, sizes = _own_tensors(ranks.rank), _own_tensors(ranks.rank), list[int]()
    reduce: Any = ProcessRanks._reduce

    def noted(own: ProcessRanks, flat: torch.Tensor) -> None:
        sizes.append(flat.numel() * flat.element_size())
        reduce(own, flat)

    with patch.object(ranks_module, "_BUCKET_BYTES", 64), patch.object(ProcessRanks, "_reduce", noted):
        ranks.sum_(summed)
        ranks.broadcast_(sent)
    return summed, sent, max(sizes)


def _exchanges(ranks: Ranks) -> dict[str, Any]:
    summed, sent = _own_tensors(ranks.rank), _own_tensors(ranks.rank)
    versions = [tensor._version for tensor in summed]
    ranks.sum_(summed)
    assert all(tensor._version > before for tensor, before in zip(summed, versions, strict=True) if tensor.numel())
    ranks.sum_([])
    ranks.broadcast_(sent)
    return {
        "place": (ranks.rank, ranks.count),
        "summed": summed,
        "sent": sent,
        "in buckets": _in_buckets(ranks),
        "sums": ranks.sums([0.1 * (ranks.rank + 1), 1.0]),
        "gathered": ranks.gathered({"rank": ranks.rank, "text": "x" * 1000 * ranks.rank}),
        "agreed": [ranks.agreed(ranks.rank == 1), ranks.agreed(False)],
        "shares": [ranks.share(size) for size in range(8)],
        "of one byte": _of_one_byte(ranks),
    }


def _of_one_byte(ranks: Ranks) -> list[list[float]]:
    """Numbers of 8 bits summed and sent, each with another tensor, so that they go together."""
    found = []
    for exchange in (ranks.sum_, ranks.broadcast_):
        given = [torch.tensor([1.0 + ranks.rank, 0.5]).to(BYTES), torch.tensor(2.0 * ranks.rank).to(BYTES)]
        exchange(given)
        found.append([*given[0].float().tolist(), float(given[1])])
    return found


@pytest.fixture(scope="module")
def exchanges() -> dict[int, list[dict[str, Any]]]:
    return on_ranks(_exchanges, COUNTS)


@pytest.mark.parametrize("count", COUNTS)
def test_every_rank_gets_the_sum_of_all_tensors_with_the_same_bits(
    exchanges: dict[int, list[dict[str, Any]]], count: int
) -> None:
    own = [_own_tensors(rank) for rank in range(count)]
    for place, found in enumerate(exchanges[count][0]["summed"]):
        wide = torch.complex128 if found.is_complex() else torch.float64 if found.is_floating_point() else found.dtype
        expected = torch.stack([tensors[place].to(wide) for tensors in own]).sum(dim=0)
        assert found.dtype == own[0][place].dtype
        assert found.shape == expected.shape
        precision = 0.0 if wide == found.dtype == torch.int64 else 4 * torch.finfo(found.dtype).eps
        torch.testing.assert_close(found.to(wide), expected, rtol=precision, atol=precision * 16)
        for others in exchanges[count][1:]:
            assert torch.equal(others["summed"][place], found)


@pytest.mark.parametrize("count", COUNTS)
def test_every_rank_gets_the_tensors_of_rank_0_bit_for_bit(
    exchanges: dict[int, list[dict[str, Any]]], count: int
) -> None:
    for found in exchanges[count]:
        assert all(map(torch.equal, found["sent"], _own_tensors(0)))


@pytest.mark.parametrize("count", COUNTS)
def test_many_tensors_are_exchanged_in_parts_whose_copies_take_little_memory(
    exchanges: dict[int, list[dict[str, Any]]], count: int
) -> None:
    for found in exchanges[count]:
        summed, sent, largest = found["in buckets"]
        assert largest == 12 * 8, "a single tensor of 12 numbers is larger than a bucket, and goes alone"
        assert all(map(torch.equal, sent, _own_tensors(0)))
        for own, expected, first in zip(summed, found["summed"], exchanges[count][0]["in buckets"][0], strict=True):
            torch.testing.assert_close(own, expected)
            assert torch.equal(own, first)


@pytest.mark.parametrize("count", COUNTS)
def test_numbers_objects_and_flags_of_all_ranks_reach_every_rank(
    exchanges: dict[int, list[dict[str, Any]]], count: int
) -> None:
    for rank, found in enumerate(exchanges[count]):
        assert found["place"] == (rank, count)
        assert found["sums"] == pytest.approx([0.1 * count * (count + 1) / 2, count], rel=1e-15)
        assert found["sums"] == exchanges[count][0]["sums"]
        assert found["gathered"] == [{"rank": rank, "text": "x" * 1000 * rank} for rank in range(count)]
        assert found["agreed"] == [True, False]


@pytest.mark.parametrize("count", COUNTS)
def test_the_shares_are_the_whole_in_rank_order_and_differ_by_at_most_one(
    exchanges: dict[int, list[dict[str, Any]]], count: int
) -> None:
    for size in range(8):
        parts = [list(range(size))[found["shares"][size]] for found in exchanges[count]]
        assert sum(parts, []) == list(range(size))  # noqa: RUF017
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1
        assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("count", COUNTS)
def test_numbers_of_one_byte_are_exchanged_too(exchanges: dict[int, list[dict[str, Any]]], count: int) -> None:
    sums = {2: [3.0, 1.0, 2.0], 3: [6.0, 1.5, 6.0]}
    for found in exchanges[count]:
        assert found["of one byte"] == [sums[count], [1.0, 0.5, 0.0]]


def _seen_while_written(ranks: ProcessRanks) -> list[bool]:
    """Whether rank 1, which begins one exchange after the other, is seen to wait for rank 0, which begins none."""
    noted = ranks._exchanges
    if ranks.rank == 1:
        for _ in range(5000):
            noted.begin(1, "a question", "here")
        noted.close_rank(1)
        return []
    seen = list[bool]()
    while not seen or not seen[-1]:
        seen = [noted.waits_for(1, 0)]
    while not noted._word(1, 2):
        seen.append(noted.waits_for(1, 0))
    return seen


def test_what_a_rank_notes_is_read_as_a_whole_while_it_writes() -> None:
    seen = on_ranks(_seen_while_written, [2])[2][0]
    assert all(seen)


def _one_ends(ranks: Ranks) -> str:
    ranks.sums([1.0])
    if ranks.rank == 1:
        return "ended"
    try:
        ranks.sum_([torch.zeros(3)])
    except LostRankError as error:
        return f"lost: {error}"
    return "went on"


def test_a_rank_that_has_ended_is_noticed_by_the_others() -> None:
    first, second = on_ranks(_one_ends, [2])[2]
    assert second == "ended"
    assert first.startswith("lost: the process of another device of this trial has ended, or the connection to it was")


def _raised(calls: Sequence[Callable[[], object]]) -> list[tuple[str, str]]:
    """The class and the words of what each call raises, "" where it raises nothing."""
    found = []
    for call in calls:
        try:
            call()
            found.append(("", ""))
        except Exception as error:
            found.append((type(error).__name__, str(error)))
    return found


def _apart(ranks: ProcessRanks) -> list[tuple[str, str]]:
    ranks.sums([1.0])
    if ranks.rank == 1:
        return _raised([lambda: ranks.sum_([torch.zeros(3)]), lambda: ranks.sums([1.0, 2.0])])
    return _raised([lambda: ranks.sums([1.0, 2.0]), lambda: ranks.agreed(True)])


def test_ranks_that_make_different_exchanges_end_with_words_about_both() -> None:
    found = on_ranks(_apart, [2])[2]
    by_class = {first[0]: first[1] for first, _ in found}
    assert set(by_class) == {"WorkloadError", "LostRankError"}
    assert "a sum of tensors: 3 x float32 on cpu, in _apart" in by_class["WorkloadError"]
    assert "a sum of 2 numbers, in _apart" in by_class["WorkloadError"]
    for first, second in found:
        assert first == second, "there is no other exchange after one that failed"


def _one_more(ranks: ProcessRanks) -> list[tuple[str, str]]:
    ranks.sums([1.0])  # until then one may still connect, when the other has ended
    return _raised([lambda: ranks.sums([1.0])] * ranks.rank + [ranks.finish])


def test_a_rank_that_makes_more_exchanges_than_the_others_is_found_at_their_end() -> None:
    classes = [name for of_rank in on_ranks(_one_more, [2])[2] for name, _ in of_rank]
    assert "WorkloadError" in classes
    assert on_ranks(_ends, [3])[3] == [[("", "")]] * 3


def _ends(ranks: ProcessRanks) -> list[tuple[str, str]]:
    return _raised([ranks.finish])


def _breaks(ranks: ProcessRanks) -> list[tuple[str, str]]:
    """Rank 1 raises in an exchange, as a GPU does after an error in a kernel."""
    ranks.sums([1.0])  # until then one may still connect, when the other has ended
    if ranks.rank == 0:
        return _raised([lambda: ranks.sums([1.0])])
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with patch.object(ProcessRanks, "_sums", side_effect=error):
        return _raised([lambda: ranks.sums([1.0]), lambda: ranks.gathered(1)])


def test_an_error_in_an_exchange_keeps_its_class_and_its_words() -> None:
    first, second = on_ranks(_breaks, [2])[2]
    assert second == [("RuntimeError", "CUDA error: an illegal memory access was encountered")] * 2
    assert [name for name, _ in first] == ["LostRankError"]


def _torch_error(name: str, words: str) -> Exception:
    error: Exception = getattr(torch, name, getattr(torch.distributed, name, RuntimeError))(words)
    return error


@pytest.mark.parametrize(
    ("name", "words", "is_loss"),
    [
        ("RuntimeError", "[pair.cc:537] Read error [127.0.0.1]:21672: Connection reset by peer.", True),
        ("RuntimeError", "[pair.cc:553] Connection closed by peer [127.0.0.1]:36254.", True),
        ("DistBackendError", "NCCL error in: x.cpp:1, remote process exited\nncclRemoteError: A call failed", True),
        ("DistBackendError", "NCCL error in: x.cpp:1, ncclUnhandledCudaError: Cuda failure 2 'out of memory'", False),
        ("DistBackendError", "NCCL error in: x.cpp:1, ncclSystemError: No space left on device: /dev/shm", False),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 20 MiB", False),
        ("RuntimeError", "CUDA error: device-side assert triggered", False),
        ("RuntimeError", "The size of tensor a (3) must match the size of tensor b (4)", False),
    ],
)
def test_only_the_loss_of_a_process_is_one(name: str, words: str, is_loss: bool) -> None:
    assert ranks_module._is_loss(_torch_error(name, words)) == is_loss
    assert is_out_of_memory(_torch_error(name, words)) == ("out of memory" in words)


def test_two_parts_of_one_gpu_are_at_one_place() -> None:
    instances = [
        SimpleNamespace(uuid=name, pci_domain_id=0, pci_bus_id=27, pci_device_id=0) for name in ("MIG-1", "MIG-2")
    ]
    other = SimpleNamespace(uuid="GPU-3", pci_domain_id=0, pci_bus_id=155, pci_device_id=0)
    assert gpu_place(instances[0]) == gpu_place(instances[1]) != gpu_place(other)
    assert gpu_place(SimpleNamespace(uuid="GPU-1")) == "GPU-1"


def test_the_operations_of_one_rank_give_back_what_they_get() -> None:
    tensor = torch.tensor([1.5, float("nan")])
    SINGLE.sum_([tensor])
    SINGLE.broadcast_([tensor])
    assert tensor[0] == 1.5
    assert (SINGLE.rank, SINGLE.count) == (0, 1)
    assert (SINGLE.sums([0.1]), SINGLE.gathered("x"), SINGLE.share(5)) == ([0.1], ["x"], slice(0, 5))
    assert SINGLE.agreed(True)
    assert not SINGLE.agreed(False)
