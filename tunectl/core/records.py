"""The records that the rooms pass to each other: planned trials, requests, measurements, results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from tunectl.core import typed_fields
from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.example_predictions import PredictionSettings
from tunectl.core.objective import Objective
from tunectl.core.request_check import REQUEST_FORMAT, checked_request
from tunectl.core.trial_checkpoints import TrialCheckpoints

Scalar = bool | int | float | str
"""The value of a hyperparameter."""

TrialKind = Literal["search", "retrain", "sweep", "throughput", "profile", "curvature", "data", "final", "test"]
"""What a trial is for: the study's search, a repeat of a good one, a procedure, to measure how fast it trains or what
takes its time, or the curvature at the checkpoints of another one; of the last training: to count its data, to train,
to evaluate `test`.
"""
OF_PROCEDURES: frozenset[str] = frozenset({"sweep", "throughput", "profile", "curvature", "data", "final", "test"})
"""The kinds of trials that only the folder of a procedure has."""
WorkloadKind = Literal["workload", "command", "function"]
"""What trains: a workload in our loop, or own code: a command (the user's program) or a function of the user."""
CodeKind = Literal["optimizer", "schedule"]
"""What code a study may name for a part of training, where a workload trains in our loop."""
DiffExtent = Literal["folders", "repository", "none"]
"""Which uncommitted changes of the git repository are kept: those in the folders of the study file and of the workload,
all, or none.
"""
SCHEDULE_OF_TRIAL = ("decay_steps", "post_warmup_steps", "piecewise_points")
"""The fields of the schedule that may have another value in a promoted trial than its hyperparameters say."""
State = Literal["pending", "running", "completed", "infeasible", "failed", "cancelled", "stopped"]
"""`stopped`: by `search.stop_early`, before its last step; the result of its hyperparameters is not known."""
ENDED: frozenset[str] = frozenset({"completed", "infeasible", "failed", "stopped"})
"""The states that do not change any more: the next `tunectl run` starts or resumes trials in other states, but for
those that `is_stopped_for_good`.
"""
FINAL: frozenset[str] = ENDED - {"failed"}
"""The states in which `--retry-failed`, too, leaves a trial."""
HAS_RESULT: frozenset[str] = FINAL - {"stopped"}
"""The states in which the result of the trial's hyperparameters is known: completed and infeasible."""
NO_METRIC: Final = "no_metric"
"""The reason of a failed trial whose program or function ended well, and never gave a value of the objective."""
CANCELLED: Final = "cancelled"
STOPPED_FOR_GOOD: Final = "stopped"
"""The reason (not the state) of a cancelled trial that a user stopped for good, by `tunectl stop --trial`: only
`--retry-failed` or `tunectl resume` runs it again.
"""


def is_stopped_for_good(state: str, reason: str) -> bool:
    """Whether a user stopped the trial with this state and reason for good; `stop_early` gives another state."""
    return state == CANCELLED and reason == STOPPED_FOR_GOOD


def is_ended(state: str, reason: str) -> bool:
    """Whether a trial with this state and reason has ended for good: every other one is run by the next run."""
    return state in ENDED or is_stopped_for_good(state, reason)


PREFETCHED = 2
"""The number of batches that each loader process makes in advance, unless the study says otherwise: torch's default."""


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A line of plan.jsonl.

    `trial` is its id, `identity` what makes it this trial. `coordinates` are the point in the unit cube ([] where the
    values were not sampled). `hyperparameters` has only the active ones, in the order of the study. `training` has what
    differs in this trial from the study's `training:`, as JSON, and fields of SCHEDULE_OF_TRIAL where the schedule is
    carried over to another length. `stage` counts from 0; a promoted trial has a later one. `suggestion` says how a
    model of earlier trials proposed the point, {} where none did. The line has these three only where they are not
    empty or 0. Where a trial measures throughput, it may have `memory_limit_bytes`; where it is profiled, the fields of
    a request about its data, and `trace_updates`; a procedure's may have `curvature`, the settings, and
    `curvature_needed` and `no_progress`, each 0 or 1. One of the kind `curvature` has `checkpoints`, which it measures;
    those of the last training have `request`, all that they are asked for.
    """

    trial: int
    setting: int
    point: int
    repeat: int
    coordinates: tuple[float, ...]
    hyperparameters: Mapping[str, Scalar]
    seed: int
    trial_kind: TrialKind = "search"
    training: Mapping[str, Any] = field(default_factory=dict)
    stage: int = 0
    suggestion: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """(setting, point, repeat, stage): no two trials of a study have the same."""
        return *self.place, self.stage

    @property
    def origin(self) -> tuple[int, int, int]:
        """(setting, point, stage): what a trial of the search and its retrains have in common."""
        return self.setting, self.point, self.stage

    @property
    def place(self) -> tuple[int, int, int]:
        """(setting, point, repeat): the identity of a procedure's trial, which has no stages."""
        return self.setting, self.point, self.repeat

    @property
    def schedule(self) -> dict[str, int | str]:
        """The fields of the schedule that have another value than the hyperparameters say."""
        return {name: self.training[name] for name in SCHEDULE_OF_TRIAL if name in self.training}

    @property
    def trained_values(self) -> dict[str, Scalar]:
        """The hyperparameters with which the training configuration is made."""
        return {**self.hyperparameters, **self.schedule}

    @property
    def rare(self) -> dict[str, Any]:
        """`training`, `stage` and `suggestion`, each only where it is not empty or 0."""
        content = {"training": dict(self.training), "stage": self.stage, "suggestion": dict(self.suggestion)}
        return {name: value for name, value in content.items() if value}

    def to_json(self) -> dict[str, Any]:
        """The line's content."""
        return {
            "trial": self.trial,
            "setting": self.setting,
            "point": self.point,
            "repeat": self.repeat,
            "coordinates": list(self.coordinates),
            "hyperparameters": dict(self.hyperparameters),
            "seed": self.seed,
            "kind": self.trial_kind,
            **self.rare,
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> PlannedTrial:
        """The trial of a line; raises KeyError or TypeError where the line is not a planned trial."""
        content = {**line, "coordinates": tuple(line["coordinates"]), "hyperparameters": dict(line["hyperparameters"])}
        trial_kind = content.pop("kind", "search")
        return cls(**content, trial_kind=trial_kind)


@dataclass(frozen=True, slots=True)
class WorkloadReference:
    """Where a workload's factory is.

    `text` is the text in the study (`module:factory` or `./file.py:factory`). Exactly one of `module` (dotted name) and
    `file` (absolute path) is set. `search_path` are the folders put at the front of `sys.path`, absolute.
    `workload_kind` is what the name refers to, also code that a study names for a part of training; a command has only
    a text, and nothing is imported for it.
    """

    text: str
    factory: str = ""
    module: str | None = None
    file: str | None = None
    search_path: tuple[str, ...] = ()
    workload_kind: WorkloadKind | CodeKind = field(default="workload", metadata={typed_fields.KEY: "kind"})


ANY_KEYWORD = "it takes **"
"""How the reason of an open signature begins where the `def` takes any keyword."""


@dataclass(frozen=True, slots=True)
class FactorySignature:
    """The keywords of a workload's factory, as far as its `def` shows them.

    `parameters` are the keywords it accepts, `required` those without a default. `open` is true where the source does
    not show them all (`**kwargs`, a decorator, a re-export, no source); `reason` then says why, in a few words. `file`
    and `line` are the place of the `def`, None where it was not found. `defaults` are those defaults that the `def` has
    as plain numbers, text, true or false.
    """

    parameters: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    open: bool = False
    reason: str = ""
    file: str | None = None
    line: int | None = None
    defaults: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a trial does when it becomes unstable: it returns to the last good state and goes on with its learning rate
    times `learning_rate_factor`, at most `max_recoveries` times.
    """

    learning_rate_factor: float = 0.5
    max_recoveries: int = 3


@dataclass(frozen=True, slots=True)
class BatchNormStatistics:
    """That the statistics of batch normalisation are gathered again before each evaluation, over this number of
    training batches.
    """

    batches: int


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """request.json: all that a worker needs to train one trial, with every default filled in.

    `attempt` counts the starts of the trial from 1, over all runs. `arguments` go to the factory by keyword,
    `configuration` has every field of the training configuration. `train_examples` is None where the train split is
    evaluated on as many examples as `valid` has. `recovery` is None where there is none. `stop_after` ends the trial
    after that many of its max_train_steps, with the schedule for all of them; None trains all. Evaluations are at step
    0, at the multiples of `eval_every` from step `eval_from` on, and at the end. `workload_kind` is `workload`, or
    `throughput` where only speed is measured; then `memory_limit_bytes` is the memory that it may use on top of what
    loading used, None for all that is free; or `profile` where it is measured what takes the time, with a trace of
    `trace_updates` updates. A process for each of the `devices` trains its share of every batch. Of its data,
    `prefetch_batches` are made in advance by each of `data_workers`, and with `cache_examples` examples that are the
    same each time are read once. `curvature` is None where no curvature is measured; without `curvature_needed` a trial
    whose curvature cannot be measured trains all the same, and is not measured. Where `workload_kind` is `curvature`,
    nothing is trained, and the curvature is measured at `checkpoints`;
    `data`, `final` and `test` are the trials of a last training (see final_training).
    `batch_norm_statistics` is None where batch normalisation is evaluated with the running statistics of training.
    `predictions` is None where none are kept. `split_examples` are, by split, the sizes of the samples that are
    evaluated on the way; with `whole_at_end` these splits are evaluated whole after the training. `compile`: the
    forward passes of updates are compiled by torch.compile. `sync_batch_norm`: on several devices, batch normalisation
    in updates is that of the batch of all of them.
    """

    study: str
    trial: int
    seed: int
    workload: WorkloadReference
    arguments: Mapping[str, Scalar]
    configuration: Mapping[str, Any]
    objective: Objective
    max_train_steps: int
    eval_every: int
    keep_checkpoints: int
    train_examples: int | None = None
    stop_after: int | None = None
    eval_from: int = 0
    no_progress: bool = True
    recovery: Recovery | None = None
    threads: int = 1
    devices: int = 1
    data_workers: int = 0
    prefetch_batches: int = PREFETCHED
    cache_examples: bool = False
    trace_updates: int = 0
    memory_limit_bytes: int | None = None
    curvature: CurvatureSettings | None = None
    curvature_needed: bool = True
    checkpoints: TrialCheckpoints | None = None
    batch_norm_statistics: BatchNormStatistics | None = None
    predictions: PredictionSettings | None = None
    split_examples: Mapping[str, int] = field(default_factory=dict)
    whole_at_end: bool = True
    compile: bool = False
    sync_batch_norm: bool = False
    attempt: int = 1
    workload_kind: str = field(default="workload", metadata={typed_fields.KEY: "kind"})
    format: int = REQUEST_FORMAT

    @property
    def trained_steps(self) -> int:
        """The number of max_train_steps that are trained."""
        return self.max_train_steps if self.stop_after is None else min(self.stop_after, self.max_train_steps)

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        head = {"format": self.format, "kind": self.workload_kind}
        return head | {key: value for key, value in typed_fields.untyped(self).items() if key not in head}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrialRequest:
        """The request of a file's content; raises DamagedError where this version cannot read it."""
        return checked_request(typed_fields.typed(cls, content))


@dataclass(frozen=True, slots=True)
class TrialResult:
    """result.json: how a trial ended by itself.

    `state` is completed, infeasible, failed or stopped. `reason` is one of nan_initialisation, nan_loss, nan_gradient,
    diverged, no_progress, recovered, out_of_memory, not_measured, stopped_early, error, or the reason with which the
    workload raised Infeasible; "" when completed. `message` is one line for people, `traceback` the whole text. `where`
    is file:line of the innermost frame. `attempt` is the attempt that ended, from 1. `baseline_loss` is the workload's,
    None where it has none or was not built. `exit_code` is that of a program that ended by itself, None where it is not
    known.
    `provisional`: the runner has not decided yet whether the attempt counts; until then the trial has not ended.
    `measurements` is the number of lines in measurements.jsonl at the end, None where an earlier version did not count
    them. `notes` say what a program did not print or what could not be read, each with a detail that may differ between
    trials. `train_examples` is the size of the training set, None where it is not known. `evaluated_examples` are the
    numbers of examples on which a metric of a split is measured, by split; empty where they are not known.
    """

    trial: int
    state: State
    reason: str = ""
    message: str = ""
    infeasible_step: int | None = None
    final_step: int | None = None
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    startup_seconds: float = 0.0
    device: str = ""
    where: str = ""
    traceback: str = ""
    attempt: int = 1
    baseline_loss: float | None = None
    exit_code: int | None = None
    provisional: bool = False
    measurements: int | None = field(default=None, compare=False)
    notes: Mapping[str, str] = field(default_factory=dict)
    train_examples: int | None = None
    evaluated_examples: Mapping[str, int] = field(default_factory=dict)
    format: int = 1

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        rare: dict[str, object] = {"exit_code": None, "provisional": False, "measurements": None, "notes": {}}
        rare |= {"train_examples": None, "evaluated_examples": {}}
        return {name: value for name, value in asdict(self).items() if name not in rare or value != rare[name]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrialResult:
        """The result of a file's content; unknown keys are left out."""
        known = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        return cls(**known)


RUNNER_ENDED = "its runner ended before it"
"""The message of an attempt whose runner was killed, or that still runs."""


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """A line of attempts.jsonl, written by the runner: an attempt without a result, or whose result was not kept.

    `reason` is crashed, lost, released (its worker had to end), timeout (the trial failed), cancelled (it was stopped,
    or its runner ended before it, and it will be resumed), out_of_memory (beside another trial: it is run again alone)
    or error (a failed result that `--retry-failed` put aside). `final` is true when the trial is not tried again
    automatically; one that is cancelled was stopped by a user, also before its first attempt, which then is 0.
    `reached` is how far a trial had come when it was released or lost (see `progress_made`), None for other attempts.
    """

    attempt: int
    reason: str
    message: str = ""
    final: bool = False
    device: str = ""
    reached: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The line's content."""
        content = asdict(self)
        if self.reached is None:
            del content["reached"]
        return content


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """A trial as the tables show it: its plan, its state, and its numbers for one objective.

    `attempts` is the number of its starts, over all runs. `damage` says on one line which of its files could not be
    read, or contradict each other; "" where there is no problem.
    """

    plan: PlannedTrial
    state: State
    reason: str = ""
    message: str = ""
    best_step: int | None = None
    best_value: float | None = None
    final_step: int | None = None
    final_value: float | None = None
    best_checkpoint: str | None = None
    metrics_at_best: Mapping[str, float] = field(default_factory=dict)
    infeasible_step: int | None = None
    train_seconds: float | None = None
    eval_seconds: float | None = None
    startup_seconds: float | None = None
    device: str = ""
    attempts: int = 0
    damage: str = ""
