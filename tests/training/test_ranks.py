from typing import Any

import pytest
import torch
from rank_calls import on_ranks

from tunectl.core.errors import LostRankError
from tunectl.training.ranks import SINGLE, Ranks

COUNTS = (2, 3)
TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.complex64)


def _own_tensors(rank: int) -> list[torch.Tensor]:
    """Tensors of all types and several shapes, empty and transposed ones among them, other ones on each rank."""
    generator = torch.Generator().manual_seed(rank)
    shapes = ((5,), (), (0,), (3, 4))
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) * 8 for shape in shapes]
    return [tensor.to(dtype).clone() for dtype in TYPES for tensor in (*made, made[-1].T)]


def _exchanges(ranks: Ranks) -> dict[str, Any]:
    summed, sent = _own_tensors(ranks.rank), _own_tensors(ranks.rank)
    ranks.sum_(summed)
    ranks.sum_([])
    ranks.broadcast_(sent)
    return {
        "place": (ranks.rank, ranks.count),
        "summed": summed,
        "sent": sent,
        "sums": ranks.sums([0.1 * (ranks.rank + 1), 1.0]),
        "gathered": ranks.gathered({"rank": ranks.rank, "text": "x" * 1000 * ranks.rank}),
        "agreed": [ranks.agreed(ranks.rank == 1), ranks.agreed(False)],
        "shares": [ranks.share(size) for size in range(8)],
    }


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
    assert first.startswith("lost: the process of another device of this trial has ended (")


def test_the_operations_of_one_rank_give_back_what_they_get() -> None:
    tensor = torch.tensor([1.5, float("nan")])
    SINGLE.sum_([tensor])
    SINGLE.broadcast_([tensor])
    assert tensor[0] == 1.5
    assert (SINGLE.rank, SINGLE.count) == (0, 1)
    assert (SINGLE.sums([0.1]), SINGLE.gathered("x"), SINGLE.share(5)) == ([0.1], ["x"], slice(0, 5))
    assert SINGLE.agreed(True)
    assert not SINGLE.agreed(False)
