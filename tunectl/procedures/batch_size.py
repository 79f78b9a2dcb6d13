"""`batch-size`: the largest batch that still makes training faster, from the throughput of doubled batches.

Deep Learning Tuning Playbook, "Determining the feasible batch sizes and estimating training throughput": train at
increasing powers of two for a small number of steps until memory runs out. While the device is not saturated the
throughput should nearly double with the batch; where it does not, something else holds training up, such as the input;
where it grows no more, a larger batch has no use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, Figure, MarkedValue
from tunectl.analysis.results.runs import Floats, Run
from tunectl.core.measurement_kinds import THROUGHPUT
from tunectl.core.records import Scalar
from tunectl.language.configuration import BATCH_SIZE as USUAL_BATCH_SIZE
from tunectl.procedures.procedure import Conclusion, Procedure, ProcedureOptions, Results, SweepSpec, Wish, has_all

UP, DOWN = 0, 1
PHASES = ("throughput of larger batches", "throughput of smaller batches")

PAYS = 1.1
"""A batch is worth its size when its throughput is at least this many times that of the best smaller one ..."""

CLEAR_ERRORS = 3.0
"""... and larger by at least this many standard errors, which matters where the blocks of a measurement differ."""

NEARLY_DOUBLE = 1.7
"""What twice the batch should bring while the device is not saturated; the playbook says "nearly double"."""

MUCH_WAITING = 0.2
"""From this part of the time on, waiting for data is named as what holds training up."""

PATIENCE = 2
"""No larger batch is tried after this many in a row that did not pay: a single one may be bad luck."""

PASSES = 2
"""Every batch size is measured this many times, with the others in between, and its fastest pass counts: other programs
or a hot processor make training slower for a while, and nothing makes it faster than it is.
"""

LEAST_SMALLER = 8
"""Batches smaller than this are tried only where larger ones do not fit."""

OUT_OF_MEMORY = "out_of_memory"
STEPS = 20_000
GIB = 2**30
LEARNING_RATE = 1e-3
"""The rate where the study has none: any rate would do, since the weights are not changed."""


@dataclass(frozen=True)
class BatchSizeOptions(ProcedureOptions):
    """The options of `batch-size`.

    `low` and `high` are the first and the largest batch size, `steps` is the largest number of updates of each, and
    `memory_limit` what a trial may take, in GiB.
    """

    low: int | None = None
    high: int | None = None
    steps: int | None = None
    memory_limit: float | None = None


BatchSize = SweepSpec[BatchSizeOptions]


def problems(spec: BatchSize) -> list[str]:
    """What is wrong with the options, a line for each."""
    high, limit = spec.options.high, spec.options.memory_limit
    found = []
    if high is not None and high < first_batch(spec):
        found.append(
            f"--high: expected at least the first batch size, {first_batch(spec)}, got {high}; or give a smaller --low"
        )
    if limit is not None and not limit > 0:
        found.append(f"--memory-limit: expected a number of GiB above 0, got {limit:g}")
    return found


def first_batch(spec: BatchSize) -> int:
    """The batch size that is tried first."""
    return int(spec.options.low or spec.values.get("batch_size") or USUAL_BATCH_SIZE)


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a batch size was measured to give.

    `step_seconds` has the seconds of a step in each block, `waits` the part of them that went to waiting for data, both
    of shape [blocks], empty where it is infeasible; `reason` then says why. `examples` are those of the training set,
    None where that is not known.
    """

    batch_size: int
    step_seconds: Floats
    waits: Floats
    reason: str = ""
    examples: int | None = None
    data_workers: int = 0

    @property
    def fits(self) -> bool:
        """Whether it was measured."""
        return len(self.step_seconds) > 0 and not self.reason

    @property
    def seconds(self) -> float:
        """The median time of a step."""
        return float(np.median(self.step_seconds))

    @property
    def rate(self) -> float:
        """Examples per second at the median time of a step."""
        return self.batch_size / self.seconds

    @property
    def error(self) -> float:
        """The standard error of the rate, relative to it: for normal noise, that of a median, from the quartiles."""
        low, high = np.quantile(self.step_seconds, [0.25, 0.75])
        return float(1.2533 * (high - low) / 1.349 / self.seconds / np.sqrt(len(self.step_seconds)))

    @property
    def wait(self) -> float:
        """The part of the time that goes to waiting for data, the median over the blocks."""
        return float(np.median(self.waits))


def throughput(run: Run) -> Throughput:
    """What a run's measurements say."""
    named = {
        name: run.curve(THROUGHPUT.column(name))[1]
        for name in ("seconds_per_step", "data_wait_fraction", "train_examples", "data_workers")
    }
    known = len(named["train_examples"]) > 0
    return Throughput(
        batch_size=int(run.plan.hyperparameters["batch_size"]),
        step_seconds=named["seconds_per_step"] if run.feasible else np.zeros(0),
        waits=named["data_wait_fraction"],
        reason="" if run.feasible else run.reason or run.state,
        examples=int(named["train_examples"][0]) if known else None,
        data_workers=int(named["data_workers"][0]) if known else 0,
    )


def fastest(results: Results) -> list[Throughput]:
    """Every batch size once, by its size, as the fastest of its passes has it."""
    found: dict[int, Throughput] = {}
    for key in sorted(results):
        item = throughput(results[key])
        before = found.get(item.batch_size)
        if before is None or not item.fits or (before.fits and item.rate > before.rate):
            found[item.batch_size] = item
    return [found[size] for size in sorted(found)]


def _wish(spec: BatchSize, phase: int, point: int, repeat: int = 0) -> Wish:
    first = first_batch(spec)
    size = first * 2**point if phase == UP else first // 2 ** (point + 1)
    changes: dict[str, Scalar | None] = {"batch_size": size}
    if "learning_rate" not in spec.values:
        changes["learning_rate"] = LEARNING_RATE
    training = {"max_train_steps": spec.options.steps or STEPS}
    if spec.options.memory_limit:
        training["memory_limit_bytes"] = int(spec.options.memory_limit * GIB)
    return Wish(phase, point, repeat, changes, training, trial_kind="throughput")


def next_trials(spec: BatchSize, results: Results) -> Sequence[Wish]:
    """One batch size after the other: doubled while that may pay; halved where not even the first doubling did. Then
    all of them once more, and more of them where the second pass differs from the first.
    """
    wishes = _extended(spec, results, [], 1)
    if not has_all(results, wishes):
        return wishes
    wishes += [
        _wish(spec, wish.phase, wish.point, again)
        for again in range(1, PASSES)
        for wish in wishes
        if throughput(results[wish.phase, wish.point, 0]).fits
    ]
    return _extended(spec, results, wishes, PASSES)


def _extended(spec: BatchSize, results: Results, wishes: Sequence[Wish], passes: int) -> list[Wish]:
    """The wishes, and those for larger and smaller batches that their results call for, up to the first without one."""
    found = list(wishes)
    for phase, goes_on in ((UP, _goes_up), (DOWN, _goes_down)):
        point = sum(wish.phase == phase and wish.repeat == 0 for wish in found)
        while has_all(results, found) and goes_on(spec, fastest(_of(results, found))):
            found += [_wish(spec, phase, point, again) for again in range(passes)]
            point += 1
    return found


def _of(results: Results, wishes: Sequence[Wish]) -> Results:
    keys = [(wish.phase, wish.point, wish.repeat) for wish in wishes]
    return {key: results[key] for key in keys if key in results}


def _goes_up(spec: BatchSize, measured: Sequence[Throughput]) -> bool:
    if not measured:
        return True
    last = measured[-1]
    known = [item.examples for item in measured if item.examples is not None]
    largest = min([*known, spec.options.high or np.inf])
    if not last.fits or 2 * last.batch_size > largest:
        return False
    paid = [pays(measured, index) for index in range(len(measured))]
    return any(paid[-PATIENCE:])


def _goes_down(spec: BatchSize, measured: Sequence[Throughput]) -> bool:
    lowest = measured[0]
    if spec.options.low is not None:
        return False
    if not lowest.fits:
        return lowest.batch_size > 1
    return best_batch(measured) is lowest and lowest.batch_size // 2 >= LEAST_SMALLER


def pays(measured: Sequence[Throughput], index: int) -> bool:
    """Whether a batch gives clearly more throughput than every smaller one; the smallest that fits does."""
    item = measured[index]
    smaller = [before for before in measured[:index] if before.fits]
    if not item.fits or not smaller:
        return item.fits
    fastest_smaller = max(smaller, key=lambda before: before.rate)
    clear = 1 + CLEAR_ERRORS * float(np.hypot(item.error, fastest_smaller.error))
    return item.rate / fastest_smaller.rate >= max(PAYS, clear)


def best_batch(measured: Sequence[Throughput]) -> Throughput | None:
    """The largest batch that still pays; None where none fits. `measured` by batch size."""
    return next((measured[index] for index in reversed(range(len(measured))) if pays(measured, index)), None)


def conclude(spec: BatchSize, results: Results) -> Conclusion:
    """The largest batch that still pays, where memory runs out, and whether the input holds training up."""
    measured = fastest(results)
    best = best_batch(measured)
    without_room = [item.batch_size for item in measured if item.reason == OUT_OF_MEMORY]
    answers = {
        "batch_size": best.batch_size if best else None,
        "examples_per_second": best.rate if best else None,
        "out_of_memory_at": min(without_room, default=None),
    }
    header = ("batch_size", "examples_per_second", "seconds_per_step", "first_quartile", "third_quartile")
    return Conclusion(
        verdict=_verdict(spec, measured, best),
        answers={**answers, "seconds_per_step": {str(item.batch_size): item.seconds for item in measured if item.fits}},
        header=(*header, "gain", "data_wait", "outcome"),
        rows=[_row(item, gain) for item, gain in zip(measured, gains(measured), strict=True)],
        figures=_figures(measured, answers),
        advice=_advice(spec, best),
    )


def gains(measured: Sequence[Throughput]) -> list[float | None]:
    """How many times the throughput of the next smaller batch each has; None where there is none to compare with."""
    found: list[float | None] = []
    for index, item in enumerate(measured):
        before = measured[index - 1] if index else None
        found.append(item.rate / before.rate if before is not None and before.fits and item.fits else None)
    return found


def _row(item: Throughput, gain: float | None) -> tuple[object, ...]:
    if not item.fits:
        return (item.batch_size, None, None, None, None, None, None, item.reason)
    low, high = (float(value) for value in np.quantile(item.step_seconds, [0.25, 0.75]))
    return (item.batch_size, item.rate, item.seconds, low, high, gain, item.wait, "measured")


def _verdict(spec: BatchSize, measured: Sequence[Throughput], best: Throughput | None) -> str:
    if best is None:
        smallest = measured[0]
        return f"Even a batch of {smallest.batch_size} cannot be trained: {smallest.reason}."
    what = f"{best.batch_size} is the largest batch that still pays: {best.rate:,.0f} examples a second"
    beyond = _beyond(spec, measured, best)
    text = f"{what}; {beyond}."
    held_up = _held_up(measured)
    return f"{text} {held_up}" if held_up else text


def _beyond(spec: BatchSize, measured: Sequence[Throughput], best: Throughput) -> str:
    """Why a larger batch is not the answer."""
    larger = measured[measured.index(best) + 1 :]
    slower = [item for item in larger if item.fits]
    if slower:
        most = max(slower, key=lambda item: item.rate)
        return f"at {most.batch_size} it is {most.rate / best.rate:.2f} times as much"
    if larger:
        why = "runs out of memory" if larger[0].reason == OUT_OF_MEMORY else f"does not work ({larger[0].reason})"
        return f"{larger[0].batch_size} {why}"
    if spec.options.high and 2 * best.batch_size > spec.options.high:
        return "larger ones are above --high"
    return f"the next would be larger than the training set ({best.examples or 0:,} examples)"


def _held_up(measured: Sequence[Throughput]) -> str:
    """A sentence on the first doubling that does not nearly double the throughput, "" without one."""
    for index, gain in enumerate(gains(measured)):
        if gain is None or gain >= NEARLY_DOUBLE:
            continue
        item, before = measured[index], measured[index - 1]
        grows = f"from {before.batch_size} to {item.batch_size} the throughput grows {gain:.2f} times"
        if item.wait >= MUCH_WAITING:
            return f"Input bottleneck: {grows}, and {item.wait:.0%} of the time is spent waiting for data{_mend(item)}."
        if index == 1:
            return (
                f"Already {grows}, with {item.wait:.0%} of the time spent waiting for data: that is the limit of the "
                "computation, not of the input."
            )
    return ""


def _mend(item: Throughput) -> str:
    if item.data_workers:
        workers = f"{item.data_workers} data-loader process{'es' if item.data_workers > 1 else ''}"
        return f" in spite of {workers}; use more of them, or make the examples cheaper, and measure again"
    return "; prepare examples beforehand or give resources.data_workers, and measure again"


def _advice(spec: BatchSize, best: Throughput | None) -> str:
    if best is None:
        return ""
    line = f"batch_size: {best.batch_size}"
    if best.batch_size == spec.values.get("batch_size"):
        return line
    return f"{line}  # tune the learning rate and the regularisation again: their best values go with the batch size"


def _figures(measured: Sequence[Throughput], answers: dict[str, float | int | None]) -> list[Figure]:
    fitting = [item for item in measured if item.fits]
    sizes = [float(item.batch_size) for item in fitting]
    names = {"still pays": answers["batch_size"], "out of memory": answers["out_of_memory_at"]}
    marks = [MarkedValue(float(at), f"{name}: {at:g}") for name, at in names.items() if at is not None]
    axis = Axis("batch size", "log")
    doubled = [fitting[0].rate * size / sizes[0] for size in sizes] if fitting else []
    rates = [Curve(sizes, [item.rate for item in fitting], "measured"), Curve(sizes, doubled, "doubled with the batch")]
    waits = [item.seconds * item.wait for item in fitting]
    steps = [Curve(sizes, [item.seconds for item in fitting], "step"), Curve(sizes, waits, "of it, waiting for data")]
    return [
        CurvesFigure("throughput", "Throughput by batch size", axis, Axis("examples per second", "log"), rates, marks),
        CurvesFigure("step-time", "Time per step by batch size", axis, Axis("seconds per step", "log"), steps, marks),
    ]


BATCH_SIZE = Procedure(
    "batch-size",
    frozenset({"batch_size", "learning_rate"}),
    PHASES,
    BatchSizeOptions,
    next_trials,
    conclude,
    problems,
    one_at_a_time=True,
)
