"""Options that a file sets, and `init`: a trial trains with what the line trains with by hand."""

from __future__ import annotations

import contextlib
import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunectl.spec.model import FixedValue, StudySpec
from tunectl.spec.placeholders import command_line, value_text
from tunectl.study.checking import check_study
from tunectl.study.init_study import BegunStudy, begin_from

PYTHON = sys.executable
SCRIPTS = Path(__file__).parents[1] / "scripts"
BIG = {"width": 512, "momentum": 0.5}
FILES = {
    "big.yaml": "width: 512\nmomentum: 0.5\n",
    "big.json": json.dumps(BIG),
    "big.toml": "width = 512\n[optim]\nmomentum = 0.5\n",
    "nested.yaml": "optim: {lr: 0.5, momentum: 0.5}\nwidth: 512\n",
    "other.yaml": "width: 32\nlr: 0.7\n",
    "long.yaml": "steps: 7\nseed: 3\nnesterov: true\nout_dir: results\n",
    "args.txt": "--width=512\n--momentum\n0.5\n--steps=4\n",
    "fit.yaml": "seed_everything: 7\ntrainer:\n  max_epochs: 4\n  logger:\n    class_path: loggers.Csv\n"
    "    init_args: {save_dir: logs}\nmodel: {width: 512, lr: 0.5}\n",
}
LINES = [
    "--config big.yaml --lr 0.01",
    "--config=big.yaml",
    "-c big.yaml --lr 0.01",
    "--lr 0.01 --config big.yaml",
    "--lr 0.01 -c big.json",
    "--config big.toml --lr 0.01",
    "--config nested.yaml --width 3",
    "--config big.yaml other.yaml --momentum 0.1",
    "--config big.yaml --config other.yaml --momentum 0.1",
    "big.yaml --lr 0.01",
    "--lr 0.01 -- big.yaml",
    "@args.txt --lr 0.01",
    "--lr 0.01 @args.txt --width 9",
    "--config long.yaml --lr 0.01",
    "--base long.yaml -c big.yaml --lr 0.01",
    "--config long.yaml --steps 5 --lr 0.01",
    "--lr 0.01 --width 7",
]
SHOWING = "SHOW_DEFAULTS=1"
CASES = [
    *(("", line) for line in LINES),
    *((SHOWING, line) for line in LINES[::4]),
    ("CONFIG=other.yaml", "--width 7"),
    ("CONFIG=other.yaml", "--config big.yaml --lr 0.01"),
    (f"CONFIG=other.yaml {SHOWING}", "--momentum 0.1"),
    (f"BASE=big.yaml {SHOWING}", "--lr 0.01"),
    ("BASE=big.yaml", "--lr 0.01"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for script in SCRIPTS.glob("*.py"):
        (tmp_path / script.name).write_text(script.read_text())
    (tmp_path / "sample.txt").write_text("step 1: loss 0.5 width 4\nstep 2: loss 0.25 width 4\n")
    return tmp_path


@pytest.fixture
def printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """What a script prints as its options when it is called with these words."""

    def call(words: list[str], environment: dict[str, str]) -> dict[str, Any]:
        with monkeypatch.context() as context:
            context.chdir(folder)
            context.setattr(sys, "argv", words[1:])
            for name, value in environment.items():
                context.setenv(name, value)
            capsys.readouterr()
            with contextlib.suppress(SystemExit):  # as click ends
                runpy.run_path(str(folder / words[1]), run_name="__main__")
        options = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("options "))
        content: dict[str, Any] = json.loads(options.removeprefix("options "))
        return content

    return call


def begun(folder: Path, line: str, **more: Any) -> BegunStudy:
    more = {"metric": "loss", "direction": "minimize", "sample": folder / "sample.txt"} | more
    return begin_from(line, folder / "study.yaml", folder, **more)


def called(spec: StudySpec) -> list[str]:
    """The words of trial 7, with seed 5."""
    assert spec.program is not None
    values = {item.name: item.domain.value for item in spec.hyperparameters if isinstance(item.domain, FixedValue)}
    own = {"trial.dir": "/runs/7", "trial.id": "7", "trial.seed": "5"}
    own["max_train_steps"] = str(spec.training.max_train_steps)
    return command_line(
        spec.program.arguments, {name: value_text(value) for name, value in values.items()} | own, values
    )


def ready(study: BegunStudy) -> Path:
    """The study's file; where the line gives no hyperparameter one is added that changes nothing."""
    if study.marked:
        assert [text.partition(":")[0] for _, text in study.marked] == ["hyperparameters"]
        text = re.sub(r"hyperparameters: .*", "hyperparameters: {nothing: a}", study.files[0].read_text())
        text = text.replace("  metrics:", '  environment: {NOTHING: "{nothing}"}\n  metrics:', 1)
        study.files[0].write_text(text)
    return study.files[0]


@pytest.mark.parametrize(("variables", "line"), CASES)
def test_a_trial_trains_with_the_options_of_the_line(
    folder: Path, printed: Callable[..., dict[str, Any]], line: str, variables: str
) -> None:
    environment = dict(word.split("=") for word in variables.split())
    command = f"{variables} {PYTHON} two_stage_config.py {line}"
    study = begun(folder, command)
    spec = check_study(ready(study), folder).spec
    assert spec.program is not None
    assert environment.items() <= spec.program.environment.items()
    by_hand = printed([PYTHON, "two_stage_config.py", *shlex.split(line)], environment)
    expected = by_hand | {"seed": 5, "out_dir": "/runs/7"}
    assert printed(called(spec), environment) == expected


OWN = {"seed": 5, "out_dir": "/runs/7", "output_dir": "/runs/7", "workdir": "/runs/7", "log_dir": "/runs/7"}
OWN |= {"save_dir": "/runs/7", "seed_everything": 5, "trainer.default_root_dir": "/runs/7"}
OWN |= {"trainer.logger.init_args.save_dir": "/runs/7"}
FRAMEWORKS = [
    "fire_cli.py d --lr=0.3",
    "fire_cli.py d --lr 0.3 --amp --layers=(3,4)",
    "fire_cli.py --data=d --lr=-0.5 --noamp --optimizer=adam",
    "fire_cli.py d --amp False --steps 4",
    "fire_cli.py d --amp=True --code='\"10\"'",
    "absl_flags.py --lr=0.3 --workdir=w",
    "absl_flags.py --lr 0.3 --noamp --workdir w --num_steps=4",
    "absl_flags.py --amp=false --optimizer adam --workdir w --layers=3,4",
    "absl_flags.py --amp=true --workdir w",
    "tyro_cli.py --data d --optim.lr 0.3",
    "tyro_cli.py --data d --amp --layers 3 4 --optim.betas 0.8 0.9 --optim.kind adam",
    "tyro_cli.py --data d --no-amp --max-steps 4",
    "hydra_app.py optimizer=adam optimizer.lr=0.3",
    "hydra_app.py width=5 amp=true trainer.max_epochs=4",
    "hydra_app.py +extra=1 hydra.run.dir=mine optimizer.momentum=0.5",
    "hydra_app.py",
    "lightning_cli.py fit --config fit.yaml --model.lr 0.01",
    "lightning_cli.py fit -c fit.yaml --trainer.max_epochs=3 --model.amp true",
    "lightning_cli.py fit --model.lr=0.01 --config fit.yaml",
    "lightning_cli.py fit --model.width 4 --trainer.max_epochs 2",
    "typer_cli.py d --lr 0.3 --amp",
    "typer_cli.py d --no-amp --steps 4",
    "click_cli.py train --lr 0.3 --opt adam --no-amp",
    "click_cli.py train --amp --epochs 4",
]


@pytest.mark.parametrize("line", FRAMEWORKS)
def test_a_script_of_any_framework_trains_as_by_hand(
    folder: Path, printed: Callable[..., dict[str, Any]], line: str
) -> None:
    study = begun(folder, f"{PYTHON} {line}")
    spec = check_study(ready(study), folder).spec
    by_hand = printed([PYTHON, *shlex.split(line)], {})
    # What is the trial's own, where the script has it; a folder that the line does not give may be none by itself.
    expected = by_hand | {name: value for name, value in OWN.items() if name in by_hand}
    assert printed(called(spec), {}) == expected


@pytest.mark.parametrize(
    "line", ["fire_cli.py d --lr=0.3", "absl_flags.py --lr=0.3 --workdir w", "hydra_app.py width=5"]
)
def test_what_init_offers_may_be_uncommented(folder: Path, printed: Callable[..., dict[str, Any]], line: str) -> None:
    """Every option that is offered, all at once: the script reads what it reads by itself."""
    study = begun(folder, f"{PYTHON} {line}")
    text = re.sub(r"^(\s+)# (- [\[{\"].*)$", r"\1\2", study.files[0].read_text(), flags=re.MULTILINE)
    above, below = text.split("  # Not in the line; to study one")
    study.files[0].write_text(above + "  #" + re.sub(r"^  # (\w+: )", r"  \1", below, flags=re.MULTILINE))
    spec = check_study(study.files[0], folder).spec
    assert len(spec.names) > 3
    by_hand = printed([PYTHON, *shlex.split(line)], {})
    assert printed(called(spec), {}) == by_hand | {key: value for key, value in OWN.items() if key in by_hand}
