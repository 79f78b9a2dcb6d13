"""The metrics of a trial of own code, collected by step and written as measurements."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tunectl.core.line_file import LineFile
from tunectl.core.measurements import Measurement
from tunectl.language.progress_output import STEPS

_STEPS_REMEMBERED = 50_000
"""Metrics that come late, from a file that is written rarely, are joined with those of this many last steps."""

LEARNING_RATE, GRADIENT_NORM = "learning_rate", "gradient_norm"
"""Metrics with these names become fields of the measurement."""


@dataclass(slots=True)
class _Step:
    metrics: dict[str, float] = field(default_factory=dict)
    elapsed_seconds: float = 0.0
    checkpoint: str | None = None


@dataclass(slots=True)
class Collector:
    """Collects metrics by step, and writes a line for each step with new metrics.

    If a step has several lines, the last one counts: it has all metrics of the earlier ones. Metrics without a step
    belong to the last step that was given, before the first one to step 0. If no step is ever given, steps are counted:
    the n-th value of a metric is of step n. With `counts` this is known from the start; else the metrics wait until
    `finish`. The first NaN of a metric for which `ends_on_nan` is true is kept in `first_nan`.

    `resumes_at_unknown_step`: the first step with new metrics then removes everything that an earlier attempt printed
    from that step on, and sets `was_cut`.
    """

    now_seconds: Callable[[], float]
    before_seconds: float = 0.0
    counts: bool = False
    ends_on_nan: Callable[[str], bool] = lambda _name: True
    steps: dict[int, _Step] = field(default_factory=dict)
    last_step: int | None = None
    names: set[str] = field(default_factory=set)
    first_nan: tuple[int, str] | None = None
    resumes_at_unknown_step: bool = False
    was_cut: bool = False
    _changed: set[int] = field(default_factory=set)
    _counts: dict[str, int] = field(default_factory=dict)
    _last_steps: dict[str, int] = field(default_factory=dict)
    _times_seen: dict[str, int] = field(default_factory=dict)
    _waiting: dict[int, _Step] = field(default_factory=dict)
    _knows_steps: bool = False
    _finite_before: set[str] = field(default_factory=set)

    def add(self, step: int | None, metrics: Mapping[str, float], row: int = 0) -> None:
        """Add metrics; `row` is the number of their row in a file that may be read again.

        Nothing is added after `first_nan`, which ends the trial: what the program still prints is left to chance.
        """
        if not metrics or self.first_nan is not None:
            return
        if step is not None:
            self._place_before_the_first_step()
        elif self.counts:
            step = self._counted(metrics)
        elif self._knows_steps:
            step = self.last_step or 0
        else:
            self._wait(row or self._counted(metrics), metrics)
            return
        self._note(step, metrics)

    def finish(self) -> None:
        """Count the metrics without a step, if no step was given by the end."""
        for count in sorted(self._waiting):
            waiting = self._waiting[count]
            self._note(count, waiting.metrics, waiting.elapsed_seconds)
        self._waiting.clear()

    def join(self, other: Collector, up_to: int) -> None:
        """Take over the metrics of another collector up to a step, from which this one goes on."""
        for step in sorted(other.steps):
            if step <= up_to:
                self._note(step, other.steps[step].metrics)
        self._knows_steps |= other._knows_steps
        self._counts = dict(self._last_steps)

    def _wait(self, count: int, metrics: Mapping[str, float]) -> None:
        waiting = self._waiting.setdefault(count, _Step(elapsed_seconds=self._elapsed()))
        waiting.metrics |= metrics
        if any(math.isnan(value) and self.ends_on_nan(name) for name, value in metrics.items()):
            self.finish()  # it ends the trial, so no step will follow

    def _place_before_the_first_step(self) -> None:
        self._knows_steps = True
        for waiting in self._waiting.values():
            self._note(self.last_step or 0, waiting.metrics, waiting.elapsed_seconds)
        self._waiting.clear()

    def _elapsed(self) -> float:
        return self.before_seconds + self.now_seconds()

    def _note(self, step: int, metrics: Mapping[str, float], elapsed_seconds: float | None = None) -> None:
        if self.first_nan is not None:
            return
        self.last_step = step if self.last_step is None else max(step, self.last_step)
        known = self._of(step)
        new = {name: value for name, value in metrics.items() if not _same(known.metrics.get(name), value)}
        if not new:
            return
        if self.resumes_at_unknown_step:
            self._cut(step)
            known, new = self._of(step), dict(metrics)
        known.metrics |= new
        self._times_seen |= {name: self._times_seen.get(name, 0) + 1 for name in new}
        self._last_steps |= {name: max(step, self._last_steps.get(name, 0)) for name in new}
        known.elapsed_seconds = self._elapsed() if elapsed_seconds is None else elapsed_seconds
        self.names |= new.keys()
        self._changed.add(step)
        bad = (name for name, value in new.items() if math.isnan(value) and self.ends_on_nan(name))
        self.first_nan = next(((step, name) for name in bad), None)

    def name_checkpoint(self, step: int, name: str | None) -> None:
        """Set the name of the checkpoint of this step, None if it has none any more."""
        known = self.steps.get(step)
        if known is not None and known.checkpoint != name:
            known.checkpoint = name
            self._changed.add(step)

    def begin_with(self, measurements: Sequence[Measurement]) -> None:
        """Take over the measurements of an earlier attempt, after which the program goes on."""
        for item in measurements:
            own = {LEARNING_RATE: item.learning_rate, GRADIENT_NORM: item.gradient_norm}
            metrics = {**item.metrics, **{name: value for name, value in own.items() if value is not None}}
            self.steps[item.step] = _Step(metrics, item.elapsed_seconds, item.checkpoint)
            self.names |= metrics.keys()
            self._last_steps |= {name: max(item.step, self._last_steps.get(name, 0)) for name in metrics}
        self._counts = dict(self._last_steps)
        self.last_step = max(self.steps, default=None)
        self.before_seconds = max((item.elapsed_seconds for item in measurements), default=0.0)

    def write(self, file: LineFile) -> None:
        """Append a line for each step with new metrics."""
        file.extend(self._measurement(step, self.steps[step]).to_json() for step in sorted(self._changed))
        self._changed.clear()
        if len(self.steps) > 2 * _STEPS_REMEMBERED:
            for step in list(self.steps)[:-_STEPS_REMEMBERED]:
                if self.steps[step].checkpoint is None:
                    self._finite_before |= self._finite_at(step)
                    del self.steps[step]

    def _cut(self, step: int) -> None:
        self.resumes_at_unknown_step, self.was_cut = False, True
        for later in [at for at in self.steps if at >= step]:
            del self.steps[later]
        self._changed = {at for at in self._changed if at < step}
        self._last_steps = {}
        for at, known in self.steps.items():
            self._last_steps |= {name: max(at, self._last_steps.get(name, 0)) for name in known.metrics}
        self.last_step = step

    def measurements(self) -> list[Measurement]:
        """All measurements, by step."""
        return [self._measurement(step, self.steps[step]) for step in sorted(self.steps)]

    def evaluations(self, metric: str) -> list[tuple[int, Mapping[str, float]]]:
        """The steps that have a metric, in order, each with all its metrics."""
        return [(step, self.steps[step].metrics) for step in sorted(self.steps) if metric in self.steps[step].metrics]

    def times_seen(self, metric: str) -> int:
        """How many new values of a metric were added since the program started."""
        return self._times_seen.get(metric, 0)

    @property
    def values_seen(self) -> int:
        """How many new values of all metrics were added; see `times_seen`."""
        return sum(self._times_seen.values())

    def last_step_of(self, metric: str) -> int | None:
        """The last step that has a metric."""
        return self._last_steps.get(metric)

    def least_distance(self, metric: str) -> int | None:
        """The least number of steps between two evaluations of a metric, None if there are fewer than two."""
        steps = [step for step, _ in self.evaluations(metric)]
        return min((later - step for step, later in itertools.pairwise(steps)), default=None)

    def last_step_up_to(self, step: int) -> int | None:
        """The last step with any metrics that is at most `step`."""
        if self.last_step is None or self.last_step <= step:
            return self.last_step
        return max((at for at in self.steps if at <= step), default=None)

    def value(self, step: int, metric: str) -> float | None:
        """The value of a metric at a step, None if there is none."""
        known = self.steps.get(step)
        return None if known is None else known.metrics.get(metric)

    def has_finite(self, metric: str) -> bool:
        """Whether a metric had a finite value after step 0."""
        return metric in self._finite_before or any(metric in self._finite_at(step) for step in self.steps)

    def _finite_at(self, step: int) -> set[str]:
        known = self.steps[step].metrics if step > 0 else {}
        return {name for name, value in known.items() if math.isfinite(value)}

    def _of(self, step: int) -> _Step:
        return self.steps.setdefault(step, _Step())

    def _counted(self, metrics: Mapping[str, float]) -> int:
        # A Trainer prints the epoch in lines of every kind, which must not be counted together.
        metrics = {name: value for name, value in metrics.items() if name.lower() not in STEPS} or metrics
        for name in metrics:
            self._counts[name] = self._counts.get(name, 0) + 1
        return max(self._counts[name] for name in metrics)

    def _measurement(self, step: int, known: _Step) -> Measurement:
        metrics = {name: value for name, value in known.metrics.items() if name not in (LEARNING_RATE, GRADIENT_NORM)}
        return Measurement(
            step,
            metrics,
            learning_rate=known.metrics.get(LEARNING_RATE),
            gradient_norm=known.metrics.get(GRADIENT_NORM),
            elapsed_seconds=known.elapsed_seconds,
            checkpoint=known.checkpoint,
        )


def _same(one: float | None, other: float) -> bool:
    return one is not None and (one == other or (math.isnan(one) and math.isnan(other)))
