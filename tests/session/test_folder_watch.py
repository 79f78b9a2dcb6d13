"""Trials that overwrite each other's files, as a user meets them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from study_calls import Called
from watchers import Silent

from tunectl.execution.folder_snapshot import Snapshot, take_snapshot
from tunectl.execution.jobs import Job
from tunectl.language.study_reader import load_study
from tunectl.session import folder_watch
from tunectl.session.folder_watch import ALONE_SECONDS, FolderWatch
from tunectl.session.open_study import open_study
from tunectl.store.heartbeats import LATE_SECONDS

Call = Callable[..., Called]

PROGRAM = """\
import os, sys, time
lr, home = float(sys.argv[1]), sys.argv[2]
with open("times.txt", "a") as file:
    file.write(f"begin {lr}\\n")
time.sleep(0.3)
for step in (1, 2):
    with open("times.txt", "a") as file:
        file.write(f"step {lr}\\n")
    print(f"step {step} loss {lr / step}", flush=True)
open("model.pt", "w").write(f"weights {lr}")
"""
MEETING = """\
import sys, time
from pathlib import Path
lr, until = float(sys.argv[1]), time.monotonic() + 30
for step in (1, 2):
    print(f"step {step} loss {lr / step}", flush=True)
Path(f"{lr}.lock").touch()  # the folder is watched without locks
while len(list(Path().glob("*.lock"))) < 2 and time.monotonic() < until:
    time.sleep(0.001)
open("model.pt", "w").write(f"weights {lr}")
open(f"curve_{lr}.csv", "w").write(f"1 {lr}")
"""
STUDY = """\
study: own
workload:
  command: [python, -S, program.py, "{lr}", "{trial.dir}"]
  metrics: [{regex: 'step (?P<step>.) loss (?P<loss>\\S+)'}]
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 2}
hyperparameters:
  lr: {role: nuisance, values: [0.1, 0.2, 0.3]}
search: {sampler: grid}
resources: {devices: cpu}
"""


@pytest.fixture
def run(tunectl: Call, tmp_path: Path) -> Callable[..., Called]:
    (tmp_path / "program.py").write_text(PROGRAM)

    def call(text: str = STUDY, slots: int = 2) -> Called:
        (tmp_path / "own.yaml").write_text(text)
        return tunectl("run", tmp_path / "own.yaml", "--dir", tmp_path / "runs" / "own", "--slots", slots)

    return call


def findings(folder: Path) -> list[tuple[str, str]]:
    content = json.loads((folder / "runs" / "own" / "findings.json").read_text())
    return [(item["level"], item["sentence"]) for item in content["findings"] if item["id"] == "shared-files"]


def test_trials_side_by_side_that_overwrite_a_file_are_warned_of_once(
    run: Callable[..., Called], tmp_path: Path
) -> None:
    called = run()
    assert called.code == 0, called.messages
    assert called.messages.count("warning: Trials overwrite each other's files: model.pt") == 1
    assert "warning shared-files" in called.out
    warning, note = findings(tmp_path)
    assert warning[0] == "warning"
    assert "model.pt" in warning[1]
    assert note == ("note", "Several trials write the same files, without losing what was there: times.txt.")
    # The first trial runs alone until it has measured something.
    times = (tmp_path / "times.txt").read_text().splitlines()
    assert times[:2] == ["begin 0.1", "step 0.1"]
    # It is said again where it is asked again, and a study that says that it is meant is believed.
    untouched = run(STUDY.replace("objective:", "  shared_files: ['*.pt', times.txt]\nobjective:", 1))
    assert untouched.code == 0
    assert findings(tmp_path) == []


def test_the_next_run_remembers_what_trials_wrote(run: Callable[..., Called], tmp_path: Path) -> None:
    first = run(slots=1)
    assert "trials 0 and 1" in first.messages
    kept = tmp_path / "runs" / "own" / "written.jsonl"
    lines = kept.read_text().splitlines()
    assert {json.loads(line)["path"] for line in lines} == {"model.pt", "times.txt"}
    again = run(slots=1)
    assert "nothing to run" in again.out
    assert findings(tmp_path)[0] == ("warning", "Trials overwrite each other's files: model.pt (trials 0 and 1).")
    assert kept.read_text().splitlines() == lines


def test_a_file_that_programs_go_on_from_stops_the_study(run: Callable[..., Called], tmp_path: Path) -> None:
    text = STUDY.replace('"{trial.dir}"]', '"{trial.dir}", "--resume=model.pt"]')
    stopped = run(text, slots=1)
    assert stopped.code == 1
    assert "stopping: trials read, or resume from, files that other trials wrote." in stopped.messages
    assert len((tmp_path / "times.txt").read_text().split("begin")) == 3  # of three trials two were begun
    # Nor does the next run go on, until the study says that it is meant.
    assert run(text, slots=1).code == 1
    assert len((tmp_path / "times.txt").read_text().split("begin")) == 3
    meant = run(text.replace("objective:", "  shared_files: [model.pt]\nobjective:", 1), slots=1)
    assert meant.code == 0, meant.messages


def test_trials_in_folders_of_their_own_are_not_watched(run: Callable[..., Called], tmp_path: Path) -> None:
    called = run(STUDY.replace("  metrics:", '  folder: "{trial.dir}"\n  metrics:'))
    assert called.code == 0, called.messages
    assert findings(tmp_path) == []
    assert not (tmp_path / "runs" / "own" / "written.jsonl").exists()


def test_a_function_that_writes_to_the_current_folder_is_watched(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def train(trial, *, lr):\n"
        "    trial.record(1, {'loss': lr})\n"
        "    open('model.pt', 'w').write(str(lr))\n"
        "    (trial.dir / 'own.pt').write_text(str(lr))\n"
    )
    head, tail = STUDY.split("workload:")[0], STUDY[STUDY.index("objective:") :]
    (tmp_path / "own.yaml").write_text(head + "workload: {function: './mine.py:train'}\n" + tail)
    called = tunectl("run", "own.yaml", "--slots", "1")
    assert called.code == 0, called.messages
    assert findings(tmp_path) == [("warning", "Trials overwrite each other's files: model.pt (trials 0 and 1).")]
    assert "write to trial.dir" in called.out


def test_two_trials_that_write_a_file_at_their_common_end_are_warned_of_in_their_own_run(
    run: Callable[..., Called], tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(MEETING)
    two = STUDY.replace("[0.1, 0.2, 0.3]", "[0.1, 0.2]")
    called = run(two)
    assert called.code == 0, called.messages
    assert called.messages.count("warning: Trials ") == 1
    ((level, sentence),) = findings(tmp_path)
    assert level == "warning"
    assert sentence in called.messages
    if "may have" in sentence:  # both wrote it before the folder was looked at, else it was seen twice
        assert sentence == (
            "Trials may have overwritten each other's files: model.pt. Both trials that completed were running when it "
            "was written, so it is not known how many of them wrote it."
        )
    # The next call says it in its findings alone, and the study may say that it is meant.
    again = run(two)
    assert "warning: Trials" not in again.messages
    assert findings(tmp_path) == [(level, sentence)]
    run(two.replace("objective:", "  shared_files: [model.pt]\nobjective:", 1))
    assert findings(tmp_path) == []


class Watched:
    """A watch of a study whose trials are played."""

    def __init__(self, home: Path, watch: FolderWatch, said: Silent) -> None:
        self.home, self.watch, self.said = home, watch, said
        self.now = 0.0

    def clock(self) -> float:
        return self.now


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    (tmp_path / "program.py").write_text("")
    (tmp_path / "own.yaml").write_text(STUDY)
    said = Silent()
    with open_study(load_study(tmp_path / "own.yaml"), tmp_path / "runs" / "own", said) as study:
        played = Watched(tmp_path, FolderWatch(tmp_path, study, said, lambda: played.now), said)
        played.watch.begin(first_alone=True)
        yield played
        played.watch.finish()


@pytest.mark.parametrize("has_measured", [True, False])
def test_the_first_trial_runs_alone_until_it_has_measured_something_or_the_time_is_over(
    watched: Watched, *, has_measured: bool
) -> None:
    watch = watched.watch
    assert watch.may_launch(0)
    watch.launching(Job(0))
    assert not watch.may_launch(1)
    watched.now = ALONE_SECONDS - 1
    assert not watch.may_launch(1)
    if has_measured:
        measured = watched.home / "runs" / "own" / "trials" / "00000" / "measurements.jsonl"
        measured.parent.mkdir(parents=True)
        measured.write_text("{}\n")
    else:
        watched.now = ALONE_SECONDS
    assert watch.may_launch(1)
    watch.launching(Job(1))
    assert watch.may_launch(2)


def test_a_launch_waits_for_a_large_folder_for_a_second_and_what_it_shows_may_be_of_the_new_trial_then(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, goes_on = watched.watch, threading.Event()

    def slow(folder: Path, skipped: frozenset[str]) -> Snapshot:
        goes_on.wait(30)
        return take_snapshot(folder, skipped)

    watch.launching(Job(0))
    (watched.home / "model.pt").write_text("0")
    watch.ended(0, "completed")
    assert watch.may_launch(0)
    watch.launching(Job(1))
    monkeypatch.setattr(folder_watch, "take_snapshot", slow)
    (watched.home / "model.pt").write_text("0 again")
    watch.launching(Job(2))
    watch.ended(2, "completed")
    assert not watch.may_launch(1)
    watched.now += 1.5
    assert watch.may_launch(1)
    watch.launching(Job(3))
    goes_on.set()
    watch.finish()
    kept = [json.loads(line) for line in (watched.home / "runs" / "own" / "written.jsonl").read_text().splitlines()]
    assert [item["alone"] for item in kept if item["path"] == "model.pt"] == [[0], []]
    assert kept[-1]["trials"] == [[0], [1, 2, 3]]


@pytest.mark.parametrize(("late", "is_shared"), [(False, True), (True, False)])
def test_offered_trials_that_had_not_begun_then_did_not_write_what_was_seen(
    watched: Watched, *, late: bool, is_shared: bool
) -> None:
    watch, model = watched.watch, watched.home / "model.pt"
    for trial in range(3):  # a run offers all at once, and workers begin them one after the other
        watch.launching(Job(trial), is_offered=True)
    for trial in range(2):
        watch.look()
        watch.look()
        watch.started(trial, (), is_late=late)
        model.write_text(f"of {trial}")
        watch.ended(trial, "completed")
        assert watch.may_launch(1)  # it waits for what was seen
        watched.now += 30  # with a file server, the second one may have begun then
    assert not watched.said.messages
    watched.now += LATE_SECONDS
    watch.look()
    found = [text for text in watched.said.messages if "Trials overwrite each other's files: model.pt" in text]
    assert bool(found) == is_shared
