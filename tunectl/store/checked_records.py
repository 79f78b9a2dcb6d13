"""The records of result.json and attempts.jsonl, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunectl.core import jsontext, typed_fields
from tunectl.core.errors import FolderError
from tunectl.core.folders import TrialFolder
from tunectl.core.records import ENDED, AttemptEnd, TrialResult

RESULT_FORMAT = 1
LARGEST_STEP = 2**63 - 1


def checked_result(folder: TrialFolder, content: dict[str, Any]) -> TrialResult:
    """The result in the content of result.json.

    Raises DamagedError where a field is missing or has a wrong value, FolderError where a later version wrote it.
    """
    version = content.get("format", RESULT_FORMAT)
    if isinstance(version, int) and version > RESULT_FORMAT:
        raise FolderError(f"{folder.result}: has format {version}; this version of tunectl reads {RESULT_FORMAT}")
    state, trial = content.get("state"), content.get("trial")
    if not isinstance(state, str) or state not in ENDED:
        raise typed_fields.DamagedError(f"its state is {typed_fields.shown(state)}")
    if folder.trial is not None and trial != folder.trial:
        raise typed_fields.DamagedError(f"it belongs to trial {typed_fields.shown(trial)}")
    checked = dict(content)
    for name in ("trial", "infeasible_step", "final_step", "measurements"):
        checked[name] = _whole_number(name, content.get(name))
    checked["attempt"] = _whole_number("attempt", content.get("attempt", 1)) or 1
    checked["provisional"] = content.get("provisional") is True
    checked["exit_code"] = _whole_number("exit_code", content.get("exit_code"))
    checked["baseline_loss"] = jsontext.number(content.get("baseline_loss"))
    for name in ("train_seconds", "eval_seconds", "startup_seconds"):
        checked[name] = _seconds(name, content.get(name, 0.0))
    for name in ("reason", "message", "device", "where"):
        checked[name] = jsontext.one_line(content.get(name, ""))
    notes = content.get("notes")
    notes = notes if isinstance(notes, dict) else {}
    checked["notes"] = {jsontext.one_line(note): jsontext.one_line(detail) for note, detail in notes.items()}
    sizes = content.get("evaluated_examples")
    known = sizes.items() if isinstance(sizes, dict) else ()
    checked["evaluated_examples"] = {name: size for name, size in known if typed_fields.is_count(size, 1)}
    checked["traceback"] = jsontext.encodable(content.get("traceback", ""))
    return TrialResult.from_json(checked)


def _whole_number(name: str, value: Any) -> int | None:
    if value is None and name != "trial":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_STEP:
        raise typed_fields.DamagedError(f"its {name} is {typed_fields.shown(value)}")
    return value


def _seconds(name: str, value: Any) -> float:
    seconds = jsontext.number(value)
    if seconds is None:
        raise typed_fields.DamagedError(f"its {name} is {typed_fields.shown(value)}")
    return seconds


def checked_attempt(line: Mapping[str, Any] | None) -> AttemptEnd | None:
    """The attempt in a line of attempts.jsonl, None where the line is damaged."""
    if line is None or not typed_fields.is_count(line.get("attempt"), 0) or not isinstance(line.get("reason"), str):
        return None
    message, device, reached = line.get("message"), line.get("device"), line.get("reached")
    return AttemptEnd(
        attempt=line["attempt"],
        reason=jsontext.one_line(line["reason"]),
        message=jsontext.one_line(message) if isinstance(message, str) else "",
        final=line.get("final") is True,
        device=jsontext.one_line(device) if isinstance(device, str) else "",
        reached=reached if isinstance(reached, int) and typed_fields.is_count(reached) else None,
    )
