"""The training scripts that people have, from `init` to `compare`: each kind as a small substitute that trains something tiny."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from study_calls import Called

SCRIPTS = Path(__file__).parents[1] / "scripts"
PATIENCE_SECONDS = 90.0
OFTEN = ("nanogpt", "trainer", "hydra")  # the others are run by `make check-all`
TINY = "eval_interval = 10\nlearning_rate = 0.01\nbeta1 = 0.5\n"  # nanoGPT's config/train_tiny.py
MODEL = "seed_everything: 7\ntrainer: {max_epochs: 3}\nmodel: {width: 512, lr: 0.5}\n"


@dataclass(frozen=True)
class Kind:
    """A kind of script.

    `line` is how it is called, with places for the rate, the seed, the folder and the value of `asked`, the
    scientific hyperparameter; `value` finds the objective in what it prints; `edits` are those of its user in the
    study that `init` writes; `went_on` is what it prints where it goes on, None where it cannot.
    """

    line: str
    metric: str
    asked: str
    values: tuple[str, str]
    value: str
    direction: str = "minimize"
    edits: tuple[tuple[str, str], ...] = ()
    went_on: str | None = None
    waits_at: int = 2
    seeded: bool = True


def checkpoints(path: str) -> tuple[str, str]:
    return (r'# checkpoints: "[^"]*"', f'checkpoints: "{{trial.dir}}/{path}"')


def resume(*lines: str) -> tuple[str, str]:
    """Add arguments behind the last one of the command, before what init only offers."""
    return (r"((?:    - [^\n]*\n)+)", r"\1" + "".join(f"    - {line}\n" for line in lines))


KINDS = {
    "nanogpt": Kind(
        "python nanogpt_train.py config/train_tiny.py --max_iters=40 --learning_rate={rate} --weight_decay={asked} --out_dir={out}",
        "val_loss", "weight_decay", ("0.0", "0.5"), r"val loss (\S+)",
        edits=(checkpoints("ckpt.pt"), resume("{when: {trial.resume: true}, arguments: [--init_from=resume]}")),
        went_on="Resuming training from", waits_at=20, seeded=False,
    ),
    "mnist": Kind(
        "python mnist_main.py --epochs 3 --lr {rate} --gamma {asked} --seed {seed} --save-model",
        "test_loss", "gamma", ("0.7", "0.9"), r"Average loss: ([\d.]+)",
    ),
    "imagenet": Kind(
        "python imagenet_main.py data --epochs 3 --lr {rate} --momentum {asked} --seed {seed}",
        "summary_Acc_1", "momentum", ("0.0", "0.5"), r"\*   Acc@1 (\S+)", "maximize",
        edits=((r"  metrics:\n", '  folder: "{trial.dir}"\n  metrics:\n'), checkpoints("checkpoint.pth.tar"),
               resume('[--resume, "{trial.resume}"]')),
        went_on=r"=> loaded checkpoint '.*' \(epoch 2\)", waits_at=1,
    ),
    "trainer": Kind(
        "python hf_trainer.py --output_dir {out} --learning_rate {rate} --weight_decay {asked} --seed {seed}",
        "eval_loss", "weight_decay", ("0.0", "0.1"), r"'eval_loss': ([\d.e-]+)",
        edits=(checkpoints("checkpoint-{step}"), resume('[--resume_from_checkpoint, "{trial.resume}"]')),
        went_on="Continuing training from global step 20",
    ),
    "no_trainer": Kind(
        "python no_trainer.py --model_name_or_path bert --learning_rate {rate} --weight_decay {asked} --output_dir {out} --checkpointing_steps epoch --seed {seed}",
        "mse", "weight_decay", ("0.0", "0.1"), r"'mse': ([\d.e-]+)",
        edits=((r"# checkpoints: .*", 'checkpoints: {path: "{trial.dir}/epoch_{step}", offset: 1}'), resume('[--resume_from_checkpoint, "{trial.resume}"]')),
        went_on="Resumed from checkpoint: .*epoch_1", waits_at=1,
    ),
    "lightning": Kind(
        "python lightning_cli.py fit --config fit.yaml --model.lr {rate} --model.momentum {asked} --seed_everything {seed} --trainer.default_root_dir {out}",
        "loss", "momentum", ("0.0", "0.5"), r"loss (\S+)",
        edits=((r"# checkpoints: .*", 'checkpoints: "{trial.dir}/lightning_logs/version_*/checkpoints/epoch=*-step={step}.ckpt"'), resume('["--ckpt_path={trial.resume}"]')),
        went_on="Restored all states from the checkpoint at .*epoch=1-step=20",
    ),
    "hydra": Kind(
        "python hydra_app.py optimizer.lr={rate} optimizer.momentum={asked} seed={seed} hydra.run.dir={out}",
        "loss", "momentum", ("0.0", "0.5"), r"loss (\S+)",
        edits=(checkpoints("epoch_{step}.ckpt"), resume('["resume={trial.resume}"]')),
        went_on=r'"resume": "[^"]*epoch_002\.ckpt"',
    ),
    "click": Kind(
        "python click_cli.py train --lr {rate} --opt {asked} --seed {seed} --log-dir {out}",
        "loss", "opt", ("sgd", "adam"), r"loss (\S+)",
        edits=(checkpoints("epoch{step}.pt"), resume('[--resume, "{trial.resume}"]')),
        went_on="resumed after epoch 2",
    ),
    "typer": Kind(
        "python typer_cli.py d --lr {rate} --layers {asked} --seed {seed} --save-dir {out}",
        "loss", "layers", ("1", "4"), r"loss (\S+)",
    ),
    "fire": Kind(
        "python fire_cli.py d --lr={rate} --wd={asked} --seed={seed} --out_dir={out}",
        "loss", "weight_decay", ("0.0", "0.1"), r"loss (\S+)",
        edits=(checkpoints("last.pt"), resume("{when: {trial.resume: true}, arguments: [--resume]}")),
        went_on="going on after step 2",
    ),
    "absl": Kind(
        "python absl_flags.py --lr={rate} --optimizer={asked} --seed={seed} --workdir={out}",
        "loss", "optimizer", ("sgd", "adam"), r"loss (\S+)",
        edits=(checkpoints("checkpoint"), (r"# environment: (.GOES_ON_FROM.*)", r"environment: \1")),
        went_on="Restored checkpoint .*checkpoint of step 2",
    ),
    "tyro": Kind(
        "python tyro_cli.py --data d --optim.lr {rate} --optim.kind {asked} --seed {seed} --output-dir {out}",
        "loss", "optim_kind", ("sgd", "adam"), r"loss (\S+)",
        edits=(checkpoints("step_{step}.json"), (r"    #   --checkpoint [^\n]*: (\[.*?\]), if[^\n]*", r"    - \1")),
        went_on="loaded .*: step 2",
    ),
}  # fmt: skip


def fill(folder: Path) -> Path:
    """Copy the scripts and their files of options to a folder."""
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / "config" / "train_tiny.py").write_text(TINY)
    (folder / "fit.yaml").write_text(MODEL)
    for script in SCRIPTS.glob("*.py"):
        shutil.copy(script, folder)
    return folder


def by_hand(kind: Kind, folder: Path, **values: object) -> str:
    """What the script prints, called by hand in a folder of its own."""
    fill(folder)
    (folder / "out").mkdir()
    words = shlex.split(kind.line.format(**{"out": "out", **values}))
    ended = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return ended.stdout


def edited(kind: Kind, text: str) -> str:
    """The study as its user completes it: what is asked about, what is searched, how the script goes on."""
    marks = (
        (r"learning_rate: .*", "{name}: {{role: nuisance, range: [0.01, 0.03], scale: log}}"),
        (kind.asked + r": [^{\n].*", "{name}: {{role: scientific, values: [" + ", ".join(kind.values) + "]}}"),
    )
    head, mark, tail = text.partition("\nhyperparameters:")
    for pattern, line in marks:
        found = re.search(rf"^  (?P<line>{pattern})$", tail, flags=re.MULTILINE)
        assert found, (pattern, tail)
        name = found["line"].partition(":")[0]
        tail = tail.replace(found["line"], line.format(name=name), 1)
    for pattern, replacement in kind.edits:
        head, count = re.subn(pattern, replacement, head, count=1)
        assert count == 1, pattern
    return head.replace("goal: ", "goal: which value is better?") + mark + tail


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "tables" / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def interrupt(command: list[str], folder: Path, kind: Kind, environment: dict[str, str]) -> tuple[int, str]:
    """Run until both trials wait at their step, press Ctrl-C; the exit code and what was said."""
    waiting = {**environment, "WAIT_AT": f"{kind.waits_at}:{folder}"}
    with subprocess.Popen(
        command, cwd=folder, env=waiting, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(list(folder.glob("reached-*"))) < 2:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, "waited in vain"
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        finally:
            process.kill()
    return process.returncode, out + err


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.standins) for name in KINDS]
)
def test_a_script_is_studied_interrupted_retrained_and_compared(
    tmp_path: Path, environment: dict[str, str], tunectl: Callable[..., Called], name: str
) -> None:
    kind = KINDS[name]
    fill(tmp_path)
    first = {"rate": "0.02", "seed": "1", "asked": kind.values[0]}
    (tmp_path / "sample.txt").write_text(by_hand(kind, tmp_path / "sampled", **first))
    line = kind.line.format(**first, out="out").replace("python", sys.executable, 1)
    asked = ("--sample", "sample.txt", "--metric", kind.metric, "--direction", kind.direction)
    begun = tunectl("init", "--from", line, *asked)
    assert begun.code == 0, begun.err
    assert "FILL IN" not in (begun.out + begun.err)
    study = tmp_path / "study.yaml"
    study.write_text(edited(kind, study.read_text()))
    checked = tunectl("check", "study.yaml")
    assert checked.code == 0, checked.err
    assert ("names the trial's seed" not in checked.err) == kind.seeded

    folder = tmp_path / "runs" / "study"
    command = ["run", "study.yaml", "--slots", "2", "--dir", str(folder)]
    code, said = interrupt([sys.executable, "-m", "tunectl", *command], tmp_path, kind, environment)
    assert code == 130, said
    assert "run the same command to resume" in said
    assert ("starts them again from step 0" in said) == (kind.went_on is None)
    ended = tunectl(*command)
    assert ended.code == 0, ended.err
    # Its two trials go on, or begin again, at once, and write it at their end.
    overwritten = re.findall(r"overwr\w+ each other's files: (\S+?)[. ,]", ended.err)
    assert overwritten == (["mnist_cnn"] if name == "mnist" else [])
    for index, row in enumerate(rows(folder)):
        said_by_hand = by_hand(kind, tmp_path / f"hand{index}", **asked_of(kind, folder, index))
        reached = [float(value) for value in re.findall(kind.value, said_by_hand)]
        best = min(reached) if kind.direction == "minimize" else max(reached)
        assert row["state"] == "completed"
        assert float(row["best_value"]) == pytest.approx(best, rel=1e-9)
        log = (folder / "trials" / f"{index:05d}" / "log.txt").read_text()
        assert kind.went_on is None or re.search(kind.went_on, log), log

    retrained = tunectl("retrain", folder, "--each-setting", "--repeats", "2", "--slots", "2")
    assert retrained.code == 0, retrained.err
    again = [row["best_value"] for row in rows(folder)][2:]
    assert len(again) == 4
    assert (len(set(again)) == 4) == kind.seeded
    compared = tunectl("compare", f"{folder}:0", f"{folder}:1")
    assert compared.code == 0, compared.out + compared.err
    assert ("no variation between seeds" in compared.out) == (not kind.seeded)
    assert "not enough evidence" in compared.out  # two repeats can show nothing


def asked_of(kind: Kind, folder: Path, index: int) -> dict[str, str]:
    """The values that trial `index` was asked for, as its row in the plan says."""
    request = json.loads((folder / "trials" / f"{index:05d}" / "request.json").read_text())
    values = request["hyperparameters"]
    return {"rate": repr(values["learning_rate"]), "asked": str(values[kind.asked]), "seed": str(request["seed"])}
