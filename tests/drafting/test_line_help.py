"""Tests drafting/line_help.py: with a configuration file, too, a trial has the values that the line has in a shell."""

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
from study_calls import Called

from tunectl.core.wording import as_text
from tunectl.drafting.study_draft import DraftedStudy, StudiedCommand, draft_study
from tunectl.language.placeholders import command_line
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_study import check_study
from tunectl.space.domains import FixedValue

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
            context.syspath_prepend(str(folder))
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


def drafted(folder: Path, line: str, message: Callable[[str], None] = lambda _text: None, **more: Any) -> DraftedStudy:
    content: dict[str, Any] = {"metric": "loss", "direction": "minimize", "sample": folder / "sample.txt"} | more
    return draft_study(folder / "study.yaml", StudiedCommand(line, folder, **content), message)


def parser(*lines: str) -> str:
    """A script with these options, each with its default, and other lines of its own."""
    own = [
        "p.add_argument('{}', default={})".format(*line.split(" ", 1)) if line.startswith("--") else line
        for line in lines
    ]
    return "\n".join(["import argparse, json", "p = argparse.ArgumentParser()", *own, "p.parse_args()\n"])


def called(spec: StudySpec) -> list[str]:
    """The words of trial 7, with seed 5."""
    assert spec.program is not None
    values = {item.name: item.domain.value for item in spec.hyperparameters if isinstance(item.domain, FixedValue)}
    own = {"trial.dir": "/runs/7", "trial.id": "7", "trial.seed": "5"}
    own["max_train_steps"] = str(spec.training.max_train_steps)
    return command_line(spec.program.arguments, {name: as_text(value) for name, value in values.items()} | own, values)


def ready(study: DraftedStudy) -> Path:
    """The study's file; where the line gives no hyperparameter one is added that changes nothing."""
    if study.to_fill_in:
        assert [text.partition(":")[0] for _, text in study.to_fill_in] == ["hyperparameters"]
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
    study = drafted(folder, command)
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
    study = drafted(folder, f"{PYTHON} {line}")
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
    study = drafted(folder, f"{PYTHON} {line}")
    text = re.sub(r"^(\s+)# (- [\[{\"].*)$", r"\1\2", study.files[0].read_text(), flags=re.MULTILINE)
    above, below = text.split("  # Not in the line; to study one")
    study.files[0].write_text(above + "  #" + re.sub(r"^  # (\w+: )", r"  \1", below, flags=re.MULTILINE))
    spec = check_study(study.files[0], folder).spec
    assert len(spec.names) > 3
    by_hand = printed([PYTHON, *shlex.split(line)], {})
    assert printed(called(spec), {}) == by_hand | {key: value for key, value in OWN.items() if key in by_hand}


def test_the_head_says_what_comes_from_the_files(folder: Path) -> None:
    study = drafted(folder, f"{PYTHON} two_stage_config.py -c big.yaml other.yaml --lr 0.01")
    head = study.files[0].read_text().partition("study:")[0]
    assert "# From big.yaml: width: 512, momentum: 0.5.\n" in head
    assert "# From other.yaml: width: 32, lr: 0.7.\n" in head
    below = study.files[0].read_text().partition("hyperparameters:")[2]
    assert re.search(r"# width: 32 +# from other.yaml", below)
    assert re.search(r"# momentum: 0.5 +# from big.yaml; or \{role: nuisance", below)


def test_a_file_that_cannot_be_read_leaves_the_length_to_be_filled_in(folder: Path) -> None:
    (folder / "more.yaml").write_text("_base_: big.yaml\n")
    study = drafted(folder, f"{PYTHON} two_stage_config.py --config more.yaml --lr 0.01")
    assert [text for _, text in study.to_fill_in] == [
        "max_train_steps: passed to --steps; the last step that the command prints, a whole number"
    ]
    assert "# From more.yaml: _base_: big.yaml; it may set more that init cannot read.\n" in study.files[0].read_text()
    (folder / "torn.yaml").write_text("width: [512\n")
    (folder / "study.yaml").unlink()
    study = drafted(folder, f"{PYTHON} two_stage_config.py --config torn.yaml --lr 0.01")
    assert study.notes[0].startswith("the whole line with --help shows no options (it ended with exit code 1: ")
    assert study.notes[0].endswith("does it run in a shell?")


def test_a_file_that_the_script_reads_by_itself_is_not_overridden_by_a_declared_default(folder: Path) -> None:
    (folder / "hidden.json").write_text(json.dumps({"steps": 7}))
    (folder / "train.py").write_text(
        parser("--lr 0.1", "--steps 3", "p.set_defaults(**json.load(open('hidden.json')))")
    )
    study = drafted(folder, f"{PYTHON} train.py --lr 0.01")
    assert [text.partition(":")[0] for _, text in study.to_fill_in] == ["max_train_steps"]


def test_data_is_no_file_of_options(folder: Path) -> None:
    (folder / "train.json").write_text(json.dumps({"labels": [1, 2], "rows": 3}))
    (folder / "train.py").write_text(parser("--data None", "--steps 3"))
    study = drafted(folder, f"{PYTHON} train.py --data train.json")
    assert study.to_fill_in == ()
    assert "From train.json" not in study.files[0].read_text()
    assert "max_train_steps: 3" in study.files[0].read_text()


def test_places_that_all_trials_would_share_are_named(folder: Path) -> None:
    (folder / "shared.yaml").write_text("width: 3\ncsv: {save_dir: logs}\nrandom_seed: 4\n")
    study = drafted(folder, f"{PYTHON} two_stage_config.py --config shared.yaml --lr 0.01")
    assert [note.partition(", and the help")[0] for note in study.notes[:-1]] == [
        "shared.yaml sets csv.save_dir: logs",
        "shared.yaml sets random_seed: 4",
    ]
    (folder / "study.yaml").unlink()
    callbacks = (
        "trainer:\n  callbacks:\n    - {class_path: x.Checkpoint, init_args: {dirpath: kept}}\nmodel: {width: 1}\n"
    )
    (folder / "list.yaml").write_text(callbacks)
    study = drafted(folder, f"{PYTHON} lightning_cli.py fit --config list.yaml --trainer.max_epochs 2")
    assert study.notes[0].startswith("list.yaml sets trainer.callbacks[0].init_args.dirpath: kept, and the help")


def test_an_option_is_placed_by_name(
    folder: Path,
    printed: Callable[..., dict[str, Any]],
    tunectl: Callable[..., Called],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    line = f"{PYTHON} two_stage_config.py --config big.yaml --lr 0.01"
    more = ["--metric", "loss", "--direction", "minimize", "--sample", "sample.txt"]
    ended = tunectl("init", "--from", line, "--place", "widht", *more)
    assert (ended.code, (folder / "study.yaml").exists()) == (2, False)
    assert "--place widht: no such option in the command's help; did you mean width?" in ended.err
    ended = tunectl("init", "--from", line, "--place", "width", "--place", "--nesterov", *more)
    assert ended.code == 0, ended.err
    spec = check_study(folder / "study.yaml", folder).spec
    assert spec.names == ("config", "learning_rate", "width", "nesterov")
    assert printed(called(spec), {})["width"] == 512
    (folder / "study.yaml").unlink()
    ended = tunectl("init", "--from", line.replace("two_stage_config", "hydra_app") + " -m width=4,5", *more)
    assert ended.code == 2
    assert "with --multirun the command trains several times" in ended.err


def test_a_module_is_called_and_read_like_a_script(folder: Path) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "train.py").write_text(parser("--lr 0.1", "--wd 1e-4", "--epochs 3"))
    study = drafted(folder, f"{PYTHON} -m package.train --lr 0.3", place=["wd"])
    spec = check_study(study.files[0], folder).spec
    assert (spec.name, spec.training.max_train_steps) == ("train", 3)
    assert spec.names == ("learning_rate", "weight_decay")
    assert called(spec)[:3] == [PYTHON, "-m", "package.train"]


def test_help_comes_before_the_words_that_are_not_options(folder: Path) -> None:
    """Behind `--` it would be one of them, and the script would train."""
    messages: list[str] = []
    drafted(folder, f"{PYTHON} two_stage_config.py --lr 0.1 -- big.yaml", message=messages.append)
    assert messages[1].startswith(f"calling {PYTHON} two_stage_config.py --lr 0.1 --help -- big.yaml (at")


def test_a_file_for_a_part_of_the_options(folder: Path) -> None:
    (folder / "model.yaml").write_text("width: 512\nmomentum: 0.5\n")
    study = drafted(folder, f"{PYTHON} lightning_cli.py fit --model model.yaml --model.lr 0.01 --trainer.max_epochs 2")
    assert study.to_fill_in == ()
    assert "# From model.yaml: model.width: 512, model.momentum: 0.5.\n" in study.files[0].read_text()


@pytest.mark.parametrize(("value", "known"), [("3", True), ("fast", False)])
def test_an_option_named_like_a_file_of_options_may_hold_a_number(folder: Path, value: str, known: bool) -> None:
    (folder / "train.py").write_text(parser("--num-params None", "--steps 3"))
    study = drafted(folder, f"{PYTHON} train.py --num-params {value}")
    assert (study.to_fill_in == ()) is known


def test_fire_is_not_called_with_the_words_of_the_line(folder: Path) -> None:
    """It would train: behind other words its --help is that of what the function returns."""
    messages: list[str] = []
    drafted(folder, f"{PYTHON} fire_cli.py big.yaml --lr=0.3", message=messages.append)
    assert [text.partition(" (at")[0] for text in messages] == [f"calling {PYTHON} fire_cli.py --help"]


def test_trials_of_hydra_write_to_folders_of_their_own(folder: Path, tunectl: Callable[..., Called]) -> None:
    drafted(folder, f"{PYTHON} hydra_app.py optimizer.lr=0.3", sample=None)
    text = (folder / "study.yaml").read_text()
    text = re.sub(r"- regex:.*", r"- regex: 'epoch (?P<step>\\d+): loss (?P<loss>\\S+)'", text)
    text = re.sub(
        r"optimizer_lr: .*|learning_rate: .*", "learning_rate: {role: nuisance, range: [0.1, 1]}", text, count=1
    )
    (folder / "study.yaml").write_text(text.replace("{trials: 1}", "{trials: 4}"))
    ended = tunectl("run", folder / "study.yaml", "--dir", folder / "runs", "--quiet", "--json")
    assert ended.code == 0, ended.err
    assert len(list((folder / "runs").rglob("model.txt"))) == 4
    assert not (folder / "outputs").exists()
