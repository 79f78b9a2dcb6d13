"""Studies of programs and functions as a whole: what the tables say of every kind of end."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from study_calls import Called

Call = Callable[..., Called]

PROGRAM = """\
import os, signal, sys
behaviour, home, resume = sys.argv[1], sys.argv[2], sys.argv[3:]
if behaviour == "killed once" and not resume:
    print("step 1 loss 0.9", flush=True)
    open(home + "/model-1.pt", "w").write("1")
    os.kill(os.getpid(), signal.SIGSEGV)
print("step 2 loss 0.5" if behaviour != "nan" else "step 2 loss nan", flush=True)
if behaviour == "diverges":
    print("the run diverged"); sys.exit(7)
if behaviour == "exits 3":
    sys.exit(3)
if behaviour == "fails":
    raise ValueError("no such data set")
"""

STUDY = """\
study: own
workload:
  command: [python, -S, program.py, "{behaviour}", "{trial.dir}", ["{trial.resume}"]]
  metrics: [{regex: 'step (?P<step>\\d+) loss (?P<loss>\\S+)'}]
  checkpoints: "{trial.dir}/model-{step}.pt"
  infeasible: {exit_codes: [3], patterns: [diverged]}
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 2}
hyperparameters:
  behaviour: {role: scientific, values: [good, nan, diverges, exits 3, killed once, fails]}
"""


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "tables" / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    path = tmp_path / "own.yaml"
    path.write_text(STUDY)
    return path


def test_every_end_of_a_program_has_its_row(tunectl: Call, study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    called = tunectl("run", study, "--dir", folder, "--slots", "1", "--json")
    assert called.code == 1, called.messages
    found = {
        row["behaviour"]: (row["state"], row["reason"], row["best_value"], row["attempts"]) for row in rows(folder)
    }
    assert found == {
        "good": ("completed", "", "0.5", "1"),
        "nan": ("infeasible", "nan_metric", "", "1"),
        "diverges": ("infeasible", "the run diverged", "0.5", "1"),
        "exits 3": ("infeasible", "exit_code_3", "0.5", "1"),
        "killed once": ("completed", "", "0.5", "2"),
        "fails": ("failed", "exit_code_1", "0.5", "1"),
    }
    assert "ValueError: no such data set (exit code 1)" in called.messages
    assert "crashed: was killed by SIGSEGV" in called.messages
    failed = json.loads((folder / "trials" / "00005" / "result.json").read_text())
    assert failed["where"] == f"{study.with_name('program.py')}:13"
    # Mended, the failed one is run again, and nothing else.
    study.with_name("program.py").write_text(PROGRAM.replace('raise ValueError("no such data set")', "pass"))
    again = tunectl("run", study, "--dir", folder, "--retry-failed")
    assert again.code == 0, again.messages
    assert [(row["state"], row["attempts"]) for row in rows(folder)][-1] == ("completed", "2")


FUNCTION = """\
from tunectl import Infeasible

def train(trial, *, learning_rate, width=2):
    if width == 4:
        raise Infeasible("too wide")
    saved = trial.resume()
    for step in range((saved or 0) + 1, trial.max_train_steps + 1):
        trial.record(step, {"valid/loss": 1 / step / width})
        if trial.should_stop:
            return
"""


def test_a_function_is_a_study(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FUNCTION)
    study = tmp_path / "mine.yaml"
    text = STUDY[: STUDY.index("workload:")] + "workload: {function: ./mine.py:train}\n"
    text += "objective: {metric: valid/loss, direction: minimize}\ntraining: {max_train_steps: 4}\n"
    text += "hyperparameters:\n  learning_rate: 0.1\n  width: {role: scientific, values: [2, 4]}\n"
    study.write_text(text)
    called = tunectl("run", study, "--dir", tmp_path / "out")
    assert called.code == 0, called.messages
    found = [(row["width"], row["state"], row["reason"], row["best_value"]) for row in rows(tmp_path / "out")]
    assert found == [("2", "completed", "", "0.125"), ("4", "infeasible", "too wide", "")]
    study.write_text(text.replace("width", "depth"))
    refused = tunectl("check", study)
    assert refused.code == 2
    assert "depth is not used: it is not a parameter of the function" in refused.messages


def test_a_program_that_ignores_sigterm_is_killed_with_its_children_after_the_grace(
    tunectl: Call, tmp_path: Path
) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0: os.setsid()\n"
        "open(os.path.join(sys.argv[1], str(os.getpid())), 'w')\n"
        "print('step 1 loss 1', flush=True)\n"
        "for _ in range(600): time.sleep(0.1)\n"
    )
    study = tmp_path / "own.yaml"
    text = STUDY.replace('program.py, "{behaviour}"', "stubborn.py").replace(', ["{trial.resume}"]', "")
    text = text[: text.index("hyperparameters:")] + "hyperparameters: {x: 1}\n"
    text = text.replace("stubborn.py, ", 'stubborn.py, "{trial.dir}", "{x}", ')
    study.write_text(text + "resources: {trial_timeout_seconds: 1.5, grace_seconds: 0.5, retries: 0}\n")
    folder = tmp_path / "out"
    called = tunectl("run", study, "--dir", folder)
    assert called.code == 1, called.messages
    assert [(row["state"], row["reason"]) for row in rows(folder)] == [("failed", "timeout")]
    pids = [int(path.name) for path in (folder / "trials" / "00000" / "files").iterdir() if path.name.isdigit()]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIG_DFL)


SPEAKING = """\
import sys
trial = int(sys.argv[1])
print(f"step 1 loss {0.5 + trial}")
print("step 2 loss " + ("1,234" if trial == 1 else "0.25"))
"""


def test_what_a_program_does_not_print_is_said_once_with_the_number_of_trials(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SPEAKING)
    path = tmp_path / "own.yaml"
    path.write_text(
        """\
workload:
  command: [python, -S, program.py, "{trial.id}", "{x}"]
  metrics: [{regex: 'step (?P<step>\\d+) loss (?P<loss>\\S+)'}, {regex: 'f1=(?P<f1>\\S+)'}]
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 2}
hyperparameters: {x: {role: nuisance, range: [0, 1]}}
search: {trials: 3}
"""
    )
    called = tunectl("run", path, "--dir", tmp_path / "out")
    assert called.code == 0, called.messages
    assert called.messages.count("never printed") == 1, called.messages
    assert "warning: in 3 of 3 trials f1 was never printed (trial 0: the study has the expression" in called.messages
    assert "warning: in 1 of 3 trials loss could not be read (trial 1: '1,234' may be 1.234 or 1234" in called.messages
    assert [row["message"].startswith("loss could not be read") for row in rows(tmp_path / "out")] == [
        False,
        True,
        False,
    ]
