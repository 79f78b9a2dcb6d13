"""A whole campaign on the digits by commands alone, in less than ten minutes: `python scripts/campaign_on_digits.py`.

It explores from ranges that are too low, follows `tunectl next` twice, trains short trials and the best of them for
long (stages), proposes points by Bayesian optimisation, retrains and compares, launches what is better, and ends with
the last training and the history of the campaign. Each command is printed with its time and what it said. The study
files of the stages and of the Bayesian optimisation are written here, as a user would write them, from that of the
last round. `--dir` keeps the campaign's folder; by default it is removed. Exit code 1 where a command fails, or where
the campaign did not end with a launched configuration, a model and a history.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunectl.core.errors import EXIT_DONE, EXIT_SOME_FAILED
from tunectl.language.study_edit import with_value
from tunectl.language.study_reader import load_study

MOST_MINUTES = 10
RETRAINS = 5
CAMPAIGN = """\
goal: The lowest validation error of a small network on the digits
rounds: [digits.yaml]
"""
FIRST = """\
study: digits
goal: Which learning rate, momentum and weight decay suit a small network on the digits?
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 200, eval_every: 20, keep_checkpoints: 2}
hyperparameters:
  optimizer: nesterov
  learning_rate: {role: nuisance, range: [3e-5, 1e-3], scale: log}  # far too low on purpose
  momentum: {role: nuisance, range: [0.5, 0.95], scale: one_minus_log}
  weight_decay: {role: nuisance, range: [1e-6, 1e-2], scale: log}
  width: 64
search: {trials: 24}
"""


@dataclass
class Campaign:
    """The folder of the campaign, and the seconds that its commands took."""

    folder: Path
    began: float = field(default_factory=time.monotonic)

    def run(self, *words: str | Path, may: Sequence[int] = (EXIT_DONE,), lines: int = 12) -> str:
        """Run a command of tunectl in the folder, print what it said, and give it; raises SystemExit if it fails."""
        shown = " ".join(map(str, words))
        started = time.monotonic()
        command = [sys.executable, "-m", "tunectl", *map(str, words)]
        ended = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        print(f"\n$ tunectl {shown}   ({time.monotonic() - started:.1f} s)")
        said = [line for line in ended.stdout.splitlines() if line.strip()]
        print("\n".join(f"  {line}" for line in (said if len(said) <= lines else [*said[:lines], "..."])), flush=True)
        if ended.returncode not in may:
            raise SystemExit(f"tunectl {shown} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def asked(self, *words: str | Path, may: Sequence[int] = (EXIT_DONE,)) -> Any:
        """What a command says as JSON."""
        return json.loads(self.run(*words, "--json", may=may, lines=0))

    def write(self, name: str, text: str) -> str:
        """Write a study file of the campaign, and give its name."""
        (self.folder / name).write_text(text)
        return name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="an empty folder to keep the campaign in [a temporary one]")
    asked = parser.parse_args()
    if asked.dir is None:
        with tempfile.TemporaryDirectory() as folder:
            return campaign(Campaign(Path(folder)))
    asked.dir.mkdir(parents=True, exist_ok=True)
    if any(asked.dir.iterdir()):
        parser.error(f"{asked.dir} is not empty")
    return campaign(Campaign(asked.dir))


def campaign(own: Campaign) -> int:
    """The campaign from its first study to its history; the exit code."""
    own.write("campaign.yaml", CAMPAIGN)
    last = exploration(own)
    promoted = stages(own, last)
    place = optimised(own, promoted)
    verdict = launched(own, place)
    rounds(own)
    final = own.asked("train-final", place)
    again = own.run("train-final", place, may=(2, 3))
    print(f"  a second look at test is refused: {not again}")
    history = own.asked("history")
    minutes = (time.monotonic() - own.began) / 60
    print(f"\n{verdict}; {len(history['rounds'])} rounds; the model is in {final['folder']}")
    if len(history["rounds"]) != 5:
        raise SystemExit(f"expected five rounds in the history, got {len(history['rounds'])}")
    print(f"{minutes:.1f} minutes (aim: less than {MOST_MINUTES})")
    return int(minutes >= MOST_MINUTES)


def exploration(own: Campaign) -> str:
    """The first study and the two that `next` writes, the first one launched as it is; the name of the last file."""
    study = own.write("digits.yaml", FIRST)
    for number in range(3):
        own.run("run", study, "--quiet", lines=30)
        place = f"runs/{Path(study).stem}"
        own.run("retrain", place, "--repeats", str(RETRAINS), "--quiet")
        if number == 0:
            own.run("launch", place, "--because", "the first study, to compare with")
        if number < 2:
            said = own.asked("next", place)
            if said["file"] is None:
                raise SystemExit(f"expected tunectl next to propose a change after round {number + 1}")
            study = Path(said["file"]).name
    return study


def stages(own: Campaign, last: str) -> str:
    """Short trials in the space of the last round, and the best of them for four times as long; the study's name."""
    spec = load_study(own.folder / last)
    steps = spec.training.max_train_steps
    text = with_value((own.folder / last).read_text(), ("study",), "digits-stages")
    text = with_value(
        text, ("search",), {"trials": 24, "seed": 1, "promote": [{"keep": 3, "max_train_steps": 4 * steps}]}
    )
    own.run("run", own.write("digits-stages.yaml", text), "--quiet", may=(EXIT_DONE, EXIT_SOME_FAILED), lines=30)
    return "digits-stages"


def optimised(own: Campaign, study: str) -> str:
    """Points proposed from the short trials of the stages; the folder of the study."""
    text = (own.folder / f"{study}.yaml").read_text()
    text = with_value(text, ("study",), "digits-bayesian")
    text = with_value(text, ("search",), {"sampler": "bayesian", "after": f"runs/{study}", "trials": 8})
    own.run("run", own.write("digits-bayesian.yaml", text), "--quiet", lines=30)
    own.run("retrain", "runs/digits-bayesian", "--repeats", str(RETRAINS), "--quiet")
    return "runs/digits-bayesian"


def rounds(own: Campaign) -> None:
    """Name all studies in campaign.yaml, in their order."""
    path = own.folder / "campaign.yaml"
    names = ["digits", "digits-round2", "digits-round3", "digits-stages", "digits-bayesian"]
    path.write_text(with_value(path.read_text(), ("rounds",), [f"{name}.yaml" for name in names]))


def launched(own: Campaign, place: str) -> str:
    """The result is compared with what is launched, and launched; the verdict in words."""
    said = own.asked("compare", "runs/digits", place)
    may_not = () if said["verdict"] == "adopt" else ("--anyway",)
    own.run("launch", place, "--because", "fewer errors after three rounds", *may_not)
    entries = len(re.findall(r"because:", (own.folder / "campaign.yaml").read_text()))
    if entries != 2:
        raise SystemExit(f"expected two launched configurations in campaign.yaml, found {entries}")
    return f"the result of the campaign against the first study: {said['verdict']} ({said['reason']})"


if __name__ == "__main__":
    sys.exit(main())
