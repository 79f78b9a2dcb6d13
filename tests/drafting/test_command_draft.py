"""Tests drafting/command_draft.py, command_words.py, study_text.py, proposals.py and options.py: a command line as a study."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from marked_lines import fill_in
from narrowing import of_type

from tunectl.core.errors import StudyError
from tunectl.core.wording import as_text
from tunectl.drafting.command_draft import MARK, DraftedCommand, Entry, Segment, draft_command
from tunectl.drafting.command_words import read_words, shell_words, split_command, with_source_defaults
from tunectl.drafting.help_text import Help, read_help
from tunectl.drafting.study_text import StudyDetails, study_text
from tunectl.language.command_checks import check_program
from tunectl.language.placeholders import command_line
from tunectl.language.study_reader import load_study, read_draft
from tunectl.language.study_spec import StudySpec
from tunectl.space.domains import FixedValue, Range

OWN = {"trial.dir": "/runs/7", "trial.id": "7", "trial.seed": "5", "max_train_steps": "9"}


def training_script() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="train.py",
        formatter_class=lambda prog: argparse.ArgumentDefaultsHelpFormatter(prog, width=500),
    )
    made.add_argument("data", nargs="?", help="a")
    made.add_argument("--lr", type=float, default=0.1, help="a")
    made.add_argument("--wd", "--weight-decay", type=float, default=1e-4, help="a")
    made.add_argument("--momentum", type=float, default=0.9, help="a")
    made.add_argument("--betas", nargs=2, type=float, default=[0.9, 0.999], help="a")
    made.add_argument("--layers", nargs="+", type=int, help="a")
    made.add_argument("-b", "--batch-size", type=int, default=32, help="a")
    made.add_argument("-n", "--name", default="x y", help="a")
    made.add_argument("--opt.name", default="sgd", choices=["sgd", "adam"], help="a")
    made.add_argument("--nesterov", action="store_true", help="a")
    made.add_argument("--amp", action=argparse.BooleanOptionalAction, default=True, help="a")
    made.add_argument("--pin", type=bool, default=False, help="a")
    made.add_argument("--as-text", default="007", help="a")
    made.add_argument("--tag", action="append", help="a")
    made.add_argument("--device", default="cpu", help="a")
    made.add_argument("--state", default="{a}", help="a")
    made.add_argument("--max-steps", type=int, default=-1, help="a")
    made.add_argument("--epochs", type=int, default=3, help="a")
    made.add_argument("--seed", type=int, default=0, help="a")
    made.add_argument("--save-dir", default="out", help="a")
    made.add_argument("--out", default="model.pt", help="a")
    return made


def draft(line: str, text: Help | None = None, place: Sequence[str] = ()) -> DraftedCommand:
    _, program, words = split_command(shlex.split(line))
    told = read_help(training_script().format_help()) if text is None else text
    pieces, read = read_words(words, told)
    assert read == len(words)
    return draft_command(program, [Segment(pieces, told)], place)


def written(path: Path, line: str, command: DraftedCommand, known: StudyDetails | None = None) -> Path:
    known = known or StudyDetails("val_loss", "minimize", 9, ("- {json_lines: stdout}",))
    path.write_text(study_text("a", command, known, line=shlex.split(line), environment={}, file=path.name))
    return path


def checked(path: Path) -> StudySpec:
    """The study, which its own command fits."""
    spec = load_study(path)
    assert spec.program is not None
    assert check_program(read_draft(path), spec.program) == []
    return spec


def called(spec: StudySpec) -> list[str]:
    """The words that a trial of the unchanged study is called with."""
    assert spec.program is not None
    values = {item.name: item.domain.value for item in spec.hyperparameters if isinstance(item.domain, FixedValue)}
    texts = {name: as_text(value) for name, value in values.items()}
    return command_line(spec.program.arguments, texts | OWN, values)


EVERY = (
    "lr", "--wd", "momentum", "betas", "-b", "name", "opt.name", "nesterov", "amp", "as_text", "device", "state",
    "max-steps",
)  # fmt: skip
LINES = [
    "--lr 0.1 --wd 1e-4",
    "--lr=3e-4 --weight-decay 0 -b64 -n 'it is a name' ./data",
    "data --nesterov --no-amp --betas 0.8 0.99 --layers 64 32 16",
    "--layers 64 -- data",
    "--mom 0.5 --opt.name adam --pin x --as-text 1e400 --device cuda:0",
    "--as-text=-dash --state '}{' --name ''",
    "--tag a --tag b -n True --state null",
    "--lr .5 -b 0128 --name 2024-01-01 --as-text +5",
]


@pytest.mark.parametrize("place", [(), EVERY], ids=["the line alone", "every option"])
@pytest.mark.parametrize("line", LINES)
def test_the_study_calls_the_script_as_the_line_does(tmp_path: Path, line: str, place: Sequence[str]) -> None:
    """Argparse itself judges: what it makes of the trial's words is what it makes of the line."""
    script = training_script()
    spec = checked(written(tmp_path / "a.yaml", line, draft(f"python train.py {line}", place=place)))
    assert called(spec)[:2] == ["python", "train.py"]
    expected = vars(script.parse_args(shlex.split(line)))
    expected |= {"seed": 5, "save_dir": "/runs/7", "out": "/runs/7/model.pt", "epochs": 9}
    assert vars(script.parse_args(called(spec)[2:])) == expected


def test_only_what_the_line_gives_and_what_is_the_trials_own_is_placed(tmp_path: Path) -> None:
    command = draft("python train.py --lr 0.05 --betas 0.8 0.99")
    assert [entry.name for entry in command.entries] == ["learning_rate", "betas_1", "betas_2"]
    assert [item for item in command.items if not item.startswith("#")] == [
        "- python",
        "- train.py",
        '- [--lr, "{learning_rate}"]',
        '- [--betas, "{betas_1}", "{betas_2}"]',
        '- [--epochs, "{max_train_steps}"]',
        '- [--seed, "{trial.seed}"]',
        '- [--save-dir, "{trial.dir}"]',
        '- [--out, "{trial.dir}/model.pt"]',
    ]
    assert command.steps == ("--epochs", 3)
    # What has no value that can be offered without a guess is named.
    assert "--pin PIN" in command.not_offered
    assert "--layers LAYERS [LAYERS ...]" in command.not_offered
    assert called(checked(written(tmp_path / "a.yaml", "", command)))[2:] == [
        "--lr", "0.05", "--betas", "0.8", "0.99", "--epochs", "9", "--seed", "5", "--save-dir", "/runs/7",
        "--out", "/runs/7/model.pt",
    ]  # fmt: skip


def test_what_is_uncommented_in_both_places_is_a_hyperparameter(tmp_path: Path) -> None:
    """Every option that is offered, all at once: argparse reads what it would by itself."""
    line = "--lr 0.05"
    path = written(tmp_path / "a.yaml", line, draft(f"python train.py {line}"))
    text = re.sub(r"^(\s+)# (- [\[{].*)$", r"\1\2", path.read_text(), flags=re.MULTILINE)
    path.write_text(re.sub(r"^  # (\w+: \S.*)$", _uncommented, text, flags=re.MULTILINE))
    spec = checked(path)
    script = training_script()
    expected = vars(script.parse_args(shlex.split(line)))
    expected |= {"seed": 5, "save_dir": "/runs/7", "out": "/runs/7/model.pt", "epochs": 9}
    assert vars(script.parse_args(called(spec)[2:])) == expected
    assert {"weight_decay", "nesterov", "amp", "opt_name", "device_option", "max_steps"} <= set(spec.names)


def _uncommented(entry: re.Match[str]) -> str:
    """A comment of the study's without its mark, where it is a hyperparameter."""
    return entry[0] if entry[1].startswith(("checkpoints:", "infeasible:")) else f"  {entry[1]}"


def test_every_option_goes_by_a_name_that_the_checks_know() -> None:
    command = draft("python train.py --lr 0.05", place=EVERY)
    values = {entry.name: entry.value for entry in command.entries}
    assert values["learning_rate"] == "0.05"
    assert values["weight_decay"] == "0.0001"
    assert (values["betas_1"], values["betas_2"]) == ("0.9", "0.999")
    assert (values["opt_name"], values["nesterov"], values["amp"]) == ("sgd", "false", "true")
    # Names that a study's tables have for themselves.
    assert (values["device_option"], values["state_option"]) == ("cpu", '"{a}"')
    assert not {"seed", "save_dir", "out", "epochs"} & values.keys()
    assert "- {when: {nesterov: true}, arguments: [--nesterov]}" in command.items


def test_an_option_is_placed_by_any_of_its_names() -> None:
    text = read_help(
        "options:\n  -w W, --weight-decay W  (default: 1)\n  --optim.lr LR  (default: 2)\n  --width N\n  --tag T [T ...]\n"
    )
    for name in ("-w", "w", "weight-decay", "--weight_decay", "weight_decay"):
        assert [entry.name for entry in draft("./train", text, [name]).entries] == ["weight_decay"]
    for name in ("lr", "optim.lr", "--optim.lr", "learning_rate"):
        assert [entry.name for entry in draft("./train", text, [name]).entries] == ["learning_rate"]
    # Without a default its value is to be filled in.
    command = draft("./train", text, ["width", "tag", "depth"])
    assert [(entry.name, entry.value) for entry in command.entries] == [("width", None), ("tag", None)]
    assert command.unknown == ["depth"]


def test_the_length_is_the_option_that_the_line_gives() -> None:
    command = draft("python train.py --max-steps 500")
    assert command.steps == ("--max-steps", 500)
    assert Entry("epochs", "3") in command.offered


def test_a_switch_that_saves_a_file_is_a_word_of_the_command_and_no_hyperparameter() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--save-model", "--save", "--saver"):
        parser.add_argument(name, action="store_true")
    found = draft("python train.py --save-model --save --saver", read_help(parser.format_help()))
    assert found.items[-3:-1] == ["- --save-model", "- --save"]
    assert [entry.name for entry in found.entries] == ["saver"]


def test_two_options_with_one_name_get_two_names() -> None:
    text = read_help(
        "options:\n  --lr LR  (default: 1)\n  --learning-rate LR  (default: 2)\n  --a.b X  (default: 3)\n  --a_b X  (default: 4)\n"
    )
    names = [entry.name for entry in draft("./train", text).offered]
    assert names == ["lr", "learning_rate", "a_b", "a_b_2"]


def test_proposals_are_studies(tmp_path: Path) -> None:
    """Every entry that is proposed beside a value can replace it."""
    line = "--lr 0.1 --wd 0 --betas 0.9 0.999"
    path = written(tmp_path / "a.yaml", line, draft(f"python train.py {line}", place=EVERY))
    text = re.sub(r"^(  \w+): .*# or (\{.*\})$", r"\1: \2", path.read_text(), flags=re.MULTILINE)
    path.write_text(text.replace("trials: 1}", "trials: 50}"))
    spec = checked(path)
    found = {item.name: item.domain for item in spec.hyperparameters if item.varies}
    assert found.keys() >= {"learning_rate", "weight_decay", "momentum", "betas_1", "betas_2", "nesterov", "opt_name"}
    for name, value in (("learning_rate", 0.1), ("momentum", 0.9), ("betas_2", 0.999)):
        domain = of_type(Range, found[name])
        assert domain.low < value < domain.high


def test_what_is_marked_is_all_that_a_check_complains_of(tmp_path: Path) -> None:
    text = read_help("options:\n  --lr LR  rate (default: 0.1)\n")
    path = written(tmp_path / "a.yaml", "", draft("./train --lr 1", text), StudyDetails())
    lines = path.read_text().splitlines()
    marked = {number for number, line in enumerate(lines, start=1) if MARK in line}
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert {problem.line for problem in caught.value.problems} == marked
    filled = {"regex": r"regex: 'step (?P<step>\d+) loss (?P<loss>\S+)'", "metric": "metric: loss"}
    filled |= {"direction": "direction: minimize", "max_train_steps": "max_train_steps: 100"}
    fill_in(path, filled)
    assert checked(path).training.max_train_steps == 100


def test_a_command_that_takes_nothing_leaves_its_hyperparameters_to_be_filled_in(tmp_path: Path) -> None:
    path = written(tmp_path / "a.yaml", "", draft("./train", Help()))
    with pytest.raises(StudyError, match="hyperparameters"):
        load_study(path)
    assert f"hyperparameters:    {MARK}" in path.read_text()


def test_a_command_without_help_gives_the_options_in_its_line(tmp_path: Path) -> None:
    line = "./train --lr 0.1 --flag --width=3 model.depth=4 -q run"
    spec = checked(written(tmp_path / "a.yaml", line, draft(line, Help())))
    assert called(spec) == ["./train", "--lr", "0.1", "--flag", "--width=3", "model.depth=4", "-q", "run"]
    assert spec.names == ("learning_rate", "flag", "width", "model_depth", "q")


def test_subcommands_take_their_own_options(tmp_path: Path) -> None:
    top = read_help("usage: x [-h] [--seed S] {train,eval} ...\n\noptions:\n  --gpu N  (default: 0)\n")
    own = read_help("options:\n  --lr LR  (default: 0.1)\n")
    pieces, read = read_words(["train", "--lr", "1"], top)
    assert read == 0
    command = draft_command(
        ["./x"], [Segment(pieces, top, "train"), Segment(read_words(["--lr", "1"], own)[0], own)], ["gpu"]
    )
    assert command.items == [
        "- ./x", '- [--gpu, "{gpu}"]', "- train", '- [--lr, "{learning_rate}"]',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "environment", "program", "rest"),
    [
        ("python train.py --lr 1", {}, ["python", "train.py"], ["--lr", "1"]),
        ("A=1 B='x y' python3.11 -u -W error train.py a.py", {"A": "1", "B": "x y"}, ["python3.11", "-u", "-W", "error", "train.py"], ["a.py"]),
        ("python -m package.train --lr 1", {}, ["python", "-m", "package.train"], ["--lr", "1"]),
        ("./train.sh --config x.py", {}, ["./train.sh"], ["--config", "x.py"]),
        ("torchrun --nproc-per-node 2 train.py --lr 1", {}, ["torchrun", "--nproc-per-node", "2", "train.py"], ["--lr", "1"]),
        ("uv run train --lr 1", {}, ["uv", "run", "train"], ["--lr", "1"]),
        ("", {}, [], []),
    ],
)  # fmt: skip
def test_the_words_that_start_a_program(
    line: str, environment: dict[str, str], program: list[str], rest: list[str]
) -> None:
    assert split_command(shlex.split(line)) == (environment, program, rest)


def test_words_for_a_shell_are_found() -> None:
    assert shell_words(["a", "|", "tee", "2>&1", ">", "x", "&&", "lr>3", "(0.9,0.99)", "-"]) == ["|", "2>&1", ">", "&&"]


def test_defaults_come_from_the_script_where_its_help_shows_none() -> None:
    source = (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('-l', '--lr', type=float, default=1e-3)\n"
        "p.add_argument('--width', default=WIDTH)\np.add_argument('--amp', action=Flag, default=True)\n"
        "p.add_argument('--extra', default=5)\np.add_argument('--none', default=None)\n"
        "p.add_argument('--nesterov', action='store_true', default=False)\n"
    )
    options = "-l LR, --lr LR", "--width W", "--amp, --no-amp", "--extra T  (default: 4)", "--none N", "--nesterov"
    text = with_source_defaults(read_help("options:\n" + "".join(f"  {item}\n" for item in options)), source)
    assert {item.name: item.default for item in text.options} == {
        "--lr": "1e-3",
        "--width": None,
        "--amp": "true",
        "--extra": "4",
        "--none": None,
        "--nesterov": None,
    }
    assert with_source_defaults(text, "no python (") == text


def test_a_list_by_default_is_never_passed_as_one_value(tmp_path: Path) -> None:
    """Argparse itself judges: `--tag "[]"` would append a text, and a lambda would split another."""
    script = argparse.ArgumentParser(
        formatter_class=lambda prog: argparse.ArgumentDefaultsHelpFormatter(prog, width=500)
    )
    script.add_argument("--lr", type=float, default=0.1, help="a")
    script.add_argument("--tag", action="append", default=[], help="a")
    script.add_argument("--milestones", type=lambda text: text.split(","), default=[30, 60], help="a")
    script.add_argument("--options", default={"a": 1}, help="a")
    script.add_argument("--style", default="{a}-(b)", help="a")
    command = draft("python train.py", read_help(script.format_help()), ["lr", "style"])
    spec = checked(written(tmp_path / "a.yaml", "", command))
    assert vars(script.parse_args(called(spec)[2:])) == vars(script.parse_args([]))
    assert "style" in spec.names
    assert command.not_offered == [
        "--tag TAG (its default, [], is not a single value)",
        "--milestones MILESTONES (its default, [30, 60], is not a single value)",
        "--options OPTIONS (its default, {'a': 1}, is not a single value)",
    ]


def test_an_option_that_repeats_is_found_in_the_script() -> None:
    source = 'p.add_argument("--tag", action="append", default="a")\nq = click.option("--name", multiple=True)\n'
    told = read_help("options:\n  --tag T\n  --name N  [default: a, b]\n  --lr L  [default: 1]\n")
    command = draft("./train", with_source_defaults(told, source))
    assert [entry.name for entry in command.offered] == ["learning_rate"]
    assert [text.partition(" (")[0] for text in command.not_offered] == ["--tag T", "--name N"]
    assert all("several times" in text for text in command.not_offered)


def test_words_of_hydra_follow_the_rules_of_options(tmp_path: Path) -> None:
    line = (
        "./train optimizer.lr=0.1 +trainer.max_steps=30 seed=1 model.seed=2 hydra.run.dir=out/a log.dir=x "
        "gen.wd=1 disc.wd=2 decoder.output=softmax scheduler.steps=5 tag=a tag=b ++net.momentum=0.9"
    )
    command = draft(line, Help())
    spec = checked(
        written(
            tmp_path / "a.yaml", line, command, StudyDetails("val_loss", "minimize", 9, ("- {json_lines: stdout}",))
        )
    )
    assert called(spec) == [
        "./train", "optimizer.lr=0.1", "+trainer.max_steps=9", "seed=5", "model.seed=2", "hydra.run.dir=/runs/7",
        "log.dir=/runs/7", "gen.wd=1", "disc.wd=2", "decoder.output=softmax", "scheduler.steps=5", "tag=a", "tag=b",
        "++net.momentum=0.9",
    ]  # fmt: skip
    assert spec.names == (
        "learning_rate", "model_seed", "gen_wd", "disc_wd", "decoder_output", "scheduler_steps", "momentum",
    )  # fmt: skip
    assert command.steps == ("trainer.max_steps", 30)


def test_dotted_options_are_known_by_their_last_part() -> None:
    text = read_help(
        "options:\n  --trainer.max_epochs N  (default: 3)\n  --optimizer.lr LR  (default: 1)\n  --seed S\n"
    )
    command = draft("./train", text)
    assert '- [--trainer.max_epochs, "{max_train_steps}"]' in command.items
    assert command.offered[0].name == "learning_rate"


def test_what_the_script_requires_and_the_line_lacks_is_to_be_filled_in(tmp_path: Path) -> None:
    script = argparse.ArgumentParser(
        prog="train.py", formatter_class=lambda prog: argparse.HelpFormatter(prog, width=500)
    )
    script.add_argument("data")
    script.add_argument("model", choices=["a", "b"])
    script.add_argument("more", nargs="*")
    script.add_argument("--lr", type=float, required=True)
    script.add_argument("--betas", nargs=2, type=float, required=True)
    script.add_argument("--seed", type=int, required=True)
    group = script.add_mutually_exclusive_group(required=True)
    group.add_argument("--cpu", metavar="N")
    group.add_argument("--gpu", metavar="N")
    text = read_help(script.format_help())
    whole = draft("./train d a --lr 1 --betas 1 2 --gpu 0", text)
    assert not [item for item in whole.items if MARK in item]
    command = draft("./train d --lr 1", text)
    marked = [item.partition(MARK)[2] for item in command.items if MARK in item]
    assert [re.sub(r".*requires ", "", item) for item in marked] == [
        "--betas BETAS BETAS", "one of --cpu, --gpu", "{a,b}, an argument without an option name",
    ]  # fmt: skip
    assert not [item for item in command.not_offered if "--betas" in item]
    path = written(tmp_path / "a.yaml", "", command)
    lines = path.read_text().splitlines()
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert [problem.line for problem in caught.value.problems] == [n for n, line in enumerate(lines, 1) if MARK in line]


@pytest.mark.parametrize(
    ("text", "positionals", "required"),
    [
        ("Usage: train [OPTIONS] DATA [EXTRA] FILES...\n\nOptions:\n  --lr FLOAT  rate  [required]\n", ("DATA", "FILES"), ["--lr"]),
        ("Usage: cli [OPTIONS] COMMAND [ARGS]...\n\nCommands:\n  train  x\n", (), []),
        ("usage: x [-h] [--a [A ...]] data [data ...] {train,eval} ...\n\noptions:\n  --a A  b\n", ("data",), []),
        ("usage: train.py DATA [options]\n\noptions:\n  --lr LR\n", (), []),
        ("\n       USAGE: ./x.py [flags]\nflags:\n\n./x.py:\n  --lr: rate\n    (default: '0.1')\n", (), []),
    ],
)  # fmt: skip
def test_what_a_usage_line_requires(text: str, positionals: tuple[str, ...], required: list[str]) -> None:
    told = read_help(text)
    assert told.positionals == positionals
    assert [option.name for option in told.options if option.required] == required


def goes_on(option: str) -> str:
    """The line of a study that shows an option from which a script may go on."""
    made = read_help(f"usage: train.py\n\noptions:\n  --lr LR  (default: 0.1)\n  {option}\n")
    found = draft("./train --lr 1", made)
    return next(text for text in [*found.not_offered, *found.items] if f"{option.split()[0]}" in text)


def test_an_option_to_go_on_by_is_shown_as_the_study_writes_it() -> None:
    shown = goes_on("--checkpoint {None}|PATH  (default: None)")
    assert 'to resume stopped trials: [--checkpoint, "{trial.resume}"], if `checkpoints`' in shown
    assert "trial.resume" not in goes_on("--checkpoint PATH  (default: out/ckpt.pt)")


OWN_FOLDER = "usage: train.py\n\noptions:\n  --lr LR  (default: 0.1)\n  --workdir DIR  (default: out)\n"


@pytest.mark.parametrize(
    ("text", "is_said"),
    [
        (OWN_FOLDER, True),
        (OWN_FOLDER.replace("--workdir", "--output-dir"), True),
        (OWN_FOLDER + "  --checkpoint {None}|PATH  (default: None)\n", False),  # that one is named instead
        (OWN_FOLDER.replace("--workdir", "--width"), False),
    ],
)
def test_how_a_program_goes_on_from_its_own_folder_is_said_where_it_has_one(text: str, is_said: bool) -> None:
    made = draft("./train --lr 1", read_help(text))
    study = study_text("study", made, StudyDetails(), line=["train"], environment={}, file="study.yaml")
    assert ('# environment: {GOES_ON_FROM: "{trial.resume}"}' in study) is is_said
    assert ("{trial.resume}" in study) is (is_said or "checkpoint" in text)


@pytest.mark.parametrize(
    "option",
    ["--resume PATH  latest checkpoint (default: none)", "--ckpt_path CKPT_PATH", "--restore-from X  (default: )"],
)
def test_each_option_to_go_on_by_is_shown_as_the_study_writes_it(option: str) -> None:
    assert f'to resume stopped trials: [{option.split()[0]}, "{{trial.resume}}"], if' in goes_on(option)


@pytest.mark.parametrize("option", ["--resume-epoch N  (default: 0)", "--resume {allow,never}  (default: never)"])
def test_an_option_of_another_kind_is_offered_with_its_value(option: str) -> None:
    assert "trial.resume" not in goes_on(option)


def test_options_that_would_have_one_environment_variable_get_names_of_their_own(tmp_path: Path) -> None:
    line = "python train.py --alpha 1 --ALPHA 2 --server 3 --trial-id 4"
    command = draft(line, Help())
    names = [entry.name for entry in command.entries]
    assert names == ["alpha", "ALPHA_2", "server_option", "trial_id_option"]
    assert called(checked(written(tmp_path / "s.yaml", line, command)))[2:] == shlex.split(line)[2:]
