"""The kinds of measurements that a trial writes, and how each of them is shown.

A further kind is one record in MEASUREMENT_KINDS. A trial writes lines of it by `MeasurementKind.measurement`; the
index, measurements.parquet and the exports have its metrics by their names, the trials table those of the best step,
and the page draws them by step in a section of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunectl.core.records import Measurement


@dataclass(frozen=True, slots=True)
class MeasuredMetric:
    """A metric of a kind: its name behind the kind's, and its title on an axis, with the unit."""

    name: str
    title: str


@dataclass(frozen=True, slots=True)
class MeasurementKind:
    """A kind of line in measurements.jsonl.

    `name` is the line's `kind`. `metrics` are those that its lines may have, as `<kind>/<name>`; the metrics of
    evaluations are the study's own, as `<split>/<name>`. `heading` and `text` are those of its section in the page,
    "" for a kind without one.
    """

    name: str
    metrics: tuple[MeasuredMetric, ...] = ()
    heading: str = ""
    text: str = ""

    def column(self, metric: str) -> str:
        """The name of a metric in files, tables and exports."""
        return f"{self.name}/{metric}"

    def measurement(self, step: int, values: Mapping[str, float], elapsed_seconds: float) -> Measurement:
        """What was measured after `step` updates, by the names of the kind's metrics."""
        named = {self.column(name): value for name, value in values.items()}
        return Measurement(step, named, self.name, elapsed_seconds=elapsed_seconds)


EVALUATION = MeasurementKind("evaluation")
"""The metrics of the splits: the only kind by which a trial is judged."""

THROUGHPUT = MeasurementKind(
    "throughput",
    (
        MeasuredMetric("examples_per_second", "examples per second"),
        MeasuredMetric("seconds_per_step", "seconds per step"),
        MeasuredMetric("data_wait_fraction", "part of the time spent waiting for data"),
        MeasuredMetric("data_workers", "data-loader processes"),
        MeasuredMetric("train_examples", "training examples"),
    ),
)
"""How fast a trial of `batch-size` trains; that procedure draws it by batch size."""

MEASUREMENT_KINDS = {kind.name: kind for kind in (EVALUATION, THROUGHPUT)}
