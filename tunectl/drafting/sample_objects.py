"""Proposed `workload.metrics` entries, and the one for JSON objects and Python dicts in a sample of output."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tunectl.core.own_code_request import TRAINING_LOSS
from tunectl.core.printed_numbers import number
from tunectl.core.printed_objects import printed_object
from tunectl.core.wording import printable
from tunectl.language.progress_output import EPOCHS, MEASURE, STEPS, is_metric
from tunectl.language.study_edit import in_flow

_TRAINING_LOSSES = ("train_loss", "training_loss", "loss_train", "loss")


@dataclass(frozen=True, slots=True)
class ProposedSource:
    """An entry of `workload.metrics`: an expression for lines, or None for JSON objects and Python dicts.

    `metrics` are the names that the study gets. `lines` is how many lines of the sample it reads. `step`, `offset`,
    `every` and `names` are the keys of the entry; `remark` is for the comment above it. `training_loss` is the key of a
    metric that may be the training loss, "" if there is none.
    """

    metrics: tuple[str, ...]
    lines: int
    expression: str | None = None
    step: str = "step"
    offset: int = 0
    every: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""
    training_loss: str = ""

    def key_of(self, metric: str) -> str:
        """The key in `names` of a metric that is not renamed."""
        return metric if self.expression is None else metric.replace("/", "__")

    def in_yaml(self, sample: str) -> list[str]:
        """The lines of the entry, with a comment; `sample` is the sample's file name."""
        count = "1 line" if self.lines == 1 else f"{self.lines} lines"
        lines = [f"# This reads {count} of {printable(sample)} and gives {printable(', '.join(self.metrics))}"]
        lines += [f"# ({self.remark})"] if self.remark else []
        lines.append("- json_lines: stdout" if self.expression is None else f"- regex: {_quoted(self.expression)}")
        lines += [f"  step: {in_flow(self.step)}"] if self.step != "step" else []
        lines += [f"  offset: {self.offset}    # it counts from 0: its first line is step 1"] * (self.offset != 0)
        lines += [f"  every: {self.every}    # steps from one such line to the next"] if self.every is not None else []
        lines += [f"  names: {in_flow(dict(self.names))}"] if self.names else []
        if self.training_loss:
            names = in_flow({**self.names, self.training_loss: TRAINING_LOSS})
            place = " in place of the line above" if self.names else ""
            lines.append(
                f"  # names: {names}    # uncomment{place} if {printable(self.training_loss)} is the training loss, "
                "to find trials that diverge"
            )
        return lines


def with_training_loss(sources: Sequence[ProposedSource], metric: str | None) -> list[ProposedSource]:
    """The entries; if none names the training loss, the first that may have it proposes a name for it.

    `metric` is the metric to select by, which keeps its name.
    """
    given = [name for source in sources for name in source.metrics]
    if TRAINING_LOSS in given:
        return list(sources)
    for wanted in _TRAINING_LOSSES:
        for index, source in enumerate(sources):
            for name in source.metrics:
                if name != metric and re.sub(r"[\W_]+", "_", name).lower() == wanted:
                    return [*sources[:index], replace(source, training_loss=source.key_of(name)), *sources[index + 1 :]]
    return list(sources)


def _quoted(text: str) -> str:
    """Text in single quotes, where YAML reads a backslash literally."""
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else in_flow(text)


def object_of(line: str) -> dict[str, float] | None:
    """The numbers, by name, in a line that is a JSON object or a Python dict; None for other lines."""
    content = printed_object(line)
    if content is None or not all(isinstance(name, str) for name in content):
        return None
    return _numbers(content, "")


def _numbers(content: Mapping[Any, Any], prefix: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}/")
        elif (read := number(value)) is not None:
            found[f"{prefix}{name}"] = read
    return found


def read_objects(objects: Sequence[Mapping[str, float]], metric: str | None) -> ProposedSource | None:
    """The entry for the objects in a sample; None if their names differ and none has a step in whole numbers.

    All objects would then be counted together, and an expression for each shape is right. `metric` is a metric that
    the entry should give; the objects that have it must have a step.
    """
    objects = [item for item in objects if _gives_metrics(item, metric)]
    shapes = {tuple(item) for item in objects}
    if not objects:
        return None
    # The step must be a whole number in the objects with the metric, or in all.
    needed = [item for item in objects if metric in item] or objects
    step, partly = _step_key(needed, all_of=True), ""
    if step is None and needed is objects:
        step = _step_key(objects, all_of=False)
    named = dict.fromkeys(name for item in objects for name in item if name != step)
    metrics = tuple(name for name in named if name == metric or is_metric(name))
    if step is not None:
        whole = [item for item in objects if item.get(step, 0.0).is_integer()]
        if len(whole) < len(objects):
            partly = f"lines in which {printable(step)} is a fraction are skipped"
        offset = int(_key(step) in EPOCHS and min(item[step] for item in whole if step in item) == 0)
        return ProposedSource(metrics, len(whole), None, step, offset, remark=partly)
    if len(shapes) > 1:
        return None
    fraction = next((name for name in named if _key(name) in STEPS), None)
    remark = f"{printable(fraction)} is a fraction, not a step: " if fraction else "without a step: "
    return ProposedSource(metrics, len(objects), every=1, remark=remark + "the objects are counted")


def _gives_metrics(item: Mapping[str, float], metric: str | None) -> bool:
    """Whether an object has metrics, rather than a configuration: a step with values, or a known measure."""
    measured = [name for name in item if name == metric or is_metric(name)]
    has_step = any(_key(name) in STEPS for name in item)
    return (has_step and bool(measured)) or any(MEASURE.search(name) for name in measured)


def _key(name: str) -> str:
    return name.lower().rpartition("/")[2]


def _step_key(objects: Sequence[Mapping[str, float]], *, all_of: bool) -> str | None:
    """The name of the finest step with whole numbers in all objects, or in all of one shape."""
    names = dict.fromkeys(name for item in objects for name in item if _key(name) in STEPS)
    for name in sorted(names, key=lambda name: STEPS.index(_key(name))):
        shapes: dict[tuple[str, ...], bool] = {}
        for item in objects:
            whole = name in item and item[name].is_integer() and item[name] >= 0
            shapes[tuple(item)] = shapes.get(tuple(item), True) and whole
        if all(shapes.values()) or (not all_of and any(shapes.values())):
            return name
    return None
