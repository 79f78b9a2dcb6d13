import os
from collections.abc import Iterator

import pytest

from tunectl.core.errors import LostRankError, WorkloadError
from tunectl.core.rank_exchanges import RankExchanges


@pytest.fixture
def exchanges() -> Iterator[RankExchanges]:
    """Those of two ranks, in one object: what separate processes have is in test_ranks.py."""
    file = os.memfd_create("exchanges")
    found = RankExchanges(f"/proc/self/fd/{file}", 2)
    yield found
    found.close()
    os.close(file)


def make(exchanges: RankExchanges, rank: int, what: str) -> None:
    exchanges.begin(rank, what, "here")
    exchanges.end(rank)


def test_ranks_that_make_the_same_exchanges_may_be_any_number_of_them_apart(exchanges: RankExchanges) -> None:
    for number in range(1500):
        make(exchanges, 0, f"sum {number}")
    for number in range(1500):
        make(exchanges, 1, f"sum {number}")
    exchanges.begin(0, "one more", "here")
    assert exchanges.waits_for(0, 1)


def test_the_second_rank_that_comes_to_another_exchange_says_both(exchanges: RankExchanges) -> None:
    make(exchanges, 1, "a question")
    make(exchanges, 0, "a question")
    exchanges.begin(0, "a sum of 6 numbers", "Reduction.reduce")
    with pytest.raises(WorkloadError) as caught:
        exchanges.begin(1, "a sum of tensors", "BatchNorm.exchanged")
    assert (
        "the devices of the trial do not make the same exchanges: as number 2, device 1 comes to a sum of tensors, in"
        " BatchNorm.exchanged, and device 0 came to a sum of 6 numbers, in Reduction.reduce."
    ) in str(caught.value)


def test_the_same_exchange_from_two_places_in_the_code_is_the_same(exchanges: RankExchanges) -> None:
    exchanges.begin(0, "a sum of 6 numbers", "Reduction.reduce")
    exchanges.begin(1, "a sum of 6 numbers", "Reduction.fail")
    assert not exchanges.waits_for(0, 1)


def test_exchanges_that_differ_beyond_the_text_that_is_kept_are_others(exchanges: RankExchanges) -> None:
    exchanges.begin(0, "a sum of tensors: " + "x" * 200 + "1", "here")
    with pytest.raises(WorkloadError, match="as number 1, device 1 comes to a sum of tensors: xxx"):
        exchanges.begin(1, "a sum of tensors: " + "x" * 200 + "2", "here")


def test_the_end_of_a_rank_is_kept_whatever_it_notes_at_the_same_time(exchanges: RankExchanges) -> None:
    exchanges.begin(0, "a question", "here")
    exchanges.close_rank(0)  # by the process that watches it
    exchanges.end(0)
    exchanges.begin(1, "a question", "here")
    assert not exchanges.waits_for(0, 1)
    exchanges.end(1)
    with pytest.raises(LostRankError):
        exchanges.begin(1, "a question", "here")


def test_a_rank_that_ended_without_an_exchange_is_lost_for_the_one_that_comes_to_it(exchanges: RankExchanges) -> None:
    make(exchanges, 1, "a question")
    exchanges.close_rank(1)
    make(exchanges, 0, "a question")
    with pytest.raises(LostRankError):
        exchanges.begin(0, "a question", "here")


def test_a_rank_waits_for_those_that_have_not_come_to_its_exchange(exchanges: RankExchanges) -> None:
    assert not exchanges.waits_for(0, 1)
    exchanges.begin(0, "a question", "here")
    assert exchanges.waits_for(0, 1)
    assert not exchanges.waits_for(1, 0)
    exchanges.begin(1, "a question", "here")
    assert not exchanges.waits_for(0, 1)
    exchanges.end(0)
    assert not exchanges.waits_for(0, 1)
