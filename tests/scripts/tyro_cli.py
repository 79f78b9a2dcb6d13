"""A script under tyro, whose help this repeats; argparse reads its words, as tyro lets it."""

import argparse
import json
import sys

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
parser.add_argument("--optim.lr", type=float, default=0.1)
parser.add_argument("--optim.betas", type=float, nargs=2, default=[0.9, 0.999])
parser.add_argument("--optim.kind", choices=["sgd", "adam"], default="sgd")
options = vars(parser.parse_args())
print("options", json.dumps(options))
for step in range(1, options["max_steps"] + 1):
    print(f"step {step}: loss {options['optim.lr'] / step:.4f}", flush=True)
