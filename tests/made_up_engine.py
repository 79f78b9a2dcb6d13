"""An engine that proposes points from a hash of the request: it speaks as the real one does, and needs no Optuna."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

from tunectl.suggestions.engine_files import EngineAnswer, EngineRequest, read_request

PROGRAM = (sys.executable, "-P", str(Path(__file__)))
"""The program. Where the environment variable MADE_UP_ENGINE names a file that is not there, it makes the file and
first stops its caller, as Ctrl-C does.
"""


def answered(request: EngineRequest) -> EngineAnswer:
    """Points that depend on every part of the request."""
    points = []
    for number in range(request.points):
        point: list[float] = []
        for item in request.dimensions:
            digest = hashlib.sha256(f"{request.data} {number} {item.name}".encode()).digest()
            share = int.from_bytes(digest[:6], "big") / 2**48
            place = item.low + share * (item.high - item.low)
            point.append(place if item.kind == "real" else round(place))
        points.append(tuple(point))
    return EngineAnswer("made-up 1.0", tuple(points))


if __name__ == "__main__":
    asked = read_request(sys.stdin.buffer.read())
    mark = Path(os.environ.get("MADE_UP_ENGINE") or os.devnull)
    if not mark.exists():
        mark.touch()
        os.kill(int(sys.argv[1]), signal.SIGINT)
    sys.stdout.buffer.write(answered(asked).encoded())
