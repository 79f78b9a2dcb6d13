"""The messages of the fork server and its processes, as objects and errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunectl.core.errors import WorkloadError
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import FactorySignature
from tunectl.execution import processes
from tunectl.execution.backends.backend import BackendReady, ProcessEnded


def backend_ready(message: Mapping[str, Any]) -> BackendReady:
    """The event for a server that has loaded the workload."""
    content, signature = message["signature"], None
    if content is not None:
        names = {key: tuple(content[key]) for key in ("parameters", "required")}
        signature = FactorySignature(**{**content, **names})
    lines = [f"warning: {warning}" for warning in message["warnings"]]
    if message["reason"]:
        lines.append(f"each trial starts as a new process, which takes a few seconds: {message['reason']}")
    return BackendReady(message["seconds"], signature, tuple(lines), tuple(message.get("files", ())))


def workload_error(what: str, failure: Mapping[str, Any]) -> WorkloadError:
    """The error for a failure in another process, with the traceback as its note."""
    message = failure["message"]
    place = f"{failure['where']}: " if failure["where"] and failure["where"] not in message else ""
    error = WorkloadError(f"{what}: {place}{message}")
    error.add_note(failure["traceback"])
    return error


def process_ended(ending: Mapping[str, Any]) -> ProcessEnded:
    """How a trial's process ended, from the server's message and from what the process itself wrote before its end."""
    answer: dict[str, Any] = {}
    for line in ending.get("answer", "").splitlines():
        answer |= json.loads(line)
    code, number = ending["code"], ending["signal"]
    if "code" in answer:
        # What happened later, while the interpreter ended, changes nothing.
        code, number = answer["code"], None
    message = ending["message"] or answer.get("message", "")
    return ProcessEnded(
        ending["number"], code, number, ending["seconds"], message=message, is_users="code" not in answer
    )


def probed_trial(ending: Mapping[str, Any]) -> ProbedTrial:
    """What a probe found; raises WorkloadError where the workload does not work."""
    try:
        answer = json.loads(ending["answer"])
    except (KeyError, ValueError):
        how = ending["message"] or processes.describe_exit(ending["code"], ending["signal"])
        output = ending.get("output", "").strip()
        raise WorkloadError(
            f"the workload could not be tried: its process {how}" + (f"; its last output:\n{output}" if output else "")
        ) from None
    if answer["message"] or answer["traceback"]:
        raise workload_error("the workload does not work", answer)
    return ProbedTrial(int(answer["checkpoint_bytes"]), tuple(map(str, answer.get("notes", ()))))
