"""Trials of the user's own code, a command or a function: what the study declares, and what request.json holds.

A command is how the user's program is started as a process; a function is the user's Python function. This is in core
because `language` reads the declaration from the study file, `store` reads and writes the requests, and both rooms are
below `programs`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tunectl.core import typed_fields
from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.objective import Objective
from tunectl.core.records import Scalar, TrialRequest, WorkloadReference
from tunectl.core.request_check import REQUEST_FORMAT, checked_request

RESUME = "trial.resume"
"""The checkpoint that a trial resumes from: a placeholder; in an argument's condition, whether there is one."""

TRAINING_LOSS = "train/loss"
"""The metric from which it is decided whether own code diverged; `names` renames the program's metric to it."""

SHORT = 0.95
"""A trial ended too early if its last step is below this part of max_train_steps, and by more than one interval between
evaluations (an interval that does not divide the length leaves less). It ended too late if it is as far above.
"""


def ended_early(last_step: int, interval: int, max_train_steps: int) -> bool:
    """Whether a program, whose steps are up to `interval` apart, ended long before its last step."""
    return last_step + interval < max_train_steps and last_step < SHORT * max_train_steps


SourceKind = Literal["regex", "json_lines", "csv", "tensorboard"]

OUTPUT = "stdout"
"""The `where` of JSON lines that a program prints; every other `where` is a path."""


@dataclass(frozen=True, slots=True)
class MetricSource:
    """One place where a program prints or writes its metrics.

    `where` is a regular expression (`source_kind` regex), OUTPUT or a file (json_lines), a file (csv) or a folder
    (tensorboard); paths may have placeholders and `*`. `step` is the name of the group, key or column with the step, to
    which `offset` is added. With `every`, steps are counted: the n-th metrics of this source are of step n times
    `every`. `names` maps the program's names of metrics to those of the study.
    """

    source_kind: SourceKind = field(metadata={typed_fields.KEY: "kind"})
    where: str
    step: str = "step"
    names: Mapping[str, str] = field(default_factory=dict)
    offset: int = 0
    every: int | None = None

    def metric(self, name: str) -> str:
        """The study's name of the program's metric `name`; `__` in the name of a regex group means `/`."""
        return self.names.get(name) or (name.replace("__", "/") if self.source_kind == "regex" else name)

    def named(self) -> set[str]:
        """The metrics that an expression names; of other sources, whose content is not known, only the renamed ones."""
        if self.source_kind != "regex":
            return set(self.names.values())
        return {self.metric(name) for name in re.compile(self.where).groupindex if name != self.step}


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a program writes its checkpoints: a path with `{step}`.

    The number in the path times `every` plus `offset` is the step as the metrics count it; `offset` None means 0, and
    that the study does not set it. A path without `{step}` is one file (or folder) that is overwritten again and again.
    """

    path: str
    every: int = 1
    offset: int | None = None

    @property
    def is_one(self) -> bool:
        """Whether it is one file that is overwritten again and again."""
        return "step" not in _names(self.path)


@dataclass(frozen=True, slots=True)
class InfeasibleEnds:
    """The ends of a program that make a trial infeasible, because the hyperparameters are at fault.

    `exit_codes` are exit codes, `patterns` match what the program prints before it fails, and `metrics` end a trial
    when they are NaN, as the objective does.
    """

    exit_codes: tuple[int, ...] = ()
    patterns: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Optional:
    """Arguments that are used only in some trials: if every placeholder has a value, and `when` is fulfilled.

    `when` has values by hyperparameter, like the `when` of a hyperparameter; all must match. RESUME is true in it if
    the trial resumes from a checkpoint.
    """

    arguments: tuple[str, ...]
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)


Argument = str | Optional


@dataclass(frozen=True, slots=True)
class CommandReading:
    """How a program's output and its end are read; if this changes, ended trials are read again."""

    sources: tuple[MetricSource, ...] = ()
    checkpoints: Checkpoints | None = None
    infeasible: InfeasibleEnds = InfeasibleEnds()


@dataclass(frozen=True, slots=True)
class Program:
    """A program as the study declares it under `command`; its texts may have placeholders.

    `folder` is the absolute path of the folder where it runs. With `in_trial_folder` it runs in a folder of its trial,
    and `folder` has the files that its arguments name. `checkpoints` is None if the study declares none. `devices` is
    the number of devices of one trial; with more than one, torchrun starts the program.
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
        """Whether the steps of some metrics are counted because the program does not print them."""
        return any(item.every is not None for item in self.sources) or self.prints_no_step

    @property
    def prints_no_step(self) -> bool:
        """Whether it is certain that the program never prints a step: no expression has a group for it."""
        return bool(self.sources) and all(
            item.source_kind == "regex" and item.every is None and item.step not in re.compile(item.where).groupindex
            for item in self.sources
        )

    @property
    def takes_resume(self) -> bool:
        """Whether its command line or environment changes if there is a checkpoint to resume from."""
        texts = list(self.environment.values())
        for item in self.arguments:
            texts += [item] if isinstance(item, str) else item.arguments
            if isinstance(item, Optional) and RESUME in item.when:
                return True
        return any(RESUME in _names(text) for text in texts)

    @property
    def can_resume(self) -> bool:
        """Whether a stopped trial can resume: steps that are counted need a checkpoint whose step is known."""
        return (
            self.checkpoints is not None and self.takes_resume and not (self.checkpoints.is_one and self.counts_steps)
        )


def _names(text: str) -> list[str]:
    """The names of the placeholders in a text that was checked before; `{{` and `}}` are braces."""
    return [name.strip() for name in re.findall(r"\{\{|\{([^{}]*)\}", text)]


def variable_of(name: str) -> str:
    """The environment variable with a hyperparameter, or another value of the trial."""
    return f"TUNECTL_{name.upper().replace('.', '_')}"


def which(program: str, folder: Path) -> str | None:
    """The path of a program: found on the PATH, or, if it has a `/`, relative to the folder in which it runs."""
    return shutil.which(program if "/" not in program else str(folder / program), path=program_path(os.environ))


def program_path(environ: Mapping[str, str]) -> str:
    """The PATH on which a study's programs are found.

    If an environment is active (venv, conda), it is the user's PATH. Otherwise the folder of this interpreter comes
    first, so that `python` is the one for which tunectl and torch are installed.
    """
    path = environ.get("PATH", os.defpath)
    if environ.get("VIRTUAL_ENV") or environ.get("CONDA_PREFIX"):
        return path
    return os.pathsep.join([str(Path(sys.executable).parent), path])


def request_json(request: CommandRequest | FunctionRequest) -> dict[str, Any]:
    """The content of a request.json, its format and kind first."""
    head = {"format": request.format, "kind": request.workload_kind}
    return head | {key: value for key, value in typed_fields.untyped(request).items() if key not in head}


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """The request.json of a command's trial: everything that a worker needs to run it.

    `attempt` counts the launches of the trial from 1, over all runs. `max_train_steps` is in the program's own steps.
    `baseline_loss` is the training loss of the best constant prediction, None if the study does not give it;
    `no_progress` says whether a trial is infeasible if its loss ends flat there.
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
    workload_kind: str = field(default="command", metadata={typed_fields.KEY: "kind"})
    format: int = REQUEST_FORMAT

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        return request_json(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CommandRequest:
        """The request in a file's content; raises DamagedError if this version cannot read it."""
        return checked_request(typed_fields.typed(cls, content))


@dataclass(frozen=True, slots=True)
class FunctionRequest:
    """The request.json of a function's trial; see CommandRequest.

    `curvature` is how `trial.curvature` measures, None where the study does not say it.
    """

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
    curvature: CurvatureSettings | None = None
    attempt: int = 1
    workload_kind: str = field(default="function", metadata={typed_fields.KEY: "kind"})
    format: int = REQUEST_FORMAT

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        return request_json(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FunctionRequest:
        """The request in a file's content; raises DamagedError if this version cannot read it."""
        return checked_request(typed_fields.typed(cls, content))


Request = TrialRequest | CommandRequest | FunctionRequest
"""The kinds of request.json."""


def request_in(content: bytes) -> Request:
    """The request in the content of request.json; raises DamagedError if this version cannot read it."""
    return request_of(typed_fields.sealed_object(content))


def request_of(content: Mapping[str, Any]) -> Request:
    """The request in a JSON object; raises DamagedError if this version cannot read it."""
    match content.get("kind"):
        case "command":
            return CommandRequest.from_json(content)
        case "function":
            return FunctionRequest.from_json(content)
        case _:
            return TrialRequest.from_json(content)
