"""Simulated studies with planted effects: what responds, which pair interacts, what decides feasibility.

The points are those that a real study would sample; the loss is a formula of the positions, its deviation over the
space about 1, plus normal noise of a given deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from simulated_studies import Shape
from study_of_losses import study_by_positions

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.language.study_reader import parse_study

At = Mapping[str, float]
FIVE = ("learning_rate", "weight_decay", "momentum", "label_smoothing", "num_layers")
CONDITIONAL = """\
study: simulated
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/error_rate, direction: minimize}
training: {max_train_steps: 100, eval_every: 50}
hyperparameters:
  optimizer: {role: nuisance, values: [nesterov, adam]}
  learning_rate:
    - {role: nuisance, when: {optimizer: nesterov}, range: [1e-3, 1], scale: log}
    - {role: nuisance, when: {optimizer: adam}, range: [1e-5, 1e-1], scale: log}
  momentum: {role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.995], scale: one_minus_log}
  weight_decay: {role: nuisance, range: [1e-6, 1e-2], scale: log}
search: {trials: {trials}, seed: {seed}}
"""


@dataclass(frozen=True)
class Planted:
    """A surface: `loss` takes the positions and an offset in [-1, 1], which moves the optimum.

    `responding` are the keys that the loss depends on, `pair` the two that interact, `deciding` those that decide
    whether a trial is infeasible: above `edge` on the learning rate, elsewhere a share of `scattered`. With less than
    `fewest` trials so few are feasible that nothing is clear. `allowed` are named rightly or not.
    """

    loss: Callable[[At, float], float]
    responding: frozenset[str] = frozenset()
    pair: frozenset[str] = frozenset()
    deciding: frozenset[str] = frozenset()
    names: tuple[str, ...] = FIVE
    domains: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    edge: float = 2.0
    scattered: float = 0.0
    fewest: int = 0
    allowed: frozenset[str] = frozenset()


def _additive(at: At, offset: float) -> float:
    return 9.5 * (at["learning_rate"] - 0.5 - 0.15 * offset) ** 2 + 2.4 * at["num_layers"]


def _valley(at: At, offset: float) -> float:
    return 5.0 * (at["learning_rate"] - at["momentum"] - 0.15 * offset) ** 2


def _saddle(at: At, offset: float) -> float:
    return 12.0 * (at["learning_rate"] - 0.5) * (at["momentum"] - 0.5) * (1 if offset > 0 else -1)


def _by_category(at: At, offset: float) -> float:
    """The best learning rate is high with one activation, low with another, in the middle with a third."""
    best = (at["activation"] - 0.5) * (1 if offset > 0 else -1) + 0.5
    return 9.0 * (at["learning_rate"] - best) ** 2


def _below_an_edge(at: At, offset: float) -> float:
    return 9.5 * (at["weight_decay"] - 0.5 - 0.15 * offset) ** 2 + 2.4 * at["num_layers"]


def _conditional(at: At, offset: float) -> float:
    """The other optimizer has the mean loss of this one; in ranks it may differ, as the bowl is skewed."""
    mean = 8.0 * (1 / 12 + (0.2 * offset) ** 2)
    return 8.0 * (at["momentum"] - 0.5 - 0.2 * offset) ** 2 if "momentum" in at else mean


def _nothing(_at: At, _offset: float) -> float:
    return 0.0


_BEST = frozenset({"learning_rate", "num_layers"})
_BOTH = frozenset({"learning_rate", "momentum"})
PLANTED: Mapping[str, Planted] = {
    "additive": Planted(_additive, _BEST),
    "additive, a quarter infeasible": Planted(_additive, _BEST, scattered=0.25, fewest=40),
    "below an edge": Planted(
        _below_an_edge,
        frozenset({"weight_decay", "num_layers"}),
        deciding=frozenset({"learning_rate"}),
        edge=0.7,
        fewest=40,
    ),
    "valley": Planted(_valley, _BOTH, _BOTH),
    "saddle": Planted(_saddle, _BOTH, _BOTH),
    "by category": Planted(
        _by_category,
        frozenset({"learning_rate", "activation"}),
        frozenset({"learning_rate", "activation"}),
        names=("learning_rate", "weight_decay", "activation", "width", "label_smoothing"),
    ),
    "conditional": Planted(_conditional, frozenset({"momentum"}), text=CONDITIONAL, allowed=frozenset({"optimizer"})),
    "nothing": Planted(_nothing),
    "nothing, a quarter infeasible": Planted(_nothing, scattered=0.25),
}


def planted_effects(name: str, seed: int, trials: int, noise: float, *, settings: int = 1) -> StudyEvidence:
    """The study of a seed with the effects of this name; `nothing` has a loss of noise alone."""
    planted = PLANTED[name]
    generator = np.random.default_rng([seed, 60])
    offset = float(generator.uniform(-1, 1))
    shape = Shape(names=planted.names, trials=trials, settings=settings, domains=planted.domains)
    text = (planted.text or shape.text()).replace("{seed}", str(seed)).replace("{trials}", str(trials))

    def loss(generator: np.random.Generator, at: At) -> float:
        value = planted.loss(at, offset) + noise * generator.normal()
        lost = at.get("learning_rate", 0.0) > planted.edge or generator.uniform() < planted.scattered
        return math.inf if lost else value

    return study_by_positions(parse_study(text, Path("/studies/simulated.yaml")), generator, loss)
