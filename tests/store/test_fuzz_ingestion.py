"""Whatever stands in the files of a study, the tables say what the sound lines say, or the study is refused.

What counts is told by an oracle of plain json, one line at a time.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from builders import NUISANCE_RATE, study
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from store_samples import completed, line, measured

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import AttemptEnd, Measurement, PlannedTrial, TrialOutcome
from tunectl.sampling.plan import plan_trials
from tunectl.store import json_lines
from tunectl.store.index import Index
from tunectl.store.plan_file import read_plan
from tunectl.store.trial_files import MeasurementTail, read_trial, trial_state
from tunectl.study.standing import refresh
from tunectl.study.tabling import write_tables

_FEW = 40
_LARGEST = 2**63 - 1
SPEC = study({"learning_rate": NUISANCE_RATE}, search="{trials: 2}")
TRIALS = plan_trials(SPEC)
ID = 1
"""The trial whose files are damaged; trial 0 stays sound, and its row must stay what it is."""

SOUND = {
    "measurements.jsonl": b"".join(
        line(measured(step, value, checkpoint=f"step-{step:08d}.pt" if step else None).to_json())
        for step, value in ((0, 0.9), (10, 0.25), (20, 0.125), (30, math.nan))
    ),
    "result.json": line(completed(ID, device="cpu", attempt=3).to_json()),
    "attempts.jsonl": line(AttemptEnd(1, "crashed", "SIGSEGV").to_json()) + line(AttemptEnd(2, "cancelled").to_json()),
    "request.json": line({"format": 1, "attempt": 3}),
}
PLAN = b"".join(line(trial.to_json()) for trial in TRIALS)

_TOKEN = re.compile(rb'"[^"\n]*"|-?\d[\d.e+-]*|true|false|null')
_NESTED = [b"[" * depth + b"]" * depth for depth in (3, 600, 1300, 1600, 100_000)]
_WORDS = [
    *[b"NaN", b"Infinity", b"-Infinity", b"null", b"true", b"{}", b"[]", b'""', b'"nan"', b'"-inf"', b"0", b"1", b"-1"],
    *[b"1.5", b"1e999", b"-0.0", b"5e-324", b"9223372036854775807", b"9223372036854775808", b"1" + b"0" * 400],
    *[b"9" * 5000, b'"\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"a\\u0000b"', b'"\\n|,\\r"', b'"../../../x"', b'"."'],
    *[b'"' + b"x" * 300 + b'"', b'"/etc/passwd"', b'"step-00000010.pt"', b'"step-99999999.pt"', b'"kind"', b'"trial"'],
    *[b'"completed"', b'"infeasible"', b'"failed"', b'"pending"', b'"running"', b'"evaluation"', b'"cancelled"'],
]
_LINES = [
    *[
        b"\n",
        b"\0\n",
        b"{}\n",
        b"[]\n",
        b"1\n",
        b"null\n",
        b"\xef\xbb\xbf{}\n",
        b'{"step": 5}\n',
        b"\x1b\n",
        b"{\n",
        b"}\n",
    ],
    *[b'{"step": 40, "metrics": {}}\n', b'{"step": 10, "metrics": {"valid/error_rate": 0.0625}}\n'],
    *[
        b'{"step": 50, "metrics": {"valid/error_rate": 1' + b"0" * 400 + b"}}\n",
        b'{"step": 1, "step": 2, "metrics": {}}\n',
    ],
    *[b'{"step": 60, "metrics": {"valid/error_rate": 0, "valid/error_rate": NaN}, "kind": "test"}\n'],
    *[b'{"attempt": 4, "reason": "lost", "final": true}\n', b'{"attempt": 1' + b"0" * 30 + b', "reason": "x"}\n'],
    *[b'{"step": 7, "metrics": {"a": 1', b'"b": 2}},{"step": 8, "metrics": {}}\n'],
]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content after one to four mishaps: torn, flipped, doubled, reordered, or with other things in it."""
    for _ in range(draw(st.integers(1, 4))):
        lines = content.splitlines(keepends=True) or [b""]
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        number = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 8)):
            case 0:
                content = content[:at]
            case 1:
                content = content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]
            case 2:
                content = b"".join([*lines[:number], lines[number], *lines[number:]])
            case 3:
                content = b"".join(draw(st.permutations(lines)))
            case 4:
                content = b"".join([*lines[:number], draw(st.sampled_from(_LINES)), *lines[number:]])
            case 5:
                content = content.replace(*draw(st.sampled_from([(b",", b"\n"), (b"\n", b","), (b"\n", b"")])), 1)
            case _:
                content = _with_another_word(content, draw(st.integers(0, 60)), draw(st.sampled_from(_WORDS + _NESTED)))
    return content


def _with_another_word(content: bytes, number: int, word: bytes) -> bytes:
    found = list(_TOKEN.finditer(content))
    if not found:
        return word
    start, end = found[number % len(found)].span()
    return content[:start] + word + content[end:]


# The oracle.


def objects(content: bytes) -> Iterator[dict[str, Any] | None]:
    """The object of every complete line, None for a line that holds none."""
    for text in content.split(b"\n")[:-1]:
        value = read_json(text)
        yield value if isinstance(value, dict) else None


def read_json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def is_whole(value: object, least: int = 0) -> bool:
    return type(value) is int and least <= value <= _LARGEST


def real(value: object) -> float | None:
    if isinstance(value, str):
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}.get(value)
    if type(value) not in (int, float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def expected_measurements(content: bytes) -> list[tuple[Any, ...]]:
    """(step, kind, metrics, rate, norm, seconds, checkpoint), each (step, kind) as it was written last."""
    last: dict[tuple[int, str], tuple[Any, ...]] = {}
    for item in objects(content):
        kind = (item or {}).get("kind", "evaluation")
        if item is None or not is_whole(item.get("step")) or not isinstance(kind, str):
            continue
        if not isinstance(item.get("metrics"), dict):
            continue
        read = {name: real(value) for name, value in item["metrics"].items()}
        checkpoint = item.get("checkpoint")
        last[item["step"], escaped(kind)] = (
            item["step"],
            escaped(kind),
            {name: value for name, value in read.items() if value is not None},
            real(item.get("learning_rate")),
            real(item.get("gradient_norm")),
            real(item.get("elapsed_seconds")) or 0.0,  # so that -0.0 is 0.0, here and there
            escaped(checkpoint) if isinstance(checkpoint, str) else None,
        )
    return [last[key] for key in sorted(last)]


def expected_attempts(content: bytes) -> list[tuple[int, str, bool]]:
    sound = [item for item in objects(content) if item is not None]
    sound = [item for item in sound if is_whole(item.get("attempt"), 1) and isinstance(item.get("reason"), str)]
    return [(item["attempt"], escaped(item["reason"]), item.get("final") is True) for item in sound]


def expected_result(content: bytes) -> dict[str, Any] | None:
    """The result, None where it is damaged; raises FolderError where a later version wrote it."""
    value = read_json(content)
    if not isinstance(value, dict):
        return None
    version = value.get("format", 1)
    if isinstance(version, int) and version > 1:
        raise FolderError("a later version's")
    state, trial = value.get("state"), value.get("trial")
    if not isinstance(state, str) or state not in ("completed", "infeasible", "failed") or type(trial) is not int:
        return None
    steps = [value.get(name) for name in ("infeasible_step", "final_step", "attempt")]
    times = [value.get(name, 0.0) for name in ("train_seconds", "eval_seconds", "startup_seconds")]
    sound = all(step is None or is_whole(step) for step in steps) and all(real(time) is not None for time in times)
    return value if trial == ID and sound else None


def expected_state(result: dict[str, Any] | None, attempts: list[tuple[int, str, bool]]) -> str:
    if result is not None:
        return str(result["state"])
    _, reason, final = attempts[-1] if attempts else (0, "", False)
    return "failed" if final else "cancelled" if reason == "cancelled" else "pending"


def expected_best(measurements: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """(best step, best value, final step, final value)."""
    evaluations = [item for item in measurements if item[1] == "evaluation"]
    values = [(item[2].get("valid/error_rate"), item[0]) for item in evaluations]
    finite = [(value, step) for value, step in values if step > 0 and value is not None and math.isfinite(value)]
    best_value, best_step = min(finite, default=(None, None))
    final_value, final_step = values[-1] if values else (None, None)
    return best_step, best_value, final_step, final_value


# What the store makes of it.


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
            self.now += 1  # the clock that tells two writes apart is too coarse for two in a row
            os.utime(path, ns=(self.now, self.now))

    def tables(self, outcomes: list[TrialOutcome], index: Index) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in write_tables(self.study, SPEC, outcomes, index).paths}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def kept() -> Index:
    return Index.in_memory()


def as_text(values: object) -> str:
    """Values by which two reads can be compared: NaN is NaN, and 0 is not 0.0."""
    return repr(values)


def fields_of(item: Measurement) -> tuple[Any, ...]:
    """The measurement as `expected_measurements` gives it."""
    head = (item.step, item.kind, item.metrics, item.learning_rate, item.gradient_norm)
    return (*head, item.elapsed_seconds or 0.0, item.checkpoint)


def look(folders: Folders, index: Index) -> tuple[list[TrialOutcome], str, dict[str, bytes]]:
    """An index brought up to date: the outcomes, the measurements, the tables."""
    outcomes = refresh(folders.study, TRIALS, SPEC.objective, index, lambda _line: None)
    stored = [(trial, item) for trial, item in index.measurements()]
    return outcomes, as_text(stored), folders.tables(outcomes, index)


def assert_ingested(folders: Folders, kept: Index, files: dict[str, bytes]) -> None:
    files = {**SOUND, **files}
    folders.write(files)
    try:
        result = expected_result(files["result.json"])
    except FolderError:
        with pytest.raises(FolderError, match="has format"):
            read_trial(folders.home)
        with pytest.raises(FolderError, match="has format"):
            refresh(folders.study, TRIALS, SPEC.objective, kept, lambda _line: None)
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
    with Index.in_memory() as fresh:
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
@given(content=st.one_of(st.binary(max_size=200), damaged(b"".join(_LINES)), st.sampled_from(_NESTED)))
def test_random_bytes_in_every_file_are_survived(folders: Folders, kept: Index, content: bytes) -> None:
    assert_ingested(folders, kept, dict.fromkeys(SOUND, content))


@examples(_FEW)
@given(content=damaged(PLAN))
def test_a_damaged_plan_is_refused_by_its_line_or_read_as_it_stands(tmp_path: Path, content: bytes) -> None:
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
    with Index.in_memory() as index:
        outcomes = refresh(StudyFolder(tmp_path), trials, SPEC.objective, index, lambda _line: None)
        assert as_text([item.plan for item in outcomes]) == as_text(trials)
        assert as_text(list(index.outcomes())) == as_text(outcomes)
        write_tables(StudyFolder(tmp_path), SPEC, outcomes, index)


@examples(4 * _FEW)
@given(content=damaged(SOUND["measurements.jsonl"]))
def test_lines_read_at_once_are_the_lines_read_one_by_one(content: bytes) -> None:
    assert as_text(json_lines.parse(content)) == as_text(list(objects(content)))


@st.composite
def writings(draw: st.DrawFn) -> list[tuple[str, int, bytes]]:
    """What a trial does to its measurements, step by step: ("append", 0, bytes) or ("cut", lines to keep, b"")."""
    done: list[tuple[str, int, bytes]] = []
    for number in range(draw(st.integers(1, 6))):
        if draw(st.integers(0, 3)) == 0:
            done.append(("cut", draw(st.integers(0, 6)), b""))
        wanted = draw(st.integers(1, 4))
        content = b"".join(line(measured(10 * i, 0.5 + number, gradient_norm=None).to_json()) for i in range(wanted))
        content = draw(st.one_of(st.just(content), damaged(content)))
        cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=4)))
        done += [("append", 0, content[a:b]) for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    return done


@examples(2 * _FEW)
@given(steps=writings())
def test_a_tail_that_follows_a_file_in_pieces_reads_what_the_whole_file_says(
    tmp_path: Path, steps: list[tuple[str, int, bytes]]
) -> None:
    folder = TrialFolder(tmp_path)
    folder.measurements.write_bytes(b"")
    tail, seen = MeasurementTail(folder), []
    for verb, keep, content in steps:
        before = folder.measurements.read_bytes()
        if verb == "cut":
            # As a resumed trial does; what it then writes differs here, so that a wrong start would show.
            folder.measurements.write_bytes(b"".join(before.splitlines(keepends=True)[:keep]).rpartition(b"\n")[0])
            folder.measurements.write_bytes(folder.measurements.read_bytes() + b"\n")
        else:
            folder.measurements.write_bytes(before + content)
        fresh, restarted = tail.read()
        seen = [*([] if restarted else seen), *fresh]
    last = {(item.step, item.kind): item for item in seen}
    assert as_text([fields_of(last[key]) for key in sorted(last)]) == as_text(
        expected_measurements(folder.measurements.read_bytes())
    )
