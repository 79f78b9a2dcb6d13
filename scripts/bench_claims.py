"""How many offered trials a second several workers claim, beside the same number of bare renames by as many processes.

10,000 trials are offered, each with a request. Eight processes claim until none is left, as `tunectl worker` does: by
its queue of offers, one rename for each claim, the claim's record and the first heartbeat. The reference renames
10,000 small folders, each once, by eight processes that know which ones are theirs. No trial may be claimed twice, and
none left; the goal is 200 claims a second. `--folder` is where the study is made, for example on a file server.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from random import Random

from tunectl.core.folders import StudyFolder
from tunectl.execution.devices import CPU
from tunectl.execution.held_trials import WorkerName
from tunectl.execution.offer_queue import OfferQueue
from tunectl.execution.slots import make_slots
from tunectl.store import claimed_trials, offered_trials
from tunectl.store.offered_trials import Offer, read_offer

TRIALS = 10_000
WORKERS = 8
ROUNDS = 3
GOAL = 200


def offered(place: Path) -> StudyFolder:
    """A study folder with the offered trials."""
    study = StudyFolder(place / "study")
    study.trials.mkdir(parents=True)
    offered_trials.make_places(study)
    for trial in range(TRIALS):
        home = offered_trials.home_folder(study, trial)
        home.path.mkdir()
        home.request.write_text('{"kind": "workload"}')
        offered_trials.offer_trial(study, Offer(trial, 1))
    return study


def claim(place: Path, number: int, barrier: Barrier) -> None:
    """Claim until nothing is offered, and write down what was claimed."""
    study = StudyFolder(place / "study")
    queue, name, slot = OfferQueue(study, Random(number), time.monotonic), WorkerName(str(number)), make_slots([CPU])[0]
    claimed_here, tries = [], 0
    barrier.wait()
    while True:
        if not queue.has_any():
            queue.list_again()  # what is left of a list may be a second old
            if not queue.has_any():
                break
        trial = queue.next()
        claimed = None if trial is None else claimed_trials.claim_trial(study, trial)
        tries += 1
        if claimed is None:
            queue.came_late()
        else:
            queue.claimed()
            offer = read_offer(claimed.folder)
            if offer is None:
                raise RuntimeError(f"expected the offer of trial {trial}")
            claimed_trials.write_claimant(claimed, name.claimant(offer, slot))
            claimed_trials.write_trial_beat(claimed, 1)
            claimed_here.append(claimed.trial)
    (place / f"claimed-{number}.txt").write_text("\n".join(map(str, [tries, *claimed_here])))


def rename(place: Path, number: int, barrier: Barrier) -> None:
    """Rename this process's part of the folders."""
    barrier.wait()
    for trial in range(number, TRIALS, WORKERS):
        (place / "from" / f"{trial:05d}").rename(place / "to" / f"{trial:05d}")


def seconds_of(work: Callable[[Path, int, Barrier], None], place: Path) -> float:
    """The wall time of the work by all processes, from when all are ready."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(WORKERS + 1)
    started = [context.Process(target=work, args=(place, number, barrier)) for number in range(WORKERS)]
    for process in started:
        process.start()
    barrier.wait()
    began = time.perf_counter()
    for process in started:
        process.join()
    seconds = time.perf_counter() - began
    if any(process.exitcode for process in started):
        raise SystemExit("a process failed")
    return seconds


def one_round(place: Path) -> tuple[float, float, int]:
    """Seconds of the claims and of the bare renames, and the tries that came too late."""
    study = offered(place)
    claiming = seconds_of(claim, place)
    found = [list(map(int, (place / f"claimed-{number}.txt").read_text().split())) for number in range(WORKERS)]
    claims = [trial for _, *trials in found for trial in trials]
    if sorted(claims) != list(range(TRIALS)):
        raise SystemExit(f"expected each of {TRIALS:,} trials once, got {len(claims):,} claims of {len(set(claims)):,}")
    if [claimed.trial for claimed in claimed_trials.claimed_trials(study)] != list(range(TRIALS)):
        raise SystemExit("the folder of claimed trials has not each trial once")
    for name in ("from", "to"):
        (place / name).mkdir()
    for trial in range(TRIALS):
        (place / "from" / f"{trial:05d}").mkdir()
    return claiming, seconds_of(rename, place), sum(tries for tries, *_ in found) - TRIALS


def main() -> None:
    """Print the claims a second beside the renames a second."""
    parser = argparse.ArgumentParser(description="Claims a second of several workers.")
    parser.add_argument("--folder", type=Path, help="where the study is made (default: the folder of temporary files)")
    folder = parser.parse_args().folder
    print(f"{TRIALS:,} offered trials, {WORKERS} processes, {os.cpu_count()} cores")
    print(f"{'round':>5} {'claims/s':>9} {'renames/s':>10} {'ratio':>6} {'too late':>9}")
    rates = []
    for number in range(1, ROUNDS + 1):
        place = Path(tempfile.mkdtemp(prefix="claims-", dir=folder))
        try:
            claiming, renaming, late = one_round(place)
        finally:
            shutil.rmtree(place)
        rates.append(TRIALS / claiming)
        print(
            f"{number:>5} {rates[-1]:>9,.0f} {TRIALS / renaming:>10,.0f} {renaming / claiming:>6.2f} {late:>9,}",
            flush=True,
        )
    verdict = "reached" if min(rates) >= GOAL else "missed"
    print(f"claims a second: median {statistics.median(rates):,.0f}; goal {GOAL} {verdict}; no trial twice, none left")


if __name__ == "__main__":
    main()
