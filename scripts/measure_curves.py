"""How often are flat and rising curves found, and clean ones taken for them? `python scripts/measure_curves.py`.

Curves are drawn by formula (tests/analysis/curve_cases.py). The first table is about `saturated-early` where both
splits go flat at some part of training, the second about `overfitting` where the validation error rises, the third
about both on clean curves, each one trial alone and as studies of four trials. About a minute at the defaults.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from curve_cases import CLEAN_SHAPES, clean_pair, curves_study, flat_from, only_rising, rising_pair  # noqa: E402

from tunectl.analysis.curves.overfitting import overfitting  # noqa: E402
from tunectl.analysis.curves.training_length import saturated_early  # noqa: E402
from tunectl.analysis.findings.finding_evidence import StudyEvidence  # noqa: E402

Pair = Callable[[np.random.Generator], tuple]


def share(seeds: range, draw: Pair, look: Callable[[StudyEvidence], list], trials: int = 1, settings: int = 1) -> float:
    """In what part of the studies of such trials the finding comes."""
    found = 0
    for seed in seeds:
        generator = np.random.default_rng([seed, 50])
        found += bool(look(curves_study([[draw(generator) for _ in range(trials)] for _ in range(settings)])))
    return found / len(seeds)


def flat(seeds: range) -> None:
    """The table of curves that go flat."""
    print(f"{'saturated-early: flat from':34}{'10 %':>8}{'20 %':>8}{'30 %':>8}{'40 %':>8}{'50 %':>8}")
    for evaluations in (20, 50):
        for trials in (1, 4):
            for level in (0.05, 0.4):
                row = []
                for begin in (0.1, 0.2, 0.3, 0.4, 0.5):

                    def draw(generator, begin=begin, evaluations=evaluations, level=level):
                        return tuple(
                            flat_from(generator, begin, evaluations=evaluations, level=part * level)
                            for part in (1, 0.9)
                        )

                    row.append(share(seeds, draw, saturated_early, trials))
                name = f"{evaluations} evaluations, {trials} trials, {level:g}"
                print(f"{name:34}" + "".join(f"{value:8.0%}" for value in row))


def rising(seeds: range) -> None:
    """The table of curves that turn up."""
    print(f"\n{'overfitting: the validation error':34}{'alone':>8}{'of 4':>8}{'3 settings':>12}")
    cases: dict[str, Pair] = {
        "0.120 to 0.200, 10 evaluations": lambda g: rising_pair(g, 0.12, 0.2, evaluations=10, examples=0),
        "0.120 to 0.200, 10, 1,000 examples": lambda g: rising_pair(g, 0.12, 0.2, evaluations=10, examples=1000),
        "0.120 to 0.200, 10, from the first": lambda g: only_rising(g, 0.12, 0.2, evaluations=10),
    }
    for examples in (500, 1000, 2000, 5000, 10000):
        cases[f"0.04 to 0.08, 20, {examples:,} examples"] = lambda g, n=examples: rising_pair(
            g, 0.04, 0.08, evaluations=20, examples=n
        )
    for name, draw in cases.items():
        values = [share(seeds, draw, overfitting, trials, settings) for trials, settings in ((1, 1), (4, 1), (2, 3))]
        print(f"{name:34}{values[0]:8.0%}{values[1]:8.0%}{values[2]:12.0%}")


def clean(seeds: range) -> None:
    """The table of clean curves."""
    print(f"\n{'false alarms on clean curves':34}{'saturated, 1':>14}{'of 4':>10}{'overfitting, 1':>16}{'of 4':>10}")
    for shape in CLEAN_SHAPES:

        def draw(generator, shape=shape):
            return clean_pair(generator, shape, evaluations=int(generator.choice([10, 20, 50])))

        values = [share(seeds, draw, look, trials) for look in (saturated_early, overfitting) for trials in (1, 4)]
        # A flat curve has saturated, and is clean of overfitting alone.
        print(f"{shape:34}{values[0]:14.1%}{values[1]:10.1%}{values[2]:16.1%}{values[3]:10.1%}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help="studies a cell; each clean shape has as many [200]")
    parser.add_argument("--first-seed", type=int, default=20_000, help="the seed to begin with [20000]")
    asked = parser.parse_args()
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    flat(seeds)
    rising(seeds)
    clean(seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
