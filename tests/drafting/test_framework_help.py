"""Tests drafting/framework_help.py: the help of Hydra and Fire, and what absl, tyro and jsonargparse print otherwise than argparse."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tunectl.drafting.help_text import read_help
from tunectl.drafting.options import Help, Option

SCRIPTS = Path(__file__).parents[1] / "scripts"


def help_in(script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> Help:
    """The help that a script prints, which is that of the framework word for word."""
    monkeypatch.setattr("sys.argv", [script, *words])
    monkeypatch.syspath_prepend(str(SCRIPTS))  # as where Python runs a file
    with pytest.raises(SystemExit):
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    printed = capsys.readouterr()
    return read_help(printed.out + printed.err)


def options(text: Help) -> dict[str, tuple[int, str | None, str | None]]:
    return {option.name: (option.takes, option.default, option.off) for option in text.options}


def test_fire_shows_values_as_python_writes_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_in("fire_cli.py", monkeypatch, capsys, "--help")
    assert (text.framework, text.positionals, text.commands) == ("fire", ("DATA",), ())
    assert options(text) == {
        "--lr": (1, "0.1", None),
        "--wd": (1, "0.0001", None),
        "--optimizer": (1, "sgd", None),
        "--amp": (0, "false", "--noamp"),
        "--resume": (0, "false", "--noresume"),
        "--layers": (1, "(64, 32)", None),
        "--name": (1, None, None),
        "--code": (1, "'10'", None),  # without its quotes Fire would read a number
        "--steps": (1, "3", None),
        "--seed": (1, "0", None),
        "--out_dir": (1, "out", None),
    }
    found = text.option("-a")
    assert found is not None
    assert found.name == "--amp"


def test_commands_of_fire() -> None:
    text = (
        "NAME\n    x.py\n\nSYNOPSIS\n    x.py COMMAND | <flags>\n\nCOMMANDS\n    COMMAND is one of the following:\n\n"
        "     train\n       Train it.\n\n     evaluate\n\nFLAGS\n    --seed=SEED\n        Default: 0\n"
    )
    assert read_help(text).commands == ("train", "evaluate")
    assert read_help(text).positionals == ()


def test_absl_shows_all_flags_of_the_program_and_not_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_in("absl_flags.py", monkeypatch, capsys, "--helpfull")
    assert options(text) == {
        "--amp": (0, "false", "--noamp"),
        "--layers": (1, "64,32", None),
        "--lr": (1, "0.1", None),
        "--optimizer": (1, "sgd", None),
        "--tag": (1, "[]", None),
        "--workdir": (1, None, None),
        "--num_steps": (1, "3", None),
        "--seed": (1, "0", None),
    }
    by_name = {option.name: option for option in text.options}
    assert by_name["--optimizer"].choices == ("sgd", "adam")
    assert by_name["--tag"].repeats


def test_tyro_lists_in_boxes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_in("tyro_cli.py", monkeypatch, capsys, "--help")
    by_name = {option.name: option for option in text.options}
    assert by_name["--data"].required
    assert by_name["--layers"].many
    assert (by_name["--amp"].default, by_name["--amp"].off) == ("false", "--no-amp")
    assert (by_name["--optim.betas"].takes, by_name["--optim.betas"].default) == (2, "0.9 0.999")
    assert by_name["--optim.kind"].choices == ("sgd", "adam")
    boxes = "usage: x.py [-h] {train,evaluate}\n\n╭─ subcommands ───╮\n│ (required)      │\n│   • train       │\n│   • evaluate    │\n╰─╯\n"
    assert (read_help(boxes).commands, read_help(boxes).positionals) == (("train", "evaluate"), ())


def test_hydra_prints_its_configuration(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_in("hydra_app.py", monkeypatch, capsys, "optimizer=adam", "--help")
    assert text.framework == "hydra"
    assert text.options[0] == Option(
        ("optimizer",), 1, choices=("adam", "sgd"), shown="optimizer=adam|sgd", joined=True
    )
    assert options(text) == {
        "optimizer": (1, None, None),
        "optimizer.lr": (1, "0.001", None),
        "seed": (1, "0", None),
        "width": (1, "64", None),
        "amp": (1, "false", None),
        "name": (1, "null", None),
        "layers": (1, None, None),
        "trainer.max_epochs": (1, "3", None),
        "resume": (1, "null", None),
        "output_dir": (1, "${hydra:runtime.output_dir}", None),
        "hydra.run.dir": (1, None, None),
    }


def test_an_application_of_hydra_with_a_help_of_its_own_has_the_folder_of_its_run() -> None:
    text = read_help("My app.\nUse --hydra-help to view Hydra specific help\n")
    assert [option.name for option in text.options] == ["hydra.run.dir"]


def test_jsonargparse_writes_yaml_and_requires_by_a_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    top = help_in("lightning_cli.py", monkeypatch, capsys, "--help")
    assert (top.framework, top.commands) == ("jsonargparse", ("fit", "validate"))
    text = help_in("lightning_cli.py", monkeypatch, capsys, "fit", "--help")
    by_name = {option.name: option for option in text.options}
    assert by_name["--model.width"].required
    assert (by_name["--model.amp"].default, by_name["--model.amp"].choices) == ("false", ("true", "false"))
    assert by_name["--trainer.max_epochs"].default is None
    assert by_name["--seed_everything"].takes == 1
