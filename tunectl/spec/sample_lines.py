"""A sample of what a program prints, to the expression that reads its step and its metrics."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PAIR = re.compile(
    r"(?<![\w/.-])((?:(?:train(?:ing)?|val(?:id(?:ation)?)?|test|eval|dev)\s+)?[A-Za-z_][\w/.-]*)"
    r"(?:\[|\s*[:=]\s*|\s+)\[?([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf))(?![\w.])",
    re.IGNORECASE,
)
"""A name and its number: `loss 0.25`, `loss: 0.25`, `val/loss=nan`, `Epoch [1/10]`, `train loss 0.25`."""

_STEPS = ("step", "steps", "global_step", "iter", "iters", "iteration", "it", "update", "batch", "epoch", "ep")
_MOST_METRICS = 12


@dataclass(frozen=True, slots=True)
class SampleReading:
    """`expression` reads `lines` lines of a sample; `metrics` are the names that it gives, in their order."""

    expression: str
    metrics: tuple[str, ...]
    lines: int


def read_sample(text: str, metric: str | None = None) -> SampleReading | None:
    """The expression for the kind of line that gives a step with metrics most often; None where no line does.

    `metric` is one that the line must hold, by the name that it has there or with / for __.
    """
    lines = [_COLOUR.sub("", line) for line in re.split(r"[\r\n]+", text)]
    kinds: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        names = tuple(found[1] for found in _PAIR.finditer(line))
        if len(names) > 1 and _step_of(names) is not None and len(set(names)) == len(names):
            kinds[names] += 1
    wanted = [names for names in kinds if metric is None or _group(metric) in map(_group, names)]
    if not wanted:
        return None
    # Of kinds equally frequent the one that says more.
    names = max(wanted, key=lambda item: (kinds[item], len(item)))[: _MOST_METRICS + 1]
    step = _step_of(names)
    groups = ["step" if name == step else _group(name) for name in names]
    parts = [_part(name, group, name == step) for name, group in zip(names, groups, strict=True)]
    expression = ".*?".join(parts)
    count = sum(re.search(expression, line) is not None for line in lines)
    if count == 0 or len(set(groups)) < len(groups):
        return None
    metrics = tuple(group.replace("__", "/") for group in groups if group != "step")
    return SampleReading(expression, metrics, count)


def _step_of(names: tuple[str, ...]) -> str | None:
    """The name of the step: the finest that a line has."""
    by_lower = {name.lower().split()[-1]: name for name in reversed(names)}
    return next((by_lower[name] for name in _STEPS if name in by_lower), None)


def _group(name: str) -> str:
    group = re.sub(r"\W+", "_", name.replace("/", "__"))
    return f"{group}_" if group == "step" else group


def _part(name: str, group: str, is_step: bool) -> str:
    number = r"\d+" if is_step else r"[-+.\w]+"
    words = r"\s+".join(re.escape(word) for word in name.split())
    return rf"\b{words}[\s:=\[]+(?P<{group}>{number})"
