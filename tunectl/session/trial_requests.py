"""The requests to the worker: a planned trial with all settings of its study and all defaults."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from tunectl.core import typed_fields
from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.own_code_request import CommandRequest, FunctionRequest, Request
from tunectl.core.records import OF_PROCEDURES, FactorySignature, PlannedTrial, TrialRequest, WorkloadReference
from tunectl.core.trial_checkpoints import TrialCheckpoints
from tunectl.core.user_code import is_code
from tunectl.language.code_arguments import RATE, STUDY_RATE
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.consumed_names import StudyCode, factory_arguments, used_by_others, used_code
from tunectl.language.study_spec import StudySpec
from tunectl.space.hyperparameters import names_used
from tunectl.store.trial_files import read_trial


def trial_request(
    spec: StudySpec,
    reference: WorkloadReference,
    signature: FactorySignature,
    trial: PlannedTrial,
    attempt: int = 1,
) -> Request:
    """The request of one trial; it has all defaults, because those of a later version may differ."""
    if trial.trial_kind == "curvature":
        return _of_checkpoints(spec, reference, trial, attempt)
    if "request" in trial.training:
        return _of_last_training(spec, reference, trial, attempt)
    if spec.own_code:
        return _own_code(spec, reference, signature, trial, attempt)
    return _of_workload(spec, reference, signature, trial, attempt)


def _of_workload(
    spec: StudySpec, reference: WorkloadReference, signature: FactorySignature, trial: PlannedTrial, attempt: int
) -> TrialRequest:
    training = {**asdict(spec.training), **trial.training}
    return TrialRequest(
        study=spec.name,
        trial=trial.trial,
        seed=trial.seed,
        workload=reference,
        arguments=factory_arguments(signature, trial.hyperparameters, code=spec.code),
        configuration=_configuration(spec, signature, trial).to_json(),
        objective=spec.objective,
        max_train_steps=training["max_train_steps"],
        eval_every=training["eval_every"],
        keep_checkpoints=training["keep_checkpoints"],
        train_examples=training["train_examples"],
        stop_after=training.get("stop_after"),
        eval_from=training.get("eval_from", 0),
        no_progress=bool(training["no_progress"]),
        # A recovery would hide the instability that a sweep is meant to find.
        recovery=None if trial.trial_kind in OF_PROCEDURES else spec.training.recovery,
        threads=spec.resources.threads_per_trial,
        devices=spec.resources.devices_per_trial,
        data_workers=training.get("data_workers", spec.resources.data_workers),
        prefetch_batches=training.get("prefetch_batches", spec.resources.prefetch_batches),
        cache_examples=bool(training.get("cache_examples", spec.resources.cache_examples)),
        trace_updates=training.get("trace_updates", 0),
        memory_limit_bytes=training.get("memory_limit_bytes"),
        curvature=_curvature(spec, trial),
        curvature_needed=bool(training.get("curvature_needed", True)),
        batch_norm_statistics=spec.training.batch_norm_statistics,
        # A procedure looks at no examples, and its answer does not depend on whole splits.
        predictions=None if trial.trial_kind in OF_PROCEDURES else spec.training.predictions,
        split_examples=spec.training.split_examples,
        whole_at_end=trial.trial_kind not in OF_PROCEDURES,
        compile=spec.training.compile,
        sync_batch_norm=spec.training.sync_batch_norm,
        attempt=attempt,
        workload_kind=trial.trial_kind if trial.trial_kind in ("throughput", "profile") else "workload",
    )


def _configuration(spec: StudySpec, signature: FactorySignature, trial: PlannedTrial) -> TrainingConfiguration:
    """The training configuration of a trial, with the code that it names and what that gets."""
    found = TrainingConfiguration.from_hyperparameters(trial.trained_values)
    if not (is_code(found.optimizer) or is_code(found.schedule)):
        return found
    values, shared = trial.trained_values, names_used(spec.hyperparameters)
    optimizers = [value for item in spec.alternatives("optimizer") for value in item.domain.listed or ()]
    if is_code(found.optimizer):
        elsewhere = shared | used_by_others(found.optimizer, optimizers, spec.code)
        used = used_code(found.optimizer, signature, values, code=spec.code, shared=elsewhere)
        found = replace(found, optimizer_code=used)
        default = spec.code[found.optimizer].signature.defaults.get(RATE)
        if STUDY_RATE not in values and isinstance(default, (int, float)):
            found = replace(found, learning_rate=float(default))
    if is_code(found.schedule):
        used = used_code(found.schedule, signature, values, code=spec.code, shared=shared)
        found = replace(found, schedule_code=used)
    return found


def _of_checkpoints(spec: StudySpec, reference: WorkloadReference, trial: PlannedTrial, attempt: int) -> TrialRequest:
    """The request to measure the checkpoints of a trial, by what that trial was asked for: defaults may have changed.

    Raises FolderError where that cannot be read any more.
    """
    kept = typed_fields.typed(TrialCheckpoints, trial.training["checkpoints"])
    try:
        asked = request_of(kept)
    except typed_fields.DamagedError as error:
        raise FolderError(f"{StudyFolder(Path(kept.folder)).trial(kept.trial).request}: {error}") from error
    return replace(
        _with_found_code(asked, spec.code),
        study=spec.name,
        trial=trial.trial,
        workload=reference,
        threads=spec.resources.threads_per_trial,
        devices=1,
        data_workers=0,
        curvature=_curvature(spec, trial),
        curvature_needed=True,
        checkpoints=kept,
        attempt=attempt,
        workload_kind="curvature",
    )


def _of_last_training(spec: StudySpec, reference: WorkloadReference, trial: PlannedTrial, attempt: int) -> TrialRequest:
    """The request of a trial of a last training, which its plan has: the study's trial was asked for the same."""
    return replace(
        _with_found_code(TrialRequest.from_json(trial.training["request"]), spec.code),
        study=spec.name,
        trial=trial.trial,
        workload=reference,
        threads=spec.resources.threads_per_trial,
        devices=spec.resources.devices_per_trial,
        data_workers=spec.resources.data_workers,
        attempt=attempt,
        workload_kind=trial.trial_kind,
    )


def _with_found_code(request: TrialRequest, code: StudyCode) -> TrialRequest:
    """The request of an earlier trial, whose code is now where the study's file says."""
    configuration = TrainingConfiguration(**request.configuration)
    changes = {
        name: replace(used, reference=code[used.reference.text].reference)
        for name in ("optimizer_code", "schedule_code")
        if (used := getattr(configuration, name)) is not None and used.reference.text in code
    }
    return replace(request, configuration=replace(configuration, **changes).to_json()) if changes else request


def request_of(kept: TrialCheckpoints) -> TrialRequest:
    """What the trial with these checkpoints was asked for; raises DamagedError where it is not known."""
    content = read_trial(StudyFolder(Path(kept.folder)).trial(kept.trial)).request
    if content is None:
        raise typed_fields.DamagedError("it is missing, or cannot be read")
    return TrialRequest.from_json(content)


def _own_code(
    spec: StudySpec,
    reference: WorkloadReference,
    signature: FactorySignature,
    trial: PlannedTrial,
    attempt: int,
) -> Request:
    training = {**asdict(spec.training), **trial.training}
    common = {
        "study": spec.name,
        "trial": trial.trial,
        "seed": trial.seed,
        "objective": spec.objective,
        "max_train_steps": training["max_train_steps"],
        "keep_checkpoints": training["keep_checkpoints"],
        "baseline_loss": spec.baseline_loss,
        "no_progress": training["no_progress"],
        "attempt": attempt,
    }
    if spec.program is not None:
        return CommandRequest(program=spec.program, hyperparameters=dict(trial.hyperparameters), **common)
    arguments = factory_arguments(signature, trial.hyperparameters, own_code=True)
    threads = spec.resources.threads_per_trial
    # A function measures where it asks for it, in every trial.
    curvature = _curvature(spec, trial) or spec.training.curvature
    return FunctionRequest(
        workload=reference, hyperparameters=arguments, threads=threads, curvature=curvature, **common
    )


def _curvature(spec: StudySpec, trial: PlannedTrial) -> CurvatureSettings | None:
    """How a trial measures its curvature: as its plan says, or its study; a procedure's trial only as its plan says."""
    planned = trial.training.get("curvature")
    if planned is not None:
        return typed_fields.typed(CurvatureSettings, planned)
    return None if trial.trial_kind in OF_PROCEDURES else spec.training.curvature


def total_steps(spec: StudySpec, trial: PlannedTrial) -> int:
    """The number of updates of a trial, including its warmup; for own code the number that the study gives."""
    if "request" in trial.training:
        asked = TrialRequest.from_json(trial.training["request"])
        trained = TrainingConfiguration(**asked.configuration).total_steps(asked.trained_steps)
        return trained if trial.trial_kind == "final" else 0
    if spec.own_code:
        return int(trial.training.get("max_train_steps", spec.training.max_train_steps))
    configuration = TrainingConfiguration.from_hyperparameters(trial.hyperparameters)
    steps = trial.training.get("max_train_steps", spec.training.max_train_steps)
    return configuration.total_steps(min(trial.training.get("stop_after", steps), steps))
