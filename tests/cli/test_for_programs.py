"""`check --json`, `run --events`, `status --events`, `next --dry-run`, `schema` and `help` as a program calls them.

Tests cli/help_pages.py, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from study_calls import Called

Call = Callable[..., Called]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_check_prints_the_problems_of_a_study_as_one_object_with_their_places(tunectl: Call, tmp_path: Path) -> None:
    study = tmp_path / "wrong.yaml"
    study.write_text("workload: tunectl.workloads.digits:mlp\ntraining: {max_train_steps: 5, eval_evry: 1}\n")
    called = tunectl("check", study, "--json")
    assert (called.code, called.err) == (2, "")
    found = called.json()
    assert found["exit_code"] == 2
    assert {(item["code"], item["path"], item["line"]) for item in found["problems"]} == {
        ("missing", "objective", 1),
        ("missing", "hyperparameters", 1),
        ("unknown-name", "training.eval_evry", 2),
    }
    (misspelt,) = [item for item in found["problems"] if item["code"] == "unknown-name"]
    assert (misspelt["suggestion"], misspelt["file"], misspelt["column"]) == ("eval_every", str(study), 32)


def test_check_prints_that_a_workload_cannot_be_found_as_an_object_too(tunectl: Call, write_study: Any) -> None:
    found = tunectl("check", write_study(factory="no_such"), "--json").json()
    (problem,) = found["problems"]
    assert "no_such" in problem["message"]
    assert found["study"] is None


def test_a_right_study_has_no_problems(tunectl: Call, write_study: Any) -> None:
    called = tunectl("check", write_study(), "--json")
    assert (called.code, called.json()["problems"], called.json()["exit_code"]) == (0, [], 0)


def test_a_run_prints_its_events_and_status_those_that_are_missing(tunectl: Call, write_study: Any) -> None:
    study = write_study()
    called = tunectl("run", study, "--events", "--quiet")
    events = lines(called.out)
    assert (called.code, events[-1]["exit_code"]) == (0, 0)
    assert [item["number"] for item in events] == list(range(1, len(events) + 1))
    names = [item["event"] for item in events if item["event"] != "progress"]
    assert (names[0], names[1], names[-1]) == ("training_started", "trial_started", "run_ended")
    assert sorted(names[1:-1]) == ["trial_ended"] * 2 + ["trial_started"] * 2
    assert lines(tunectl("status", "runs/small", "--events").out) == events
    assert lines(tunectl("status", "runs/small", "--events", "--since", len(events) - 1).out) == events[-1:]
    # Nothing is left: its end is printed, and no file changes.
    before = Path(study.parent / "runs/small/events.jsonl").read_bytes()
    (again,) = lines(tunectl("run", study, "--events").out)
    assert (again["event"], again["number"], again["findings"]) == ("run_ended", None, events[-1]["findings"])
    assert Path(study.parent / "runs/small/events.jsonl").read_bytes() == before


def test_events_are_lines_and_json_is_one_object(tunectl: Call, write_study: Any, tmp_path: Path) -> None:
    assert tunectl("run", write_study(), "--events", "--json").code == 2
    assert "--events prints many lines" in tunectl("status", tmp_path, "--events", "--json").err
    assert "--since needs --events" in tunectl("status", tmp_path, "--since", 3).err


def test_schema_prints_json_and_help_its_page(tunectl: Call) -> None:
    assert tunectl("schema").json()["title"] == "A tunectl study"
    assert tunectl("help", "agents").out.startswith("tunectl for programs and agents\n")
    listed = tunectl("help").out.splitlines()
    assert len(listed) == 2
    assert len({len(line) - len(line.split("   ", 1)[1].lstrip()) for line in listed}) == 1, "one column"
    called = tunectl("help", "agent")
    assert (called.code, called.err.count("did you mean agents?")) == (2, 1)
