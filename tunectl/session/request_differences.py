"""How two requests for a trial differ in what decides how it is trained."""

from __future__ import annotations

import shlex
from collections.abc import Container, Iterator
from typing import Any

from tunectl.core import typed_fields
from tunectl.core.own_code_request import CommandRequest, Request
from tunectl.core.wording import as_text, listed
from tunectl.language.configuration import CODE_FIELDS
from tunectl.language.placeholders import OWN, names_in
from tunectl.programs.program_start import program_line

_NOT_COMPARED = frozenset(
    (
        # Names and places, which are compared by themselves or make no difference.
        *("study", "trial", "attempt", "format", "workload", "workload_kind", "program"),
        # What changes no number of the training.
        *("curvature", "curvature_needed", "data_workers", "prefetch_batches", "cache_examples", "keep_checkpoints"),
        "whole_at_end",
    )
)


def request_differences(asked: Request, again: Request, free: Container[str] = ()) -> Iterator[str]:
    """The values in which the two trials are asked for something else, a sentence each; those in `free` are left out.

    `asked` is what a trial was asked for, `again` what it would be asked for now.
    """
    old: dict[str, Any] = _with_files(typed_fields.untyped(asked))
    new: dict[str, Any] = _with_files(typed_fields.untyped(again))
    of_command = {"hyperparameters"} if isinstance(again, CommandRequest) else set()
    for name in [name for name in old if name not in _NOT_COMPARED | of_command and name not in free]:
        parts: tuple[Any, Any] = old[name], new.get(name)
        if all(isinstance(part, dict) for part in parts):
            keys = [key for key in {**parts[0], **parts[1]} if parts[0].get(key) != parts[1].get(key)]
            yield from (f"{key} is {parts[1].get(key)} here and was {parts[0].get(key)} in the trial" for key in keys)
        elif parts[0] != parts[1]:
            yield f"{name} is {parts[1]} here and was {parts[0]} in the trial"
    if isinstance(asked, CommandRequest) and isinstance(again, CommandRequest):
        before, now = (_shown_line(item) for item in (asked, again))
        if before != now:
            yield f"the command line is {now} here and was {before} in the trial"
        own = asked.program.environment.items() - again.program.environment.items()
        if names := sorted(name for name, text in own if _has_value(text, asked)):
            yield f"{listed(names)} in `environment` had another value in the trial"


def _with_files(request: dict[str, Any]) -> dict[str, Any]:
    """The request with each optimizer and schedule of the study's own by its file or module: its text depends on the
    folder of the study.
    """
    configuration = request.get("configuration")
    if not isinstance(configuration, dict):
        return request
    found = dict(configuration)
    for name in CODE_FIELDS:
        used = found.pop(f"{name}_code", None)
        if isinstance(used, dict):
            reference = used["reference"]
            found[name] = f"{reference['file'] or reference['module']}:{reference['factory']}"
            given = {**used["arguments"], **used["if_taken"]}
            found |= {f"{item} of the {name}": value for item, value in given.items()}
    return {**request, "configuration": found}


def _shown_line(request: CommandRequest) -> str:
    """The command line with the values of the hyperparameters; what each trial has of its own stays a placeholder."""
    own = {name: f"{{{name}}}" for name in OWN}
    values = own | {name: as_text(value) for name, value in request.hyperparameters.items()}
    return shlex.join(program_line(request, values)[0])


def _has_value(text: str, request: CommandRequest) -> bool:
    return all(name in request.hyperparameters or name in OWN for name in names_in(text))
