"""A study of one trial that trains a trial of another study again: the same values, the same seed, the same length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tunectl.core import typed_fields
from tunectl.core.errors import StudyError, UsageError, dotted
from tunectl.core.own_code_request import CommandRequest, FunctionRequest, Request, request_of, variable_of
from tunectl.core.records import (
    OF_PROCEDURES,
    SCHEDULE_OF_TRIAL,
    PlannedTrial,
    Scalar,
    TrialOutcome,
    is_stopped_for_good,
)
from tunectl.core.user_code import is_code
from tunectl.core.wording import as_text, counted, escaped_braces, listed
from tunectl.language.configuration import CODE_FIELDS, FIELDS, TrainingConfiguration
from tunectl.language.document import parse_document
from tunectl.language.placeholders import FILE, names_in, placeholders
from tunectl.language.stage_lengths import training_of
from tunectl.language.study_edit import in_flow
from tunectl.language.study_reader import draft_of
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_study import CheckedStudy, check_draft
from tunectl.session.frozen_workload import frozen_reference, frozen_workload
from tunectl.session.original_study import original_study
from tunectl.session.request_differences import request_differences
from tunectl.session.snapshot import StudySnapshot
from tunectl.session.stored_study import home_of
from tunectl.session.study_code import own_files
from tunectl.session.trial_requests import trial_request
from tunectl.space.trial_plan import plan_trials
from tunectl.store.provenance import file_sha256, read_provenance
from tunectl.store.trial_files import read_trial

_LENGTHS = ("max_train_steps", "eval_every")
_OF_PLAN = frozenset(
    (
        *_LENGTHS,
        *SCHEDULE_OF_TRIAL,
        "keep_checkpoints",
        "train_examples",
        "no_progress",
        "curvature",
        "curvature_needed",
    )
)
"""What a plan may say of a trial that a study can say, too, or that changes no number of the training."""
_MOST_NAME = 80


@dataclass(frozen=True, slots=True)
class FrozenStudy:
    """The text of the study, its name, and in which it differs from the trial, a sentence each."""

    name: str
    text: str
    differences: tuple[str, ...] = ()


def frozen_study(study: StudySnapshot, outcome: TrialOutcome, path: Path, current_folder: Path) -> FrozenStudy:
    """The study that trains this trial again, as a file at `path`; nothing is written.

    Raises UsageError where the trial cannot be given by a study: that of a procedure with a length of its own, or a
    workload that would not be found from there.
    """
    original_study(study.folder.path)  # an imported study has no program
    _refuse(study, outcome.plan)
    content, added = _content(study, outcome.plan, path), {}
    names = list(content["hyperparameters"])
    while True:
        text = _text(content)
        try:
            checked = check_draft(draft_of(text, path), current_folder)
        except StudyError as error:
            # What is not read in this trial, such as a switch whose other side has the hyperparameters, goes.
            wrong = {problem.path for problem in error.problems}
            unused = [
                name
                for name in content["hyperparameters"]
                if dotted(("hyperparameters", name)) in wrong and (study.spec.own_code or name not in CODE_FIELDS)
            ]
            if not unused or any(name not in names for name in unused):
                raise UsageError(
                    f"{study.folder.path}: trial {outcome.plan.trial} cannot be frozen:\n{error}"
                ) from None
            for name in unused:
                added[name] = content["hyperparameters"].pop(name)
            if study.spec.program is not None:  # a program may still read it from its environment
                own = content["workload"].setdefault("environment", {}) or {}
                variables = {variable_of(name): escaped_braces(as_text(added[name])) for name in unused}
                content["workload"]["environment"] = {**variables, **own}
        else:
            break
    differences = tuple(dict.fromkeys(_differences(study, outcome, checked)))
    return FrozenStudy(checked.spec.name, _head(study, outcome, differences) + text, differences)


def _refuse(study: StudySnapshot, plan: PlannedTrial) -> None:
    own = sorted(plan.training.keys() - _OF_PLAN)
    if plan.trial_kind in OF_PROCEDURES:
        place = f"{study.folder.path}: trial {plan.trial}"
        if plan.trial_kind != "sweep" or own:
            why = f" ({listed(own)})" if own else ""
            raise UsageError(f"{place} was trained as no study can ask for{why}; it is a trial of a procedure")


def _content(study: StudySnapshot, plan: PlannedTrial, path: Path) -> dict[str, Any]:
    """The study as plain data."""
    spec, home = study.spec, home_of(study.folder)
    kept = parse_document(spec.text, spec.label).content
    asked = training_of(spec, plan.stage)
    training = {**kept["training"], "max_train_steps": plan.training.get("max_train_steps", asked.max_train_steps)}
    if not spec.own_code:
        training["eval_every"] = plan.training.get("eval_every", asked.eval_every)
    training["trial_seed"] = plan.seed
    if plan.trial_kind in OF_PROCEDURES:
        training = {key: value for key, value in training.items() if key not in ("recovery", "predictions")}
    training |= {key: plan.training[key] for key in ("train_examples",) if key in plan.training}
    training |= {key: bool(plan.training[key]) for key in ("no_progress",) if key in plan.training}
    found = {
        "study": f"{spec.name[:_MOST_NAME]}-trial-{plan.trial}",
        "workload": frozen_workload(kept["workload"], plan.hyperparameters, home=home, path=path),
        "objective": kept["objective"],
        "training": training,
        "hyperparameters": _values(spec, plan, home, path),
        "resources": kept.get("resources"),
        "uncommitted_diff": kept.get("uncommitted_diff"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _values(spec: StudySpec, plan: PlannedTrial, home: Path, path: Path) -> dict[str, Scalar]:
    """The values of the trial, and those of fields without which others of them count as unused.

    The study's own optimizer and schedule are named so that they are found from `path`.
    """
    found = dict(plan.trained_values)
    for name in CODE_FIELDS:
        value = found.get(name)
        if is_code(value) and not spec.own_code:
            found[name] = frozen_reference(value, home=home, path=path)
    needed = [FIELDS[name].needs for name in found if name in FIELDS and not spec.own_code]
    trained = None if spec.own_code else TrainingConfiguration.from_hyperparameters(found)
    for needed_name in needed:
        default = None if needed_name is None or needed_name in found else getattr(trained, needed_name)
        found |= {needed_name: default} if needed_name is not None and default is not None else {}
    return found


def _text(content: Mapping[str, Any]) -> str:
    """The study file: a line for each key, and for each key of a section with several."""
    lines = []
    for key, value in content.items():
        if isinstance(value, Mapping) and key in ("workload", "hyperparameters", "training") and value:
            lines += [f"{key}:", *(f"  {in_flow(str(name))}: {in_flow(item)}" for name, item in value.items())]
        else:
            lines.append(f"{key}: {in_flow(value)}")
    return "\n".join(lines) + "\n"


def _head(study: StudySnapshot, outcome: TrialOutcome, differences: tuple[str, ...]) -> str:
    place = f"{study.spec.name} ({study.folder.path.absolute()})"
    lines = [f"Trial {outcome.plan.trial} of {place} as a study of its own: the same values and the same seed."]
    lines += [f"- {line}" for line in differences]
    return "".join(f"# {' '.join(line.split())}\n" for line in lines if line.isprintable())


def _differences(study: StudySnapshot, outcome: TrialOutcome, checked: CheckedStudy) -> Iterator[str]:
    """What may make the training differ from that of the trial."""
    asked = _asked(study, outcome.plan)
    (planned,) = plan_trials(checked.spec)
    again = trial_request(checked.spec, checked.reference, checked.signature, planned)
    if asked is not None:
        yield from request_differences(asked, again)
    if isinstance(again, CommandRequest):
        names = {*placeholders(again.program.arguments)}
        names |= {name for text in again.program.environment.values() for name in names_in(text)}
        if "trial.id" in names:
            yield f"the program gets trial.id 0, not {outcome.plan.trial}"
        if not names & {"trial.seed", FILE}:
            yield "the command has no {trial.seed}: a program can read the seed only from TUNECTL_TRIAL_SEED"
    yield from _of_its_end(outcome)
    if isinstance(again, (CommandRequest, FunctionRequest)) and outcome.attempts > 1:
        yield f"the trial was trained in {counted(outcome.attempts, 'attempt')}, and this one in a single one"
    if outcome.device and not outcome.device.endswith("cpu"):
        yield f"the trial was trained on {outcome.device}, where two trainings may differ in the last digits"
    yield from _of_environment(study.folder.path, read_provenance(study.folder), checked)


def _of_its_end(outcome: TrialOutcome) -> Iterator[str]:
    """That a trial was stopped before its end, which a study of its own does not do."""
    if outcome.state == "stopped":
        by = "by stop_early"
    elif is_stopped_for_good(outcome.state, outcome.reason):
        by = "by `tunectl stop`"
    else:
        return
    last = "before its first evaluation" if outcome.final_step is None else f"after step {outcome.final_step:,}"
    yield f"the trial was stopped {by} {last}, and this study trains it to its end"


def _asked(study: StudySnapshot, plan: PlannedTrial) -> Request | None:
    """What the trial was asked for, None where that is not known: it may not have begun."""
    content = read_trial(study.folder.trial(plan.trial)).request
    try:
        return None if content is None else request_of(content)
    except typed_fields.DamagedError:
        return None


def _of_environment(place: Path, runs: list[dict[str, Any]], checked: CheckedStudy) -> Iterator[str]:
    """What is installed, and the code of the workload, where it has changed since the study was run."""
    versions_then: dict[str, set[str]] = {}
    for run in runs:
        versions = run.get("versions")
        for name, version in versions.items() if isinstance(versions, dict) else ():
            if isinstance(version, str):
                versions_then.setdefault(name, set()).add(version)
    for name in ("torch", "numpy"):
        now = _version(name)
        if now is not None and versions_then.get(name) and versions_then[name] != {now}:
            yield f"the study was run with {name} {listed(sorted(versions_then[name]))}, and {now} is installed"
    workload = [run.get("workload_file") for run in runs]
    if checked.signature.file:
        yield from _of_file(place, Path(checked.signature.file), workload)
    code = [file for run in runs for file in run.get("code_files") or ()]
    for path in own_files(checked.spec.code.values()):
        # By its name: it is found from another folder now.
        recorded = [file for file in code if isinstance(file, dict) and Path(str(file.get("path"))).name == path.name]
        yield from _of_file(place, path, recorded)


def _of_file(place: Path, path: Path, recorded: Sequence[Any]) -> Iterator[str]:
    hashes = {file["sha256"] for file in recorded if isinstance(file, dict) and file.get("sha256")}
    now = file_sha256(path)
    if now is not None and hashes and hashes != {now}:
        yield f"{path} is not, or not always was, as it was when {place} was run"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
