"""How a large study is planned, indexed, tabled and shown by `status`, beside plain JSON parsing from the same run.

Trial folders are made as runs leave them, without their training. Each size is measured in processes of its own, which
read a folder that has trials and no study.db: `index` reads every trial folder into it, `tables` writes all tables,
`status` is the command, with its start-up. `alone` is `status` of a folder whose study.db was deleted again.
`reference` is json.loads of every measurement line, one by one. CPU seconds count where other programs use the cores.
Making 10,000 folders takes longer than all parts; TMPDIR=/dev/shm spares a slow disk.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunectl.core import jsontext, record_checksums
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.measurements import Measurement
from tunectl.core.records import FactorySignature, PlannedTrial, TrialResult, WorkloadReference
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.outcome_index import refresh_index
from tunectl.session.trial_requests import trial_request
from tunectl.session.written_tables import write_tables
from tunectl.space.trial_plan import plan_trials
from tunectl.store.index import Index
from tunectl.store.plan_file import append_plan, read_plan

SIZES = (1_000, 10_000)
EVALUATIONS = 50
EVERY = 100
DIMENSIONS = 20
GOAL_PLAN_SECONDS = 2.0
GOAL_SECONDS = 8.0
GOAL_BYTES = 1e9
INFEASIBLE_EVERY = 25  # one trial in this many ends with a NaN loss, as wide ranges cause

STUDY = """\
study: large
workload: tunectl.workloads.digits:mlp
objective: {{metric: valid/error_rate, direction: minimize}}
training: {{max_train_steps: {steps}, eval_every: {every}, keep_checkpoints: 3}}
hyperparameters:
  optimizer: {{role: scientific, values: [nesterov, adam]}}
  learning_rate:
    - {{role: nuisance, when: {{optimizer: nesterov}}, range: [1e-3, 3], scale: log}}
    - {{role: nuisance, when: {{optimizer: adam}}, range: [1e-5, 1e-1], scale: log}}
  momentum: {{role: nuisance, when: {{optimizer: nesterov}}, range: [0.8, 0.999], scale: one_minus_log}}
  beta1: {{role: nuisance, when: {{optimizer: adam}}, range: [0.8, 0.99], scale: one_minus_log}}
  weight_decay: {{role: nuisance, range: [1e-6, 1e-1], scale: log}}
  num_layers: {{role: nuisance, values: [1, 2, 3]}}
search: {{sampler: halton, trials: {trials}}}
"""
WIDE = """\
study: wide
workload: own:factory
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 1000, eval_every: 100}
hyperparameters:
  learning_rate: {role: nuisance, range: [1e-5, 1], scale: log}
  optimizer: sgd
"""


def wide_study(trials: int) -> StudySpec:
    """A study whose trials are points in `DIMENSIONS` dimensions, with every kind of hyperparameter."""
    kinds = (
        "range: [1e-5, 1], scale: log",
        "range: [0, 1]",
        "range: [1, 512], type: int, scale: log",
        "values: [relu, gelu, tanh]",
        "range: [0.5, 0.999], scale: one_minus_log",
    )
    lines = [f"  h{index}: {{role: nuisance, {kinds[index % len(kinds)]}}}" for index in range(DIMENSIONS - 1)]
    text = WIDE + "\n".join(lines) + f"\nsearch: {{sampler: halton, trials: {trials}}}\n"
    return parse_study(text, Path("wide.yaml"))


def make_study(place: Path, trials: int) -> None:
    """A study folder as a run leaves it, without study.db and tables."""
    folder = StudyFolder(place)
    place.mkdir()
    text = STUDY.format(steps=EVALUATIONS * EVERY - EVERY, every=EVERY, trials=trials // 2)
    folder.study.write_text(text)
    folder.lock.touch()
    spec = parse_study(text, folder.study)
    planned = plan_trials(spec)
    append_plan(folder.plan, planned)
    updates = make_updates(place.with_name("updates.jsonl"))
    for trial in planned:
        home = folder.trial(trial.trial)
        make_trial(home, spec, trial)
        home.steps.hardlink_to(updates)  # gigabytes if each had its own


def make_updates(path: Path) -> Path:
    """The steps.jsonl of a trial, a block an evaluation."""
    draws = random.Random(0)
    for first in range(0, (EVALUATIONS - 1) * EVERY, EVERY):
        losses, norms, rates = ([draws.random() for _ in range(EVERY)] for _ in range(3))
        block = {"first": first, "loss": losses, "gradient_norm": norms, "clipped": [False] * EVERY}
        with open(path, "ab") as file:
            file.write(record_checksums.sealed(jsontext.encode({**block, "learning_rate": rates})) + b"\n")
    return path


def make_trial(folder: TrialFolder, spec: StudySpec, trial: PlannedTrial) -> None:
    """One trial's folder, with the files that any part looks at."""
    workload = WorkloadReference("tunectl.workloads.digits:mlp", "mlp", module="tunectl.workloads.digits")
    folder.checkpoints.mkdir(parents=True)
    # Not flushed, as a real one is: that would take longer than everything that is measured.
    request = trial_request(spec, workload, FactorySignature(open=True), trial)
    folder.request.write_text(jsontext.encode(request.to_json()) + "\n")
    draws = random.Random(trial.seed)
    infeasible = trial.trial % INFEASIBLE_EVERY == INFEASIBLE_EVERY - 1
    measured = list(measurements(draws, infeasible))
    folder.measurements.write_text("".join(jsontext.encode(item.to_json()) + "\n" for item in measured))
    best = sorted(measured[1:], key=lambda item: (item.metrics["valid/error_rate"], item.step))[:3]
    for item in best:
        folder.checkpoint(item.step).write_bytes(b"weights")
    end = ("infeasible", "nan_loss", measured[-1].step) if infeasible else ("completed", "", None)
    result = TrialResult(
        trial.trial,
        end[0],
        end[1],
        infeasible_step=end[2],
        final_step=measured[-1].step,
        train_seconds=draws.uniform(5, 6),
        eval_seconds=draws.random(),
        startup_seconds=draws.random(),
        device="cpu",
    )
    folder.result.write_text(jsontext.encode(result.to_json()) + "\n")


def measurements(draws: random.Random, infeasible: bool) -> Iterator[Measurement]:
    """The evaluations of a trial: losses that fall with noise, as long as doubles are when written."""
    for index in range(EVALUATIONS):
        level = 2.3 / (1 + index) + draws.random() / 10
        errors = [draws.randrange(300) / 300 for _ in range(2)]
        metrics = {"train/loss": level, "train/error_rate": errors[0], "valid/loss": level * 1.1}
        metrics |= {"valid/error_rate": errors[1], "valid/perplexity": math.exp(level)}
        metrics["train/minibatch_loss"] = math.nan if infeasible and index == EVALUATIONS - 1 else level * 0.9
        first = index == 0
        yield Measurement(
            step=index * EVERY,
            metrics=metrics,
            learning_rate=None if first else draws.random(),
            gradient_norm=None if first else draws.uniform(0, 5),
            elapsed_seconds=index * 0.1 + draws.random() / 100,
            checkpoint=None if first or draws.random() < 0.7 else f"step-{index * EVERY:08d}.pt",
        )


@dataclass(frozen=True)
class Cost:
    """The cost of some work: seconds, and the peak of resident memory of its process."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.wall_seconds + other.wall_seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_bytes, other.peak_bytes),
        )


class Clock:
    """Seconds since it was last asked."""

    def __init__(self) -> None:
        self.last = self._now()

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def lap(self) -> list[float]:
        before, self.last = self.last, self._now()
        return [now - then for now, then in zip(self.last, before, strict=True)]


def plan(_: StudyFolder) -> list[list[float]]:
    """Seconds of planning the widest study, without start-up."""
    spec = wide_study(SIZES[-1])
    clock = Clock()
    plan_trials(spec)
    return [clock.lap()]


def index_and_tables(folder: StudyFolder) -> list[list[float]]:
    """Seconds of reading every trial folder into a new study.db, and of writing the tables from it."""
    damage: list[str] = []
    clock = Clock()
    spec = parse_study(folder.study.read_text(), folder.study)
    trials = read_plan(folder.plan)
    with Index.open_for_writing(folder.index) as index:
        outcomes = refresh_index(folder, trials, spec.objective, index, damage.append)
        laps = [clock.lap()]
        write_tables(folder, spec, outcomes, index)
    assert len(outcomes) == len(trials)
    assert not damage
    return [*laps, clock.lap()]


def reference(folder: StudyFolder) -> list[list[float]]:
    """Seconds of reading the same measurements with json alone, one line at a time."""
    paths = sorted(folder.trials.glob("*/measurements.jsonl"))
    clock = Clock()
    count = 0
    for path in paths:
        with open(path, "rb") as file:
            for line in file:
                json.loads(line)
                count += 1
    assert count == EVALUATIONS * len(paths)
    return [clock.lap()]


PARTS = {part.__name__: part for part in (plan, index_and_tables, reference)}


def in_own_process(part: str, folder: Path) -> list[Cost]:
    """The costs that a part reports from a process of its own; the peak of memory is the whole process's."""
    output, whole = run([sys.executable, __file__, "--part", part, "--folder", str(folder)])
    return [Cost(wall, cpu, whole.peak_bytes) for wall, cpu in json.loads(output)]


def run(command: list[str]) -> tuple[bytes, Cost]:
    """A command's output, and the cost of its process, start-up included."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{' '.join(command)}: ended with {process.returncode}")
    return output, Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def measured_costs(place: Path, trials: int) -> dict[str, Cost]:
    """The costs of every part for one study folder."""
    folder = StudyFolder(place)
    status = [sys.executable, "-m", "tunectl", "status", "--json", str(place)]
    costs: dict[str, Cost] = {}
    costs["index"], costs["tables"] = in_own_process("index_and_tables", place)
    output, costs["status"] = run(status)
    costs["sum"] = costs["index"] + costs["tables"] + costs["status"]
    folder.index.unlink()
    other, costs["alone"] = run(status)
    assert json.loads(output) == json.loads(other)
    assert json.loads(output)["trials"] == trials
    (costs["reference"],) = in_own_process("reference", place)
    return costs


def show(name: str, cost: Cost, goal: str = "") -> None:
    memory = f"{cost.peak_bytes / 1e6:7.0f} MB" if cost.peak_bytes else ""
    print(f"  {name:12} {cost.wall_seconds:7.2f} s {cost.cpu_seconds:7.2f} s {memory:>10}  {goal}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=PARTS, help="(for this script's own processes)")
    parser.add_argument("--folder", type=Path, default=Path(), help="(for this script's own processes)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="the numbers of trials (even)")
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](StudyFolder(arguments.folder))))
        return
    print(f"{'':14} {'wall':>9} {'CPU':>9} {'peak':>10}  goal")
    (cost,) = in_own_process("plan", Path())
    print(f"a plan of {SIZES[-1]:,} trials in {DIMENSIONS} dimensions")
    show("plan", cost, f"under {GOAL_PLAN_SECONDS:.0f} s")
    sums: dict[int, Cost] = {}
    for trials in arguments.sizes:
        with tempfile.TemporaryDirectory(prefix="tunectl-scale-") as root:
            make_study(Path(root) / "large", trials)
            costs = measured_costs(Path(root) / "large", trials)
        print(f"{trials:,} trials of {EVALUATIONS} evaluations")
        goal = f"under {GOAL_SECONDS:.0f} s and {GOAL_BYTES / 1e9:.0f} GB" if trials == SIZES[-1] else ""
        for name, cost in costs.items():
            show(name, cost, goal if name == "sum" else "")
        sums[trials] = costs["sum"]
    print("milliseconds of CPU a trial: " + ", ".join(f"{n:,}: {c.cpu_seconds / n * 1e3:.2f}" for n, c in sums.items()))


if __name__ == "__main__":
    main()
