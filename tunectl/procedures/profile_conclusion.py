"""What `profile` says: the parts of the time, what to change first, and what each change brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunectl.analysis.figures.figures import Axis, Box, BoxesFigure, Figure
from tunectl.core.wording import percentage, short_number
from tunectl.procedures.procedure import Conclusion, SweepSpec
from tunectl.procedures.profile_parts import NAMES, Parts, seconds_of_parts, seconds_of_update
from tunectl.procedures.profile_proposals import COMPUTING, WORTH_TRYING, TimedChange, helpful

HEADER = ("what", "ms", "lowest", "highest", "share", "outcome")
"""The table's columns: milliseconds of an update, the median of the trials with the lowest and the highest; their share
of the time without a change.
"""

READING, COLLATING = "reading examples", "making batches"


def conclusion(
    spec: SweepSpec[Any], known: Sequence[Parts], tried: Sequence[TimedChange], in_all: TimedChange | None
) -> Conclusion:
    """The conclusion from the trials as they are, those with one change, and those with all changes that help."""
    each = [seconds_of_parts(spec, item) for item in known]
    totals = [seconds_of_update(spec, item) for item in known]
    total = float(np.median(totals))
    shares = {name: float(np.median([seconds[name] for seconds in each])) / total for name in NAMES}
    best = helpful(tried)
    changes = [*tried, *([in_all] if in_all is not None else [])]
    return Conclusion(
        verdict=_verdict(total, shares, tried, in_all),
        answers={
            "seconds_per_update": total,
            "shares": shares,
            "data_workers": known[0].workers,
            "reading_seconds": float(np.median([item.reading for item in known])),
            "busiest_worker": float(np.median([item.busiest_worker for item in known])),
            "idlest_worker": float(np.median([item.idlest_worker for item in known])),
            "first": best[0].change.name if best else None,
            "changes": [_answer(item) for item in changes],
        },
        header=HEADER,
        rows=[
            *[_row(name, [seconds[name] for seconds in each], total) for name in NAMES],
            _row("all of an update", totals, total),
            *_of_processes(known, total),
            *[_tried_row(item) for item in changes],
        ],
        figures=_figures(each, totals, changes),
        advice=_advice(best),
    )


def _answer(item: TimedChange) -> dict[str, Any]:
    return {
        "change": item.change.name,
        "seconds_before": item.before,
        "seconds_after": item.after,
        "gain": item.gain if item.works else None,
        "helps": item.helps,
        "outcome": _outcome(item),
    }


def _row(name: str, seconds: Sequence[float], total: float, outcome: str = "") -> tuple[object, ...]:
    middle = float(np.median(seconds))
    return (
        name,
        *(1000 * value for value in (middle, min(seconds), max(seconds))),
        round(middle / total, 3),
        outcome or None,
    )


def _of_processes(known: Sequence[Parts], total: float) -> list[tuple[object, ...]]:
    """What the processes do that make the batches: it may go on while the device computes."""
    if not any(item.reading for item in known):
        return []
    workers = known[0].workers
    busy = [item.busiest_worker for item in known], [item.idlest_worker for item in known]
    most, least = (percentage(float(np.median(values))) for values in busy)
    span = most if most == least else f"{least} to {most}"
    where = f"{workers} process{'es' if workers > 1 else ''}, {span} busy" if workers else "within waiting"
    return [
        _row(READING, [item.reading for item in known], total, where),
        _row(COLLATING, [item.facts["collating"] for item in known], total, "timed apart"),
    ]


def _tried_row(item: TimedChange) -> tuple[object, ...]:
    if not item.works:
        return (item.change.name, None, None, None, None, _outcome(item))
    return _row(item.change.name, item.after, float(np.median(item.before)), _outcome(item))


def _outcome(item: TimedChange) -> str:
    if not item.works:
        return f"does not work ({item.reason})"
    if item.helps:
        return f"saves {percentage(item.gain)}"
    return f"costs {percentage(-item.gain)}" if item.harms else "no clear gain"


def _milliseconds(seconds: float) -> str:
    return f"{short_number(1000 * seconds, 3)} ms"


def _verdict(total: float, shares: dict[str, float], tried: Sequence[TimedChange], in_all: TimedChange | None) -> str:
    listed = ", ".join(f"{percentage(shares[name])} {name}" for name in NAMES)
    text = f"An update takes {_milliseconds(total)}, with its part of evaluations and checkpoints: {listed}."
    best = helpful(tried)
    if best:
        first = best[0]
        text += (
            f" Change first: {first.change.name} saves {percentage(first.gain)} of the time"
            f" ({_milliseconds(float(np.median(first.before)))} before,"
            f" {_milliseconds(float(np.median(first.after)))} after, {len(first.after)} trials of each)."
        )
        others = [f"{item.change.name} saves {percentage(item.gain)}" for item in best[1:]]
        text += f" By itself, {'; '.join(others)}." if others else ""
        if in_all is not None and in_all.works:
            text += f" All of these together save {percentage(in_all.gain)}."
    elif tried:
        text += f" None of the {len(tried)} changes that were tried saves time beyond the noise."
    else:
        text += f" No setting can save {percentage(WORTH_TRYING)} of it or more, so none was tried."
    if max(shares, key=lambda name: shares[name]) == COMPUTING:
        text += " Most of the time is computing: see batch-size, and training's precision."
    return text


def _advice(best: Sequence[TimedChange]) -> str:
    """The lines of YAML to adopt: of several for one key the best."""
    seen: set[str] = set()
    lines = []
    for item in best:
        if item.change.key in seen:
            continue
        seen.add(item.change.key)
        line = f"{item.change.section}: {{{item.change.name}}}" if item.change.section else item.change.name
        lines.append(f"{line}  # saves {percentage(item.gain)} of the time")
    return "\n".join(lines)


def _figures(each: Sequence[dict[str, float]], totals: Sequence[float], changes: Sequence[TimedChange]) -> list[Figure]:
    of_parts = [_box(name, [seconds[name] for seconds in each]) for name in NAMES]
    of_changes = [
        _box("as it is", totals),
        *[_box(item.change.name, item.after) for item in changes if item.works],
    ]
    highest = max(box.high for box in (*of_parts, *of_changes))
    axis = Axis("milliseconds of an update", searched=(0.0, highest))
    found: list[Figure] = [
        BoxesFigure("parts", "What an update takes", Axis("", "category", tuple(NAMES)), axis, of_parts)
    ]
    if len(of_changes) > 1:
        names = tuple(str(box.x) for box in of_changes)
        title = "What an update takes, by what was changed"
        found.append(BoxesFigure("changes", title, Axis("", "category", names), axis, of_changes))
    return found


def _box(name: str, seconds: Sequence[float]) -> Box:
    low, lower, median, upper, high = (1000 * float(value) for value in np.quantile(seconds, (0, 0.25, 0.5, 0.75, 1)))
    return Box(name, low, lower, median, upper, high)
