"""Run every study in studies/smoke as a user would, twice, and look at what it leaves.

The first call must end well and write every file that a study folder has; the second must say that the study is
complete and change no byte of any file but `lock`. Exit code 1 if one does not.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = [
    "study.yaml",
    "plan.jsonl",
    "study.db",
    "provenance.json",
    "uncommitted.diff",
    "lock",
    "tables/trials.csv",
    "tables/trials.parquet",
    "tables/trials.md",
    "tables/settings.csv",
    "tables/settings.parquet",
    "tables/settings.md",
    "tables/measurements.parquet",
    "tables/best_trials.csv",
    "findings.json",
    "report.html",
]
EXPECTED_OF_TRIAL = ("request.json", "measurements.jsonl", "steps.jsonl", "log.txt", "result.json")


def run(study: Path, folder: Path) -> tuple[int, str, float]:
    """Exit code, all output, and seconds of one call."""
    command = [sys.executable, "-m", "tunectl", "run", str(study), "--dir", str(folder)]
    started = time.perf_counter()
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return ended.returncode, ended.stdout, time.perf_counter() - started


def hashes(folder: Path) -> dict[str, str]:
    """The sha256 of every file but the lock."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def missing(folder: Path) -> list[str]:
    """What a finished study folder lacks."""
    absent = [name for name in EXPECTED if not (folder / name).is_file()]
    for trial in sorted((folder / "trials").iterdir()):
        # The single updates of own code are not known.
        own_code = json.loads((trial / "request.json").read_text())["kind"] == "command"
        expected = [name for name in EXPECTED_OF_TRIAL if name != "steps.jsonl" or not own_code]
        absent += [f"trials/{trial.name}/{name}" for name in expected if not (trial / name).is_file()]
    return absent


def check(study: Path, folder: Path) -> tuple[list[str], float, float]:
    """The complaints about one study, and the seconds of its two calls."""
    code, output, first = run(study, folder)
    if code != 0:
        return [f"exit code {code}:\n{output}"], first, 0.0
    complaints = [f"{name} is missing" for name in missing(folder)]
    before = hashes(folder)
    code, output, second = run(study, folder)
    after = hashes(folder)
    if code != 0 or "nothing to run" not in output:
        complaints.append(f"the second call ended with {code} and did not say that there is nothing to run:\n{output}")
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    complaints += [f"the second call changed {name}" for name in changed]
    return complaints, first, second


def main() -> int:
    studies = sorted((ROOT / "studies" / "smoke").glob("*.yaml"))
    failed = not studies
    for study in studies:
        with tempfile.TemporaryDirectory(prefix="tunectl smoke ") as place:
            complaints, first, second = check(study, Path(place) / "study")
        print(f"{study.name:32} {'FAILED' if complaints else 'ok':6} {first:5.1f} s, again {second:4.1f} s", flush=True)
        for complaint in complaints:
            print(f"  {complaint}")
        failed = failed or bool(complaints)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
