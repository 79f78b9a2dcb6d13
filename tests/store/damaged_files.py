"""Files of a study that are sound, mishaps that damage them, and an oracle of plain json for what still counts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, TypeGuard

from builders import NUISANCE_RATE, study
from hypothesis import strategies as st
from store_samples import completed, line, measured

from tunectl.core.errors import FolderError
from tunectl.core.measurements import Measurement
from tunectl.core.records import AttemptEnd
from tunectl.space.trial_plan import plan_trials

_LARGEST = 2**63 - 1
SPEC = study({"learning_rate": NUISANCE_RATE}, search="{trials: 2}")
TRIALS = plan_trials(SPEC)
ID = 1
"""The trial whose files are damaged; trial 0 stays sound, and its row must stay what it is."""

SOUND = {
    "measurements.jsonl": b"".join(
        line(measured(step, value, checkpoint=f"step-{step:08d}.pt" if step else None).to_json())
        for step, value in ((0, 0.9), (10, 0.25), (20, 0.125), (30, math.nan))
    ),
    "result.json": line(completed(ID, device="cpu", attempt=3).to_json()),
    "attempts.jsonl": line(AttemptEnd(1, "crashed", "SIGSEGV").to_json()) + line(AttemptEnd(2, "cancelled").to_json()),
    "request.json": line({"format": 1, "attempt": 3}),
}
PLAN = b"".join(line(trial.to_json()) for trial in TRIALS)

_TOKEN = re.compile(rb'"[^"\n]*"|-?\d[\d.e+-]*|true|false|null')
NESTED = [b"[" * depth + b"]" * depth for depth in (3, 600, 1300, 1600, 100_000)]
_WORDS = [
    *[b"NaN", b"Infinity", b"-Infinity", b"null", b"true", b"{}", b"[]", b'""', b'"nan"', b'"-inf"', b"0", b"1", b"-1"],
    *[b"1.5", b"1e999", b"-0.0", b"5e-324", b"9223372036854775807", b"9223372036854775808", b"1" + b"0" * 400],
    *[b"9" * 5000, b'"\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"a\\u0000b"', b'"\\n|,\\r"', b'"../../../x"', b'"."'],
    *[b'"' + b"x" * 300 + b'"', b'"/etc/passwd"', b'"step-00000010.pt"', b'"step-99999999.pt"', b'"kind"', b'"trial"'],
    *[b'"completed"', b'"infeasible"', b'"failed"', b'"pending"', b'"running"', b'"evaluation"', b'"cancelled"'],
]
HOSTILE_LINES = [
    *[
        b"\n",
        b"\0\n",
        b"{}\n",
        b"[]\n",
        b"1\n",
        b"null\n",
        b"\xef\xbb\xbf{}\n",
        b'{"step": 5}\n',
        b"\x1b\n",
        b"{\n",
        b"}\n",
    ],
    *[b'{"step": 40, "metrics": {}}\n', b'{"step": 10, "metrics": {"valid/error_rate": 0.0625}}\n'],
    *[
        b'{"step": 50, "metrics": {"valid/error_rate": 1' + b"0" * 400 + b"}}\n",
        b'{"step": 1, "step": 2, "metrics": {}}\n',
    ],
    *[b'{"step": 60, "metrics": {"valid/error_rate": 0, "valid/error_rate": NaN}, "kind": "test"}\n'],
    *[b'{"attempt": 4, "reason": "lost", "final": true}\n', b'{"attempt": 1' + b"0" * 30 + b', "reason": "x"}\n'],
    *[b'{"step": 7, "metrics": {"a": 1', b'"b": 2}},{"step": 8, "metrics": {}}\n'],
]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content after one to four mishaps: torn, flipped, doubled, reordered, or with other things in it."""
    for _ in range(draw(st.integers(1, 4))):
        lines = content.splitlines(keepends=True) or [b""]
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        number = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 8)):
            case 0:
                content = content[:at]
            case 1:
                content = content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]
            case 2:
                content = b"".join([*lines[:number], lines[number], *lines[number:]])
            case 3:
                content = b"".join(draw(st.permutations(lines)))
            case 4:
                content = b"".join([*lines[:number], draw(st.sampled_from(HOSTILE_LINES)), *lines[number:]])
            case 5:
                content = content.replace(*draw(st.sampled_from([(b",", b"\n"), (b"\n", b","), (b"\n", b"")])), 1)
            case _:
                content = _with_another_word(content, draw(st.integers(0, 60)), draw(st.sampled_from(_WORDS + NESTED)))
    return content


def _with_another_word(content: bytes, number: int, word: bytes) -> bytes:
    found = list(_TOKEN.finditer(content))
    if not found:
        return word
    start, end = found[number % len(found)].span()
    return content[:start] + word + content[end:]


# The oracle.


def objects(content: bytes) -> Iterator[dict[str, Any] | None]:
    """The object of every complete line, None for a line that holds none."""
    for text in content.split(b"\n")[:-1]:
        value = read_json(text)
        yield value if isinstance(value, dict) else None


def read_json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def is_whole(value: object, least: int = 0) -> TypeGuard[int]:
    return type(value) is int and least <= value <= _LARGEST


def real(value: object) -> float | None:
    if isinstance(value, str):
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}.get(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def on_one_line(text: str) -> str:
    words = text.split()
    return " ".join("".join(mark if mark.isprintable() else escape(mark) for mark in word) for word in words)


def escape(mark: str) -> str:
    return mark.encode("ascii", "backslashreplace").decode() if not mark.isascii() else f"\\x{ord(mark):02x}"


def expected_measurements(content: bytes) -> list[tuple[Any, ...]]:
    """(step, kind, metrics, rate, norm, seconds, checkpoint), each (step, kind) as it was written last."""
    last: dict[tuple[int, str], tuple[Any, ...]] = {}
    for item in objects(content):
        kind = (item or {}).get("kind", "evaluation")
        if item is None or not is_whole(item.get("step")) or not isinstance(kind, str):
            continue
        if not isinstance(item.get("metrics"), dict):
            continue
        read = {name: real(value) for name, value in item["metrics"].items()}
        checkpoint = item.get("checkpoint")
        last[item["step"], escaped(kind)] = (
            item["step"],
            escaped(kind),
            {name: value for name, value in read.items() if value is not None},
            real(item.get("learning_rate")),
            real(item.get("gradient_norm")),
            real(item.get("elapsed_seconds")) or 0.0,  # so that -0.0 is 0.0, here and there
            escaped(checkpoint) if isinstance(checkpoint, str) else None,
        )
    return [last[key] for key in sorted(last)]


def expected_attempts(content: bytes) -> list[tuple[int, str, bool]]:
    sound = [item for item in objects(content) if item is not None]
    sound = [item for item in sound if is_whole(item.get("attempt"), 1) and isinstance(item.get("reason"), str)]
    return [(item["attempt"], on_one_line(item["reason"]), item.get("final") is True) for item in sound]


def expected_result(content: bytes) -> dict[str, Any] | None:
    """The result, None where it is damaged; raises FolderError where a later version wrote it."""
    value = read_json(content)
    if not isinstance(value, dict):
        return None
    version = value.get("format", 1)
    if isinstance(version, int) and version > 1:
        raise FolderError("a later version's")
    state, trial = value.get("state"), value.get("trial")
    if not isinstance(state, str) or state not in ("completed", "infeasible", "failed") or type(trial) is not int:
        return None
    steps = [value.get(name) for name in ("infeasible_step", "final_step", "attempt")]
    times = [value.get(name, 0.0) for name in ("train_seconds", "eval_seconds", "startup_seconds")]
    sound = all(step is None or is_whole(step) for step in steps) and all(real(time) is not None for time in times)
    return value if trial == ID and sound else None


def expected_state(result: dict[str, Any] | None, attempts: list[tuple[int, str, bool]]) -> str:
    if result is not None:
        return str(result["state"])
    _, reason, final = attempts[-1] if attempts else (0, "", False)
    return "failed" if final else "cancelled" if reason == "cancelled" else "pending"


def expected_best(measurements: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """(best step, best value, final step, final value)."""
    evaluations = [item for item in measurements if item[1] == "evaluation"]
    values = [(item[2].get("valid/error_rate"), item[0]) for item in evaluations]
    finite = [(value, step) for value, step in values if step > 0 and value is not None and math.isfinite(value)]
    best_value, best_step = min(finite, default=(None, None))
    final_value, final_step = values[-1] if values else (None, None)
    return best_step, best_value, final_step, final_value


def as_text(values: object) -> str:
    """Values by which two reads can be compared: NaN is NaN, and 0 is not 0.0."""
    return repr(values)


def fields_of(item: Measurement) -> tuple[Any, ...]:
    """The measurement as `expected_measurements` gives it."""
    head = (item.step, item.measurement_kind, item.metrics, item.learning_rate, item.gradient_norm)
    return (*head, item.elapsed_seconds or 0.0, item.checkpoint)
