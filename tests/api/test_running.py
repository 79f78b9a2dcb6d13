"""Runs that are started from Python: by the rules of the command, from any thread, interrupted without loss.

Tests tunectl/api/running.py, runner_process.py, runner.py and plain_values.py, and core/user_errors.py.
"""

from __future__ import annotations

import csv
import errno
import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, assert_type, cast

import numpy as np
import pytest
from study_calls import Called
from watchers import Silent
from workers_here import WorkersHere, workers_here

import tunectl as package
from tunectl.api import runner, runner_process, running
from tunectl.api.plain_values import plain
from tunectl.core import parent_death
from tunectl.core.errors import FolderError, Problem, StudyError, TunectlError, UsageError, WorkloadError
from tunectl.core.folders import StudyFolder
from tunectl.language.study_edit import EditingError
from tunectl.session.checked_study import check_study
from tunectl.store.provenance import command_of, read_provenance

README = (Path(__file__).parents[2] / "README.md").read_text()
STEPS = r"step=(?P<step>\d+) loss=(?P<loss>\S+)"
SCRIPT = 'for step in 1 2 3; do echo "step=$step loss=$1"; done\n'

STOPPED_TWICE = """\
#!/bin/sh
trap 'echo HUP >> stops' HUP
trap 'echo TERM >> stops' TERM
trap 'echo INT >> stops' INT
echo '{"message": "one"}'
until grep -qs HUP stops; do sleep 0.01; done
echo '{"message": "two"}'
until grep -qs TERM stops && grep -qs INT stops; do sleep 0.01; done
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.sh").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(**changes: Any) -> dict[str, Any]:
    """A study of a shell script, which needs no torch."""
    values = {
        "study": "small",
        "workload": {"command": ("sh", "train.sh", "{learning_rate}"), "metrics": [{"regex": STEPS}]},
        "objective": {"metric": "loss", "direction": "minimize"},
        "training": {"max_train_steps": np.int64(3)},
        "hyperparameters": {"learning_rate": {"role": "nuisance", "values": np.array([0.5, 0.25])}},
        "search": {"sampler": "grid"},
    }
    return {name: value for name, value in {**values, **changes}.items() if value is not None}


def test_a_dict_is_run_from_a_thread_as_the_command_would_run_its_file(
    home: Path, capsys: pytest.CaptureFixture[str], tunectl: Callable[..., Called]
) -> None:
    found: list[package.Study] = []
    caller = threading.Thread(target=lambda: found.append(package.run(study(), slots=1, no_wait=True, progress=True)))
    caller.start()
    caller.join()
    (opened,) = found
    assert_type(opened, package.Study)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [line.partition(" at ")[0] for line in printed.err.splitlines() if line.startswith("[")] == [
        "[1/2] trial 0 completed: best 0.5",
        "[2/2] trial 1 completed: best 0.25",
    ]
    assert opened.folder == home / "runs" / "small"
    assert (opened.best().trial, opened.best().value) == (1, 0.25)
    command = command_of(read_provenance(StudyFolder(opened.folder))[-1])
    assert command == f"cd {home} && tunectl run small.yaml --slots 1 --no-wait"
    again = tunectl("run", "small.yaml", "--json")
    assert (again.code, again.json()["untouched"]) == (0, True)


def test_an_interrupt_lets_the_trials_save_and_the_same_call_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def interrupted(text: str) -> None:
        said.append(text)
        if text.startswith("[1/"):
            raise KeyboardInterrupt

    monkeypatch.setattr(runner_process, "_show", interrupted)
    many = {"learning_rate": {"role": "nuisance", "values": [place / 64 for place in range(1, 25)]}}
    with pytest.raises(KeyboardInterrupt, match=r"interrupted with \d+ of 24 trials left; call tunectl.run again"):
        package.run(study(hyperparameters=many), slots=1, progress=True)
    assert not package.open_study("runs/small").is_running
    ended = len([text for text in said if text.startswith("[")])
    assert 1 <= ended < 24
    monkeypatch.setattr(runner_process, "_show", said.append)
    package.run(study(hyperparameters=many), progress=True)
    with (home / "runs" / "small" / "tables" / "trials.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["completed"] * 24


def test_workers_train_where_the_call_names_their_backend_and_are_left_by_an_interrupt(
    home: Path, write_study: Callable[..., Path]
) -> None:
    asked = {"study": str(write_study()), "folder": "runs/small", "slots": 1, "order": "plan", "command": ["tunectl"]}
    asked |= {"retry_failed": False, "no_wait": False, "backend": "external"}
    channel = cast("runner._Channel", Silent())
    ends = partial(signal.raise_signal, signal.SIGHUP)  # as the caller passes an interrupt on
    with workers_here(WorkersHere(most=1, after=lambda _trial: ends())):
        left = runner._ended(runner._run(asked, channel))
    assert (left["exit_code"], left["left"]) == (130, "left 1 of 2 trials to workers")
    assert json.loads((home / "runs" / "small" / "run.json").read_text())["phase"] == "left"
    with workers_here(WorkersHere()) as backend:
        report = runner._run(asked, channel)
    assert (report.unfinished, report.is_left, len(backend.trained)) == (0, False, 1)
    assert [item.state for item in report.outcomes] == ["completed"] * 2


def test_an_error_has_the_class_and_the_text_that_the_command_prints(
    home: Path, tunectl: Callable[..., Called]
) -> None:
    wrong = study(hyperparameters={"learning_rate": {"role": "nuisanse", "range": [1, 0]}})
    with pytest.raises(StudyError) as refused:
        package.run(wrong)
    called = tunectl("run", "small.yaml")
    assert (called.code, called.err.strip()) == (2, str(refused.value))
    assert refused.value.problems[0].line > 1
    assert not (home / "runs").exists()


def errors() -> list[Exception]:
    full = OSError(errno.ENOSPC, "No space left on device", "runs/x/plan.jsonl")
    return [
        StudyError([Problem("a.yaml", 2, 3, "search", "expected a number"), Problem("a.yaml", 1, 1, "", "x")]),
        FolderError("runs/x: is in use"),
        UsageError("no such thing"),
        WorkloadError("the workload could not be loaded"),
        EditingError("it cannot be edited"),
        full,
    ]


@pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)
def test_what_the_runner_raises_is_raised_here(error: Exception) -> None:
    refused = runner._refused(error)
    assert refused is not None
    raised = runner_process._refusal(json.loads(json.dumps(refused)))
    kind = type(error) if type(error).__module__ == "tunectl.core.errors" else TunectlError
    assert isinstance(raised, FolderError if isinstance(error, OSError) else kind)
    text = "runs/x/plan.jsonl: No space left on device" if isinstance(error, OSError) else str(error)
    assert str(raised) == text
    assert isinstance(raised, StudyError) == isinstance(error, StudyError)


def test_a_bug_in_the_runner_is_no_error_of_the_user() -> None:
    assert runner._refused(ZeroDivisionError("division by zero")) is None


@pytest.mark.parametrize(
    ("script", "error", "text"),
    [
        ("#!/bin/sh\nkill -9 $$\n", TunectlError, "the runner was ended by SIGKILL; call tunectl.run again to go on"),
        ("#!/bin/sh\necho ZeroDivisionError >&2; exit 1\n", RuntimeError, r"exit code 1, by a bug of tunectl:\nZero"),
        (None, TunectlError, "the runner could not be started: No such file or directory"),
    ],
    ids=["killed", "a bug", "not started"],
)
def test_a_runner_that_says_nothing_at_its_end_is_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, error: type[Exception], text: str
) -> None:
    python = home / "python"
    if script is not None:
        python.write_text(script)
        python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(error, match=text):
        package.run("study.yaml")


def test_a_runner_that_was_stopped_by_someone_else_is_no_interrupt(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = home / "python"
    end = json.dumps({"ended": {"folder": "runs/x", "exit_code": 130, "left": "interrupted with 1 of 2 trials left"}})
    python.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{end}'\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(TunectlError, match="interrupted with 1 of 2 trials left, by a signal to the runner"):
        package.run("study.yaml")


def test_interrupts_are_passed_on_so_that_the_second_counts_for_sure(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = home / "python"
    python.write_text(STOPPED_TWICE)
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    def interrupted(text: str) -> None:
        if text in ("one", "two"):
            raise KeyboardInterrupt

    monkeypatch.setattr(runner_process, "_show", interrupted)
    with pytest.raises(KeyboardInterrupt):
        package.run("study.yaml")
    first, *others = (home / "stops").read_text().split()
    assert (first, sorted(others)) == ("HUP", ["INT", "TERM"])


def test_the_file_of_a_dict_is_written_anew_but_never_over_one_of_the_user(home: Path) -> None:
    path = running._written(study())
    assert path == Path("small.yaml")
    first = path.read_text()
    assert first.startswith("# Written by tunectl.run")
    running._written(study(goal="Which: rate?"))
    assert 'goal: "Which: rate?"' in path.read_text()
    path.write_text("study: mine\n")
    with pytest.raises(UsageError, match=r"small.yaml: is there already, and tunectl.run did not write it"):
        running._written(study())
    assert path.read_text() == "study: mine\n"


def test_the_calls_of_the_readme_are_of_a_study_that_can_be_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    (calls,) = [block for block in blocks if 'tunectl.run("study.yaml"' in block]
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(running, "run_to_its_end", lambda request, **_options: asked.append(request))
    monkeypatch.setattr(running, "open_study", lambda folder: folder)
    exec(calls, {"tunectl": package})
    assert [request["study"] for request in asked] == ["study.yaml", "widths.yaml"]
    assert check_study(home / "widths.yaml", home).warnings == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": None}, "expected a text under 'study', got None"),
        ({"study": 3}, "got 3"),
        ({"study": "../up"}, "cannot be the name of a study folder"),
        ({"workload": print}, r"workload: expected .*, got a builtin_function_or_method; .*file"),
        ({"search": {"trials": {1, 2}}}, r"search\.trials: expected .*, got a set"),
        ({"hyperparameters": {3: 1}}, r"hyperparameters: expected a text as a key, got 3"),
        ({"hyperparameters": {"a": [1, object()]}}, r"hyperparameters\.a\[1\]: expected .*, got a object"),
        ({"notes": float("nan")}, "a value that a study file cannot hold"),
    ],
)
def test_what_a_study_file_cannot_hold_is_refused_with_its_place(
    home: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TunectlError, match=message):
        package.run({**study(), **changes} if changes.get("study", "") is not None else study(**changes))
    assert [path.name for path in home.iterdir()] == ["train.sh"]


@pytest.mark.parametrize(
    "options",
    [
        *({"slots": 0}, {"slots": True}, {"slots": 1.5}, {"order": "random"}),
        *({"backend": "extern"}, {"backend": 3}, {"backend": ["slurm"]}),
    ],
    ids=lambda options: str(options),
)
def test_options_are_refused_by_name(home: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(options))}: expected"):
        package.run("study.yaml", **options)


def test_a_file_that_is_the_workload_and_runs_the_study_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(parent_death.MARK, "1.2")
    with pytest.raises(UsageError, match='put the call below `if __name__ == "__main__":`'):
        package.run(study())
    assert not (home / "small.yaml").exists()


def test_values_of_python_become_those_of_a_study_file() -> None:
    class Colour(StrEnum):
        red = "red"

    given = {
        "a": (1, np.float32(0.5), np.bool_(True)),
        "b": Path("x") / "y",
        "c": np.arange(2),
        "d": Colour.red,
        "e": range(2),
        "f": None,
    }
    found = plain(given)
    assert found == {"a": [1, 0.5, True], "b": "x/y", "c": [0, 1], "d": "red", "e": [0, 1], "f": None}
    assert [type(value) for value in found["a"]] == [int, float, bool]
    assert type(found["d"]) is str
