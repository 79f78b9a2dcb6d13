from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from tunectl.training.batch_share import BatchShare
from tunectl.training.ranks import SINGLE, Ranks


class _Rank:
    """The place of a rank, for what needs no exchange."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count

    def share(self, size: int) -> slice:
        ends = np.cumsum([0, *(len(part) for part in np.array_split(np.arange(size), self.count))])
        return slice(int(ends[self.rank]), int(ends[self.rank + 1]))


@pytest.mark.parametrize(("size", "sizes"), [(8, []), (3, []), (10, [4, 4, 2]), (5, [2, 2, 1])])
def test_the_shares_of_a_batch_are_parts_of_each_micro_batch(size: int, sizes: list[int]) -> None:
    updates = np.arange(3 * size)
    shares = [BatchShare.of(size, sizes, cast(Ranks, _Rank(rank, 4))) for rank in range(4)]
    for micro in np.split(updates[:size], np.cumsum(sizes)[:-1]) if sizes else [updates[:size]]:
        taken = [updates[place] for share in shares for place in share.places if updates[place][0] in micro]
        assert np.concatenate(taken).tolist() == micro.tolist()
    for share in shares:
        own = share.own(updates).reshape(3, -1)
        expected = np.concatenate([updates[:0], *(updates[place] for place in share.places)])
        assert own.tolist() == [(expected + size * update).tolist() for update in range(3)]
        assert [own[0][place].tolist() for place in share.own_places] == [
            updates[place].tolist() for place in share.places
        ]
        assert share.is_divided


def test_on_one_device_the_share_is_the_batch_as_it_comes() -> None:
    share, examples = BatchShare.of(8, (), SINGLE), np.arange(16)
    assert share.own(examples) is examples
    assert share.parts("batch") == ("batch",)
    assert BatchShare.of(8, [4, 4], SINGLE).parts(["first", "second"]) == ["first", "second"]
