"""The image workloads: their keywords, and that each of them trains."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrowing import present
from torch import nn
from torch.utils.data import default_collate

from tunectl.training.curvature.double_backward import gradient_with_graph, hessian_product
from tunectl.training.recomputation import recompute
from tunectl.workloads import images
from tunectl.workloads.models.initial_weights import INITS, RESIDUAL_INITS
from tunectl.workloads.models.normalizations import NORMALIZATIONS
from tunectl.workloads.models.residual_branches import NORM_PLACEMENTS
from tunectl.workloads.models.resnet import BLOCKS, STEMS
from tunectl.workloads.models.standardization import Standardize
from tunectl.workloads.workload import Workload
from tunectl.workloads.workload_reference import parse_reference, read_signature

_FACTORIES: dict[str, Callable[..., Workload]] = {
    "wide_resnet": images.wide_resnet,
    "densenet": images.densenet,
    "resnet": images.resnet,
}
_SMALL: dict[str, dict[str, Any]] = {
    "wide_resnet": {"depth": 10, "widen": 1},
    "densenet": {"depth": 10, "growth": 4},
    "resnet": {"depth": 10, "width": 4, "stem": "cifar"},
}
# The values of each keyword that the tests combine; the other ones have one way of acting.
_VALUES: dict[str, tuple[Any, ...]] = {
    "normalization": NORMALIZATIONS,
    "norm_placement": NORM_PLACEMENTS,
    "block": BLOCKS,
    "stem": STEMS,
    "init": RESIDUAL_INITS,
    "init_scale": (1.0, 1.5),
    "dropout": (0.0, 0.3),
    "stride_of_first_block": (2, 1),
    "reduction": (0.5, 1.0),
    "label_smoothing": (0.0, 0.1),
    "mixup": (0.0, 0.2),
    "augmentation": ("none", "flip_crop"),
    "loss": ("cross_entropy", "mse"),
}


def _pairwise(factory: str) -> list[dict[str, Any]]:
    """Combinations of a factory's keywords in which every pair of values of every two keywords is."""
    names = [name for name in _VALUES if name in inspect.signature(_FACTORIES[factory]).parameters]
    values = {name: INITS if (factory, name) == ("densenet", "init") else _VALUES[name] for name in names}
    missing = {
        frozenset([(one, a), (other, b)])
        for one, other in itertools.combinations(names, 2)
        for a in values[one]
        for b in values[other]
    }
    found = []
    while missing:
        # Begin with a missing pair, then give each keyword the value that covers most of the others.
        chosen: dict[str, Any] = dict(min(missing, key=lambda pair: sorted(map(repr, pair))))
        for name in names:
            if name not in chosen:
                covered = {
                    value: sum(frozenset([(name, value), item]) in missing for item in chosen.items())
                    for value in values[name]
                }
                chosen[name] = max(covered, key=covered.__getitem__)
        found.append(chosen)
        missing -= {frozenset(pair) for pair in itertools.combinations(chosen.items(), 2)}
    return found


def _trained(workload: Workload, updates: int) -> list[float]:
    """The mean losses of a few updates on one batch, augmented as a trial would augment it."""
    batch = default_collate([workload.data["train"][index] for index in range(8)])
    optimizer = torch.optim.SGD(workload.model.parameters(), lr=0.01)
    generator, losses = np.random.default_rng(0), []
    for _ in range(updates):
        given = workload.augment(batch, generator) if workload.augment is not None else batch
        optimizer.zero_grad()
        loss = workload.loss(workload.model, given).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("factory", _FACTORIES)
def test_every_pair_of_keywords_trains(factory):
    """All combinations were trained for ten updates each once; here are those with every pair of values, for two."""
    for keywords in _pairwise(factory):
        torch.manual_seed(0)
        workload = _FACTORIES[factory](**{**_SMALL[factory], **keywords}, ghost_batch_size=3)
        losses = _trained(workload, updates=2)
        assert all(loss < 1e4 for loss in losses), keywords
        assert all(parameter.isfinite().all() for parameter in workload.model.parameters()), keywords


def test_the_pairwise_combinations_have_every_pair():
    combinations = _pairwise("resnet")
    for one, other in itertools.combinations(combinations[0], 2):
        seen = {(combination[one], combination[other]) for combination in combinations}
        assert len(seen) == len(_VALUES[one]) * len(_VALUES[other])


@pytest.mark.parametrize("factory", _FACTORIES)
def test_a_model_gets_raw_pixels_and_its_blocks_are_the_residual_ones(factory):
    workload = _FACTORIES[factory](**_SMALL[factory])
    batch = default_collate([workload.data["valid"][index] for index in range(4)])
    assert batch[0].max() == 16
    assert isinstance(workload.model, nn.Sequential)
    assert isinstance(workload.model[0], Standardize)
    assert workload.model[0](batch[0]).abs().max() < 4
    blocks = {"wide_resnet": 3, "densenet": 3, "resnet": 4}
    assert len(workload.blocks) == blocks[factory]
    assert workload.loss(workload.model, batch).shape == (4,)


@pytest.mark.parametrize("factory", _FACTORIES)
def test_check_reads_every_keyword_with_its_default(factory):
    reference = parse_reference(f"tunectl.workloads.images:{factory}", Path("study.yaml"), Path())
    signature = read_signature(reference)
    assert not signature.open
    assert not signature.required
    assert set(signature.parameters) == set(inspect.signature(_FACTORIES[factory]).parameters)


# One Hessian-vector product of a tiny net for each normalization, beside a difference of gradients, in float64. Weights
# and images are noise, so that no input of a ReLU is exactly 0.
@pytest.mark.parametrize(("factory", "normalization"), [*itertools.product(_FACTORIES, NORMALIZATIONS)])
def test_a_hessian_vector_product_is_the_derivative_of_the_gradient(factory, normalization):
    torch.manual_seed(0)
    small = {**_SMALL[factory], "label_smoothing": 0.1, "ghost_batch_size": 3}
    workload = _FACTORIES[factory](**small, normalization=normalization)
    model = workload.model.double()
    batch = [8 + torch.randn(8, 1, 8, 8, dtype=torch.float64), torch.arange(8)]
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    vector = [torch.randn_like(parameter) for parameter in parameters]

    def gradient(step: float) -> list[torch.Tensor]:
        with torch.no_grad():
            for parameter, part in zip(parameters, vector, strict=True):
                parameter.add_(part, alpha=step)
        found = torch.autograd.grad(workload.loss(model, batch).mean(), parameters)
        with torch.no_grad():
            for parameter, part in zip(parameters, vector, strict=True):
                parameter.sub_(part, alpha=step)
        return list(found)

    step = 1e-7
    differences = [(up - down) / (2 * step) for up, down in zip(gradient(step), gradient(-step), strict=True)]
    grads = gradient_with_graph(workload.loss(model, batch), parameters, 8)
    product = hessian_product(grads, parameters, vector, keep=False)
    expected = torch.cat([part.flatten() for part in differences])
    exact = torch.cat(
        [torch.zeros_like(p).flatten() if h is None else h.flatten() for p, h in zip(parameters, product, strict=True)]
    )
    assert (exact - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("factory", _FACTORIES)
def test_recomputed_blocks_give_the_same_gradients_and_statistics(factory):
    found = []
    for recomputed in (False, True):
        torch.manual_seed(0)
        workload = _FACTORIES[factory](**_SMALL[factory], normalization="ghost", ghost_batch_size=3, dropout=0.2)
        if recomputed:
            recompute(workload.blocks)
        batch = default_collate([workload.data["train"][index] for index in range(8)])
        torch.manual_seed(1)
        workload.loss(workload.model, batch).mean().backward()
        gradients = {name: each.grad for name, each in workload.model.named_parameters()}
        found.append(gradients | dict(workload.model.named_buffers()))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(present(value), present(found[1][name])) for name, value in found[0].items())


def test_a_keyword_of_the_model_or_the_data_that_is_wrong_is_refused():
    with pytest.raises(ValueError, match="depth: expected 6 n"):
        images.wide_resnet(depth=11)
    with pytest.raises(ValueError, match="augmentation: expected one of none, flip_crop, got 'flip'"):
        images.densenet(**_SMALL["densenet"], augmentation="flip")
    with pytest.raises(ValueError, match="mixup: expected"):
        images.resnet(**_SMALL["resnet"], mixup=-1.0)


def test_all_trials_share_the_images():
    images.preload(data="digits")
    one, other = (images.wide_resnet(**_SMALL["wide_resnet"]) for _ in range(2))
    assert one.data["train"] is other.data["train"]
