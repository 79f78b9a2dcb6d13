"""What `tunectl run` costs: 40 trials of 100 updates of the digits' perceptron 64-128-10, two at a time, beside the
same trainings without it; all with start-up, one thread a process, alternating.

`floor` is the same 40 trainings by a plain loop (plain_training.py), without checkpoints, files and tables, divided
over two processes that import torch once each. `fresh` is that loop in a process of its own for every trial, two at a
time, measured on 8 of the 40 and multiplied by 5. The goals: `run` takes at most 1.5 times the floor, and a trial
costs at most 80 ms beyond its own training, evaluations and checkpoints: (the wall from the first launch to the last
end, times the slots, less all that the trials' tables say was spent on training and evaluation with its checkpoints),
divided by the trials.

`python scripts/bench_runner.py 3 0` takes 3 rounds, and none of fresh processes; `bench_runner.py timed ...` is
`tunectl ...` that also writes down when its phases began.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUNDS = 5
TRIALS = 40
SLOTS = 2
FRESH_TRIALS = 8
FRESH_ROUNDS = 2
GOAL_RATIO = 1.5
GOAL_TRIAL_SECONDS = 0.080

Seconds = tuple[float, float]
PLAIN = Path(__file__).with_name("plain_training.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
MARKS = "BENCH_RUNNER_MARKS"
STUDY = f"""\
study: bench-runner
workload: tunectl.workloads.digits:mlp
objective: {{metric: valid/error_rate, direction: minimize}}
training: {{max_train_steps: 100, eval_every: 10, keep_checkpoints: 3}}
hyperparameters:
  learning_rate: {{role: nuisance, range: [0.02, 0.2], scale: log}}
  optimizer: momentum
  momentum: 0.9
  batch_size: 64
  num_layers: 1
  width: 128
search: {{trials: {TRIALS}}}
resources: {{devices: cpu}}
"""
RATIOS: tuple[Callable[[Seconds, Seconds], float], ...] = (lambda a, b: a[0] / b[0], lambda a, b: a[1] / b[1])
PHASES = (
    ("command", "start", "server started"),
    ("workload loading", "server started", "server ready"),
    ("probe", "server ready", "probed"),
    ("folder, plan, index", "probed", "first launch"),
    ("trials", "first launch", "last end"),
    ("tables", "last end", "closing"),
    ("server ends", "closing", "closed"),
    ("settings printed, exit", "closed", "end"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One `tunectl run`, in seconds: wall, CPU of all its processes, wall by phase; and of a trial on average: its cost
    beyond its own work, that work, and the time from its launch until it has its workload's factory.
    """

    wall: float
    cpu: float
    phases: dict[str, float]
    trial_cost: float
    own_work: float
    startup: float


def run_tunectl(place: Path) -> Run:
    place.mkdir()
    study, folder, marks = place / "study.yaml", place / "run", place / "marks.json"
    study.write_text(STUDY)
    command = [sys.executable, __file__, "timed", "run", str(study), "--dir", str(folder), "--slots", str(SLOTS)]
    began, cpu = time.monotonic(), children_cpu()
    subprocess.run(
        [*command, "--quiet"],
        env={**ENVIRONMENT, MARKS: str(marks)},
        cwd=place,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    times = {"start": began, "end": time.monotonic(), **json.loads(marks.read_text())}
    phases = {name: times[last] - times[first] for name, first, last in PHASES}
    with open(folder / "tables" / "trials.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    if [row["state"] for row in rows] != ["completed"] * TRIALS:
        sys.exit(f"not all trials completed: {[row['state'] for row in rows]}")
    own = sum(float(row["train_seconds"]) + float(row["eval_seconds"]) for row in rows)
    startup = sum(float(row["startup_seconds"]) for row in rows)
    cost = (phases["trials"] * SLOTS - own) / TRIALS
    return Run(times["end"] - began, children_cpu() - cpu, phases, cost, own / TRIALS, startup / TRIALS)


def children_cpu() -> float:
    """The CPU seconds of all processes that were started here and have ended, and of those below them."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_plain(shares: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The wall and the CPU of plain processes, two at a time, each training its share of trials."""

    def train(share: tuple[int, int]) -> None:
        subprocess.run([sys.executable, str(PLAIN), *map(str, share)], env=ENVIRONMENT, check=True)

    began, cpu = time.monotonic(), children_cpu()
    with ThreadPoolExecutor(SLOTS) as pool:
        list(pool.map(train, shares))
    return time.monotonic() - began, children_cpu() - cpu


def timed(arguments: list[str]) -> int:
    """`tunectl` with these arguments, with a backend that notes when each method is called."""
    from tunectl.core.records import TrialRequest
    from tunectl.execution.backends.backend import ProcessEnded
    from tunectl.execution.backends.local import LocalBackend
    from tunectl.session import backend_start

    times: dict[str, float] = {}

    class Timed(LocalBackend):
        def start(self, *, own_code: bool = False) -> None:
            times["server started"] = time.monotonic()
            super().start(own_code=own_code)

        def wait_ready(self, *stop: Any) -> Any:
            ready = super().wait_ready(*stop)
            times.setdefault("server ready", time.monotonic())
            return ready

        def probe(self, request: TrialRequest, *where: Any) -> Any:
            answer = super().probe(request, *where)
            times["probed"] = time.monotonic()
            return answer

        def launch(self, *trial: Any) -> None:
            times.setdefault("first launch", time.monotonic())
            super().launch(*trial)

        def poll(self, timeout_seconds: float) -> Any:
            reports = super().poll(timeout_seconds)
            if any(isinstance(report, ProcessEnded) for report in reports):
                times["last end"] = time.monotonic()
            return reports

        def close(self) -> None:
            times["closing"] = time.monotonic()
            super().close()
            times["closed"] = time.monotonic()

    backend_start.BACKENDS = {"local": Timed}
    sys.argv = ["tunectl", *arguments]
    from tunectl.cli.main import main as tunectl

    try:
        code = tunectl()
    except SystemExit as wish:
        code = wish.code
    Path(os.environ[MARKS]).write_text(json.dumps(times))
    return int(code or 0)


def measure(rounds: int, fresh_rounds: int, place: Path) -> None:
    runs, floors, fresh = [], [], []
    half = TRIALS // SLOTS
    for number in range(rounds):
        floors.append(run_plain([(first, first + half) for first in range(0, TRIALS, half)]))
        runs.append(run_tunectl(place / str(number)))
    for _ in range(fresh_rounds):
        wall, cpu = run_plain([(trial, trial + 1) for trial in range(FRESH_TRIALS)])
        fresh.append((wall * TRIALS / FRESH_TRIALS, cpu * TRIALS / FRESH_TRIALS))
    print(f"{TRIALS} trials of 100 updates, {SLOTS} at a time; medians of {rounds} (fresh: of {len(fresh)})")
    print(f"{'':20}{'wall':>10}{'least':>10}{'CPU':>10}{'wall / floor':>14}{'CPU / floor':>14}")
    walls = [(run.wall, run.cpu) for run in runs]
    for name, found in (("floor", floors), ("tunectl run", walls), ("fresh processes", fresh)):
        if not found:
            continue
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        ratios = [
            statistics.median(ratio(item, floor) for item, floor in zip(found, floors, strict=False))
            for ratio in RATIOS
        ]
        print(f"{name:20}{wall:8.2f} s{min(found)[0]:8.2f} s{cpu:8.2f} s{ratios[0]:14.2f}{ratios[1]:14.2f}")
    print(f"ratios are medians of those of each round; goal for the wall of `tunectl run`: {GOAL_RATIO}")
    show_trials(runs)


def show_trials(runs: Sequence[Run]) -> None:
    costs, own, startup = ([getattr(run, name) * 1e3 for run in runs] for name in ("trial_cost", "own_work", "startup"))
    print(
        f"a trial costs {statistics.median(costs):.0f} ms (least {min(costs):.0f} ms) beyond its own "
        f"{statistics.median(own):.0f} ms, of it {statistics.median(startup):.0f} ms from its launch until it has its "
        f"factory; goal {GOAL_TRIAL_SECONDS * 1e3:.0f} ms"
    )
    print("where the wall of `tunectl run` goes, median and least:")
    for name, _, _ in PHASES:
        found = [run.phases[name] for run in runs]
        print(f"  {name:24}{statistics.median(found):8.2f} s{min(found):8.2f} s")


def main() -> None:
    if sys.argv[1:2] == ["timed"]:
        sys.exit(timed(sys.argv[2:]))
    with tempfile.TemporaryDirectory() as place:
        rounds = [int(argument) for argument in sys.argv[1:]]
        measure(*(rounds if len(rounds) == 2 else (ROUNDS, FRESH_ROUNDS)), Path(place))


if __name__ == "__main__":
    main()
