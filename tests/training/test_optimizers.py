"""Tests optimizers.py and update_rules.py."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

from tunectl.core.errors import WorkloadError
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.optimizer_traits import OptimizerName, traits
from tunectl.training.optimizers import can_fuse, make_optimizer, parameter_groups, trainable_parameters


def path(updates: int = 20, **fields: Any) -> np.ndarray:
    """The weights after `updates` updates on the quadratic 0.5 * sum(c w^2), by the optimizer."""
    model = nn.Linear(3, 2, bias=True).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.5, -1.0]], dtype=torch.float64))
        model.bias.copy_(torch.tensor([0.7, -0.4], dtype=torch.float64))
    curvature = torch.tensor([[1.0, 0.2, 3.0], [0.5, 2.0, 1.0]], dtype=torch.float64)
    optimizer = make_optimizer(model, TrainingConfiguration(learning_rate=0.05, **fields))
    for _ in range(updates):
        optimizer.zero_grad()
        (0.5 * (curvature * model.weight**2).sum() + 0.5 * (model.bias**2).sum()).backward()
        optimizer.step()
    return np.concatenate([model.weight.detach().numpy().ravel(), model.bias.detach().numpy()])


START = np.array([1.0, -2.0, 0.5, 0.3, 1.5, -1.0, 0.7, -0.4])
CURVATURE = np.array([1.0, 0.2, 3.0, 0.5, 2.0, 1.0, 1.0, 1.0])
IS_MATRIX = np.array([1.0] * 6 + [0.0] * 2)


def sgd_oracle(momentum: float = 0.0, nesterov: bool = False, decay: Any = 0.0, updates: int = 20) -> np.ndarray:
    """The playbook's rules: v <- momentum v + g, then w <- w - rate v, or w - rate (g + momentum v)."""
    weights, velocity = START.copy(), np.zeros(8)
    for _ in range(updates):
        gradient = CURVATURE * weights + decay * weights
        velocity = momentum * velocity + gradient
        weights = weights - 0.05 * (gradient + momentum * velocity if nesterov else velocity)
    return weights


def adam_oracle(beta1: float, beta2: float, epsilon: float, l2: float = 0.0, decoupled: Any = 0.0) -> np.ndarray:
    """Kingma and Ba's Adam with epsilon after the bias correction; Loshchilov and Hutter's decoupled decay."""
    weights, first, second = START.copy(), np.zeros(8), np.zeros(8)
    for t in range(1, 21):
        gradient = CURVATURE * weights + l2 * weights
        weights = weights * (1 - 0.05 * decoupled)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        weights = weights - 0.05 * (first / (1 - beta1**t)) / (np.sqrt(second / (1 - beta2**t)) + epsilon)
    return weights


# Each rule as its own source states it, in float64, with state kept in a dict: the oracle of `make_optimizer`.


def rmsprop_rule(state: dict[str, Any], w: Any, g: Any, rate: float, c: TrainingConfiguration) -> Any:
    """torch's documentation: v from 0, epsilon outside the root, the rate outside the buffer."""
    state["v"] = c.rho * state.get("v", 0) + (1 - c.rho) * g**2
    state["b"] = c.momentum * state.get("b", 0) + g / (np.sqrt(state["v"]) + c.epsilon)
    return w - rate * state["b"]


def rmsprop_playbook_rule(state: dict[str, Any], w: Any, g: Any, rate: float, c: TrainingConfiguration) -> Any:
    state["v"] = c.rho * state.get("v", 1) + (1 - c.rho) * g**2
    state["m"] = c.momentum * state.get("m", 0) + rate / np.sqrt(state["v"] + c.epsilon) * g
    return w - state["m"]


def playbook_moments(state: dict[str, Any], g: Any, c: TrainingConfiguration) -> tuple[Any, Any, float]:
    state["t"] = state.get("t", 0) + 1
    state["m"] = c.beta1 * state.get("m", 0) + (1 - c.beta1) * g
    state["v"] = c.beta2 * state.get("v", 0) + (1 - c.beta2) * g**2
    return state["m"], state["v"], np.sqrt(1 - c.beta2 ** state["t"]) / (1 - c.beta1 ** state["t"])


def adam_playbook_rule(state: dict[str, Any], w: Any, g: Any, rate: float, c: TrainingConfiguration) -> Any:
    m, v, b = playbook_moments(state, g, c)
    return w - rate * m / (np.sqrt(v) + c.epsilon) * b


def nadam_playbook_rule(state: dict[str, Any], w: Any, g: Any, rate: float, c: TrainingConfiguration) -> Any:
    m, v, b = playbook_moments(state, g, c)
    return w - rate * (c.beta1 * m + (1 - c.beta1) * g) / (np.sqrt(v) + c.epsilon) * b


def nadam_rule(state: dict[str, Any], w: Any, g: Any, rate: float, c: TrainingConfiguration) -> Any:
    """Dozat's rule as torch documents it, with momentum decay 0.004."""
    state["t"] = t = state.get("t", 0) + 1
    mu, after = (c.beta1 * (1 - 0.5 * 0.96 ** (n * 0.004)) for n in (t, t + 1))
    state["p"] = state.get("p", 1.0) * mu
    state["m"] = c.beta1 * state.get("m", 0) + (1 - c.beta1) * g
    state["v"] = c.beta2 * state.get("v", 0) + (1 - c.beta2) * g**2
    mean = after * state["m"] / (1 - state["p"] * after) + (1 - mu) * g / (1 - state["p"])
    return w - rate * mean / (np.sqrt(state["v"] / (1 - c.beta2**t)) + c.epsilon)


def adam_rule(state: dict[str, Any], w: Any, g: Any, rate: float, c: TrainingConfiguration) -> Any:
    state["t"] = t = state.get("t", 0) + 1
    state["m"] = c.beta1 * state.get("m", 0) + (1 - c.beta1) * g
    state["v"] = c.beta2 * state.get("v", 0) + (1 - c.beta2) * g**2
    return w - rate * (state["m"] / (1 - c.beta1**t)) / (np.sqrt(state["v"] / (1 - c.beta2**t)) + c.epsilon)


def lamb_rule(state: dict[str, Any], w: Any, g: Any, rate: float, c: TrainingConfiguration) -> Any:
    """You et al., algorithm 2; w is one tensor."""
    state["t"] = t = state.get("t", 0) + 1
    state["m"] = c.beta1 * state.get("m", 0) + (1 - c.beta1) * g
    state["v"] = c.beta2 * state.get("v", 0) + (1 - c.beta2) * g**2
    step = (state["m"] / (1 - c.beta1**t)) / (np.sqrt(state["v"] / (1 - c.beta2**t)) + c.epsilon)
    step = step + c.weight_decay * w
    norms = np.linalg.norm(w), np.linalg.norm(step)
    return w - rate * (norms[0] / norms[1] if min(norms) > 0 else 1.0) * step


def lion_rule(state: dict[str, Any], w: Any, g: Any, rate: float, c: TrainingConfiguration) -> Any:
    """The rule of Chen et al."""
    m = state.get("m", 0)
    state["m"] = c.beta2 * m + (1 - c.beta2) * g
    return w - rate * (np.sign(c.beta1 * m + (1 - c.beta1) * g) + c.weight_decay * w)


RULES = {
    "rmsprop": rmsprop_rule,
    "rmsprop_playbook": rmsprop_playbook_rule,
    "adam": adam_rule,
    "adam_playbook": adam_playbook_rule,
    "nadam": nadam_rule,
    "nadam_playbook": nadam_playbook_rule,
    "lamb": lamb_rule,
    "lion": lion_rule,
}
MATRIX, VECTOR = slice(0, 6), slice(6, 8)


def paths(optimizer: Any, rates: list[float], **fields: Any) -> tuple[np.ndarray, np.ndarray]:
    """The weights after an update at each of these rates: by the optimizer, and by its rule."""
    configuration = TrainingConfiguration.from_hyperparameters({"optimizer": optimizer, "learning_rate": 0.1, **fields})
    model = nn.Linear(3, 2, bias=True).double()
    nn.utils.vector_to_parameters(torch.tensor(START), model.parameters())
    rule = make_optimizer(model, configuration)
    curvature = torch.from_numpy(CURVATURE)
    weights = START.copy()
    states: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for rate in rates:
        for group in rule.param_groups:
            group["lr"] = rate
        rule.zero_grad()
        (0.5 * curvature * nn.utils.parameters_to_vector(model.parameters()) ** 2).sum().backward()
        rule.step()
        gradient = CURVATURE * weights
        if not traits(optimizer).decoupled_weight_decay:
            gradient = gradient + configuration.weight_decay * weights
        for state, part in zip(states, (MATRIX, VECTOR), strict=True):
            weights[part] = RULES[optimizer](state, weights[part], gradient[part], rate, configuration)
    return nn.utils.parameters_to_vector(model.parameters()).detach().numpy(), weights


CONSTANT = [0.03] * 50
SCHEDULED = [0.06 * min(1.0, t / 10) * (1 - t / 60) for t in range(50)]


@pytest.mark.parametrize("optimizer", sorted(RULES))
@pytest.mark.parametrize("rates", [CONSTANT, SCHEDULED], ids=["constant", "scheduled"])
@pytest.mark.parametrize("epsilon", [1e-8, 1e-2])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_optimizer_agrees_with_its_formula_over_50_updates(
    optimizer: str, rates: list[float], epsilon: float, decay: float
):
    fields = {"epsilon": epsilon, "weight_decay": decay}
    fields |= {"rho": 0.9, "momentum": 0.8} if "rmsprop" in optimizer else {"beta1": 0.85, "beta2": 0.97}
    found, expected = paths(optimizer, rates, **fields)
    assert found == pytest.approx(expected, rel=0, abs=1e-12)
    assert np.abs(found - START).max() > 0.1


@pytest.mark.parametrize("optimizer", ["rmsprop", "rmsprop_playbook"])
def test_rmsprop_has_no_momentum_unless_it_is_given(optimizer: str):
    found, expected = paths(optimizer, SCHEDULED)
    assert found == pytest.approx(expected, rel=0, abs=1e-12)
    assert TrainingConfiguration.from_hyperparameters({"optimizer": optimizer, "learning_rate": 1}).momentum == 0
    assert TrainingConfiguration.from_hyperparameters({"optimizer": "nesterov", "learning_rate": 1}).momentum == 0.9


def test_the_playbook_s_rules_differ_from_torch_s_where_their_docstrings_say_so():
    large = {"epsilon": 1e-2, "beta1": 0.9, "beta2": 0.999}
    ours, torchs = paths("adam_playbook", CONSTANT[:20], **large)[0], paths("adam", CONSTANT[:20], **large)[0]
    assert np.abs(ours - torchs).max() > 1e-2, "epsilon weighs more on the uncorrected root"
    tiny = {**large, "epsilon": 0.0}
    ours, torchs = paths("adam_playbook", CONSTANT, **tiny)[0], paths("adam", CONSTANT, **tiny)[0]
    assert ours == pytest.approx(torchs, abs=1e-12), "and not at all where it is 0"
    assert np.abs(paths("nadam_playbook", CONSTANT)[0] - paths("nadam", CONSTANT)[0]).max() > 1e-3
    assert np.abs(paths("rmsprop_playbook", CONSTANT)[0] - paths("rmsprop", CONSTANT)[0]).max() > 1e-2


def test_the_learning_rate_inside_the_momentum_buffer_shows_only_under_a_schedule():
    def outside(state: dict[str, Any], w: Any, g: Any, rate: float, c: TrainingConfiguration) -> Any:
        state["v"] = c.rho * state.get("v", 1) + (1 - c.rho) * g**2
        state["b"] = c.momentum * state.get("b", 0) + g / np.sqrt(state["v"] + c.epsilon)
        return w - rate * state["b"]

    fields: dict[str, Any] = {"momentum": 0.9, "rho": 0.9}
    for rates, differs in ((CONSTANT, False), (SCHEDULED, True)):
        found, _ = paths("rmsprop_playbook", rates, **fields)
        configuration = TrainingConfiguration("rmsprop_playbook", 0.1, **fields)
        state: dict[str, Any] = {}
        weights = START.copy()
        for rate in rates:
            weights = outside(state, weights, CURVATURE * weights, rate, configuration)
        assert bool(np.abs(found - weights).max() > 1e-3) is differs


def test_lamb_takes_adam_s_step_where_a_norm_is_zero():
    model = nn.Linear(2, 2, bias=True)
    nn.init.zeros_(model.bias)
    rule = make_optimizer(model, TrainingConfiguration("lamb", 0.1, epsilon=0.0))
    model.weight.grad, model.bias.grad = torch.zeros(2, 2), torch.tensor([3.0, -5.0])
    before = model.weight.detach().clone()
    rule.param_groups[0]["eps"] = 1e-8
    rule.param_groups[0]["epsilon"] = 1e-8
    rule.step()
    assert torch.equal(model.weight, before)
    assert torch.allclose(model.bias, torch.tensor([-0.1, 0.1]))


def test_nadam_is_torch_s_but_for_the_float32_in_which_torch_keeps_its_product_of_momenta():
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        torch.set_default_dtype(dtype)
        try:
            model = nn.Linear(3, 2).double()
            nn.utils.vector_to_parameters(torch.tensor(START, dtype=torch.float64), model.parameters())
            theirs = torch.optim.NAdam(model.parameters(), lr=0.03, betas=(0.85, 0.97), eps=1e-8, weight_decay=0.1)
            for _ in range(50):
                theirs.zero_grad()
                weights = nn.utils.parameters_to_vector(model.parameters())
                (0.5 * torch.tensor(CURVATURE, dtype=torch.float64) * weights**2).sum().backward()
                theirs.step()
        finally:
            torch.set_default_dtype(torch.float32)
        found, _ = paths("nadam", CONSTANT, beta1=0.85, beta2=0.97, weight_decay=0.1)
        expected = nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
        assert found == pytest.approx(expected, abs=tolerance)


OWN = ["rmsprop_playbook", "adam_playbook", "nadam", "nadam_playbook", "lamb", "lion", "muon"]


@pytest.mark.parametrize("optimizer", OWN)
def test_our_own_rules_go_on_from_a_saved_state_that_is_loaded_without_running_code(
    optimizer: OptimizerName, tmp_path: Any
):
    configuration = TrainingConfiguration(optimizer, 0.05, momentum=0.9, weight_decay=0.01)
    models = [nn.Linear(3, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.linspace(-1, 1, 12).view(4, 3)

    def train(model: nn.Module, rule: torch.optim.Optimizer, updates: int) -> None:
        for _ in range(updates):
            rule.zero_grad()
            model(x).square().sum().backward()
            rule.step()

    whole, first = (make_optimizer(model, configuration) for model in models)
    train(models[0], whole, 6)
    train(models[1], first, 3)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = make_optimizer(models[1], configuration)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(models[1], second, 3)
    for found, expected in zip(models[1].parameters(), models[0].parameters(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("optimizer", OWN)
def test_our_own_rules_refuse_sparse_gradients_and_leave_parameters_without_a_gradient_alone(optimizer: OptimizerName):
    model = nn.ModuleList([nn.Embedding(5, 2, sparse=True), nn.Linear(2, 2)])
    rule = make_optimizer(model, TrainingConfiguration(optimizer, 0.1))
    embedded = model.get_parameter("0.weight")
    before = embedded.detach().clone()
    model[1](torch.ones(1, 2)).sum().backward()
    rule.step()
    assert torch.equal(embedded, before)
    model[0](torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=f"{optimizer} does not support sparse gradients"):
        rule.step()


def test_sgd_momentum_and_nesterov_follow_their_rules():
    assert path(optimizer="sgd", momentum=0.9) == pytest.approx(sgd_oracle(), abs=1e-12)
    assert path(optimizer="momentum", momentum=0.9) == pytest.approx(sgd_oracle(0.9), abs=1e-12)
    assert path(optimizer="nesterov", momentum=0.8) == pytest.approx(sgd_oracle(0.8, nesterov=True), abs=1e-12)


def test_nesterov_with_momentum_zero_is_plain_sgd_where_torch_raises():
    assert path(optimizer="nesterov", momentum=0.0) == pytest.approx(sgd_oracle(), abs=1e-12)


def test_adam_and_adamw_follow_their_rules_and_decay_weights_in_their_own_ways():
    fields: dict[str, Any] = {"beta1": 0.85, "beta2": 0.98, "epsilon": 1e-3}
    oracle = adam_oracle(0.85, 0.98, 1e-3, l2=0.1)
    assert path(optimizer="adam", weight_decay=0.1, **fields) == pytest.approx(oracle, abs=1e-12)
    oracle = adam_oracle(0.85, 0.98, 1e-3, decoupled=0.1)
    assert path(optimizer="adamw", weight_decay=0.1, **fields) == pytest.approx(oracle, abs=1e-12)


def test_weight_decay_of_scope_matrices_spares_the_bias():
    assert path(optimizer="sgd", weight_decay=0.3) == pytest.approx(sgd_oracle(decay=0.3), abs=1e-12)
    spared = path(optimizer="sgd", weight_decay=0.3, weight_decay_scope="matrices")
    assert spared == pytest.approx(sgd_oracle(decay=0.3 * IS_MATRIX), abs=1e-12)
    assert spared != pytest.approx(sgd_oracle(decay=0.3), abs=1e-6)


def test_a_model_of_vectors_alone_has_one_group():
    configuration = TrainingConfiguration("sgd", 0.1, weight_decay=0.3, weight_decay_scope="matrices")
    groups = parameter_groups(list(nn.LayerNorm(3).parameters()), configuration)
    assert [group["weight_decay"] for group in groups] == [0.0]


def test_frozen_parameters_are_left_out_and_a_shared_one_counts_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    assert len(trainable_parameters(model)) == 2


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Linear(2, 2).requires_grad_(False)])
def test_a_model_without_trainable_parameters_is_refused_with_a_message(model: nn.Module):
    with pytest.raises(WorkloadError, match="no trainable parameter"):
        make_optimizer(model, TrainingConfiguration("sgd", 0.1))


def test_an_embedding_with_sparse_gradients_trains_with_sgd():
    model = nn.Embedding(5, 2, sparse=True)
    before = model.weight.detach().clone()
    optimizer = make_optimizer(model, TrainingConfiguration("sgd", 0.1))
    model(torch.tensor([1, 1])).sum().backward()
    optimizer.step()
    assert torch.equal((before - model.weight).nonzero()[:, 0].unique(), torch.tensor([1]))


class Single(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


@pytest.mark.parametrize(
    ("weight", "fused"),
    [
        (torch.randn(8, 4), True),
        (torch.randn(4, 8).t(), True),
        (torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), True),
        (torch.tensor(1.0), True),
        (torch.empty(0, 3), True),
        (torch.randn(1, 8)[:, :1], True),
        (torch.randn(8, 4)[:, :2], False),
        (torch.randn(16)[::8], False),
        (torch.randn(4, 1).expand(4, 3), False),
        (torch.randn(3, dtype=torch.complex64), False),
    ],
)
def test_only_parameters_that_fill_one_block_of_memory_are_fused(weight: torch.Tensor, fused: bool):
    assert can_fuse(Single(weight)) is fused


def unfused(optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """The same rule for another model, by torch's loops over parameters."""
    names = ("lr", "momentum", "nesterov", "betas", "eps")
    fields = {name: optimizer.param_groups[0][name] for name in (*names, "weight_decay") if name in optimizer.defaults}
    rule: Callable[..., torch.optim.Optimizer] = type(optimizer)
    return rule(model.parameters(), **fields, fused=False)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("with_gaps", [True, False])
def test_a_view_trains_as_torch_trains_it_without_fused_kernels(optimizer: Any, with_gaps: bool):
    values = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    found, expected = [Single(values.clone()[:, :2] if with_gaps else values.clone().t()) for _ in range(2)]
    curvature = torch.linspace(0.1, 1.0, found.weight.numel())
    ours = make_optimizer(found, TrainingConfiguration(optimizer, 0.1, momentum=0.9, weight_decay=0.01))
    for model, rule in ((found, ours), (expected, unfused(ours, expected))):
        for _ in range(5):
            rule.zero_grad()
            (curvature.view(model.weight.shape) * (model.weight - 1) ** 2).sum().backward()
            rule.step()
    assert torch.allclose(found.weight, expected.weight, rtol=1e-4)


@pytest.mark.parametrize("scope", ["all", "matrices"])
def test_a_sparse_gradient_that_no_module_announces_trains_as_a_dense_one(scope: Any):
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.scale = nn.Parameter(torch.ones(5, 2)), nn.Parameter(torch.ones(4))

        def forward(self, index: torch.Tensor, sparse: bool) -> torch.Tensor:
            rows = nn.functional.embedding(index, self.table, sparse=sparse)
            return rows.sum() ** 2 * torch.gather(self.scale, 0, index, sparse_grad=sparse).sum()

    models = [Functional(), Functional()]
    for model, sparse in zip(models, (True, False), strict=True):
        optimizer = make_optimizer(model, TrainingConfiguration("sgd", 1e-3, weight_decay_scope=scope))
        # The first update is dense: the sparse ones may begin later.
        for step in range(3):
            optimizer.zero_grad()
            model(torch.tensor([1, 1, 3]), sparse and step > 0).backward()
            optimizer.step()
    assert torch.allclose(models[0].table, models[1].table, atol=1e-6)
    assert torch.allclose(models[0].scale, models[1].scale, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam"])
def test_a_parameter_that_takes_part_only_later_trains(optimizer: Any):
    models = [nn.ModuleList([nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)])]
    models.append(copy.deepcopy(models[0]))
    ours = make_optimizer(models[0], TrainingConfiguration(optimizer, 0.1, momentum=0.9))
    theirs = unfused(ours, models[1])
    for step in range(4):
        for model, rule in zip(models, (ours, theirs), strict=True):
            rule.zero_grad()
            weights = tuple(model.parameters())[: 1 + step // 2]
            torch.cat(weights).square().sum().backward()
            rule.step()
    for found, expected in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_weight_decay_is_an_l2_term_but_where_it_is_decoupled_and_no_moment_sees_it(name):
    model = nn.Linear(3, 2).double()
    optimizer = make_optimizer(model, TrainingConfiguration(name, 0.1, momentum=0.9, weight_decay=0.5))
    before = model.weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = ("momentum_buffer", "exp_avg", "exp_avg_sq")
    seen = [state[key].abs().sum().item() for state in optimizer.state.values() for key in moments if key in state]
    assert all(seen) != traits(name).decoupled_weight_decay if seen else name == "sgd"
    assert not torch.equal(model.weight, before)
    if name in ("sgd", "momentum", "adamw", "lion", "muon"):
        assert torch.allclose(model.weight, 0.95 * before, rtol=1e-12)
