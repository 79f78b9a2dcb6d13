"""A study as it was understood: frozen, complete, free of YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.errors import PathKey, Problem, problem_at
from tunectl.core.objective import Objective
from tunectl.core.program_request import Program
from tunectl.core.records import DiffExtent, Recovery, WorkloadKind
from tunectl.space.hyperparameters import Hyperparameter
from tunectl.space.search_space import SearchSection


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
class ResourcesSection:
    """`resources:`. `devices` is "auto", "cpu", or GPU indices and UUIDs inside CUDA_VISIBLE_DEVICES.

    `backend` is the name of a backend in execution.backends.
    """

    devices: str | tuple[int | str, ...] = "auto"
    trials_per_device: int = 1
    threads_per_trial: int = 1
    data_workers: int = 0
    retries: int = 1
    trial_timeout_seconds: float | None = None
    grace_seconds: float = 30.0
    devices_per_trial: int = 1
    backend: str = "local"


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
    def seed(self) -> int:
        """`training.seed`."""
        return self.training.seed

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
