"""What workers cost: 100 trials by `tunectl run` on this machine with 4 slots, and the same trials by
`tunectl run --backend external` with 4 workers (`tunectl worker --slots 1`) on it, alternating.

Both with their start-up: the runner and each worker load the workload once. The goal: at most 1.2 times the wall.
`python scripts/bench_workers.py 1 20` takes one round of 20 trials. It also compares what both have measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
TRIALS = 100
WORKERS = 4
GOAL_RATIO = 1.2

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
STUDY = """\
study: bench-workers
workload: tunectl.workloads.digits:mlp
objective: {{metric: valid/error_rate, direction: minimize}}
training: {{max_train_steps: 500, eval_every: 50, keep_checkpoints: 1}}
hyperparameters:
  learning_rate: {{role: nuisance, range: [0.02, 0.2], scale: log}}
  optimizer: momentum
  batch_size: 64
search: {{trials: {trials}}}
resources: {{devices: cpu}}
"""
TUNECTL = (sys.executable, "-P", "-m", "tunectl")


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
        command = [*TUNECTL, "worker", folder, "--slots", "1", "--no-wait", "--quiet"]
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


def main(rounds: int = ROUNDS, trials: int = TRIALS) -> int:
    """Print the walls of both, round by round, and whether the goal is met."""
    ratios = []
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory(prefix="bench-workers-") as place:
            study = Path(place) / "study.yaml"
            study.write_text(STUDY.format(trials=trials))
            one, other = Path(place) / "local", Path(place) / "workers"
            seconds = (local(study, one), with_workers(study, other))
            same = measured(one) == measured(other) and len(measured(one)) == trials
        ratios.append(seconds[1] / seconds[0])
        print(
            f"round {number}: {trials} trials: local, {WORKERS} slots {seconds[0]:.1f} s; {WORKERS} workers "
            f"{seconds[1]:.1f} s; ratio {ratios[-1]:.2f}; the same measurements: {same}"
        )
        if not same:
            return 1
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.2f}, goal at most {GOAL_RATIO}: {'met' if ratio <= GOAL_RATIO else 'missed'}")
    return int(ratio > GOAL_RATIO)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
