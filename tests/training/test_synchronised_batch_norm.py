"""Batch normalisation over the batch of all ranks, against torch's own of the whole batch on one device."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from thread_ranks import ThreadRanks, on_threads
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.core.probe_errors import NO_SYNC_BATCH_NORM
from tunectl.training.recomputation import recompute
from tunectl.training.synchronised_batch_norm import SynchronisedBatchNorm, refuse_unsynchronised
from tunectl.workloads.models.normalizations import GhostBatchNorm

SHARES = ((3, 3), (4, 2, 1), (5, 0, 1), (1, 1), (0, 6))
"""Examples by rank: equal, unequal, and none."""


class Activated(nn.BatchNorm2d):
    """A layer with a forward of its own, as those of libraries of image models have."""

    def forward(self, values: Tensor) -> Tensor:
        training = self.training or self.running_mean is None
        normalised = nn.functional.batch_norm(
            values, self.running_mean, self.running_var, self.weight, self.bias, training, 0.3, self.eps
        )
        return nn.functional.silu(normalised)


class OfTorch(nn.BatchNorm1d):
    """A layer that calls torch's function itself."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return torch.batch_norm(
            input, self.weight, self.bias, self.running_mean, self.running_var, self.training, 0.2, self.eps, True
        )


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vectors": (lambda: nn.BatchNorm1d(4), (4,)),
    "sequences": (lambda: nn.BatchNorm1d(4, momentum=0.4), (4, 5)),
    "images": (lambda: nn.BatchNorm2d(3), (3, 2, 4)),
    "volumes": (lambda: nn.BatchNorm3d(2), (2, 2, 3, 2)),
    "plain averages": (lambda: nn.BatchNorm1d(4, momentum=None), (4,)),
    "not affine": (lambda: nn.BatchNorm2d(3, affine=False), (3, 2, 2)),
    "no statistics": (lambda: nn.BatchNorm1d(4, track_running_stats=False), (4,)),
    "large epsilon": (lambda: nn.BatchNorm1d(4, eps=0.5), (4,)),
    "own forward": (lambda: Activated(3), (3, 2, 2)),
    "own call": (lambda: OfTorch(4), (4,)),
    "synchronised by torch": (lambda: nn.SyncBatchNorm(3), (3, 2, 2)),
}


def layer_of(kind: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    return drawn(LAYERS[kind][0]().to(dtype))


def drawn(model: nn.Module) -> nn.Module:
    """The model with weights from a generator of its own: the threads share the global one."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=0.5, generator=generator)
    return model


def values_of(kind: str, examples: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((examples, *LAYERS[kind][1]), generator=generator, dtype=torch.float64) * 3 + 20


def places(shares: tuple[int, ...]) -> list[slice]:
    return [slice(end - size, end) for size, end in zip(shares, itertools.accumulate(shares), strict=True)]


def gradients_of(layer: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]


def two_passes(layer: nn.Module, values: Tensor, factors: Tensor) -> dict[str, Any]:
    """Two forward and backward passes, of other values each, for the running statistics."""
    found: dict[str, Any] = {}
    for number, given in enumerate((values, values * 0.5 - 7)):
        own = given.clone().requires_grad_()
        given = layer(own)
        (given.square() * factors).sum().backward()
        found |= {f"values {number}": given.detach(), f"gradient {number}": own.grad}
    return found | {"parameters": gradients_of(layer), "buffers": [buffer.clone() for buffer in layer.buffers()]}


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("kind", LAYERS)
def test_values_gradients_and_statistics_are_those_of_the_whole_batch(kind: str, shares: tuple[int, ...]) -> None:
    values, factors = values_of(kind, sum(shares)), values_of(kind, sum(shares), seed=1)
    whole = two_passes(layer_of(kind), values, factors)

    def share(ranks: ThreadRanks) -> dict[str, Any]:
        layer, place = copy.deepcopy(layer_of(kind)), places(shares)[ranks.rank]
        synchronised = SynchronisedBatchNorm(nn.Sequential(layer), ranks)
        with synchronised.active():
            return two_passes(layer, values[place], factors[place])

    found = on_threads(len(shares), share)
    for name in ("values 0", "gradient 0", "values 1", "gradient 1"):
        torch.testing.assert_close(torch.cat([own[name] for own in found]), whole[name], rtol=1e-11, atol=1e-10)
    for place, expected in enumerate(whole["parameters"]):
        total = torch.stack([own["parameters"][place] for own in found]).sum(dim=0)
        torch.testing.assert_close(total, expected, rtol=1e-11, atol=1e-10)
    for own in found:
        for buffer, expected in zip(own["buffers"], whole["buffers"], strict=True):
            torch.testing.assert_close(buffer, expected, rtol=1e-12, atol=1e-12)
        assert all(map(torch.equal, own["buffers"], found[0]["buffers"]))


@pytest.mark.parametrize("kind", ["vectors", "images", "not affine", "own forward"])
def test_a_gradient_of_a_gradient_is_that_of_the_whole_batch(kind: str) -> None:
    shares = (4, 2, 0)
    values, factors = values_of(kind, sum(shares)), values_of(kind, sum(shares), seed=1)

    def penalised(layer: nn.Module, values: Tensor, factors: Tensor) -> tuple[Tensor, list[Tensor]]:
        own = values.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((layer(own).tanh() * factors).sum(), own, create_graph=True)
        (gradient.square() * factors).sum().backward()
        assert own.grad is not None
        return own.grad, gradients_of(layer)

    def share(ranks: ThreadRanks) -> tuple[Tensor, list[Tensor]]:
        layer, place = layer_of(kind), places(shares)[ranks.rank]
        with SynchronisedBatchNorm(nn.Sequential(layer), ranks).active():
            return penalised(layer, values[place], factors[place])

    for_values, for_parameters = penalised(layer_of(kind), values, factors)
    found = on_threads(len(shares), share)
    assert for_values.abs().max() > 1e-3
    torch.testing.assert_close(torch.cat([own for own, _ in found]), for_values, rtol=1e-9, atol=1e-10)
    for place, expected in enumerate(for_parameters):
        total = torch.stack([own[place] for _, own in found]).sum(dim=0)
        torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_values_are_normalised_in_single_precision_as_by_torch(dtype: torch.dtype) -> None:
    layer, values = layer_of("images", torch.float32), (values_of("images", 6) - 20).to(dtype)
    whole = copy.deepcopy(layer)
    expected = whole(values)

    def share(ranks: ThreadRanks) -> tuple[Any, Any]:
        own = copy.deepcopy(layer)
        with SynchronisedBatchNorm(own, ranks).active(), torch.autocast("cpu", torch.bfloat16):
            return own(values[ranks.share(6)]), own.running_var

    found = on_threads(2, share)
    given = torch.cat([item for item, _ in found])
    assert given.dtype == expected.dtype == dtype
    torch.testing.assert_close(given, expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
    torch.testing.assert_close(found[0][1], whole.running_var, rtol=1e-6, atol=0)


def test_a_batch_that_does_not_count_takes_part_without_an_effect() -> None:
    values, factors = values_of("images", 4), values_of("images", 4, seed=1)
    whole = two_passes(layer_of("images"), values, factors)

    def share(ranks: ThreadRanks) -> dict[str, Any]:
        layer, has_examples = layer_of("images"), ranks.rank == 0
        with SynchronisedBatchNorm(layer, ranks).active(has_examples=has_examples):
            return two_passes(layer, *((values, factors) if has_examples else (values[:1], factors[:1] * 0)))

    first, second = on_threads(2, share)
    for name in ("values 1", "gradient 1"):
        torch.testing.assert_close(first[name], whole[name], rtol=1e-11, atol=1e-11)
    assert not any(gradient.any() for gradient in [*second["parameters"], second["gradient 0"], second["gradient 1"]])
    assert all(map(torch.equal, first["buffers"], second["buffers"]))


def test_one_value_of_a_channel_in_all_is_refused_in_torchs_words_and_two_are_enough() -> None:
    def share(ranks: ThreadRanks) -> Tensor:
        layer, values = layer_of("vectors"), values_of("vectors", 2)
        with SynchronisedBatchNorm(layer, ranks).active():
            return layer(values[ranks.share(2)]) if ranks.count == 2 else layer(values[ranks.share(1)])

    with pytest.raises(ValueError, match=r"Expected more than 1 value per channel when training, got input size"):
        on_threads(3, share)
    torch.testing.assert_close(torch.cat(on_threads(2, share)), layer_of("vectors")(values_of("vectors", 2)))


def network() -> nn.Sequential:
    block = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh())
    model = nn.Sequential(nn.Linear(4, 6), block, nn.BatchNorm1d(6), nn.Linear(6, 2)).double()
    drawn(model)
    return model


def test_blocks_that_are_computed_again_for_the_gradient_are_synchronised_then_too() -> None:
    values = values_of("vectors", 7)
    whole = network()
    whole(values).square().sum().backward()

    def share(ranks: ThreadRanks) -> tuple[list[Tensor], list[Tensor]]:
        model = network()
        recompute([model[1]])
        with SynchronisedBatchNorm(model, ranks).active():
            model(values[ranks.share(7)]).square().sum().backward()
        return gradients_of(model), list(model.buffers())

    found = on_threads(3, share)
    for place, expected in enumerate(gradients_of(whole)):
        torch.testing.assert_close(torch.stack([own[place] for own, _ in found]).sum(dim=0), expected)
    for place, expected in enumerate(whole.buffers()):
        torch.testing.assert_close(found[1][1][place], expected)


def test_only_training_mode_within_the_context_is_synchronised() -> None:
    def share(ranks: ThreadRanks) -> bool:
        layer, plain, values = layer_of("vectors"), layer_of("vectors"), values_of("vectors", 6)[ranks.share(6)]
        synchronised = SynchronisedBatchNorm(layer, ranks)
        outside = torch.equal(layer(values), plain(values))
        for each in (layer, plain):
            each.eval()
        with synchronised.active():
            frozen = torch.equal(layer(values), plain(values))
        layer.train()
        with synchronised.active():
            return outside and frozen and not torch.equal(layer(values), plain.train()(values))

    assert on_threads(2, share) == [True, True]


def test_a_layer_keeps_its_names_and_its_copies_and_pickles_have_its_own_class() -> None:
    def share(ranks: ThreadRanks) -> None:
        model = network()
        names, printed = list(model.state_dict()), repr(model)
        SynchronisedBatchNorm(model, ranks)
        assert list(model.state_dict()) == names
        assert repr(model) == printed
        assert isinstance(model[2], nn.BatchNorm1d)
        assert type(copy.deepcopy(model)[2]) is nn.BatchNorm1d
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        assert type(loaded[2]) is nn.BatchNorm1d
        assert torch.equal(loaded[2].weight, model[2].weight)

    on_threads(1, share)


def test_ranks_that_come_to_different_layers_are_refused() -> None:
    def share(ranks: ThreadRanks) -> None:
        model = network()
        values = torch.ones(3, 6, dtype=torch.float64)
        with SynchronisedBatchNorm(model, ranks).active():
            (model[1] if ranks.rank else model[2])(values)

    with pytest.raises(WorkloadError, match="come to the layers of batch normalisation in different orders"):
        on_threads(2, share)


class ByHand(nn.Module):
    """Batch normalisation by its own arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(4))

    def forward(self, values: Tensor) -> Tensor:
        assert isinstance(self.running_mean, Tensor)
        if self.training:
            self.running_mean += 0.1 * (values.detach().mean(0) - self.running_mean)
        return values - values.mean(0)


class ByFunction(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.batch_norm(values, None, None, training=True)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (ByHand(), r"the layer 0 \(ByHand\) does not normalise by torch's batch_norm"),
        (ByFunction(), "the model calls torch's batch_norm outside of a layer"),
        (GhostBatchNorm(4, ghost_batch_size=2), r"the layer 0 \(GhostBatchNorm\) normalises parts of a batch apart"),
        (GhostBatchNorm(4, ghost_batch_size=3), r"the layer 0 \(GhostBatchNorm\) normalises parts of a batch apart"),
        (nn.LayerNorm(4), NO_SYNC_BATCH_NORM),
        (nn.GroupNorm(2, 4), NO_SYNC_BATCH_NORM),
        (nn.BatchNorm1d(4).eval(), NO_SYNC_BATCH_NORM),
    ],
)
def test_what_cannot_be_synchronised_is_named(layer: nn.Module, message: str) -> None:
    model, values = nn.Sequential(layer), torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(WorkloadError, match=message):
        refuse_unsynchronised(model, lambda: model(values))
    assert all(map(torch.equal, before.values(), model.state_dict().values()))


@pytest.mark.parametrize("kind", ["vectors", "no statistics", "own call"])
def test_layers_that_can_be_synchronised_are_found_and_left_as_they_were(kind: str) -> None:
    model = nn.Sequential(layer_of(kind))
    before = copy.deepcopy(model.state_dict())
    refuse_unsynchronised(model, lambda: model(values_of(kind, 5)))
    assert all(map(torch.equal, before.values(), model.state_dict().values()))
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks
