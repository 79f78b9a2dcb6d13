"""The commands of Slurm, called so that a controller that does not answer holds up nothing."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from tunectl.core.errors import TunectlError
from tunectl.core.files import unnamed_file
from tunectl.core.path_errors import system_reason
from tunectl.execution.engines.slurm_words import said

ANSWER_SECONDS = 60.0
"""How long a command may take to answer: Slurm's own commands try for about as long to reach the controller."""

_FILTERS = ("SQUEUE_", "SACCT_", "SCANCEL_")
# Variables by which a user shortens what these commands print: they would hide jobs, which then counted as ended.


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, and when it was started (monotonic seconds). `error` is not "" where it failed."""

    text: str
    error: str
    began: float


def slurm_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for commands that ask about jobs: that of the user without their filters."""
    found = {name: value for name, value in environ.items() if not name.startswith(_FILTERS)}
    if "SBATCH_CLUSTERS" in environ:  # jobs are submitted there
        found["SLURM_CLUSTERS"] = environ["SBATCH_CLUSTERS"]
    found["SLURM_BITSTR_LEN"] = "0"  # the tasks of a long array are all printed, none as "..."
    return found


class Question:
    """One command that is started, and whose answer is collected later; nothing here waits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._began = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the command has not answered yet."""
        return self._process is not None

    def ask(self, *words: str) -> Answer | None:
        """Start the command. Gives an answer at once only where it cannot be started."""
        self.close()
        self._began = self._clock()
        self._output, self._errors = unnamed_file(), unnamed_file()
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._errors,
                env=slurm_environment(os.environ),
                start_new_session=True,  # Ctrl-C is for the run: an answer that is cut off would be taken for a failure
            )
        except OSError as error:
            self.close()
            return Answer("", f"{words[0]}: {system_reason(error)}", self._began)
        return None

    def wait(self, seconds: float) -> None:
        """Wait for the answer of a command for at most this long."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)

    def answer(self) -> Answer | None:
        """The answer, once: None while there is none. A command that takes too long is ended, and has failed."""
        if self._process is None or self._output is None or self._errors is None:
            return None
        code = self._process.poll()
        if code is None and self._clock() - self._began < ANSWER_SECONDS:
            return None
        name = str(self._process.args[0]) if isinstance(self._process.args, (list, tuple)) else ""
        text, errors = _read(self._output), _read(self._errors)
        began = self._began
        self.close()
        if code is None:
            return Answer("", _late(name, ANSWER_SECONDS, errors), began)
        return Answer(text, "" if code == 0 else said(name, errors or text, code), began)

    def close(self) -> None:
        """End the command, if it still runs."""
        if self._process is not None:
            with suppress(OSError):
                self._process.kill()
            self._process.wait()
        for file in (self._output, self._errors):
            if file is not None:
                file.close()
        self._process = self._output = self._errors = None


def call(*words: str, seconds: float) -> str:
    """What a command prints; raises TunectlError with its words where it fails, or takes longer."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=slurm_environment(os.environ),
            timeout=seconds,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise TunectlError(_late(words[0], seconds, (error.stderr or b"").decode(errors="replace"))) from error
    except OSError as error:
        raise TunectlError(f"{words[0]}: {system_reason(error)}") from error
    if done.returncode != 0:
        raise TunectlError(said(words[0], (done.stderr or done.stdout).decode(errors="replace"), done.returncode))
    return done.stdout.decode(errors="replace")


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _late(name: str, seconds: float, errors: str) -> str:
    """That a command took too long, with what it printed until then: such as which file it waits for."""
    waits = f" ({said(name, errors, None)})" if errors.strip() else ""
    return f"{name} did not answer within {seconds:.0f} seconds{waits}"
