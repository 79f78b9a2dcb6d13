"""What `lr-sweep` says: its answers, its verdict in words, and the YAML to adopt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunectl.analysis.curves.learning import Learning
from tunectl.core.wording import short_number
from tunectl.procedures.curvature_measures import Prediction
from tunectl.procedures.fitting_steps import FirstGuess, in_words
from tunectl.procedures.lr_options import LrSweep
from tunectl.procedures.rate_confirmation import Confirmed
from tunectl.procedures.rate_judgements import AT_EDGE, RateJudgement, why_apart


@dataclass(frozen=True, slots=True)
class Found:
    """What a sweep found.

    `judgements` are by all runs of each rate. `candidate` is the best of them, None where none is feasible;
    `nominal` is what the sweep alone would name. `unstable` is the smallest unstable rate above the candidate.
    `learning` says whether the candidate is better than a constant prediction.
    `again` are the rates that ran under fresh seeds, `as_good` those that seeds cannot distinguish from the best.
    `early`: the loss goes up in the first steps at twice the best rate, None where that was not looked at. `guess` is
    None where max_train_steps was not asked for. `predicted` is by the curvature where training begins, None for own
    code.
    """

    judgements: Sequence[RateJudgement]
    candidate: Confirmed | None
    nominal: RateJudgement | None
    unstable: RateJudgement | None
    learning: Learning
    again: Sequence[Confirmed]
    as_good: Sequence[float]
    early: bool | None
    extended: bool
    guess: FirstGuess | None
    predicted: Prediction | None = None

    @property
    def best(self) -> Confirmed | None:
        """The best rate; None where none is feasible, or none is better than a constant prediction."""
        return self.candidate if self.learning.better is not False else None

    @property
    def at_boundary(self) -> bool:
        """Whether the best rate is the lowest or the highest that was trained."""
        ends = (self.judgements[0].rate, self.judgements[-1].rate)
        return self.candidate is None or self.candidate.rate in ends

    def partly_unstable(self) -> list[RateJudgement]:
        """The best rate, and those above it up to AT_EDGE times it, of which some seed is unstable."""
        best = self.best
        if best is None:
            return []
        return [
            item for item in self.judgements if best.rate <= item.rate <= AT_EDGE * best.rate and item.unstable_runs
        ]

    @property
    def at_edge(self) -> bool | None:
        """Whether an instability keeps the best rate down; None where the seeds do not say."""
        if self.best is None:
            return None
        if self.unstable is not None and self.unstable.rate <= AT_EDGE * self.best.rate:
            return True
        highest = max([self.best.rate, *self.as_good])
        near = self.unstable is not None and self.unstable.rate <= AT_EDGE * highest
        return None if near or self.partly_unstable() else False


def answers(found: Found) -> dict[str, Any]:
    """The keys of conclusion.json."""
    best, unstable, guess = found.best, found.unstable, found.guess
    predicted = found.predicted
    by_curvature = (
        {}
        if predicted is None
        else {
            "predicted_unstable_learning_rate": predicted.rate,
            "curvature": predicted.to_json() if predicted.is_measured else None,
        }
    )
    return {
        "best_learning_rate": best.rate if best else None,
        "unstable_base_learning_rate": unstable.rate if unstable else None,
        "edge_of_stability": found.at_edge,
        "at_boundary": found.at_boundary,
        "early_instability": found.early,
        "max_train_steps": guess.steps if guess else None,
        "better_than_constant": found.learning.better,
        "unstable_when": (unstable.when or None) if unstable else None,
        "confirmed": bool(best and best.fresh),
        "seeds": len(best.runs) if best else None,
        "lost_seeds": best.lost if best else None,
        "not_distinguishable": list(found.as_good),
        "fastest_constant_rate": guess.rate if guess else None,
        "max_train_steps_resolution": guess.resolution if guess else None,
        **by_curvature,
    }


def verdict(spec: LrSweep, found: Found) -> str:
    """What was found, in sentences."""
    parts = [_nothing(spec, found)] if found.best is None else _of_best(spec, found, found.best)
    parts += _prediction(found)
    if found.guess is not None:
        parts.append(in_words(spec, found.guess))
    return " ".join(parts)


def _prediction(found: Found) -> list[str]:
    """A sentence with the rate that the curvature predicts to be unstable, beside the one that was found."""
    said = "" if found.predicted is None else found.predicted.in_words
    if not said:
        return []
    if found.predicted is None or found.predicted.rate is None:
        return [f"{said}."]
    measured = "none of the sweep is" if found.unstable is None else f"the sweep found {found.unstable.rate:.3g}"
    return [f"{said}; {measured}."]


def _nothing(spec: LrSweep, found: Found) -> str:
    candidate, learning = found.candidate, found.learning
    if candidate is None:
        seeds = "" if found.nominal is None else " under fresh seeds"
        return f"No learning rate in the sweep is feasible{seeds}: try lower ones, or check the model's initialisation."
    metric = spec.objective.metric
    against = []
    if learning.at_start is not None:
        against.append(f"{short_number(learning.at_start)} before training")
    if learning.baseline is not None and learning.loss is not None:
        loss, baseline = short_number(learning.loss), short_number(learning.baseline)
        against.append(f"a {metric.partition('/')[0]}/loss of {loss} against {baseline}")
    reached = "not known" if learning.reached is None else short_number(learning.reached)
    unstable = f" Training is unstable from {found.unstable.rate:g} on." if found.unstable is not None else ""
    return (
        f"No learning rate in the sweep trains better than a constant prediction: {metric} is {reached} "
        f"at {candidate.rate:g}, the best of them ({'; '.join(against)}). No rate can be called the best; "
        f"check the data and its labels, the loss and the model, or train longer.{unstable}"
    )


def _of_best(spec: LrSweep, found: Found, best: Confirmed) -> list[str]:
    (judgement,) = [item for item in found.judgements if item.rate == best.rate]
    value = short_number(judgement.best) if judgement.best is not None else "not finite"
    first = f"The best learning rate is {best.rate:g} ({spec.objective.metric} {value}){_edge(found)}"
    parts = [first, *_certainty(found, best)]
    if found.learning.better is None:
        parts.append(
            "Whether that is better than a constant prediction is not known: there is no baseline_loss, and no "
            "evaluation before training."
        )
    if found.early:
        parts.append("At twice this rate the loss goes up in the first steps, between the evaluations of the study.")
    if found.at_boundary:
        parts.append("It is at the boundary of the sweep: a wider one may find a better rate.")
    elif found.extended:
        parts.append("The sweep was too narrow at first and was extended.")
    return [*parts, *_range_test(spec, best.rate)]


def _edge(found: Found) -> str:
    unstable, at_edge = found.unstable, found.at_edge
    if unstable is None:
        return "; no rate in the sweep is unstable."
    when = f" {unstable.when}" if unstable.when else ""
    if at_edge:
        first, then = (
            ("clip-sweep", "warmup-sweep") if unstable.when == "mid-training" else ("warmup-sweep", "clip-sweep")
        )
        return (
            f", at the edge of stability: at {unstable.rate:g} training is unstable{when} ({unstable.instability}). "
            f"Stabilising it would allow higher rates: try {first}, then {then}."
        )
    if at_edge is False:
        return f", away from the edge: training becomes unstable{when} at {unstable.rate:g} ({unstable.instability})."
    return (
        f"; training becomes unstable{when} at {unstable.rate:g} ({unstable.instability}). Whether that keeps the best "
        "rate down is not certain: warmup-sweep and clip-sweep can show it."
    )


def _certainty(found: Found, best: Confirmed) -> list[str]:
    """By which seeds the best rate was chosen, which others are as good, and which have infeasible seeds."""
    parts = []
    if best.fresh:
        of_rates = f" of {len(found.again)} rates" if len(found.again) > 1 else ", too"
        lost = f"{best.lost} of its {len(best.runs)} seeds are infeasible" if best.lost else "none is infeasible"
        parts.append(f"Under {len(best.fresh)} fresh seeds it is the best{of_rates}, and {lost}.")
        if found.nominal is not None and found.nominal.rate != best.rate:
            parts.append(f"(Without them it would have been {found.nominal.rate:g}.)")
    else:
        parts.append(f"It was chosen by {len(best.runs)} seeds and not confirmed under fresh ones.")
    if found.as_good:
        rates = " and ".join(f"{rate:g}" for rate in found.as_good)
        parts.append(f"The seeds cannot distinguish {rates} from it.")
    again = {item.rate: item for item in found.again}
    for item in found.partly_unstable():
        if not item.unstable or item.rate in again:
            when = f" {item.when}" if item.when else ""
            lost = (
                f", {again[item.rate].lost} of them infeasible" if item.rate in again and again[item.rate].lost else ""
            )
            parts.append(f"At {item.rate:g} {item.unstable_runs} of {item.runs} seeds are unstable{when}{lost}.")
    return parts


def _range_test(spec: LrSweep, best: float) -> list[str]:
    """A sentence that compares it with a range test of the same configuration, where there is one."""
    tested: Mapping[str, Any] = spec.beside.get("range-test", {})
    low, high = tested.get("low"), tested.get("high")
    if not low or not high:
        return []
    said = f"range-test's {low:.2g} to {high:.2g}"
    return [f"{said} includes it."] if low <= best <= high else [f"{said} does not include it: {why_apart(best, high)}"]


def advice(spec: LrSweep, found: Found) -> str:
    """The lines of YAML to adopt; "" where no rate was found."""
    best, guess = found.best, found.guess
    lines = []
    if best is not None:
        runs = best.fresh or best.runs
        values = ", ".join(
            short_number(run.best_value) if run.feasible and run.best_value is not None else run.reason for run in runs
        )
        seeds = ", ".join(str(run.plan.seed) for run in runs)
        chosen = "by which the rate was confirmed" if best.fresh else "by which the rate was chosen"
        lines += [
            f"# {spec.objective.metric}: {values}",
            f"# (one run for each of the seeds {seeds}, {chosen})",
            f"learning_rate: {best.rate:g}",
        ]
        if spec.options.constant and not spec.own_code and spec.values.get("schedule", "constant") != "constant":
            lines.append("schedule: constant")
    if guess is not None and guess.steps is not None:
        lines.append(f"# under training: max_train_steps: {guess.steps}")
    return "\n".join(lines)
