"""A LightningCLI, that is jsonargparse, whose help this repeats: a file and words set values, the last one wins."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from tiny_training import Training, wait_at

TOP = """\
usage: lightning_cli.py [-c CONFIG] {fit,validate} ...

options:
  -h, --help            Show this help message and exit.
  -c CONFIG, --config CONFIG
                        Path to a configuration file in json or yaml format.
  --print_config [=flags]
                        Print the configuration after applying all other arguments and exit.

subcommands:
  For more details of each subcommand, add it as an argument followed by --help.

  Available subcommands:
                        (required)
    fit                 Runs the full optimization routine.
    validate            Perform one evaluation epoch.
"""
FIT = """\
usage: lightning_cli.py [options] fit [-c CONFIG] [--seed_everything SEED_EVERYTHING] [--trainer CONFIG] [--trainer.max_epochs MAX_EPOCHS] [--trainer.max_steps MAX_STEPS] [--trainer.default_root_dir DEFAULT_ROOT_DIR] [--trainer.logger LOGGER] [--trainer.accelerator ACCELERATOR] [--model CONFIG] --model.width WIDTH [--model.lr LR] [--model.momentum MOMENTUM] [--model.amp {true,false}] [--model.layers [ITEM,...]] [--ckpt_path CKPT_PATH]

options:
  -h, --help            Show this help message and exit.
  -c CONFIG, --config CONFIG
                        Path to a configuration file in json or yaml format.
  --print_config [=flags]
                        Print the configuration after applying all other arguments and exit.
  --seed_everything SEED_EVERYTHING
                        Set to an int to run with seed_everything with this value before classes instantiation.Set to True to use a random seed. (type: Union[bool, int], default: True)
  --ckpt_path CKPT_PATH
                        Path/URL of the checkpoint. (type: Optional[str], default: null)

Customize every aspect of training via flags:
  --trainer CONFIG      Path to a configuration file.
  --trainer.max_epochs MAX_EPOCHS
                        Stop training once this number of epochs is reached. (type: Optional[int], default: null)
  --trainer.max_steps MAX_STEPS
                        (type: int, default: -1)
  --trainer.default_root_dir DEFAULT_ROOT_DIR
                        (type: Optional[str], default: null)
  --trainer.logger.help [CLASS_PATH_OR_NAME]
                        Show the help for the given subclass of Logger and exit.
  --trainer.logger LOGGER
                        (type: Union[Logger, bool, null], default: null, known subclasses: loggers.Logger)
  --trainer.accelerator ACCELERATOR
                        (type: str, default: auto)

<class '__main__.Model'>:
  --model CONFIG        Path to a configuration file.
  --model.width WIDTH   (required, type: int)
  --model.lr LR         (type: float, default: 0.1)
  --model.momentum MOMENTUM
                        (type: float, default: 0.9)
  --model.amp {true,false}
                        (type: bool, default: False)
  --model.layers [ITEM,...], --model.layers+ [ITEM,...]
                        (type: list[int], default: [64, 32])
"""
options: dict[str, Any] = {
    "seed_everything": True, "ckpt_path": None, "trainer.max_epochs": None, "trainer.max_steps": -1,
    "trainer.default_root_dir": None, "trainer.logger": None, "trainer.accelerator": "auto", "model.width": None,
    "model.lr": 0.1, "model.momentum": 0.9, "model.amp": False, "model.layers": [64, 32],
}  # fmt: skip


def take(content: dict[str, Any], prefix: str = "") -> None:
    for name, value in content.items():
        if isinstance(value, dict):
            take(value, f"{prefix}{name}.")
        else:
            options[prefix + name] = value


words = sys.argv[1:]
if "--help" in words:
    print(FIT if "fit" in words else TOP)
    sys.exit(0)
words.remove("fit")
while words:
    option, equals, value = words.pop(0).partition("=")
    value = value if equals else words.pop(0)
    name = option.lstrip("-")
    if name in ("c", "config"):
        take(yaml.safe_load(Path(value).read_text()))
    elif name in options or name.startswith("trainer.logger."):
        options[name] = yaml.safe_load(value)
    else:
        sys.exit(f"error: Option '{name}' is not accepted")
if options["model.width"] is None:
    sys.exit('error: Key "model.width" is required')
print("options", json.dumps(options))
# Folders as of the CSV logger and of the checkpoint callback: a new version for each start, unless it is given.
seed = options["seed_everything"]
print(f"Seed set to {seed}", file=sys.stderr)
training = Training(int(seed), options["model.lr"], momentum=options["model.momentum"])
root = Path(options["trainer.default_root_dir"] or ".")
logs = root / "lightning_logs"
version = logs / f"version_{len(list(logs.glob('version_*')))}"
first = 0
if options["ckpt_path"]:
    first = training.load(options["ckpt_path"])["epoch"]
    print(f"Restored all states from the checkpoint at {options['ckpt_path']}", file=sys.stderr)
for epoch in range(first, options["trainer.max_epochs"] or 1000):
    training.epoch()
    print(f"epoch {epoch}: loss {training.valid():.6f} width {options['model.width']}", flush=True)
    if options["trainer.default_root_dir"] and root.is_dir():
        (version / "checkpoints").mkdir(parents=True, exist_ok=True)
        with open(version / "metrics.csv", "a") as file:
            if not file.tell():
                file.write("epoch,step,val_loss\n")
            file.write(f"{epoch},{10 * epoch + 9},{training.valid()}\n")
        kept = version / "checkpoints" / f"epoch={epoch}-step={10 * epoch + 10}.ckpt"
        training.save(kept, epoch=epoch + 1)
    wait_at(epoch + 1)
