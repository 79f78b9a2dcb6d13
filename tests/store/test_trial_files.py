from __future__ import annotations

import json
import math
import os
import random

import pytest
from narrowing import as_number, present
from store_samples import completed, line, make_trial, measured

from tunectl.core.errors import FolderError
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import request_in
from tunectl.core.records import STOPPED_FOR_GOOD, AttemptEnd, TrialRequest, WorkloadReference
from tunectl.store import json_lines, trial_files
from tunectl.store.trial_files import (
    MeasurementTail,
    TrialFiles,
    append_attempt,
    folder_stamp,
    read_trial,
    record_end,
    record_missing_attempt,
    trial_state,
    write_request,
)


@pytest.fixture
def folder(tmp_path):
    return TrialFolder(tmp_path / "00007")


def test_a_trial_without_a_folder_is_pending_and_empty(folder):
    assert read_trial(folder) == TrialFiles()
    assert trial_state(read_trial(folder)) == ("pending", "", "")


def test_a_file_in_place_of_the_folder_reads_as_empty(folder):
    folder.path.write_text("")
    assert read_trial(folder) == TrialFiles()


def test_what_a_worker_wrote_is_read_back(folder):
    items = [measured(0, learning_rate=None, gradient_norm=None), measured(10, checkpoint="step-00000010.pt")]
    result = completed(7, message="fine", device="cpu")
    make_trial(folder, items, result)
    files = read_trial(folder)
    assert files == TrialFiles(measurements=tuple(items), result=result)
    assert trial_state(files) == ("completed", "", "fine")


def test_non_finite_numbers_are_read_back(folder):
    items = [measured(0, math.inf, gradient_norm=-math.inf), measured(1, -math.inf, elapsed_seconds=math.inf)]
    make_trial(folder, items)
    assert read_trial(folder).measurements == tuple(items)
    make_trial(folder, [measured(0, math.nan, learning_rate=math.nan)])
    (item,) = read_trial(folder).measurements
    assert math.isnan(item.metrics["valid/error_rate"])
    assert math.isnan(as_number(item.learning_rate))


def test_both_ways_of_reading_a_line_agree():
    generator = random.Random(3)
    odd: list[object] = [None, True, 0, 3, -1, 0.5, "nan", "x", [], {}, 2**63, 2**80, "é"]
    found_quickly = 0
    for _ in range(3000):
        content = measured(5, checkpoint="a.pt").to_json()
        for _ in range(generator.randrange(3)):
            key = generator.choice([*content, "metrics/valid/error_rate", "metrics/new"])
            if key.startswith("metrics/") and isinstance(content.get("metrics"), dict):
                content["metrics"][key.removeprefix("metrics/")] = generator.choice(odd)
            elif generator.random() < 0.2:
                content.pop(key, None)
            else:
                content[key] = generator.choice(odd)
        other = measured(10).to_json()
        quick = trial_files._as_written([other, content])
        found_quickly += bool(quick)
        assert quick in ([], [Measurement.from_json(other), trial_files._measurement(content)])
    assert 500 < found_quickly < 2500


def test_measurements_cut_at_any_byte_lose_the_torn_line_alone(folder):
    items = (measured(0, 0.25), measured(10, math.nan), measured(20, 1e-300))
    make_trial(folder, items)
    whole = folder.measurements.read_bytes()
    for cut in range(len(whole) + 1):
        folder.measurements.write_bytes(whole[:cut])
        files = read_trial(folder)
        assert [item.step for item in files.measurements] == [0, 10, 20][: whole[:cut].count(b"\n")]
        assert files.damage == ()


def test_a_result_cut_at_any_byte_counts_as_absent_and_is_reported(folder):
    make_trial(folder, (), completed(7))
    whole = folder.result.read_bytes().rstrip(b"\n")
    for cut in range(len(whole)):
        folder.result.write_bytes(whole[:cut])
        files = read_trial(folder)
        assert files.result is None
        assert len(files.damage) == 1
        assert "result.json: is damaged and counts as missing" in files.damage[0]
        assert trial_state(files)[0] == "pending"


@pytest.mark.parametrize(
    "change",
    [
        {"state": "pending"},
        {"state": ["completed"]},
        {"state": None},
        {"trial": 8},
        {"trial": "7"},
        {"train_seconds": "fast"},
        {"train_seconds": 10**400},
        {"eval_seconds": None},
        {"infeasible_step": -1},
        {"infeasible_step": 1.5},
        {"final_step": 2**64},
        {"final_step": True},
    ],
)
def test_a_result_with_impossible_content_counts_as_absent(folder, change):
    make_trial(folder)
    folder.result.write_bytes(line({**completed(7).to_json(), **change}))
    files = read_trial(folder)
    assert files.result is None
    assert len(files.damage) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\0" * 512, bytes(range(256)), b"[" * 100_000, b'"x"'])
def test_garbage_in_every_file_is_survived(folder, content):
    make_trial(folder)
    for path in (folder.result, folder.measurements, folder.attempts):
        path.write_bytes(content + b"\n")
    files = read_trial(folder)
    assert (files.measurements, files.result, files.attempts) == ((), None, ())
    assert len(files.damage) == 3


def test_random_bytes_never_break_the_reading(folder):
    generator = random.Random(0)
    make_trial(folder, [measured(step) for step in range(5)], completed(7))
    append_attempt(folder, AttemptEnd(1, "crashed"))
    wholes = {path: path.read_bytes() for path in (folder.measurements, folder.result, folder.attempts)}
    for _ in range(300):
        for path, whole in wholes.items():
            damaged = bytearray(whole)
            for _ in range(generator.randrange(1, 4)):
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            path.write_bytes(bytes(damaged))
        try:
            files = read_trial(folder)
        except FolderError as error:
            assert "has format" in str(error)  # noqa: PT017
            continue
        assert [item.step for item in files.measurements] == sorted({item.step for item in files.measurements})


def test_damaged_lines_between_whole_ones_are_left_out_and_named(folder):
    make_trial(folder)
    lines = [line(measured(0).to_json()), b"garbage\n", line(measured(10).to_json()), b'{"step": -1, "metrics": {}}\n']
    folder.measurements.write_bytes(b"".join(lines))
    files = read_trial(folder)
    assert [item.step for item in files.measurements] == [0, 10]
    assert "measurements.jsonl: 2 damaged lines left out (line 2, 4)" in files.damage[0]


def test_a_long_file_is_read_in_parts_and_its_damaged_lines_keep_their_numbers(folder, monkeypatch):
    items = [measured(step) for step in range(200)]
    make_trial(folder, items)
    lines = folder.measurements.read_bytes().splitlines(keepends=True)
    lines[3], lines[150] = b"{damaged\n", b"[]\n"
    folder.measurements.write_bytes(b"".join(lines) + b'{"step": 200, "torn')
    for size in (0, 1, len(lines[0]), 1000, 10**6):
        monkeypatch.setattr(json_lines, "_PART_BYTES", size)
        files = read_trial(folder)
        assert files.measurements == tuple(item for item in items if item.step not in (3, 150))
        assert files.damage == (f"{folder.measurements}: 2 damaged lines left out (line 4, 151)",)
        assert b"".join(json_lines.parts(folder.measurements.read_bytes())) == folder.measurements.read_bytes()


def test_steps_written_twice_count_as_written_last_and_are_sorted(folder):
    items = [
        measured(0),
        measured(10, 0.3),
        measured(20, 0.2),
        measured(10, 0.4),
        measured(10, 0.1, measurement_kind="test"),
    ]
    make_trial(folder, items)
    read = read_trial(folder).measurements
    assert [(item.step, item.measurement_kind) for item in read] == [
        (0, "evaluation"),
        (10, "evaluation"),
        (10, "test"),
        (20, "evaluation"),
    ]
    assert read[1].metrics["valid/error_rate"] == 0.4


def test_a_later_format_is_refused_not_trained_over(folder):
    make_trial(folder)
    folder.result.write_bytes(line({**completed(7).to_json(), "format": 2}))
    with pytest.raises(FolderError, match="has format 2; this version of tunectl reads 1"):
        read_trial(folder)


def test_a_folder_in_place_of_a_file_is_reported(folder):
    make_trial(folder, [measured(0)])
    folder.result.mkdir()
    files = read_trial(folder)
    assert files.measurements != ()
    assert "is a folder, not a file" in files.damage[0]


def test_a_file_that_may_not_be_read_is_an_error_not_an_empty_trial(folder, monkeypatch):
    make_trial(folder, [measured(0)])

    def refuse(path, **_kinds):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("tunectl.core.regular_files.content", refuse)
    with pytest.raises(FolderError, match="Permission denied"):
        read_trial(folder)


def test_text_that_no_file_can_hold_is_escaped(folder):
    make_trial(folder)
    folder.result.write_bytes(json.dumps({**completed(7).to_json(), "message": "a\udcffb"}).encode())
    folder.measurements.write_bytes(json.dumps({**measured(1).to_json(), "checkpoint": "\ud800"}).encode() + b"\n")
    files = read_trial(folder)
    assert present(files.result).message == "a\\udcffb"
    assert files.measurements[0].checkpoint == "\\ud800"


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([], "pending"),
        ([AttemptEnd(1, "crashed", "signal 9")], "pending"),
        ([AttemptEnd(1, "crashed"), AttemptEnd(2, "crashed", final=True)], "failed"),
        ([AttemptEnd(1, "timeout", final=True), AttemptEnd(2, "cancelled")], "cancelled"),
        ([AttemptEnd(1, "cancelled"), AttemptEnd(2, "lost")], "pending"),
    ],
)
def test_attempts_decide_the_state_where_there_is_no_result(folder, attempts, expected):
    make_trial(folder)
    for attempt in attempts:
        append_attempt(folder, attempt)
    files = read_trial(folder)
    assert files.attempts == tuple(attempts)
    assert trial_state(files)[0] == expected
    make_trial(folder, (), completed(7, state="infeasible", reason="nan_loss"))
    assert trial_state(read_trial(folder))[:2] == ("infeasible", "nan_loss")


def request_of(attempt: int) -> TrialRequest:
    reference = WorkloadReference("m:f", "f", module="m")
    return TrialRequest("s", 7, 3, reference, {}, {}, Objective("a/b", "minimize"), 1, 1, 1, attempt=attempt)


def test_an_attempt_whose_runner_was_killed_is_seen_and_recorded_before_the_next_one(folder):
    write_request(folder, request_of(1))
    assert read_trial(folder).attempts == (AttemptEnd(1, "cancelled", "its runner ended before it"),)
    assert trial_state(read_trial(folder))[0] == "cancelled"
    assert not folder.attempts.exists(), "reading writes nothing"
    record_missing_attempt(folder)
    record_missing_attempt(folder)
    write_request(folder, request_of(2))
    append_attempt(folder, AttemptEnd(2, "crashed"))
    files = read_trial(folder)
    assert [(item.attempt, item.reason) for item in files.attempts] == [(1, "cancelled"), (2, "crashed")]
    assert files.attempt == 2


def test_a_failed_result_that_is_put_aside_stays_in_the_record_and_the_trial_failed_until_it_is_launched(folder):
    write_request(folder, request_of(1))
    failed = completed(7, state="failed", reason="error", message="ValueError: odd", device="GPU-a")
    make_trial(folder, (), failed)
    record_missing_attempt(folder)
    folder.result.unlink()
    files = read_trial(folder)
    assert files.attempts == (AttemptEnd(1, "error", "ValueError: odd", final=True, device="GPU-a"),)
    assert trial_state(files)[0] == "failed"
    write_request(folder, request_of(2))
    assert trial_state(read_trial(folder))[0] == "cancelled", "the second attempt was begun, and its runner was killed"


@pytest.mark.parametrize("state", ["completed", "infeasible"])
def test_a_result_that_stays_is_no_attempt_to_record(folder, state):
    write_request(folder, request_of(1))
    make_trial(folder, (), completed(7, state=state))
    record_missing_attempt(folder)
    assert not folder.attempts.exists()
    assert read_trial(folder).attempt == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"attempt": true}', b'{"attempt": -1}', b'{"attempt": 1e99}', b'{"format": 1}'],
)
def test_a_request_without_an_attempt_counts_as_none(folder, content):
    make_trial(folder)
    folder.request.write_bytes(content)
    assert read_trial(folder).attempts == ()
    assert read_trial(folder).attempt == 0


def test_an_attempt_is_appended_over_a_torn_one(folder):
    make_trial(folder)
    append_attempt(folder, AttemptEnd(1, "lost"))
    with open(folder.attempts, "ab") as file:
        file.write(b'{"attempt": 2, "rea')
    append_attempt(folder, AttemptEnd(2, "crashed", "signal 11", final=True, device="gpu"))
    files = read_trial(folder)
    assert files.attempts == (AttemptEnd(1, "lost"), AttemptEnd(2, "crashed", "signal 11", final=True, device="gpu"))
    assert files.damage == ()


def test_a_request_makes_its_folder_and_reads_back(folder):
    reference = WorkloadReference("m:f", "f", module="m", search_path=("/a",))
    request = TrialRequest(
        "s", 7, 3, reference, {"width": 3}, {"learning_rate": 0.1}, Objective("a/b", "maximize"), 10, 5, 3
    )
    write_request(folder, request)
    assert request_in(folder.request.read_bytes()) == request


def test_a_request_that_cannot_be_written_says_where(folder):
    folder.path.write_text("in the way")
    with pytest.raises(FolderError, match=r"request\.json: cannot be written"):
        write_request(
            folder,
            TrialRequest("s", 7, 3, WorkloadReference("m:f", "f"), {}, {}, Objective("a/b", "minimize"), 1, 1, 1),
        )


def test_the_stamp_changes_with_every_file_that_counts(folder):
    stamps = [folder_stamp(folder)]
    make_trial(folder)
    stamps.append(folder_stamp(folder))
    for path in (folder.measurements, folder.result, folder.attempts, folder.checkpoints / "step-00000010.pt"):
        before = folder.checkpoints.stat().st_mtime_ns
        path.write_bytes(b"new\n")
        if path.parent == folder.checkpoints:
            os.utime(folder.checkpoints, ns=(before, before + 1))
        stamps.append(folder_stamp(folder))
    assert len(set(stamps)) == len(stamps)
    assert folder_stamp(folder) == stamps[-1]


def test_the_tail_returns_each_whole_line_once(folder):
    tail = MeasurementTail(folder)
    assert tail.read() == ([], False)
    folder.path.mkdir()
    items = [measured(step, math.nan if step == 20 else 0.5) for step in (0, 10, 20, 30)]
    whole = b"".join(line(item.to_json()) for item in items)
    seen = []
    with open(folder.measurements, "wb", buffering=0) as file:
        for position in range(0, len(whole), 7):
            file.write(whole[position : position + 7])
            fresh, restarted = tail.read()
            assert not restarted
            seen += fresh
    assert [item.step for item in seen] == [0, 10, 20, 30]
    assert tail.read() == ([], False)


def test_the_tail_starts_again_when_the_file_was_cut_back_even_if_it_grew_since(folder):
    folder.path.mkdir()
    lines = [line(measured(step, elapsed_seconds=step + 0.25).to_json()) for step in (0, 10, 20)]
    again = [line(measured(step, elapsed_seconds=step + 0.75).to_json()) for step in (10, 20, 30, 40)]
    for regrown in ([], again[:1], again[:2], again):
        tail = MeasurementTail(folder)
        folder.measurements.write_bytes(b"".join(lines))
        assert [item.step for item in tail.read()[0]] == [0, 10, 20]
        folder.measurements.write_bytes(b"".join([lines[0], *regrown]))
        fresh, restarted = tail.read()
        assert restarted
        assert [item.elapsed_seconds for item in fresh] == [0.25, 10.75, 20.75, 30.75, 40.75][: 1 + len(regrown)]
        assert tail.read() == ([], False)


def test_the_tail_notices_a_deleted_file(folder):
    make_trial(folder, [measured(0)])
    tail = MeasurementTail(folder)
    tail.read()
    folder.measurements.unlink()
    assert tail.read() == ([], True)
    assert tail.read() == ([], False)
    make_trial(folder, [measured(5)])
    assert [item.step for item in tail.read()[0]] == [5]


def test_a_trial_that_was_stopped_for_good_is_cancelled_and_one_that_is_wanted_again_has_not_ended(tmp_path):
    folder = TrialFolder(tmp_path / "study" / "trials" / "00007")
    folder.study.mkdir()
    record_end(folder, "stopped", final=True)
    assert trial_state(read_trial(folder)) == ("cancelled", STOPPED_FOR_GOOD, "stopped")
    assert read_trial(folder).attempt == 0, "it was never launched"
    record_end(folder, "wanted", final=False)
    assert trial_state(read_trial(folder)) == ("pending", "", "")


def test_a_stop_is_recorded_after_the_attempt_whose_runner_was_killed(tmp_path):
    folder = TrialFolder(tmp_path / "study" / "trials" / "00007")
    folder.path.mkdir(parents=True)
    folder.request.write_text(json.dumps({"attempt": 2}))
    append_attempt(folder, AttemptEnd(1, "crashed", device="GPU-a"))
    record_end(folder, "stopped", final=True)
    attempts = [(item.attempt, item.reason, item.final) for item in read_trial(folder).attempts]
    assert attempts == [(1, "crashed", False), (2, "cancelled", False), (2, "cancelled", True)]
    record_end(folder, "wanted", final=False)
    assert trial_state(read_trial(folder)) == ("cancelled", "cancelled", "wanted"), "the next run goes on with it"
