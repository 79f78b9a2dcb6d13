"""A study with the sampler bayesian from check to status, by commands, with an engine that is made up."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from made_up_engine import PROGRAM
from made_up_folders import made_up_folder
from study_calls import Called

from tunectl.core.records import PlannedTrial
from tunectl.suggestions import engine_process

PROGRAM_TEXT = """\
import math, sys
rate = float(sys.argv[1])
print(f"step 100 valid {0.1 + 0.05 * math.log10(rate / 0.03) ** 2}")
"""
STUDY = f"""\
workload:
  command: [{sys.executable}, -S, train.py, "{{learning_rate}}"]
  metrics: [{{regex: 'step (?P<step>\\d+) valid (?P<valid__error>\\S+)'}}]
objective: {{metric: valid/error, direction: minimize}}
training: {{max_train_steps: 100}}
hyperparameters:
  learning_rate: {{role: nuisance, range: [1e-3, 1], scale: log}}
"""
EXPLORE = STUDY + "search: {trials: 22}\n"
BAYESIAN = STUDY + "search: {sampler: bayesian, after: runs/explore, trials: 5}\nresources: {devices: cpu}\n"


def value(trial: PlannedTrial) -> float:
    return 0.1 + 0.05 * math.log10(float(trial.hyperparameters["learning_rate"]) / 0.03) ** 2


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(PROGRAM_TEXT)
    made_up_folder(tmp_path / "runs" / "explore", EXPLORE, value, file=tmp_path / "explore.yaml")
    (tmp_path / "better.yaml").write_text(BAYESIAN)
    monkeypatch.setattr(engine_process, "ENGINE", PROGRAM)
    return tmp_path


def test_a_run_that_is_interrupted_within_the_engine_goes_on_with_the_same_points(
    home: Path, environment: dict[str, str], tunectl: Callable[..., Called]
) -> None:
    checked = tunectl("check", "better.yaml")
    assert "cost: 1 setting × 5 trials × 100 steps" in checked.out
    assert "points are proposed from 22 trials in runs/explore" in checked.out
    assert "the points of the 5 trials are proposed during the run" in tunectl("plan", "better.yaml").messages

    undisturbed = tunectl("run", "better.yaml", "--slots", 2, "--dir", "undisturbed")
    assert undisturbed.code == 0
    assert [line for line in undisturbed.err.splitlines() if line.startswith("proposing")] == [
        "proposing 2 points from 22 finished trials",
        "proposing 2 points from 24 finished trials",
        "proposing 1 point from 26 finished trials",
    ]

    ended = [line.partition(" ")[0] for line in undisturbed.err.splitlines() if line.startswith("[")]
    assert ended == [f"[{number}/5]" for number in range(1, 6)]
    assert len(json.loads((home / "undisturbed/provenance.json").read_text())["runs"]) == 1

    environment["MADE_UP_ENGINE"] = str(home / "stopped")
    first = tunectl("run", "better.yaml", "--slots", 2)
    assert first.code == 130
    assert "interrupted with 5 of 5 trials left" in first.messages
    assert "up to 3 more are proposed when these have ended" in tunectl("status", "runs/better").out
    assert tunectl("run", "better.yaml", "--slots", 2).code == 0
    assert (home / "runs/better/plan.jsonl").read_bytes() == (home / "undisturbed/plan.jsonl").read_bytes()
    (home / "runs/better/earlier_trials.json").write_text("{}")
    assert "earlier_trials.json: is damaged; the trials in runs/explore are read again" in (
        tunectl("run", "better.yaml", "--slots", 2).messages
    )
    assert "all trials have ended already" in tunectl("run", "better.yaml", "--slots", 2).out

    added = tunectl("add", "runs/better", "--trials", 2)
    assert "2 more trials (search.trials: 5, now 7); points are proposed when" in added.out
    shutil.rmtree(home / "runs" / "explore")  # its trials were copied
    more = tunectl("run", "better.yaml", "--slots", 2)
    assert sorted(re.findall(r"trial (\d) completed", more.messages)) == ["5", "6"]
    plans = [(home / place / "plan.jsonl").read_bytes() for place in ("runs/better", "undisturbed")]
    assert plans[0].startswith(plans[1]), "the points before stay as they are"


def test_without_the_engine_nothing_is_created(
    home: Path, tunectl: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _name: "4.7.0")
    called = tunectl("run", "better.yaml")
    assert called.code == 2
    assert "search.sampler: optuna 4.7.0 is installed, and optuna 5 or later is needed" in called.messages
    assert not (home / "runs" / "better").exists()


def test_check_counts_the_trials_that_may_be_promoted_from_proposed_ones(
    home: Path, tunectl: Callable[..., Called]
) -> None:
    promote = "promote: [{keep: 1, max_train_steps: 400}]"
    own_length = (', "{learning_rate}"', ', "{learning_rate}", "{max_train_steps}"')
    explored = home / "runs" / "explore" / "study.yaml"
    explored.write_text(explored.read_text().replace(*own_length))
    (home / "better.yaml").write_text(BAYESIAN.replace(*own_length).replace("trials: 5", f"trials: 5, {promote}"))
    assert "all stages: at most 7 trials, 1,300 steps" in tunectl("check", "better.yaml").out


@pytest.mark.usefixtures("home")
def test_a_run_whose_workers_get_one_proposed_trial_at_a_time_says_so(tunectl: Callable[..., Called]) -> None:
    note = "note: the model proposes one trial at a time, so one worker trains and all others wait; `--slots N`"
    for slots in ((), ("--slots", 2)):
        called = tunectl("run", "better.yaml", "--backend", "external", "--detach", "--dir", f"out{len(slots)}", *slots)
        assert called.code == 0, called.messages
        assert (note in called.messages) == (not slots)
