"""Kills a trial at every moment at which it touches the disk, lets it go on, and compares with an undisturbed one.

Run by test_kills.py as a program of its own: its children are forks, which want a process that never used a second
thread. Prints one JSON object: for each case how many kills there were, and which trials ended differently.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))
from training_builders import (
    comparable,
    drawing_workload,
    make_request,
    parabola,
    plain_workload,
    predicting_workload,
)

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.example_predictions import PredictionSettings
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import Recovery
from tunectl.training.training_state import Clock
from tunectl.training.trial import run_trial

KILLED = 77
OWN = {"objective": Objective("valid/loss", "minimize"), "eval_every": 2, "keep_checkpoints": 2}
FILES = {"objective": Objective("valid/kappa", "maximize")}
CASES = {
    "plain": (make_request(learning_rate=0.15, optimizer="adam", max_train_steps=16, **OWN), plain_workload),
    # Twice it grows until it has diverged, and goes back; at a quarter of its rate it converges.
    "recovering": (
        make_request(learning_rate=2.4, optimizer="sgd", max_train_steps=24, recovery=Recovery(0.5, 3), **OWN),
        parabola,
    ),
    "curvature": (
        make_request(
            learning_rate=0.15, optimizer="adam", max_train_steps=12, curvature=CurvatureSettings(every=3), **OWN
        ),
        plain_workload,
    ),
    "predictions": (
        make_request(
            learning_rate=0.15,
            optimizer="adam",
            max_train_steps=8,
            polyak_decay=0.5,
            predictions=PredictionSettings(examples=3),
            split_examples={"valid": 8},
            **OWN,
        ),
        predicting_workload,
    ),
    "files": (
        make_request(learning_rate=0.15, optimizer="adam", max_train_steps=8, **OWN | FILES),
        drawing_workload,
    ),
    "initialisation": (
        make_request(
            learning_rate=0.15,
            max_train_steps=4,
            initialisation="gradinit",
            initialisation_steps=12,
            initialisation_learning_rate=0.01,
            initialisation_momentum=0.9,
            **OWN,
        ),
        plain_workload,
    ),
}


class Countdown:
    """Ends the process, without any cleaning up, when this number of writes has been made."""

    def __init__(self, writes: int) -> None:
        self.left = writes
        self.seen = 0

    def tick(self) -> None:
        self.seen += 1
        self.left -= 1
        if self.left == 0:
            os._exit(KILLED)


def around(owner: Any, name: str, countdown: Countdown) -> None:
    original = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        countdown.tick()
        found = original(*args, **kwargs)
        countdown.tick()
        return found

    setattr(owner, name, counted)


def tearing(countdown: Countdown) -> None:
    """Also between the two halves of a line."""

    def append(self: LineFile, content: dict[str, Any]) -> None:
        from tunectl.core import jsontext

        line = jsontext.encode(content).encode() + b"\n"
        for half in (line[: len(line) // 2], line[len(line) // 2 :]):
            countdown.tick()
            self._file.write(half)
            self._file.flush()
        countdown.tick()

    LineFile.append = append  # type: ignore[method-assign]


def clock() -> Clock:
    """A clock that ticks when read: `resume.pt` is written at about every third evaluation, the same in every run."""
    now = iter(range(10**9))
    return Clock(now=lambda: float(next(now)), save_every_seconds=10.0)


def attempt(case: str, folder: TrialFolder, writes: int) -> int:
    """Train in a fork that dies at its n-th write; gives the writes it made, or -1 when it was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        countdown = Countdown(writes)
        tearing(countdown)
        for name in ("fsync", "rename", "unlink", "rmdir", "mkdir"):
            around(os, name, countdown)
        request, factory = CASES[case]
        run_trial(request, folder, factory, device="cpu", stop=lambda: False, seconds=TrialSeconds(), clock=clock())
        os.write(writer, str(countdown.seen).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, KILLED):
        raise SystemExit(f"a trial ended with {status}")
    return int(text) if status == 0 else -1


def fresh(root: Path, name: str) -> TrialFolder:
    folder = TrialFolder(root / name)
    folder.path.mkdir()
    return folder


def differs(folder: TrialFolder, expected: dict[str, Any]) -> bool:
    left = [path.name for path in folder.path.rglob("*.tmp")]
    return bool(left) or comparable(folder) != expected


def outcome(case: str, every: int, again: int, seed: int) -> dict[str, Any]:
    """Kill at each `every`-th write, and `again` trials again and again: how many kills there were, what differs."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        undisturbed = fresh(root, "undisturbed")
        writes = attempt(case, undisturbed, -1)
        expected = comparable(undisturbed)
        kills, wrong = 0, []
        for point in range(1, writes + 1, every):
            folder = fresh(root, str(point))
            kills += attempt(case, folder, point) == -1
            attempt(case, folder, -1)
            if differs(folder, expected):
                wrong.append([point])
        chance = random.Random(seed)
        for number in range(again):
            folder, points = fresh(root, f"again{number}"), []
            while True:
                points.append(chance.randint(1, writes))
                if attempt(case, folder, points[-1]) != -1:
                    break
                kills += 1
            if differs(folder, expected):
                wrong.append(points)
        return {"writes": writes, "kills": kills, "wrong": wrong, "files": sorted(expected)}


def main(report: Callable[[str], object], seed: str, *cases: str) -> None:
    """Each of the cases is its name, `every` and `again`, with colons between them."""
    torch.set_num_threads(1)
    found = {}
    for case in cases:
        name, every, again = case.split(":")
        found[name] = outcome(name, int(every), int(again), int(seed))
    report(json.dumps(found))


if __name__ == "__main__":
    main(print, *sys.argv[1:])
