"""The command of a trial's program as a user can call it in a shell, without tunectl."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.folders import TrialFolder
from tunectl.core.own_code_request import RESUME, CommandRequest, variable_of
from tunectl.language.placeholders import DIR, AbsentError, command_line, filled
from tunectl.programs.program_start import placeholder_values
from tunectl.programs.torchrun import RANKS, distributed


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A program: the folder where it runs, the one that it writes to, its environment variables, and its arguments."""

    folder: str
    output: str
    environment: Mapping[str, str]
    arguments: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The lines for a POSIX shell."""
        exports = [f"export {name}={shlex.quote(text)}" for name, text in self.environment.items()]
        folders = [f"mkdir -p {shlex.quote(self.output)}", f"cd {shlex.quote(self.folder)}"]
        return [*folders, *exports, shlex.join(self.arguments)]


def shell_command(request: CommandRequest, trial: TrialFolder, output: Path) -> ShellCommand:
    """The command of a trial with all its values; what the program writes to `{trial.dir}` goes to `output`.

    A checkpoint to resume from is not given.
    """
    program, found = request.program, placeholder_values(request, trial, None) | {DIR: str(output)}
    try:
        line = command_line(program.arguments, found, request.hyperparameters)
    except AbsentError:  # the program always takes a checkpoint: the user has to know of one
        line = command_line(program.arguments, found | {RESUME: f"{{{RESUME}}}"}, request.hyperparameters)
    if program.devices > 1:
        line = distributed(line, program.devices, output / RANKS)
    environment = {variable_of(name): text for name, text in found.items()}
    for name, text in program.environment.items():
        environment[name] = filled(text, found | {RESUME: ""})
    folder = str(output) if program.in_trial_folder else program.folder
    return ShellCommand(folder, str(output), environment, tuple(line))
