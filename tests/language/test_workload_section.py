"""`workload:` as a mapping: commands and functions of the user's own.

Tests language/workload_section.py, language/command_checks.py, language/placeholders.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tunectl.core.errors import StudyError
from tunectl.core.own_code_request import Checkpoints, InfeasibleEnds, MetricSource, Optional
from tunectl.core.wording import as_text
from tunectl.language.command_checks import check_program
from tunectl.language.identity import Differences, differences, identity
from tunectl.language.placeholders import AbsentError, command_line, filled, names_in
from tunectl.language.study_reader import parse_study, read_draft

STUDY = """\
study: own
workload:
{workload}
objective: {{metric: {metric}, direction: minimize}}
training: {{max_train_steps: 100}}
hyperparameters:
{hyperparameters}
search: {{trials: 3}}
"""
COMMAND = "  command: [python, train.py, --lr, '{learning_rate}']"
RATE = "  learning_rate: {role: nuisance, range: [1e-3, 1], scale: log}"


def text(workload: str = COMMAND, hyperparameters: str = RATE, metric: str = "val_loss") -> str:
    return STUDY.format(workload=workload, hyperparameters=hyperparameters, metric=metric)


def problems(content: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "study.yaml"
    path.write_text(content)
    draft = read_draft(path)
    found = list(draft.document.problems)
    if draft.own_code is not None and draft.own_code[1] is not None:
        found += check_program(draft, draft.own_code[1], all_hyperparameters_read=draft.all_hyperparameters_read)
    return [f"{problem.line}: {problem.path}: {problem.message}" for problem in found]


def test_a_command_with_all_that_it_may_say(tmp_path: Path) -> None:
    content = text(
        r"""
  command: [python, -u, train.py, "--lr={learning_rate}", [--momentum, "{momentum}"], 3, true, 1e-3,
            {when: {nesterov: true}, arguments: [--nesterov]}]
  folder: sub
  environment: {WANDB_MODE: offline, THREADS: 2, FROM: "{trial.resume}"}
  metrics:
    - regex: 'step (?P<step>\d+) loss (?P<train__loss>\S+)'
    - {json_lines: stdout, step: global_step, names: {eval_loss: valid/loss}}
    - {csv: "{trial.dir}/*/metrics.csv"}
    - {tensorboard: "{trial.dir}/tb"}
  checkpoints: "{trial.dir}/checkpoint-{step}"
  infeasible: {exit_codes: [3], patterns: ["out of memory"], metrics: [train/loss]}
""",
        RATE
        + "\n  momentum: {role: nuisance, when: {nesterov: true}, range: [0.5, 0.9]}\n  nesterov: {role: scientific, values: [true, false]}",
    )
    assert problems(content, tmp_path) == []
    spec = parse_study(content, tmp_path / "study.yaml")
    program = spec.program
    assert program is not None
    assert (spec.workload_kind, spec.own_code) == ("command", True)
    assert program.arguments == (
        "python",
        "-u",
        "train.py",
        "--lr={learning_rate}",
        Optional(("--momentum", "{momentum}")),
        "3",
        "true",
        "0.001",
        Optional(("--nesterov",), {"nesterov": (True,)}),
    )
    assert program.folder == str(tmp_path / "sub")
    assert program.environment == {"WANDB_MODE": "offline", "THREADS": "2", "FROM": "{trial.resume}"}
    assert program.sources == (
        MetricSource("regex", r"step (?P<step>\d+) loss (?P<train__loss>\S+)"),
        MetricSource("json_lines", "stdout", "global_step", {"eval_loss": "valid/loss"}),
        MetricSource("csv", "{trial.dir}/*/metrics.csv"),
        MetricSource("tensorboard", "{trial.dir}/tb"),
    )
    assert program.checkpoints == Checkpoints("{trial.dir}/checkpoint-{step}")
    assert program.infeasible == InfeasibleEnds((3,), ("out of memory",), ("train/loss",))
    assert spec.workload.startswith("python -u train.py --lr={learning_rate} [--momentum {momentum}]")


def test_a_program_that_runs_in_the_trial_s_own_folder_names_its_files_from_there(tmp_path: Path) -> None:
    content = text(
        """
  command: [python, train.py, "{learning_rate}"]
  folder: "{trial.dir}"
  metrics: [{csv: "./logs/*/metrics.csv"}, {json_lines: "./{trial.dir}/rows.jsonl"}, {tensorboard: "{trial.dir}"}]
  checkpoints: checkpoints/{step}.pt
""",
        RATE,
    )
    assert problems(content, tmp_path) == []
    program = parse_study(content, tmp_path / "study.yaml").program
    assert program is not None
    assert (program.folder, program.in_trial_folder) == (str(tmp_path), True)
    assert [source.where for source in program.sources] == [
        "{trial.dir}/logs/*/metrics.csv",
        "{trial.dir}/rows.jsonl",
        "{trial.dir}",
    ]
    assert program.checkpoints == Checkpoints("{trial.dir}/checkpoints/{step}.pt")


def test_a_function_is_a_reference(tmp_path: Path) -> None:
    content = text("  function: ./mine.py:train")
    assert problems(content, tmp_path) == []
    spec = parse_study(content, tmp_path / "study.yaml")
    assert (spec.workload_kind, spec.workload, spec.program) == ("function", "./mine.py:train", None)


def test_names_and_values_of_own_code_are_its_own(tmp_path: Path) -> None:
    """Neither optimizer nor learning_rate is asked for, and `optimizer: lion` is as good as any."""
    content = text("  command: [a, '{optimizer}', '{batch_size}']", "  optimizer: lion\n  batch_size: huge")
    assert problems(content, tmp_path) == []
    assert parse_study(content, tmp_path / "study.yaml").names == ("optimizer", "batch_size")


BAD = [
    ("  command: python train.py", "workload.command: expected a list of arguments", "it is run without a shell"),
    ("  command: []", "workload.command: expected a list of arguments", "got an empty list"),
    ("  command: [[a]]", "workload.command[0]: expected the program itself first", ""),
    ("  command: [a, ]\n  comand: [b]", "workload.comand: no such key; did you mean command?", ""),
    ("  command: [a, '{learning_rate']", "workload.command[1]: '{' at character 1 is not part of a placeholder", ""),
    ("  command: [a, '{lerning_rate}']", "{lerning_rate} is not a hyperparameter", "did you mean learning_rate?"),
    ("  command: [a, '{learning_rate}', '{trial.dri}']", "{trial.dri} is not a hyperparameter", "did you mean trial.dir?"),
    ("  command: [a, ~]", "workload.command[1]: expected text or a number, got nothing", "''"),
    ("  command: [a]", "hyperparameters.learning_rate: the command does not get learning_rate", "{trial.hyperparameters}"),
    ("  command: [a, '{learning_rate}', '{trial.resume}']", "{trial.resume} has no value where a trial starts", "[--option"),
    ("  commnd: [a]", "workload: expected text (module:factory), or a mapping with command or function", "did you mean"),
    (COMMAND + "\n  metrics: [{regx: a}]", "workload.metrics[0]: expected one of regex,", "got a mapping"),
    (COMMAND + "\n  metrics: [{csv: a, regex: b}]", "workload.metrics[0]: expected one of", "got regex and csv"),
    (COMMAND + "\n  metrics: [{regex: '('}]", "workload.metrics[0].regex: expected a regular expression of Python", "error"),
    (COMMAND + "\n  metrics: [{regex: 'loss (.*)'}]", "expected a group with a name for each metric, got none", "__"),
    (COMMAND + "\n  metrics: [{regex: '(?P<a>.)', step: epoch}]", "workload.metrics[0].step: no group", ""),
    (COMMAND + "\n  metrics: [{regex: '(?P<a>.)', names: {b: c}}]", "workload.metrics[0].names.b: no group has this", ""),
    (COMMAND + "\n  metrics: [{csv: '{learning_rate}/a'}]", "{learning_rate} has no value here", ""),
    (COMMAND + "\n  metrics: [{csv: metrics.csv}]", "expected a file of this trial, with {trial.dir} or {trial.id}", ""),
    (COMMAND + "\n  metrics: [{csv: '{trial.resume}/a'}]", "{trial.resume} has no value here", ""),
    (COMMAND + "\n  metrics: [{csv: a, every: 0}]", "workload.metrics[0].every: expected a whole number of at least 1", "got 0"),
    (COMMAND + "\n  metrics: [{csv: a, every: 5, step: x}]", "`every` counts steps instead of reading them", ""),
    (COMMAND + "\n  metrics: [{csv: a, offset: 0.5}]", "workload.metrics[0].offset: expected a whole number", "got 0.5"),
    (COMMAND + "\n  metrics: stdout", "workload.metrics: expected a list of the places", ""),
    (COMMAND + "\n  checkpoints: model.pt", "workload.checkpoints: expected a path below {trial.dir}, such as", ""),
    (COMMAND + "\n  checkpoints: '{trial.dir}/../{step}'", "workload.checkpoints: expected a path below {trial.dir}", ""),
    (COMMAND + "\n  checkpoints: '{trial.dir}/*/last.pt'", "expected {step} in a path with wildcards", "got '{trial.dir}/*/last.pt'"),
    (COMMAND + "\n  checkpoints: {path: '{trial.dir}/a.pt', every: 5}", "`every` and `offset` need {step} in the path", ""),
    (COMMAND + "\n  baseline_loss: ln 10", "workload.baseline_loss: expected a number, the training loss of the best constant", "2.303"),
    (COMMAND + "\n  baseline_loss: .inf", "workload.baseline_loss: expected a number, the training loss of the best constant", "got"),
    ("  command: [a, '{learning_rate}', {when: resume, arguments: [-r]}]", "{when: {trial.resume: true}, arguments:", ""),
    ("  command: [a, '{learning_rate}', {when: {trial.resum: true}, arguments: [-r]}]", "did you mean trial.resume?", ""),
    ("  command: [a, '{learning_rate}', {when: {trial.resume: 'true'}, arguments: [-r]}]", "is never true (text)", ""),
    (COMMAND + "\n  infeasible: {exit_codes: [0]}", "workload.infeasible.exit_codes[0]: expected exit codes, 1 to 255", ""),
    (COMMAND + "\n  infeasible: {metrics: [3]}", "workload.infeasible.metrics[0]: expected names of metrics", ""),
    (COMMAND + "\n  infeasible: {patterns: ['(']}", "workload.infeasible.patterns[0]: expected regular expressions", ""),
    (COMMAND + "\n  environment: {A=B: 1}", "no environment variable can have this name", ""),
    (COMMAND + "\n  environment: {A: '{nothing}'}", "{nothing} is not a hyperparameter", ""),
    ("  function: 5", "workload.function: expected text, got 5", ""),
    ("  function: a:b\n  metrics: []", "workload.metrics: no such key", ""),
]  # fmt: skip


@pytest.mark.parametrize(("workload", "said", "right"), BAD)
def test_a_problem_says_what_is_expected(tmp_path: Path, workload: str, said: str, right: str) -> None:
    found = problems(text(workload), tmp_path)
    assert any(said in line and right in line for line in found), found


def test_a_value_that_is_there_only_sometimes_wants_a_list_of_its_own(tmp_path: Path) -> None:
    entries = RATE + "\n  momentum: {role: nuisance, when: {nesterov: true}, range: [0.5, 0.9]}"
    entries += "\n  nesterov: {role: scientific, values: [true, false]}"
    found = problems(
        text("  command: [a, '{learning_rate}', --momentum, '{momentum}', '{nesterov}']", entries), tmp_path
    )
    assert len(found) == 1
    assert "workload.command[3]: {momentum} has no value where nesterov is false; put it" in found[0]


def test_a_program_that_reads_the_file_of_all_is_given_all(tmp_path: Path) -> None:
    assert problems(text("  command: [a, '{trial.hyperparameters}']"), tmp_path) == []


def test_a_switch_needs_no_place(tmp_path: Path) -> None:
    entries = (
        RATE.replace("role: nuisance", "role: nuisance, when: {tuned: true}")
        + "\n  tuned: {role: scientific, values: [true, false]}"
    )
    assert problems(text("  command: [a, [--lr, '{learning_rate}']]", entries), tmp_path) == []


@pytest.mark.parametrize(
    ("first", "second", "owner"),
    [
        ("lr", "LR", "lr"),
        ("straße", "strasse", "straße"),
        ("a", "trial_id", "{trial.id}"),
        ("a", "Trial_Resume", "{trial.resume}"),
        ("a", "MAX_train_steps", "{max_train_steps}"),
        ("a", "server", "tunectl itself"),
        ("a", "trial_record", "tunectl itself"),
    ],
)
def test_no_two_values_have_one_environment_variable(tmp_path: Path, first: str, second: str, owner: str) -> None:
    entries = f"  {first}: {{role: nuisance, range: [1e-3, 1], scale: log}}\n  {second}: 3"
    (found,) = problems(text(f"  command: [a, '{{{first}}}', '{{{second}}}']", entries), tmp_path)
    variable = f"TUNECTL_{second.upper()}"
    where = f"8: hyperparameters.{second}: its environment variable, {variable}, is also that of {owner}"
    assert found == f"{where}; give it another name"


def test_the_study_stays_the_same_where_it_is_moved_as_a_whole(tmp_path: Path) -> None:
    one, other = (parse_study(text(), tmp_path / name / "study.yaml") for name in ("a", "b"))
    assert differences(one, other) == Differences()
    changed = parse_study(text(COMMAND.replace("--lr", "--rate")), tmp_path / "a" / "study.yaml")
    assert any("workload.command" in line for line in differences(one, changed).results)
    assert "workload.command" in identity(one)


def test_a_study_of_own_code_needs_steps_and_no_cadence(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"training\.max_train_steps: the key is missing"):
        parse_study(text().replace("max_train_steps: 100", "seed: 0"), tmp_path / "study.yaml")


def test_placeholders_and_braces() -> None:
    assert names_in("{a}{{b}}{ c }") == ("a", "c")
    assert filled("{a}{{b}}{ c }", {"a": "1", "c": "{x}"}) == "1{b}{x}"
    with pytest.raises(ValueError, match=r"'\}' at character 3"):
        names_in("ab}")
    with pytest.raises(AbsentError):
        filled("{a}", {})


@pytest.mark.parametrize(("value", "shown"), [(1e-5, "1e-05"), (0.1, "0.1"), (3, "3"), (True, "true"), ("a b", "a b")])
def test_values_as_programs_read_them(value: float | str, shown: str) -> None:
    assert as_text(value) == shown


def test_arguments_under_a_condition_compare_truth_values_and_numbers_apart() -> None:
    arguments = ("a", Optional(("--one",), {"x": (1, 2)}), Optional(("--yes",), {"x": (True,)}))
    assert command_line(arguments, {}, {"x": 1}) == ["a", "--one"]
    assert command_line(arguments, {}, {"x": True}) == ["a", "--yes"]
    assert command_line(arguments, {}, {}) == ["a"]


SWITCHED = (
    RATE
    + """
  beta: {role: nuisance, when: {optimizer: adam}, range: [0.8, 0.99]}
  optimizer: {role: scientific, values: [sgd, adam]}"""
)


def test_a_list_that_is_left_out_takes_no_tuned_hyperparameter_with_it(tmp_path: Path) -> None:
    command = "  command: [a, ['--lr={learning_rate}', '--beta={beta}'], '{optimizer}']"
    (found,) = problems(text(command, SWITCHED), tmp_path)
    assert "hyperparameters.learning_rate: the command does not get learning_rate where optimizer is sgd" in found
    apart = "  command: [a, '--lr={learning_rate}', ['--beta={beta}'], '{optimizer}']"
    assert problems(text(apart, SWITCHED), tmp_path) == []


@pytest.mark.parametrize(("value", "said"), [('"true"', "nesterov is never true (text)"), ("1", "nesterov is never 1")])
def test_a_condition_that_never_holds_is_refused(tmp_path: Path, value: str, said: str) -> None:
    command = f"  command: [a, '{{learning_rate}}', {{when: {{nesterov: {value}}}, arguments: [--nesterov]}}]"
    (found,) = problems(text(command, RATE + "\n  nesterov: {role: scientific, values: [true, false]}"), tmp_path)
    assert said in found


RESUMING = "{when: {trial.resume: true}, arguments: [--init_from=resume]}"


def test_arguments_for_a_trial_that_goes_on_are_left_out_where_one_begins(tmp_path: Path) -> None:
    command = f"  command: [a, '{{learning_rate}}', {RESUMING}, {{when: {{trial.resume: false}}, arguments: [--new]}}]"
    content = text(command + "\n  checkpoints: '{trial.dir}/ckpt.pt'")
    assert problems(content, tmp_path) == []
    program = parse_study(content, tmp_path / "study.yaml").program
    assert program is not None
    assert (program.takes_resume, program.can_resume, program.checkpoints) == (
        True,
        True,
        Checkpoints("{trial.dir}/ckpt.pt"),
    )
    values = {"learning_rate": "0.1"}
    assert command_line(program.arguments, values, {}) == ["a", "0.1", "--new"]
    resumed = {**values, "trial.resume": "/x/ckpt.pt"}
    assert command_line(program.arguments, resumed, {}) == ["a", "0.1", "--init_from=resume"]


def test_a_condition_on_going_on_goes_with_others(tmp_path: Path) -> None:
    condition = "{when: {trial.resume: true, nesterov: true}, arguments: ['--from={trial.resume}']}"
    switch = RATE + "\n  nesterov: {role: scientific, values: [true, false]}"
    content = text(f"  command: [a, '{{learning_rate}}', {condition}]", switch)
    assert problems(content, tmp_path) == []
    program = parse_study(content, tmp_path / "study.yaml").program
    assert program is not None
    values = {"learning_rate": "0.1", "trial.resume": "c"}
    assert command_line(program.arguments, values, {"nesterov": True}) == ["a", "0.1", "--from=c"]
    assert command_line(program.arguments, values, {"nesterov": False}) == ["a", "0.1"]


@pytest.mark.parametrize(("value", "where"), [("true", "a trial starts"), ("false", "a trial is resumed")])
def test_a_hyperparameter_must_reach_a_trial_that_begins_and_one_that_goes_on(
    tmp_path: Path, value: str, where: str
) -> None:
    command = f"  command: [a, {{when: {{trial.resume: {value}}}, arguments: ['{{learning_rate}}']}}]"
    (found,) = problems(text(command), tmp_path)
    assert f"the command does not get learning_rate where {where}" in found


def test_a_baseline_is_how_a_study_is_read_and_one_without_stays_what_it_was(tmp_path: Path) -> None:
    plain = parse_study(text(), tmp_path / "study.yaml")
    given = parse_study(text(COMMAND + "\n  baseline_loss: 2.303"), tmp_path / "study.yaml")
    assert (plain.baseline_loss, given.baseline_loss) == (None, 2.303)
    assert "baseline_loss" not in identity(plain)
    found = differences(plain, given)
    assert (found.results, found.reading) == ((), ("workload.baseline_loss: was not there, is 2.303",))
    function = parse_study(text("  {function: ./a.py:b, baseline_loss: 1}"), tmp_path / "study.yaml")
    assert (function.workload_kind, function.baseline_loss) == ("function", 1.0)
