"""The help text of a user's program, from calling it with `--help`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunectl.core.own_code_request import program_path
from tunectl.core.path_errors import system_reason

LONGEST_SECONDS = 60.0
"""The time limit: a script may import large libraries first, and one without `--help` may begin to train."""

_WIDE = {"COLUMNS": "500", "TERMINAL_WIDTH": "500", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}
"""Environment variables for help without colours and without line breaks inside an entry."""


def request_help(
    program: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    seconds: float = LONGEST_SECONDS,
    *,
    option: str = "--help",
    after: Sequence[str] = (),
) -> tuple[str | None, str]:
    """Call a program in `folder` for its help: the text, None if it printed none, and why the call failed, or "".

    The words are not read by a shell. The program has no input and a process group of its own, which is killed after
    `seconds`. `option` is the help option, and `after` are the words that follow it.
    """
    try:
        process = subprocess.Popen(
            [*program, option, *after],
            cwd=folder,
            env={**os.environ, "PATH": program_path(os.environ), **environment, **_WIDE},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return None, f"it could not be started: {system_reason(error)}"
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None, f"it was still running after {seconds:g} seconds and was killed"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    texts = [text.decode("utf-8", "replace") for text in (output, errors)]
    found = next((text for text in texts if "--" in text), None)
    if process.returncode == 0:
        return found, ""
    last = [line for text in texts for line in text.splitlines() if line.strip()][-1:]
    return found, f"it ended with exit code {process.returncode}" + (f": {last[0].strip()}" if last else "")
