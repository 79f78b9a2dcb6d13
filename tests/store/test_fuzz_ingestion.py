"""Whatever is in the files of a study, the tables hold what the sound lines hold, or the study is refused.

An oracle of plain json, one line at a time, decides which lines count.
"""

from __future__ import annotations

import csv
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from damaged_files import (
    HOSTILE_LINES,
    ID,
    NESTED,
    PLAN,
    SOUND,
    SPEC,
    TRIALS,
    as_text,
    damaged,
    expected_attempts,
    expected_best,
    expected_measurements,
    expected_result,
    expected_state,
    fields_of,
    is_whole,
    objects,
    read_json,
)
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from store_samples import completed, line

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.session.outcome_index import refresh_index
from tunectl.session.written_tables import write_tables
from tunectl.store.index import Index
from tunectl.store.plan_file import read_plan
from tunectl.store.trial_files import read_trial, trial_state

_FEW = 15


class Folders:
    """A study folder whose files are written anew for every example."""

    def __init__(self, path: Path) -> None:
        self.study = StudyFolder(path)
        self.now = 10**18
        for trial in TRIALS:
            home = self.study.trial(trial.trial)
            home.checkpoints.mkdir(parents=True)
            for step in (10, 20):
                home.checkpoint(step).touch()
        sound = {**SOUND, "result.json": line(completed(0, device="cpu").to_json())}
        for name, content in sound.items():
            (self.study.trial(0).path / name).write_bytes(content)

    @property
    def home(self) -> TrialFolder:
        return self.study.trial(ID)

    def write(self, files: dict[str, bytes]) -> None:
        for name, content in {**SOUND, **files}.items():
            path = self.home.path / name
            path.write_bytes(content)
            self.now += 1  # the clock of the file system is too coarse for two writes in a row
            os.utime(path, ns=(self.now, self.now))

    def tables(self, outcomes: list[TrialOutcome], index: Index) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in write_tables(self.study, SPEC, outcomes, index).paths}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with Index.open_for_writing(tmp_path_factory.mktemp("kept") / "study.db") as index:
        yield index


def look(folders: Folders, index: Index) -> tuple[list[TrialOutcome], str, dict[str, bytes]]:
    """An index brought up to date: the outcomes, the measurements, the tables."""
    outcomes = refresh_index(folders.study, TRIALS, SPEC.objective, index, lambda _line: None)
    stored = [(trial, item) for trial, item in index.measurements()]
    return outcomes, as_text(stored), folders.tables(outcomes, index)


def assert_ingested(folders: Folders, kept: Index, files: dict[str, bytes]) -> None:
    files = {**SOUND, **files}
    folders.write(files)
    for trial in TRIALS:  # else what is missing now would be restored from the example before
        kept.put_outcome(TrialOutcome(trial, "pending"))
    try:
        result = expected_result(files["result.json"])
    except FolderError:
        with pytest.raises(FolderError, match="has format"):
            read_trial(folders.home)
        with pytest.raises(FolderError, match="has format"):
            refresh_index(folders.study, TRIALS, SPEC.objective, kept, lambda _line: None)
        return
    measurements = expected_measurements(files["measurements.jsonl"])
    attempts = expected_attempts(files["attempts.jsonl"])
    if result is None:
        request = read_json(files["request.json"])
        begun = request.get("attempt") if isinstance(request, dict) else None
        if is_whole(begun, 1) and begun > (attempts[-1][0] if attempts else 0):
            attempts = [*attempts, (begun, "cancelled", False)]
    read = read_trial(folders.home)
    assert as_text([fields_of(item) for item in read.measurements]) == as_text(measurements)
    assert [(item.attempt, item.reason, item.final) for item in read.attempts] == attempts
    assert trial_state(read)[0] == expected_state(result, attempts)
    assert all(len(text.splitlines()) == 1 for text in read.damage)
    assert_tabled(folders, kept, measurements, expected_state(result, attempts))


def assert_tabled(folders: Folders, kept: Index, measurements: list[tuple[Any, ...]], state: str) -> None:
    outcomes, stored, tables = look(folders, kept)
    with tempfile.TemporaryDirectory() as place, Index.open_for_writing(Path(place) / "study.db") as fresh:
        assert as_text(look(folders, fresh)) == as_text((outcomes, stored, tables)), "rebuilt is kept"
    rows = list(csv.DictReader(tables["trials.csv"].decode().splitlines(keepends=True)))
    assert [row["trial"] for row in rows] == ["0", "1"]
    assert (rows[0]["state"], rows[0]["best_step"], rows[0]["best_value"]) == ("completed", "20", "0.125")
    names = ("best_step", "best_value", "final_step", "final_value")
    shown = ["" if value is None else repr(value) for value in expected_best(measurements)]
    assert [rows[1][name] for name in names] == shown
    assert rows[1]["state"] == state
    assert rows[1]["best_checkpoint"] in ("", *(f"trials/00001/checkpoints/step-000000{step}.pt" for step in (10, 20)))
    frame = pyarrow.parquet.read_table(folders.study.tables / "measurements.parquet")
    assert len(set(frame.column_names)) == len(frame.column_names)
    steps = [step for trial, step in zip(*map(pyarrow.ChunkedArray.to_pylist, frame.columns[:2]), strict=True) if trial]
    assert steps == [item[0] for item in measurements]


@examples(_FEW)
@given(content=damaged(SOUND["measurements.jsonl"]))
def test_damaged_measurements_leave_what_the_sound_lines_say(folders: Folders, kept: Index, content: bytes) -> None:
    assert_ingested(folders, kept, {"measurements.jsonl": content})


@examples(_FEW)
@given(content=damaged(SOUND["result.json"]))
def test_a_damaged_result_counts_as_absent(folders: Folders, kept: Index, content: bytes) -> None:
    assert_ingested(folders, kept, {"result.json": content})


@examples(_FEW)
@given(attempts=damaged(SOUND["attempts.jsonl"]), has_result=st.booleans(), request=damaged(SOUND["request.json"]))
def test_damaged_attempts_leave_what_the_sound_lines_say(
    folders: Folders, kept: Index, attempts: bytes, has_result: bool, request: bytes
) -> None:
    files = {"attempts.jsonl": attempts, "request.json": request}
    assert_ingested(folders, kept, files if has_result else {**files, "result.json": b""})


@examples(_FEW)
@given(content=st.one_of(st.binary(max_size=200), damaged(b"".join(HOSTILE_LINES)), st.sampled_from(NESTED)))
def test_random_bytes_in_every_file_are_survived(folders: Folders, kept: Index, content: bytes) -> None:
    assert_ingested(folders, kept, dict.fromkeys(SOUND, content))


@examples(_FEW)
@given(content=damaged(PLAN))
def test_a_damaged_plan_is_refused_by_its_line_or_read_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plan.jsonl"
    path.write_bytes(content)
    try:
        trials = read_plan(path)
    except FolderError as error:
        refusal = str(error)
        assert re.match(rf"{re.escape(str(path))}:\d+: the line ", refusal)
        return
    assert as_text([trial.to_json() for trial in trials]) == as_text(
        [PlannedTrial.from_json(item).to_json() for item in objects(content) if item is not None]
    )
    assert [trial.trial for trial in trials] == list(range(content.count(b"\n")))
    with tempfile.TemporaryDirectory() as place, Index.open_for_writing(Path(place) / "study.db") as index:
        outcomes = refresh_index(StudyFolder(tmp_path), trials, SPEC.objective, index, lambda _line: None)
        assert as_text([item.plan for item in outcomes]) == as_text(trials)
        assert as_text(list(index.outcomes())) == as_text(outcomes)
        write_tables(StudyFolder(tmp_path), SPEC, outcomes, index)


FOUND = {
    "an attempt that no table can hold": ("attempts.jsonl", b'{"attempt": 1' + b"0" * 30 + b', "reason": "lost"}\n'),
    "an attempt that is no number": ("attempts.jsonl", b'{"attempt": true, "reason": "lost"}\n'),
    "a message nested so deeply that it cannot be shown": (
        "attempts.jsonl",
        b'{"attempt": 3, "reason": "lost", "message": ' + b"[" * 700 + b"]" * 700 + b"}\n",
    ),
    "a kind that is no text": ("measurements.jsonl", b'{"step": 40, "kind": NaN, "metrics": {}}\n'),
    "a kind nested so deeply that it cannot be shown": (
        "measurements.jsonl",
        b'{"step": 40, "kind": ' + b"[" * 700 + b"]" * 700 + b', "metrics": {}}\n',
    ),
    "a checkpoint's name that is too long for a file": (
        "measurements.jsonl",
        b'{"step": 40, "metrics": {"valid/error_rate": 0}, "checkpoint": "' + b"x" * 300 + b'"}\n',
    ),
    "two objects in one line and one in two": (
        "measurements.jsonl",
        b'{"step": 40, "metrics": {"a/b": 1}\n"c": 2},{"step": 50, "metrics": {}}\n',
    ),
    "metrics called as columns are": (
        "measurements.jsonl",
        b'{"step": 40, "metrics": {"valid/error_rate": 0, "kind": 1, "learning_rate": 2, "trial": 3}}\n',
    ),
}
"""What the fuzzing found, and what it was made for: lines after the sound ones."""


@pytest.mark.parametrize(("name", "content"), FOUND.values(), ids=FOUND.keys())
def test_what_was_found_leaves_what_the_sound_lines_say(
    folders: Folders, kept: Index, name: str, content: bytes
) -> None:
    assert_ingested(folders, kept, {"result.json": b"", name: SOUND[name] + content})
