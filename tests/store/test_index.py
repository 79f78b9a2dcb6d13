"""Tests store/index.py, store/index_rows.py, store/index_measurements.py and store/index_schema.py."""

from __future__ import annotations

import contextlib
import math
import random
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
from store_samples import OBJECTIVE, hashes, measured, opened_to_read, outcome_of, planned

from tunectl.core.errors import FolderError
from tunectl.core.objective import Objective
from tunectl.store import index_schema
from tunectl.store.index import Index


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "100% a?b#c é"
    folder.mkdir()
    return folder / "study.db"


@pytest.fixture
def index(path):
    with Index.open_for_writing(path) as opened:
        yield opened


def states(index):
    return [item.state for item in index.outcomes()]


def filled(path, trials=4):
    with Index.open_for_writing(path) as index:
        index.put_plan([planned(trial) for trial in range(trials)])
        for trial in range(trials - 1):
            index.put_measurements(trial, [measured(step, 1 / (step + 1)) for step in (0, 10, 20)])
            index.put_outcome(outcome_of(trial), stamp=f"stamp {trial}")
    return path


def test_a_plan_is_pending_until_outcomes_come(index):
    trials = [planned(0), planned(1, hyperparameters={"a": 1, "b": 1.0, "c": True, "é|": "1"}, seed=2**64 - 1)]
    index.put_plan(trials)
    read = list(index.outcomes())
    assert [item.plan for item in read] == trials
    assert [type(value) for value in read[1].plan.hyperparameters.values()] == [int, float, bool, str]
    assert {item.state for item in read} == {"pending"}
    assert index.stamps() == {0: "", 1: ""}


def test_an_outcome_reads_back_as_it_was_put(index):
    index.put_plan([planned(0), planned(1), planned(2)])
    whole = outcome_of(
        1,
        state="infeasible",
        reason="nan_loss",
        message="it broke\n|'\"",
        best_checkpoint="trials/00001/checkpoints/step-00000010.pt",
        metrics_at_best={"valid/error_rate": 0.1 + 0.2, "valid/x": math.inf, "é/ö": 1e-320},
        infeasible_step=12,
        train_seconds=1.5,
        eval_seconds=0.1,
        startup_seconds=0.0,
        device="cuda:0",
        final_value=-math.inf,
    )
    index.put_outcome(whole, stamp="abc")
    assert list(index.outcomes())[1] == whole
    assert index.stamps() == {0: "", 1: "abc", 2: ""}


def test_nan_is_kept_apart_from_missing(index):
    odd = outcome_of(
        0, final_value=math.nan, train_seconds=math.nan, best_value=None, metrics_at_best={"a/b": math.nan}
    )
    index.put_outcome(odd)
    (read,) = index.outcomes()
    assert math.isnan(read.final_value)
    assert math.isnan(read.train_seconds)
    assert math.isnan(read.metrics_at_best["a/b"])
    assert read.best_value is None


def test_text_that_no_database_can_hold_is_escaped(index):
    index.put_outcome(outcome_of(0, message="\udcff", reason="\ud800", device="\0", metrics_at_best={"\ud800/a": 1.0}))
    (read,) = index.outcomes()
    assert (read.message, read.reason, read.device) == ("\\udcff", "\\ud800", "\0")
    assert read.metrics_at_best == {"\ud800/a": 1.0}


def test_measurements_read_back_in_order_with_every_number_exact(index):
    items = [
        measured(0, math.nan, learning_rate=None, gradient_norm=None, elapsed_seconds=0.1 + 0.2),
        measured(10, -0.0, gradient_norm=math.inf, checkpoint="step-00000010.pt"),
        measured(10, 3.0, measurement_kind="curvature", metrics={}),
        measured(20, 5e-324, learning_rate=math.nan, metrics={"a/b/c": 1.0, "é": -math.inf}),
    ]
    index.put_measurements(3, items[::-1])
    index.put_measurements(1, [measured(5)])
    ordered = [items[0], items[2], items[1], items[3]]  # at step 10 curvature comes before evaluation
    assert repr(list(index.measurements())) == repr([(1, measured(5)), *((3, item) for item in ordered)])
    assert [trial for trial, _ in index.measurements(trial=1)] == [1]
    assert index.metric_names() == ("a/b/c", "train/loss", "valid/error_rate", "é")


def test_columns_of_measurements_hold_what_the_measurements_hold(index, monkeypatch):
    monkeypatch.setattr("tunectl.store.index._ROWS_AT_ONCE", 7)
    monkeypatch.setattr("tunectl.store.index.MEASUREMENTS_AT_ONCE", 7)
    generator = random.Random(1)
    names = ["m/a", "m/b", "m/c"]
    for trial in range(12):
        chosen = [generator.sample(names, generator.randrange(4)) for _ in range(5)]
        rows = [
            measured(
                step,
                metrics={
                    name: generator.choice([1.5, math.nan, math.inf, generator.random()]) for name in chosen[step]
                },
                gradient_norm=generator.choice([None, math.nan, 2.0]),
            )
            for step in range(5)
        ]
        index.put_measurements(trial, rows)
    wanted = ["m/c", "m/a", "m/missing"]
    blocks = list(index.measurement_columns(wanted))
    got = [row for block in blocks for row in zip(*block, strict=True)]
    expected = [
        (
            *(trial, item.step, item.measurement_kind),
            *(item.metrics.get(name) for name in wanted),
            *(item.learning_rate, item.gradient_norm, item.elapsed_seconds, item.checkpoint),
        )
        for trial, item in index.measurements()
    ]
    assert repr(got) == repr(expected)
    assert len(got) == 60
    for trial in range(12):
        index.put_measurements(trial, [], replace=True)
    assert list(index.measurement_columns(wanted)) == []


def test_putting_a_step_again_replaces_it_and_replace_replaces_all(index):
    index.put_measurements(0, [measured(0), measured(10, 0.3), measured(20)])
    index.put_measurements(0, [measured(10, 0.4)])
    assert [item.metrics["valid/error_rate"] for _, item in index.measurements()] == [0.5, 0.4, 0.5]
    index.put_measurements(0, [measured(0)], replace=True)
    assert [item.step for _, item in index.measurements()] == [0]
    index.put_measurements(0, [], replace=True)
    assert list(index.measurements()) == []
    assert index.metric_names() == ()


def test_what_a_running_trial_writes_bit_by_bit_reads_as_if_it_came_at_once(path):
    generator = random.Random(2)
    items = [
        measured(
            step,
            generator.random(),
            measurement_kind=kind,
            metrics={f"{kind}/x": float(step), "a/b": -0.0},
            learning_rate=-0.0,
        )
        for step in range(0, 60, 10)
        for kind in ("evaluation", "curvature")
    ]
    generator.shuffle(items)
    with Index.open_for_writing(path) as index:
        index.put_measurements(1, items)
        for trial in (0, 2):
            for item in items:
                index.put_measurements(trial, [item._replace(metrics={"a/b": 1.0})])
                index.put_measurements(trial, [item])
        read = list(index.measurements())
        expected = sorted(items, key=lambda item: (item.step, item.measurement_kind))
        assert repr(read) == repr([(trial, item) for trial in range(3) for item in expected])
        (block,) = index.measurement_columns(["evaluation/x", "a/b"])
        assert list(zip(*block[:3], strict=True)) == [(trial, item.step, item.measurement_kind) for trial, item in read]
        assert repr(block[3]) == repr([item.metrics.get("evaluation/x") for _, item in read])
        assert repr(block[5]) == repr([-0.0] * 36)


def test_a_raised_plan_keeps_what_is_known_and_another_study_s_plan_does_not(index):
    index.put_plan([planned(0), planned(1)])
    index.put_outcome(outcome_of(0))
    index.put_outcome(outcome_of(1))
    index.put_measurements(1, [measured(0)])
    index.put_plan([planned(0), planned(1, seed=5), planned(2)])
    assert [item.state for item in index.outcomes()] == ["completed", "pending", "pending"]
    assert list(index.measurements()) == []
    index.put_plan([planned(0)])
    assert [item.plan.trial for item in index.outcomes()] == [0]


def test_running_trials_are_counted_and_shown_until_their_outcome(index):
    index.put_plan([planned(trial) for trial in range(4)])
    index.set_running(2, slot=1)
    index.set_running(1, slot=0)
    index.put_measurements(
        2, [measured(0, 0.01), measured(10, 0.4), measured(20, math.nan), measured(20, 0.0, measurement_kind="test")]
    )
    index.put_outcome(outcome_of(3, state="failed", reason="error"))
    assert states(index) == ["pending", "running", "running", "failed"]
    first, second = index.progress(OBJECTIVE)
    assert (first.trial, first.slot, first.last_step, first.last_value) == (1, 0, None, None)
    assert (second.trial, second.slot, second.last_step) == (2, 1, 20)
    assert math.isnan(second.last_value)
    assert index.progress(Objective("no/such", "maximize"))[1].last_value is None
    index.put_outcome(outcome_of(2, state="cancelled", reason="cancelled"))
    assert [item.trial for item in index.progress(OBJECTIVE)] == [1]
    index.put_outcome(outcome_of(1, state="running"))
    assert states(index) == ["pending", "running", "cancelled", "failed"]


def test_a_transaction_that_fails_leaves_nothing(index):
    index.put_plan([planned(0)])

    def put_and_fail():
        with index.transaction():
            index.put_measurements(0, [measured(0, metrics={"new/metric": 1.0})])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        put_and_fail()
    assert list(index.measurements()) == []
    index.put_measurements(0, [measured(0, metrics={"new/metric": 2.0})])
    assert [item.metrics for _, item in index.measurements()] == [{"new/metric": 2.0}]


def test_a_closed_index_is_one_plain_file_and_reading_it_changes_no_byte(path):
    filled(path)
    assert [file.name for file in path.parent.iterdir()] == ["study.db"]
    before = hashes(path.parent)
    with opened_to_read(path) as index:
        assert len(list(index.outcomes())) == 4
        assert len(list(index.measurements())) == 9
        assert states(index).count("completed") == 3
    assert hashes(path.parent) == before


def test_opening_for_writing_with_nothing_new_to_put_changes_no_byte(path):
    filled(path)
    before, changed = hashes(path.parent), path.stat().st_mtime_ns
    with Index.open_for_writing(path) as index:
        assert not index.is_new
        index.put_plan([planned(trial) for trial in range(4)])
        assert index.stamps()[2] == "stamp 2"
    assert hashes(path.parent) == before
    assert path.stat().st_mtime_ns == changed


def test_a_reader_reads_while_the_runner_writes(path):
    with Index.open_for_writing(path) as writer:
        writer.put_plan([planned(0), planned(1)])
        reader = opened_to_read(path)
        assert states(reader) == ["pending", "pending"]
        with writer.transaction():
            writer.put_outcome(outcome_of(0))
            assert states(reader) == ["pending", "pending"]
        assert states(reader) == ["completed", "pending"]
        with pytest.raises(FolderError, match="readonly"):
            reader.put_outcome(outcome_of(1))
        reader.close()
    assert [file.name for file in path.parent.iterdir()] == ["study.db"]


def test_a_reader_that_stays_while_the_runner_closes_loses_nothing(path, monkeypatch):
    monkeypatch.setattr(index_schema, "BUSY_TIMEOUT_SECONDS", 0.01)
    writer = Index.open_for_writing(path)
    writer.put_plan([planned(0)])
    with opened_to_read(path) as reader:
        rows = reader.outcomes()
        assert next(rows).state == "pending"
        writer.put_outcome(outcome_of(0))
        writer.close()
    with Index.open_for_writing(path) as again:
        assert not again.is_new
        assert states(again) == ["completed"]
    assert [file.name for file in path.parent.iterdir()] == ["study.db"]


def test_what_a_killed_runner_left_is_read_and_cleaned_up(path):
    program = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from store_samples import measured, outcome_of, planned
from tunectl.store.index import Index
index = Index.open_for_writing(Path(sys.argv[1]))
index.put_plan([planned(0), planned(1)])
index.put_outcome(outcome_of(0))
index.set_running(1, 0)
index.put_measurements(1, [measured(0)])
index._connection.execute("BEGIN")
index._connection.execute("DELETE FROM trials")
os._exit(9)
"""
    here = str(__import__("pathlib").Path(__file__).parent)
    assert subprocess.run([sys.executable, "-c", program, str(path), here], check=False).returncode == 9
    assert len(list(path.parent.iterdir())) > 1
    with opened_to_read(path) as reader:
        assert states(reader) == ["completed", "running"]
        assert [item.trial for item in reader.progress(OBJECTIVE)] == [1]
    with Index.open_for_writing(path) as index:
        assert not index.is_new
        assert [item.state for item in index.outcomes()] == ["completed", "pending"]
        assert len(list(index.measurements())) == 1
    assert [file.name for file in path.parent.iterdir()] == ["study.db"]


def overwrite(path, content):
    path.write_bytes(content)


def another_version(path, number=index_schema.SCHEMA_VERSION + 1):
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {number}")
    connection.close()


def foreign(path):
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE trials (x)")
    connection.execute("PRAGMA user_version = 1")
    connection.close()


DAMAGES = {
    "another version": another_version,
    "an older version": lambda path: another_version(path, 0),
    "another program's": foreign,
    "empty": lambda path: overwrite(path, b""),
    "text": lambda path: overwrite(path, b"this is no database " * 500),
    "binary": lambda path: overwrite(path, random.Random(0).randbytes(20_000)),
    "cut to 50 bytes": lambda path: overwrite(path, path.read_bytes()[:50]),
    "cut to a page": lambda path: overwrite(path, path.read_bytes()[:4096]),
    "cut in half": lambda path: overwrite(path, path.read_bytes()[: path.stat().st_size // 2]),
    "cut by a byte": lambda path: overwrite(path, path.read_bytes()[:-1]),
    "a page of zeros": lambda path: overwrite(path, path.read_bytes()[:4096] + bytes(4096) + path.read_bytes()[8192:]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_index_is_not_read_and_is_made_anew(path, damage):
    filled(path)
    DAMAGES[damage](path)
    before = hashes(path.parent)
    assert Index.open_read_only(path) is None
    assert hashes(path.parent) == before
    with Index.open_for_writing(path) as index:
        assert index.is_new
        index.put_plan([planned(0)])
    with opened_to_read(path) as reader:
        assert states(reader) == ["pending"]


def test_an_index_flipped_at_any_byte_is_read_or_refused_but_never_breaks_the_program(path):
    filled(path)
    with opened_to_read(path) as reader:
        sound = list(reader.measurements())
    whole = path.read_bytes()
    generator = random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        start = generator.randrange(len(whole))
        damaged[start : start + generator.choice([1, 1, 16, 300])] = generator.randbytes(generator.choice([1, 16]))
        path.write_bytes(damaged)
        index = Index.open_read_only(path)
        if index is None:
            continue
        with index:
            try:
                read = list(index.measurements())
                list(index.outcomes())
            except FolderError as error:
                assert "study.db" in str(error)  # noqa: PT017
            else:
                assert all(item in sound for item in read)


def test_measurements_of_which_any_byte_is_another_are_refused(path):
    filled(path, trials=2)
    whole = path.read_bytes()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        columns = "numbers, notes, CAST(kind AS TEXT)"
        stored = [*connection.execute(f"SELECT {columns} FROM measurements").fetchone(), "train/loss"]
    spots = [part.encode() if isinstance(part, str) else part for part in stored]
    start = whole.index(spots[0])
    places = [*range(start, start + len(spots[0])), *(whole.index(part) + 1 for part in spots[1:])]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with opened_to_read(path) as reader:
            for read in (reader.measurements, lambda index=reader: index.measurement_columns(["train/loss"])):
                with pytest.raises(FolderError, match=r"study\.db: is damaged .*makes it again from the trial folders"):
                    list(read())


def test_no_index_is_none_to_a_reader_and_is_not_made(path):
    assert Index.open_read_only(path) is None
    assert list(path.parent.iterdir()) == []


def test_a_folder_in_place_of_the_index_is_a_clear_error(path):
    path.mkdir()
    assert Index.open_read_only(path) is None
    with pytest.raises(FolderError, match=r"study\.db: cannot be replaced"):
        Index.open_for_writing(path)


def test_an_index_in_a_folder_that_is_gone_is_a_clear_error(path):
    shutil.rmtree(path.parent)
    with pytest.raises(FolderError, match="unable to open database file"):
        Index.open_for_writing(path)


def test_a_full_disk_is_a_clear_error_and_loses_only_the_last_transaction(path):
    with Index.open_for_writing(path) as index:
        index.put_plan([planned(0)])
        index._connection.execute("PRAGMA max_page_count = 12")
        with pytest.raises(FolderError, match="full"):
            index.put_measurements(0, [measured(step) for step in range(5000)])
        assert list(index.measurements()) == []
    with opened_to_read(path) as reader:
        assert states(reader) == ["pending"]


def test_an_index_works_where_the_file_system_has_no_wal(path, monkeypatch):
    real = sqlite3.connect

    def without_shared_memory(address, **options):
        return real(f"{address}&vfs=unix-dotfile", **options)

    monkeypatch.setattr(sqlite3, "connect", without_shared_memory)
    filled(path)
    with Index.open_for_writing(path) as index:
        index.put_outcome(outcome_of(3))
        assert index._connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert [file.name for file in path.parent.iterdir()] == ["study.db"]
    monkeypatch.setattr(sqlite3, "connect", real)
    with opened_to_read(path) as reader:
        assert states(reader) == ["completed"] * 4


def test_a_file_system_that_fails_on_wal_is_no_failure_of_ours(path, monkeypatch):
    class Refusing(sqlite3.Connection):
        def execute(self, query, *values):
            if query == "PRAGMA journal_mode = WAL":
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(query, *values)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda address, **options: real(address, factory=Refusing, **options))
    filled(path)
    with opened_to_read(path) as reader:
        assert states(reader) == ["completed"] * 3 + ["pending"]


def test_the_schema_says_what_its_columns_hold(path):
    filled(path)
    connection = sqlite3.connect(path)
    texts = [text for (text,) in connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'")]
    connection.close()
    assert len(texts) == 5
    assert all("--" in text for text in texts)


def test_the_store_loads_neither_pandas_nor_torch_nor_numpy():
    program = (
        "import sys, tunectl.store.index, tunectl.store.plan_file, tunectl.store.trial_files; "
        "import tunectl.store.provenance; "
        "import tunectl.store.study_folder, tunectl.analysis.results.outcomes, tunectl.report.trial_tables; "
        "print([name for name in ('pandas', 'torch', 'scipy', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_replacing_an_outcome_keeps_one_row(index):
    index.put_outcome(outcome_of(0))
    index.put_outcome(replace(outcome_of(0), state="infeasible"))
    assert [item.state for item in index.outcomes()] == ["infeasible"]
