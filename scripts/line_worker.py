"""A worker for bench_lines.py: its trials train nothing, and append measurement lines as a real trial does.

After every line that was flushed it counts it in `flushed`, a file that is mapped into memory, so that the count is
that of the moment when the process was killed.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from tunectl.core import files, jsontext
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.measurements import Measurement
from tunectl.core.records import FactorySignature, Scalar, TrialResult, WorkloadReference
from tunectl.execution.protocol import EXIT_STOPPED, Assignment

COUNT = struct.Struct("<q")


def warm_up(*, own_code: bool) -> None:
    """Nothing: no torch is needed."""


def preload(workload: WorkloadReference, arguments: Mapping[str, Scalar]) -> FactorySignature:  # noqa: ARG001
    return FactorySignature(open=True)


def measurement(step: int) -> Measurement:
    """The line of a step, with numbers as long as real ones; no two steps have the same losses."""
    loss = 2.3 / (1.0 + step / 7.0)
    metrics = {
        "train/loss": loss,
        "train/error_rate": loss / 2.7,
        "valid/loss": loss * 1.1,
        "valid/error_rate": loss / 2.3,
        "train/minibatch_loss": loss * 0.97,
    }
    checkpoint = f"step-{step:08d}.pt" if step % 10 == 0 else None
    return Measurement(step, metrics, "evaluation", 0.1 / 3.0, loss / 3.1, step / 331.0, checkpoint)


def work(assignment: Assignment, stop: Callable[[], bool]) -> int:
    """Append the lines that are missing, up to the `max_train_steps` of the request, and the result."""
    folder = TrialFolder(Path(assignment.folder))
    steps = json.loads(folder.request.read_bytes())["max_train_steps"]
    content = folder.measurements.read_bytes() if folder.measurements.exists() else b""
    lines = LineFile(folder.measurements, content.rfind(b"\n") + 1)
    with open(folder.path / "flushed", "w+b") as file:
        file.truncate(COUNT.size)
        with mmap.mmap(file.fileno(), COUNT.size) as counted:
            for step in range(content.count(b"\n"), steps):
                if stop():
                    return EXIT_STOPPED
                lines.append(measurement(step).to_json())
                COUNT.pack_into(counted, 0, step + 1)
    lines.close()
    result = TrialResult(int(folder.path.name), "completed", final_step=steps - 1, attempt=assignment.attempt)
    files.write_bytes(folder.result, (jsontext.encode(result.to_json()) + "\n").encode())
    return 0
