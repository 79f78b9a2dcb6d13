"""The parts of a trial's time, on a clock that moves only where a test lets time pass."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_throughput import SlowExamples, Time, lines_of
from torch import Tensor, nn
from training_builders import StopAt, cross_entropy, labelled, make_request, never
from trial_records import ended

from tunectl.core.errors import Infeasible
from tunectl.core.folders import TrialFolder
from tunectl.core.measurement_kinds import CACHE_ANSWERS
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import TrialResult
from tunectl.training import pipeline_profile
from tunectl.training.pipeline_profile import run_profile
from tunectl.training.timed_batches import Extent
from tunectl.training.training_state import Clock
from tunectl.workloads.workload import Workload

EXTENT = Extent(
    warmup_updates=3, warmup_seconds=0, slow_warmup_seconds=99, block_seconds=1.0, seconds=4.0, least_blocks=4
)
READING, COMPUTING, EVALUATING = 1 / 128, 3 / 16, 5.0


def planted(time: Time) -> Workload:
    """Each example of train, each update and each batch of an evaluation takes a known time."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        time.seconds += COMPUTING if model.training else EVALUATING
        return cross_entropy(model, batch)

    data = {"train": SlowExamples(time, READING), "valid": labelled(40), "test": SlowExamples(time, 1e9)}
    return Workload(nn.Linear(6, 3), data, loss)


def profile(
    folder: TrialFolder, workload: Workload, time: Time, stop: Any = never, **changes: Any
) -> TrialResult | None:
    asked = {"workload_kind": "profile", "max_train_steps": 1000, "train_examples": 1, **changes}
    return run_profile(
        make_request(**asked),
        folder,
        lambda: workload,
        device="cpu",
        cores=2,
        stop=stop,
        seconds=TrialSeconds(),
        clock=Clock(now=time),
        extent=EXTENT,
    )


def measured(folder: TrialFolder) -> Iterator[dict[str, float]]:
    for line in lines_of(folder):
        assert line["kind"] == "profile"
        yield {name.removeprefix("profile/"): value for name, value in line["metrics"].items()}


def test_each_part_of_the_time_is_that_of_the_workload(folder: TrialFolder) -> None:
    time = Time()
    assert ended(profile(folder, planted(time), time)).state == "completed"
    *blocks, rest = measured(folder)
    assert len(blocks) == 4
    for block in blocks:
        # 8 examples are read within the time without a batch: no process reads beside the training.
        assert block["seconds_per_step"] == pytest.approx(8 * READING + COMPUTING)
        assert block["waiting"] == pytest.approx(8 * READING)
        assert block["reading"] == pytest.approx(8 * READING)
        assert block["busiest_worker"] == block["idlest_worker"] == pytest.approx(0.25)
    # Valid has 3 batches of at most 16 of its 40 examples; the sample of train is one example, which is read.
    assert rest["evaluation"] == pytest.approx(4 * EVALUATING + READING)
    assert (rest["checkpoint"], rest["resume"], rest["copying"], rest["collating"]) == (0, 0, 0, 0)
    assert (rest["data_workers"], rest["cores"], rest["train_examples"], rest["evaluated_examples"]) == (0, 2, 50, 40)


def test_nothing_is_left_of_it_but_the_measurements_and_the_trace(folder: TrialFolder) -> None:
    time = Time()
    workload = planted(time)
    before = [parameter.detach().clone() for parameter in workload.model.parameters()]
    folder.resume.write_bytes(b"of an attempt that was killed")
    (folder.checkpoints).mkdir(exist_ok=True)
    folder.checkpoint(7).write_bytes(b"")
    profile(folder, workload, time, max_train_steps=20, trace_updates=2)
    assert all(torch.equal(old, new) for old, new in zip(before, workload.model.parameters(), strict=True))
    assert {path.name for path in folder.path.iterdir()} >= {"measurements.jsonl", "trace.json.gz"}
    assert not list(folder.checkpoints.iterdir())
    assert not folder.resume.exists()
    assert not folder.previous_resume.exists()
    events = json.loads(gzip.decompress(folder.trace.read_bytes()))["traceEvents"]
    labels = [event for event in events if event.get("name") == "tunectl: wait for the batch"]
    assert len(labels) == 2


def test_the_first_trial_says_whether_the_examples_could_be_kept_in_memory(folder: TrialFolder) -> None:
    time = Time()
    profile(folder, planted(time), time, max_train_steps=20, trace_updates=1)
    *_, rest = measured(folder)
    assert CACHE_ANSWERS[int(rest["kept_train"])] == ""
    assert CACHE_ANSWERS[int(rest["kept_valid"])] == "in memory"
    assert rest["kept_bytes"] >= 50 * (6 * 4 + 8)


def test_with_kept_examples_nothing_is_read_any_more(folder: TrialFolder) -> None:
    time = Time()
    profile(folder, planted(time), time, cache_examples=True)
    first, *_ = measured(folder)
    assert first["waiting"] == first["reading"] == 0
    assert first["seconds_per_step"] == pytest.approx(COMPUTING)


def test_each_loader_process_has_its_own_time(folder: TrialFolder) -> None:
    time = Time()
    # The clock of a process of its own is a copy of ours: the time that it spends does not move ours.
    profile(folder, planted(time), time, data_workers=2, max_train_steps=40)
    *blocks, rest = measured(folder)
    assert rest["data_workers"] == 2
    assert all(block["waiting"] == 0 for block in blocks)
    total = sum(block["reading"] for block in blocks)
    assert total > 0
    assert all(block["busiest_worker"] >= block["idlest_worker"] for block in blocks)


def test_a_stop_and_a_trial_that_cannot_work_end_it(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    assert profile(folder, planted(time), time, StopAt(5)) is None

    def refused(*_arguments: Any) -> Tensor:
        raise Infeasible("too_deep")

    workload = planted(time)
    bad = Workload(workload.model, workload.data, refused)
    assert ended(profile(folder, bad, time)).reason == "too_deep"


def test_a_trace_is_written_by_rename_so_that_no_half_of_it_is_left(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, _content: bytes, **_options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline_profile, "write_bytes", full)
    time = Time()
    with pytest.raises(OSError, match="No space"):
        profile(folder, planted(time), time, max_train_steps=10, trace_updates=1)
    assert not folder.trace.exists()
