"""What a program tells, put together by step and written as measurements."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tunectl.core.line_file import LineFile
from tunectl.core.records import Measurement
from tunectl.language.progress_output import STEPS

_STEPS_REMEMBERED = 50_000
"""So many steps back what is told late (by a file that is written seldom) joins what was told before."""

LEARNING_RATE, GRADIENT_NORM = "learning_rate", "gradient_norm"
"""Metrics of these names are the measurement's own."""


@dataclass(slots=True)
class _Step:
    metrics: dict[str, float] = field(default_factory=dict)
    elapsed_seconds: float = 0.0
    checkpoint: str | None = None


@dataclass(slots=True)
class Collector:
    """Takes what a program tells, and writes a line for each step of which something new is known.

    A later line of a step holds what the earlier ones did, and counts. Metrics without a step belong to the last step
    that was told, at first to step 0; where none is ever told, the n-th time that the same metric is told is step n:
    at once where this is known beforehand (`counts`), else at the end (`settle`), until which they wait. A metric that
    is no number is noted in `bad` where `matters` says so.

    With `goes_on` it is not known from which step the program goes on: the first step of which it prints anything new
    takes away what an earlier attempt printed from there on, and sets `was_cut`.
    """

    now_seconds: Callable[[], float]
    before_seconds: float = 0.0
    counts: bool = False
    matters: Callable[[str], bool] = lambda _name: True
    steps: dict[int, _Step] = field(default_factory=dict)
    last_step: int | None = None
    names: set[str] = field(default_factory=set)
    bad: tuple[int, str] | None = None
    goes_on: bool = False
    was_cut: bool = False
    _changed: set[int] = field(default_factory=set)
    _counts: dict[str, int] = field(default_factory=dict)
    _last_told: dict[str, int] = field(default_factory=dict)
    _tellings: dict[str, int] = field(default_factory=dict)
    _waiting: dict[int, _Step] = field(default_factory=dict)
    _knows_steps: bool = False
    _finite_before: set[str] = field(default_factory=set)

    def take(self, step: int | None, metrics: Mapping[str, float], row: int = 0) -> None:
        """Note what was told. `bad` is the first (step, metric) that is no number, which ends the trial: what a program
        tells behind it, before it is stopped, is chance. `row` is the row of what a file may tell again.
        """
        if not metrics or self.bad is not None:
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

    def settle(self) -> None:
        """Count what has no step, where none was told by the end."""
        for count in sorted(self._waiting):
            waiting = self._waiting[count]
            self._note(count, waiting.metrics, waiting.elapsed_seconds)
        self._waiting.clear()

    def join(self, other: Collector, up_to: int) -> None:
        """Take over what another collector was told of steps up to one, after which this one goes on."""
        for step in sorted(other.steps):
            if step <= up_to:
                self._note(step, other.steps[step].metrics)
        self._knows_steps |= other._knows_steps
        self._counts = dict(self._last_told)

    def _wait(self, count: int, metrics: Mapping[str, float]) -> None:
        waiting = self._waiting.setdefault(count, _Step(elapsed_seconds=self._elapsed()))
        waiting.metrics |= metrics
        if any(math.isnan(value) and self.matters(name) for name, value in metrics.items()):
            self.settle()  # it ends the trial, so no step will be told

    def _place_before_the_first_step(self) -> None:
        self._knows_steps = True
        for waiting in self._waiting.values():
            self._note(self.last_step or 0, waiting.metrics, waiting.elapsed_seconds)
        self._waiting.clear()

    def _elapsed(self) -> float:
        return self.before_seconds + self.now_seconds()

    def _note(self, step: int, metrics: Mapping[str, float], elapsed_seconds: float | None = None) -> None:
        if self.bad is not None:
            return
        self.last_step = step if self.last_step is None else max(step, self.last_step)
        known = self._of(step)
        new = {name: value for name, value in metrics.items() if not _same(known.metrics.get(name), value)}
        if not new:
            return
        if self.goes_on:
            self._cut(step)
            known, new = self._of(step), dict(metrics)
        known.metrics |= new
        self._tellings |= {name: self._tellings.get(name, 0) + 1 for name in new}
        self._last_told |= {name: max(step, self._last_told.get(name, 0)) for name in new}
        known.elapsed_seconds = self._elapsed() if elapsed_seconds is None else elapsed_seconds
        self.names |= new.keys()
        self._changed.add(step)
        bad = (name for name, value in new.items() if math.isnan(value) and self.matters(name))
        self.bad = next(((step, name) for name in bad), None)

    def name_checkpoint(self, step: int, name: str | None) -> None:
        """Note that the evaluation of this step has a checkpoint, or none any more."""
        known = self.steps.get(step)
        if known is not None and known.checkpoint != name:
            known.checkpoint = name
            self._changed.add(step)

    def begin_with(self, measurements: Sequence[Measurement]) -> None:
        """Take over what an earlier attempt had measured, from where the program goes on."""
        for item in measurements:
            own = {LEARNING_RATE: item.learning_rate, GRADIENT_NORM: item.gradient_norm}
            metrics = {**item.metrics, **{name: value for name, value in own.items() if value is not None}}
            self.steps[item.step] = _Step(metrics, item.elapsed_seconds, item.checkpoint)
            self.names |= metrics.keys()
            self._last_told |= {name: max(item.step, self._last_told.get(name, 0)) for name in metrics}
        self._counts = dict(self._last_told)
        self.last_step = max(self.steps, default=None)
        self.before_seconds = max((item.elapsed_seconds for item in measurements), default=0.0)

    def write(self, file: LineFile) -> None:
        """Append a line for each step of which something new is known."""
        file.extend(self._measurement(step, self.steps[step]).to_json() for step in sorted(self._changed))
        self._changed.clear()
        if len(self.steps) > 2 * _STEPS_REMEMBERED:
            for step in list(self.steps)[:-_STEPS_REMEMBERED]:
                if self.steps[step].checkpoint is None:
                    self._finite_before |= self._finite_at(step)
                    del self.steps[step]

    def _cut(self, step: int) -> None:
        self.goes_on, self.was_cut = False, True
        for later in [at for at in self.steps if at >= step]:
            del self.steps[later]
        self._changed = {at for at in self._changed if at < step}
        self._last_told = {}
        for at, known in self.steps.items():
            self._last_told |= {name: max(at, self._last_told.get(name, 0)) for name in known.metrics}
        self.last_step = step

    def measurements(self) -> list[Measurement]:
        """All that is known, by step."""
        return [self._measurement(step, self.steps[step]) for step in sorted(self.steps)]

    def evaluations(self, metric: str) -> list[tuple[int, Mapping[str, float]]]:
        """The steps at which a metric was told, in their order, with all that was told there."""
        return [(step, self.steps[step].metrics) for step in sorted(self.steps) if metric in self.steps[step].metrics]

    def tellings(self, metric: str) -> int:
        """How often something new of a metric was told since the program started."""
        return self._tellings.get(metric, 0)

    def last_told(self, metric: str) -> int | None:
        """The last step at which a metric was told."""
        return self._last_told.get(metric)

    def least_distance(self, metric: str) -> int | None:
        """The least number of steps between two evaluations of a metric; None where there are fewer than two."""
        steps = [step for step, _ in self.evaluations(metric)]
        return min((later - step for step, later in itertools.pairwise(steps)), default=None)

    def last_step_up_to(self, step: int) -> int | None:
        """The last step, up to one, of which anything was told."""
        if self.last_step is None or self.last_step <= step:
            return self.last_step
        return max((at for at in self.steps if at <= step), default=None)

    def value(self, step: int, metric: str) -> float | None:
        """What is known of a metric at a step."""
        known = self.steps.get(step)
        return None if known is None else known.metrics.get(metric)

    def has_finite(self, metric: str) -> bool:
        """Whether a metric had a finite value after step 0, where an evaluation counts."""
        return metric in self._finite_before or any(metric in self._finite_at(step) for step in self.steps)

    def _finite_at(self, step: int) -> set[str]:
        known = self.steps[step].metrics if step > 0 else {}
        return {name for name, value in known.items() if math.isfinite(value)}

    def _of(self, step: int) -> _Step:
        return self.steps.setdefault(step, _Step())

    def _counted(self, metrics: Mapping[str, float]) -> int:
        # The epoch of a Trainer is in lines of every kind, which it would count together.
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
