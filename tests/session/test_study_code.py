"""A study that names its own optimizer or schedule, from its file to the requests of its trials.

Tests session/study_code.py, language/code_checks.py, language/review_code.py, and what they add to consumed_names.py,
study_reader.py and trial_requests.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import NUISANCE_RATE, study_text

from tunectl.core.errors import StudyError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import FactorySignature, TrialRequest, WorkloadReference
from tunectl.core.user_code import FoundCode
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.session.study_code import changed_files, own_files
from tunectl.session.trial_requests import trial_request
from tunectl.space.trial_plan import plan_trials
from tunectl.store.provenance import append_provenance, describe_run

MINE = """
class Lion:
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, *, nesterov=False): ...

class Needing(Lion):
    def __init__(self, params, lr, gamma): ...

class Rateless:
    def __init__(self, params, speed=1.0): ...

class Unclear(Lion):
    pass

class Lazy:
    def __init__(self, params, lr=None): ...

def made(params, lr=0.1, **options): ...

def decay(step, total_steps, power=1.0): ...

def needing(step, *, floor): ...
"""
RATE = {"learning_rate": NUISANCE_RATE}
BOTH = '{role: scientific, values: [adam, "./mine.py:Lion"]}'
LION = '"./mine.py:Lion"'

Checked = Callable[..., CheckedStudy]


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    def check(hyperparameters: dict[str, Any], **sections: Any) -> CheckedStudy:
        (tmp_path / "mine.py").write_text(MINE)
        path = tmp_path / "a_study.yaml"
        plain = {"goal": "Which is better?", "search": "{trials: 20}"}
        path.write_text(study_text(hyperparameters, **{**plain, **sections}))
        return check_study(path, tmp_path)

    return check


def requests(found: CheckedStudy) -> list[TrialRequest]:
    made = [trial_request(found.spec, found.reference, found.signature, trial) for trial in plan_trials(found.spec)]
    assert all(isinstance(request, TrialRequest) for request in made)
    return made  # type: ignore[return-value]


def problems(checked: Checked, hyperparameters: dict[str, Any]) -> list[str]:
    with pytest.raises(StudyError) as refused:
        checked(hyperparameters)
    return [f"{problem.path}: {problem.message}" for problem in refused.value.problems]


def test_a_request_says_where_the_code_is_and_what_it_gets(checked: Checked, tmp_path: Path):
    code = {"optimizer": LION, "beta1": "0.8", "schedule": "./mine.py:decay", "power": "2", "batch_size": "32"}
    configuration = requests(checked({**code, "learning_rate": "0.01"}))[0].configuration
    optimizer, schedule = configuration["optimizer_code"], configuration["schedule_code"]
    assert optimizer["reference"]["file"] == str(tmp_path / "mine.py")
    assert optimizer["reference"]["kind"] == "optimizer"
    assert optimizer["arguments"] == {"learning_rate": 0.01, "beta1": 0.8}
    assert schedule["reference"]["factory"] == "decay"
    assert schedule["arguments"] == {"power": 2}


def test_each_setting_has_the_code_of_its_optimizer(checked: Checked):
    switch = "{role: nuisance, when: {optimizer: './mine.py:Lion'}, values: [true, false]}"
    found = requests(checked({**RATE, "optimizer": BOTH, "nesterov": switch}))
    by_optimizer = {request.configuration["optimizer"]: request.configuration for request in found}
    assert "optimizer_code" not in by_optimizer["adam"]
    assert set(by_optimizer["./mine.py:Lion"]["optimizer_code"]["arguments"]) == {"learning_rate", "nesterov"}


def test_without_a_learning_rate_the_default_of_the_class_is_the_base_rate_and_is_in_the_request(checked: Checked):
    found = requests(checked({"optimizer": LION, "learning_rate": None}))[0]
    assert found.configuration["learning_rate"] == 1e-4
    assert found.configuration["optimizer_code"]["arguments"] == {}


def test_a_class_of_a_library_is_read_from_its_source(checked: Checked):
    found = checked({"optimizer": "torch.optim:Adagrad", "lr_decay": "0.1", "epsilon": "1e-6"})
    signature = found.spec.code["torch.optim:Adagrad"].signature
    assert signature.parameters[:2] == ("lr", "lr_decay")
    assert signature.file is not None
    assert signature.file.endswith("adagrad.py")
    assert not found.unseen_code


def test_what_the_source_does_not_show_is_left_to_the_probe_and_passed_as_far_as_nothing_else_takes_it(
    checked: Checked,
):
    found = checked({"optimizer": '"./mine.py:Unclear"', "gamma": "0.5", "width": "32"})
    code = requests(found)[0].configuration["optimizer_code"]
    assert code["arguments"] == {"learning_rate": 0.1, "gamma": 0.5}
    assert code["if_taken"] == {"width": 32}
    assert found.unseen_code == [
        "./mine.py:Unclear: its arguments are checked by run or check --probe: Unclear is a class"
    ]


def test_what_another_optimizer_uses_is_passed_to_an_unclear_one_only_if_it_takes_it_and_to_one_of_any_keyword_always(
    checked: Checked,
):
    for name, passed, maybe in (
        ("Unclear", set(), {"momentum", "nesterov"}),
        ("made", {"momentum", "nesterov"}, set()),
    ):
        values = f'{{role: scientific, values: [momentum, "./mine.py:{name}"]}}'
        switch = "[{value: 0.9, when: {nesterov: true}}, {value: 0.8, when: {nesterov: false}}]"
        found = checked(
            {
                "optimizer": values,
                "momentum": switch,
                "nesterov": "{role: nuisance, values: [true, false]}",
                "width": "8",
            }
        )
        code = next(r.configuration["optimizer_code"] for r in requests(found) if "optimizer_code" in r.configuration)
        assert set(code["arguments"]) == {"learning_rate", *passed}
        assert set(code["if_taken"]) == {"width", *maybe}


@pytest.mark.parametrize(
    ("hyperparameters", "problem"),
    [
        ({"optimizer": '"./mine.py:Tiger"'}, "optimizer: ./mine.py:Tiger: "),
        ({"optimizer": '"./none.py:Lion"'}, "none.py does not exist"),
        ({"optimizer": '"./mine.py:"'}, "optimizer: expected module:Name (such as torch.optim:Muon) or ./mine.py:Name"),
        ({"schedule": '"mine:2x"'}, "schedule: expected module:function (such as my_schedules:decay)"),
        ({"optimizer": '"torch.optim:Tiger"'}, "is installed; another version may have it)"),
        ({"optimizer": LION, "lr": "0.1"}, "lr: expected learning_rate for the parameter lr of ./mine.py:Lion"),
        ({"optimizer": LION, "betas": "0.1"}, "betas: expected beta1 and beta2 for the parameter betas of ./mine.py:L"),
        ({"optimizer": LION, "gamma": "1"}, "gamma: gamma is not used: it is not a keyword of the factory or a trai"),
        ({"optimizer": LION, "momentum": "0.9"}, "momentum: momentum is not used in any setting: optimizer is ./mine"),
        ({"optimizer": '"./mine.py:Needing"'}, "needs gamma, without a default: write a value of gamma"),
        ({"optimizer": '"./mine.py:Rateless"'}, "has no parameter lr, by which it would get its learning rate"),
        (
            {"optimizer": '"./mine.py:Needing"', "gamma": "1", "learning_rate": None},
            "needs lr, without a default: write a value of learning_rate",
        ),
        (
            {"optimizer": '"./mine.py:Lazy"', "learning_rate": None},
            "its default of lr is not a number that its source shows: write a value of learning_rate",
        ),
        ({"optimizer": LION, "initialisation": "gradinit"}, "gradinit needs to know whether the optimizer is adaptive"),
        ({"schedule": '"./mine.py:needing"'}, "needs floor, without a default: write a value of floor"),
        ({"optimizer": LION, "schedule": LION}, "./mine.py:Lion is an optimizer and a schedule at once"),
        (
            {"optimizer": BOTH, "nesterov": "{role: nuisance, values: [true, false]}"},
            "nesterov is not used where optimizer is adam, only where it is ./mine.py:Lion: add when",
        ),
        (
            {"optimizer": BOTH, "learning_rate": "[{value: 1e-3, when: {optimizer: './mine.py:Lion'}}]"},
            "every trial needs one, and there is none where optimizer is adam",
        ),
    ],
)
def test_what_cannot_work_is_said_at_its_place(checked: Checked, hyperparameters: dict[str, Any], problem: str):
    found = problems(checked, hyperparameters)
    assert any(problem in line for line in found), found


def test_a_learning_rate_that_only_another_optimizer_has_leaves_the_default_of_the_class(checked: Checked):
    rate = "[{role: nuisance, when: {optimizer: adam}, range: [1e-4, 1e-1], scale: log}]"
    found = requests(checked({"optimizer": BOTH, "learning_rate": rate}))
    rates = {r.configuration["learning_rate"] for r in found if r.configuration["optimizer"] == "./mine.py:Lion"}
    assert rates == {1e-4}


def test_the_factory_that_takes_any_keyword_does_not_get_what_an_optimizer_takes(checked: Checked):
    found = checked({"optimizer": LION, "nesterov": "true"})
    anything = FactorySignature(open=True, reason="it takes **kwargs")
    trial = plan_trials(found.spec)[0]
    request = trial_request(found.spec, found.reference, anything, trial)
    assert isinstance(request, TrialRequest)
    assert request.arguments == {}


def test_a_comparison_with_an_optimizer_of_its_own_says_that_what_has_to_be_tuned_is_not_known(checked: Checked):
    rate = NUISANCE_RATE
    beta1 = "{role: nuisance, range: [0.8, 0.99], scale: one_minus_log}"
    found = [item.message for item in checked({"optimizer": BOTH, "learning_rate": rate, "beta1": beta1}).warnings]
    assert any(
        line.startswith(
            "./mine.py:Lion is compared with adam, and which of its hyperparameters have to be tuned is not"
        )
        and "it is tuned by learning_rate and beta1" in line
        for line in found
    )
    assert sum("may have another effect with each (./mine.py:Lion: not known)" in line for line in found) == 2
    alone = checked({"optimizer": LION, "learning_rate": rate}).warnings
    assert not any("not known" in item.message for item in alone)


def test_a_file_of_the_user_that_has_changed_since_the_last_run_is_known_and_an_installed_one_is_not_recorded(
    tmp_path: Path,
):
    mine, folder = tmp_path / "mine.py", StudyFolder(tmp_path / "runs")
    folder.path.mkdir()
    mine.write_text("a = 1")
    reference = WorkloadReference("./mine.py:Lion", "Lion", file=str(mine))
    installed = FactorySignature(file="/usr/lib/python3/dist-packages/torch/optim/adam.py")
    code = [FoundCode(reference, FactorySignature(file=str(mine))), FoundCode(reference, installed)]
    assert own_files(code) == [mine]
    assert changed_files(folder, None, code) == []
    now = datetime(2026, 1, 1, tzinfo=UTC)
    run = describe_run(
        ["run"], workload_file=None, study_file=None, study_folder=folder.path, now=now, code_files=own_files(code)
    )
    append_provenance(folder, run)
    assert changed_files(folder, None, code) == []
    mine.write_text("a = 2")
    assert changed_files(folder, None, code) == [mine]
