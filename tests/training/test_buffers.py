"""What has changed of the buffers of a model, of every kind. Its other uses: test_recomputation.py and the probe's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tunectl.training.buffers import BufferValues


def model_of(**buffers: torch.Tensor) -> Any:
    model = nn.Module()
    for name, buffer in buffers.items():
        model.register_buffer(name, buffer)
    return model


def test_buffers_that_torch_cannot_compare_are_compared() -> None:
    model = model_of(
        bytes=torch.ones(3).to(torch.float8_e4m3fn),
        bytes_kept=torch.ones(3).to(torch.float8_e5m2),
        sparse=torch.eye(2).to_sparse(),
        sparse_kept=torch.eye(2).to_sparse(),
        moved=torch.zeros(2),
        holes=torch.tensor([torch.nan, 1.0]),
        counts=torch.zeros(2, dtype=torch.int64),
        repeated=torch.ones(1).expand(3),
        edges=torch.eye(2).to_sparse(),
    )
    values = BufferValues(model)
    assert values.changed() == []
    model.bytes = torch.full((3,), 2.0).to(torch.float8_e4m3fn)
    model.sparse = 2 * model.sparse
    model.moved = torch.zeros(2, device="meta")
    model.counts[1] += 1
    model.repeated[:1] = 4.0
    model.edges = torch.eye(2)
    assert values.changed() == ["bytes", "sparse", "moved", "counts", "repeated", "edges"]
    values.put_back()
    assert values.changed() == []
