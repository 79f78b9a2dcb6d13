"""The checks of the data for `check --probe`, in a process of their own, once for each way to build the data."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tunectl.core import regular_files
from tunectl.core.data_report import DataFinding, DataReport
from tunectl.core.errors import Problem
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial, TrialRequest
from tunectl.execution.backends.backend import Backend, ProcessEnded
from tunectl.execution.slots import Slot
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_study import CheckedStudy
from tunectl.session.trial_requests import trial_request
from tunectl.store.trial_files import read_result, write_request

SECONDS_IN_ALL = 30.0
"""The data of no further setting are looked at after this time; those of one take at most about 10 seconds to read."""

SECONDS_OF_A_SETTING = 60.0
"""The most time for one setting: a data set may need a minute for its first example."""

_POLL_SECONDS = 0.2


def data_report(
    backend: Backend, checked: CheckedStudy, trials: Sequence[PlannedTrial], slot: Slot, *, now: Callable[[], float]
) -> DataReport:
    """Look at the data of the first trial of each setting, until SECONDS_IN_ALL have passed.

    The backend has loaded the workload. What is found in several settings is in the report once.
    """
    began, looked_at, findings = now(), dict[str, tuple[int, int]](), dict[DataFinding, None]()
    first = {trial.setting: trial for trial in reversed(trials)}
    for setting in sorted(first):
        if looked_at and now() - began >= SECONDS_IN_ALL:
            break
        found = _looked_at(backend, checked, first[setting], slot, now=now)
        looked_at = looked_at or dict(found.looked_at)
        findings |= dict.fromkeys(found.findings)
    return DataReport(looked_at, tuple(findings), now() - began)


def _looked_at(
    backend: Backend, checked: CheckedStudy, trial: PlannedTrial, slot: Slot, *, now: Callable[[], float]
) -> DataReport:
    request = trial_request(checked.spec, checked.reference, checked.signature, trial)
    assert isinstance(request, TrialRequest)
    with tempfile.TemporaryDirectory(prefix="tunectl-") as place:
        folder = StudyFolder(Path(place)).trial(trial.trial)
        write_request(folder, replace(request, workload_kind="data_checks"))
        backend.launch(trial.trial, folder.path, slot, 1)
        until, killed = now() + SECONDS_OF_A_SETTING, False
        while not any(isinstance(event, ProcessEnded) for event in backend.poll(_POLL_SECONDS)):
            if now() >= until and not killed:
                backend.kill(trial.trial)
                killed = True
        try:
            return DataReport.from_json(json.loads(regular_files.content(folder.data_report, within=folder.study)))
        except (OSError, ValueError, KeyError, TypeError):
            result = read_result(folder)
            why = f"took more than {SECONDS_OF_A_SETTING:.0f} seconds" if killed else "ended without a report"
            said = f": {result.message}" if result is not None and result.message else ""
            return DataReport(findings=(DataFinding("not looked at", "", f"the check of the data {why}{said}"),))


def as_warnings(spec: StudySpec, report: DataReport) -> list[Problem]:
    """The doubts about the data as warnings, at the place of the workload in the study file."""
    return [spec.problem(("workload",), f"data: {item.message}") for item in report.findings if item.doubt]


def as_lines(report: DataReport) -> list[str]:
    """What was looked at, and what is worth knowing, a line for each."""
    parts = [
        f"{part:,} of {name}" if part == whole else f"{part:,} of {whole:,} of {name}"
        for name, (part, whole) in report.looked_at.items()
    ]
    lines = [f"data: looked at {', '.join(parts)}"] if parts else []
    return [*lines, *(f"data: {item.message}" for item in report.findings if not item.doubt)]
