"""What a trial that is a program costs beyond the program itself, and what reading its output takes.

`trials`: a study of many trials of a program that prints one line, one at a time, against the same programs started one
after the other by this script; the difference for each trial, start-up of the study aside (a study of few trials is
taken off). `reading`: the CPU time of the process that reads a program of 1,000 lines a second, of which every tenth
has metrics, as a share of the time that the program runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import CommandRequest, MetricSource, Program
from tunectl.programs.command_trial import run_command

FEW, MANY = 5, 105
LINES, LINES_A_SECOND = 10_000, 1_000
GOAL_MILLISECONDS, GOAL_SHARE = 20, 0.02
STUDY = """\
study: commands
workload:
  command: [/bin/sh, -c, "echo step 1 loss $0", "{{learning_rate}}"]
  metrics: [{{regex: 'step (?P<step>\\d+) loss (?P<loss>\\S+)'}}]
objective: {{metric: loss, direction: minimize}}
training: {{max_train_steps: 1}}
hyperparameters:
  learning_rate: {{role: nuisance, range: [1e-3, 1], scale: log}}
search: {{trials: {trials}}}
resources: {{devices: cpu}}
"""
PRINTER = f"""\
import time
begun = time.monotonic()
for line in range({LINES}):
    ahead = begun + line / {LINES_A_SECOND} - time.monotonic()
    if ahead > 0: time.sleep(ahead)
    print(f"step {{line}} loss {{1 / (line + 1):.4f}}" if line % 10 == 0 else f"[{{line}}] a batch of data is loaded")
"""


def study_seconds(place: Path, trials: int) -> float:
    study = place / f"{trials}.yaml"
    study.write_text(STUDY.format(trials=trials))
    command = [sys.executable, "-m", "tunectl", "run", str(study), "--dir", str(place / str(trials)), "--slots", "1"]
    began = time.monotonic()
    subprocess.run([*command, "--quiet"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def plain_seconds(trials: int) -> float:
    began = time.monotonic()
    for number in range(trials):
        command = ["/bin/sh", "-c", "echo step 1 loss $0", str(number)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def trials() -> None:
    with tempfile.TemporaryDirectory() as place:
        whole = study_seconds(Path(place), MANY) - study_seconds(Path(place), FEW)
    plain = plain_seconds(MANY - FEW)
    count = MANY - FEW
    cost = (whole - plain) / count * 1e3
    print(f"a trial of a command: {whole / count * 1e3:.1f} ms, the program alone {plain / count * 1e3:.1f} ms")
    print(f"the runner's own cost: {cost:.1f} ms a trial (goal: under {GOAL_MILLISECONDS})")


def reading() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = TrialFolder(Path(place) / "00000")
        folder.path.mkdir()
        source = MetricSource("regex", r"step (?P<step>\d+) loss (?P<loss>\S+)")
        program = Program((sys.executable, "-c", PRINTER.replace("{", "{{").replace("}", "}}")), place, (source,))
        request = CommandRequest("bench", 0, 0, program, {}, Objective("loss", "minimize"), LINES, 3)
        log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        began, cpu = time.monotonic(), time.process_time()
        result = run_command(request, folder, stop=lambda: False, seconds=TrialSeconds(), log=log)
        cpu, wall = time.process_time() - cpu, time.monotonic() - began
        os.close(log)
        assert result is not None
        assert result.state == "completed", result.message
        written = len(folder.measurements.read_text().splitlines())
    print(
        f"reading {LINES / wall:,.0f} lines a second: {cpu / wall:.2%} of a core (goal: under {GOAL_SHARE:.0%}); ",
        end="",
    )
    print(f"{written:,} measurements written")


if __name__ == "__main__":
    trials()
    reading()
