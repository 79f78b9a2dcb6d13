"""What `curvature` says: for each setting the predicted rate and the measured ones, and what the warmup changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunectl.core.wording import counted
from tunectl.procedures.curvature_measures import Prediction, prediction
from tunectl.procedures.curvature_options import (
    INITIAL,
    WITH,
    WITHOUT,
    CurvatureSweep,
    compared_step,
    warmup_steps,
)
from tunectl.procedures.curvature_runs import RateOutcomes, outcomes_of
from tunectl.procedures.eigenvalue_figures import eigenvalue_figures
from tunectl.procedures.procedure import (
    Conclusion,
    Results,
    SweepSetting,
    covered_settings,
    runs_of,
)


@dataclass(frozen=True)
class SettingFound:
    """What was found in one setting: what the curvature predicts, and what became of the rates."""

    setting: SweepSetting
    prediction: Prediction
    without: RateOutcomes
    with_warmup: RateOutcomes

    @cached_property
    def ratio(self) -> float | None:
        """How far the prediction holds: the nearest measured rate / the predicted one, 1 where the predicted rate is
        between the largest that trained and the smallest that diverged; None where that is not known.

        Above 1 the prediction is too low, below 1 too high.
        """
        predicted, trained, diverged = self.prediction.rate, self.without.trained, self.without.diverged
        if predicted is None:
            return None
        if trained is not None and predicted < trained and (diverged is None or predicted < diverged):
            return min(trained, diverged or trained) / predicted
        if diverged is not None and predicted > diverged:
            return max(diverged, trained or diverged) / predicted if predicted > (trained or 0.0) else 1.0
        return 1.0 if trained is not None and diverged is not None else None

    @property
    def no_ratio(self) -> str | None:
        """Why the ratio is not known; None where it is."""
        if self.ratio is not None:
            return None
        reasons = (self.prediction.reason, self.without.why_none_trained, self.without.why_none_diverged)
        return next(reason for reason in reasons if reason is not None)

    @property
    def factor(self) -> float | None:
        """How many times as large the largest rate that trained is with the warmup."""
        without, with_it = self.without.trained, self.with_warmup.trained
        return None if without is None or with_it is None else with_it / without

    def to_json(self) -> dict[str, Any]:
        """The setting in conclusion.json."""
        none = None if self.factor is not None else (self.without.why_none_trained or "no rate trained with the warmup")
        return {
            "setting": self.setting.name,
            "hyperparameters": dict(self.setting.values),
            **self.prediction.to_json(),
            "largest_rate_that_trained": self.without.trained,
            "none_trained_because": self.without.why_none_trained,
            "smallest_rate_that_diverged": self.without.diverged,
            "none_diverged_because": self.without.why_none_diverged,
            "measured_over_predicted": self.ratio,
            "not_compared_because": self.no_ratio,
            "largest_rate_that_trained_with_warmup": self.with_warmup.trained,
            "smallest_rate_that_diverged_with_warmup": self.with_warmup.diverged,
            "warmup_factor": self.factor,
            "no_warmup_factor_because": none,
        }


def found_in(spec: CurvatureSweep, results: Results) -> list[SettingFound]:
    """What was found, for each setting."""
    initial = runs_of(results, INITIAL)
    return [
        SettingFound(
            setting,
            prediction(initial.get(place, [])),
            outcomes_of(spec, results, WITHOUT, place),
            outcomes_of(spec, results, WITH, place),
        )
        for place, setting in enumerate(covered_settings(spec))
    ]


def concluded(spec: CurvatureSweep, results: Results) -> Conclusion:
    """What the curvature predicts in each setting, what was measured, and the figures."""
    found = found_in(spec, results)
    warmup = warmup_steps(spec)
    several = len(found) > 1
    header = ("lambda_1", "predicted", "trained", "diverged", "ratio", f"warmup_{warmup}", "factor")
    rows = [
        (
            *([item.setting.name] if several else []),
            item.prediction.lambda_1.median if item.prediction.lambda_1 else None,
            item.prediction.rate,
            item.without.trained,
            item.without.diverged,
            item.ratio,
            item.with_warmup.trained,
            item.factor,
        )
        for item in found
    ]
    return Conclusion(
        verdict=_of_several(spec, found) if several else _of_one(spec, found[0]),
        answers={
            "warmup_steps": warmup,
            "compared_at_step": compared_step(spec),
            "settings": [item.to_json() for item in found],
        },
        header=(*(["setting"] if several else []), *header),
        rows=rows,
        figures=eigenvalue_figures(spec, results),
    )


def _of_one(spec: CurvatureSweep, found: SettingFound) -> str:
    first = found.prediction.in_words or f"The curvature at the start is not known ({found.prediction.reason})"
    return f"{first}. {_measured(found)} {_with_warmup(spec, found)}"


def _measured(found: SettingFound) -> str:
    trained, diverged = found.without.trained, found.without.diverged
    parts = [f"the largest rate that trained is {trained:.3g}" if trained is not None else "no rate trained"]
    parts.append(f"the smallest that diverged {diverged:.3g}" if diverged is not None else "none diverged")
    return f"Without a warmup {', '.join(parts)}{_holds(found)}."


def _holds(found: SettingFound) -> str:
    ratio = found.ratio
    if ratio is None:
        return ""
    if ratio == 1.0:
        return ": the prediction holds"
    return f": the prediction is {_off(found, ratio)}"


def _off(found: SettingFound, ratio: float) -> str:
    """How far the prediction is off: the rates of the grid give a lower and, where both are known, an upper limit."""
    way, least = ("too low", ratio) if ratio > 1 else ("too high", 1 / ratio)
    trained, diverged, predicted = found.without.trained, found.without.diverged, found.prediction.rate
    if trained is None or diverged is None or predicted is None:
        return f"{way} by a factor of at least {least:.2g}"
    most = max(max(rate / predicted, predicted / rate) for rate in (trained, diverged))
    return f"{way} by a factor of {least:.2g} to {most:.2g}"


def _with_warmup(spec: CurvatureSweep, found: SettingFound) -> str:
    warmup, with_it, factor = counted(warmup_steps(spec), "step"), found.with_warmup.trained, found.factor
    if with_it is None:
        return f"With a warmup of {warmup} no rate trained."
    text = f"With a warmup of {warmup} rates up to {with_it:.3g} train"
    if factor is None:
        return f"{text}."
    if factor == 1.0:
        return f"{text}, no larger ones than without."
    return f"{text}, {factor:.2g} times as large." if factor > 1 else f"{text}, fewer than without."


def _of_several(spec: CurvatureSweep, found: Sequence[SettingFound]) -> str:
    compared = [(item.ratio, item) for item in found if item.ratio is not None]
    holds = sum(ratio == 1.0 for ratio, _ in compared)
    text = (
        f"In {holds} of {len(found)} settings the rate that the curvature at initialisation predicts to be unstable is "
        "between the largest that trained without a warmup and the smallest that diverged"
    )
    if len(compared) < len(found):
        text += f" ({len(found) - len(compared)} could not be compared)"
    off = [(max(ratio, 1 / ratio), ratio, item) for ratio, item in compared if ratio != 1.0]
    if off:
        _, ratio, item = max(off, key=lambda entry: entry[0])
        text += f"; it is farthest off with {item.setting.name}: {_off(item, ratio)}"
    factors = [(item.factor, item) for item in found if item.factor is not None]
    gained = [(factor, item) for factor, item in factors if factor > 1]
    warmup = counted(warmup_steps(spec), "step")
    if not gained:
        return f"{text}. A warmup of {warmup} allows larger rates in none of them."
    most, item = max(gained, key=lambda entry: entry[0])
    return (
        f"{text}. A warmup of {warmup} allows larger rates in {len(gained)} of {len(found)}, at most {most:.2g} times "
        f"as large ({item.setting.name})."
    )
