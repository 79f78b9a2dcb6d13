"""How long the commands take to start, beside a Python process that does nothing: medians of 7, alternating."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUDY = "studies/optimizer_comparison.yaml"
ROUNDS = 7
COMMANDS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "tunectl --help": ([sys.executable, "-m", "tunectl", "--help"], 0.35),
    "tunectl check": ([sys.executable, "-m", "tunectl", "check", STUDY], 0.70),
    "tunectl plan": ([sys.executable, "-m", "tunectl", "plan", STUDY], None),
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, (command, _) in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            times[name].append(time.perf_counter() - started)
    reference = statistics.median(times["python -c pass"])
    print(f"{'command':18} {'median':>8} {'least':>8} {'goal':>8} {'times python':>13}")
    for name, (_, goal) in COMMANDS.items():
        median = statistics.median(times[name])
        wanted = f"{goal:6.2f} s" if goal else "–"
        print(f"{name:18} {median:6.3f} s {min(times[name]):6.3f} s {wanted:>8} {median / reference:13.1f}")


if __name__ == "__main__":
    main()
