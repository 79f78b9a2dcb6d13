"""Is saturation found where it was planted, and not elsewhere? `python scripts/planted_saturation.py`.

Campaigns are simulated: rounds with a search, whose best value is that of the luckiest of its trials, and with retrains
of its best trial. *Saturated* ones gain nothing in their last two rounds, *improving* ones gain clearly in each round,
two standard deviations of the retrains before it or more. Numbers of rounds and retrains, the size of the gains, how
much more the retrains of early rounds differ, and the digits of the metric (a validation set of a thousand examples has
few values) vary. Exit code 1 if fewer than 95 % of
the saturated ones are found, or more than 5 % of the improving ones are called saturated. A few seconds.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from tunectl.analysis.comparison.campaign_gains import LAST_ROUNDS, RoundResult, campaign_progress

FOUND = 0.95
ALARMS = 0.05
TRIALS = 20
DEVIATION = 0.01
"""The standard deviation of the retrains of the first round."""


def campaign(seed: int, *, saturated: bool) -> list[RoundResult]:
    """The rounds of one campaign."""
    draws = np.random.default_rng(seed)
    count, retrains = int(draws.integers(3, 8)), int(draws.integers(3, 8))
    examples = int(draws.choice([0, 1000, 10_000]))
    calming = float(draws.choice([1.0, 0.8, 0.6]))
    level, deviation, rounds = 0.5, DEVIATION, []
    for number in range(count):
        gains = number > 0 and not (saturated and number >= count - LAST_ROUNDS)
        if gains:
            level -= float(draws.uniform(2, 6)) * deviation
            deviation *= calming
        # The trials of a search spread above their best: the luckiest of the good ones wins.
        search = level + np.abs(draws.normal(0, 5, TRIALS)) * deviation + draws.normal(0, deviation, TRIALS)
        again = level + draws.normal(0, deviation, retrains)
        values = [_measured(value, examples) for value in (float(search.min()), *again.tolist())]
        rounds.append(RoundResult(f"round {number + 1}", values[0], tuple(values[1:])))
    return rounds


def _measured(value: float, examples: int) -> float:
    return round(value * examples) / examples if examples else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=400, help="campaigns of each kind [400]")
    parser.add_argument("--first-seed", type=int, default=10_000, help="the seed to begin with [10000]")
    asked = parser.parse_args()
    seeds = range(asked.first_seed, asked.first_seed + asked.campaigns)
    verdicts = {
        planted: [campaign_progress(campaign(seed, saturated=planted)).verdict for seed in seeds]
        for planted in (True, False)
    }
    found, alarms = (verdicts[planted].count("saturated") / len(seeds) for planted in (True, False))
    # The columns of planted_flaws.py.
    print(f"{'':30}{'':>8}{'':>8}   in {len(seeds)} improving campaigns")
    print(f"{'flaw':30}{'planted':>8}{'found':>8}   {'warning':>9}")
    print(f"{'saturated':30}{len(seeds):8d}{found:8.0%}   {alarms:9.1%}")
    unknown = sum(of_kind.count("not known") for of_kind in verdicts.values())
    print(f"not known: {unknown} of {2 * len(seeds)} campaigns")
    return int(found < FOUND or alarms > ALARMS)


if __name__ == "__main__":
    sys.exit(main())
