"""Starting the program of a trial: the values of placeholders, the command line, the environment.

Tested with shell_command.py and command_trial.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tunectl.core import parent_death
from tunectl.core.errors import WorkloadError
from tunectl.core.files import write_bytes
from tunectl.core.folders import TrialFolder
from tunectl.core.own_code_request import RESUME, CommandRequest, program_path, variable_of
from tunectl.core.path_errors import system_reason
from tunectl.core.recorded_metrics import RECORD_VARIABLE, RECORDED
from tunectl.core.records import Scalar
from tunectl.core.shortages import patiently, shortage
from tunectl.core.wording import as_text
from tunectl.language.placeholders import AbsentError, command_line, filled
from tunectl.programs.torchrun import RANKS, distributed


def placeholder_values(request: CommandRequest, folder: TrialFolder, resume: Path | None) -> dict[str, str]:
    """The values of the placeholders in this trial, whose program resumes from the checkpoint at `resume`, if any."""
    values = {name: as_text(value) for name, value in request.hyperparameters.items()}
    own = {
        "max_train_steps": str(request.max_train_steps),
        "trial.dir": str(folder.files),
        "trial.id": str(request.trial),
        "trial.seed": str(request.seed),
        "trial.hyperparameters": str(folder.path / "hyperparameters.yaml"),
    }
    return values | own | ({RESUME: str(resume)} if resume is not None else {})


def program_variables(request: CommandRequest, values: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that a program gets beside those of this process: every value as TUNECTL_…, where
    `tunectl.record` writes, and the study's variables.
    """
    # Lines must arrive when they are printed, not when a buffer is full.
    found = {"PYTHONUNBUFFERED": "1", **{variable_of(name): text for name, text in values.items()}}
    found[RECORD_VARIABLE] = str(Path(values["trial.dir"]) / RECORDED)
    for name, text in request.program.environment.items():
        with contextlib.suppress(AbsentError):
            found[name] = filled(text, values)
    return found


def _environment(request: CommandRequest, values: Mapping[str, str]) -> dict[str, str]:
    """The program's environment."""
    found = {**os.environ, "PATH": program_path(os.environ), **program_variables(request, values)}
    # It marks the processes of a run. `check` refuses a hyperparameter with this variable.
    found |= {parent_death.MARK: os.environ[parent_death.MARK]} if parent_death.MARK in os.environ else {}
    return found


def program_line(request: CommandRequest, values: Mapping[str, str]) -> tuple[list[str], str]:
    """The arguments of the program, and the folder in which it runs; raises AbsentError where it needs a checkpoint."""
    program = request.program
    line = command_line(program.arguments, values, request.hyperparameters)
    folder = values["trial.dir"] if program.in_trial_folder else program.folder
    if program.in_trial_folder:
        line = [_from_folder(program.folder, text) for text in line]
    if program.devices > 1:
        line = distributed(line, program.devices, Path(values["trial.dir"]) / RANKS)
    return line, folder


def write_hyperparameters(request: CommandRequest, path: Path) -> None:
    """Write the hyperparameters to a file that JSON and YAML 1.1 read in the same way."""
    # Not flushed, since it is written again for every attempt before the program starts.
    lines = [f"  {json.dumps(name)}: {_scalar(value)}" for name, value in request.hyperparameters.items()]
    content = "{\n" + ",\n".join(lines) + "\n}\n"
    write_bytes(path, content.encode(), durable=False, within=TrialFolder(path.parent).study)


def _scalar(value: Scalar) -> str:
    text = json.dumps(value)
    # In YAML 1.1 a number without a decimal point, such as 1e-05, is text.
    return text.replace("e", ".0e", 1) if isinstance(value, float) and "e" in text and "." not in text else text


def _from_folder(folder: str, argument: str) -> str:
    """An argument that names a file in a folder, as an absolute path; other arguments unchanged."""
    is_path = bool(argument) and not argument.startswith(("-", "/"))
    path = str(Path(folder) / argument)
    # Unlike Path.is_file, this is false for a text that is too long for a path.
    return path if is_path and os.path.isfile(path) else argument  # noqa: PTH113


def started(request: CommandRequest, values: Mapping[str, str], log: int) -> subprocess.Popen[bytes]:
    """Start the program; its output goes to the descriptor `log`.

    Raises WorkloadError if it cannot be started, OSError if the machine is short of what a process needs.
    """
    line, folder = program_line(request, values)
    parent, environment = os.getpid(), _environment(request, values)
    # Found here, since the system would search the PATH of this process, not that of the program.
    executable = line[0] if "/" in line[0] else shutil.which(line[0], path=environment["PATH"])

    def ready() -> None:
        # Between fork and exec, in a process of one thread. An ignored signal would stay ignored in the program.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        parent_death.die_with_parent(parent)

    try:
        return patiently(
            lambda: subprocess.Popen(
                line,
                executable=executable,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=ready,
                # Its own group, so that its processes can be distinguished from this one.
                process_group=0,
            )
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        if shortage(error):
            raise
        reason = system_reason(error)
        raise WorkloadError(f"the command {line[0]!r} cannot be started in {folder}: {reason}") from error
