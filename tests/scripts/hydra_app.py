"""A Hydra application, whose help and whose run folder this repeats: words change values, groups change defaults."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from tiny_training import Training, wait_at

OPTIMIZERS: dict[str, dict[str, Any]] = {"sgd": {"lr": 0.1, "momentum": 0.9}, "adam": {"lr": 0.001}}
REST: dict[str, Any] = {"seed": 0, "width": 64, "amp": False, "name": None, "layers": [64, 32]}
REST |= {"trainer": {"max_epochs": 3}, "resume": None, "output_dir": "${hydra:runtime.output_dir}"}
HELP = """\
hydra_app is powered by Hydra.

== Configuration groups ==
Compose your configuration from those groups (group=option)

optimizer: adam, sgd


== Config ==
Override anything in the config (foo.bar=value)

{config}

Powered by Hydra (https://hydra.cc)
Use --hydra-help to view Hydra specific help

"""
words = [word.partition("=") for word in sys.argv[1:] if word != "--help"]
chosen = next((value for name, _, value in words if name == "optimizer"), "sgd")
config: dict[str, Any] = {"optimizer": dict(OPTIMIZERS[chosen]), **REST, "trainer": dict(REST["trainer"])}
run_dir = Path("outputs") / time.strftime("%Y-%m-%d/%H-%M-%S")
for name, _, value in words:
    if name == "hydra.run.dir":
        run_dir = Path(value)
    elif name != "optimizer":
        place, (*parents, key) = config, name.lstrip("+").split(".")
        for parent in parents:
            place = place[parent]
        if key not in place and not name.startswith("+"):
            sys.exit(f"Could not override '{name}'.\nTo append to your config use +{name}={value}")
        place[key] = yaml.safe_load(value)
if "--help" in sys.argv:
    print(HELP.format(config=yaml.safe_dump(config, sort_keys=False)))
    sys.exit(0)
if str(config["output_dir"]).startswith("${"):
    config["output_dir"] = str(run_dir)
print("options", json.dumps(config))
if run_dir.parent.is_dir():  # a test that only asks for the options has no place for it
    run_dir.mkdir(exist_ok=True)
training, first = Training(config["seed"], config["optimizer"]["lr"], config["optimizer"].get("momentum", 0.0)), 0
if config["resume"]:
    first = training.load(config["resume"])["epoch"]
for epoch in range(first + 1, config["trainer"]["max_epochs"] + 1):
    training.epoch()
    stamp = time.strftime("[%Y-%m-%d %H:%M:%S,000]")
    print(f"{stamp}[__main__][INFO] - epoch {epoch}: loss {training.valid():.6f}", flush=True)
    if run_dir.is_dir():
        training.save(run_dir / f"epoch_{epoch:03d}.ckpt", epoch=epoch)
    wait_at(epoch)
if run_dir.is_dir():
    (run_dir / "model.txt").write_text(json.dumps({"first": first}))
