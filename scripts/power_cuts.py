"""Power cuts on a real file system: a study whose folder lies on an ext4 in a file is run, the file system is shut down
under way (as by a power cut: nothing more reaches the disk, the journal is not flushed), everything is killed, the file
system is mounted again, and the same command continues. In the end every trial must have every evaluation.

The trials are a program that flushes its own checkpoints, a function that trains with torch, and a workload of ours.
Needs root, loop devices and ext4. `python scripts/power_cuts.py 10 1` makes ten cuts of each kind, with seed 1; further
words name some kinds.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN of linux/fs.h
NO_LOG_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH
STEPS, TRIALS = 40, 2

PROGRAM = f"""\
import os, sys, time
home, name, lr, *resume = sys.argv[1:]
first = int(open(resume[0]).read().split()[0]) if resume else 0
for step in range(first + 1, {STEPS} + 1):
    time.sleep(0.05)
    print(f"step {{step}} loss {{float(lr) / step}}", flush=True)
    path = f"{{home}}/" + name.replace("STEP", str(step))
    with open(path + ".new", "w") as file:
        file.write(f"{{step}} " + "x" * 100_000); file.flush(); os.fsync(file.fileno())
    os.replace(path + ".new", path)
    folder = os.open(home, os.O_RDONLY); os.fsync(folder); os.close(folder)
"""
FUNCTION = f"""\
import time
import torch
def train(trial, *, lr):
    model = torch.nn.Sequential(torch.nn.Linear(20, 200), torch.nn.Dropout(0.2), torch.nn.Linear(200, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr)
    first, saved = 1, trial.resume()
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])
        first = saved["step"] + 1
    for step in range(first, {STEPS} + 1):
        time.sleep(0.05)
        loss = (model(torch.randn(64, 20)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trial.record(step, {{"loss": loss}})
        state = {{"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}}
        trial.save(step, {{"step": step, **state}})
"""
COMMAND = """\
workload:
  command: [{python}, {program}, "{{trial.dir}}", {name}, "{{lr}}", ["{{trial.resume}}"]]
  metrics: [{{regex: 'step (?P<step>\\d+) loss (?P<loss>\\S+)'}}]
  checkpoints: "{{trial.dir}}/{pattern}"
"""
REST = f"""\
objective: {{{{metric: {{metric}}, direction: minimize}}}}
training: {{{{max_train_steps: {{steps}}{{more}}}}}}
hyperparameters: {{{{{{rate}}: {{{{role: nuisance, range: [0.01, 0.1], scale: log}}}}{{own}}}}}}
search: {{{{trials: {TRIALS}}}}}
resources: {{{{devices: cpu}}}}
"""


def studies(place: Path) -> dict[str, Path]:
    """A study file of each kind."""
    (place / "program.py").write_text(PROGRAM)
    (place / "mine.py").write_text(FUNCTION)
    own = REST.format(metric="loss", steps=STEPS, more="", rate="lr", own="")
    python = {"python": sys.executable, "program": place / "program.py"}
    texts = {
        "numbered": COMMAND.format(**python, name="model-STEP.pt", pattern="model-{step}.pt") + own,
        "one file": COMMAND.format(**python, name="model.pt", pattern="model.pt") + own,
        "function": f"workload: {{function: {place / 'mine.py'}:train}}\n" + own,
        "workload": "workload: tunectl.workloads.digits:mlp\n"
        + REST.format(
            metric="valid/loss", steps=4000, more=", eval_every: 100", rate="learning_rate", own=", optimizer: sgd"
        ),
    }
    for name, text in texts.items():
        (place / f"{name}.yaml").write_text(text)
    return {name: place / f"{name}.yaml" for name in texts}


class FileSystem:
    """An ext4 in a file."""

    def __init__(self, place: Path) -> None:
        self.image, self.mount = place / "image", place / "mount"
        self.mount.mkdir()
        self.image.write_bytes(b"")
        os.truncate(self.image, 256 * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        self.up()

    def up(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.image, self.mount], check=True)

    def down(self) -> None:
        subprocess.run(["umount", self.mount], check=True)

    def take_what_is_left(self) -> None:
        """Go on with a copy of the disk: another name space may still hold the file system that was shut down."""
        left = self.image.with_name("left")
        shutil.copyfile(self.image, left)
        self.image = left

    def cut(self) -> None:
        """Let nothing more reach the disk."""
        descriptor = os.open(self.mount, os.O_RDONLY)
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(descriptor)


def started(study: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tunectl", "run", str(study), "--dir", str(folder), "--slots", "2", "--quiet"]
    return subprocess.Popen(
        command, cwd=study.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def evaluations(folder: Path) -> dict[str, dict[int, object]]:
    """The metrics by step, of each trial; a later line of a step counts."""
    found: dict[str, dict[int, object]] = {}
    for trial in sorted((folder / "trials").iterdir()):
        lines = map(json.loads, (trial / "measurements.jsonl").read_text().splitlines())
        found[trial.name] = {line["step"]: line["metrics"] for line in lines}
    return found


def results(folder: Path) -> dict[str, object]:
    """State and last step of each trial."""
    files = sorted((folder / "trials").glob("*/result.json"))
    return {file.parent.name: [json.loads(file.read_text())[key] for key in ("state", "final_step")] for file in files}


def cut_and_gone_on(study: Path, system: FileSystem, seconds: float, plain: Path) -> str:
    """Cut one study after this time, and let it continue.

    Returns what differs in the end from the undisturbed study in the folder `plain`, "" if nothing does.
    """
    folder = system.mount / "study"
    runner = started(study, folder)
    time.sleep(seconds)
    system.cut()
    os.killpg(runner.pid, signal.SIGKILL)
    runner.communicate()
    time.sleep(0.5)  # what it started ends with it
    system.down()
    system.take_what_is_left()
    system.up()
    again = started(study, folder)
    _, said = again.communicate()
    if again.returncode:
        return f"exit code {again.returncode}: {said.decode()[-300:]}"
    found, expected = evaluations(folder), evaluations(plain)
    missing = sum(len(steps.keys() - found.get(trial, {}).keys()) for trial, steps in expected.items())
    other = sum(
        found[trial][step] != value
        for trial in found
        for step, value in expected[trial].items()
        if step in found[trial]
    )
    wrong = [trial for trial, result in results(folder).items() if result != results(plain)[trial]]
    is_right = not missing and not other and not wrong
    return "" if is_right else f"{missing} evaluations lost, {other} other values, other results of {wrong or 'none'}"


def main() -> None:
    """Make the cuts."""
    cuts, seed = int(sys.argv[1]), int(sys.argv[2])
    generator, bad = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as home:
        place = Path(home)
        for kind, study in studies(place).items():
            if sys.argv[3:] and kind not in sys.argv[3:]:
                continue
            plain = place / f"{kind} undisturbed"
            began = time.monotonic()
            started(study, plain).communicate()
            whole, expected = time.monotonic() - began, evaluations(plain)
            lost = []
            for number in range(cuts):
                own = place / f"{kind} {number}"
                own.mkdir()
                system = FileSystem(own)
                try:
                    lost.append(cut_and_gone_on(study, system, generator.uniform(0.3 * whole, whole), plain))
                finally:
                    system.down()
                    shutil.rmtree(own)
            wrong = [text for text in lost if text]
            bad += len(wrong)
            total = sum(map(len, expected.values()))
            print(
                f"{kind}: {cuts} cuts of {whole:.1f} s and {total} evaluations, {len(wrong)} wrong",
                *wrong,
                sep="\n  ",
                flush=True,
            )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
