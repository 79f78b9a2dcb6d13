"""What `training: curvature:` is expected to cost, before anything is trained: a model in numbers of gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from tunectl.core.curvature_settings import COLD_EVERY, CurvatureSettings
from tunectl.language.configuration import BATCH_SIZE
from tunectl.language.optimizer_traits import is_adaptive, is_optimizer
from tunectl.language.review_training import longest_trial
from tunectl.language.study_spec import StudySpec

# In gradients of the measured examples, each a forward and a backward pass; by scripts/bench_curvature.py and
# scripts/bench_curvature_trials.py, on two networks and a transformer.
BUILDING = 2.5
"""The gradient, with the graph of its own derivative."""
PRODUCT = 2.0
"""A product of the Hessian and a vector, by the graph that is there."""
FORWARD_PASS = 1 / 3

WARM_PRODUCTS, COLD_PRODUCTS = 16, 20
"""The products until an eigenvalue has converged, from the last eigenvector and from a random vector."""
MORE_PRODUCTS = 4
"""The further products for each further eigenvalue of `eigenvalues`."""
CRITICAL_PASSES = 8
"""The forward passes of a critical learning rate, near the last one."""


@dataclass(frozen=True, slots=True)
class CurvatureCost:
    """The expected cost: `measurements` of one trial, and the `share` of the time of its training that they take.

    `share` is the least and the most over the batch sizes and the optimizers of the study: 0.5 is half as long as the
    training itself.
    """

    measurements: int
    share: tuple[float, float]


def curvature_cost(spec: StudySpec) -> CurvatureCost | None:
    """The expected cost of a study's curvature, None where none is measured, or own code trains.

    The model: the time is proportional to the number of examples of which gradients are taken, in training
    `batch_size` an update. It overestimates where an update of a small batch costs nearly as much as one of a large
    one. A trial is as long as the longest of the study; evaluations and the loading of data are left out of both.
    """
    settings = spec.training.curvature
    if settings is None or spec.own_code:
        return None
    updates = longest_trial(spec)
    measurements = _measurements(settings, updates)
    chosen = [value for item in spec.alternatives("optimizer") for value in item.domain.listed or ()]
    adaptive = {is_adaptive(value) for value in chosen if is_optimizer(value)} or {True}
    costs = [_gradients(settings, measurements, has_preconditioner=each) * settings.examples for each in adaptive]
    least, most = trained_examples(spec)
    return CurvatureCost(measurements, (min(costs) / most, max(costs) / least))


def trained_examples(spec: StudySpec) -> tuple[int, int]:
    """The examples of all updates of the longest trial, with the smallest and with the largest batch of the study."""
    sizes = [int(size) for item in spec.alternatives("batch_size") for size in item.domain.numbers] or [BATCH_SIZE]
    updates = longest_trial(spec)
    return updates * min(sizes), updates * max(sizes)


def _measurements(settings: CurvatureSettings, updates: int) -> int:
    if settings.every is not None:
        return updates // settings.every + 1
    return sum(step <= updates for step in settings.at)


def _gradients(settings: CurvatureSettings, measurements: int, *, has_preconditioner: bool) -> float:
    """The cost of all measurements of a trial, in gradients of the measured examples."""
    cold = -(-measurements // COLD_EVERY)
    more = MORE_PRODUCTS * (settings.eigenvalues - 1)
    found = BUILDING * measurements
    for measure in settings.measures:
        match measure:
            case "lambda_1" | "lambda_min" | "preconditioned":
                if measure == "preconditioned" and not has_preconditioner:
                    continue
                further = more if measure == "lambda_1" else 0
                for number, products in ((cold, COLD_PRODUCTS), (measurements - cold, WARM_PRODUCTS)):
                    found += PRODUCT * number * min(products + further, settings.max_products)
            case "directional" | "gradient_quotient":
                found += PRODUCT * measurements
            case "critical_learning_rate":
                found += FORWARD_PASS * CRITICAL_PASSES * measurements
            case _:
                assert_never(measure)
    return found
