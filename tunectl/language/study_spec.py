"""A study as it was read: frozen, complete, without YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import PathKey, Problem, problem_at
from tunectl.core.example_predictions import PredictionSettings
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import Program
from tunectl.core.records import PREFETCHED, BatchNormStatistics, DiffExtent, Recovery, Scalar, WorkloadKind
from tunectl.core.user_code import FoundCode
from tunectl.core.wording import counted
from tunectl.space.hyperparameters import Hyperparameter
from tunectl.space.search_space import SearchSection


@dataclass(frozen=True, slots=True)
class TrainingSection:
    """`training:`, with its defaults. `train_examples` None: as many as `valid` has. `recovery` None: a trial that
    becomes unstable goes on as it is. `curvature` None: no curvature is measured.
    `batch_norm_statistics` None: evaluations use the running statistics of training. `predictions` None: no
    predictions are kept. `split_examples`: of these splits a sample of that size is evaluated on the way. `compile`:
    updates use torch.compile. `sync_batch_norm`: on several devices, batch normalisation is that of the batch of all of
    them. `trial_seed` is the seed of the only trial of a study in which nothing varies, None where
    it comes from `seed`.
    """

    max_train_steps: int
    eval_every: int
    keep_checkpoints: int = 3
    seed: int = 0
    train_examples: int | None = None
    no_progress: bool = True
    recovery: Recovery | None = None
    curvature: CurvatureSettings | None = None
    batch_norm_statistics: BatchNormStatistics | None = None
    predictions: PredictionSettings | None = None
    split_examples: Mapping[str, int] = field(default_factory=dict)
    compile: bool = False
    sync_batch_norm: bool = False
    trial_seed: int | None = None


@dataclass(frozen=True, slots=True)
class RaySection:
    """`resources.ray`: which Ray cluster runs the workers, and what each worker asks for there.

    `address` is host:port, "auto" or "local"; None: what Ray itself would take. `num_gpus` and
    `num_cpus` are one worker's; None: those of one trial. `workers` is the largest number of workers at a time, None:
    as many as the cluster has room for. `additional` are other options of a Ray actor.
    """

    address: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    workers: int | None = None
    additional: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SlurmSection:
    """`resources.slurm`: what a job of Slurm asks for; None: what the partition gives to jobs that do not ask.

    `gpus_per_node` may name their type, such as "a100:2". `setup` are lines of shell that a job runs before its worker.
    `array_parallelism` is the largest number of jobs at a time. `additional` are other options of sbatch by their long
    names; true is an option without a value.
    """

    partition: str | None = None
    time_minutes: int | None = None
    gpus_per_node: int | str | None = None
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    account: str | None = None
    setup: tuple[str, ...] = ()
    array_parallelism: int | None = None
    additional: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def gpus(self) -> int | None:
        """The number of GPUs of one job, of whatever type; None: none are asked for."""
        given = self.gpus_per_node
        return int(given.rpartition(":")[2]) if isinstance(given, str) else given


@dataclass(frozen=True, slots=True)
class ResourcesSection:
    """`resources:`. `devices` is "auto", "cpu", or GPU indices and UUIDs inside CUDA_VISIBLE_DEVICES.

    `backend` is the name of a backend in execution.backends. `min_free_memory` is the part of a GPU's memory that must
    be free before a trial starts there. `heartbeat_seconds` is how often a worker, and the run, show that they are at
    work.
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
    prefetch_batches: int = PREFETCHED
    cache_examples: bool = False
    min_free_memory: float = 0.1
    heartbeat_seconds: float = 10.0
    slurm: SlurmSection = SlurmSection()
    ray: RaySection = RaySection()


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
    `hyperparameters` has the order of the file, with the alternatives of a name one after the other. `places` gives the
    line and column of every value in the file, `key_places` those of the keys. `points_file` is the CSV file that
    `search.points` names, None where the points are in the study file. `shared_files` are patterns of the files that
    several trials of own code may write. `workload` is text: a factory's reference (`module:factory`), a function's
    where `workload_kind` is "function", or the command line where it is "command" (then `program` has all).
    `baseline_loss` is the training loss of the best constant prediction as the study gives it: only for own code, else
    None. `uncommitted_diff`: which changes of the git repository are kept. `code` is what the values of `optimizer` and
    `schedule` name, by their text; it is found when the study is checked.
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
    workload_kind: WorkloadKind = "workload"
    program: Program | None = None
    baseline_loss: float | None = None
    points_file: PointsFile | None = None
    shared_files: tuple[str, ...] = ()
    uncommitted_diff: DiffExtent = "folders"
    code: Mapping[str, FoundCode] = field(default_factory=dict)

    @property
    def own_code(self) -> bool:
        """Whether the user's own code trains: the fields of the training configuration have no meaning then."""
        return self.workload_kind != "workload"

    @property
    def seed(self) -> int:
        """`training.seed`."""
        return self.training.seed

    @property
    def first_seed(self) -> int | None:
        """`training.trial_seed`."""
        return self.training.trial_seed

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the hyperparameters in the order of the file, each once."""
        return tuple(dict.fromkeys(item.name for item in self.hyperparameters))

    def alternatives(self, name: str) -> tuple[Hyperparameter, ...]:
        """The hyperparameters of one name."""
        return tuple(item for item in self.hyperparameters if item.name == name)

    def ranking(self, objective: Objective) -> str:
        """How trials are ranked under an objective, in words for a title.

        With a target it says how exactly the steps are known: a trial may have been there since its last evaluation.
        """
        if objective.steps_to is None:
            return f"{objective.metric}, {objective.direction}"
        every = counted(self.training.eval_every, "step")
        when = "at the steps that the trials recorded" if self.own_code else f"every {every.removeprefix('1 ')}"
        return f"{objective.title}, fewer is better (evaluated {when})"

    def problem(self, path: tuple[str | int, ...], message: str, *, at_key: bool = False) -> Problem:
        """A problem with the value (or the key) at `path`, or with its nearest parent in the file."""
        others = {POINTS: self.points_file.label} if self.points_file else None
        return problem_at(self.label, self.key_places if at_key else self.places, path, message, others)
