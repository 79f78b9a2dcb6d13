"""What is said about workers on Ray and how they ended; without Ray itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tunectl.core.path_errors import system_reason
from tunectl.execution import processes

CANCELLED = "CANCELLED"
NODE_FAIL = "NODE_FAIL"
OUT_OF_MEMORY = "OUT_OF_MEMORY"

_BECAUSE = re.compile(r"The actor (?:is dead|died) because (it was|its) (.+?)(?:\.\s|\.$|$)", re.MULTILINE)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def one_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def unreachable(address: str, error: BaseException) -> str:
    """Why there is no connection to the cluster at this address."""
    if address == "local":
        return f"no local Ray cluster could be started: {one_line(error)}"
    reason = system_reason(error) if isinstance(error, OSError) and error.errno else one_line(error)
    return (
        f"no Ray cluster answers at {address}: {reason}; start one (`ray start --head`), or correct "
        "resources.ray.address or RAY_ADDRESS"
    )


def reason_of_exit(answer: Mapping[str, Any]) -> str:
    """Why a worker ended by itself, in a word or two: "" where it had nothing more to do.

    Where its log is not in the study folder, the log's last line is part of it.
    """
    code = answer["code"]
    if code == 0:
        return ""
    how = f"exit code {code}" if code > 0 else processes.describe_exit(None, -code).removeprefix("was killed by ")
    last = "" if answer["log"] else answer["tail"].strip().rpartition("\n")[2].strip()
    return f"{how} on {answer['host']}: {last}" if last else how


def reason_of_death(text: str) -> str:
    """Why an actor died, from the text of Ray's error: Slurm's word for it where it has one, else Ray's."""
    text = _COLOURS.sub("", text)
    found = _BECAUSE.search(text)
    if "Worker exit type: NODE_OUT_OF_MEMORY" in text or "memory monitor" in text:
        return OUT_OF_MEMORY
    if found is None:  # an error before the worker started, with its traceback
        return text.strip().rpartition("\n")[2].strip() or "Ray does not say why"
    because = f"{found[1]} {found[2]}"
    if "ray.kill" in because:
        return f"{CANCELLED} by ray.kill"
    return NODE_FAIL if "node" in because else because
