"""A program of the user's asked for its `--help`."""

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
"""A script may import large libraries before it reads its options; one that trains instead has none."""

_WIDE = {"COLUMNS": "500", "TERMINAL_WIDTH": "500", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}
"""So that help comes without colours, and without breaks in the middle of it."""


def asked_help(
    program: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    seconds: float = LONGEST_SECONDS,
    *,
    option: str = "--help",
    after: Sequence[str] = (),
) -> tuple[str | None, str]:
    """What a program prints in `folder` when it is asked for help, None where nothing, and how it failed, "" where not.

    No shell reads the words. The program has no input, is a process group of its own, and is killed with all it started
    after `seconds`. `option` is what asks for help, and `after` are words that follow it.
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
        return None, f"it cannot be started: {system_reason(error)}"
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None, f"it had not ended after {seconds:g} seconds, and was killed"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    texts = [text.decode("utf-8", "replace") for text in (output, errors)]
    told = next((text for text in texts if "--" in text), None)
    if process.returncode == 0:
        return told, ""
    last = [line for text in texts for line in text.splitlines() if line.strip()][-1:]
    return told, f"it ends with exit code {process.returncode}" + (f": {last[0].strip()}" if last else "")
