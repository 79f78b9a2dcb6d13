"""What becomes of trials that fail: the circuit breaker, the time limit, and `--retry-failed`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from study_calls import Called

Write = Callable[..., Path]
Call = Callable[..., Called]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "tables" / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_failed_trials_wait_for_retry_failed_and_go_on_from_where_they_were_saved(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    # The first three fail alike in update 7; the cause is then mended in the workload's file.
    study = write_study(trials=5, more="  behaviour: exception\n  bad_update: 25")
    folder = tmp_path / "out"
    called = tunectl("run", study, "--dir", folder, "--slots", "1")
    assert called.code == 1
    assert "the first trials to end (0, 1, 2) all failed alike: error at " in called.err
    assert "misbehaving.py:" in called.err
    assert called.err.count("RuntimeError: the model broke") == 1, "a message is printed once"
    assert "trial 2 failed: error, like trial 0" in called.err
    assert "once more" not in called.err, "Ctrl-C was not pressed"
    assert "2 trials are left. Correct the cause before going on" in called.err
    assert "failed trials: correct the cause and run again with --retry-failed" in called.err
    assert [row["state"] for row in rows_of(folder)] == ["failed"] * 3 + ["pending"] * 2
    assert [row["attempts"] for row in rows_of(folder)] == ["1", "1", "1", "0", "0"]

    workload = tmp_path / "misbehaving.py"
    workload.write_text(workload.read_text().replace("raise RuntimeError(", "return print("))
    again = tunectl("run", study, "--dir", folder)
    assert again.code == 1
    assert [row["state"] for row in rows_of(folder)] == ["failed"] * 3 + ["completed"] * 2, again.err
    retried = tunectl("run", study, "--dir", folder, "--retry-failed")
    assert retried.code == 0, retried.err
    rows = rows_of(folder)
    assert [row["state"] for row in rows] == ["completed"] * 5
    assert [row["attempts"] for row in rows] == ["2", "2", "2", "1", "1"]
    (line,) = (folder / "trials" / "00000" / "attempts.jsonl").read_text().splitlines()
    assert json.loads(line)["message"].startswith("RuntimeError: the model broke")
    assert json.loads(line)["final"] is True
    log = (folder / "trials" / "00000" / "log.txt").read_text()
    assert log.count("the model broke") == 3, "the traceback of the first attempt (twice) and the print of the second"


def test_a_trial_that_takes_too_long_fails_alone(write_study: Write, tunectl: Call, tmp_path: Path) -> None:
    more = "  behaviour: {role: scientific, values: [hangs, good]}\n  bad_update: 7"
    study = write_study(trials=1, more=more)
    study.write_text(study.read_text().replace("grace_seconds: 20", "trial_timeout_seconds: 1, grace_seconds: 0.2"))
    called = tunectl("run", study, "--dir", tmp_path / "out")
    assert called.code == 1
    hung, good = rows_of(tmp_path / "out")
    assert (hung["state"], hung["reason"], good["state"]) == ("failed", "timeout", "completed"), called.err
    assert "took longer than trial_timeout_seconds: 1" in called.err
