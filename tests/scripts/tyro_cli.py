"""A script under tyro, whose help this repeats; argparse reads its words, as tyro lets it."""

import argparse
import json
import sys
from pathlib import Path

from tiny_training import Training, wait_at

HELP = """\
usage: tyro_cli.py [-h] [OPTIONS]

╭─ options ─────────────────────────────────────────────────────────────────────╮
│ -h, --help        show this help message and exit                             │
│ --data STR        Where the data is. (required)                               │
│ --layers [INT [INT ...]]                                                      │
│                   (default: 64 32)                                            │
│ --amp, --no-amp   (default: False)                                            │
│ --name {None}|STR                                                             │
│                   A name that has a long explanation, so long that it goes on │
│                   in the next line. (default: None)                           │
│ --max-steps INT   (default: 3)                                                │
│ --seed INT        (default: 0)                                                │
│ --output-dir STR  (default: out)                                              │
│ --checkpoint {None}|PATH                                                      │
│                   Where to go on from. (default: None)                        │
╰───────────────────────────────────────────────────────────────────────────────╯
╭─ optim options ───────────────────────────────────────────────────────────────╮
│ --optim.lr FLOAT  The learning rate. (default: 0.1)                           │
│ --optim.betas FLOAT FLOAT                                                     │
│                   (default: 0.9 0.999)                                        │
│ --optim.kind {sgd,adam}                                                       │
│                   (default: sgd)                                              │
╰───────────────────────────────────────────────────────────────────────────────╯
"""
if "--help" in sys.argv:
    print(HELP)
    sys.exit(0)
parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--data", required=True)
parser.add_argument("--layers", type=int, nargs="*", default=[64, 32])
parser.add_argument("--amp", action=argparse.BooleanOptionalAction, default=False)
parser.add_argument("--name", default=None)
parser.add_argument("--max-steps", type=int, default=3)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output-dir", default="out")
parser.add_argument("--checkpoint", default=None)
parser.add_argument("--optim.lr", type=float, default=0.1)
parser.add_argument("--optim.betas", type=float, nargs=2, default=[0.9, 0.999])
parser.add_argument("--optim.kind", choices=["sgd", "adam"], default="sgd")
options = vars(parser.parse_args())
print("options", json.dumps(options))
momentum = options["optim.betas"][0] if options["optim.kind"] == "adam" else 0.0
training, first = Training(options["seed"], options["optim.lr"], momentum=momentum), 0
if options["checkpoint"]:
    first = training.load(options["checkpoint"])["step"]
    print(f"loaded {options['checkpoint']}: step {first}")
for step in range(first + 1, options["max_steps"] + 1):
    training.epoch()
    print(f"step {step}: loss {training.valid():.6f}", flush=True)
    if Path(options["output_dir"]).is_dir():
        training.save(Path(options["output_dir"], f"step_{step:06d}.json"), step=step)
    wait_at(step)
