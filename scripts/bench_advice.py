"""Does following tunectl's advice help? Ten bad starts, each followed by the advice and by TPE: `make bench-advice`.

A start is a study on MNIST-1D in which something is wrong (`advice_starts.py`). The advice arm runs it, then what
`tunectl next` writes, at most four studies in a row. The other arm searches the start's own space by Optuna's TPE,
with as many updates as the first one used. Both end with the trial of the lowest validation error; the table has the
error of its checkpoint on the test split, with five seeds (of points, trainings and TPE). A start is won where the
mean differs by more than twice its standard error, paired by seed.

Results are kept line by line in `--dir`, and the same command goes on where it was stopped. It prints its budget first
and begins nothing new after `--hours`. Exit code 1 where something is left to do.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

from advice_arms import advice, tpe
from advice_starts import STARTS

SEEDS = 5
MOST_UPDATES = 120_000
"""No study of the advice is begun with which the updates of all would be more."""

MEAN_UPDATES, SECONDS_AN_UPDATE = 100_000, 0.0005
"""For the budget that is printed: measured on two cores, evaluation and start-up of the commands included."""

Task = tuple[str, int]


def both(task: Task) -> dict[str, Any]:
    """What both arms reach from a start with a seed."""
    name, seed = task
    text = STARTS[name].text(name, seed)
    began = time.monotonic()
    own = advice(text, name, MOST_UPDATES)
    between = time.monotonic()
    other = tpe(text, name, own.updates, seed)
    seconds = {"advice": round(between - began, 1), "tpe": round(time.monotonic() - between, 1)}
    return {"start": name, "seed": seed, "advice": own.to_json(), "tpe": other.to_json(), "seconds": seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path("runs/advice"), help="where the results are kept")
    parser.add_argument("--only", nargs="+", choices=STARTS, help="these starts alone")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds of each start [{SEEDS}]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes [one a core]")
    parser.add_argument("--hours", type=float, default=2.0, help="begin nothing new after this time [2]")
    asked = parser.parse_args()
    asked.dir.mkdir(parents=True, exist_ok=True)
    file = asked.dir / "results.jsonl"
    known = {(line["start"], line["seed"]): line for line in read(file)}
    tasks = [(name, seed) for seed in range(asked.seeds) for name in (asked.only or STARTS)]
    left = [task for task in tasks if task not in known]
    print(budget(left, asked.jobs, len(tasks) - len(left)), flush=True)
    until = time.monotonic() + 3600 * asked.hours
    for line in results(left, asked.jobs, until):
        known[line["start"], line["seed"]] = line
        with file.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(f"{line['start']} seed {line['seed']}: {line['seconds']}", file=sys.stderr, flush=True)
    print("\n".join(table([known[task] for task in tasks if task in known])))
    missing = sum(task not in known for task in tasks)
    if missing:
        print(f"{missing} of {len(tasks)} are left: run the same command again")
    return int(missing > 0)


def results(tasks: Sequence[Task], jobs: int, until: float) -> Iterator[dict[str, Any]]:
    """The results in the order in which they come; after `until` no task is begun."""
    waiting = list(tasks)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        running: set[Future[dict[str, Any]]] = set()
        while running or (waiting and time.monotonic() < until):
            while waiting and len(running) < jobs and time.monotonic() < until:
                running.add(pool.submit(both, waiting.pop(0)))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (item.result() for item in ended)


def read(file: Path) -> list[dict[str, Any]]:
    """The results of earlier calls; a line that a kill cut off is left out."""
    found = []
    for text in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found


def budget(left: Sequence[Task], jobs: int, done: int) -> str:
    """What the call is expected to cost, in words."""
    updates = 2 * MEAN_UPDATES * len(left)
    minutes = updates * SECONDS_AN_UPDATE / 60 / jobs
    return (
        f"{len(left)} starts with their seeds ({done} are done), each by two arms: about {updates:,} updates, "
        f"{minutes:.0f} minutes on {jobs} processes"
    )


def table(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row for each start: the mean test error of both arms, their difference with its error, and who won."""
    rows = [f"{'start':20}{'seeds':>6}{'updates':>9}{'advice':>9}{'TPE':>9}{'gain':>9}{'error':>8}  verdict"]
    verdicts = []
    for name in STARTS:
        own = [line for line in lines if line["start"] == name]
        if not own:
            continue
        gains = [line["tpe"]["test_error"] - line["advice"]["test_error"] for line in own]
        gain = statistics.fmean(gains)
        error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
        verdict = "tie" if abs(gain) <= 2 * error else "win" if gain > 0 else "loss"
        verdicts.append(verdict)
        means = [statistics.fmean(line[arm]["test_error"] for line in own) for arm in ("advice", "tpe")]
        updates = statistics.fmean(line["advice"]["updates"] for line in own)
        rows.append(
            f"{name:20}{len(own):6}{updates:9,.0f}{means[0]:9.1%}{means[1]:9.1%}{gain:+9.1%}{error:8.1%}  {verdict}"
        )
    counts = ", ".join(f"{verdicts.count(what)} {what}" for what in ("win", "tie", "loss"))
    return [*rows, f"for the advice: {counts} (a difference of more than two standard errors)"]


if __name__ == "__main__":
    sys.exit(main())
