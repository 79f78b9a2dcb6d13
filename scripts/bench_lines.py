"""How many measurement lines a second go through the runner: from trials that only append lines, two at a time, into
study.db, beside two plain processes that write and flush the same lines.

The wall counts from the first launch until every line is committed in the index; the goal is 2,000 lines a second.
What study.db holds is compared afterwards, line by line, with what the trials were to write. In the last run the
runner is killed half way by SIGKILL; a second process opens the folder, in whose index every line must be then that a
trial had flushed, and continues to the end.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

from line_worker import COUNT, measurement

from tunectl.core.folders import StudyFolder
from tunectl.core.records import FactorySignature, TrialOutcome, WorkloadReference
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.devices import CPU
from tunectl.execution.jobs import AttemptLimits, Job
from tunectl.execution.scheduler import run_trials
from tunectl.execution.slots import make_slots
from tunectl.language.study_reader import parse_study
from tunectl.session.open_study import OpenStudy, open_study
from tunectl.session.recorder import Recorder
from tunectl.session.run_progress import RunProgress, Tally
from tunectl.session.trial_requests import total_steps, trial_request
from tunectl.store.index import Index
from tunectl.store.trial_files import write_request

ROUNDS = 3
TRIALS = 6
LINES = 10_000  # of each trial
SLOTS = 2
GOAL = 2_000
POLL_SECONDS = 0.1  # as `tunectl run`

STUDY = f"""\
study: bench-lines
workload: own:factory
objective: {{metric: valid/loss, direction: minimize}}
training: {{max_train_steps: {LINES}, eval_every: 1}}
hyperparameters:
  learning_rate: {{role: nuisance, range: [0.01, 1], scale: log}}
  optimizer: sgd
search: {{trials: {TRIALS}}}
resources: {{devices: cpu}}
"""
REFERENCE = WorkloadReference("own:factory", "factory", module="own")


class Silent:
    """A watcher that prints only messages."""

    def message(self, text: str) -> None:
        print(text, file=sys.stderr)

    def finished(self, outcome: TrialOutcome, progress: RunProgress) -> None:
        pass

    def progress(self, progress: RunProgress) -> None:
        pass


def study_in(place: Path) -> AbstractContextManager[OpenStudy]:
    """The study, with its index brought up to date with the existing trial folders."""
    return open_study(parse_study(STUDY, place / "study.yaml"), place, Silent())


def run(place: Path) -> float:
    """Run what is left, as `tunectl run` does; return the seconds from the first launch to the last commit."""
    here = str(Path(__file__).parent)
    backend = LocalBackend({**os.environ, "PYTHONPATH": here}, "line_worker")
    slots = make_slots([CPU], count=SLOTS)
    with study_in(place) as study:
        trials = {trial.trial: trial for trial in study.trials}
        tally = Tally(study.spec.objective, {number: total_steps(study.spec, trials[number]) for number in trials}, 0.0)
        recorder = Recorder(study.folder, study.spec, trials, study.index, tally, Silent())

        def prepare(job: Job) -> Path:
            folder = study.folder.trial(job.trial)
            write_request(folder, trial_request(study.spec, REFERENCE, FactorySignature(open=True), trials[job.trial]))
            return folder.path

        backend.start()
        backend.load(REFERENCE, {})
        try:
            backend.wait_ready()
            backend.hold(study.lock.fd)
            began = time.monotonic()
            states = run_trials(
                [Job(trial.trial) for trial in study.left()],
                backend,
                slots,
                limits=AttemptLimits(),
                prepare=prepare,
                on_event=recorder,
                stop_requested=lambda: 0,
                poll_seconds=POLL_SECONDS,
            )
            seconds = time.monotonic() - began
        finally:
            backend.close()
        if set(states.values()) != {"completed"}:
            sys.exit(f"not all trials completed: {states}")
    return seconds


def lines_in_index(place: Path) -> dict[int, int]:
    """The number of lines of each trial in study.db; ends the script if one is not what the trial wrote."""
    index = Index.open_read_only(StudyFolder(place).index)
    if index is None:
        sys.exit("study.db cannot be read")
    found: dict[int, int] = {}
    with index:
        for trial, read in index.measurements():
            expected = measurement(found.get(trial, 0))
            if read != expected:
                sys.exit(f"trial {trial}: study.db has {read}, the trial wrote {expected}")
            found[trial] = found.get(trial, 0) + 1
    return found


def flushed(place: Path) -> dict[int, int]:
    """How many lines each trial had flushed when it ended or was killed."""
    found = {int(file.parent.name): file.read_bytes() for file in StudyFolder(place).trials.glob("*/flushed")}
    return {trial: COUNT.unpack(content)[0] for trial, content in found.items() if len(content) == COUNT.size}


def run_plain(place: Path) -> float:
    """Two processes that write and flush the same lines, without runner and index."""
    began = time.monotonic()
    children = []
    for slot in range(SLOTS):
        pid = os.fork()
        if pid == 0:
            for trial in range(slot, TRIALS, SLOTS):
                with open(place / f"{trial}.jsonl", "wb") as file:
                    for step in range(LINES):
                        file.write(json.dumps(measurement(step).to_json()).encode() + b"\n")
                        file.flush()
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    return time.monotonic() - began


def check_complete(place: Path) -> None:
    found = lines_in_index(place)
    if found != dict.fromkeys(range(TRIALS), LINES):
        sys.exit(f"study.db lacks lines: {found}")


def run_killed(place: Path) -> None:
    """Kill the runner when half of all lines are flushed, then look into the index that the next process makes."""
    runner = subprocess.Popen([sys.executable, __file__, "run", str(place)])
    while runner.poll() is None and sum(flushed(place).values()) < TRIALS * LINES / 2:
        time.sleep(0.005)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    with study_in(place):
        before = flushed(place)  # the lock is ours: no trial of the killed runner writes any more
    indexed = lines_in_index(place)
    lost = sum(max(0, count - indexed.get(trial, 0)) for trial, count in before.items())
    print(
        f"runner killed (SIGKILL) after {sum(before.values()):,} of {TRIALS * LINES:,} lines were flushed: "
        f"{sum(indexed.values()):,} in study.db when it was opened again, {lost} lost"
    )
    if lost:
        sys.exit(1)
    run(place)
    check_complete(place)
    print(f"the second run went on to the end: {TRIALS * LINES:,} lines in study.db, each as it was written")


def main() -> None:
    if sys.argv[1:2] == ["run"]:
        run(Path(sys.argv[2]))
        return
    plain, through = [], []
    with tempfile.TemporaryDirectory() as home:
        for number in range(ROUNDS):
            folder = Path(home, f"plain-{number}")
            folder.mkdir()
            plain.append(TRIALS * LINES / run_plain(folder))
            through.append(TRIALS * LINES / run(Path(home, f"run-{number}")))
            check_complete(Path(home, f"run-{number}"))
        print(f"{TRIALS} trials of {LINES:,} lines, {SLOTS} at a time; medians of {ROUNDS} (least), lines a second")
        for name, found in (("write and flush alone", plain), ("through the runner into study.db", through)):
            print(f"{name:34}{statistics.median(found):10,.0f}{min(found):10,.0f}")
        print(f"goal {GOAL:,}; every line was in study.db as it was written")
        run_killed(Path(home, "killed"))


if __name__ == "__main__":
    main()
