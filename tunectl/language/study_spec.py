"""A study as it was understood: frozen, complete, free of YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from tunectl.core.errors import Problem
from tunectl.core.objective import Objective
from tunectl.core.programs import Program
from tunectl.core.records import DiffExtent, Recovery, Scalar, WorkloadKind
from tunectl.language.document import PathKey, problem_at

Role = Literal["scientific", "nuisance", "fixed"]
Scale = Literal["linear", "log", "one_minus_log"]
Sampler = Literal["halton", "random", "grid", "points"]


@dataclass(frozen=True, slots=True)
class FixedValue:
    """One value."""

    value: Scalar


def sameness(value: Scalar) -> tuple[bool, Scalar]:
    """What two values have in common exactly where they are the same to a study: 1 and 1.0 are, true and 1 are not."""
    return isinstance(value, bool), value


@dataclass(frozen=True)
class ValueSet:
    """A set of values."""

    values: tuple[Scalar, ...]

    def position(self, value: Scalar) -> int | None:
        """Where in the set the value is, None where it is not."""
        return self._positions.get(sameness(value))

    @cached_property
    def _positions(self) -> dict[tuple[bool, Scalar], int]:
        # Sets of many thousands of values are looked into many thousands of times.
        return {sameness(value): index for index, value in enumerate(self.values)}


@dataclass(frozen=True, slots=True)
class Range:
    """An interval: [low, high] on a scale. Bounds are inclusive; both are ints where `integer`.

    `points` is the number of grid points (sampler grid only).
    """

    low: float
    high: float
    scale: Scale = "linear"
    integer: bool = False
    points: int | None = None


Domain = FixedValue | ValueSet | Range

Condition = Mapping[str, tuple[Scalar, ...]]
"""`when`: for each parent's name the values under which the hyperparameter is active; all names must hold. {} is
always.
"""


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One alternative of a name: a role, a domain, and the condition under which it is active.

    `key` names it in findings and axes: `momentum`, or `learning_rate[optimizer=adam]` where the name has alternatives.
    `path` is where it stands in the study file. `sampled`: a scientific set sampled within each setting. `off`: the
    value at which regularisation or augmentation is off, None where the study does not say.
    """

    name: str
    key: str
    role: Role
    domain: Domain
    when: Condition = field(default_factory=dict)
    sampled: bool = False
    path: tuple[str | int, ...] = ()
    off: Scalar | None = None

    @property
    def varies(self) -> bool:
        """Whether it takes more than its one fixed value."""
        return not isinstance(self.domain, FixedValue)

    @property
    def makes_settings(self) -> bool:
        """Whether its values are the settings of the study (they own no coordinate)."""
        return self.role == "scientific" and isinstance(self.domain, ValueSet) and not self.sampled

    @property
    def has_coordinate(self) -> bool:
        """Whether its value is sampled within each setting."""
        return self.varies and not self.makes_settings


@dataclass(frozen=True, slots=True)
class TrainingSection:
    """`training:`, with defaults filled in. `train_examples` None: as many as `valid` has. `recovery` None: a trial
    that becomes unstable stays so.
    """

    max_train_steps: int
    eval_every: int
    keep_checkpoints: int = 3
    seed: int = 0
    train_examples: int | None = None
    no_progress: bool = True
    recovery: Recovery | None = None


@dataclass(frozen=True, slots=True)
class SearchSection:
    """`search:`. `trials` counts trials per setting (None for grid and points); `points` are hand-written
    configurations.
    """

    sampler: Sampler = "halton"
    trials: int | None = None
    seed: int = 0
    points: tuple[Mapping[str, Scalar], ...] = ()


@dataclass(frozen=True, slots=True)
class ResourcesSection:
    """`resources:`. `devices` is "auto", "cpu", or GPU indices and UUIDs inside CUDA_VISIBLE_DEVICES."""

    devices: str | tuple[int | str, ...] = "auto"
    trials_per_device: int = 1
    threads_per_trial: int = 1
    data_workers: int = 0
    retries: int = 1
    trial_timeout_seconds: float | None = None
    grace_seconds: float = 30.0
    devices_per_trial: int = 1


POINTS: PathKey = ("search", "points")


@dataclass(frozen=True, slots=True)
class PointsFile:
    """A CSV file of configurations: the path as the user would write it, and the file's content."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class StudySpec:
    """A whole study.

    `file` is the study file's absolute path, `label` the path as the user wrote it, `text` the file's content.
    `hyperparameters` keeps the order of the file, alternatives of a name standing together. `places` gives the line and
    column of every path in the file; `points_file` is the CSV file that `search.points` names, None where points stand
    in the study file. `shared_files` are patterns of files that trials of own code are meant to write together.
    `workload` is the text by which the workload is known: a factory's reference
    (`module:factory`), a function's under `kind` "function", or a command line, of which `program` holds all.
    `baseline_loss` is the training loss of the best constant prediction, as a study of own code says it; None where it
    does not, and for a workload, which has its own. `uncommitted_diff`: which changes of the git repository are kept.
    """

    name: str
    goal: str
    notes: str
    workload: str
    objective: Objective
    training: TrainingSection
    hyperparameters: tuple[Hyperparameter, ...]
    search: SearchSection
    resources: ResourcesSection
    file: Path
    label: str
    text: str
    places: Mapping[tuple[str | int, ...], tuple[int, int]]
    key_places: Mapping[tuple[str | int, ...], tuple[int, int]]
    kind: WorkloadKind = "workload"
    program: Program | None = None
    baseline_loss: float | None = None
    points_file: PointsFile | None = None
    shared_files: tuple[str, ...] = ()
    uncommitted_diff: DiffExtent = "folders"

    @property
    def own_code(self) -> bool:
        """Whether the user's own code trains: the fields of the training configuration mean nothing to it."""
        return self.kind != "workload"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the hyperparameters in the order of the file, each once."""
        return tuple(dict.fromkeys(item.name for item in self.hyperparameters))

    def alternatives(self, name: str) -> tuple[Hyperparameter, ...]:
        """The hyperparameters that go by one name."""
        return tuple(item for item in self.hyperparameters if item.name == name)

    def problem(self, path: tuple[str | int, ...], message: str, *, at_key: bool = False) -> Problem:
        """A problem with the value (or the key) at `path`, or with its nearest parent that stands in the file."""
        others = {POINTS: self.points_file.label} if self.points_file else None
        return problem_at(self.label, self.key_places if at_key else self.places, path, message, others)
