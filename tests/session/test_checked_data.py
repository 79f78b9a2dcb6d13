"""The check of the data by a backend in this process that writes what the processes would find."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from study_calls import Called

from tunectl.core.data_report import DataFinding, DataReport
from tunectl.core.folders import StudyFolder
from tunectl.execution.backends.backend import BackendEvent, ProcessEnded
from tunectl.execution.devices import Device
from tunectl.execution.slots import Slot
from tunectl.session.checked_data import SECONDS_IN_ALL, SECONDS_OF_A_SETTING, as_lines, as_warnings, data_report
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.space.trial_plan import plan_trials
from tunectl.store.trial_files import read_trial

STUDY = """\
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 100, eval_every: 50}
hyperparameters:
  width: {role: scientific, values: [8, 16, 32]}
  learning_rate: 0.1
  optimizer: sgd
"""

SAME = DataFinding("duplicates", "valid", "3 of valid are in train", 3)
NOTE = DataFinding("constant", "train", "1 of the 9 features is constant", 1, doubt=False)


class Reports:
    """A backend whose trials write these reports, by setting; None: nothing is written, and they never end."""

    def __init__(self, reports: Sequence[DataReport | None]) -> None:
        self.reports = reports
        self.requests: list[Mapping[str, Any]] = []
        self.killed: list[int] = []
        self.running = -1

    def launch(self, trial: int, folder: Path, _slot: Slot, _attempt: int) -> None:
        place, self.running = StudyFolder(folder.parent.parent).trial(trial), trial
        self.requests.append(dict(read_trial(place).request or {}))
        report = self.reports[trial]
        if report is not None:
            place.data_report.write_text(json.dumps(report.to_json()))

    def end_recorded(self, trial: int) -> None: ...

    def poll(self, _timeout: float) -> list[BackendEvent]:
        goes_on = self.reports[self.running] is None and self.running not in self.killed
        return [] if goes_on else [ProcessEnded(self.running, 0, None, 1.0)]

    def kill(self, trial: int) -> None:
        self.killed.append(trial)


@pytest.fixture
def checked(tmp_path: Path) -> CheckedStudy:
    (tmp_path / "study.yaml").write_text(STUDY)
    return check_study(tmp_path / "study.yaml", tmp_path)


def looked(
    checked: CheckedStudy, reports: Sequence[DataReport | None], tick: float = 0.0
) -> tuple[DataReport, Reports]:
    backend, clock = Reports(reports), itertools.count(0, tick)
    slot, trials = Slot(0, Device("cpu"), {}, "cpu"), plan_trials(checked.spec)
    return data_report(backend, checked, trials, slot, now=lambda: float(next(clock))), backend  # type: ignore[arg-type]


def test_what_several_settings_have_is_said_once_as_a_warning_at_the_workload(checked: CheckedStudy) -> None:
    one = DataReport({"train": (9, 90), "valid": (5, 5)}, (SAME, NOTE))
    report, backend = looked(checked, [one, one, DataReport({"train": (90, 90)}, (NOTE,))])
    assert [request["kind"] for request in backend.requests] == ["data_checks"] * 3
    (warning,) = as_warnings(checked.spec, report)
    assert (warning.line, warning.message) == (1, "data: 3 of valid are in train")
    assert as_lines(report) == [
        "data: looked at 9 of 90 of train, 5 of valid",
        "data: 1 of the 9 features is constant",
    ]


def test_settings_after_the_time_are_passed_over(checked: CheckedStudy) -> None:
    one = DataReport({"train": (9, 9)})
    _, backend = looked(checked, [one, one, one], tick=SECONDS_IN_ALL / 3)
    assert len(backend.requests) < 3


def test_data_that_take_too_long_are_given_up_and_that_is_said(checked: CheckedStudy) -> None:
    report, backend = looked(checked, [None, None, None], tick=SECONDS_OF_A_SETTING / 100)
    assert backend.killed
    (warning,) = as_warnings(checked.spec, report)
    assert warning.message == "data: the check of the data took more than 60 seconds"


WORKLOAD = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from tunectl import Workload

def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

def factory():
    x = torch.rand(90, 9, generator=torch.Generator().manual_seed(0))
    y = torch.arange(90) % 2
    data = {"train": TensorDataset(x[:60], y[:60]), "valid": TensorDataset(x[57:], y[57:])}
    return Workload(nn.Linear(9, 2), data, loss)
"""


def test_check_with_a_probe_warns_of_planted_duplicates_and_its_exit_code_is_0(
    tunectl: Callable[..., Called], tmp_path: Path
) -> None:
    (tmp_path / "leaky.py").write_text(WORKLOAD)
    study = tmp_path / "leaky.yaml"
    study.write_text(
        STUDY.replace("tunectl.workloads.digits:mlp", "./leaky.py:factory").replace("  width", "  # width")
    )
    called = tunectl("check", "--probe", study)
    assert called.code == 0, called.err
    said = "1:11: workload: data: 3 of the 33 examples of valid are in train too, with the same values"
    assert said in called.messages
    assert "data: looked at 60 of train, 33 of valid" in called.out
