"""How often `search.stop_early` stops the trial that would have become the best, and how many steps it saves.

The trials are those of a noisy quadratic model (Zhang et al., "Which Algorithmic Choices Matter at Which Batch Sizes?",
2019): for each curvature h of a spectrum the expected square of a weight after an update with rate r is
(1 - r h)^2 times that before it, plus r^2 h times the noise. So a small rate is slow, and a large one is fast and ends
at a high loss unless its schedule decays: curves cross, as in real training. Each study draws rates over three decades,
a difficulty for each trial, and noise of each evaluation; four trials run at a time. With folders of studies that
trained without stop_early, their measured curves are stopped instead, in random orders.

    python scripts/planted_early_stopping.py [DIR ...]
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.search.median_rule import Reached, worse_than_most
from tunectl.core.objective import Objective
from tunectl.space.search_space import StopEarly

STEPS, EVALUATIONS, TRIALS, SLOTS = 2000, 40, 40, 4
STUDIES = 200
SCHEDULES = ("constant", "linear", "cosine")
RULES = [StopEarly("median", grace, trials) for grace in (0.1, 0.25, 0.5) for trials in (5, 10)]
OBJECTIVE = Objective("valid/loss", "minimize")

Curves = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """One study: whether the eventual best was stopped, the loss of value by it, and the share of steps that it saved.

    `regret` is in standard deviations of the values of the better half of the trials.
    """

    lost_best: bool
    regret: float
    saved: float


def quadratic_study(generator: np.random.Generator, schedule: str) -> Curves:
    """The losses of all trials at each evaluation, shape [trials, evaluations]."""
    curvatures = 1.0 / np.arange(1, 41)
    rates = 10 ** generator.uniform(-3, 0.25, TRIALS)
    noise = 10 ** generator.uniform(-2.5, -1.5, TRIALS)
    squares = np.repeat(10 ** generator.normal(0, 0.1, (TRIALS, 1)), len(curvatures), axis=1)
    curves = np.empty((TRIALS, EVALUATIONS))
    for step in range(STEPS):
        left = {"constant": 1.0, "linear": 1 - step / STEPS, "cosine": (1 + np.cos(np.pi * step / STEPS)) / 2}[schedule]
        rate = (rates * left)[:, None]
        squares = np.minimum((1 - rate * curvatures) ** 2 * squares + rate**2 * curvatures * noise[:, None], 1e6)
        if (step + 1) % (STEPS // EVALUATIONS) == 0:
            loss = (squares @ curvatures) / 2
            curves[:, (step + 1) * EVALUATIONS // STEPS - 1] = loss * np.exp(generator.normal(0, 0.03, TRIALS))
    return curves


def stopped(curves: Curves, steps: Sequence[int], rule: StopEarly) -> Outcome:
    """Run the trials in this order, SLOTS at a time, each evaluation taking the same time."""
    count, last = len(curves), steps[-1]
    reached = [Reached(OBJECTIVE) for _ in range(count)]
    waiting, running = list(range(count)), dict[int, int]()
    is_stopped = [False] * count
    while waiting or running:
        while waiting and len(running) < SLOTS:
            running[waiting.pop(0)] = 0
        for trial, place in list(running.items()):
            reached[trial].add(steps[place], float(curves[trial, place]))
            running[trial] = place + 1
            others = [reached[other] for other in range(count) if other != trial and reached[other].steps]
            is_stopped[trial] = worse_than_most(reached[trial], others, rule, last) is not None
            if is_stopped[trial] or place + 1 == len(steps):
                reached[trial].ended = True
                del running[trial]
    best = curves.min(axis=1)
    kept = [trial for trial in range(count) if not is_stopped[trial]]
    spread = float(np.std(np.sort(best)[: count // 2])) or 1.0
    trained = sum(item.steps[-1] for item in reached)
    return Outcome(
        is_stopped[int(np.argmin(best))],
        float(best[kept].min() - best.min()) / spread,
        1 - trained / (count * last),
    )


def measured(folder: Path) -> tuple[Curves, list[int]]:
    """The curves of a study's completed trials at the steps that all have, as numbers to minimise."""
    import pyarrow.parquet as parquet

    from tunectl.language.study_reader import load_study

    objective = load_study(folder / "study.yaml").objective
    with (folder / "tables" / "trials.csv").open() as file:
        completed = {int(row["trial"]) for row in csv.DictReader(file) if row["state"] == "completed"}
    values: dict[int, dict[int, float]] = defaultdict(dict)
    for row in parquet.read_table(folder / "tables" / "measurements.parquet").to_pylist():
        if row["trial"] in completed and row["kind"] == "evaluation" and row["step"] > 0:
            values[row["trial"]][row["step"]] = objective.metric_cost(row[objective.metric])
    steps = sorted(set.intersection(*[set(item) for item in values.values()]))
    return np.array([[item[step] for step in steps] for item in values.values()]), steps


def studies(name: str) -> Iterator[tuple[Curves, list[int]]]:
    """Many studies: simulated ones of a schedule, or the measured one in a folder in random orders."""
    for seed in range(STUDIES):
        generator = np.random.default_rng([seed, 20260101])
        if name in SCHEDULES:
            every = STEPS // EVALUATIONS
            yield quadratic_study(generator, name), list(range(every, STEPS + 1, every))
        else:
            curves, steps = measured(Path(name))
            yield curves[generator.permutation(len(curves))], steps


def main() -> None:
    """Print one line for each kind of study and each rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="DIR", help="folders of studies that trained without stop_early")
    asked = parser.parse_args()
    print(f"{STUDIES} studies each; regret in standard deviations of the better half of the trials")
    print(f"{'studies':24} {'grace':>5} {'trials':>6} {'best stopped':>13} {'mean regret':>12} {'steps saved':>12}")
    for name in (*SCHEDULES, *asked.folders):
        drawn = list(studies(name))
        for rule in RULES:
            found = [stopped(curves, steps, rule) for curves, steps in drawn]
            lost = np.mean([item.lost_best for item in found])
            regret, saved = (np.mean([getattr(item, key) for item in found]) for key in ("regret", "saved"))
            shown = Path(name).name[:24]
            print(f"{shown:24} {rule.grace:5.2f} {rule.min_trials:6} {lost:13.1%} {regret:12.3f} {saved:12.1%}")


if __name__ == "__main__":
    main()
