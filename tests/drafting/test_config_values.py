"""Tests drafting/config_values.py: the values that configuration files set, and when these may not be all."""

from __future__ import annotations

import pytest

from tunectl.drafting.config_values import ConfigFile, key_of, names_config, read_config, with_config
from tunectl.drafting.help_text import read_help
from tunectl.drafting.options import Help, Option

FLAT = {"lr": "1e-3", "amp": "true", "name": "no", "layers": None, "optim.wd": "0.10"}
TEXTS = [
    ("a.yaml", "lr: 1e-3\namp: true\nname: no\nlayers: [1, 2]\noptim: {wd: 0.10}\n"),
    ("a.json", '{"lr": 1e-3, "amp": true, "name": "no", "layers": [1, 2], "optim": {"wd": 0.10}}'),
    ("a.toml", 'lr = 1e-3\namp = true\nname = "no"\nlayers = [1, 2]\n[optim]\nwd = 0.10\n'),
    ("a", "lr: 1e-3\namp: true\nname: no\nlayers: [1, 2]\noptim:\n  wd: 0.10\n"),
]


@pytest.mark.parametrize(("name", "text"), TEXTS, ids=[name for name, _ in TEXTS])
def test_values_are_text_as_the_file_writes_them(name: str, text: str) -> None:
    assert read_config(name, text) == ConfigFile(name, FLAT, whole=True)


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("a.ini", "lr = 0.1  # fast\n[optim]\nwd = 2\n", {"lr": "0.1", "optim.wd": "2"}),
        ("a.conf", "lr = 0.1\nwidth: 3\n", {"lr": "0.1", "width": "3"}),
        ("a.yaml", "base: &b {x: 1}\nnet:\n  <<: *b\n  y: 2\n", {"base.x": "1", "net.x": "1", "net.y": "2"}),
        ("a.yaml", "cb: [{path: x, dirpath: ck}]\n", {"cb[0].path": "x", "cb[0].dirpath": "ck"}),
        ("a.py", "import x\nlr = 0.1\nc = x.make()\nc.seed = 3\n", {"lr": "0.1", "c": None, "c.seed": "3"}),
    ],
)
def test_other_formats(name: str, text: str, values: dict[str, str | None]) -> None:
    assert read_config(name, text).values == values


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "lr: [1\n"),
        ("a.yaml", "- 1\n- 2\n"),
        ("a.json", "{"),
        ("a.toml", "lr == 1"),
        ("a.yaml", "_base_: other\nlr: 1\n"),
        ("a.yaml", "defaults: [x]\nlr: 1\n"),
        ("a.yaml", "model: net.yaml\n"),
        ("a.yaml", "lr: ${optim.lr}\n"),
        ("a.py", "lr = 0.1\n"),
        ("a.yaml", "\n".join(f"k{index}: 1" for index in range(6_000))),
    ],
)
def test_a_file_that_may_set_more_than_was_read_is_not_whole(name: str, text: str) -> None:
    assert not read_config(name, text).whole


def test_a_bomb_of_aliases_is_no_file_of_options() -> None:
    levels = "".join(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 40))
    assert read_config("a.yaml", "a0: &a0 {z: 1}\n" + levels).values == {}


def test_arguments_in_a_file_are_the_words_of_a_line() -> None:
    text = "# mine\n--lr=0.1\n--width\n64\n--name a b\n--amp\n"
    assert read_config("@args.txt", text).words == ("--lr=0.1", "--width", "64", "--name", "a b", "--amp")


def test_names_of_options_that_take_a_file_of_options() -> None:
    for name in ("--config", "-cfg", "--config-file", "--my_config", "--hparams", "--flagfile", "--train.config_path"):
        assert names_config(name), name
    for name in ("--configure-lr", "--lr", "--data", "--no-config-check", "--reconfigure"):
        assert not names_config(name), name


HELP = Help(
    (
        Option(("--lr", "--learning-rate"), 1, default="0.1"),
        Option(("--batch-size",), 1, default="8"),
        Option(("--amp",), required=True),
        Option(("--data",), 1, required=True),
    ),
    positionals=("WHERE",),
)


def values_of(text: Help) -> dict[str, tuple[str | None, str, bool]]:
    return {option.name: (option.default, option.source, option.required) for option in text.options}


def test_a_file_sets_options_by_any_of_their_names_and_the_last_file_wins() -> None:
    one = read_config("one.yaml", "learning_rate: 0.5\nbatch_size: 4\n")
    two = read_config("two.yaml", "train: {batch_size: 2}\namp: True\n")
    assert values_of(with_config(HELP, [one, two], None, shows_files=False)) == {
        "--lr": ("0.5", "one.yaml", False),
        "--batch-size": ("2", "two.yaml", False),
        "--amp": ("true", "two.yaml", False),
        "--data": (None, "", True),
    }
    assert with_config(HELP, [], None, shows_files=False) is HELP


def test_beside_a_file_that_is_not_known_whole_no_default_is_known_and_nothing_is_required() -> None:
    torn = read_config("torn.yaml", "lr: [")
    text = with_config(HELP, [torn], None, shows_files=False)
    assert values_of(text)["--lr"] == (None, "", False)
    assert not [option for option in text.options if option.required]
    assert text.positionals == ()
    # What the help shows after it has read the file is known.
    assert values_of(with_config(HELP, [torn], None, shows_files=True))["--lr"] == ("0.1", "", False)


def test_a_name_that_two_sections_have_is_no_options_own() -> None:
    file = read_config("a.yaml", "gen: {lr: 1}\ndisc: {lr: 2}\nfit: {width: 3}\n")
    assert key_of(Option(("--lr",), 1), file) is None
    assert key_of(Option(("--disc.lr",), 1), file) == "disc.lr"
    assert key_of(Option(("--width",), 1), file, "fit") == "fit.width"


def test_what_a_file_of_jsonargparse_names_beyond_the_help_is_an_option() -> None:
    told = read_help("options:\n  --print_config [=flags]\n  --trainer.max_steps N  (type: int, default: -1)\n")
    file = read_config("a.yaml", "trainer: {max_steps: 5, logger: {class_path: x.Y, init_args: {save_dir: logs}}}\n")
    text = with_config(told, [file], None, shows_files=False)
    assert values_of(text)["--trainer.max_steps"] == ("5", "a.yaml", False)
    assert values_of(text)["--trainer.logger.init_args.save_dir"] == ("logs", "a.yaml", False)
    assert "--trainer.logger.class_path" not in values_of(text)
    above = with_config(told, [file], None, shows_files=False, is_last=False)
    assert len(above.options) == len(told.options)
