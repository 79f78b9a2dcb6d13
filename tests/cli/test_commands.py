"""Tests cli/main.py, sweeps.py, shared_options.py and the other commands: exit codes, streams, imports, help texts."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from narrowing import of_type

from tunectl.cli.main import _called, app, main
from tunectl.language.study_reader import parse_study
from tunectl.space.trial_plan import plan_trials
from tunectl.store.plan_file import append_plan
from tunectl.store.study_folder import create

GOOD = """\
study: good
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/error_rate, direction: minimize}
training: {max_train_steps: 100, eval_every: 10}
hyperparameters:
  optimizer: adam
  learning_rate: {role: nuisance, range: [1e-4, 1e-1], scale: log}
search: {trials: 4}
"""

COMMANDS = [info.name or "" for info in app.registered_commands]
HEAVY = ("torch", "pandas", "scipy", "pyarrow", "sklearn")


@pytest.fixture
def tunectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Call the command in this process: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tunectl", *[str(word) for word in words]])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


Call = Callable[..., tuple[int, str, str]]


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


BAD = {
    "a misspelt key": (changed("training:", "trainning:"), "4:1: trainning", "did you mean training?"),
    "a misspelt hyperparameter": (
        changed("optimizer: adam", "optimzer: adam"),
        "6:3: hyperparameters.optimzer",
        "optimizer",
    ),
    "a missing direction": (changed(", direction: minimize", ""), "3:1: objective.direction", "minimize or maximize"),
    "a quoted number": (
        changed("[1e-4, 1e-1]", '["1e-4", 1e-1]'),
        "7:43: hyperparameters.learning_rate.range[0]",
        "quotes",
    ),
    "a quoted count": (changed("trials: 4", 'trials: "4"'), "8:18: search.trials", "without quotes"),
    "low above high": (
        changed("[1e-4, 1e-1]", "[1e-1, 1e-4]"),
        "7:42: hyperparameters.learning_rate.range",
        "expected low below high",
    ),
    "zero on a log scale": (
        changed("[1e-4, 1e-1]", "[0, 1e-1]"),
        "7:43: hyperparameters.learning_rate.range[0]",
        "expected more than 0",
    ),
    "a NaN bound": (changed("[1e-4, 1e-1]", "[1e-4, .nan]"), "7:49: hyperparameters.learning_rate.range[1]", "finite"),
    "a condition on a missing name": (
        changed("{role: nuisance,", "{role: nuisance, when: {optimiser: adam},"),
        "7:42: hyperparameters.learning_rate.when.optimiser",
        "did you mean optimizer?",
    ),
    "a circular condition": (
        changed(
            "  optimizer: adam\n",
            "  optimizer: {role: fixed, value: adam, when: {width: 8}}\n  width: {value: 8, when: {optimizer: adam}}\n",
        ),
        "6:47: hyperparameters.optimizer.when",
        "circle",
    ),
    "a duplicate key": (
        changed("search: {trials: 4}", "search: {trials: 4}\nstudy: again"),
        "9:1: study",
        "duplicate key",
    ),
    "a tab": (changed("  optimizer: adam", "\toptimizer: adam"), "6:1:", "tab"),
    "an empty file": ("", "1:1:", "empty"),
    "a factory that does not exist": (changed("digits:mlp", "digits:mpl"), "2:11: workload", "mlp"),
    "a module that does not exist": (changed("workloads.digits", "workloads.digitz"), "2:11: workload", "digits"),
    "a file that does not exist": (
        changed("tunectl.workloads.digits:mlp", "./nowhere.py:mlp"),
        "2:11: workload",
        "nowhere.py",
    ),
    "a keyword that the factory does not take": (
        changed("  optimizer: adam\n", "  optimizer: adam\n  widht: 8\n"),
        "7:3: hyperparameters.widht",
        "did you mean width?",
    ),
    "max_train_steps as a hyperparameter": (
        changed("  optimizer: adam\n", "  optimizer: adam\n  max_train_steps: 8\n"),
        "7:3: hyperparameters.max_train_steps",
        "never a hyperparameter",
    ),
    "a study name with a slash": (changed("study: good", "study: a/b"), "1:8: study", "a name that a folder can have"),
    "momentum under adam": (
        changed("  optimizer: adam\n", "  optimizer: adam\n  momentum: {role: nuisance, range: [0.8, 0.9]}\n"),
        "7:3: hyperparameters.momentum",
        "momentum is not used",
    ),
    "a command that is given nothing": (
        changed("tunectl.workloads.digits:mlp", "{command: [python, train.py]}"),
        "7:3: hyperparameters.learning_rate",
        "the command does not get learning_rate",
    ),
    "a script that is not there": (
        changed("tunectl.workloads.digits:mlp", "{command: [python, none.py, '{optimizer}', '{learning_rate}']}"),
        "2:30: workload.command[1]",
        "there is no file",
    ),
}


@pytest.mark.parametrize(("text", "place", "words"), BAD.values(), ids=BAD.keys())
def test_check_refuses_with_the_place_and_what_would_be_right(
    tunectl: Call, tmp_path: Path, text: str, place: str, words: str
) -> None:
    (tmp_path / "study.yaml").write_text(text)
    for command in ("check", "plan", "run"):
        code, out, err = tunectl(command, "study.yaml")
        assert code == 2
        assert out == ""
        assert "study.yaml:" + place in err, err
        assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_check_refuses_a_folder_instead_of_a_file(tunectl: Call, tmp_path: Path) -> None:
    code, _, err = tunectl("check", tmp_path)
    assert code == 2
    assert f"{tmp_path}:1:1: expected a YAML file, got a folder" in err


def test_check_refuses_a_file_that_is_not_there(tunectl: Call) -> None:
    code, _, err = tunectl("check", "nowhere.yaml")
    assert code == 2
    assert err.startswith("nowhere.yaml:1:1: file not found")


def test_all_problems_are_reported_at_once(tunectl: Call, tmp_path: Path) -> None:
    text = GOOD.replace(", direction: minimize", "").replace("trials: 4", "trials: 0").replace("1e-4", "0")
    (tmp_path / "study.yaml").write_text(text)
    _, _, err = tunectl("check", "study.yaml")
    assert [line.split(": ")[1] for line in err.splitlines()] == [
        "objective.direction",
        "hyperparameters.learning_rate.range[0]",
        "search.trials",
    ]


def test_check_ends_with_the_cost(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        GOOD.replace("optimizer: adam", "optimizer: {role: scientific, values: [sgd, adam]}")
    )
    code, out, _ = tunectl("check", "study.yaml")
    assert code == 0
    *_, cost, examples = out.splitlines()
    assert cost == "cost: 2 settings × 4 trials × 100 steps = 8 trials, 800 steps in all"
    assert examples == "  51,200 examples (64 a step), 88 evaluations"


def test_the_cost_in_examples_follows_the_batch_sizes_and_the_warmup(tunectl: Call, tmp_path: Path) -> None:
    sizes = "optimizer: adam\n  warmup_steps: 5\n  batch_size: {role: scientific, values: [10, 30]}"
    (tmp_path / "study.yaml").write_text(GOOD.replace("optimizer: adam", sizes))
    _, out, _ = tunectl("check", "study.yaml")
    # 105 steps, evaluated at 0, 10, ..., 100 and 105.
    assert out.splitlines()[-1] == "  16,800 examples (on average 20 a step), 96 evaluations"


def test_a_design_warning_goes_to_stderr_and_leaves_exit_code_0(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(GOOD.replace(", scale: log", ""))
    code, out, err = tunectl("check", "study.yaml")
    assert code == 0
    assert "warning: study.yaml:7:3: hyperparameters.learning_rate: learning_rate on a linear scale" in err
    assert "with 1 warning" in out


def test_check_says_what_it_could_not_see(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def factory(**anything):\n    raise AssertionError('check imports nothing')\n")
    (tmp_path / "study.yaml").write_text(GOOD.replace("tunectl.workloads.digits:mlp", "./own.py:factory"))
    code, _, err = tunectl("check", "study.yaml")
    assert code == 0
    assert "its arguments are checked by run" in err


def test_plan_prints_every_trial_as_table_csv_and_json(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(GOOD)
    table = tunectl("plan", "study.yaml")[1].splitlines()
    rows = list(csv.DictReader(io.StringIO(tunectl("plan", "study.yaml", "--csv")[1])))
    plan = json.loads(tunectl("plan", "study.yaml", "--json")[1])
    assert table[0].split() == ["trial", "setting", "optimizer", "learning_rate"]
    assert len(table) == 2 + 4
    assert plan["study"] == "good"
    assert [trial["trial"] for trial in plan["trials"]] == [0, 1, 2, 3]
    rates = [trial["hyperparameters"]["learning_rate"] for trial in plan["trials"]]
    assert [float(row["learning_rate"]) for row in rows] == rates
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)


def test_a_hyperparameter_whose_condition_does_not_hold_is_absent_from_the_plan(tunectl: Call, tmp_path: Path) -> None:
    more = "  beta1: {role: nuisance, when: {optimizer: adam}, range: [0.8, 0.9]}\n"
    text = GOOD.replace("optimizer: adam\n", "optimizer: {role: scientific, values: [sgd, adam]}\n" + more)
    (tmp_path / "study.yaml").write_text(text)
    trials = json.loads(tunectl("plan", "study.yaml", "--json")[1])["trials"]
    assert ["beta1" in trial["hyperparameters"] for trial in trials] == [False, True] * 4
    rows = list(csv.DictReader(io.StringIO(tunectl("plan", "study.yaml", "--csv")[1])))
    assert [row["beta1"] == "" for row in rows] == [True, False] * 4


def test_the_plan_as_csv_distinguishes_an_empty_text_from_an_inactive_name(tunectl: Call, tmp_path: Path) -> None:
    more = '  family: {role: scientific, when: {optimizer: adam}, values: ["", "a,b"]}\n'
    more += '  epsilon: {when: {family: "a,b"}, value: 1.0e-5}\n'
    text = GOOD.replace("optimizer: adam\n", "optimizer: {role: scientific, values: [sgd, adam]}\n" + more)
    text = text.replace("learning_rate: {role: nuisance, range: [1e-4, 1e-1], scale: log}", "learning_rate: 0.1")
    (tmp_path / "study.yaml").write_text(text.replace("trials: 4", "sampler: grid"))
    assert tunectl("plan", "study.yaml", "--csv") == (
        0,
        'trial,setting,optimizer,family,epsilon,learning_rate\n0,0,sgd,,,0.1\n1,1,adam,"",,0.1\n'
        '2,2,adam,"a,b",1e-05,0.1\n',
        "",
    )


def test_a_plan_beyond_200_rows_is_summed_up(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(GOOD.replace("trials: 4", "trials: 201"))
    out = tunectl("plan", "study.yaml")[1]
    assert len(out.splitlines()) < 10
    assert "201 trials" in out
    assert len(tunectl("plan", "study.yaml", "--csv")[1].splitlines()) == 202


def test_status_of_something_else_is_refused_with_exit_code_3(tunectl: Call, tmp_path: Path) -> None:
    code, _, err = tunectl("status", tmp_path)
    assert code == 3
    assert "is not a study folder" in err


@pytest.mark.parametrize(
    "words", [("chek",), ("check",), ("run", "s.yaml", "--slotz", "2"), ("run", "s.yaml", "--slots", "0")]
)
def test_wrong_usage_ends_with_2_and_one_line(tunectl: Call, words: tuple[str, ...]) -> None:
    code, out, err = tunectl(*words)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("flag", ["--retry-faild", "--objective"])
def test_a_flag_that_is_not_known_is_refused_by_name(tunectl: Call, flag: str) -> None:
    code, _, err = tunectl("run", "study.yaml", flag)
    assert code == 2
    assert flag in err


def test_help_names_every_command_with_its_whole_summary(tunectl: Call) -> None:
    code, out, _ = tunectl("--help")
    assert code == 0
    summaries = out.partition("Commands:")[2].strip().splitlines()
    assert len(summaries) == len(COMMANDS)
    assert [line for line in summaries if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_and_explains_every_option(tunectl: Call, command: str) -> None:
    code, out, _ = tunectl(*command.split(), "--help")
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80
    options = out.partition("Options:")[2].partition("Commands:")[0].strip("\n").splitlines()
    entries = [line for line in options if line.startswith("  -")]
    assert all(re.search(r"\S  +[A-Z]", line) for line in entries), out
    assert len(options) <= 2 * len(entries), "an explanation has at most two lines"


@pytest.mark.parametrize("words", [["--help"], ["check", "s.yaml"], ["plan", "s.yaml"], ["status", "folder"]])
def test_light_commands_load_neither_torch_nor_pandas_nor_scipy(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    folder = create(tmp_path / "folder", GOOD)
    append_plan(folder.plan, plan_trials(parse_study(GOOD, folder.study)))
    program = (
        "import sys\n"
        f"sys.argv = ['tunectl', *{words!r}]\n"
        "from tunectl.cli.main import app, main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "[]"


def test_the_backend_is_started_before_what_takes_long_to_import() -> None:
    program = (
        "import sys\n"
        "import tunectl.cli.run, tunectl.session.backend_start, tunectl.execution.backends.local\n"
        "slow = ('numpy', 'pydantic', 'yaml', 'torch', 'tunectl.language', 'sqlite3')\n"
        "print([name for name in slow if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_public_names_are_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tunectl as package

    classes = ["EvaluatedTrial", "Infeasible", "Study", "TunectlError", "Workload"]
    names = [*classes, "__version__", "open_study", "record", "run"]
    assert sorted(package.__all__) == names
    assert dir(package) == sorted(package.__all__)
    assert [getattr(package, name).__name__ for name in names if name != "__version__"] == [*classes, *names[-3:]]
    monkeypatch.chdir(tmp_path)
    package.record(1, {"loss": 0.5})
    assert list(tmp_path.iterdir()) == [], "outside of a trial nothing is recorded"
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        package.Trainer  # noqa: B018


@pytest.mark.parametrize(
    ("words", "built"), [(["check", "s.yaml"], ["check"]), (["chck"], None), (["--help"], None), ([], None)]
)
def test_only_the_command_that_is_called_is_built(words: list[str], built: list[str] | None) -> None:
    # Hazard: building all takes 30 ms of each start; with one alone, a misspelt command has no suggestion.
    every = [command.name for command in app.registered_commands]
    assert [command.name for command in _called(words).registered_commands] == (built or every)
    assert len(every) > 30, "the application itself is unchanged"


@pytest.mark.parametrize(("number", "is_ours"), [(errno.EIO, False), (errno.EBADF, True)])
def test_what_the_system_says_of_a_disk_is_a_message_wherever_it_came_about(monkeypatch, capsys, number, is_ours):
    def app(**_options):
        raise OSError(number, os.strerror(number), "runs/a/trials")

    monkeypatch.setattr("tunectl.cli.main._called", lambda _words: app)
    with pytest.raises(OSError if is_ours else SystemExit) as caught:
        main()
    if not is_ours:
        assert of_type(SystemExit, caught.value).code == 3
        assert "runs/a/trials: Input/output error" in capsys.readouterr().err
