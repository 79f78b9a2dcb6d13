"""`train-final` of own code: how its program or function is called, which trains by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.core.folders import StudyFolder
from tunectl.core.own_code_request import CommandRequest, FunctionRequest
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text
from tunectl.execution.slots import thread_environment
from tunectl.programs.shell_command import ShellCommand, shell_command
from tunectl.session.chosen_trial import ChosenTrial
from tunectl.store.study_folder import study_path


@dataclass(frozen=True, slots=True)
class FinalProgram:
    """The configuration of a trial of own code, and how it is called: a command, or a function of the user.

    `best_step` is the step to train to, of `max_train_steps`. `command` is None where `function` is its name.
    """

    study: str
    trial: int
    seed: int
    hyperparameters: Mapping[str, Scalar]
    best_step: int
    max_train_steps: int
    command: ShellCommand | None = None
    function: str = ""

    @property
    def explanation(self) -> str:
        """Why nothing was trained, and what the user has to do."""
        what = "program" if self.command is not None else "function"
        return (
            f"train-final: the {what} of trial {self.trial} trains by itself, so nothing was trained here. To train on "
            f"train and validation data together is the task of the {what}: change which data it reads, then call it "
            f"with these values. The best step of this configuration was {self.best_step:,}, of "
            f"{self.max_train_steps:,}; `test` was not evaluated, and no look at it is recorded."
        )

    @property
    def lines(self) -> list[str]:
        """The call: lines for a shell, or the function with its arguments."""
        if self.command is not None:
            return self.command.lines
        values = [f"  {name}: {as_text(value)}" for name, value in self.hyperparameters.items()]
        return [f"{self.function} with", *values, f"  seed: {self.seed}"]

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object."""
        command = self.command
        return {
            "procedure": "train-final",
            "study": self.study,
            "trial": self.trial,
            "seed": self.seed,
            "hyperparameters": dict(self.hyperparameters),
            "best_step": self.best_step,
            "max_train_steps": self.max_train_steps,
            "folder": None if command is None else command.folder,
            "environment": None if command is None else dict(command.environment),
            "command": None if command is None else list(command.arguments),
            "function": self.function or None,
            "exit_code": 0,
        }


def final_program(chosen: ChosenTrial, asked: CommandRequest | FunctionRequest, to: Path | None) -> FinalProgram:
    """How the configuration of a trial of own code is called again; a program writes to `to`, or runs/<study>.final."""
    command = None
    if isinstance(asked, CommandRequest):
        output = to or study_path(Path("runs"), f"{chosen.spec.name}.final")
        trial = StudyFolder(chosen.folder.path.absolute()).trial(chosen.outcome.plan.trial)
        threads = thread_environment(chosen.spec.resources.threads_per_trial)
        command = shell_command(asked, trial, Path.cwd() / output, threads)
    return FinalProgram(
        study=chosen.spec.name,
        trial=chosen.outcome.plan.trial,
        seed=asked.seed,
        hyperparameters=asked.hyperparameters,
        best_step=chosen.steps.typical,
        max_train_steps=asked.max_train_steps,
        command=command,
        function=asked.workload.text if isinstance(asked, FunctionRequest) else "",
    )
