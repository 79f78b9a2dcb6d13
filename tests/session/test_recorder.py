"""What the recorder writes of the events of a run, with an index that fails.

Tests session/recorder.py with session/run_progress.py.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from builders import study_text

from tunectl.core import jsontext
from tunectl.core.folders import StudyFolder
from tunectl.core.measurement_kinds import INITIALISATION
from tunectl.core.measurements import Measurement
from tunectl.core.records import TrialResult
from tunectl.execution.devices import CPU
from tunectl.execution.jobs import Tick, TrialEnded, TrialStarted
from tunectl.execution.slots import make_slots
from tunectl.language.study_reader import parse_study
from tunectl.session import recorder as recorder_module
from tunectl.session.outcome_index import refresh_index
from tunectl.session.recorder import Recorder, stop_in_words
from tunectl.session.run_progress import Tally
from tunectl.space.trial_plan import plan_trials
from tunectl.store.index import Index

TEXT = study_text({"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}, search="{trials: 2}")
SPEC = parse_study(TEXT, Path("study.yaml"))
TRIALS = plan_trials(SPEC)


class Watching:
    """A watcher that keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.values: list[float | None] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def finished(self, outcome, progress) -> None:
        self.values.append(outcome.best_value)

    def progress(self, progress) -> None:
        self.running = progress.running


def train(folder: StudyFolder, trial: int, value: float) -> None:
    home = folder.trial(trial)
    home.path.mkdir(parents=True)
    line = Measurement(100, {SPEC.objective.metric: value})
    home.measurements.write_text(jsontext.encode(line.to_json()) + "\n")
    home.result.write_text(jsontext.encode(TrialResult(trial, "completed").to_json()))


def test_trials_go_on_while_the_index_cannot_be_written_and_are_read_again_at_the_end(tmp_path: Path) -> None:
    folder, watching = StudyFolder(tmp_path), Watching()
    with Index.open_for_writing(folder.index) as index:
        refresh_index(folder, TRIALS, SPEC.objective, index, watching.message)
        index._connection.execute("PRAGMA busy_timeout = 1")
        tally = Tally(SPEC.objective, {trial.trial: 100 for trial in TRIALS}, 0.0)
        recorder = Recorder(folder, SPEC, {trial.trial: trial for trial in TRIALS}, index, tally, watching)
        somebody = sqlite3.connect(folder.index, isolation_level=None)
        somebody.execute("BEGIN EXCLUSIVE")
        slot = make_slots([CPU], count=1)[0]
        for trial, value in ((0, 0.5), (1, 0.25)):
            recorder(TrialStarted(trial, slot, 1, 1))
            train(folder, trial, value)
            recorder(Tick(1, 0))
            recorder(TrialEnded(trial, "completed", "", "", 1.0, 1))
        assert watching.values == [0.5, 0.25]
        (message,) = watching.messages
        assert "study.db" in message
        assert "the trials go on" in message
        somebody.execute("ROLLBACK")
        somebody.close()
        standing = refresh_index(folder, TRIALS, SPEC.objective, index, watching.message)
        assert [(item.state, item.best_value) for item in standing] == [("completed", 0.5), ("completed", 0.25)]
        assert [item.best_value for item in index.outcomes()] == [0.5, 0.25]


OWN = """\
workload: {{{workload}}}
objective: {{metric: loss, direction: minimize}}
training: {{max_train_steps: 5}}
hyperparameters: {{rate: 1}}
"""
CHECKPOINTS = 'checkpoints: "{trial.dir}/ckpt.pt", metrics: [{json_lines: stdout}]'


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        ('command: [a, "{rate}"]', "ending the running trials; the next run starts them again from step 0"),
        (
            f'command: [a, "{{rate}}"], {CHECKPOINTS}',
            "ending the running trials; the next run starts them again from step 0",
        ),
        (f'command: [a, "{{rate}}", ["{{trial.resume}}"]], {CHECKPOINTS}', "saving the running trials"),
        ("function: a:b", "waiting for the running trials to save; a trial that does not will start again from step 0"),
    ],
)
def test_a_stop_says_that_trials_are_saved_only_where_they_can_be(workload: str, said: str) -> None:
    spec = parse_study(OWN.format(workload=workload), Path("own.yaml"))
    assert stop_in_words(spec) == said
    assert stop_in_words(SPEC) == "saving the running trials"


def test_an_iteration_of_an_initialisation_is_shown_as_such_and_not_as_a_step(tmp_path: Path, monkeypatch) -> None:
    folder, watching = StudyFolder(tmp_path), Watching()
    monkeypatch.setattr(recorder_module, "_READ_SECONDS", 0.0)
    with Index.open_for_writing(folder.index) as index:
        refresh_index(folder, TRIALS, SPEC.objective, index, watching.message)
        tally = Tally(SPEC.objective, {trial.trial: 100 for trial in TRIALS}, 0.0)
        recorder = Recorder(folder, SPEC, {trial.trial: trial for trial in TRIALS}, index, tally, watching)
        home = folder.trial(0)
        home.path.mkdir(parents=True)
        recorder(TrialStarted(0, make_slots([CPU], count=1)[0], 1, 1))
        shown = []
        for line in (
            INITIALISATION.measurement(0, {"loss": 3.0}, 0.0),
            INITIALISATION.measurement(70, {"loss": 2.0}, 1.0),
            Measurement(0, {SPEC.objective.metric: 0.9}),
            Measurement(50, {SPEC.objective.metric: 0.5}),
        ):
            with open(home.measurements, "a") as file:
                file.write(jsontext.encode(line.to_json()) + "\n")
            recorder(Tick(1, 0))
            (row,) = index.progress(SPEC.objective)
            (running,) = watching.running
            shown.append((running.reached, running.value, row.iteration, row.last_step))
    assert shown == [
        ("0 (initialisation: 0)", None, 0, None),
        ("0 (initialisation: 70)", None, 70, None),
        ("0", 0.9, None, 0),
        ("50", 0.5, None, 50),
    ]
