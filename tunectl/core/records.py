"""What the rooms hand to each other: planned trials, requests, measurements, results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from tunectl.core import jsontext, typed_fields
from tunectl.core.objective import Objective

Scalar = bool | int | float | str
"""The value of a hyperparameter."""

TrialKind = Literal["search", "retrain", "sweep", "throughput"]
"""What a trial is for: the study's own search, the best one again, a procedure, or to measure how fast it trains."""
OF_PROCEDURES: frozenset[str] = frozenset({"sweep", "throughput"})
"""The kinds of trials that only the folder of a procedure has."""
WorkloadKind = Literal["workload", "command", "function"]
"""What trains: a workload in our loop, a program of the user's own, a function of the user's own."""
DiffExtent = Literal["folders", "repository", "none"]
"""Which uncommitted changes of the git repository are kept: those in the folders of the study file and of the workload,
all, or none.
"""
State = Literal["pending", "running", "completed", "infeasible", "failed", "cancelled"]
ENDED: frozenset[str] = frozenset({"completed", "infeasible", "failed"})
"""The states in which a trial stays: the others are run, or gone on with, by the next `tunectl run`."""

REQUEST_FORMAT = 1


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A line of plan.jsonl.

    A trial's identity is (setting, point, repeat); `trial` is its id. `coordinates` are the point in the unit cube
    ([] where the values were not sampled). `hyperparameters` holds the active ones only, in the order of the spec.
    `training` is what of the study's `training:` is otherwise in this trial; the line has it only where there is some.
    One that measures throughput may have `memory_limit_bytes` there.
    """

    trial: int
    setting: int
    point: int
    repeat: int
    coordinates: tuple[float, ...]
    hyperparameters: Mapping[str, Scalar]
    seed: int
    kind: TrialKind = "search"
    training: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The line's content."""
        content = {**asdict(self), "coordinates": list(self.coordinates), "hyperparameters": dict(self.hyperparameters)}
        if not self.training:
            del content["training"]
        return content

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> PlannedTrial:
        """The trial of a line; raises KeyError or TypeError where the line is not one."""
        return cls(
            **{**line, "coordinates": tuple(line["coordinates"]), "hyperparameters": dict(line["hyperparameters"])}
        )


@dataclass(frozen=True, slots=True)
class WorkloadReference:
    """Where a workload's factory is found.

    `text` is what the study says (`module:factory` or `./file.py:factory`). Exactly one of `module` (dotted name) and
    `file` (absolute path) is set. `search_path` are the folders put in front of `sys.path`, absolute. `kind` is what
    the name stands for; a command has a text alone, and nothing of it is loaded.
    """

    text: str
    factory: str = ""
    module: str | None = None
    file: str | None = None
    search_path: tuple[str, ...] = ()
    kind: WorkloadKind = "workload"


@dataclass(frozen=True, slots=True)
class FactorySignature:
    """What a workload's factory takes, as far as its `def` shows.

    `parameters` are the keywords it accepts, `required` those without a default. `open` is true where the source does
    not tell (`**kwargs`, a decorator, a re-export, no source); `reason` then says why, in a few words.
    `file` and `line` are where the `def` stands, None where it was not found. `defaults` are the defaults that the
    `def` shows as plain numbers, text, true or false.
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
    """What a trial does when it becomes unstable: it goes back to the last good state, its learning rate times
    `learning_rate_factor`, at most `max_recoveries` times.
    """

    learning_rate_factor: float = 0.5
    max_recoveries: int = 3


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """request.json: all that a worker needs to train one trial, fully resolved.

    `attempt` counts the launches of the trial from 1, over all runs. `arguments` go to the factory by keyword,
    `configuration` holds every field of the training configuration. `train_examples` is None where the train split is
    evaluated on as many examples as `valid` has, `recovery` where there is none. `stop_after` ends the trial after
    that number of its max_train_steps, under the schedule of all of them; None trains to their end. Evaluations come at
    step 0, at the multiples of `eval_every` from step `eval_from` on, and at the end. `kind` is `workload`, or
    `throughput` where speed alone is measured; then `memory_limit_bytes` is what it may take beyond what loading took,
    None for what is free.
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
    data_workers: int = 0
    memory_limit_bytes: int | None = None
    attempt: int = 1
    kind: str = "workload"
    format: int = REQUEST_FORMAT

    @property
    def trained_steps(self) -> int:
        """How many of the max_train_steps are trained."""
        return self.max_train_steps if self.stop_after is None else min(self.stop_after, self.max_train_steps)

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        head = {"format": self.format, "kind": self.kind}
        return head | {key: value for key, value in asdict(self).items() if key not in head}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrialRequest:
        """The request of a file's content; raises DamagedError where it is none that this version reads."""
        return checked_request(typed_fields.typed(cls, content))


_R = TypeVar("_R")


def checked_request(request: _R) -> _R:
    """The request; raises DamagedError where it counts by a number that is none, or is of another version."""
    version = getattr(request, "format", None)
    if version != REQUEST_FORMAT:
        raise typed_fields.DamagedError(f"request format is {version}; this version reads {REQUEST_FORMAT}")
    least = {"trial": 0, "seed": 0, "max_train_steps": 1, "keep_checkpoints": 0, "attempt": 1}
    for name, low in least.items():
        value = getattr(request, name)
        if not typed_fields.is_count(value, low):
            raise typed_fields.DamagedError(
                f"{name}: expected a whole number of at least {low}, got {typed_fields.shown(value)}"
            )
    return request


class Measurement(NamedTuple):
    """A line of measurements.jsonl: one evaluation. A tuple, since large studies have very many of them.

    `step` counts finished updates. `learning_rate` and `gradient_norm` (unclipped) are those of the last update, None
    at step 0. `elapsed_seconds` counts training and evaluation over all attempts. `checkpoint` is the file's name in
    `checkpoints/`, None where none was kept then (a later one may have pushed it out since).
    """

    step: int
    metrics: Mapping[str, float]
    kind: str = "evaluation"
    learning_rate: float | None = None
    gradient_norm: float | None = None
    elapsed_seconds: float = 0.0
    checkpoint: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The line's content, in the order of the file format."""
        return {
            "step": self.step,
            "kind": self.kind,
            "metrics": dict(self.metrics),
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm,
            "elapsed_seconds": self.elapsed_seconds,
            "checkpoint": self.checkpoint,
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Measurement | None:
        """The measurement of a line, None where the line is not one."""
        step, metrics, kind = line.get("step"), line.get("metrics"), line.get("kind", "evaluation")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0 or not isinstance(metrics, dict):
            return None
        if not isinstance(kind, str):
            return None
        read = {str(name): jsontext.number(value) for name, value in metrics.items()}
        checkpoint = line.get("checkpoint")
        return cls(
            step=step,
            metrics={name: value for name, value in read.items() if value is not None},
            kind=kind,
            learning_rate=jsontext.number(line.get("learning_rate")),
            gradient_norm=jsontext.number(line.get("gradient_norm")),
            elapsed_seconds=jsontext.number(line.get("elapsed_seconds")) or 0.0,
            checkpoint=checkpoint if isinstance(checkpoint, str) else None,
        )


@dataclass(frozen=True, slots=True)
class UpdateBlock:
    """A line of steps.jsonl: consecutive updates from `first` on, each list with one entry an update.

    `loss` is the minibatch loss, `gradient_norm` the unclipped global norm. `skipped` are the updates that changed
    nothing because a float16 gradient overflowed under the loss scale of then; their norm is not finite.
    `update_ratio`, of the updates `update_ratio_steps`, is the norm of the change of all weights of two or more axes
    over the norm of these weights before it.
    """

    first: int
    loss: Sequence[float]
    gradient_norm: Sequence[float]
    clipped: Sequence[bool]
    learning_rate: Sequence[float]
    skipped: Sequence[int] = ()
    update_ratio_steps: Sequence[int] = ()
    update_ratio: Sequence[float] = ()


@dataclass(slots=True)
class TrialSeconds:
    """What the time of a trial went into until now, in seconds.

    `startup_seconds` is the last attempt's, from its launch to the beginning of its training; the others are sums over
    all attempts. The caller of a training holds it, so that the numbers outlive an exception.
    """

    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    startup_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TrialResult:
    """result.json: how a trial ended by itself.

    `state` is completed, infeasible or failed. `reason` is one of these words (nan_loss, nan_gradient,
    diverged, no_progress, recovered, out_of_memory, error) or what the workload said when it raised Infeasible; ""
    when completed.
    `message` is one line for people, `traceback` the whole text. `where` is file:line of the innermost frame.
    `attempt` is the one that ended so, from 1. `baseline_loss` is the workload's, None where it has none or was not
    built. `exit_code` is that of a program that ended by itself, None where it is not known. `provisional`: the runner
    has yet to say whether the attempt counts; until then it is none that ended.
    `measurements` is how many lines measurements.jsonl had then, None where an earlier version did not count them.
    `notes` are what a program did not print or could not be read of it, each with a detail that may differ by trial.
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
    format: int = 1

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        rare: dict[str, object] = {"exit_code": None, "provisional": False, "measurements": None, "notes": {}}
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
    """A line of attempts.jsonl, by the runner: an attempt that gave no result, or one whose result did not stay.

    `reason` is crashed, lost, timeout (the trial failed), cancelled (it was stopped, or its runner ended before it,
    and it will go on), out_of_memory (beside another trial: it is run again alone) or error (a failed result that
    `--retry-failed` put aside). `final` is true when the trial is not tried again by itself.
    """

    attempt: int
    reason: str
    message: str = ""
    final: bool = False
    device: str = ""

    def to_json(self) -> dict[str, Any]:
        """The line's content."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """A trial as the tables show it: its plan, its state, and its numbers under one objective.

    `attempts` is how often it was launched, over all runs. `damage` says on one line what of its files could not be
    read, or does not fit together; "" where all is sound.
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
