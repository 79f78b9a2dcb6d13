"""Warnings about a study of own code: for each a study that raises it and a close neighbour that does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from builders import study

from tunectl.core.installation import install_command
from tunectl.language.review import review
from tunectl.language.review_own_code import review_seed
from tunectl.language.study_reader import parse_study

STUDY = """\
study: own
workload:
  command: [python, train.py, "{{learning_rate}}"]
  metrics: [{metrics}]
objective: {{metric: valid/loss, direction: minimize}}
training: {{max_train_steps: 10{training}}}
hyperparameters: {{learning_rate: {{role: nuisance, range: [1e-3, 1], scale: log}}}}
search: {{trials: 9}}
"""
TOLD = r"{regex: 'step (?P<step>\d+) (?P<valid__loss>\S+)'}"


def warnings(metrics: str = TOLD, training: str = "") -> list[str]:
    spec = parse_study(STUDY.format(metrics=metrics, training=training), Path("own.yaml"))
    return [str(problem) for problem in review(spec, ({},), (9,))]


def test_a_study_whose_expression_names_the_objective_raises_none() -> None:
    assert warnings() == []


def test_an_objective_that_no_expression_names_is_warned_about_where_no_other_source_may_have_it() -> None:
    other = TOLD.replace("valid__loss", "val_loss")
    (found,) = warnings(other)
    assert found.startswith("own.yaml:5:")
    assert "no expression under workload.metrics names valid/loss; did you mean val_loss?" in found
    assert "tunectl.record" in found
    assert warnings(f"{other}, {{json_lines: stdout}}") == [], "which may hold anything"
    assert warnings("") == [], "it is recorded by tunectl.record"


def test_recovery_is_of_our_own_loop() -> None:
    (found,) = warnings(training=", recovery: {learning_rate_factor: 0.5, max_recoveries: 2}")
    assert "only tunectl's own training loop has recovery, and a command trains by itself" in found


@pytest.mark.parametrize("is_there", [False, True])
def test_a_missing_package_is_reported_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if is_there else None)
    found = warnings('{tensorboard: "{trial.dir}/logs"}')
    assert found == [] if is_there else install_command("tensorboard") in found[0]


SEEDED = 'import os, random\nrandom.seed(int(os.environ["TUNECTL_TRIAL_SEED"]))\n'
FIXED = "import torch\n\n\ndef train(trial, *, learning_rate):\n    torch.manual_seed(0)\n"


def seed_warnings(command: str, source: str | None, *, environment: str = "{}") -> list[str]:
    text = STUDY.format(metrics=TOLD, training="").replace('[python, train.py, "{learning_rate}"]', command)
    text = text.replace("  metrics:", f"  environment: {environment}\n  metrics:")
    return [problem.message for problem in review_seed(parse_study(text, Path("own.yaml")), source)]


def function_warnings(source: str | None) -> list[str]:
    text = STUDY.format(metrics=TOLD, training="").replace('command: [python, train.py, "{learning_rate}"]', "")
    text = text.replace(f"metrics: [{TOLD}]", "function: ./mine.py:train")
    return [problem.message for problem in review_seed(parse_study(text, Path("own.yaml")), source)]


def test_a_program_that_nothing_gives_its_seed_to_is_warned_about() -> None:
    (found,) = seed_warnings('[python, train.py, "{learning_rate}"]', "import random\nrandom.seed(1337)\n")
    assert found.startswith("neither the command nor its environment nor the program's file names the trial's seed:")
    assert "{trial.seed}" in found
    assert "TUNECTL_TRIAL_SEED" in found


def test_a_program_whose_file_is_not_known_is_warned_about_with_that_said() -> None:
    (found,) = seed_warnings('[python, -m, package.train, "{learning_rate}"]', None)
    assert "(the program's own file was not found)" in found


@pytest.mark.parametrize(
    "command",
    [
        '[python, train.py, "{learning_rate}", "--seed={trial.seed}"]',
        '[python, train.py, "{learning_rate}", [--seed, "{trial.seed}"]]',
        '[python, train.py, "{learning_rate}", --config, "{trial.hyperparameters}"]',
        '[sh, -c, "python train.py --seed $TUNECTL_TRIAL_SEED --lr {learning_rate}"]',
    ],
)
def test_a_command_with_the_seed_in_any_of_its_places_raises_none(command: str) -> None:
    assert seed_warnings(command, "import random\n") == []


def test_a_seed_in_the_environment_or_read_by_the_program_raises_none() -> None:
    command = '[python, train.py, "{learning_rate}"]'
    assert seed_warnings(command, "", environment='{PYTHONHASHSEED: "{trial.seed}"}') == []
    assert seed_warnings(command, SEEDED) == []


def test_a_function_is_warned_about_only_where_it_seeds_something_itself() -> None:
    (found,) = function_warnings(FIXED)
    assert "the function's file seeds something itself without trial.seed" in found
    assert function_warnings(FIXED.replace("manual_seed(0)", "manual_seed(trial.seed)")) == []
    assert function_warnings("def train(trial, *, learning_rate):\n    trial.record(1, {})\n") == []
    assert function_warnings(FIXED.replace("manual_seed(0)", "manual_seed(args.seed)")) != [], "of another thing"
    assert function_warnings(FIXED + "    prepare(trial)\n") == [], "which may read it"
    assert function_warnings(None) == []


def test_a_workload_of_a_factory_takes_its_seed_from_tunectl() -> None:
    assert review_seed(study(), None) == []


RESUME = "{when: {trial.resume: true}, arguments: [--resume]}"


def test_a_program_that_goes_on_from_nowhere_is_warned_about() -> None:
    def found(checkpoints: str, metrics: str = TOLD) -> list[str]:
        content = STUDY.replace(
            '"{{learning_rate}}"', f'"{{{{learning_rate}}}}", {RESUME.replace("{", "{{").replace("}", "}}")}'
        )
        content = content.format(metrics=metrics, training="").replace("\nobjective", f"{checkpoints}\nobjective")
        return [str(problem) for problem in review(parse_study(content, Path("own.yaml")), ({},), (9,))]

    (warning,) = found("")
    assert "the command takes trial.resume, but it is not known where the program saves; add checkpoints" in warning
    assert found('\n  checkpoints: "{trial.dir}/ckpt.pt"') == []
    (warning,) = found('\n  checkpoints: "{trial.dir}/ckpt.pt"', "{regex: 'loss (?P<valid__loss>.)', every: 5}")
    assert "such a trial will start again from the beginning" in warning
    assert found('\n  checkpoints: "{trial.dir}/{step}.pt"', "{regex: 'loss (?P<valid__loss>.)', every: 5}") == []


def test_a_baseline_beside_no_training_loss_is_warned_about() -> None:
    def found(metrics: str) -> list[str]:
        content = STUDY.format(metrics=metrics, training="").replace("\nobjective", "\n  baseline_loss: 2.3\nobjective")
        return [str(problem) for problem in review(parse_study(content, Path("own.yaml")), ({},), (9,))]

    (warning,) = found(TOLD)
    assert "baseline_loss is compared with train/loss, which no expression under workload.metrics names" in warning
    assert found(TOLD + r", {regex: 'train (?P<train__loss>\S+)'}") == []
    assert found(TOLD + ", {json_lines: stdout}") == [], "which may hold anything"
