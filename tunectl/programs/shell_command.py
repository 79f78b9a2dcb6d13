"""The command of a trial's program as a user can call it in a shell, without tunectl."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.folders import TrialFolder
from tunectl.core.own_code_request import RESUME, CommandRequest, program_path
from tunectl.core.safe_text import ACTING
from tunectl.language.placeholders import DIR, AbsentError
from tunectl.programs.program_start import placeholder_values, program_line, program_variables

_NOT_PRINTED = re.compile(rf"{ACTING.pattern}|[\udc80-\udcff]")
"""Characters that a terminal would act on, or bytes that are no text."""


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A program: the folder where it runs, the one that it writes to, its environment variables, and its arguments.

    `path` is the folder that comes before the PATH of the shell, "" for none.
    """

    folder: str
    output: str
    environment: Mapping[str, str]
    arguments: tuple[str, ...]
    path: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines for a POSIX shell: one command in a subshell, so that its folder and variables stay its own."""
        variables = [f"{shell_word(name)}={shell_word(text)}" for name, text in self.environment.items()]
        if self.path and "PATH" not in self.environment:
            variables.insert(0, f'PATH={shell_word(self.path)}:"$PATH"')
        words = [shell_word(text) for text in self.arguments]
        if "=" in self.arguments[0]:  # `env` would take it for a variable
            words = ["sh", "-c", '\'exec "$0" "$@"\'', *words]
        folders = f"mkdir -p {shell_word(self.output)} && cd {shell_word(self.folder)}"
        return [f"({folders} && env \\", *(f"  {variable} \\" for variable in variables), f"  {' '.join(words)})"]


def shell_word(text: str) -> str:
    """The text as one word of a POSIX shell, which printing leaves as it is: what a terminal would act on is written
    by its bytes.
    """
    pieces, place = [], 0
    for found in _NOT_PRINTED.finditer(text):
        octal = "".join(f"\\{byte:03o}" for byte in found[0].encode("utf-8", "surrogateescape"))
        pieces += [shlex.quote(text[place : found.start()])] if found.start() > place else []
        pieces.append(f"\"$(printf '{octal}')\"")
        place = found.end()
    return "".join([*pieces, shlex.quote(text[place:])] if place < len(text) or not pieces else pieces)


def shell_command(
    request: CommandRequest, trial: TrialFolder, output: Path, of_slot: Mapping[str, str]
) -> ShellCommand:
    """The command of a trial with all its values; what the program writes to `{trial.dir}` goes to `output`.

    `of_slot` are variables that the slot of a trial sets. A checkpoint to resume from is not given.
    """
    values = placeholder_values(request, trial, None) | {DIR: str(output)}
    try:
        line, folder = program_line(request, values)
    except AbsentError:  # the program always takes a checkpoint: the user has to know of one
        line, folder = program_line(request, values | {RESUME: f"{{{RESUME}}}"})
    first, _, rest = program_path(os.environ).partition(os.pathsep)
    path = first if rest == os.environ.get("PATH", os.defpath) else ""
    return ShellCommand(folder, str(output), {**of_slot, **program_variables(request, values)}, tuple(line), path)
