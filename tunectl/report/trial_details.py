"""What a trial opens to on the page: its values, times, checkpoint, curves and the end of its log."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Container, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tunectl.analysis.results.runs import Run
from tunectl.core import regular_files
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.measurement_kinds import is_before_training, is_detail
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import CommandRequest, request_in
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import TrialOutcome
from tunectl.core.safe_text import LogText
from tunectl.core.typed_fields import DamagedError
from tunectl.core.whole_splits import is_sample_error
from tunectl.core.wording import as_text, short_number
from tunectl.language.placeholders import AbsentError, command_line
from tunectl.programs.program_start import placeholder_values
from tunectl.report.page_model import TrialDetail
from tunectl.store.trial_files import recorded_attempts

_CURVE_POINTS = 200
_LOG_TAIL_BYTES = 1500
_ANY_TRIAL = "ANYTRIAL"
_T = TypeVar("_T")


def trial_commands(folder: StudyFolder) -> list[tuple[str, str]]:
    """The commands about a trial of the folder, each as its text before and after the number of the trial."""
    commands = [
        tunectl_command("show", folder.path, _ANY_TRIAL, "--command"),
        tunectl_command("logs", folder.path, _ANY_TRIAL),
    ]
    parts = (command.rpartition(_ANY_TRIAL) for command in commands)
    return [(before, after) for before, _, after in parts]


def trial_detail(
    folder: StudyFolder,
    run: Run,
    outcome: TrialOutcome | None,
    objective: Objective,
    *,
    sampled: Container[str] = (),
    varying: Collection[str] = (),
) -> TrialDetail:
    """What the trial opens to; reads the end of its log.

    Of the splits `sampled` only a sample is evaluated; `varying` are the hyperparameters that differ between trials.
    """
    curves = {
        name: (_thinned(steps.tolist()), _thinned(values.tolist()))
        for name, (steps, values) in run.curves.items()
        if not is_detail(name) and not is_before_training(name) and not is_sample_error(name, sampled)
    }
    values = {name: as_text(value) for name, value in run.plan.hyperparameters.items()}
    log = _tail(folder.trial(run.plan.trial).log, folder.path)
    facts = [*_facts(run, objective), *(_facts_of_outcome(folder, outcome) if outcome is not None else ())]
    message = outcome.message if outcome is not None else ""
    own = [name for name in values if name in varying]
    called = _call(StudyFolder(folder.path.absolute()).trial(run.plan.trial), folder.path.absolute())
    return TrialDetail(run.plan.trial, run.state, run.reason, message, values, facts, curves, log, own, called)


def _facts(run: Run, objective: Objective) -> Iterator[tuple[str, str]]:
    if run.best_value is not None and objective.steps_to is not None:
        yield "target", f"{objective.target} at step {run.best_step}"
    elif run.best_value is not None:
        yield "best", f"{run.best_value:.6g} at step {run.best_step}"
    elif run.never_reached(objective):
        yield "target", f"{objective.target} not reached by step {run.last_step(objective):.0f}"
    if run.infeasible_step is not None:
        yield "infeasible at step", str(run.infeasible_step)
    yield "setting", str(run.plan.setting)
    yield "seed", str(run.plan.seed)
    yield "kind", run.plan.trial_kind
    if run.plan.suggestion:
        yield "proposed by", str(run.plan.suggestion.get("engine", "a model"))


def _facts_of_outcome(folder: StudyFolder, outcome: TrialOutcome) -> Iterator[tuple[str, str]]:
    """Its last evaluation, checkpoint, times and device, as far as they are known."""
    if outcome.final_value is not None and outcome.final_step is not None:
        yield "last", f"{short_number(outcome.final_value)} at step {outcome.final_step}"
    if outcome.best_checkpoint:
        yield "checkpoint", str(folder.path / outcome.best_checkpoint)
    times = (
        ("training", outcome.train_seconds),
        ("evaluation", outcome.eval_seconds),
        ("start", outcome.startup_seconds),
    )
    for name, seconds in times:
        if seconds is not None:
            yield f"{name} time", f"{short_number(float(seconds), 3)} s"
    if outcome.device:
        yield "device", outcome.device
    if outcome.attempts > 1:
        reasons = ", ".join(attempt.reason for attempt in recorded_attempts(folder.trial(outcome.plan.trial)))
        yield "attempts", f"{outcome.attempts}{reasons and f': {reasons}'}"
    yield "folder", str(folder.trial(outcome.plan.trial).path)


def _call(folder: TrialFolder, within: Path) -> str:
    """The call of the user's program with all values, as a line for a shell; "" where there is none."""
    try:
        request = request_in(regular_files.content(folder.request, within=within))
    except (OSError, DamagedError):
        return ""
    # Of several devices torchrun is called, whose words are its own.
    if not isinstance(request, CommandRequest) or request.program.devices > 1:
        return ""
    try:
        line = command_line(
            request.program.arguments, placeholder_values(request, folder, None), request.hyperparameters
        )
    except AbsentError:  # the program always takes a checkpoint
        return ""
    return shlex.join(line)


def _thinned(values: Sequence[_T]) -> list[_T]:
    """At most _CURVE_POINTS of the values, evenly, with both ends."""
    if len(values) <= _CURVE_POINTS:
        return list(values)
    last = len(values) - 1
    return [values[index * last // (_CURVE_POINTS - 1)] for index in range(_CURVE_POINTS)]


def _tail(path: Path, within: Path) -> str:
    try:
        with regular_files.opened(path, within=within) as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LOG_TAIL_BYTES))
            return LogText().text(file.read(), final=True)
    except OSError:
        return ""
