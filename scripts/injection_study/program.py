"""A training program that takes no library: each step depends on the one before, and every one is saved."""

import argparse
import json
import os
import pathlib
import time

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--steps", type=int)
parser.add_argument("--seed", type=int)
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--resume", type=pathlib.Path)
parser.add_argument("--seconds-per-step", type=float, default=0.0)
options = parser.parse_args()

state = {"step": 0, "weight": 1.0 + options.seed % 1000 / 1000}
if options.resume is not None:
    state = json.loads(options.resume.read_text())
    print(f"goes on from step {state['step']}", flush=True)
for step in range(state["step"] + 1, options.steps + 1):
    time.sleep(options.seconds_per_step)
    state = {"step": step, "weight": state["weight"] * (1 - options.lr) + 0.01 * (step % 3)}
    print(json.dumps({"step": step, "valid/loss": abs(state["weight"])}), flush=True)
    saved = options.out / "saved"
    saved.mkdir(exist_ok=True)
    temporary = saved / ".model.tmp"
    with open(temporary, "w") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(saved / f"model-{step}.json")
