"""What workers cost: 100 trials by `tunectl run` on this machine with 4 slots, and the same trials by
`tunectl run --backend external` with 4 workers (`tunectl worker --slots 1`) on it, alternating.

Both with their start-up: the runner and each worker load the workload once, so that workers load it five times. That
is nearly all that they cost more: a worker takes about as many CPU seconds to start as four trials of 500 updates, most
of them in the import of torch. So the ratio falls with the number of trials and with their length.

The goal: at most 1.2 times the wall, by the median of the pairs, both for trials of 500 updates (a quarter of a second)
and of 2,000 (a second). The CPU seconds of all processes together say the same where other programs disturb the wall:
Linux then shares the cores between sessions, and workers have more of these than a run without, so that their wall may
even be shorter.
A first pair of a few trials is not counted: it writes the bytecode of all modules.

`python scripts/bench_workers.py 1 20 500` takes one pair of 20 trials of 500 updates. It also compares what both have
measured.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PAIRS = 5
TRIALS = 100
UPDATES = (500, 2000)
WORKERS = 4
GOAL_RATIO = 1.2

ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # As where tunectl is installed: else each of the processes would compile all its imports again.
    "PYTHONDONTWRITEBYTECODE": "",
}
STUDY = """\
study: bench-workers
workload: tunectl.workloads.digits:mlp
objective: {{metric: valid/error_rate, direction: minimize}}
training: {{max_train_steps: {updates}, eval_every: 50, keep_checkpoints: 1}}
hyperparameters:
  learning_rate: {{role: nuisance, range: [0.02, 0.2], scale: log}}
  optimizer: momentum
  batch_size: 64
search: {{trials: {trials}}}
resources: {{devices: cpu}}
"""
TUNECTL = (sys.executable, "-P", "-m", "tunectl")


@dataclass(frozen=True, slots=True)
class Seconds:
    """The wall until the run has ended, and the CPU time of all its processes until all have ended, in seconds."""

    wall: float
    cpu: float


def timed(work: Callable[[], float]) -> Seconds:
    """What this work took; it gives its wall."""
    before = _cpu_of_children()
    wall = work()
    return Seconds(wall, _cpu_of_children() - before)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # with their own children, each of which they wait for
    return usage.ru_utime + usage.ru_stime


def local(study: Path, folder: Path) -> float:
    """The wall of the local backend with as many slots as there are workers, in seconds."""
    began = time.monotonic()
    subprocess.run(
        [*TUNECTL, "run", study, "--dir", folder, "--slots", str(WORKERS), "--no-wait", "--quiet"],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began


def with_workers(study: Path, folder: Path) -> float:
    """The wall of the same with workers, in seconds; they start as soon as trials are offered."""
    began = time.monotonic()
    with subprocess.Popen(
        [*TUNECTL, "run", study, "--dir", folder, "--backend", "external", "--quiet"],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
    ) as run:
        while not (folder / "run.json").exists():
            if run.poll() is not None:
                raise SystemExit(f"tunectl run ended with {run.returncode}")
            time.sleep(0.01)
        command: list[str | Path] = [*TUNECTL, "worker", folder, "--slots", "1", "--no-wait", "--quiet"]
        workers = [subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL) for _ in range(WORKERS)]
        if run.wait():
            raise SystemExit(f"tunectl run ended with {run.returncode}")
        wall = time.monotonic() - began
        for worker in workers:
            worker.wait()
    return wall


def measured(folder: Path) -> dict[str, list[object]]:
    """What the trials measured, by trial: the metrics of each evaluation, which no backend may change."""
    found: dict[str, list[object]] = {}
    for path in sorted(folder.glob("trials/*/measurements.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.parent.name] = [(line["step"], line["metrics"]) for line in lines]
    return found


def mean_trial(folder: Path) -> float:
    """The seconds that a trial took on average, while others ran."""
    results = [json.loads(path.read_text()) for path in folder.glob("trials/*/result.json")]
    return statistics.mean(float(item["train_seconds"]) + float(item["eval_seconds"]) for item in results)


def pair(trials: int, updates: int, label: str) -> tuple[float, float] | None:
    """The ratios of wall and CPU of one pair, printed under this label; None where the measurements differ."""
    with tempfile.TemporaryDirectory(prefix="bench-workers-") as place:
        study = Path(place) / "study.yaml"
        study.write_text(STUDY.format(trials=trials, updates=updates))
        one, other = Path(place) / "local", Path(place) / "workers"
        here, there = timed(lambda: local(study, one)), timed(lambda: with_workers(study, other))
        same = measured(one) == measured(other) and len(measured(one)) == trials
        each = mean_trial(one)
    ratios = (there.wall / here.wall, there.cpu / here.cpu)
    print(
        f"{label}: {trials} trials of {each:.2f} s; wall of {WORKERS} local slots {here.wall:.1f} s, of {WORKERS} "
        f"workers {there.wall:.1f} s, ratio {ratios[0]:.2f}; CPU {here.cpu:.1f} s and {there.cpu:.1f} s, ratio "
        f"{ratios[1]:.2f}; the same measurements: {same}",
        flush=True,
    )
    return ratios if same else None


def main(pairs: int = PAIRS, trials: int = TRIALS, *updates: int) -> int:
    """Print the walls of both, pair by pair, and whether the goal is met for each length of a trial."""
    if pair(WORKERS, 50, "not counted") is None:
        return 1
    missed = False
    for length in updates or UPDATES:
        found = [pair(trials, length, f"{length} updates, pair {number}") for number in range(1, pairs + 1)]
        known = [ratios for ratios in found if ratios is not None]
        if len(known) < len(found):
            return 1
        walls, cpus = zip(*known, strict=True)
        ratio = statistics.median(walls)
        missed = missed or ratio > GOAL_RATIO
        print(
            f"{length} updates: median ratio of the wall {ratio:.2f} ({min(walls):.2f} to {max(walls):.2f}), of the "
            f"CPU {statistics.median(cpus):.2f} ({min(cpus):.2f} to {max(cpus):.2f}); goal for the wall at most "
            f"{GOAL_RATIO}: {'missed' if ratio > GOAL_RATIO else 'met'}",
            flush=True,
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
