"""What the rounds of a campaign gained, and whether more rounds of the same kind are worth their cost.

Deep Learning Tuning Playbook, "A scientific approach to improving model performance": a round builds on what the
rounds before it found, and a change counts if it is larger than what chance gives. The values are means of retrains:
the best trial of a search was selected because it was lucky.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Progress = Literal["improving", "saturated", "not known"]

LAST_ROUNDS = 2
"""Saturation is about the gain of this many last rounds."""

CLEAR_GAIN = 2.0
"""A round that gains this many standard deviations of the retrains improves clearly."""

LEVEL = 0.035
"""A campaign that gains nothing is taken to improve this often. By simulation: with three retrains of each round, a
saturated campaign and one that improves clearly are then each mistaken in less than 5 % of cases
(tests/analysis/comparison/test_campaign_gains.py, scripts/planted_flaws.py).
"""

POWER = 0.95
"""A verdict is given only where rounds that improve clearly would be found to improve this often."""

_NORMAL = statistics.NormalDist()


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a round found: the cost (a number to minimise) of its best trial in the search, None without any.

    `retrains` are the costs of that trial's retrains, infinite for those that ended without a value. `identical`: the
    retrains have different seeds and exactly the same results.
    """

    name: str
    searched: float | None = None
    retrains: tuple[float, ...] = ()
    identical: bool = False

    @property
    def mean(self) -> float | None:
        """The mean of the retrains; None without any, and where one ended without a value."""
        known = self.retrains and not self.identical and all(map(math.isfinite, self.retrains))
        return statistics.fmean(self.retrains) if known else None


@dataclass(frozen=True, slots=True)
class CampaignProgress:
    """Whether the last rounds gained anything.

    `gain` is what the last `rounds` rounds lowered the best mean of retrains by, 0 where they lowered nothing,
    `deviation` the standard deviation of retrains, `needed` the smallest gain that is more than chance gives; each None
    where it is not known. `lacking` are the rounds whose best trial has too few retrains.
    """

    verdict: Progress
    reason: str
    rounds: int = LAST_ROUNDS
    gain: float | None = None
    deviation: float | None = None
    needed: float | None = None
    lacking: tuple[str, ...] = ()


def best_so_far(costs: Sequence[float | None]) -> list[float | None]:
    """The lowest of the costs up to each place; None before the first one that is known."""
    path: list[float | None] = []
    for cost in costs:
        last = path[-1] if path else None
        path.append(cost if last is None else last if cost is None else min(last, cost))
    return path


def pooled_deviation(rounds: Sequence[RoundResult]) -> tuple[float, int] | None:
    """The standard deviation of retrains in these rounds, and its degrees of freedom; None if no round has two."""
    groups = [item.retrains for item in rounds if item.mean is not None and len(item.retrains) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None
    return math.sqrt(sum(statistics.variance(group) * (len(group) - 1) for group in groups) / freedom), freedom


def campaign_progress(rounds: Sequence[RoundResult]) -> CampaignProgress:
    """Judge the last two rounds against the best one before them; rounds without any value are not in `rounds`.

    They improved if the best mean fell by more than the retrain deviation, and by more than chance gives between means
    of that many retrains (one-sided t-test, divided by the number of last rounds, as the better one counts). Otherwise
    the campaign is saturated, if retrains are enough to see a clear gain. The deviation is that of these three rounds:
    the retrains of a bad first round often differ far more. The mean before is the lowest of several, so that it is a
    little too low: real gains look smaller, by less than the deviation of a mean.
    """
    if len(rounds) <= LAST_ROUNDS:
        return CampaignProgress("not known", f"saturation is judged from {LAST_ROUNDS + 1} rounds on")
    earlier, last = rounds[:-LAST_ROUNDS], rounds[-LAST_ROUNDS:]
    # The best of the earlier rounds: the one that the search found best must have been retrained, too.
    ahead = min(earlier, key=lambda item: math.inf if item.searched is None else item.searched)
    lacking = tuple(item.name for item in dict.fromkeys((ahead, *last)) if item.mean is None)
    if lacking:
        return _not_known(rounds, lacking)
    before = min((item for item in earlier if item.mean is not None), key=lambda item: item.mean or 0.0)
    pooled = pooled_deviation([before, *last])
    if pooled is None:
        return _not_known(rounds, lacking)
    deviation, freedom = pooled
    after = min(last, key=lambda item: item.mean or 0.0)
    assert before.mean is not None
    assert after.mean is not None
    gain = max(before.mean - after.mean, 0.0)
    fewest = min(len(item.retrains) for item in last)
    error = deviation * math.sqrt(1 / len(before.retrains) + 1 / fewest)
    needed = max(deviation, _quantile(freedom) * error)
    found = (LAST_ROUNDS, gain, deviation, needed)
    if gain > needed:
        return CampaignProgress("improving", "they gained more than retrains differ by chance", *found)
    if needed + _NORMAL.inv_cdf(POWER) * error > LAST_ROUNDS * CLEAR_GAIN * deviation:
        names = tuple(item.name for item in dict.fromkeys((before, *last)))
        return CampaignProgress("not known", "there are too few retrains to see a clear gain", *found, names)
    return CampaignProgress("saturated", "they gained no more than retrains differ by chance", *found)


def _quantile(freedom: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(1 - LEVEL / LAST_ROUNDS, freedom))


def _not_known(rounds: Sequence[RoundResult], lacking: tuple[str, ...]) -> CampaignProgress:
    if any(item.identical for item in rounds if item.name in lacking):
        reason = "retrains with other seeds give exactly the same results, so that nothing is known of chance"
    elif any(item.retrains for item in rounds if item.name in lacking):
        reason = "retrains ended without a value"
    else:
        reason = "the best trial of a round has no retrains, or a single one"
    return CampaignProgress("not known", reason, lacking=lacking or tuple(item.name for item in rounds[-LAST_ROUNDS:]))
