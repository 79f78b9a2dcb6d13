"""A trial that is killed at any write ends as if it had not been. Tests saved_trial.py, checkpoints.py and trial.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("case", "every", "again"), [("plain", 10, 2), ("recovering", 31, 0), ("curvature", 5, 1), ("initialisation", 7, 1)]
)
@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that uses torch")
def test_a_trial_killed_at_any_write_and_again_while_it_goes_on_ends_as_if_undisturbed(case, every, again):
    program = Path(__file__).with_name("kill_every_write.py")
    # Some of the writes, and a few trials that are killed again and again; `kill_every_write.py 1 0 50 plain` takes
    # them all.
    done = subprocess.run(
        [sys.executable, str(program), str(every), "0", str(again), case],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] > (12 if case == "plain" else 5)
    assert found["wrong"] == []
    assert "resume.pt" in found["files"]
    assert len([name for name in found["files"] if name.startswith("step-")]) == 2
