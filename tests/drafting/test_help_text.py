"""Tests drafting/help_text.py: what is read from the help that argparse, click, typer and absl print."""

from __future__ import annotations

import argparse

import pytest

from tunectl.drafting.help_text import Help, Option, read_help


def parser(formatter: type[argparse.HelpFormatter] = argparse.ArgumentDefaultsHelpFormatter) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="train.py", formatter_class=lambda prog: formatter(prog, width=500))
    made.add_argument("data", help="where the data is")
    made.add_argument("--lr", "--learning-rate", type=float, default=0.1, help="learning rate")
    made.add_argument("-b", "--batch-size", type=int, default=32, help="the batch")
    made.add_argument("--wd", type=float, default=1e-4)
    made.add_argument("--nesterov", action="store_true", help="use it")
    made.add_argument("--amp", action=argparse.BooleanOptionalAction, default=True, help="mixed precision")
    made.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd", help="which")
    made.add_argument("--betas", nargs=2, type=float, default=[0.9, 0.999], help="of adam")
    made.add_argument("--layers", nargs="+", type=int, help="their widths")
    made.add_argument("--extra", nargs="*")
    made.add_argument("--resume", nargs="?", const="last", help="from where")
    made.add_argument("--an-option-with-a-name-that-is-long", default="x", metavar="TEXT", help="100%% (of it)")
    made.add_argument("-v", "--verbose", action="count")
    group = made.add_argument_group("regularisation")
    group.add_argument("--dropout", type=float, help="--wd is another kind. Default is 0.1.")
    return made


def found(text: Help, name: str) -> Option:
    option = text.option(name)
    assert option is not None, name
    return option


def test_options_of_argparse_with_all_that_they_take() -> None:
    text = read_help(parser().format_help())
    assert found(text, "--lr") == Option(
        ("--lr", "--learning-rate"), 1, default="0.1", shown="--lr LR, --learning-rate LR"
    )
    assert found(text, "-b").names == ("-b", "--batch-size")
    assert found(text, "-b").default == "32"
    assert (found(text, "--wd").takes, found(text, "--wd").default) == (1, None)
    assert (found(text, "--nesterov").takes, found(text, "--nesterov").default) == (0, None)
    assert found(text, "--amp") == Option(("--amp",), default="true", off="--no-amp", shown="--amp, --no-amp")
    assert found(text, "--optimizer").choices == ("sgd", "adam")
    assert (found(text, "--betas").takes, found(text, "--betas").default) == (2, "[0.9, 0.999]")
    assert (found(text, "--layers").takes, found(text, "--layers").many) == (1, True)
    assert (found(text, "--extra").takes, found(text, "--extra").many) == (0, True)
    assert (found(text, "--resume").takes, found(text, "--resume").default) == (1, None)
    assert found(text, "--an-option-with-a-name-that-is-long").default == "x"
    assert found(text, "--dropout").default is None  # whatever the sentence before says
    assert text.commands == ()


def test_help_without_defaults_has_none() -> None:
    text = read_help(parser(argparse.HelpFormatter).format_help())
    assert {item.name for item in text.options if item.default is not None} == {"--dropout"}


def test_the_beginning_of_a_long_name_is_enough_where_it_is_the_only_one() -> None:
    text = read_help("options:\n  --batch-size N\n  --batch-norm\n  --lr LR\n")
    assert found(text, "--batch-s").name == "--batch-size"
    assert text.option("--batch") is None
    assert text.option("--unknown") is None
    assert text.option("-l") is None


@pytest.mark.parametrize(
    ("explanation", "default"),
    [
        ("rate (default: 0.1)", "0.1"),
        ("rate [default: 0.1]", "0.1"),
        ("rate  [env var: LR; default: 0.1; required]", "0.1"),
        ("rate [default: 3; 1<=x<=5]", "3"),
        ("rate (float, default 0.1)", "0.1"),
        ("rate, default=0.1", "0.1"),
        ("rate; defaults to 1e-3.", "1e-3"),
        ("rate. Default is 0.1.", "0.1"),
        ("rate (default: 'sgd')", "sgd"),
        ("pair (default: (0.9, 0.999))", "(0.9, 0.999)"),
        ("a (thing) in brackets (default: x)", "x"),
        ("rate (default: None)", None),
        ("rate (default: <function f at 0x7f>)", None),
        ("rate; default: see below", None),
        ("by default it is off", None),
        ("the default scheduler is used", None),
    ],
)
def test_defaults_as_people_write_them(explanation: str, default: str | None) -> None:
    (option,) = read_help(f"options:\n  --lr LR   {explanation}\n").options
    assert option.default == default


def test_subcommands_of_argparse() -> None:
    made = argparse.ArgumentParser(prog="train.py")
    commands = made.add_subparsers()
    commands.add_parser("train", help="--all of it")
    commands.add_parser("eval")
    assert read_help(made.format_help()).commands == ("train", "eval")


def test_options_that_exclude_each_other() -> None:
    made = argparse.ArgumentParser(
        prog="train.py", formatter_class=lambda prog: argparse.HelpFormatter(prog, width=500)
    )
    made.add_argument("--momentum", type=float)
    made.add_argument("--nesterov", action="store_true")
    made.add_argument("--amp", action=argparse.BooleanOptionalAction)
    group = made.add_mutually_exclusive_group()
    for name in ("--steps", "--epochs", "--hours"):
        group.add_argument(name, type=int)
    text = read_help(made.format_help())
    assert text.rivals(found(text, "--epochs")) == {"--steps", "--hours"}
    assert text.rivals(found(text, "--momentum")) == set()
    assert text.rivals(found(text, "--amp")) == set()


CLICK = """\
Usage: train.py [OPTIONS] COMMAND [ARGS]...

Options:
  -l, --lr FLOAT              Learning rate  [default: 0.1]
  --layers INTEGER RANGE      [default: 3; 1<=x<=5]
  --nesterov / --no-nesterov  A long explanation that is broken, with its default
                              in the next line  [default: no-nesterov]
  --opt [sgd|adam]            [default: sgd]
  --betas <FLOAT FLOAT>...    [default: 0.9, 0.999]
  --name TEXT
  --help                      Show this message and exit.

Commands:
  train     Train a thing.
  evaluate  Evaluate.
"""
TYPER = """\
\x1b[1m                                                                     \x1b[0m
 Usage: train.py [OPTIONS] COMMAND [ARGS]...
╭─ Options ─────────────────────────────────────────────────────────────────╮
│ *  --lr        -l                 FLOAT          [default: 0.1] [required] │
│    --layers                       INTEGER RANGE  [default: 3]              │
│    --nesterov      --no-nesterov                 [default: no-nesterov]    │
│    --opt                          [sgd|adam]     [default: sgd]            │
│    --betas                        <float,float>...  [default: 0.9, 0.999]  │
│    --name                         TEXT                                     │
│    --help                                        Show this message.        │
╰────────────────────────────────────────────────────────────────────────────╯
╭─ Commands ─────────────────────────────────────────────────────────────────╮
│ train     Train a thing.                                                   │
│ evaluate  Evaluate.                                                        │
╰────────────────────────────────────────────────────────────────────────────╯
"""


@pytest.mark.parametrize("text", [CLICK, TYPER], ids=["click", "typer"])
def test_options_of_click_and_typer(text: str) -> None:
    told = read_help(text)
    read = {item.name: (item.takes, item.default, item.off, item.choices) for item in told.options}
    assert read == {
        "--lr": (1, "0.1", None, ()),
        "--layers": (1, "3", None, ()),
        "--nesterov": (0, "false", "--no-nesterov", ()),
        "--opt": (1, "sgd", None, ("sgd", "adam")),
        "--betas": (2, "0.9, 0.999", None, ()),
        "--name": (1, None, None, ()),
        "--help": (0, None, None, ()),
    }
    assert "-l" in found(told, "--lr").names
    assert told.commands == ("train", "evaluate")


def test_flags_of_absl() -> None:
    text = read_help(
        "       USAGE: train.py [flags]\nflags:\n\ntrain.py:\n  --lr: Learning rate.\n    (default: '0.1')\n    (a number)\n"
        "  --[no]amp: Mixed precision.\n    (default: 'true')\n"
    )
    assert [(item.name, item.takes, item.default, item.off) for item in text.options] == [
        ("--lr", 1, "0.1", None),
        ("--amp", 0, "true", "--noamp"),
    ]


@pytest.mark.parametrize(
    "text", ["", "loss 0.5\n" * 3, "Traceback (most recent call last):\n  File x\n", "-\n--\n\0\n"]
)
def test_what_is_no_help_has_no_options(text: str) -> None:
    assert read_help(text) == Help()
