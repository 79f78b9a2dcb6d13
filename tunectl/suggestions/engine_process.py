"""The engine's process: started with a request, ended with an answer, or with an error that says what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata

from tunectl.core.errors import EXIT_SOME_FAILED, TunectlError
from tunectl.core.installation import install_command
from tunectl.core.path_errors import system_reason
from tunectl.core.typed_fields import DamagedError
from tunectl.suggestions.engine_files import EngineAnswer, EngineRequest, read_answer

# -P: an optuna.py in the current folder, which may be someone else's, must not run.
ENGINE: Sequence[str] = (sys.executable, "-P", "-m", "tunectl.suggestions.engine")
"""The engine's command line, to which the pid of this process is added."""

TIMEOUT_SECONDS = 900.0
"""More than the engine takes with a thousand trials. One that hangs must not hold the study."""

_OLDEST_MAJOR = 5
_LINES_SHOWN = 8
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class EngineError(TunectlError):
    """The engine did not answer; the study can be run again."""

    exit_code = EXIT_SOME_FAILED


def engine_missing() -> str:
    """Why the engine cannot work, with the command that mends it; "" where it can. Imports nothing of it."""
    try:
        version = metadata.version("optuna")
    except metadata.PackageNotFoundError:
        return f"optuna is not installed; {install_command('bayesian')}"
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < _OLDEST_MAJOR:
        return f"optuna {version} is installed, and optuna {_OLDEST_MAJOR} or later is needed; " + (
            install_command("bayesian")
        )
    return ""


def suggested(request: EngineRequest) -> EngineAnswer:
    """The engine's answer to a request: the same one for the same request.

    Threads share sums in an order that is not fixed, so the engine has one. A stop signal does not reach it: it ends
    within seconds, or with this process. Raises EngineError where it fails, or takes longer than TIMEOUT_SECONDS.
    """
    if missing := engine_missing():
        raise EngineError(f"sampler bayesian: {missing}")
    environment = {**os.environ, **_ONE_THREAD, "CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            [*ENGINE, str(os.getpid())],
            input=request.encoded(),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            env=environment,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(f"did not answer within {TIMEOUT_SECONDS:.0f} seconds", error.stderr or b"") from None
    except OSError as error:
        raise _failed(f"could not be started: {system_reason(error)}", b"") from error
    if done.returncode != 0:
        raise _failed(_end(done.returncode), done.stderr)
    try:
        answer = read_answer(done.stdout)
    except DamagedError as error:
        raise _failed(f"gave no answer: {error}", done.stderr) from None
    if problem := _wrong(request, answer):
        raise _failed(problem, done.stderr)
    return answer


def _end(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _wrong(request: EngineRequest, answer: EngineAnswer) -> str:
    """What is wrong with an answer, "" where nothing is."""
    if len(answer.points) > request.points:
        return f"proposed {len(answer.points)} points, and {request.points} were asked for"
    for point in answer.points:
        if len(point) != len(request.dimensions):
            return f"proposed a point with {len(point)} coordinates; expected {len(request.dimensions)}"
        for item, value in zip(request.dimensions, point, strict=True):
            if not item.low <= value <= item.high or (item.kind != "real" and value != int(value)):
                return (
                    f"proposed {value!r} for {item.name}; expected a {item.kind} number from {item.low} to {item.high}"
                )
    return ""


def _failed(what: str, printed: bytes) -> EngineError:
    lines = [line for line in printed.decode("utf-8", "replace").splitlines() if line.strip()]
    tail = "".join(f"\n  {line}" for line in lines[-_LINES_SHOWN:])
    last = f"; the last that it printed:{tail}\n" if tail else "; "
    return EngineError(
        f"the engine that proposes points {what}{last}the study keeps its trials: run it again to go on from here"
    )
