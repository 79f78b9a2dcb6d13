"""`show`: all about one trial of a study; its command line; and a study of one trial that trains it again."""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from tunectl.analysis.comparison.study_answer import StudyAnswer
from tunectl.analysis.results.outcomes import reselected
from tunectl.analysis.results.retrains import Retrained, best_searched, retrained
from tunectl.analysis.results.runs import curves_of
from tunectl.core import real_folders, typed_fields
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.files import write_new
from tunectl.core.folders import TrialFolder
from tunectl.core.measurement_kinds import is_no_evaluation
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import CommandRequest, Request, request_of
from tunectl.core.path_errors import path_error
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import AttemptEnd, Scalar, TrialOutcome
from tunectl.core.wording import as_text, short_text
from tunectl.execution.slots import thread_environment
from tunectl.language.stage_lengths import stage_words
from tunectl.language.study_spec import StudySpec
from tunectl.programs.shell_command import ShellCommand, shell_command
from tunectl.session.checked_study import check_study
from tunectl.session.conclusions import verdict_in
from tunectl.session.frozen_trial import FrozenStudy, frozen_study
from tunectl.session.original_study import original_study
from tunectl.session.present_report import present_answer
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.session.stored_study import home_of
from tunectl.session.study_evidence import known_curves, read_evidence
from tunectl.session.trial_requests import trial_request
from tunectl.session.written_report import answer_of
from tunectl.space.domains import Derived, Domain, FixedValue, Range, ValueSet
from tunectl.space.hyperparameters import active
from tunectl.store.trial_files import read_result, read_trial, recorded_attempts


@dataclass(frozen=True, slots=True)
class ShownValue:
    """A hyperparameter of a trial: its value, its role, and where the value comes from, in words."""

    name: str
    value: Scalar
    role: str
    origin: str
    varies: bool


@dataclass(frozen=True, slots=True)
class ShownTrial:
    """All about one trial.

    `rank` is its place among the `ranked` trials of its stage that have a value, None where it has none or is a
    retrain; `retrain_of` is the trial of which it is one. `curve` has the values of its metrics by step, the
    objective's first. `retrains` are its own, None without any. `files` are those in its folder with their sizes in
    bytes, `notes` what it did not measure. `removed_checkpoint` is the place in the study folder that its best
    checkpoint had before it was removed, "" where it was not. `answer` is given where no trial was named.
    `unfinished` are the attempts that gave no result, each with its reason.
    """

    spec: StudySpec
    folder: Path
    home: TrialFolder
    outcome: TrialOutcome
    values: Sequence[ShownValue]
    curve: Mapping[str, Mapping[int, float]]
    rank: int | None
    ranked: int
    retrain_of: int | None
    retrains: Retrained | None
    files: Sequence[tuple[str, int]]
    notes: Sequence[str]
    removed_checkpoint: str
    answer: StudyAnswer | None
    damage: Sequence[str]
    unfinished: Sequence[AttemptEnd] = ()

    @property
    def stage(self) -> str:
        """Its stage in words, "" where the study has only one."""
        return stage_words(self.spec, self.outcome.plan.stage) if self.spec.search.promote else ""

    def to_json(self) -> dict[str, Any]:
        """The trial as one JSON object."""
        item = self.outcome
        return {
            "study": self.spec.name,
            "folder": str(self.folder),
            "trial": item.plan.trial,
            "setting": item.plan.setting,
            "stage": item.plan.stage,
            "kind": item.plan.trial_kind,
            "retrain_of": self.retrain_of,
            "state": item.state,
            "reason": item.reason,
            "message": item.message,
            "objective": self.spec.objective.to_json(),
            "value": item.best_value,
            "step": item.best_step,
            "final_value": item.final_value,
            "final_step": item.final_step,
            "infeasible_step": item.infeasible_step,
            "rank": self.rank,
            "ranked": self.ranked,
            "hyperparameters": {value.name: value.value for value in self.values},
            "roles": {value.name: value.role for value in self.values},
            "seed": item.plan.seed,
            "checkpoint": item.best_checkpoint,
            "removed_checkpoint": self.removed_checkpoint or None,
            "metrics_at_best": dict(item.metrics_at_best),
            "curve": {name: {str(step): value for step, value in own.items()} for name, own in self.curve.items()},
            "retrains": None if self.retrains is None else _retrains_to_json(self.retrains),
            "files": dict(self.files),
            "train_seconds": item.train_seconds,
            "eval_seconds": item.eval_seconds,
            "startup_seconds": item.startup_seconds,
            "device": item.device,
            "attempts": item.attempts,
            "notes": list(self.notes),
            "answer": self.answer.to_json() if self.answer else None,
            "damage": list(self.damage),
            "unfinished_attempts": [attempt.to_json() for attempt in self.unfinished],
        }


def _retrains_to_json(again: Retrained) -> dict[str, Any]:
    return {
        "trials": [one.plan.trial for one in again.retrains],
        "values": list(again.values),
        "mean": again.mean,
        "standard_deviation": again.standard_deviation,
    }


def shown_trial(place: Path, trial: int | None, say: Callable[[str], None]) -> ShownTrial:
    """All about a trial of the study folder at `place`, without a number about the best one; nothing is written.

    `say` is called with each line about damage. Raises FolderError where there is no study, UsageError where there is
    no such trial, or none is the best.
    """
    with study_snapshot(place, say) as study:
        outcome, answer = _asked(study, trial, present_answer)
        home = study.folder.trial(outcome.plan.trial)
        spec, objective = study.spec, study.spec.objective
        ranked = [item.plan.trial for item in best_searched(_of_stage(study, outcome), objective, len(study.outcomes))]
        number, is_retrain = outcome.plan.trial, outcome.plan.trial_kind == "retrain"
        again = retrained(study.outcomes, objective)
        result, measurements = read_result(home), read_trial(home).measurements
        return ShownTrial(
            spec,
            place,
            home,
            outcome,
            _values(spec, outcome),
            _curve(measurements, objective.metric),
            ranked.index(number) + 1 if number in ranked else None,
            len(ranked),
            _first_of(study, outcome) if is_retrain else None,
            next((item for item in again if item.searched.plan.trial == number), None),
            _files(home),
            tuple(result.notes) if result is not None else (),
            _removed_checkpoint(outcome, measurements, objective),
            answer,
            tuple(study.damage),
            recorded_attempts(home),
        )


def hand_command(place: Path, trial: int | None, say: Callable[[str], None]) -> tuple[list[str], dict[str, Any]]:
    """The lines for a shell that train a trial by hand, and the same as JSON.

    The program of own code is called as the trial called it, but for the folder that it writes to, which is a new one
    in the current folder. Other trials are trained by tunectl itself, as a study of one trial.
    """
    with study_snapshot(place, say) as study:
        outcome, _ = _asked(study, trial)
        number, spec = outcome.plan.trial, study.spec
        request = _request(study, outcome)
        if isinstance(request, CommandRequest):
            home = study.folder.path.absolute()
            output = Path.cwd() / f"{spec.name}-trial-{number}"
            threads = thread_environment(spec.resources.threads_per_trial)
            command = shell_command(request, type(study.folder)(home).trial(number), output, threads)
            return command.lines, _command_json(spec, number, command)
        file = _frozen_place(study, number)
        line = f"{tunectl_command('show', place, number, '--freeze', file)} && {tunectl_command('run', file)}"
        return [line], {"study": spec.name, "trial": number, "line": line}


def freeze(place: Path, trial: int | None, file: Path, say: Callable[[str], None]) -> tuple[int, FrozenStudy]:
    """Write a study of one trial that trains a trial again, and return its number and the study.

    Raises UsageError where the file exists already or the trial cannot be given by a study, FolderError where the file
    cannot be written.
    """
    with study_snapshot(place, say) as study:
        outcome, _ = _asked(study, trial)
        frozen = frozen_study(study, outcome, file, Path.cwd())
    try:
        write_new(file, frozen.text.encode("utf-8", "surrogatepass"))
    except FileExistsError:
        raise UsageError(f"{file}: already exists; name another file") from None
    except OSError as error:
        raise path_error(file, "written", error) from error
    return outcome.plan.trial, frozen


def _command_json(spec: StudySpec, trial: int, command: ShellCommand) -> dict[str, Any]:
    return {
        "study": spec.name,
        "trial": trial,
        "folder": command.folder,
        "output": command.output,
        "environment": dict(command.environment),
        "path": command.path or None,
        "command": list(command.arguments),
        "line": "\n".join(command.lines),
    }


def _quick_answer(study: StudySnapshot) -> StudyAnswer:
    """The answer of a study without what makes it doubtful, for which its findings are needed."""
    curves = known_curves(study.index, study.outcomes)
    evidence = read_evidence(study.folder, study.spec, study.outcomes, curves, study.spec.objective, with_updates=False)
    return answer_of(study.folder, evidence, study.outcomes)


def _asked(
    study: StudySnapshot, trial: int | None, answer: Callable[[StudySnapshot], StudyAnswer] = _quick_answer
) -> tuple[TrialOutcome, StudyAnswer | None]:
    """The trial with this number, or the best one, with the answer of the study."""
    place, count = study.folder.path, len(study.outcomes)
    if trial is not None:
        if trial >= count:
            has = f"expected one from 0 to {count - 1}" if count else "the study has no trials yet"
            raise UsageError(f"{place}: trial {trial} not found: {has}")
        return study.outcomes[trial], None
    if study.folder.procedure.exists():
        lines = [f"{place}: the trials of a procedure have no best one; name a trial, as {place / '0'}"]
        verdict = verdict_in(study.folder)
        if verdict:
            lines += textwrap.wrap(
                f"its verdict: {verdict}", 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
        raise UsageError("\n".join(lines))
    found = answer(study)
    if found.best is None:
        raise UsageError(f"{place}: {found.sentence} Name a trial, as DIR/TRIAL")
    return study.outcomes[found.best.trial], found


def _of_stage(study: StudySnapshot, outcome: TrialOutcome) -> list[TrialOutcome]:
    return [item for item in study.outcomes if item.plan.stage == outcome.plan.stage]


def _first_of(study: StudySnapshot, outcome: TrialOutcome) -> int | None:
    same = (item.plan for item in study.outcomes if item.plan.origin == outcome.plan.origin)
    return next((plan.trial for plan in same if plan.trial_kind == "search"), None)


def _values(spec: StudySpec, outcome: TrialOutcome) -> list[ShownValue]:
    """The hyperparameters, those that vary in the study first."""
    own = outcome.plan.hyperparameters
    found = []
    for name, value in own.items():
        item = active(spec.alternatives(name), own)
        if item is None:
            found.append(ShownValue(name, value, "", "", False))
        else:
            varies = item.varies or item.formula is not None
            found.append(ShownValue(name, value, item.role, _origin(item.domain), varies))
    found += [
        ShownValue(name, value, "", "the schedule of its stage", False) for name, value in outcome.plan.schedule.items()
    ]
    return sorted(found, key=lambda value: not value.varies)


def _origin(domain: Domain) -> str:
    """Where a value comes from, in words."""
    match domain:
        case FixedValue():
            return ""
        case ValueSet():
            return f"of {', '.join(map(as_text, domain.values))}"
        case Range():
            scale = "" if domain.scale == "linear" else f", {domain.scale}"
            return f"{short_text(domain.low)} to {short_text(domain.high)}{scale}"
        case Derived():
            return domain.formula.text
        case _:
            assert_never(domain)


def _curve(measurements: Sequence[Measurement], metric: str) -> dict[str, dict[int, float]]:
    found = {
        name: {int(step): float(value) for step, value in zip(steps.tolist(), values.tolist(), strict=True)}
        for name, (steps, values) in curves_of(measurements).items()
        if not is_no_evaluation(name)
    }
    return {name: found[name] for name in sorted(found, key=lambda name: (name != metric, name))}


def _removed_checkpoint(outcome: TrialOutcome, measurements: Sequence[Measurement], objective: Objective) -> str:
    """The checkpoint that the best evaluation of a trial had, where its file is not there any more."""
    if outcome.best_checkpoint is not None:
        return ""
    names = {item.checkpoint for item in measurements if item.checkpoint is not None}
    return reselected(outcome, measurements, objective, names).best_checkpoint or ""


def _files(home: TrialFolder) -> list[tuple[str, int]]:
    """The files of a trial, and those in its folders, with their sizes; none through a link in place of its folder."""
    found: list[tuple[str, int]] = []
    try:
        with real_folders.opened(home.path, home.study):
            pass
    except OSError:
        return found
    for folder, _, names in os.walk(home.path):
        for name in sorted(names):
            path = Path(folder, name)
            with contextlib.suppress(OSError):  # a trial that runs may remove it
                found.append((str(path.relative_to(home.path)), path.lstat().st_size))
    return found


def _request(study: StudySnapshot, outcome: TrialOutcome) -> Request:
    """What the trial was asked for, or where it has not begun, what it will be asked for."""
    home = study.folder.trial(outcome.plan.trial)
    content = read_trial(home).request
    if content is not None:
        try:
            return request_of(content)
        except typed_fields.DamagedError as error:
            raise FolderError(f"{home.request}: {error}") from error
    checked = check_study(original_study(study.folder.path), Path.cwd())
    return trial_request(checked.spec, checked.reference, checked.signature, outcome.plan)


def _frozen_place(study: StudySnapshot, trial: int) -> Path:
    """Beside the user's study file where that is in or below the current folder, so that its paths hold; else here."""
    name, home = f"{study.spec.name}-trial-{trial}.yaml", home_of(study.folder).parent
    here = Path.cwd()
    return home.relative_to(here) / name if home.is_dir() and home.is_relative_to(here) else Path(name)
