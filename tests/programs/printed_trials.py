"""Trials whose program prints given bytes, read as in a real trial."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import OUTPUT, CommandRequest, InfeasibleEnds, MetricSource, Program
from tunectl.programs import command_trial
from tunectl.store.trial_files import read_trial

JSON = (MetricSource("json_lines", OUTPUT),)
LINES = (MetricSource("regex", r"step (?P<step>\d+): loss (?P<valid_loss>\S+)"),)
CSV = (MetricSource("csv", "{trial.dir}/m.csv"),)

LEAST = Objective("valid_loss", "minimize")

_BYTES = "import os, sys\nfor byte in open(sys.argv[1], 'rb').read(): os.write(1, bytes([byte]))"


@dataclass(frozen=True)
class Case:
    """What a program prints, or writes to a file of its own, and what is right.

    `want` is the objective valid_loss by step. `says` must be in the words that come with the result. `streams` are
    parts of the output with their descriptors.
    """

    name: str
    output: str | bytes
    want: Mapping[int, float] = field(default_factory=dict)
    says: str = ""
    ends: str = "completed"
    sources: Sequence[MetricSource] = JSON
    file: str = ""
    bytewise: bool = False
    streams: Sequence[tuple[int, str]] = ()
    infeasible: Mapping[str, Any] = field(default_factory=dict)
    objective: Objective = LEAST


class Read(NamedTuple):
    """How a trial ended, the words with it, and the objective by step."""

    state: str
    words: str
    values: dict[int, float]


def read_of(case: Case, root: Path) -> Read:
    """The result of a case: a trial of a program that prints it, run like every trial."""
    folder = TrialFolder(root / "00007")
    folder.path.mkdir(parents=True)
    text = root / "output"
    text.write_bytes(case.output if isinstance(case.output, bytes) else case.output.encode())
    request = CommandRequest(
        "study",
        7,
        5,
        Program(_arguments(case, text), str(root), tuple(case.sources), infeasible=InfeasibleEnds(**case.infeasible)),
        {},
        case.objective,
        max_train_steps=4,
        keep_checkpoints=1,
    )
    request = CommandRequest.from_json(json.loads(json.dumps(request.to_json())))
    log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        result = command_trial.run_command(request, folder, stop=lambda: False, seconds=TrialSeconds(), log=log)
    finally:
        os.close(log)
    assert result is not None
    found = {item.step: item.metrics for item in read_trial(folder).measurements}
    values = {step: metrics["valid_loss"] for step, metrics in found.items() if "valid_loss" in metrics}
    words = f"{result.reason} {result.message}"
    return Read(result.state, words, values)


def _arguments(case: Case, text: Path) -> tuple[str, ...]:
    if case.bytewise:
        return (sys.executable, "-S", "-E", "-c", _BYTES, str(text))
    if case.file:
        return ("sh", "-c", f'cp "$1" "$TUNECTL_TRIAL_DIR/{case.file}"', "sh", str(text))
    if case.streams:
        parts = [f"printf '%s' \"${index + 1}\" >&{stream}" for index, (stream, _) in enumerate(case.streams)]
        # In an argument a brace begins a placeholder.
        written = [part.replace("{", "{{").replace("}", "}}") for _, part in case.streams]
        return ("sh", "-c", "; ".join(parts), "sh", *written)
    return ("cat", str(text))
