"""What can only be shown on a GPU: that trials see their own device, share it, leave nothing behind, and cost little.

`python scripts/prove_gpu.py` (`make gpu`) prints a table, writes it as JSON, and exit code 1 if a line does not hold
or was not run. A line that needs what this host lacks, such as Slurm, says so and is no failure. Without a GPU no line
is tried, and it ends with 0. It needs the package's dependencies alone and runs under any
Python that has them: the package is taken from this checkout.

Lines run one after the other, the cheapest and most important first, each in a process of its own that is killed with
all that it started when its time is over. The JSON is written anew after every line: a stop at any moment leaves the
lines that are done. `--lines a,b` runs some of them. `--rehearse` runs them on the CPU, in small: it proves the script,
and says nothing about a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gpu_lines import LINES, Line, Place  # noqa: E402  (the package is found by the line above)

from tunectl.core.files import write_bytes  # noqa: E402
from tunectl.execution.devices import find_devices  # noqa: E402

MINUTES = 8.0
_KEPT_BACK_SECONDS = 5.0  # for the table and the JSON

State = Literal["holds", "does not hold", "not run", "not tried"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a line: `found` says it in words, `figures` in numbers, `seconds` how long it took."""

    line: str
    claim: str
    state: State = "not run"
    found: str = ""
    figures: Mapping[str, object] | None = None
    seconds: float = 0.0


def run_line(line: Line, seconds: float, *, cut: bool, rehearse: bool) -> Outcome:
    """Run one line in a process of its own, for at most `seconds`; `cut`: it has less time than it may need."""
    outcome, began = Outcome(line.name, line.claim), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="prove-gpu-") as folder:
        answer, log = Path(folder) / "answer.json", Path(folder) / "log.txt"
        command = [sys.executable, __file__, "--one", line.name, folder, *(["--rehearse"] if rehearse else [])]
        with open(log, "wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
            in_time = True
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                in_time = False
            finally:
                # What a line starts ends with it: the runner in its group takes the fork server along.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        lasted = time.monotonic() - began
        if answer.exists():
            return replace(outcome, **json.loads(answer.read_text()), seconds=lasted)
        if not in_time and cut:
            return replace(outcome, found=f"the time was over after {seconds:.0f} s", seconds=lasted)
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
        how = f"ended with exit code {process.returncode}" if in_time else f"did not end within {seconds:.0f} s"
        return replace(outcome, state="does not hold", found=f"the line's process {how}: {last[0]}", seconds=lasted)


def answer_one(name: str, folder: Path, *, rehearse: bool) -> None:
    """In the process of a line: write what it found to `answer.json`."""
    line = next(line for line in LINES if line.name == name)
    try:
        found = line.prove(Place(folder, rehearse))
        state: State = "holds" if found.holds else "does not hold" if found.tried else "not tried"
        answer = {"state": state, "found": found.said, "figures": found.figures}
    except Exception as error:
        where = traceback_line(error)
        answer = {"state": "does not hold", "found": f"{type(error).__name__}: {error} ({where})", "figures": {}}
    write_bytes(folder / "answer.json", json.dumps(answer, default=str).encode())


def traceback_line(error: BaseException) -> str:
    """The place in this folder's scripts where an exception came up."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).is_relative_to(Path(__file__).parent):
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def write(path: Path, device: str, outcomes: Sequence[Outcome]) -> None:
    content = {"device": device, "lines": [asdict(outcome) for outcome in outcomes]}
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def show(outcome: Outcome) -> None:
    print(f"{outcome.line:14} {outcome.state:14} {outcome.seconds:5.0f} s  {outcome.claim}")
    for line in textwrap.wrap(outcome.found, 100) or []:
        print(f"{'':38}{line}")
    sys.stdout.flush()


def chosen_lines(names: str | None) -> list[Line]:
    """The lines with these names, in their order; ends the script where one is unknown."""
    if names is None:
        return list(LINES)
    wanted, known = [name.strip() for name in names.split(",")], [line.name for line in LINES]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        sys.exit(f"--lines: there is no line {', '.join(unknown)}; there are {', '.join(known)}")
    return [line for line in LINES if line.name in wanted]


def prove(lines: Sequence[Line], minutes: float, path: Path, *, rehearse: bool, device: str) -> list[Outcome]:
    """Run the lines as long as there is time, and keep the table of all on the disk."""
    end = time.monotonic() + 60 * minutes - _KEPT_BACK_SECONDS
    outcomes = [Outcome(line.name, line.claim) for line in lines]
    write(path, device, outcomes)
    for place, line in enumerate(lines):
        left = end - time.monotonic()
        if left < line.least_seconds:
            outcomes[place] = replace(outcomes[place], found=f"{max(0.0, left):.0f} s were left")
        else:
            seconds = min(left, line.most_seconds)
            outcomes[place] = run_line(line, seconds, cut=seconds < line.most_seconds, rehearse=rehearse)
        write(path, device, outcomes)
        show(outcomes[place])
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"how long it may take [{MINUTES:.0f}]")
    parser.add_argument("--lines", metavar="NAMES", help="these lines alone, separated by commas")
    parser.add_argument("--json", type=Path, default=Path("prove_gpu.json"), help="where the table is written as JSON")
    parser.add_argument("--rehearse", action="store_true", help="run the lines on the CPU, in small")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        answer_one(options.one[0], Path(options.one[1]), rehearse=options.rehearse)
        return 0
    lines = chosen_lines(options.lines)
    devices = find_devices("auto", os.environ)
    if devices[0].device_type == "cpu" and not options.rehearse:
        print(f"no GPU; not tried: {', '.join(line.name for line in lines)}")
        return 0
    device = "the CPU, a rehearsal" if options.rehearse else ", ".join(device.name for device in devices)
    print(device)
    outcomes = prove(lines, options.minutes, options.json, rehearse=options.rehearse, device=device)
    held = sum(outcome.state == "holds" for outcome in outcomes)
    failed = sum(outcome.state == "does not hold" for outcome in outcomes)
    untried = sum(outcome.state == "not tried" for outcome in outcomes)
    left = len(outcomes) - held - failed - untried
    print(f"{held} hold, {failed} do not hold, {left} were not run, {untried} not tried; {options.json}")
    return 1 if failed or left else 0


if __name__ == "__main__":
    sys.exit(main())
