"""The rows of the index's table of trials, and the records that they hold."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any, get_args

from tunectl.core import jsontext
from tunectl.core.records import PlannedTrial, State, TrialOutcome

PLAN_COLUMNS = "trial, setting, point, repeat, kind, seed, coordinates, hyperparameters, training"
RESULT_COLUMNS = (
    "state, reason, message, best_step, best_value, final_step, final_value, best_checkpoint, metrics_at_best, "
    "infeasible_step, train_seconds, eval_seconds, startup_seconds, device, attempts, damage, stamp"
)

PLAN_ROW = f"{PLAN_COLUMNS}, plan_checksum"
TRIAL_ROW = f"{PLAN_ROW}, {RESULT_COLUMNS}, outcome_checksum"
_PLAN_VALUES = len(PLAN_COLUMNS.split(","))


def _real(value: float | None) -> float | str | None:
    """The value as SQLite can store it: SQLite would make NaN a NULL, and drops the sign of a zero."""
    return "nan" if value is not None and value != value else 0.0 if value == 0 else value


def _real_of(stored: float | str | None) -> float | None:
    """The number that `_real` stored; raises ValueError for anything else."""
    number = jsontext.number(stored)
    if number is None and stored is not None:
        raise ValueError(f"expected a number, got {stored!r}")
    return number


def marks(columns: str) -> str:
    """The placeholders for as many columns."""
    return ", ".join("?" * len(columns.split(",")))


def plan_row(trial: PlannedTrial) -> tuple[Any, ...]:
    """A planned trial as a row of PLAN_COLUMNS."""
    return (
        trial.trial,
        trial.setting,
        trial.point,
        trial.repeat,
        trial.trial_kind,
        trial.seed if trial.seed < 2**63 else str(trial.seed),
        json.dumps(list(trial.coordinates)),
        json.dumps(dict(trial.hyperparameters)),
        json.dumps(_packed(trial)),
    )


def _packed(trial: PlannedTrial) -> dict[str, Any]:
    """The content of the column `training`: it also holds the stage and the suggestion of the few trials with one."""
    return {**trial.training, **{name: value for name, value in trial.rare.items() if name != "training"}}


def trial_row(outcome: TrialOutcome, stamp: str) -> tuple[Any, ...]:
    """A planned trial and its outcome as a row of TRIAL_ROW."""
    plan, result = plan_row(outcome.plan), (*_result_row(outcome), stamp)
    return *plan, checksum(plan), *result, checksum((outcome.plan.trial, *result))


def _result_row(outcome: TrialOutcome) -> tuple[Any, ...]:
    """An outcome as a row of RESULT_COLUMNS, but for the stamp."""
    return (
        outcome.state if outcome.state != "running" else "pending",
        jsontext.encodable(outcome.reason),
        jsontext.encodable(outcome.message),
        outcome.best_step,
        _real(outcome.best_value),
        outcome.final_step,
        _real(outcome.final_value),
        outcome.best_checkpoint,
        jsontext.encodable(jsontext.encode(dict(outcome.metrics_at_best))),
        outcome.infeasible_step,
        _real(outcome.train_seconds),
        _real(outcome.eval_seconds),
        _real(outcome.startup_seconds),
        jsontext.encodable(outcome.device),
        outcome.attempts,
        jsontext.encodable(outcome.damage),
    )


def checksum(values: Iterable[Any]) -> int:
    """The checksum of some values of a row."""
    return zlib.crc32(repr(tuple(values)).encode("utf-8", "backslashreplace"))


def plan_of_row(row: tuple[Any, ...]) -> PlannedTrial:
    """The planned trial of a row of PLAN_ROW; raises ValueError and its like for a damaged row."""
    *values, stored = row
    if stored != checksum(values):
        raise ValueError(f"the plan of trial {row[0]} does not match its checksum")
    trial, setting, point, repeat, trial_kind, seed, coordinates, hyperparameters, training = values
    packed = json.loads(training)
    stage, suggestion = packed.pop("stage", 0), packed.pop("suggestion", {})
    return PlannedTrial(
        trial,
        setting,
        point,
        repeat,
        tuple(json.loads(coordinates)),
        json.loads(hyperparameters),
        int(seed),
        trial_kind,
        packed,
        stage,
        suggestion,
    )


def outcome_of_row(row: tuple[Any, ...]) -> TrialOutcome:
    """The outcome of a row that is TRIAL_ROW and whether the trial is running.

    Raises ValueError and its like for a damaged row.
    """
    plan = plan_of_row(row[: _PLAN_VALUES + 1])
    *rest, stored, is_running = row[_PLAN_VALUES + 1 :]
    if stored != checksum((plan.trial, *rest)):
        raise ValueError(f"the outcome of trial {plan.trial} does not match its checksum")
    state, reason, message, best_step, best_value, final_step, final_value, checkpoint, metrics, bad_step, *times = rest
    train_seconds, eval_seconds, startup_seconds, device, attempts, damage, _ = times
    if state not in get_args(State):
        raise ValueError(f"trial {plan.trial} has the state {state!r}")
    read = {name: jsontext.number(value) for name, value in json.loads(metrics).items()}
    return TrialOutcome(
        plan=plan,
        state="running" if is_running else state,
        reason=reason,
        message=message,
        best_step=best_step,
        best_value=_real_of(best_value),
        final_step=final_step,
        final_value=_real_of(final_value),
        best_checkpoint=checkpoint,
        metrics_at_best={name: value for name, value in read.items() if value is not None},
        infeasible_step=bad_step,
        train_seconds=_real_of(train_seconds),
        eval_seconds=_real_of(eval_seconds),
        startup_seconds=_real_of(startup_seconds),
        device=device,
        attempts=attempts,
        damage=damage,
    )
