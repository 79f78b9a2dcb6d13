"""A training script whose options are set by files first: YAML, JSON or TOML after --config, as a word, in CONFIG."""

import argparse
import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml


def values(name: str) -> dict[str, Any]:
    text = Path(name).read_text()
    loaders = {".json": json.loads, ".toml": tomllib.loads}
    content = loaders.get(Path(name).suffix, yaml.safe_load)(text)
    flat = content.pop("optim", {})
    return {**content, **flat}


shows = argparse.ArgumentDefaultsHelpFormatter if "SHOW_DEFAULTS" in os.environ else argparse.HelpFormatter
parser = argparse.ArgumentParser(fromfile_prefix_chars="@", formatter_class=shows)
parser.add_argument("configs", nargs="*", help="files of options")
parser.add_argument("-c", "--config", nargs="+", action="extend", default=[], help="files of options")
parser.add_argument("--base", dest="base_config", default=os.environ.get("BASE"), help="read before all others")
parser.add_argument("--width", type=int, default=64, help="of every layer")
parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
parser.add_argument("--momentum", type=float, default=0.9, help="of the updates")
parser.add_argument("--nesterov", action="store_true", help="look ahead")
parser.add_argument("--steps", type=int, default=3, help="how long")
parser.add_argument("--seed", type=int, default=0, help="of all randomness")
parser.add_argument("--out-dir", default="out", help="where to write")
first, _ = parser.parse_known_args([word for word in sys.argv[1:] if word not in ("-h", "--help")])
variable = [os.environ["CONFIG"]] if "CONFIG" in os.environ else []
for file in [*([first.base_config] if first.base_config else []), *variable, *first.config, *first.configs]:
    parser.set_defaults(**values(file))
args = parser.parse_args()
print("options", json.dumps(vars(args)))
for step in range(1, args.steps + 1):
    print(f"step {step}: loss {args.lr / step:.4f} width {args.width}", flush=True)
