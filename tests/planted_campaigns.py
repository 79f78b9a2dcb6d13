"""Simulated campaigns, saturated ones and others.

A round has a search, whose best value is that of the luckiest of its trials, and retrains of its best trial.
*Saturated* ones gain nothing in their last two rounds; the others gain clearly in each, two standard deviations of the
retrains before it or more. Numbers of rounds and retrains, the size of the gains, how much more the retrains of early
rounds differ, and the digits of the metric (a validation set of a thousand examples has few values) vary.
"""

from __future__ import annotations

import numpy as np

from tunectl.analysis.comparison.campaign_gains import LAST_ROUNDS, RoundResult

TRIALS = 20
DEVIATION = 0.01
"""The standard deviation of the retrains of the first round."""


def planted_campaign(seed: int, *, saturated: bool) -> list[RoundResult]:
    """The rounds of the campaign of a seed."""
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
