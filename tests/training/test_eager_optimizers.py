"""Optimizers without torch's compiler: the same numbers, state and hooks as torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tunectl.training.eager_optimizers import eager

KINDS = [
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (torch.optim.Adam, {"weight_decay": 0.1}),
    (torch.optim.AdamW, {"fused": True}),
    (torch.optim.RMSprop, {"momentum": 0.5}),
]


def trained(
    kind: Callable[..., torch.optim.Optimizer], options: dict[str, Any], calls: list[str]
) -> tuple[object, object]:
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    optimizer = kind(model.parameters(), lr=0.1, **options)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    for step in range(6):
        if step == 3:
            optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad()
        model(torch.randn(4, 5)).square().sum().backward()
        optimizer.step()
    return model.state_dict(), optimizer.state_dict()


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_they_train_bit_for_bit_as_torch_s_own_and_call_its_hooks(
    kind: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    theirs: list[str] = []
    ours: list[str] = []
    torch.testing.assert_close(trained(eager(kind), options, ours), trained(kind, options, theirs), rtol=0, atol=0)
    assert ours == theirs == ["before", "after"] * 6


def test_an_update_leaves_no_trace_in_the_graph() -> None:
    weight = torch.ones(3, requires_grad=True)
    weight.grad = torch.ones(3)
    eager(torch.optim.SGD)([weight], lr=0.5).step()
    assert weight.grad_fn is None
    assert weight.tolist() == [0.5, 0.5, 0.5]


def test_it_is_one_class_an_optimizer_and_is_called_like_it() -> None:
    assert eager(torch.optim.Adam) is eager(torch.optim.Adam)
    assert issubclass(eager(torch.optim.Adam), torch.optim.Adam)
    assert repr(eager(torch.optim.Adam)([torch.ones(1, requires_grad=True)])).startswith("Adam (")
