"""A script under absl's flags, whose two help texts this repeats; some flags are defined in another module."""

import json
import sys
from pathlib import Path

from tiny_training import Training, wait_at

OWN = """\

       USAGE: absl_flags.py [flags]
flags:

absl_flags.py:
  --[no]amp: Mixed precision.
    (default: 'false')
  --layers: Widths.
    (default: '64,32')
    (a comma separated list)
  --lr: Learning rate.
    (default: '0.1')
    (a number)
  --optimizer: <sgd|adam>: Which one.
    (default: 'sgd')
  --tag: Tags.;
    repeat this option to specify a list of values
    (default: '[]')
  --workdir: Where to write.
"""
ALL = """
absl.app:
  -?,--[no]help: show this help
    (default: 'false')
  --[no]helpfull: show full help
    (default: 'false')
  --[no]pdb: Alias for --pdb_post_mortem.
    (default: 'false')
  --profile_file: Dump profile information to a file (for python -m pstats). Implies --run_with_profiling.

absl.logging:
  --[no]alsologtostderr: also log to stderr?
    (default: 'false')
  --log_dir: directory to write logfiles into
    (default: '')
  -v,--verbosity: Logging verbosity level.
    (default: '-1')
    (an integer)

common.flags:
  --num_steps: How long.
    (default: '3')
    (a positive integer)
  --seed: Seed.
    (default: '0')
    (an integer)

absl.flags:
  --flagfile: Insert flag definitions from the given file into the command line.
    (default: '')
"""
flags: dict[str, object] = {"amp": False, "layers": "64,32", "lr": 0.1, "optimizer": "sgd", "num_steps": 3, "seed": 0}
flags |= {"workdir": None, "tag": []}
words = sys.argv[1:]
if "--help" in words or "--helpfull" in words:
    print(OWN + (ALL if "--helpfull" in words else "\nTry --helpfull to get a list of all flags."))
    sys.exit(1)
while words:
    name, equals, value = words.pop(0).removeprefix("--").partition("=")
    if name in ("amp", "noamp"):
        flags["amp"] = name == "amp" and value.lower() in ("", "true", "1")
    elif name not in flags:
        sys.exit(f"FATAL Flags parsing error: Unknown command line flag '{name}'")
    else:
        text = value if equals else words.pop(0)
        kind = type(flags[name])
        flags[name] = kind(text) if kind in (int, float) else text
if flags["workdir"] is None:
    sys.exit("FATAL Flags parsing error: flag --workdir=None: Flag --workdir must have a value other than None.")
print("options", json.dumps(flags))
training = Training(int(str(flags["seed"])), float(str(flags["lr"])), momentum=0.5 * (flags["optimizer"] == "adam"))
last, first = Path(str(flags["workdir"])) / "checkpoint", 0
if last.is_file():  # it goes on by itself, as flax's examples do
    first = training.load(last)["step"]
    print(f"Restored checkpoint {last} of step {first}", file=sys.stderr)
for step in range(first + 1, int(str(flags["num_steps"])) + 1):
    training.epoch()
    print(f"step {step}: loss {training.valid():.6f}", flush=True)
    if last.parent.is_dir():
        training.save(last, step=step)
    wait_at(step)
