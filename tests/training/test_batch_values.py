"""Batches of dataclasses and of objects of their own. Mappings, lists and tuples are tested in test_batches.py."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from tunectl.core.errors import WorkloadError
from tunectl.training.batch_values import copied, in_double, moved, tensors_in, unwritten

META = torch.device("meta")
Pair = namedtuple("Pair", ["x", "y"])


@dataclass(frozen=True, slots=True)
class Sentences:
    tokens: Tensor
    names: list[str]
    parts: dict[str, Tensor] = field(default_factory=dict)
    length: int = field(init=False, default=3)


class Graph:
    """Moves itself, as a batch of a library of graphs does, and refers to itself."""

    def __init__(self, nodes: Tensor) -> None:
        self.nodes, self.hidden, self.own = nodes, {"edges": [torch.arange(3)]}, self

    def to(self, device: torch.device) -> Graph:
        found = Graph(self.nodes.to(device))
        found.hidden = {"edges": [self.hidden["edges"][0].to(device)]}
        return found


def nested() -> dict[str, Any]:
    sentences = Sentences(torch.ones(2, 3), ["a", "b"], {"mask": torch.zeros(2)})
    packed = pack_sequence([torch.ones(3), torch.ones(2)])
    return {"sentences": sentences, "graph": Pair(Graph(torch.ones(4)), 1), "packed": packed}


def test_moving_reaches_dataclasses_and_calls_the_to_of_batch_objects():
    found = moved(nested(), META)
    assert found["sentences"].tokens.is_meta
    assert found["sentences"].parts["mask"].is_meta
    assert (found["sentences"].names, found["sentences"].length) == (["a", "b"], 3)
    assert type(found["sentences"]) is Sentences
    assert found["graph"].x.nodes.is_meta
    assert found["graph"].x.hidden["edges"][0].is_meta
    # By its own rule, the sizes of a packed sequence stay on the host.
    assert isinstance(found["packed"], PackedSequence)
    assert (found["packed"].data.is_meta, found["packed"].batch_sizes.is_meta) == (True, False)


def test_an_object_whose_to_gives_nothing_is_refused_by_its_kind():
    class Stays:
        def to(self, device: Any) -> None:
            """Forgets to return itself."""

    with pytest.raises(WorkloadError, match=r"^the batch has a Stays whose to\(device\) gives None"):
        moved([Stays()], META)


def test_a_copy_has_its_own_tensors_whatever_holds_them():
    batch = nested()
    found = copied(batch)
    for tensor in tensors_in(found):
        tensor.zero_()
    assert float(batch["sentences"].tokens.sum()) == 6
    assert float(batch["graph"].x.nodes.sum()) == 4
    assert batch["graph"].x.hidden["edges"][0].tolist() == [0, 1, 2]
    assert float(batch["packed"].data.sum()) == 5
    assert found["graph"].x.own is found["graph"].x
    assert found["packed"].batch_sizes.tolist() != batch["packed"].batch_sizes.tolist()


def test_doubling_changes_floats_alone():
    found = in_double(nested())
    assert {tensor.dtype for tensor in tensors_in(found)} == {torch.float64, torch.int64}
    assert found["packed"].data.dtype == torch.float64
    assert found["graph"].x.hidden["edges"][0].dtype == torch.int64


def test_a_write_into_an_object_is_seen():
    batch = nested()
    for place in (batch["sentences"].parts["mask"], batch["graph"].x.hidden["edges"][0], batch["packed"].data):
        with pytest.raises(WorkloadError, match="writes into its batch"), unwritten(batch, "loss(model, batch)"):
            place.add_(1)


def test_modules_classes_and_other_values_are_left_as_they_are():
    module, other = nn.Linear(2, 2), object()
    found = moved([module, Graph, other, "text", None], META)
    assert found == [module, Graph, other, "text", None]
    assert not module.weight.is_meta
    assert list(tensors_in([module, Graph, other])) == []
