"""What Bayesian optimisation gains after exploration: regret and infeasible trials on surfaces with a known optimum.

On each surface the best point is beside an edge beyond which trials are infeasible, as a learning rate beside the edge
of stability. An exploration of 20 Halton points is followed by 20 more trials: by the engine of `sampler: bayesian`, by
Halton (20 more, and 40 more), or by Optuna's TPE. The table says the median regret (the true cost of the best feasible
trial, less the lowest possible) and the share of infeasible trials among those that followed. Exit code 1 if the engine
proposes infeasible points more often than Halton on any surface, or has a larger median regret than Halton.
`python scripts/bench_bayesian.py --seeds 20 --processes 2`; its cost is printed first.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before torch is loaded

import argparse
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from tunectl.space.halton import halton_points
from tunectl.suggestions.engine_files import EngineDimension, EngineRequest, FinishedPoint

EXPLORED, FURTHER = 20, 20
SECONDS_A_POINT = 0.2  # of the engine, on one core
Point = tuple[float, ...]


@dataclass(frozen=True)
class Surface:
    """A cost to minimise, 0 at its best feasible point, the deviation of its noise, and where trials are infeasible."""

    name: str
    dimensions: int
    cost: Callable[[Point], float]
    infeasible: Callable[[Point], bool]
    noise: float


def bowl(point: Point) -> float:
    return (point[0] - 0.62) ** 2 + 0.3 * (point[1] - 0.4) ** 2


def beyond_a_rate(point: Point) -> bool:
    return point[0] > 0.65 + 0.15 * (point[1] - 0.5)


def ridge(point: Point) -> float:
    """The best is along the edge, two more hyperparameters matter little, and far away costs grow fast."""
    distance = abs(0.97 - point[0] - point[1])
    rest = 0.4 * (point[0] - 0.55) ** 2 + 0.1 * (point[2] - 0.3) ** 2 + 0.05 * (point[3] - 0.7) ** 2
    return math.expm1(4 * (distance**1.5 + rest))


def beyond_a_sum(point: Point) -> bool:
    return point[0] + point[1] > 1.0


def cliff(point: Point) -> float:
    """Results improve up to the edge; costs far below it are hundred times larger than those near it."""
    return (math.exp(6 * max(0.7 - point[0], 0.0)) - 1) / 10 + (point[1] - 0.5) ** 2 + 0.2 * (point[2] - 0.5) ** 2


def beyond_the_cliff(point: Point) -> bool:
    return point[0] > 0.7 - 0.2 * (point[2] - 0.5) ** 2


SURFACES = (
    Surface("bowl, 2", 2, bowl, beyond_a_rate, 0.002),
    Surface("ridge, 4", 4, ridge, beyond_a_sum, 0.02),
    Surface("cliff, 3", 3, cliff, beyond_the_cliff, 0.01),
)
Propose = Callable[[Surface, int, list[FinishedPoint]], Point]


def explored(surface: Surface, seed: int, count: int) -> list[FinishedPoint]:
    points = halton_points(seed, surface.dimensions, 0, count).tolist()
    return [measured(surface, seed, number, tuple(point)) for number, point in enumerate(points)]


def measured(surface: Surface, seed: int, number: int, point: Point) -> FinishedPoint:
    noise = surface.noise * np.random.default_rng((seed, number)).normal()
    return FinishedPoint(point, None if surface.infeasible(point) else surface.cost(point) + noise)


def by_engine(surface: Surface, seed: int, finished: list[FinishedPoint]) -> Point:
    from tunectl.suggestions.engine import proposed

    dimensions = tuple(EngineDimension(f"x{number}", "real") for number in range(surface.dimensions))
    request = EngineRequest(seed * 1000 + len(finished), 1, dimensions, tuple(finished))
    return proposed(request)[0][0]


def by_tpe(surface: Surface, seed: int, finished: list[FinishedPoint]) -> Point:
    """TPE with a violated constraint for infeasible trials, as Optuna recommends it."""
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed * 1000 + len(finished)))
    scale = {f"x{number}": optuna.distributions.FloatDistribution(0, 1) for number in range(surface.dimensions)}
    worst = max(item.cost for item in finished if item.cost is not None)
    for item in finished:
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(zip(scale, item.coordinates, strict=True)),
                distributions=dict(scale),
                value=worst if item.cost is None else item.cost,
                constraints={"feasible": 1.0 if item.cost is None else -1.0},
            )
        )
    return tuple(study.ask(fixed_distributions=dict(scale)).params.values())


MODELS: dict[str, Propose] = {"engine": by_engine, "TPE": by_tpe}


@dataclass(frozen=True)
class Result:
    """What one search has found: its regret, and the infeasible ones among `further` trials."""

    regret: float
    infeasible: int
    further: int


def searched(method: str, surface: Surface, seed: int) -> Result:
    if method in MODELS:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        finished = explored(surface, seed, EXPLORED)
        for number in range(EXPLORED, EXPLORED + FURTHER):
            finished.append(measured(surface, seed, number, MODELS[method](surface, seed, finished)))
    else:
        finished = explored(surface, seed, EXPLORED + FURTHER * (2 if method == "Halton, twice" else 1))
    further = finished[EXPLORED:]
    # Chosen by what was measured, judged by what is true.
    best = min((item for item in finished if item.cost is not None), key=lambda item: item.cost or 0.0)
    return Result(surface.cost(best.coordinates), sum(item.cost is None for item in further), len(further))


METHODS = ("engine", "Halton", "Halton, twice", "TPE")


def row(surface: Surface, method: str, results: Sequence[Result]) -> str:
    regrets = sorted(item.regret for item in results)
    share = sum(item.infeasible for item in results) / sum(item.further for item in results)
    low, high = regrets[len(regrets) // 4], regrets[3 * len(regrets) // 4]
    return f"{surface.name:<10} {method:<14} {statistics.median(regrets):9.4f} {low:9.4f} {high:9.4f} {share:11.2f}"


def judged(by_method: dict[str, list[Result]]) -> bool:
    engine, halton = by_method["engine"], by_method["Halton"]
    lost = [sum(item.infeasible for item in results) for results in (engine, halton)]
    regret = [statistics.median(item.regret for item in results) for results in (engine, halton)]
    return lost[0] <= lost[1] and regret[0] <= regret[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    points = options.seeds * FURTHER * len(SURFACES)
    minutes = points * SECONDS_A_POINT / options.processes / 60
    print(f"{points:,} points by the engine, some {minutes:.0f} minutes in {options.processes} processes")
    print(f"{'surface':<10} {'method':<14} {'regret':>9} {'quartiles':>19} {'infeasible':>11}")
    begun, good = time.monotonic(), True
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        jobs = {
            (surface.name, method): [
                pool.submit(searched_by_name, method, surface.name, seed) for seed in range(options.seeds)
            ]
            for surface in SURFACES
            for method in METHODS
        }
        for surface in SURFACES:
            results = {method: [job.result() for job in jobs[surface.name, method]] for method in METHODS}
            for method in METHODS:
                print(row(surface, method, results[method]), flush=True)
            good = good and judged(results)
    print(f"{time.monotonic() - begun:.0f} s")
    return 0 if good else 1


def searched_by_name(method: str, surface: str, seed: int) -> Result:
    return searched(method, next(item for item in SURFACES if item.name == surface), seed)


if __name__ == "__main__":
    sys.exit(main())
