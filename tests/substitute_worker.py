"""What tests of engines start in place of `tunectl worker`: a program that writes who it is, and waits.

It gets the worker's arguments. In the study folder it writes `started-JOB`; it ends when there is a file `over`, fails
when there is a file `broken`, and saves (`saved-JOB`) and ends when it is asked to stop.
"""

# ruff: noqa: T201

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

LONGEST_SECONDS = 120.0
SHOWN = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TUNECTL_GPUS")


def main() -> int:
    study, job = Path(sys.argv[sys.argv.index("worker") + 1]), os.environ["TUNECTL_JOB"].removeprefix("ray:")

    def stop(_number: int, _frame: FrameType | None) -> None:
        print("stopped")
        (study / f"saved-{job}").touch()
        sys.exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if (study / "stubborn").exists() else stop)
    print("I am a worker", flush=True)
    facts = {"pid": os.getpid(), "arguments": sys.argv[1:], **{name: os.environ.get(name) for name in SHOWN}}
    (study / f"writing-{job}").write_text(json.dumps(facts))
    (study / f"writing-{job}").rename(study / f"started-{job}")
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline and not (study / "over").exists():
        if (study / "broken").exists():
            print("no such workload")
            return 2
        time.sleep(0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main())
