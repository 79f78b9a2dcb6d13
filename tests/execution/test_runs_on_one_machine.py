"""Several runners at once, each in a process of its own: locks, scheduler and backend share places together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from toy_trials import wait_until

from tunectl.execution.runtime_folder import VARIABLE

RUNNER = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
from toy_trials import Toys
from tunectl.execution.jobs import AttemptLimits, Job
from tunectl.execution.scheduler import run_trials
from tunectl.execution.slots import make_slots
from tunectl.execution.devices import CPU
from tunectl.language.study_spec import ResourcesSection

toys = Toys(Path(sys.argv[1]))
toys.start()
slots = make_slots([CPU], count=2)
places = toys.backend.places(ResourcesSection(), slots, print)
places.rules = replace(places.rules, cores=("core-0", "core-1"))  # whatever this machine has
states = run_trials(
    [Job(trial) for trial in range(20)], toys.backend, slots, limits=AttemptLimits(),
    prepare=lambda job: toys.folder(job.trial, "notes_its_times"), on_event=lambda event: None,
    stop_requested=lambda: 0, places=places,
)
toys.backend.close()
print(sorted(states.values()) == ["completed"] * 20)
"""


def most_at_once(times: Path, killed_at: int) -> int:
    """The most trials that ran at the same time; those of the killed runner that have no end ended with it."""
    spans: dict[str, list[int]] = defaultdict(list)
    for line in times.read_text().splitlines():
        pid, at = line.split()
        spans[pid].append(int(at))
    changes = [(begin, 1) for begin, *_ in spans.values()]
    changes += [(end[0] if end else killed_at, -1) for _, *end in spans.values()]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def test_four_runs_of_twenty_trials_share_two_cores_and_a_killed_one_blocks_none(tmp_path):
    script = tmp_path / "runner.py"
    script.write_text(RUNNER.format(tests=str(Path(__file__).parent.parent)))
    environ = {**os.environ, VARIABLE: str(tmp_path / "runtime")}
    runners = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / f"trials-{number}")],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    wait_until(lambda: (tmp_path / "trials-1" / "00003" / "pids.jsonl").exists(), "the second runner has begun")
    killed_at = time.monotonic_ns()
    runners[1].kill()
    printed = [runner.communicate(timeout=60)[0] for runner in runners]
    assert [printed[number] for number in (0, 2, 3)] == ["True\n"] * 3
    assert most_at_once(tmp_path / "times.txt", killed_at) == 2
    assert list((tmp_path / "runtime" / "queue").iterdir()) == []
