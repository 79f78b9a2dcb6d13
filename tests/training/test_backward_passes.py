from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_parts import gradient_of

from tunectl.training import backward_passes
from tunectl.training.backward_passes import gradients_of, pass_back


def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2), nn.LogSoftmax(dim=1))
    return model, torch.randn(11, 5)


def another_engine(_outputs: object, _inputs: object) -> None:
    """The function of a version of torch that calls it in another way."""


@pytest.fixture(params=["as torch is", "without the engine's function", "with another one"])
def each_version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of torch: one that has the function of the engine, one that has none, and one in which it is another."""
    backward_passes._runs.cache_clear()
    assert backward_passes._runs()
    if request.param != "as torch is":
        monkeypatch.setattr(backward_passes, "_RUN", another_engine if "another" in request.param else None)
        backward_passes._runs.cache_clear()
        assert not backward_passes._runs()
    yield
    backward_passes._runs.cache_clear()


@pytest.mark.usefixtures("each_version")
def test_gradients_are_those_of_torch_bit_for_bit_and_are_added_to_what_is_there():
    (ours, inputs), (theirs, _) = network(), network()
    start = torch.rand(11, 2)
    for _ in range(2):
        pass_back(ours(inputs), start)
        theirs(inputs).backward(gradient=start)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(gradient_of(one), gradient_of(other))
        assert gradient_of(one).abs().sum() > 0


@pytest.mark.usefixtures("each_version")
def test_gradients_with_their_graph_are_those_of_torch_and_an_unused_input_has_none():
    model, inputs = network()
    wanted, start, unused = list(model.parameters()), torch.rand(11, 2), nn.Parameter(torch.ones(2))
    found = gradients_of([model(inputs)], [*wanted, unused], [start], create_graph=True)
    oracle = torch.autograd.grad(
        model(inputs), [*wanted, unused], grad_outputs=start, create_graph=True, allow_unused=True
    )
    assert found[-1] is None
    for one, other in zip(found[:-1], oracle[:-1], strict=True):
        assert one is not None
        assert torch.equal(one, other)
    curved = [grad for grad in found[:2] if grad is not None]
    twice = gradients_of(curved, wanted, [torch.ones_like(grad) for grad in curved])
    expected = torch.autograd.grad(
        oracle[:2], wanted, grad_outputs=[torch.ones_like(grad) for grad in oracle[:2]], allow_unused=True
    )
    for one, other in zip(twice, expected, strict=True):
        assert one is not None
        assert torch.equal(one, other)


@pytest.mark.usefixtures("each_version")
def test_a_graph_is_kept_only_where_that_is_asked_for():
    model, inputs = network()
    values, start = model(inputs), torch.rand(11, 2)
    wanted = list(model.parameters())
    first = gradients_of([values], wanted, [start], retain_graph=True)
    again = gradients_of([values], wanted, [start])
    assert all(
        one is not None and other is not None and torch.equal(one, other)
        for one, other in zip(first, again, strict=True)
    )
    with pytest.raises(RuntimeError, match="second time"):
        gradients_of([values], wanted, [start])


@pytest.mark.parametrize(
    ("values", "start", "message"),
    [
        (lambda: torch.ones(3), lambda: torch.ones(3), "does not require grad"),
        (lambda: torch.ones(3, requires_grad=True) * 2, lambda: torch.ones(4), "Mismatch in shape"),
        (lambda: torch.ones(3, requires_grad=True) * 2, lambda: torch.ones(3, dtype=torch.complex64), "complex"),
    ],
)
def test_what_does_not_fit_raises_the_error_of_torch(
    values: Callable[[], Tensor], start: Callable[[], Tensor], message: str
):
    with pytest.raises(RuntimeError, match=message):
        pass_back(values(), start())
    with pytest.raises(RuntimeError, match=message):
        gradients_of([values()], [nn.Parameter(torch.ones(3))], [start()])


class Doubled(Tensor):
    """A tensor whose backward pass is its own."""

    passed = False

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.backward:
            args[0].passed = True
            return None
        return super().__torch_function__(func, types, args, kwargs)


def test_a_tensor_that_has_a_backward_pass_of_its_own_keeps_it():
    values = torch.ones(3, requires_grad=True).as_subclass(Doubled)
    pass_back(values, torch.ones(3))
    assert isinstance(values, Doubled)
    assert values.passed
