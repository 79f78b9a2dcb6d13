"""A trial that is killed at any write ends as if it had not been. Tests saved_trial.py, checkpoints.py and trial.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# The case, how many writes lie between two kills, and the trials that are killed again and again.
CASES = ("plain:7:2", "recovering:31:0", "curvature:5:1", "predictions:7:1", "files:23:0", "initialisation:9:1")


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that uses torch")
@pytest.mark.parametrize("cases", [CASES[:1], pytest.param(CASES[1:], marks=pytest.mark.slow)], ids=["plain", "others"])
def test_a_trial_killed_at_any_write_and_again_while_it_goes_on_ends_as_if_undisturbed(cases: tuple[str, ...]):
    program = Path(__file__).with_name("kill_every_write.py")
    # Some of the writes; `kill_every_write.py 0 plain:1:50` takes them all. One process imports torch once.
    done = subprocess.run(
        [sys.executable, str(program), "0", *cases],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    by_case = json.loads(done.stdout)
    assert list(by_case) == [case.partition(":")[0] for case in cases]
    for case, found in by_case.items():
        assert found["kills"] > (12 if case == "plain" else 5), case
        assert found["wrong"] == [], case
        assert "resume.pt" in found["files"], case
        assert len([name for name in found["files"] if name.startswith("step-")]) == 2, case
