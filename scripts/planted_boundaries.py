"""When does `search-boundary` speak, and when wrongly? `python scripts/planted_boundaries.py`.

The points are those that a real study would sample; the losses are simulated. On surfaces where nothing makes a
difference (normal noise, noise of four values with ties, a quarter of the trials infeasible) the table says in which
part of the studies any end is called crowded, by the number of trials a setting, of hyperparameters that vary, and of
settings. Where the learning rate is best at an end (in perfect order, with noise of a twentieth of the range, or beside
bowls of the others) it says in which part that end is found. `--studies` for each number. Exit code 1 if a row has
more than 5 % false alarms beyond the error of the simulation, or a perfect order is missed. Some four minutes of CPU
time at the default.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from simulated_studies import DOMAINS, Response, Shape, evidence_of  # noqa: E402

from tunectl.analysis.comparison.setting_axes import SettingAxis, setting_axes  # noqa: E402
from tunectl.analysis.results.runs import Floats  # noqa: E402
from tunectl.analysis.search.boundary import crowded_ends  # noqa: E402
from tunectl.analysis.updates.stability_edge import SearchPlaces, stability_edges  # noqa: E402

TRIALS = (5, 6, 8, 10, 12, 16, 20, 40)
NAMES = tuple(DOMAINS)[:4]
DESIGNS = 8
"""Number of studies that are sampled for each number of trials; the losses are drawn again for each."""

ALARMS = 0.05
FOUND = 0.95
PERFECT = "perfect order"
Surface = Callable[[np.random.Generator, list[Floats]], Floats]
"""Losses of a setting's trials from their positions, by hyperparameter, the learning rate first."""


def infeasible(generator: np.random.Generator, positions: list[Floats]) -> Floats:
    losses = generator.normal(size=len(positions[0]))
    losses[generator.uniform(size=len(losses)) < 0.25] = np.inf
    return losses


def beside_bowls(generator: np.random.Generator, positions: list[Floats]) -> Floats:
    bowls = sum((2 * (at - 0.5) ** 2 for at in positions[1:]), np.zeros(len(positions[0])))
    return positions[0] + bowls + 0.1 * generator.normal(size=len(positions[0]))


FLAT: dict[str, Surface] = {
    "noise": lambda generator, positions: generator.normal(size=len(positions[0])),
    "ties": lambda generator, positions: generator.integers(0, 4, len(positions[0])).astype(float),
    "infeasible": infeasible,
}
PLANTED: dict[str, Surface] = {
    PERFECT: lambda _generator, positions: positions[0].copy(),
    "clear order": lambda generator, positions: positions[0] + 0.05 * generator.normal(size=len(positions[0])),
    "beside bowls": beside_bowls,
}


def designs(trials: int, varying: int, settings: int) -> list[list[SettingAxis]]:
    """The axes of some studies, without their losses."""
    response = Response(dict.fromkeys(NAMES, 0.5), dict.fromkeys(NAMES, 0.0), (0.0,) * settings)
    shape = Shape(names=NAMES[:varying], trials=trials, settings=settings)
    return [setting_axes(evidence_of(seed, shape, response)) for seed in range(DESIGNS)]


def crowded(generator: np.random.Generator, axes: list[SettingAxis], surface: Surface) -> set[str]:
    """The hyperparameters with an end that is called crowded."""
    losses = {
        setting: surface(generator, [axis.positions for axis in axes if axis.setting == setting])
        for setting in {axis.setting for axis in axes}
    }
    drawn = tuple(replace(axis, costs=losses[axis.setting]) for axis in axes)
    return {item.axis.hyperparameter.key for item in crowded_ends(SearchPlaces(drawn, tuple(stability_edges(drawn))))}


def share(surface: Surface, studies: int, shape: tuple[int, int, int], *, only: str = "") -> float:
    """In which part of the studies of (trials, varying, settings) any hyperparameter, or that one alone, is named."""
    generator, sampled = np.random.default_rng(shape), designs(*shape)
    named = [crowded(generator, sampled[study % DESIGNS], surface) for study in range(studies)]
    return sum(only in names if only else bool(names) for names in named) / studies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="studies for each number [200]")
    studies = parser.parse_args().studies
    most = ALARMS + 3 * math.sqrt(ALARMS * (1 - ALARMS) / (studies * len(TRIALS)))
    wrong = False
    print(f"{'':16}{'varying':>8}{'settings':>9}" + "".join(f"{f'{trials} trials':>10}" for trials in TRIALS))
    for name, surface in {**FLAT, **PLANTED}.items():
        for varying, settings in ((1, 1), (2, 1), (3, 1), (4, 1), (2, 3)):
            only = "learning_rate" if name in PLANTED else ""
            row = [share(surface, studies, (trials, varying, settings), only=only) for trials in TRIALS]
            print(f"{name:16}{varying:8}{settings:9}" + "".join(f"{part:10.1%}" for part in row), flush=True)
            wrong |= name in FLAT and sum(row) / len(row) > most
            wrong |= name == PERFECT and min(row) < FOUND
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
