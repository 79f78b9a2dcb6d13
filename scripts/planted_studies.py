"""Run the studies in studies/planted: each must give the flaw that was planted in it as its first warning.

The study whose range is too narrow is then followed by `tunectl next` twice: the best learning rate of a wide sweep
must end within the inner 80 % of the last range. Prints a table; exit code 1 if one of these does not hold.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLANTED = {
    "narrow_range": "search-boundary",
    "unstable": "stability-edge",
    "overfitting": "overfitting",
}
INNER = 0.1
ROUNDS = 2


def tunectl(*words: object) -> dict[str, Any]:
    """What a command prints as JSON."""
    command = [sys.executable, "-m", "tunectl", *map(str, words), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr}")
    return dict(json.loads(ended.stdout))


def first_warning(report: dict[str, Any]) -> str:
    """The id of the first warning, "" without one."""
    return next((item["id"] for item in report["findings"] if item["level"] == "warning"), "")


def follow_next(folder: Path, place: Path) -> tuple[list[float], float]:
    """The range of the learning rate after the rounds, and the best rate of a sweep far beyond it."""
    wanted = [1e-4, 3e-3]
    for number in range(1, ROUNDS + 1):
        study = place / f"round{number}.yaml"
        written = tunectl("next", folder, "--to", study)
        for change in written["changes"]:
            if change["path"].endswith(".range"):
                wanted = change["value"]
        if written["file"] is None:
            break
        folder = place / f"round{number}"
        tunectl("run", study, "--dir", folder, "--quiet")
    sweep = tunectl(
        "lr-sweep", ROOT / "studies/planted/narrow_range.yaml", "--low", 1e-3, "--high", 3, "--points", 12,
        "--no-follow-up", "--dir", place / "sweep", "--quiet",
    )  # fmt: skip
    return wanted, float(sweep["best_learning_rate"])


def main() -> int:
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for name, planted in PLANTED.items():
            started = time.monotonic()
            report = tunectl("run", ROOT / "studies/planted" / f"{name}.yaml", "--dir", place / name, "--quiet")
            found = first_warning(report)
            wrong += found != planted
            print(f"{name:<14} first warning: {found or 'none':<18} {time.monotonic() - started:6.1f} s")
        (low, high), best = follow_next(place / "narrow_range", place)
        at = math.log(best / low) / math.log(high / low)
        inside = INNER <= at <= 1 - INNER
        wrong += not inside
        print(f"next, {ROUNDS} times: range [{low:g}, {high:g}], best rate of a wide sweep {best:g} at {at:.2f} of it")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
