from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tunectl.training import buffer_digests
from tunectl.training.buffer_digests import are_same, digest, quick_digests

DRAWS = torch.randn(1000, generator=torch.Generator().manual_seed(0))


def changed(values: Tensor, *places: int, by: Any = lambda value: -value) -> Tensor:
    found = values.clone()
    for place in places:
        found[place] = by(found[place])
    return found


def exchanged(values: Tensor, one: int, other: int) -> Tensor:
    found = values.clone()
    found[one], found[other] = values[other], values[one]
    return found


OTHERS = {
    "one bit": changed(DRAWS, 500, by=lambda value: torch.nextafter(value, value + 1)),
    "a sign": changed(DRAWS, 17),
    "two signs in one half of the words": changed(DRAWS, 17, 501),
    "the signs of all": -DRAWS,
    "two that change places": exchanged(DRAWS, 3, 700),
    "another order": DRAWS.flip(0),
    "the last one": changed(DRAWS, 999),
}


@pytest.mark.parametrize("at_once", [2**21, 64])
@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("name", OTHERS)
def test_digests_differ_where_values_do(name: str, cut: int, at_once: int) -> None:
    own, other = DRAWS[cut:], OTHERS[name][cut:]
    with patch.object(buffer_digests, "_AT_ONCE", at_once):
        first, second, again = quick_digests([own, other, own.clone()])
    assert first == again != second
    assert digest(own) == digest(own.clone()) != digest(other)
    assert are_same(own, own.clone())
    assert not are_same(own, other)


def test_tensors_of_every_kind_have_digests() -> None:
    tensors = [
        torch.tensor(1.5),
        torch.zeros(0),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]).conj(),
        torch.ones(3).to(torch.float8_e4m3fn),
        torch.arange(12).reshape(3, 4).T,
        torch.eye(2).to_sparse(),
        torch.tensor([torch.nan, -0.0]),
    ]
    found = quick_digests(tensors)
    assert found == quick_digests([tensor.clone() for tensor in tensors])
    assert quick_digests([torch.arange(12).reshape(3, 4).T.contiguous()]) == [found[5]]
    assert quick_digests([torch.tensor([1 - 2j])]) == [found[3]]
    assert len({digest(tensor) for tensor in tensors}) == len(tensors)
    assert digest(torch.zeros(2, 3)) != digest(torch.zeros(3, 2))
    assert quick_digests([]) == []


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta state")
def test_sparse_tensors_are_compared_by_their_entries_which_need_not_fit_into_memory_with_the_zeros() -> None:
    places = torch.tensor([[0, 10**9], [5, 7]])

    def large(last: float) -> Tensor:
        return torch.sparse_coo_tensor(places, torch.tensor([1.0, last]), (2 * 10**9, 10**9), check_invariants=True)

    assert digest(large(2.0)) == digest(large(2.0)) != digest(large(3.0))
    assert are_same(large(2.0), large(2.0))
    layouts = [torch.eye(4).to_sparse_csr(), torch.eye(4).to_sparse_csc(), torch.eye(4).to_sparse_bsr((2, 2))]
    for tensor in layouts:
        assert digest(tensor) == digest(tensor.clone()) != digest(2 * tensor)
        assert not are_same(tensor, 2 * tensor)
