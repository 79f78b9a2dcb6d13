"""The largest batch that pays, on made-up machines whose speed is known.

Tests procedures/batch_size.py; procedure.py is tested by every procedure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from made_up_runs import spec_with
from narrowing import as_number, of_type

from tunectl.analysis.figures.figures import CurvesFigure
from tunectl.analysis.results.runs import Run, curves_of
from tunectl.core.measurements import Measurement
from tunectl.core.records import PlannedTrial
from tunectl.procedures.batch_size import BATCH_SIZE, DOWN, GIB, UP, BatchSize, BatchSizeOptions
from tunectl.procedures.procedure import Conclusion, Wish

spec = partial(spec_with, BatchSizeOptions)


@dataclass(frozen=True)
class Machine:
    """Computes a step in max(least, batch · each) seconds, makes an example in `example` seconds, and has so much room.

    `disturbed` is what the n-th trial takes times as long, when it does.
    """

    least: float = 0.01
    each: float = 1e-4
    example: float = 0.0
    room: float = math.inf
    examples: int = 100_000
    noise: float = 0.03
    workers: int = 0
    disturbed: Callable[[int], float] = lambda trial: 1.0

    def run(self, wish: Wish, batch: int, trial: int) -> Run:
        plan = PlannedTrial(trial, wish.phase, wish.point, wish.repeat, (), {"batch_size": batch}, 0, wish.trial_kind)
        if batch > self.room:
            return Run(plan, "infeasible", "out_of_memory")
        wait, compute = batch * self.example, max(self.least, batch * self.each)
        noise = np.exp(np.random.default_rng(trial).normal(0, self.noise, 20))
        lines = [
            {"seconds_per_step": (wait + compute) * factor * self.disturbed(trial)}
            | {"data_wait_fraction": wait / (wait + compute)}
            | {"train_examples": self.examples, "data_workers": self.workers}
            for factor in noise
        ]
        measurements = [
            Measurement(step, {f"throughput/{name}": float(value) for name, value in line.items()}, "throughput")
            for step, line in enumerate(lines, start=1)
        ]
        return Run(plan, "completed", curves=curves_of(measurements))


def play(machine: Machine, sweep: BatchSize | None = None) -> tuple[list[int], Conclusion]:
    """The batch sizes in the order in which they were measured, and what is concluded."""
    sweep = sweep or spec()
    results: dict[tuple[int, int, int], Run] = {}
    sizes: list[int] = []
    while True:
        wishes = BATCH_SIZE.next_trials(sweep, results)
        keys = [(wish.phase, wish.point, wish.repeat) for wish in wishes]
        assert len(set(keys)) == len(keys), "each trial once"
        assert set(results) <= set(keys), "nothing is taken back"
        new = [wish for wish, key in zip(wishes, keys, strict=True) if key not in results]
        if not new:
            return sizes, BATCH_SIZE.conclude(sweep, results)
        for wish in new:
            sizes.append(of_type(int, wish.changes["batch_size"]))
            results[wish.phase, wish.point, wish.repeat] = machine.run(wish, sizes[-1], len(sizes))


def test_the_batch_is_doubled_until_throughput_grows_no_more_and_everything_measured_twice():
    # Below 100 examples a step takes 0.01 s, above it time grows with the batch: 128 gives 10,000 a second, 64 6,400.
    sizes, found = play(Machine(), spec(values={"batch_size": 16}))
    assert sizes == [16, 32, 64, 128, 256, 512] * 2
    assert found.answers["batch_size"] == 128
    assert found.answers["examples_per_second"] == pytest.approx(10_000, rel=0.05)
    assert found.answers["out_of_memory_at"] is None
    assert "bottleneck" not in found.verdict
    gain = dict(zip(found.header, found.rows[2], strict=True))["gain"]
    assert gain == pytest.approx(2, rel=0.05), "from 32 to 64"
    assert found.advice.startswith("batch_size: 128  # tune the learning rate")


def test_saturation_is_found_at_any_place_whatever_the_noise():
    for power in (3, 6, 11):
        for noise in (0.0, 0.15):
            _, found = play(Machine(least=2**power * 1e-4, noise=noise), spec(values={"batch_size": 8}))
            assert found.answers["batch_size"] == 2**power


def test_where_the_study_s_batch_is_saturated_smaller_ones_are_tried():
    sizes, found = play(Machine(least=16e-4), spec(values={"batch_size": 256}))
    assert sizes[: len(sizes) // 2] == [256, 512, 1024, 128, 64, 32, 16, 8]
    assert found.answers["batch_size"] == 16
    sizes, found = play(Machine(least=16e-4), spec(values={"batch_size": 256}, options={"low": 64}))
    assert min(sizes) == 64, "where the user says where to begin, nothing smaller"
    assert found.answers["batch_size"] == 64


@pytest.mark.parametrize(("room", "first", "best", "full"), [(300, 64, 256, 512), (40, 512, 32, 64), (1, 64, 1, 2)])
def test_the_largest_batch_that_fits_into_memory_is_found_from_below_and_from_above(room, first, best, full):
    sizes, found = play(Machine(room=room, each=1e-6), spec(values={"batch_size": first}))
    assert found.answers["batch_size"] == best
    assert found.answers["out_of_memory_at"] == full
    assert f"{full} runs out of memory" in found.verdict
    assert len(sizes) <= 15
    assert found.rows[-1][1:] == (*[None] * 6, "out_of_memory")


def test_where_nothing_fits_there_is_no_answer():
    sizes, found = play(Machine(room=0), spec(values={"batch_size": 8}))
    assert sizes == [8, 4, 2, 1]
    assert found.answers == {
        "batch_size": None,
        "examples_per_second": None,
        "out_of_memory_at": 1,
        "seconds_per_step": {},
    }
    assert found.verdict == "Even a batch of 1 cannot be trained: out_of_memory."
    assert found.advice == ""


def test_the_batch_is_capped_at_the_training_set_and_at_what_is_asked_for():
    sizes, found = play(Machine(each=1e-9, examples=1000), spec(values={"batch_size": 100}))
    assert max(sizes) == found.answers["batch_size"] == 800
    assert "larger than the training set (1,000 examples)" in found.verdict
    sizes, found = play(Machine(each=1e-9), spec(values={"batch_size": 16}, options={"high": 64}))
    assert max(sizes) == found.answers["batch_size"] == 64
    assert "larger ones are above --high" in found.verdict
    # One that is larger than the data set already is measured all the same.
    assert max(play(Machine(examples=50), spec(values={"batch_size": 64}))[0]) == 64


def test_an_input_that_holds_training_up_is_named_with_its_share_of_the_time():
    # From 8 on, 3 ms an example against 10 ms a step: no doubling doubles anything.
    _, found = play(Machine(example=3e-3, each=1e-6), spec(values={"batch_size": 8}))
    assert "Input bottleneck: from 8 to 16 the throughput grows 1.1" in found.verdict
    assert "83% of the time is spent waiting for data" in found.verdict
    assert "give resources.data_workers" in found.verdict
    _, found = play(Machine(example=3e-3, each=1e-6, workers=2), spec(values={"batch_size": 8}))
    assert "in spite of 2 data-loader processes" in found.verdict


def test_a_computation_that_is_saturated_from_the_beginning_is_no_input_bottleneck():
    _, found = play(Machine(least=0.0), spec(values={"batch_size": 8}))
    assert "bottleneck" not in found.verdict
    assert "the limit of the computation, not of the input" in found.verdict


def test_an_input_that_is_slow_only_beyond_saturation_is_not_blamed():
    _, found = play(Machine(example=1e-5), spec(values={"batch_size": 8}))
    assert found.answers["batch_size"] == 128
    assert "bottleneck" not in found.verdict


def _slow_in(slow: int, trial: int) -> float:
    return 1.7 if trial == slow else 1.0


def test_a_neighbour_that_slows_one_pass_does_not_change_the_answer():
    quiet = play(Machine(), spec(values={"batch_size": 8}))[1].answers["batch_size"]
    for trial in range(1, 15, 2):
        machine = Machine(disturbed=partial(_slow_in, trial))
        assert play(machine, spec(values={"batch_size": 8}))[1].answers["batch_size"] == quiet
    # Two in a row seem not to pay: the second pass shows that they did, and larger ones are tried.
    machine = Machine(disturbed=lambda trial: {3: 3.0, 4: 6.0}.get(trial, 1.0))
    sizes, found = play(machine, spec(values={"batch_size": 8}))
    assert sizes[:8] == [8, 16, 32, 64, 8, 16, 32, 64]
    assert found.answers["batch_size"] == quiet
    # The first doubling seems to pay: the second pass shows that it did not, and smaller ones are tried.
    machine = Machine(least=16e-4, disturbed=lambda number: 1.5 if number == 1 else 1.0)
    sizes, found = play(machine, spec(values={"batch_size": 64}))
    assert (sizes[4], min(sizes)) == (64, 8)
    assert found.answers["batch_size"] == 16


def test_the_trials_measure_throughput_one_at_a_time_at_any_learning_rate():
    assert BATCH_SIZE.one_at_a_time
    (wish,) = BATCH_SIZE.next_trials(spec(values={"optimizer": "sgd"}, options={"memory_limit": 1.5, "steps": 9}), {})
    assert (wish.phase, wish.trial_kind, wish.changes["batch_size"]) == (UP, "throughput", 64)
    assert as_number(wish.changes["learning_rate"]) > 0, "the study may leave it open"
    assert wish.training == {"max_train_steps": 9, "memory_limit_bytes": 3 * GIB // 2}
    (wish,) = BATCH_SIZE.next_trials(spec(values={"learning_rate": 0.1}, options={"low": 4}), {})
    assert wish.changes == {"batch_size": 4}
    assert len(BATCH_SIZE.phases) > DOWN


def test_the_table_the_figures_and_the_conclusion_are_complete():
    _, found = play(Machine(room=300), spec(values={"batch_size": 16}))
    assert json.loads(json.dumps(found.answers)) == found.answers
    assert all(len(row) == len(found.header) for row in found.rows)
    assert [row[0] for row in found.rows] == [16, 32, 64, 128, 256, 512]
    row = dict(zip(found.header, found.rows[0], strict=True))
    assert row["first_quartile"] <= row["seconds_per_step"] <= row["third_quartile"]
    rates, _ = found.figures
    assert isinstance(rates, CurvesFigure)
    assert [(mark.value, mark.name) for mark in rates.marks] == [(128, "still pays: 128"), (512, "out of memory: 512")]
    measured, doubled = rates.curves
    assert measured.x == doubled.x == [16, 32, 64, 128, 256]
    assert doubled.y[-1] == pytest.approx(measured.y[0] * 16)


@pytest.mark.parametrize("options", [{"high": 8}, {"memory_limit": 0}, {"memory_limit": -1.0}, {"low": 32, "high": 16}])
def test_what_cannot_be_asked_is_refused(options):
    assert len(BATCH_SIZE.problems(spec(values={"batch_size": 16}, options=options))) == 1
