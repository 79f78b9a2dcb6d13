"""What `batch-scaling` says: critical batch, largest useful batch, and how the best rate moves, in each setting."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tunectl.core.wording import as_text, short_number
from tunectl.procedures.batch_scaling_figures import scaling_figures
from tunectl.procedures.batch_scaling_notes import notes
from tunectl.procedures.batch_scaling_options import BatchScaling, target_of
from tunectl.procedures.batch_scaling_outcomes import FEWEST_MOVES, NEARLY_PERFECT, BatchOutcome, Scaling
from tunectl.procedures.batch_scaling_trials import explored
from tunectl.procedures.procedure import Conclusion, Results, SweepSetting, covered_settings

_HEADER = ("batch_size", "learning_rate", "steps", "speed_up", "perfect", "examples", "seconds", "outcome")


def concluded(spec: BatchScaling, results: Results) -> Conclusion:
    """What was found in each setting, and the figures."""
    settings = covered_settings(spec)
    several = len(settings) > 1
    scalings = [
        # batch-size measures one configuration: the first setting's.
        replace(explored(spec, results, place).scaling, throughput={} if several else _throughput(spec))
        for place, _ in enumerate(settings)
    ]
    pairs = list(zip(settings, scalings, strict=True))
    sentences = [_sentence(scaling) for scaling in scalings]
    if several:
        sentences = [f"{setting.name}: {text}" for setting, text in zip(settings, sentences, strict=True)]
    verdict = " ".join([*sentences, *notes(spec, pairs)])
    found = [_setting(setting, scaling) for setting, scaling in pairs]
    target = {"metric": spec.objective.metric, "direction": spec.objective.direction, "value": target_of(spec)}
    first = {} if several else {key: found[0][key] for key in ("critical_batch_size", "largest_useful_batch_size")}
    return Conclusion(
        verdict=verdict,
        answers={"target": target, **first, "settings": found},
        header=(*(["setting"] if several else []), *_HEADER),
        rows=[
            (*([setting.name] if several else []), *_row(scaling, item))
            for setting, scaling in pairs
            for item in scaling.found
        ],
        figures=scaling_figures(settings, scalings, target_in_words(spec)),
        advice="" if several else _advice(scalings[0]),
    )


def target_in_words(spec: BatchScaling) -> str:
    """The target, such as `valid/accuracy 0.85`."""
    return f"{spec.objective.metric} {as_text(target_of(spec) or 0.0)}"


def _sentence(scaling: Scaling) -> str:
    """Where scaling is nearly perfect, where it ends, and how the best rate moves."""
    parts = [*_extent(scaling), f"No larger batch was tried: {scaling.why_ended}", _rates(scaling)]
    return " ".join(f"{part.rstrip('.')}." for part in parts if part)


def _extent(scaling: Scaling) -> list[str]:
    critical, useful = scaling.critical, scaling.largest_useful
    if critical is None or useful is None:
        return ["The target was not reached at any batch size"]
    first, last = scaling.reached[0], scaling.found[-1]
    if len(scaling.reached) == 1:
        return [f"The target was reached at a batch of {first.batch_size} only"]
    if critical is last:
        sizes = f"from {first.batch_size} to {last.batch_size}"
        return [f"Scaling is nearly perfect over all batch sizes, {sizes}: {_faster(scaling, last)}"]
    if critical is first:
        start = f"Scaling is not nearly perfect at any batch size above {first.batch_size}, the smallest"
    else:
        start = f"Scaling is nearly perfect up to a batch of {critical.batch_size} ({_faster(scaling, critical)})"
    if useful is first:
        return [start, f"No larger batch takes clearly fewer steps than {first.batch_size}"]
    beyond = "the largest that was tried" if useful is last else "beyond it no batch takes clearly fewer steps"
    return [start, f"The largest useful batch is {useful.batch_size} ({_faster(scaling, useful)}); {beyond}"]


def _faster(scaling: Scaling, item: BatchOutcome) -> str:
    return f"{scaling.speed_up(item):.3g} times fewer steps for {scaling.perfect(item):g} times the batch"


def _rates(scaling: Scaling) -> str:
    """How the best rate moves with the batch, "" where one batch size reached the target."""
    growth = scaling.growth
    if growth is None:
        return ""
    size = "the same" if math.isclose(growth, 1) else f"{growth:.3g} times as large"
    over = f"{size} over {scaling.batches:g} times the batch"
    if scaling.is_curvature_limited:
        return (
            f"The best learning rate hardly moves ({over}), and is most often the largest that does not diverge: "
            "curvature-limited. A warmup or another initialisation may allow higher rates, and with them larger batches"
        )
    if scaling.rate_is_still:
        return f"The best learning rate hardly moves ({over}), though it is not the largest that trains"
    if math.isclose(growth, 1):
        return (
            f"The best learning rate is {over}; it is judged from {FEWEST_MOVES:g} times the batch on whether it moves"
        )
    return f"The best learning rate becomes {over}, about as its power {scaling.exponent:.2f}"


def _throughput(spec: BatchScaling) -> dict[int, float]:
    """The seconds of a step by batch size as `batch-size` measured them beside this study; {} where it did not."""
    known = spec.beside.get("batch-size", {}).get("seconds_per_step", {})
    return {int(size): float(seconds) for size, seconds in known.items()} if isinstance(known, dict) else {}


def _row(scaling: Scaling, item: BatchOutcome) -> tuple[object, ...]:
    if not item.reached or item.best is None:
        return (item.batch_size, None, None, None, scaling.perfect(item), None, None, item.why_not)
    outcome = "reached" if not item.edge else f"reached; rate is the {item.edge}"
    return (
        item.batch_size,
        item.best.candidate.rate,
        _whole(item.steps_to_target),
        scaling.speed_up(item),
        scaling.perfect(item),
        _whole(item.examples),
        scaling.seconds(item),
        outcome,
    )


def _whole(value: float) -> float | int:
    """A median of whole numbers, as a whole number where it is one."""
    return int(value) if value == int(value) else value


def _setting(setting: SweepSetting, scaling: Scaling) -> dict[str, Any]:
    """The setting in conclusion.json."""
    critical, useful, fastest = scaling.critical, scaling.largest_useful, scaling.fastest
    return {
        "setting": setting.name,
        "hyperparameters": {name: value for name, value in setting.values.items() if name != "batch_size"},
        "critical_batch_size": critical.batch_size if critical else None,
        "critical_is_largest_tried": critical is not None and critical is scaling.found[-1],
        "largest_useful_batch_size": useful.batch_size if useful else None,
        "useful_is_largest_tried": useful is not None and useful is scaling.found[-1],
        "fastest_batch_size": fastest.batch_size if fastest else None,
        "times_measured_by": "batch-size" if scaling.is_timed_alone else "the trials, which ran side by side",
        "no_larger_batch_because": scaling.why_ended,
        "speed_up": scaling.speed_up(scaling.reached[-1]) if scaling.reached else None,
        "best_rate_growth": scaling.growth,
        "best_rate_exponent": scaling.exponent,
        "batch_growth": scaling.batches,
        "best_rate_is_still": scaling.rate_is_still,
        "curvature_limited": scaling.is_curvature_limited,
        "nearly_perfect_from": NEARLY_PERFECT,
        "batch_sizes": [_batch(scaling, item) for item in scaling.found],
    }


def _batch(scaling: Scaling, item: BatchOutcome) -> dict[str, Any]:
    best = item.best if item.reached else None
    return {
        "batch_size": item.batch_size,
        "learning_rate": best.candidate.rate if best else None,
        "tuned_with_it": dict(best.candidate.others) if best else {},
        "edge_of_the_rates": item.edge or None,
        "steps": item.steps_to_target if best else None,
        "steps_by_seed": [steps if math.isfinite(steps) else None for steps in best.steps] if best else [],
        "resolution": item.every,
        "longest_trial": item.steps,
        "speed_up": scaling.speed_up(item),
        "perfect_speed_up": scaling.perfect(item),
        "examples": item.examples if best else None,
        "seconds_per_step": scaling.step_seconds(item),
        "seconds": scaling.seconds(item),
        "largest_rate_that_trained": item.largest_trained,
        "not_reached_because": item.why_not or None,
    }


def _advice(scaling: Scaling) -> str:
    """The batch size to adopt, with what was tuned at it: the fastest one, else the largest useful one."""
    chosen = scaling.fastest or scaling.largest_useful
    if chosen is None or chosen.best is None or len(scaling.reached) < 2:
        return ""
    why = "the largest useful batch"
    if scaling.fastest:
        measured = "as batch-size measured the time of a step" if scaling.is_timed_alone else "measured in these trials"
        why = f"the shortest training time, {measured}"
    lines = [f"# {why}, at a constant learning rate", f"batch_size: {chosen.batch_size}"]
    edge = f"  # the {chosen.edge} that was tried: the best one may be beyond it" if chosen.edge else ""
    lines.append(f"learning_rate: {short_number(chosen.best.candidate.rate)}{edge}")
    lines += [f"{name}: {as_text(value)}" for name, value in chosen.best.candidate.others.items()]
    return "\n".join(lines)
