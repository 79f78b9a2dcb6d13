"""A script under Python Fire, whose help and whose reading of flags this repeats: `--amp`, `--noamp`, `--lr=0.1`."""

import ast
import json
import sys
from pathlib import Path
from typing import Any

from tiny_training import Training, wait_at

HELP = """\
INFO: Showing help with the command 'fire_cli.py -- --help'.

NAME
    fire_cli.py - Train a model.

SYNOPSIS
    fire_cli.py DATA <flags>

DESCRIPTION
    Train a model.

POSITIONAL ARGUMENTS
    DATA
        where the data is

FLAGS
    --lr=LR
        Default: 0.1
        the learning rate
    -w, --wd=WD
        Default: 0.0001
    --optimizer=OPTIMIZER
        Default: 'sgd'
        which one
    -a, --amp=AMP
        Default: False
    --layers=LAYERS
        Default: (64, 32)
    -n, --name=NAME
        Type: Optional[]
        Default: None
    -c, --code=CODE
        Default: '10'
    --steps=STEPS
        Type: int
        Default: 3
    --seed=SEED
        Type: int
        Default: 0
    --out_dir=OUT_DIR
        Default: 'out'
    -r, --resume=RESUME
        Default: False

NOTES
    You can also use flags syntax for POSITIONAL ARGUMENTS
"""


def literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(
    data: str,
    lr: float = 0.1,
    wd: float = 1e-4,
    optimizer: str = "sgd",
    amp: bool = False,
    layers: tuple[int, ...] = (64, 32),
    name: str | None = None,
    code: str = "10",
    steps: int = 3,
    seed: int = 0,
    out_dir: str = "out",
    resume: bool = False,
) -> None:
    print("options", json.dumps(locals()))
    training, first, last = Training(seed, lr, momentum=0.5, weight_decay=wd), 0, Path(out_dir, "last.pt")
    if resume:
        first = training.load(last)["step"]
        print(f"going on after step {first}")
    for step in range(first + 1, steps + 1):
        training.epoch()
        print(f"step {step}: loss {training.valid():.6f}", flush=True)
        if last.parent.is_dir():
            training.save(last, step=step)
        wait_at(step)


if sys.argv[1:] == ["--help"]:
    sys.exit(sys.stderr.write(HELP) and None)
words, values, flags = [word for word in sys.argv[1:] if word != "--help"], [], {}
while words:
    word = words.pop(0)
    if not word.startswith("--"):
        values.append(literal(word))
        continue
    name, equals, value = word[2:].replace("-", "_").partition("=") if "=" not in word else word[2:].partition("=")
    if equals:
        flags[name] = literal(value)
    elif words and not words[0].startswith("--"):
        flags[name] = literal(words.pop(0))
    else:
        flags[name.removeprefix("no") if name.startswith("no") else name] = not name.startswith("no")
main(*values, **flags)  # behind other words --help is for what the function returns: it trains first
