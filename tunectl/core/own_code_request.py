"""A trial that is a program of the user's own: how it is called, where it tells its metrics, what its ends mean."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tunectl.core import typed_fields
from tunectl.core.objective import Objective
from tunectl.core.records import REQUEST_FORMAT, Scalar, TrialRequest, WorkloadReference, checked_request

RESUME = "trial.resume"
"""The checkpoint that a trial goes on from: a placeholder, and in the condition of an argument whether there is one."""

TRAINING_LOSS = "train/loss"
"""The metric by which own code is judged; a program's own name is made this one by `names`."""

SHORT = 0.95
"""A trial whose last step is below this part of max_train_steps, by more than one interval, ended too early for it (a
cadence that does not divide the length leaves less), and one that is as far above it too late.
"""


def ended_early(last_step: int, interval: int, max_train_steps: int) -> bool:
    """Whether a program whose steps are up to `interval` apart ended long before its last one."""
    return last_step + interval < max_train_steps and last_step < SHORT * max_train_steps


SourceKind = Literal["regex", "json_lines", "csv", "tensorboard"]

OUTPUT = "stdout"
"""Where JSON lines stand among all that a program prints; everything else that `where` may be is a path."""


@dataclass(frozen=True, slots=True)
class MetricSource:
    """One place where a program tells its metrics.

    `where` is a regular expression (kind regex), OUTPUT or a file (json_lines), a file (csv) or a folder (tensorboard);
    paths hold placeholders and may hold `*`. `step` names the group, key or column of the step, to which `offset` is
    added; with `every` the n-th time that the source tells something is step n times that. `names` renames: what the
    program calls a metric to what the study calls it.
    """

    kind: SourceKind
    where: str
    step: str = "step"
    names: Mapping[str, str] = field(default_factory=dict)
    offset: int = 0
    every: int | None = None

    def metric(self, name: str) -> str:
        """What the study calls what the program calls `name`; `__` of a group's name, which holds no stroke, is `/`."""
        return self.names.get(name) or (name.replace("__", "/") if self.kind == "regex" else name)

    def named(self) -> set[str]:
        """The metrics that an expression names; of other sources, of which nobody knows what they hold, the renamed."""
        if self.kind != "regex":
            return set(self.names.values())
        return {self.metric(name) for name in re.compile(self.where).groupindex if name != self.step}


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a program writes its checkpoints: a path with `{step}`; the number there times `every` plus `offset` is the
    step as the metrics count it (`offset` None: 0, but the study does not say so).

    A path without `{step}` is that of one file (or folder) that is written again and again.
    """

    path: str
    every: int = 1
    offset: int | None = None

    @property
    def is_one(self) -> bool:
        """Whether it is one file that is written again and again."""
        return "step" not in _names(self.path)


@dataclass(frozen=True, slots=True)
class InfeasibleEnds:
    """The ends that are the hyperparameters' fault: exit codes, what is said before an end that is no success, and the
    metrics that end a trial when they are NaN, as the objective does.
    """

    exit_codes: tuple[int, ...] = ()
    patterns: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Optional:
    """Arguments that a command line holds only in some trials: where every placeholder has a value, and under `when`.

    `when` gives values by hyperparameter, as a hyperparameter's own `when` does; all must hold. RESUME is true there
    where the trial goes on from a checkpoint.
    """

    arguments: tuple[str, ...]
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)


Argument = str | Optional


@dataclass(frozen=True, slots=True)
class CommandReading:
    """What of a program says how its output and its end are read: changed, a trial that has ended is read again."""

    sources: tuple[MetricSource, ...] = ()
    checkpoints: Checkpoints | None = None
    infeasible: InfeasibleEnds = InfeasibleEnds()


@dataclass(frozen=True, slots=True)
class Program:
    """A program as the study declares it; texts hold placeholders.

    `folder` is where it runs, absolute; with `in_trial_folder` it runs in a folder of the trial's own, and `folder` is
    where the files stand that its arguments name. `checkpoints` is None where it keeps none that are to be looked
    after. `devices` is how many devices one trial has; more than one starts it under torchrun.
    """

    arguments: tuple[Argument, ...]
    folder: str
    sources: tuple[MetricSource, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    checkpoints: Checkpoints | None = None
    infeasible: InfeasibleEnds = InfeasibleEnds()
    devices: int = 1
    in_trial_folder: bool = False

    @property
    def reading(self) -> CommandReading:
        """How its output and its end are read."""
        return CommandReading(self.sources, self.checkpoints, self.infeasible)

    @property
    def counts_steps(self) -> bool:
        """Whether the steps of some metrics are counted, since the program does not print them."""
        return any(item.every is not None for item in self.sources) or self.prints_no_step

    @property
    def prints_no_step(self) -> bool:
        """Whether it is known that the program prints no step at all: its expressions name none."""
        return bool(self.sources) and all(
            item.kind == "regex" and item.every is None and item.step not in re.compile(item.where).groupindex
            for item in self.sources
        )

    @property
    def takes_resume(self) -> bool:
        """Whether it is given the checkpoint to go on from, or is called otherwise where there is one."""
        texts = list(self.environment.values())
        for item in self.arguments:
            texts += [item] if isinstance(item, str) else item.arguments
            if isinstance(item, Optional) and RESUME in item.when:
                return True
        return any(RESUME in _names(text) for text in texts)

    @property
    def goes_on(self) -> bool:
        """Whether a trial that was stopped can go on: what is counted can only go on from a step that is known."""
        return (
            self.checkpoints is not None and self.takes_resume and not (self.checkpoints.is_one and self.counts_steps)
        )


def _names(text: str) -> list[str]:
    """The names of a text's placeholders, which is known to be well-formed; `{{` and `}}` are braces."""
    return [name.strip() for name in re.findall(r"\{\{|\{([^{}]*)\}", text)]


def variable_of(name: str) -> str:
    """The environment variable in which a program finds a hyperparameter, or another value of its trial."""
    return f"TUNECTL_{name.upper().replace('.', '_')}"


def which(program: str, folder: Path) -> str | None:
    """Where a program stands: on the PATH, or, where it is a path, below the folder in which it will run."""
    return shutil.which(program if "/" not in program else str(folder / program), path=program_path(os.environ))


def program_path(environ: Mapping[str, str]) -> str:
    """The PATH on which a study's programs are looked for.

    Where an environment is active (venv, conda), it is the user's own. Where none is, the folder of this interpreter
    comes first, so that `python` is the one that tunectl itself, and torch with it, is installed for.
    """
    path = environ.get("PATH", os.defpath)
    if environ.get("VIRTUAL_ENV") or environ.get("CONDA_PREFIX"):
        return path
    return os.pathsep.join([str(Path(sys.executable).parent), path])


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """request.json of a trial that is a program: all that a worker needs to run it.

    `attempt` counts the launches of the trial from 1, over all runs. `max_train_steps` is in the unit in which the
    program tells its steps. `baseline_loss` is the training loss of the best constant prediction, None where the study
    does not say it; `no_progress` says whether a trial that ends flat there is infeasible.
    """

    study: str
    trial: int
    seed: int
    program: Program
    hyperparameters: Mapping[str, Scalar]
    objective: Objective
    max_train_steps: int
    keep_checkpoints: int
    baseline_loss: float | None = None
    no_progress: bool = True
    attempt: int = 1
    kind: str = "command"
    format: int = REQUEST_FORMAT

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        head = {"format": self.format, "kind": self.kind}
        return head | {key: value for key, value in asdict(self).items() if key not in head}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CommandRequest:
        """The request of a file's content; raises DamagedError where it is none that this version reads."""
        return checked_request(typed_fields.typed(cls, content))


@dataclass(frozen=True, slots=True)
class FunctionRequest:
    """request.json of a trial that is a function; see CommandRequest."""

    study: str
    trial: int
    seed: int
    workload: WorkloadReference
    hyperparameters: Mapping[str, Scalar]
    objective: Objective
    max_train_steps: int
    keep_checkpoints: int
    baseline_loss: float | None = None
    no_progress: bool = True
    threads: int = 1
    attempt: int = 1
    kind: str = "function"
    format: int = REQUEST_FORMAT

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        head = {"format": self.format, "kind": self.kind}
        return head | {key: value for key, value in asdict(self).items() if key not in head}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FunctionRequest:
        """The request of a file's content; raises DamagedError where it is none that this version reads."""
        return checked_request(typed_fields.typed(cls, content))


Request = TrialRequest | CommandRequest | FunctionRequest
"""What request.json may hold."""


def request_in(content: bytes) -> Request:
    """The request that a request.json holds; raises DamagedError where it holds none that this version reads."""
    return request_of(typed_fields.sealed_object(content))


def request_of(content: Mapping[str, Any]) -> Request:
    """The request of a JSON object; raises DamagedError where it is none that this version reads."""
    match content.get("kind"):
        case "command":
            return CommandRequest.from_json(content)
        case "function":
            return FunctionRequest.from_json(content)
        case _:
            return TrialRequest.from_json(content)
