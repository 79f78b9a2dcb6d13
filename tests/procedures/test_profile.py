"""What is changed first, on made-up machines whose times are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from made_up_runs import spec_with

from tunectl.analysis.results.runs import Run, curves_of
from tunectl.core.measurement_kinds import CACHE_ANSWERS, PROFILE
from tunectl.core.measurements import Measurement
from tunectl.core.records import PlannedTrial
from tunectl.procedures.procedure import Conclusion, Wish
from tunectl.procedures.profile import PROFILE as PROCEDURE
from tunectl.procedures.profile import ProfileOptions, tried
from tunectl.procedures.profile_proposals import TimedChange, chance_of_less, helpful

spec = partial(spec_with, ProfileOptions, eval_every=100, max_train_steps=4000)


@dataclass(frozen=True)
class Machine:
    """Computes an update in `computing` seconds and reads the examples of one in `reading`; an evaluation takes
    `evaluating` and `each_batch` for each of its batches, a checkpoint `saving`. Loader processes read beside the
    training, each at full speed as long as there are cores.
    """

    computing: float = 0.02
    reading: float = 0.0
    evaluating: float = 0.01
    each_batch: float = 0.0
    saving: float = 0.001
    copying: float = 0.0
    cores: int = 4
    workers: int = 0
    kept: str = ""
    noise: float = 0.01
    breaks: Callable[[Wish], bool] = lambda wish: False

    def run(self, wish: Wish, trial: int) -> Run:
        plan = PlannedTrial(trial, *(wish.phase, wish.point, wish.repeat), (), {}, 0, "profile", dict(wish.training))
        if self.breaks(wish):
            return Run(plan, "infeasible", "out_of_memory")
        random = np.random.default_rng(trial)
        workers = wish.training.get("data_workers", self.workers)
        reading = 0.0 if wish.training.get("cache_examples") else self.reading
        waiting = reading if not workers else max(0.0, reading / min(workers, self.cores) - self.computing)
        batches = 5120 / int(wish.changes.get("eval_batch_size") or 1024)
        once = {
            "collating": 0.0,
            "copying": self.copying,
            "evaluation": self.evaluating + batches * self.each_batch,
            "checkpoint": self.saving,
            "resume": self.saving,
            "resume_interval": 5.0,
            "data_workers": workers,
            "cores": self.cores,
            "train_examples": 50_000,
            "evaluated_examples": 5120,
        }
        if wish.training.get("trace_updates"):
            answer = CACHE_ANSWERS.index(self.kept)
            once |= {"kept_train": answer, "kept_valid": answer, "kept_bytes": 1e6}
        # The machine is slower or faster for a whole trial.
        speed = float(np.exp(random.normal(0, self.noise)))
        seconds = (self.computing + waiting + self.copying) * speed
        block = {"seconds_per_step": seconds, "waiting": (waiting + self.copying) * speed, "reading": reading}
        block |= {"busiest_worker": reading / seconds, "idlest_worker": reading / seconds}
        lines = [Measurement(step, _named(block), "profile") for step in range(10, 60, 10)]
        lines.append(
            Measurement(61, _named({name: value * speed for name, value in once.items()} | _facts(once)), "profile")
        )
        return Run(plan, "completed", curves=curves_of(lines))


def _facts(once: dict[str, Any]) -> dict[str, Any]:
    timed = ("collating", "copying", "evaluation", "checkpoint", "resume")
    return {name: value for name, value in once.items() if name not in timed}


def _named(values: dict[str, Any]) -> dict[str, float]:
    return {PROFILE.column(name): float(value) for name, value in values.items()}


def profiled(machine: Machine, **changes: Any) -> tuple[Conclusion, list[TimedChange], list[Wish]]:
    results: dict[tuple[int, int, int], Run] = {}
    asked = spec(**changes)
    for _ in range(10):
        wishes = list(PROCEDURE.next_trials(asked, results))
        new = [wish for wish in wishes if (wish.phase, wish.point, wish.repeat) not in results]
        if not new:
            return PROCEDURE.conclude(asked, results), tried(asked, results), wishes
        for wish in new:
            results[wish.phase, wish.point, wish.repeat] = machine.run(wish, len(results))
    raise AssertionError("it does not end")


def test_slow_reading_calls_for_kept_examples_and_loader_processes() -> None:
    found, changes, wishes = profiled(Machine(reading=0.05))
    # 20 ms computing, 50 ms reading: 71 % waiting; without it 70 ms become 20 ms.
    assert found.answers["shares"]["waiting for data"] == pytest.approx(0.71, abs=0.02)
    gains = {item.change.name: item.gain for item in changes}
    assert gains == pytest.approx(
        {"data_workers: 2": 0.64, "data_workers: 4": 0.71, "cache_examples: true": 0.71}, abs=0.03
    )
    assert {item.change.name for item in helpful(changes)} == set(gains)
    assert found.answers["first"] in ("data_workers: 4", "cache_examples: true")
    assert "resources: {cache_examples: true}  # saves 7" in found.advice
    assert found.advice.count("data_workers") == 1, "of two numbers of processes the better one"
    joined = [wish for wish in wishes if wish.phase == 2]
    assert len(joined) == 4
    assert joined[0].training["cache_examples"] == 1
    assert joined[0].training["data_workers"] == 4


def test_random_examples_are_never_proposed_to_be_kept() -> None:
    _, changes, _ = profiled(Machine(reading=0.05, kept="random"))
    assert {item.change.key for item in changes} == {"data_workers"}


def test_examples_in_memory_leave_only_the_evaluation_to_change() -> None:
    _, changes, _ = profiled(Machine(reading=0.05, kept="in memory", evaluating=2.0))
    assert {item.change.key for item in changes} == {"eval_every", "eval_batch_size"}


def test_slow_evaluation_calls_for_fewer_of_them() -> None:
    # An evaluation of 2 s every 100 updates of 20 ms: half of the time; at 10 evaluations in 4,000 updates 20 %.
    found, changes, _ = profiled(Machine(evaluating=2.0))
    assert found.answers["shares"]["evaluating"] == pytest.approx(0.5, abs=0.02)
    assert found.answers["first"] == "eval_every: 400"
    assert helpful(changes)[0].gain == pytest.approx(1 - (0.02 + 11 * 2 / 4000) / (0.02 + 41 * 2 / 4000), abs=0.02)
    assert "training: {eval_every: 400}" in found.advice


def test_many_small_batches_of_an_evaluation_call_for_larger_ones() -> None:
    found, changes, _ = profiled(Machine(each_batch=0.4), eval_every=400)
    assert [item.change.name for item in helpful(changes)] == ["eval_batch_size: 4096"]
    assert found.advice.startswith("eval_batch_size: 4096  # saves")


def test_slow_checkpoints_call_for_fewer_evaluations() -> None:
    found, _, _ = profiled(Machine(saving=1.0))
    assert found.answers["first"] == "eval_every: 400"


def test_processes_that_do_not_keep_up_get_more_of_them_and_more_batches_in_advance() -> None:
    _, changes, _ = profiled(Machine(reading=0.2, workers=2, kept="random", cores=8))
    assert {item.change.name for item in changes} == {"data_workers: 4", "data_workers: 8", "prefetch_batches: 8"}
    assert {item.change.name for item in helpful(changes)} == {"data_workers: 4", "data_workers: 8"}


def test_where_all_is_computing_nothing_is_tried() -> None:
    found, changes, wishes = profiled(Machine())
    assert (len(wishes), changes, found.advice, found.answers["first"]) == (1, [], "", None)
    assert "none was tried" in found.verdict
    assert "batch-size" in found.verdict


def test_a_copy_to_the_device_is_not_called_waiting() -> None:
    found, _, _ = profiled(Machine(copying=0.01))
    shares = found.answers["shares"]
    assert shares["copying to the device"] == pytest.approx(1 / 3, abs=0.03)
    assert shares["waiting for data"] == pytest.approx(0, abs=0.01)


def test_a_change_that_does_not_fit_is_named_with_its_reason_and_not_adopted() -> None:
    found, changes, _ = profiled(Machine(reading=0.05, breaks=lambda wish: "cache_examples" in wish.training))
    assert [item.works for item in changes] == [True, True, False]
    assert "cache_examples" not in found.advice
    assert found.rows[-1][-1] != ""
    assert any(row[0] == "cache_examples: true" and "out_of_memory" in str(row[-1]) for row in found.rows)


def test_a_trial_that_cannot_be_timed_at_all_is_said() -> None:
    found, _, _ = profiled(Machine(breaks=lambda wish: True))
    assert found.verdict == "The trial cannot be timed: out_of_memory."


def test_gains_within_the_noise_are_called_none() -> None:
    # Reading takes a tenth of the time, and no process can read beside the training: nothing gains anything.
    false = 0
    for seed in range(40):
        machine = Machine(reading=0.002, cores=4, workers=0, kept="random", noise=0.15)
        results: dict[tuple[int, int, int], Run] = {}
        asked = spec()
        for _ in range(10):
            new = [w for w in PROCEDURE.next_trials(asked, results) if (w.phase, w.point, w.repeat) not in results]
            if not new:
                break
            for wish in new:
                still = Wish(
                    wish.phase, wish.point, wish.repeat, {}, {"trace_updates": wish.training.get("trace_updates", 0)}
                )
                results[wish.phase, wish.point, wish.repeat] = machine.run(still, 1000 * seed + len(results))
        found = tried(asked, results)
        assert found
        false += any(item.helps for item in found)
    assert false <= 3, f"{false} of 40 studies in which nothing helps"


def test_trials_are_timed_in_turn_so_that_a_slow_hour_is_in_all_of_them() -> None:
    _, changes, wishes = profiled(Machine(reading=0.05))
    first = [(wish.phase, wish.point, wish.repeat) for wish in wishes if wish.phase < 2]
    each = len(changes)
    assert first[0] == (0, 0, 0)
    assert first[1 : 1 + each] == [(1, point, 0) for point in range(each)]
    assert first[1 + each] == (0, 0, 1)
    assert len(first) == 4 * (1 + each)


def test_only_the_first_trial_keeps_a_trace() -> None:
    _, _, wishes = profiled(Machine(reading=0.05))
    assert [wish.training.get("trace_updates", 0) > 0 for wish in wishes] == [True] + [False] * (len(wishes) - 1)


def test_where_the_noise_hides_a_gain_all_are_timed_more_often_and_an_outlier_does_not_hide_it() -> None:
    # Every fifth trial is disturbed and takes three times as long: with four and four, the gain would not be clear.
    def disturbed(trial: int) -> Machine:
        return Machine(reading=0.02, kept="random", cores=2, computing=0.02 * (3 if trial % 5 == 0 else 1))

    results: dict[tuple[int, int, int], Run] = {}
    asked = spec()
    while new := [w for w in PROCEDURE.next_trials(asked, results) if (w.phase, w.point, w.repeat) not in results]:
        for wish in new:
            results[wish.phase, wish.point, wish.repeat] = disturbed(len(results)).run(wish, len(results))
    assert sum(key[:2] == (0, 0) for key in results) == 8
    assert {item.change.key for item in tried(asked, results) if item.helps} == {"data_workers"}
    assert not any(item.helps for item in tried(asked, results, 4))


@pytest.mark.parametrize("sizes", [(4, 4), (8, 8), (3, 5)])
def test_the_chance_of_an_order_is_that_of_scipy(sizes: tuple[int, int]) -> None:
    from scipy.stats import mannwhitneyu

    random = np.random.default_rng(0)
    for shift in (-2.0, -0.5, 0.0, 1.0):
        one, other = random.normal(shift, 1, sizes[0]), random.normal(0, 1, sizes[1])
        expected = mannwhitneyu(one, other, alternative="less", method="exact").pvalue
        assert chance_of_less(list(one), list(other)) == pytest.approx(expected)
    assert chance_of_less([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]) == pytest.approx(1 / 70)
    assert chance_of_less([1.0] * 4, [1.0] * 4) > 0.5, "equal numbers say nothing"
