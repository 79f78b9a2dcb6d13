"""Another tool's study as one of ours: the study file, the planned trials, and what each of them left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunectl.core.errors import UsageError
from tunectl.core.jsontext import one_line
from tunectl.core.measurements import Measurement
from tunectl.core.records import PlannedTrial, Scalar, State, TrialResult
from tunectl.core.wording import counted
from tunectl.exchange.foreign_names import changed_choices, domain_of, legal_names, metric_name, study_name, value_in
from tunectl.exchange.foreign_study import ForeignStudy, ForeignTrial
from tunectl.exchange.inferred_conditions import When, conditions
from tunectl.language.study_edit import in_flow
from tunectl.space.domains import FixedValue, Range, SampledDomain

PROGRAM = "./name-the-program-that-was-tuned"
"""The program in the command of an imported study, since the other tool does not know what was trained: there is no
such file, and `run` and `check` say so.
"""

_HEAD = """\
# Imported by `tunectl import` from the Optuna study {name} in {source}.
# Optuna does not know what was trained: to run trials of a next round, name your program under `command`, and under
# `metrics` where it prints {metric}, such as {{regex: 'value (?P<{group}>\\S+)'}}.
"""

PRUNED = "pruned"
"""The reason of a trial that the other tool stopped early."""

Rule = Literal["best", "final", "apart"]
"""How a trial's end result and its intermediate values belong together: it is the best of them, the last of them, or
something else, and then a metric of its own.
"""


@dataclass(frozen=True, slots=True)
class ImportedTrial:
    """A trial and the content of its folder."""

    plan: PlannedTrial
    measurements: Sequence[Measurement]
    result: TrialResult


@dataclass(frozen=True, slots=True)
class ImportedStudy:
    """A study to be written. `remarks` are for the user: what could not be carried over as it was."""

    name: str
    text: str
    trials: Sequence[ImportedTrial]
    remarks: Sequence[str]


def imported(study: ForeignStudy, seed_of: Callable[[int], int]) -> ImportedStudy:
    """The study in our terms; `seed_of` gives a trial's seed by its id. Raises UsageError where it has no parameters.

    Every parameter is a nuisance hyperparameter with the range that was searched, joined where it changed, or fixed
    where it has one value. Those that only some trials have get the condition that holds in these trials alone.
    """
    if not study.parameters:
        raise UsageError(f"{study.name}: has no parameters, so it cannot be a study")
    names = legal_names(parameter.name for parameter in study.parameters)
    domains = {names[parameter.name]: domain_of(parameter) for parameter in study.parameters}
    values = [_values(study, trial, names, domains) for trial in study.trials]
    whole = [trial.state == "complete" for trial in study.trials]
    whens, unexplained = conditions(values, domains, whole)
    # Here steps count finished updates, and 0 is before any: a first evaluation at step 0 moves to step 1.
    is_early = any(step == 0 for trial in study.trials for step in trial.curve)
    rule, shift = _rule(study), int(is_early and not study.steps_from_zero)
    metric = metric_name(study.metric)
    trials = [
        _trial(trial, index, values[index], metric, rule, shift, seed_of(index))
        for index, trial in enumerate(study.trials)
    ]
    longest = max((item.step for trial in trials for item in trial.measurements), default=0)
    name = study_name(study.name)
    remarks = [
        *_remarks_on_trials(study, rule, shift, metric),
        *_remarks_on_parameters(study, names, domains, whens, unexplained),
    ]
    text = _text(study, name, metric, rule, max(longest, 1), _entries(domains, whens), remarks)
    return ImportedStudy(name, text, trials, remarks)


def _values(
    study: ForeignStudy, trial: ForeignTrial, names: Mapping[str, str], domains: Mapping[str, SampledDomain]
) -> dict[str, Scalar]:
    """The trial's hyperparameters in the order of the study."""
    return {
        names[parameter.name]: value_in(parameter, domains[names[parameter.name]], trial.params[parameter.name])
        for parameter in study.parameters
        if parameter.name in trial.params
    }


def _rule(study: ForeignStudy) -> Rule:
    if study.steps_to is not None:
        return "best"
    complete = [trial for trial in study.trials if trial.state == "complete" and _state(trial)[0] == "completed"]
    if not any(trial.curve for trial in study.trials):
        return "final"
    if complete and all(_is_best(study, trial) for trial in complete):
        return "best"
    if complete and all(trial.curve and trial.value == trial.curve[max(trial.curve)] for trial in complete):
        return "final"
    return "apart"


def _is_best(study: ForeignStudy, trial: ForeignTrial) -> bool:
    start = 1 if study.steps_from_zero else 0
    finite = [value for step, value in trial.curve.items() if math.isfinite(value) and step >= start]
    return bool(finite) and trial.value == (max if study.direction == "maximize" else min)(finite)


def _trial(
    trial: ForeignTrial,
    index: int,
    values: Mapping[str, Scalar],
    metric: str,
    rule: Rule,
    shift: int,
    seed: int,
) -> ImportedTrial:
    state, reason = _state(trial)
    curve = {step + shift: value for step, value in sorted(trial.curve.items())}
    last = max(curve, default=1)
    points: dict[int, dict[str, float]] = {
        step: {intermediate(metric) if rule == "apart" else metric: value} for step, value in curve.items()
    }
    value = trial.value if trial.state == "complete" else None
    if value is not None and math.isfinite(value) and (rule == "apart" or not curve):
        points.setdefault(last, {})[metric] = value
    measurements = [
        Measurement(step, metrics, elapsed_seconds=trial.seconds if step == last else 0.0)
        for step, metrics in points.items()
    ]
    # The number there is the point here: ids have no gaps.
    plan = PlannedTrial(index, 0, trial.number, 0, (), values, seed)
    result = TrialResult(
        index,
        state,
        reason,
        one_line(trial.message) or _message(trial, state, curve),
        infeasible_step=trial.infeasible_step,
        final_step=last if points else None,
        train_seconds=trial.seconds,
    )
    return ImportedTrial(plan, measurements, result)


def _message(trial: ForeignTrial, state: State, curve: Mapping[int, float]) -> str:
    """The message of a trial that has none of its own."""
    if state != "failed":
        return ""
    if trial.state == "pruned":
        return f"Optuna pruned trial {trial.number}" + (f" after step {max(curve)}" if curve else "")
    return f"trial {trial.number} failed in Optuna"


def intermediate(metric: str) -> str:
    """The name of the curve where a trial's end result is something else."""
    return f"{metric}_intermediate"


def _state(trial: ForeignTrial) -> tuple[State, str]:
    """The trial's state and reason.

    A pruned trial worked, and was stopped early by the tool, not by its hyperparameters: what it had reached cannot be
    compared with the end of another, nor is it a sign that its hyperparameters are infeasible. Only failed trials are
    left out of both kinds of evidence, are never the best, and are not run again by themselves.
    """
    if trial.infeasible:
        return "infeasible", trial.infeasible
    match trial.state:
        case "complete":
            return ("completed", "") if math.isfinite(trial.value or 0.0) else ("infeasible", "value_not_finite")
        case "pruned":
            return "failed", PRUNED
        case "failed":
            return "failed", "error"


def _entries(domains: Mapping[str, SampledDomain], whens: Mapping[str, When]) -> dict[str, dict[str, Any]]:
    """The entry of each hyperparameter in the study file."""
    entries: dict[str, dict[str, Any]] = {}
    for name, domain in domains.items():
        entry: dict[str, Any]
        if isinstance(domain, FixedValue):
            entry = {"role": "fixed", "value": domain.value}
        elif isinstance(domain, Range):
            entry = {"role": "nuisance", "range": [domain.low, domain.high]}
            entry |= {"scale": domain.scale} if domain.scale != "linear" else {}
            entry |= {"type": "int"} if domain.integer else {}
        else:
            entry = {"role": "nuisance", "values": list(domain.values)}
        if name in whens:
            entry["when"] = {
                parent: values[0] if len(values) == 1 else list(values) for parent, values in whens[name].items()
            }
        entries[name] = entry
    return entries


def _text(
    study: ForeignStudy,
    name: str,
    metric: str,
    rule: Rule,
    steps: int,
    entries: Mapping[str, Mapping[str, Any]],
    remarks: Sequence[str],
) -> str:
    arguments: list[Any] = [PROGRAM]
    for parameter, entry in entries.items():
        pair = [f"--{parameter}", f"{{{parameter}}}"]
        arguments += [pair] if "when" in entry else pair
    group = "".join(mark if mark.isalnum() else "__" if mark == "/" else "_" for mark in metric)
    objective: dict[str, Any] = {
        "metric": metric,
        "direction": study.direction,
        "checkpoint": "best" if rule == "best" else "final",
    }
    objective |= {} if study.steps_to is None else {"steps_to": study.steps_to}
    head = _HEAD.format(name=in_flow(one_line(study.name)), source=one_line(study.source), metric=metric, group=group)
    lines = [
        f"study: {in_flow(name)}",
        f"workload: {in_flow({'command': arguments})}",
        f"objective: {in_flow(objective)}",
        f"training: {in_flow({'max_train_steps': steps})}",
        "hyperparameters:",
        *[f"  {parameter}: {in_flow(entry)}" for parameter, entry in entries.items()],
        f"search: {in_flow({'trials': len(study.trials)})}",
        f"notes: {in_flow(' '.join(remarks))}",
    ]
    return head + "\n".join(lines) + "\n"


def _remarks_on_trials(study: ForeignStudy, rule: Rule, shift: int, metric: str) -> list[str]:
    """What a reader of the study must know about its trials and their values."""
    remarks = [
        "Imported from Optuna: its sampler may have drawn the points where earlier trials were good, not evenly."
    ]
    pruned = sum(trial.state == "pruned" and not trial.infeasible for trial in study.trials)
    if pruned:
        remarks.append(
            f"{counted(pruned, 'trial')} pruned: failed here, with the reason {PRUNED}, so that what they reached is "
            "not compared with completed trials, and does not count as infeasible; their curves are kept."
        )
    if study.left_out:
        remarks.append(f"{counted(study.left_out, 'trial')} left out that had not ended.")
    if not study.metric:
        remarks.append(f"Its objective has no name in Optuna: it is {metric} here.")
    elif study.metric != metric:
        remarks.append(f"Its objective {one_line(study.metric)} is {metric} here.")
    if shift:
        remarks.append("Its step 0 is step 1 here, where steps count finished updates.")
    if rule == "apart":
        remarks.append(
            f"Its intermediate values are {intermediate(metric)}, since they do not lead to the end results."
        )
    return remarks


def _remarks_on_parameters(
    study: ForeignStudy,
    names: Mapping[str, str],
    domains: Mapping[str, SampledDomain],
    whens: Mapping[str, When],
    unexplained: Sequence[str],
) -> list[str]:
    """What a reader of the study must know about its hyperparameters."""
    remarks = []
    renamed = [f"{old or 'the one without a name'} is {new}" for old, new in names.items() if old != new]
    if renamed:
        remarks.append(f"Renamed: {one_line(', '.join(renamed))}.")
    changed = {names[item.name]: changed_choices(item.choices) for item in study.parameters if item.choices is not None}
    remarks += [f"Values of {name} that are changed here: {', '.join(v)}." for name, v in changed.items() if v]
    joined = [names[item.name] for item in study.parameters if item.joined]
    if joined:
        remarks.append(f"Its trials had different ranges, which are one range here: {', '.join(joined)}.")
    loose = [
        names[item.name]
        for item in study.parameters
        if item.uneven or (item.step is not None and isinstance(domains[names[item.name]], Range))
    ]
    if loose:
        remarks.append(f"Stepped in Optuna, and any value of the range here: {', '.join(loose)}.")
    if whens:
        remarks.append(f"Conditions inferred from the trials: {', '.join(whens)}.")
    if unexplained:
        remarks.append(f"Only some trials have {', '.join(unexplained)}, and no other parameter explains when.")
    return remarks
