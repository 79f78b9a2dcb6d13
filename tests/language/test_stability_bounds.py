"""Each bound against the curvature at which the optimizer itself becomes unstable, found by bisection.

The loss is a quadratic, w'Hw / 2, on which the steps of make_optimizer's own optimizers are simulated. For adaptive
rules the mean square and the count are set to the same values before every update, so that D is constant.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from each_case import each_case
from torch import Tensor, nn

from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.optimizer_traits import OPTIMIZERS, OptimizerName, traits
from tunectl.language.stability_bounds import OWN_OPTIMIZER, rate_at_bound, stability_bound
from tunectl.training.curvature.preconditioners import l2_terms, preconditioner
from tunectl.training.optimizers import make_optimizer

RATE = 0.01
UNBOUNDED: tuple[OptimizerName, ...] = ("lamb", "lion", "muon")
LATE = 1000
"""A count at which 1 - beta1^t is 1, and 1 - beta2^t is not."""


class Weights(nn.Module):
    """Two weights, one in a matrix and one in a vector, which weight_decay_scope: matrices leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[1e-9]], dtype=torch.float64))
        self.vector = nn.Parameter(torch.tensor([-0.7e-9], dtype=torch.float64))


def configuration(optimizer: OptimizerName, **fields: Any) -> TrainingConfiguration:
    return TrainingConfiguration(optimizer, RATE, **{"epsilon": 0.1, "beta2": 0.999, **fields})


def hold_state(optimizer: torch.optim.Optimizer, count: int) -> None:
    """Set the mean squares to 0.3 and 2, and the count to that before update `count`; NAdam's product of momenta to
    that of many updates.
    """
    for square, state in zip((0.3, 2.0), optimizer.state.values(), strict=False):
        for name in state.keys() & {"exp_avg_sq", "square_avg"}:
            state[name].fill_(square)
        if "step" in state:
            state["step"] = (
                torch.full_like(state["step"], count - 1) if isinstance(state["step"], Tensor) else count - 1
            )
        if "mu_product" in state:
            state["mu_product"] = 0.0


def simulated(fields: TrainingConfiguration, hessian: np.ndarray, count: int) -> tuple[bool, torch.optim.Optimizer]:
    """Whether the weights grow in 100 updates of the optimizer, and the optimizer."""
    model, matrix = Weights(), torch.from_numpy(hessian)
    optimizer = make_optimizer(model, fields)
    parameters = [model.matrix, model.vector]
    sizes = []
    for _ in range(100):
        weights = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        sizes.append(float(weights.norm()))
        for parameter, gradient in zip(parameters, matrix @ weights, strict=True):
            parameter.grad = gradient.reshape(parameter.shape).clone()
        hold_state(optimizer, count)
        optimizer.step()
        if sizes[-1] > 1e4 * sizes[0]:
            return True, optimizer
    return max(sizes[-10:]) > max(sizes[50:60]), optimizer


def threshold(fields: TrainingConfiguration, shape: np.ndarray, count: int = LATE) -> float:
    """The largest eigenvalue, preconditioned and with the L2 term, of the largest c * shape at which the weights do
    not grow, to 3e-4. The eigenvalue is worked out here, from the D and the decay of the measured optimizer.
    """
    low, high = 0.5 / RATE, 100 / RATE
    while high / low > 1 + 3e-4:
        middle = math.sqrt(low * high)
        grows, optimizer = simulated(fields, middle * shape, count)
        low, high = (low, middle) if grows else (middle, high)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    divided = preconditioner(optimizer, parameters, fields)
    decay = l2_terms(optimizer, parameters, fields)
    root = np.ones(2) if divided is None else divided.inverse_root.numpy()
    hessian = low * shape + np.diag(np.zeros(2) if decay is None else decay.numpy())
    return float(np.linalg.eigvalsh(root[:, None] * hessian * root[None, :]).max())


ONE_DIMENSION = np.diag([1.0, 0.0])
COUPLED = np.array([[1.0, 0.6], [0.6, 0.8]])

RULES = [
    configuration("sgd"),
    configuration("momentum", momentum=0.9),
    configuration("momentum", momentum=0.0),
    configuration("nesterov", momentum=0.9),
    configuration("nesterov", momentum=0.3),
    configuration("nesterov", momentum=0.0),
    configuration("rmsprop", momentum=0.0),
    configuration("rmsprop", momentum=0.8),
    configuration("rmsprop_playbook", momentum=0.0),
    configuration("rmsprop_playbook", momentum=0.8),
    *(
        configuration(name, beta1=beta1)
        for name in ("adam", "adam_playbook", "adamw", "nadam_playbook", "nadam")
        for beta1 in (0.9, 0.0)
    ),
]


def named(fields: TrainingConfiguration) -> str:
    return f"{fields.optimizer}-{fields.momentum:g}-{fields.beta1:g}"


def bound_value(fields: TrainingConfiguration, count: int = LATE) -> float:
    value = stability_bound(fields, RATE, count - 1).value
    assert value is not None
    return value


@pytest.mark.parametrize("fields", RULES, ids=named)
def test_the_bound_is_where_the_optimizer_becomes_unstable(fields: TrainingConfiguration) -> None:
    assert threshold(fields, ONE_DIMENSION) == pytest.approx(bound_value(fields), rel=1e-3)


@pytest.mark.parametrize("count", [1, 40, 3000, 100_000])
def test_the_bound_of_nadam_follows_its_momentum(count: int) -> None:
    fields = configuration("nadam")
    assert threshold(fields, ONE_DIMENSION, count) == pytest.approx(bound_value(fields, count), rel=1e-3)
    assert bound_value(fields, 1) < 0.6 * bound_value(fields, 100_000)


L2 = [fields for fields in RULES if fields.optimizer not in ("sgd", "adamw") and fields.momentum and fields.beta1]


@pytest.mark.parametrize("fields", L2, ids=named)
def test_an_l2_term_is_part_of_the_eigenvalue_for_which_the_bound_holds(fields: TrainingConfiguration) -> None:
    """Also where neither D nor the decay is the same for both weights, and H is not diagonal."""
    decayed = replace(fields, weight_decay=30.0, weight_decay_scope="matrices")
    bound = stability_bound(decayed, RATE, LATE - 1)
    assert bound.with_decay
    assert bound.value == bound_value(fields)
    assert threshold(decayed, COUPLED) == pytest.approx(bound.value, rel=1e-3)


@pytest.mark.parametrize("beta1", [0.9, 0.3])
@pytest.mark.parametrize("shape", [ONE_DIMENSION, COUPLED], ids=["one dimension", "coupled"])
def test_decoupled_decay_lowers_the_bound_of_adamw(beta1: float, shape: np.ndarray) -> None:
    plain, decayed = (configuration("adamw", beta1=beta1, weight_decay=decay) for decay in (0.0, 50.0))
    bound = stability_bound(decayed, RATE, LATE - 1)
    assert not bound.with_decay
    assert bound.value == pytest.approx(bound_value(plain) - 50 * (1 + beta1) / (1 - beta1))
    assert threshold(decayed, shape) == pytest.approx(bound.value, rel=1e-3)


def test_decay_that_grows_the_weights_by_itself_has_no_bound() -> None:
    fields = configuration("adamw", weight_decay=2 / RATE, epsilon=1e-8)
    assert simulated(replace(fields, weight_decay=2.02 / RATE), 0 * COUPLED, LATE)[0]
    assert not simulated(replace(fields, weight_decay=1.98 / RATE), 0 * COUPLED, LATE)[0]
    bound = stability_bound(fields, RATE, 0)
    assert bound.value is None
    assert bound.reason == (
        "no eigenvalue is stable: learning_rate * weight_decay is 2, and from 2 on the decay alone makes the weights "
        "grow"
    )


@pytest.mark.parametrize("name", ["adamw", *UNBOUNDED])
def test_decoupled_decay_of_some_weights_alone_has_no_bound(name: OptimizerName) -> None:
    bound = stability_bound(configuration(name, weight_decay=0.1, weight_decay_scope="matrices"), RATE, 0)
    assert bound.value is None
    assert bound.reason
    assert bound.ratio(1.0) is None
    assert "matrices" in bound.reason or name in UNBOUNDED
    assert rate_at_bound(configuration(name, weight_decay=0.1, weight_decay_scope="matrices"), 1.0, 0) is None


def test_lamb_lion_muon_and_the_user_s_own_optimizers_have_no_bound_and_say_why() -> None:
    for bound in (*(stability_bound(configuration(name), RATE, 10) for name in UNBOUNDED), OWN_OPTIMIZER):
        assert (bound.value, bound.eigenvalue, bound.ratio(1.0), bound.paper_ratio(1.0)) == (None, None, None, None)
        assert bound.reason
        assert bound.reason.startswith("no stability bound is known")
    assert all(rate_at_bound(configuration(name), 1.0, 10) is None for name in UNBOUNDED)


@each_case("name", OPTIMIZERS)
@each_case("decay", [0.0, 3.0])
def test_at_the_rate_at_bound_the_ratio_is_one(name: OptimizerName, decay: float) -> None:
    fields = configuration(name, weight_decay=decay)
    rate = rate_at_bound(fields, 17.0, 40)
    if name in UNBOUNDED:
        assert rate is None
        return
    assert rate is not None
    assert stability_bound(fields, rate, 40).ratio(17.0) == pytest.approx(1.0)


@pytest.mark.parametrize("eigenvalue", [0.0, -1.0, math.inf, math.nan])
def test_no_rate_is_at_the_bound_of_an_eigenvalue_that_is_not_a_number_above_zero(eigenvalue: float) -> None:
    assert rate_at_bound(configuration("adam"), eigenvalue, 0) is None
    assert rate_at_bound(configuration("adamw", weight_decay=1.0), eigenvalue, 0) is None


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_at_rate_zero_every_eigenvalue_is_stable(name: OptimizerName) -> None:
    bound = stability_bound(configuration(name, weight_decay=0.1), 0.0, 0)
    assert bound.ratio(1e9) == (None if name in UNBOUNDED else 0.0)


def test_the_paper_has_a_line_for_sgd_and_for_adam_alone() -> None:
    """2 / rate for SGD of every kind, 40 / rate for Adam; neither is moved by weight decay."""
    lines = {name: stability_bound(configuration(name, weight_decay=1.0), 0.5, 0).paper_line for name in OPTIMIZERS}
    assert {name: line for name, line in lines.items() if line is not None} == {
        **dict.fromkeys(("sgd", "momentum", "nesterov"), 4.0),
        **dict.fromkeys(("adam", "adam_playbook", "adamw"), 80.0),
    }
    assert stability_bound(configuration("adam"), 0.5, 0).paper_ratio(160.0) == 2.0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_bounded_eigenvalue_is_preconditioned_where_the_optimizer_has_a_mean_square(name: OptimizerName) -> None:
    bound = stability_bound(configuration(name, weight_decay=1.0), RATE, 0)
    adaptive = traits(name).tuned_from.keys() & {"beta2", "rho"}
    expected = "preconditioned_lambda_1" if adaptive else "lambda_1"
    assert bound.eigenvalue == (None if name in UNBOUNDED else expected)
    assert bound.with_decay == (not traits(name).decoupled_weight_decay)
