"""The measurement of throughput, on a clock that moves only where a test lets time pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from training_builders import StopAt, cross_entropy, labelled, make_request, never, plain_workload
from trial_records import ended, lines_in

from tunectl.core.errors import Infeasible, LoaderError
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.training.throughput import run_throughput
from tunectl.training.timed_batches import DeviceWaits, Enough, Extent, HostWaits, TimedBatches
from tunectl.training.training_state import Clock
from tunectl.workloads.workload import Workload

EXTENT = Extent(
    warmup_updates=3, warmup_seconds=0, slow_warmup_seconds=99, block_seconds=1.0, seconds=10.0, least_blocks=4
)


class Time:
    """A clock that does not move until something takes time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class SlowExamples(Dataset[Any]):
    def __init__(self, time: Time, seconds: float) -> None:
        self.inner, self.time, self.seconds = labelled(50), time, seconds

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        self.time.seconds += self.seconds
        return self.inner[index]


def timed(time: Time, example_seconds: float, update_seconds: float) -> Workload:
    """Each example of train and each update takes so long."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        time.seconds += update_seconds
        return cross_entropy(model, batch)

    data = {"train": SlowExamples(time, example_seconds), "valid": labelled(20)}
    return Workload(nn.Linear(6, 3), data, loss)


def measure(
    folder: TrialFolder,
    workload: Workload,
    time: Callable[[], float],
    extent: Extent = EXTENT,
    stop: Any = never,
    **changes: Any,
) -> TrialResult | None:
    request: TrialRequest = make_request(**{"workload_kind": "throughput", "max_train_steps": 1000, **changes})
    clock, seconds = Clock(now=time), TrialSeconds()
    return run_throughput(
        request, folder, lambda: workload, device="cpu", stop=stop, seconds=seconds, clock=clock, extent=extent
    )


def lines_of(folder: TrialFolder) -> list[dict[str, Any]]:
    return lines_in(folder.measurements)


def test_the_time_of_a_step_and_the_share_of_waiting_for_data_are_those_of_the_workload(folder):
    time = Time()
    found = ended(measure(folder, timed(time, 1 / 128, 3 / 16), time))
    lines = lines_of(folder)
    assert (found.state, found.reason) == ("completed", "")
    assert {line["kind"] for line in lines} == {"throughput"}
    # 8 examples of 1/128 s and 3/16 s of computing: a block of a second has 4 updates, and 10 s have 10 blocks.
    assert [line["step"] for line in lines] == [3 + 4 * block for block in range(1, 11)]
    for line in lines:
        metrics = line["metrics"]
        assert metrics["throughput/seconds_per_step"] == pytest.approx(0.25)
        assert metrics["throughput/examples_per_second"] == pytest.approx(32)
        assert metrics["throughput/data_wait_fraction"] == pytest.approx(0.25)
        assert (metrics["throughput/train_examples"], metrics["throughput/data_workers"]) == (50, 0)
    assert found.final_step == lines[-1]["step"]


def test_slow_first_updates_do_not_count(folder):
    time, slow = Time(), iter([5.0, 1.0])
    workload = timed(time, 0.0, 0.0)

    def loss(model, batch):
        time.seconds += next(slow, 0.25)
        return cross_entropy(model, batch)

    measure(folder, dataclasses.replace(workload, loss=loss), time)
    assert {line["metrics"]["throughput/seconds_per_step"] for line in lines_of(folder)} == {0.25}


def test_updates_that_take_minutes_are_measured_one_by_one_and_few_of_them(folder):
    time = Time()
    measure(folder, timed(time, 0.0, 45.0), time, Extent())
    steps = [line["step"] for line in lines_of(folder)]
    assert steps == [3, 4], "a warm-up of two, then until a minute is over"


def test_no_more_updates_are_measured_than_were_asked_for(folder):
    time = Time()
    found = ended(measure(folder, timed(time, 0.0, 0.125), time, max_train_steps=20))
    assert [line["step"] for line in lines_of(folder)] == [11, 19, 20]
    assert found.final_step == 20


def test_no_weight_moves_and_nothing_is_evaluated_or_kept(folder):
    time = Time()
    workload = timed(time, 0.0, 0.1)
    before = [parameter.detach().clone() for parameter in workload.model.parameters()]
    workload = dataclasses.replace(workload, metrics=lambda model, batch: pytest.fail("nothing is to be evaluated"))
    measure(folder, workload, time, learning_rate=0.5, schedule="cosine", warmup_steps=5, weight_decay=0.1)
    assert all(torch.equal(old, new) for old, new in zip(before, workload.model.parameters(), strict=True))
    assert not list(folder.checkpoints.iterdir())
    assert not folder.resume.exists()


@pytest.mark.parametrize("changes", [{"accumulate_steps": 3}, {"precision": "float16"}, {"polyak_decay": 0.9}])
def test_what_the_configuration_asks_for_is_trained_with(folder, changes):
    time = Time()
    found = ended(measure(folder, plain_workload(), StopWatch(time), max_train_steps=30, **changes))
    assert found.state == "completed"
    assert lines_of(folder)


class StopWatch:
    """A clock that every look at it moves on."""

    def __init__(self, time: Time) -> None:
        self.time = time

    def __call__(self) -> float:
        self.time.seconds += 0.01
        return self.time.seconds


def test_a_loss_that_is_not_a_number_does_not_matter(folder):
    time = Time()
    workload = timed(time, 0.0, 0.02)

    def loss(model, batch):
        return workload.loss(model, batch) * math.nan

    found = ended(measure(folder, dataclasses.replace(workload, loss=loss), time))
    assert found.state == "completed"
    assert lines_of(folder)[-1]["step"] > 500, "the loop looks at the losses every 500 updates"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: 7 bytes"
        ),
        RuntimeError("std::bad_alloc"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        LoaderError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ..."),
    ],
)
def test_want_of_memory_is_an_infeasible_batch_size(folder, error):
    time, updates = Time(), iter(range(1000))

    def loss(model, batch):
        if next(updates) == 4:
            raise error
        return cross_entropy(model, batch)

    found = ended(measure(folder, dataclasses.replace(timed(time, 0, 0), loss=loss), time))
    assert (found.state, found.reason, found.infeasible_step) == ("infeasible", "out_of_memory", 4)
    assert found.message


def test_other_errors_are_distinguished_from_it(folder):
    def failing(error):
        def loss(model, batch):
            raise error

        return dataclasses.replace(plain_workload(), loss=loss)

    found = ended(measure(folder, failing(Infeasible("no such batch")), Time()))
    assert (found.state, found.reason) == ("infeasible", "no such batch")
    for error in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        LoaderError("is killed by signal: Killed"),
    ):
        with pytest.raises(type(error)):
            measure(folder, failing(error), Time())


def test_a_stopped_measurement_begins_anew(folder):
    time = Time()
    assert measure(folder, timed(time, 0.0, 0.25), time, stop=StopAt(13)) is None
    assert [line["step"] for line in lines_of(folder)] == [7, 11]
    assert not folder.resume.exists()
    measure(folder, timed(time, 0.0, 0.5), time, max_train_steps=7)
    assert [line["step"] for line in lines_of(folder)] == [5, 7]


class Event:
    """An event of a device that works while the host runs ahead, with the times at which it passes them."""

    def __init__(self, passed: list[float]) -> None:
        self.passed = passed

    def record(self) -> None:
        self.at = self.passed.pop(0)

    def elapsed_time(self, later: Event) -> float:
        return (later.at - self.at) * 1000


def test_on_a_gpu_only_the_time_without_work_is_waiting():
    # Between two updates the device waits 0.25 s, then not at all.
    passed = [1.0, 1.25, 3.0, 3.0]
    waits = DeviceWaits(lambda: Event(passed))
    for _ in range(2):
        waits.begin()
        waits.end()
    assert waits.take() == 0.25
    assert waits.take() == 0


def test_the_device_is_waited_for_around_a_block_and_not_at_every_update():
    time, asked = Time(), []

    class Source:
        def take(self, update: int) -> None:
            time.seconds += 0.25

        def close(self) -> None:
            pass

    timed_batches = TimedBatches(
        Source(),
        now=time,
        synchronise=lambda: asked.append(time.seconds),
        waits=HostWaits(time),
        extent=EXTENT,
        most_updates=12,
        stop=never,
        measured=lambda *_: None,
    )
    for update in range(12):
        timed_batches.take(update)
    with pytest.raises(Enough):
        timed_batches.take(12)
    assert asked == [0.75, 1.75, 1.75, 2.75, 2.75, 3.0]
