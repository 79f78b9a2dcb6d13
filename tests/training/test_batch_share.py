from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from tunectl.training.batch_share import BatchShare
from tunectl.training.ranks import SINGLE, Ranks, share_of_rank


class _Rank:
    """The place of a rank, for what needs no exchange."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count

    def share(self, size: int, dealt: int = 0) -> slice:
        return share_of_rank(self.rank, self.count, size, dealt)


@pytest.mark.parametrize(("size", "sizes"), [(8, []), (3, []), (10, [4, 4, 2]), (5, [2, 2, 1])])
def test_the_shares_of_a_batch_are_parts_of_each_micro_batch(size: int, sizes: list[int]) -> None:
    updates = np.arange(3 * size)
    shares = [BatchShare.of(size, sizes, cast(Ranks, _Rank(rank, 4))) for rank in range(4)]
    for micro in np.split(updates[:size], np.cumsum(sizes)[:-1]) if sizes else [updates[:size]]:
        places = [pair for share in shares for pair in zip(share.places, share.counted, strict=True)]
        taken = [updates[place] for place, counts in places if counts and updates[place][0] in micro]
        assert np.concatenate(taken).tolist() == micro.tolist()
    for share in shares:
        # As often as on one device: the first example is in place of an empty part.
        firsts = np.cumsum([0, *sizes[:-1]]).tolist()
        assert len(share.places) == max(1, len(sizes))
        for place, counts, first in zip(share.places, share.counted, firsts, strict=True):
            assert counts or place == slice(first, first + 1)
        own = share.own(updates).reshape(3, -1)
        expected = np.concatenate([updates[:0], *(updates[place] for place in share.places)])
        assert own.tolist() == [(expected + size * update).tolist() for update in range(3)]
        assert [own[0][place].tolist() for place in share.own_places] == [
            updates[place].tolist() for place in share.places
        ]
        assert share.is_divided


def _sizes(size: int, sizes: list[int], count: int) -> list[list[int]]:
    """The numbers of examples that count in the micro-batches of each rank."""
    shares = [BatchShare.of(size, sizes, cast(Ranks, _Rank(rank, count))) for rank in range(count)]
    return [[size for size, counts in share.counts if counts] for share in shares]


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        # Two examples in each micro-batch: each device has some of them, and no device all.
        ([2, 2, 2, 2], 4, [[1, 1], [1, 1], [1, 1], [1, 1]]),
        ([3, 3, 2], 4, [[1, 1], [1, 1], [1, 1], [1, 1]]),
        ([4, 4, 2], 3, [[2, 1, 1], [1, 2], [1, 1, 1]]),
        ([5, 5, 5, 5], 4, [[2, 1, 1, 1], [1, 2, 1, 1], [1, 1, 2, 1], [1, 1, 1, 2]]),
        ([1, 1, 1], 5, [[1], [1], [1], [], []]),
    ],
)
def test_what_is_left_of_micro_batches_is_dealt_to_the_devices_in_turn(
    sizes: list[int], count: int, expected: list[list[int]]
) -> None:
    assert _sizes(sum(sizes), sizes, count) == expected


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_shares_of_a_batch_differ_by_at_most_one_example(count: int) -> None:
    for size in range(1, 14):
        for micro in range(1, size + 1):
            sizes = [micro] * (size // micro) + ([size % micro] if size % micro else [])
            shares = [sum(own) for own in _sizes(size, sizes, count)]
            assert sum(shares) == size
            assert max(shares) - min(shares) <= 1, (size, micro)


def test_on_one_device_the_share_is_the_batch_as_it_comes() -> None:
    share, examples = BatchShare.of(8, (), SINGLE), np.arange(16)
    assert share.own(examples) is examples
    assert share.parts("batch") == ("batch",)
    assert BatchShare.of(8, [4, 4], SINGLE).parts(["first", "second"]) == ["first", "second"]
