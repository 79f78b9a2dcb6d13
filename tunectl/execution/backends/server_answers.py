"""What the server's processes answer, understood."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunectl.core.errors import WorkloadError
from tunectl.core.records import FactorySignature
from tunectl.execution import processes
from tunectl.execution.backends import Ended


def signature_of(content: Mapping[str, Any] | None) -> FactorySignature | None:
    """The factory's signature as the server sent it."""
    if content is None:
        return None
    names = {key: tuple(content[key]) for key in ("parameters", "required")}
    return FactorySignature(**{**content, **names})


def workload_error(what: str, failure: Mapping[str, Any]) -> WorkloadError:
    """The error that a failure in another process stands for, with its traceback as its note."""
    message = failure["message"]
    place = f"{failure['where']}: " if failure["where"] and failure["where"] not in message else ""
    error = WorkloadError(f"{what}: {place}{message}")
    error.add_note(failure["traceback"])
    return error


def trial_end(ending: Mapping[str, Any]) -> Ended:
    """How a trial's process ended, by what the server says of it and by what the process itself had said before."""
    said: dict[str, Any] = {}
    for line in ending.get("answer", "").splitlines():
        said |= json.loads(line)
    code, number = ending["code"], ending["signal"]
    if "code" in said:
        # What came after it, as the interpreter ended, changes nothing.
        code, number = said["code"], None
    message = ending["message"] or said.get("message", "")
    return Ended(ending["number"], code, number, ending["seconds"], message=message, is_users="code" not in said)


def checkpoint_bytes(ending: Mapping[str, Any]) -> int:
    """What a probe that ended so found; raises WorkloadError where the workload does not work."""
    try:
        answer = json.loads(ending["answer"])
    except (KeyError, ValueError):
        how = ending["message"] or processes.describe_exit(ending["code"], ending["signal"])
        said = ending.get("output", "").strip()
        raise WorkloadError(
            f"the workload could not be tried: its process {how}" + (f"; its last output:\n{said}" if said else "")
        ) from None
    if answer["message"] or answer["traceback"]:
        raise workload_error("the workload does not work", answer)
    return int(answer["checkpoint_bytes"])
