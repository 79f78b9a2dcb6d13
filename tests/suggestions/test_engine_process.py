"""The engine's process: what a user reads where it fails."""

from __future__ import annotations

import re
import sys
from importlib import metadata

import pytest
from made_up_engine import PROGRAM, answered

from tunectl.suggestions import engine_process
from tunectl.suggestions.engine_files import EngineDimension, EngineRequest, FinishedPoint
from tunectl.suggestions.engine_process import EngineError, engine_missing, suggested

REQUEST = EngineRequest(0, 1, (EngineDimension("learning_rate", "real"),), (FinishedPoint((0.5,), 1.0),))


def program(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(engine_process, "ENGINE", (sys.executable, "-c", text))


def test_the_answer_of_the_process_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "ENGINE", PROGRAM)
    assert suggested(REQUEST) == answered(REQUEST)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "print('no'); import sys; sys.exit('the model has no memory')",
            r"ended with exit code 1; .*\n  the model has no",
        ),
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9; the study keeps its trials"),
        ("print('hello')", "gave no answer: it is not JSON"),
        ("""print('{"engine": "x", "points": [[2.0]]}')""", "proposed 2.0 for learning_rate; expected a real number"),
        ("""print('{"engine": "x", "points": [[0.5, 0.5]]}')""", "proposed a point with 2 coordinates; expected 1"),
        ("""print('{"engine": "x", "points": [[0.5], [0.6]]}')""", "proposed 2 points, and 1 were asked for"),
    ],
    ids=["exit-code", "signal", "no-answer", "outside", "too-long", "too-many"],
)
def test_a_failure_is_said_with_the_last_lines(monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    program(monkeypatch, text)
    with pytest.raises(EngineError, match=re.compile(expected, re.DOTALL)) as caught:
        suggested(REQUEST)
    assert caught.value.exit_code == 1
    assert "run it again to go on from here" in str(caught.value)


def test_an_engine_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    program(monkeypatch, "import sys, time; print('fitting', file=sys.stderr, flush=True); time.sleep(60)")
    monkeypatch.setattr(engine_process, "TIMEOUT_SECONDS", 0.5)
    with pytest.raises(EngineError, match="did not answer within"):
        suggested(REQUEST)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("5.0.0", ""), ("6.1", ""), ("4.9.1", "optuna 4.9.1 is installed, and optuna 5 or later is needed; pip install")],
)
def test_an_older_engine_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, version: str, expected: str) -> None:
    monkeypatch.setattr(metadata, "version", lambda _name: version)
    assert engine_missing().startswith(expected)
    assert bool(engine_missing()) == bool(expected)


def test_a_missing_engine_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert re.match(r"optuna is not installed; pip install .*\[bayesian\]", engine_missing())
    with pytest.raises(EngineError, match="optuna is not installed"):
        suggested(REQUEST)
